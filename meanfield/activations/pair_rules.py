"""Derivatives of the Gaussian statistics of a pair in ε = 1 - c, by Price's theorem.

They are made of statistics, so that there are derivatives of any order, at c = ±1 too.
"""

from typing import Any

import jax
import jax.numpy as jnp

from meanfield.typing import Array


def covariance_rate(phi: Any, q1: Array, q2: Array, epsilon: Array) -> Array:
    return -_root(q1, q2) * phi.slope_covariance(q1, q2, epsilon)


def slope_covariance_rate(phi: Any, q1: Array, q2: Array, epsilon: Array) -> Array:
    return -_root(q1, q2) * phi.curvature_covariance(q1, q2, epsilon)


def separation_rate(phi: Any, q1: Array, q2: Array, epsilon: Array, s: Array, t: Array) -> Array:
    return s * t * _root(q1, q2) * phi.slope_covariance(q1, q2, epsilon)


def distance_rate(phi: Any, q: Array, epsilon: Array) -> Array:
    return phi.slope_covariance(q, q, epsilon)


def slope_gap_rate(phi: Any, q: Array, epsilon: Array) -> Array:
    return q * phi.curvature_covariance(q, q, epsilon)


def deficit_rate(phi: Any, q: Array, epsilon: Array) -> Array:
    """Return how a mean over [0, ε] changes: what is averaged, less the mean, by ε."""

    def inside() -> Array:
        return (phi.slope_gap(q, epsilon) - phi.deficit(q, epsilon)) / epsilon

    return jax.lax.cond(epsilon > 0, inside, lambda: q * phi.curvature_moment(q) / 2)


def decorrelation_rate(phi: Any, q: Array, epsilon: Array) -> Array:
    if phi.continuous or not phi.kinks():
        return -deficit_rate(phi, q, epsilon)

    def jumping() -> Array:
        apart = phi.slope_covariance(q, q, epsilon) - phi.decorrelation(q, epsilon)
        return jnp.where(epsilon > 0, apart / epsilon, -jnp.inf)

    finite = jnp.isfinite(phi.slope_moment(q, 2))
    return jax.lax.cond(finite, lambda: -deficit_rate(phi, q, epsilon), jumping)


def _root(q1: Array, q2: Array) -> Array:
    return q1 if q1 is q2 else jnp.sqrt(q1) * jnp.sqrt(q2)
