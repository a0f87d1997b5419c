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

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._struct import CORRELATION, POSITIVE, concrete, elementwise, flattened
from meanfield.errors import MeanFieldError, require
from meanfield.layers import Covariance, Dense, Layer, require_covariance
from meanfield.method import Method, completed, in_parallel, size_of, uses_table
from meanfield.rollout_batch import is_fixed, roll
from meanfield.tabulation import NO_PAIRS, has_pairs, tabulate
from meanfield.typing import Array, ScalarLike

# Pairs that are rolled out by one kernel, if they are few and if they are many.
SHORT, LONG = 16, 512
# So many layers of a pair cost by quadrature what a network does.
LAYERS = 4
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
    layer: Layer,
    q1: ScalarLike,
    q2: ScalarLike,
    q12: ScalarLike,
    depth: int,
    method: Method = "auto",
) -> Covariance:
    """Return the covariances of two inputs through `depth` repetitions of a layer.

    Parameters
    ----------
    layer : what is repeated.
    q1, q2, q12 : the covariance of the two inputs; q1, q2 > 0, |q12| ≤ √(q1 q2). Arguments
        broadcast, parameters of the layer included.
    depth : an integer >= 0.
    method : "quadrature", a millisecond for a pair and a layer; "table", which compiles the
        activation of one dense layer without dropout first (`meanfield.tabulate`) and reads pairs
        of equal variances off it, 30 nanoseconds each; or "auto", which takes the table for 1024
        layers of pairs and more, unless they are traced. What the table does not know is left to
        quadrature. Both agree to 1e-9 a layer.

    Returns
    -------
    A `Covariance` of arrays whose last axis has length depth + 1, the inputs first. Its
    `epsilon` = 1 - c is relatively accurate at every depth.
    """
    if not isinstance(depth, int) or depth < 0:
        raise MeanFieldError(f"depth = {depth!r} is not legal; it must be an integer >= 0")
    require_covariance(q1, q2, q12)
    numbers = (q1, q2, q12)
    count = size_of(*numbers) * depth
    if uses_table(method, -(-count // LAYERS), lambda: _obstacle(layer, *numbers)):
        return _read(cast(Dense, layer), q1, q2, q12, depth)
    return _rollout(layer, q1, q2, q12, depth)


def _obstacle(layer: Layer, *numbers: ScalarLike) -> str:
    """Return why pairs cannot be read off a table, if so."""
    if not isinstance(layer, Dense):
        return "the layer is not a Dense one"
    leaves = jax.tree.leaves(layer)
    if not concrete(*leaves, *numbers):
        return "parameters are traced"
    if any(map(np.ndim, leaves)):
        return "the layer is not a single one"
    if layer.keep != 1:
        return f"a table knows no dropout, keep = {layer.keep}"
    return "" if has_pairs(layer.phi) else NO_PAIRS.format(type(layer.phi).__name__)


def _read(layer: Dense, q1: ScalarLike, q2: ScalarLike, q12: ScalarLike, depth: int) -> Covariance:
    """Return the covariances of pairs: of equal variances by a table where that knows them."""
    (q1, q2, q12), shape = flattened((q1, q2, q12))
    q1, q2, q12 = (np.asarray(x) for x in (q1, q2, q12))
    require(POSITIVE[0](q1), "q1", q1, POSITIVE[1])
    require(POSITIVE[0](q2), "q2", q2, POSITIVE[1])
    epsilon = np.asarray(Covariance.of(q1, q2, q12).epsilon)
    phi = tabulate(layer.phi, ("moments", "acute" if layer.phi.odd else "obtuse"))
    variances, path = (np.full((q1.size, depth + 1), np.nan) for _ in range(2))
    for q in np.unique(q1[q1 == q2]):
        places = np.flatnonzero((q1 == q2) & (q1 == q))
        fixed = bool(is_fixed(phi, layer.sigma_w, layer.sigma_b, q))

        def part(epsilon: Array, q: float = q, fixed: bool = fixed) -> tuple[Array, Array]:
            line, pairs = roll(phi, layer.sigma_w, layer.sigma_b, q, epsilon, depth, fixed)
            return jnp.broadcast_to(line, pairs.shape), pairs

        length = LONG if places.size > SHORT else SHORT
        key = (roll, depth, fixed, length, jax.tree.structure(phi))
        variances[places], path[places] = in_parallel(part, epsilon[places], length, key)

    def solve(numbers: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Covariance:
        q1, q2, q12 = numbers
        return _rollout(layer, q1, q2, q12, depth)

    known = np.asarray(np.isfinite(path).all(axis=1))
    found = completed(Covariance(variances, variances, path), known, solve, (q1, q2, q12))
    return jax.tree.map(lambda x: jnp.asarray(x).reshape(*shape, depth + 1), found)


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
