"""What does a layer, or a stack of them, do to a correlation?

For two inputs of variance q and correlation c = 1 - ε, a layer returns the correlation

    C(c) = q12'/q',

with C(1) = 1 and, at a fixed point q of the variance map, C'(c) = σw² E φ'(u1) φ'(u2) [1].
Near c = 1 the map is used in the form ε → ε', which is exact relatively: a trajectory can be
followed to any depth without losing digits of 1 - c.

References
----------
[1] B. Poole et al., Exponential expressivity in deep neural networks through transient
    chaos, NeurIPS 2016, arXiv:1606.05340.
"""

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._struct import CORRELATION, POSITIVE, elementwise
from meanfield.errors import MeanFieldError
from meanfield.layers import Covariance, Layer, require_covariance
from meanfield.typing import Array, ScalarLike

DECORRELATION = (lambda x: (x >= 0) & (x <= 2) & ~np.isnan(x), "1 - correlation, in [0, 2]")


@elementwise(q=POSITIVE, c=CORRELATION)
def correlation_map(layer: Layer, q: ScalarLike, c: ScalarLike) -> Array:
    """Return the correlation that follows c for two inputs of variance q > 0.

    All arguments broadcast, parameters of the layer included. NaN where the expectation is not
    resolved. Differentiable. For c within 1e-6 of 1 prefer `decorrelation_map`.
    """
    return 1.0 - layer.decorrelation(q, 1.0 - c)


@elementwise(q=POSITIVE, epsilon=DECORRELATION)
def decorrelation_map(layer: Layer, q: ScalarLike, epsilon: ScalarLike) -> Array:
    """Return ε' = 1 - C(1 - ε), relatively accurate for every ε in (0, 2]."""
    return layer.decorrelation(q, epsilon)


@elementwise(q=POSITIVE, c=CORRELATION)
def correlation_slope(layer: Layer, q: ScalarLike, c: ScalarLike) -> Array:
    """Return dC/dc at correlation c for two inputs of variance q > 0.

    At c = 1 and a fixed point q of the variance map this is χ1, inf if φ jumps.
    """
    return layer.correlation_slope(q, 1.0 - c)


def rollout(
    layer: Layer, q1: ScalarLike, q2: ScalarLike, q12: ScalarLike, depth: int
) -> Covariance:
    """Return the covariances of two inputs through `depth` repetitions of a layer.

    Parameters
    ----------
    layer : what is repeated.
    q1, q2, q12 : the covariance of the two inputs; q1, q2 > 0, |q12| ≤ √(q1 q2). Arguments
        broadcast, parameters of the layer included.
    depth : an integer >= 0.

    Returns
    -------
    A `Covariance` of arrays whose last axis has length depth + 1, the inputs first. Its
    `epsilon` = 1 - c is relatively accurate at every depth.
    """
    if not isinstance(depth, int) or depth < 0:
        raise MeanFieldError(f"depth = {depth!r} is not legal; it must be an integer >= 0")
    require_covariance(q1, q2, q12)
    return _rollout(layer, q1, q2, q12, depth)


@elementwise("depth", q1=POSITIVE, q2=POSITIVE)
def _rollout(
    layer: Layer, q1: ScalarLike, q2: ScalarLike, q12: ScalarLike, depth: int
) -> Covariance:
    def step(pair: Covariance, _: None) -> tuple[Covariance, Covariance]:
        next_ = layer.propagate(pair)
        return next_, next_

    start = Covariance.of(q1, q2, q12)
    _, path = jax.lax.scan(step, start, length=depth)
    return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start, path)
