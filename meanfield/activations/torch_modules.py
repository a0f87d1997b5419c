"""Activations of PyTorch: modules, and what torch:NAME stands for."""

import copy
import sys
from collections.abc import Callable
from typing import Any

from meanfield.errors import MeanFieldError, unknown_name

PREFIX = "torch:"


def found(place: str) -> tuple[Callable[[Any], Any], str]:
    """Return what torch:NAME stands for, and PyTorch's version.

    That is a module of `torch.nn` with its defaults, or a function of `torch.nn.functional` or of
    `torch`. Raises `MeanFieldError` where PyTorch is absent or has no such name.
    """
    try:
        import torch
    except ImportError as error:
        raise MeanFieldError(
            f"activation {place!r} needs PyTorch: pip install 'meanfield-jax[frameworks]'"
        ) from error
    name = place.removeprefix(PREFIX)
    kind = getattr(torch.nn, name, None)
    if isinstance(kind, type) and issubclass(kind, torch.nn.Module):
        try:
            return kind(), torch.__version__
        except TypeError as error:
            raise MeanFieldError(f"activation {place!r} is not legal; {error}") from error
    for home in (torch.nn.functional, torch):
        function = getattr(home, name, None)
        if callable(function) and not isinstance(function, type):
            return function, torch.__version__
    names = torch.nn.modules.activation.__all__
    raise unknown_name("activation", place, [f"{PREFIX}{known}" for known in names])


def is_module(function: Any) -> bool:
    """Return whether this is a module of PyTorch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(function, torch.nn.Module)


class Module:
    """A module as it is now, as a function of numbers in double precision."""

    def __init__(self, module: Any):
        self.__name__ = repr(module)
        self.module = copy.deepcopy(module).double().eval().requires_grad_(False)

    def __call__(self, x: Any) -> Any:
        # What works in place must not change x.
        return self.module(x.clone())
