"""What stands for an activation: its name, its class, a callable, a module of PyTorch."""

from typing import Any

from meanfield.activations.base import Activation
from meanfield.activations.custom import from_callable
from meanfield.activations.files import is_file, load
from meanfield.activations.registry import activation


def named(name: str, **params: Any) -> Activation:
    """Return the activation of a registered name, of FILE.py:NAME or of torch:NAME.

    Raises `MeanFieldError` where there is none, or for parameters that it has not.
    """
    return load(name).make(**params) if is_file(name) else activation(name, **params)


def made(phi: Any) -> Activation:
    """Return the activation that a name, a class or a callable stands for."""
    if isinstance(phi, str):
        return named(phi)
    if isinstance(phi, type) and issubclass(phi, Activation):
        return phi()
    return from_callable(phi)
