"""Activation functions: built in, combined, and made from any callable."""

from meanfield.activations import piecewise, smooth
from meanfield.activations.base import (
    Activation,
    activation,
    activations,
    register_activation,
)
from meanfield.activations.combinators import centre, scale, shift
from meanfield.activations.custom import from_callable
from meanfield.activations.scaled_bounded import is_scaled_bounded

__all__ = [
    "Activation",
    "activation",
    "activations",
    "centre",
    "from_callable",
    "is_scaled_bounded",
    "piecewise",
    "register_activation",
    "scale",
    "shift",
    "smooth",
]
