"""Which σw, σb and first layer does a model get?

On the edge of chaos every layer keeps the variance q*. Inputs of second moment m reach it at once
if the first layer has σw² = (q* - σb²)/m.
"""

import dataclasses
import importlib
import warnings
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from meanfield._elementwise import NON_NEGATIVE, POSITIVE
from meanfield.activations.base import Activation, ActivationLike, as_activation
from meanfield.arguments import single
from meanfield.criticality import edge_of_chaos
from meanfield.errors import MeanFieldError, MeanFieldWarning, Status
from meanfield.init import Distribution, Initializer, input_scale, require_distribution, weights
from meanfield.typing import Array

# V' exceeds 1 by less where numbers are rounded for print; a thousand layers do not feel it.
DRIFT = 1e-6


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


def critical_scales(
    activation: ActivationLike,
    distribution: Distribution,
    sigma_b: float,
    sigma_w: float | None,
    second_moment: float,
    q: float | None,
) -> tuple[Activation, Scales]:
    """Return φ and the scales of a network of it.

    With `sigma_w` given it is that of all layers, but not of the first one if `q` is given; else it
    is that of the edge of chaos. The first layer brings inputs to q, by default to q*. Raises
    `MeanFieldError` where the edge has no point at this σb, or only q* = 0, and for what is not
    legal, the distribution of weights included.
    """
    require_distribution(distribution)
    phi = as_activation(activation)
    second_moment = single("second_moment", second_moment, POSITIVE)
    sigma_b = single("sigma_b", sigma_b, NON_NEGATIVE)
    first = None if q is None else input_scale(q, sigma_b, second_moment)
    if sigma_w is not None:
        sigma_w = single("sigma_w", sigma_w, NON_NEGATIVE)
        return phi, Scales(sigma_w if first is None else first, sigma_w, sigma_b)
    point = edge_of_chaos(phi, sigma_b)
    status = Status(int(point.status))
    if status != Status.OK or not float(point.q) > 0:
        why = "its q is 0" if status == Status.OK else status.message
        raise MeanFieldError(
            f"sigma_w must be given, or another sigma_b: the edge of chaos has no q > 0 at "
            f"sigma_b = {sigma_b:g} ({why})"
        )
    kept = float(point.q)
    warn_of_drift(kept, float(point.slope), sigma_b)
    if first is None:
        first = input_scale(kept, sigma_b, second_moment)
    return phi, Scales(first, float(point.sigma_w), sigma_b)


def warn_of_drift(q: float, slope: float, sigma_b: float) -> None:
    """Warn where V'(q) > 1: there the variance q repels. It is said to who called `init_`."""
    if slope > 1 + DRIFT:
        warnings.warn(
            f"at sigma_b = {sigma_b:g} V' = {slope:.4g} > 1: networks leave the variance "
            f"q = {q:.4g} by and by; meanfield recommend has cures",
            MeanFieldWarning,
            stacklevel=4,
        )


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
