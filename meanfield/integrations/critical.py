"""Which σw, σb and first layer does a model get?

On the edge of chaos every layer keeps the variance q*. Inputs of second moment m reach it at once
if the first layer has σw² = (q* - σb²)/m.
"""

import dataclasses
import importlib
import math
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from meanfield.activations import Activation, activation, from_callable
from meanfield.criticality import STEADY, edge_of_chaos
from meanfield.errors import MeanFieldError, MeanFieldWarning, Status, require
from meanfield.init import Distribution, Initializer, weights
from meanfield.typing import Array


@dataclasses.dataclass(frozen=True)
class Scales:
    """Standard deviations: of the weights of the first and of the other layers, and of biases."""

    first: float
    sigma_w: float
    sigma_b: float

    def weights(self, distribution: Distribution, first: bool, linear: bool) -> Initializer:
        """Return the initialiser of weights of the shape (out, in, ...).

        Linear layers have no kernel in whose middle anything could be: they are orthogonal.
        """
        flat = distribution == "delta_orthogonal" and linear
        sigma_w = self.first if first else self.sigma_w
        return weights(sigma_w, "orthogonal" if flat else distribution, in_axis=1, out_axis=0)


def named_or_called(phi: str | Activation | Callable[[Any], Any]) -> Activation:
    """Return the activation of a name, of itself, or of a callable.

    Raises `MeanFieldError` for anything else, and for what is not elementwise.
    """
    legal = isinstance(phi, str | Activation) or callable(phi)
    require(legal, "activation", phi, "a name, an Activation or a callable")
    if isinstance(phi, str):
        return activation(phi)
    return phi if isinstance(phi, Activation) else from_callable(phi)


def critical_scales(
    phi: str | Activation | Callable[[Any], Any],
    sigma_b: float,
    sigma_w: float | None,
    second_moment: float,
) -> Scales:
    """Return the scales of a network with activation φ.

    With `sigma_w` given it is every layer's; else it is that of the edge of chaos. Raises
    `MeanFieldError` where the edge has no point at this σb, or only q* = 0, and for what is not
    legal.
    """
    legal = math.isfinite(second_moment) and second_moment > 0
    require(legal, "second_moment", second_moment, "a finite number > 0")
    require(math.isfinite(sigma_b) and sigma_b >= 0, "sigma_b", sigma_b, "a finite number >= 0")
    if sigma_w is not None:
        legal = math.isfinite(sigma_w) and sigma_w >= 0
        require(legal, "sigma_w", sigma_w, "a finite number >= 0")
        return Scales(sigma_w, sigma_w, sigma_b)
    point = edge_of_chaos(named_or_called(phi), sigma_b)
    status = Status(int(point.status))
    if status != Status.OK or not float(point.q) > 0:
        raise MeanFieldError(
            f"sigma_w must be given, or another sigma_b: the edge of chaos has no q > 0 at "
            f"sigma_b = {sigma_b:g} ({status.message})"
        )
    if float(point.slope) > 1 + STEADY:
        warnings.warn(
            f"at sigma_b = {sigma_b:g} V' = {float(point.slope):.4g} > 1: networks leave the "
            f"variance q = {float(point.q):.4g} by and by; meanfield recommend has cures",
            MeanFieldWarning,
            stacklevel=3,
        )
    first = math.sqrt((float(point.q) - sigma_b**2) / second_moment)
    return Scales(first, float(point.sigma_w), sigma_b)


def in_groups(draw: Initializer, key: Any, shape: tuple[int, ...], groups: int) -> Array:
    """Return weights of the shape (out, in, ...), each of so many groups of outputs by itself."""
    part = (shape[0] // groups, *shape[1:])
    return jnp.concatenate([draw(one, part) for one in jax.random.split(key, groups)])


def channels_last(values: Array) -> Array:
    """Return weights of the shape (out, in, ...) with the axes (..., in, out)."""
    return jnp.moveaxis(values, (0, 1), (-1, -2))


def framework(module: str, package: str) -> ModuleType:
    """Return a framework's module. Raises `MeanFieldError` where it is absent."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MeanFieldError(f"{module} is not installed: pip install {package}") from error


def require_layers(layers: list[Any], kinds: str) -> None:
    """Raise `MeanFieldError` where a model has nothing to initialise."""
    if not layers:
        raise MeanFieldError(f"model is not legal; it must have layers with weights: {kinds}")
