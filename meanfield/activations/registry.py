"""The activations that are known by name."""

from collections.abc import Callable

import numpy as np

from meanfield._struct import struct
from meanfield.activations.base import Activation, parameter
from meanfield.errors import MeanFieldError
from meanfield.registry import Registry
from meanfield.typing import ScalarLike

activations: Registry[type[Activation]] = Registry("activation")


def register_activation(
    name: str, *aliases: str, formula: str, source: str
) -> Callable[[type[Activation]], type[Activation]]:
    """Return a decorator that makes a class an activation known by `name` and `aliases`.

    The parameters of the class are its annotated numbers, as `a: float = 0.25`, which may be any
    finite numbers, and what `parameter` declares with a domain of its own.
    """

    def decorator(cls: type[Activation]) -> type[Activation]:
        for field in vars(cls).get("__annotations__", {}):
            default = vars(cls).get(field)
            if isinstance(default, int | float) and not isinstance(default, bool):
                setattr(cls, field, parameter(float(default), "a finite number", np.isfinite))
        record = struct(cls)
        record.name, record.formula, record.source = name, formula, source
        return activations.register(name, *aliases)(record)

    return decorator


def activation(name: str, **params: ScalarLike) -> Activation:
    """Return the activation registered under `name`, with its parameters.

    Raises `MeanFieldError` for an unknown name or parameter, or a value outside its domain.

    >>> activation("shtanh", a=2.0).kinks()
    (-2.0, 2.0)
    """
    cls = activations[name]
    legal = cls.parameters()
    for key in params:
        if key not in legal:
            takes = ", ".join(f"{k} {v[1]}" for k, v in legal.items()) or "none"
            raise MeanFieldError(f"{name} has no parameter {key!r}; its parameters: {takes}")
    return cls(**params)
