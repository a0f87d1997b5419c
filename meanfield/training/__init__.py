"""Training experiments: networks as theory initialises them, and what becomes of them."""

from meanfield.training.engine import run_training
from meanfield.training.spec import TrainingSpec, load_training

__all__ = ["TrainingSpec", "load_training", "run_training"]
