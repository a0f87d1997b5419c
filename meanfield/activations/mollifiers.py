"""Kernels that activations are averaged over, with their first two antiderivatives.

    bump            K(t) = A exp(-1/(1 - t²))     on |t| < 1,     C^∞,
    epanechnikov    K(t) = (3/4)(1 - t²)          on |t| < 1,     C⁰,
    gaussian        K(t) = exp(-t²/2)/√(2π)       on R,           analytic,

    F(t) = ∫_{-∞}^t K,        R(t) = ∫_{-∞}^t F,        F(t) = 1 - F(-t),        R(t) = t + R(-t).

For the bump, F/(A exp(-1/w) w²) and R/(A exp(-1/w) w⁴), w = 1 - t², vary slowly on [-1, 0] and are
tabulated once as Chebyshev series.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr

from meanfield.gaussian import normal_density
from meanfield.typing import Array

# 1/∫ exp(-1/(1 - t²)) dt over [-1, 1].
BUMP_SCALE = 2.2522836210435810105
# Chebyshev coefficients of the bump's antiderivatives: 1e-15 is left of them.
BUMP_TERMS = 72
# A Gaussian average differs from a piecewise-linear φ by less than 1e-10 radii out here.
GAUSSIAN_LAYER = 6.0


@dataclasses.dataclass(frozen=True)
class Kernel:
    """An even density K and its antiderivatives F and R where they are small: for t ≤ 0."""

    density: Callable[[Array], Array]
    distribution: Callable[[Array], Array]
    ramp: Callable[[Array], Array]
    reach: float
    """K is 0, or negligible, beyond."""
    layer: float
    """Rules are cut this many radii beside a kink of φ."""
    gain: float
    """How many more continuous derivatives φ * K has than φ."""
    size: int
    """Nodes per piece that leave 1e-14 of an average."""


def _epanechnikov_density(t: Array) -> Array:
    return 0.75 * jnp.maximum(1.0 - t * t, 0.0)


def _epanechnikov_distribution(t: Array) -> Array:
    t = jnp.maximum(t, -1.0)
    return (t + 1.0) ** 2 * (2.0 - t) / 4.0


def _epanechnikov_ramp(t: Array) -> Array:
    t = jnp.maximum(t, -1.0)
    return (t + 1.0) ** 3 * (3.0 - t) / 16.0


def _gaussian_ramp(t: Array) -> Array:
    return t * ndtr(t) + normal_density(t)


def _bump(t: Array, factor: Callable[[Array, Array], Array]) -> Array:
    """Return A exp(-1/w)·factor(t, w) with w = 1 - t², and 0 outside of (-1, 1)."""
    inside = jnp.abs(t) < 1
    t = jnp.where(inside, t, 0.0)
    w = (1.0 - t) * (1.0 + t)
    return jnp.where(inside, BUMP_SCALE * jnp.exp(-1.0 / w) * factor(t, w), 0.0)


def _bump_density(t: Array) -> Array:
    return _bump(t, lambda t, _: jnp.ones_like(t))


@jax.custom_jvp
def _bump_distribution(t: Array) -> Array:
    return _bump(t, lambda t, w: w**2 * _clenshaw(_bump_series()[0], 2.0 * t + 1.0))


@jax.custom_jvp
def _bump_ramp(t: Array) -> Array:
    return _bump(t, lambda t, w: w**4 * _clenshaw(_bump_series()[1], 2.0 * t + 1.0))


# The derivative of a series loses digits; the functions are each other's derivatives.
_bump_distribution.defjvps(lambda dt, _, t: _bump_density(t) * dt)
_bump_ramp.defjvps(lambda dt, _, t: _bump_distribution(t) * dt)


def _clenshaw(coefficients: np.ndarray, x: Array) -> Array:
    """Return Σ_n c_n T_n(x)."""
    last, before = jnp.zeros_like(x), jnp.zeros_like(x)
    for c in coefficients[:0:-1]:
        last, before = c + 2.0 * x * last - before, last
    return coefficients[0] + x * last - before


@functools.cache
def _bump_series() -> tuple[np.ndarray, np.ndarray]:
    """Return the Chebyshev series of F/(A e^(-1/w) w²) and R/(A e^(-1/w) w⁴) in 2t + 1.

    They are ∫ (t - s)^k exp(1/w(t) - 1/w(s)) ds over (-1, t), k = 0 and 1, divided by w² and w⁴.
    The integrand lives within w² of t: the distance from t is cut dyadically.
    """
    x, weights = np.polynomial.legendre.leggauss(100)
    ends = np.append(2.0 ** -np.arange(25), 0.0)
    high, low = ends[:-1, None], ends[1:, None]
    fraction = ((high + low) / 2 + (high - low) / 2 * x).ravel()
    weights = ((high - low) / 2 * weights).ravel()

    t = (np.polynomial.chebyshev.chebpts1(BUMP_TERMS)[:, None] - 1) / 2
    distance = (1 + t) * fraction
    w, w_there = 1 - t**2, (1 + t) * (1 - fraction) * (1 - t + distance)
    decay = np.exp(distance * (2 * t - distance) / (w * w_there)) * weights * (1 + t)
    values = decay.sum(axis=1) / w[:, 0] ** 2, (decay * distance).sum(axis=1) / w[:, 0] ** 4
    series = [np.polynomial.chebyshev.chebfit(2 * t[:, 0] + 1, y, BUMP_TERMS - 1) for y in values]
    return series[0], series[1]


KERNELS = {
    "bump": Kernel(_bump_density, _bump_distribution, _bump_ramp, 1.0, 1.0, math.inf, 121),
    "epanechnikov": Kernel(
        _epanechnikov_density, _epanechnikov_distribution, _epanechnikov_ramp, 1.0, 1.0, 2, 81
    ),
    "gaussian": Kernel(normal_density, ndtr, _gaussian_ramp, 9.0, GAUSSIAN_LAYER, math.inf, 97),
}
