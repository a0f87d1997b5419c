"""Correlations of many pairs through the layers of one network, read off its table.

Two inputs of one variance q keep a common variance, and their ε = 1 - c becomes

    ε' = ε r(θ),    r = σw² (q/q') (E φ'² - G(q, θ)),      ε = 2 sin²(θ/2),

where E φ'² is left out if φ jumps.

All pairs of one variance pass a layer together: there r is a series in θ alone. It is turned into
one in s = sin(θ/2) = √(ε/2), and beyond θ = π/2 in -cos(θ/2), so that no angle has to be computed
from ε: a layer costs a root and a short sum for each pair. Where q is fixed, r is made once.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.chebyshev import TERMS, locate, roots, series, transform
from meanfield.table import ACUTE, ALL_ANGLES, PAIRS, Tabulated
from meanfield.typing import Array, ScalarLike

# A variance that moves by less than this is fixed.
FIXED = 1e-13
# What m may be.
POWERS = (-1, 1, 2)


def _place(theta: np.ndarray, acute: np.ndarray) -> np.ndarray:
    return np.where(acute, np.sin(theta / 2), -np.cos(theta / 2))


# Ends of the cells in ε, and where they start and stop in s or -cos(θ/2).
EDGES = 2 * np.sin(ALL_ANGLES / 2) ** 2
IS_ACUTE = np.arange(ALL_ANGLES.size - 1) < ACUTE.size - 1
START, STOP = _place(ALL_ANGLES[:-1], IS_ACUTE), _place(ALL_ANGLES[1:], IS_ACUTE)


@functools.cache
def _changes_of_variable() -> np.ndarray:
    """Return the matrices from the series of g in θ to that of θ^m g in s, by m and cell.

    That for m = -1 is the one to sin(θ/2) g/θ.
    """
    return np.stack([_change_of_variable(power) for power in POWERS])


def _change_of_variable(power: int) -> np.ndarray:
    matrices = []
    for cell, acute in enumerate(IS_ACUTE):
        place = START[cell] + (STOP[cell] - START[cell]) * (1 + roots()) / 2
        theta = 2 * np.arcsin(place) if acute else 2 * np.arccos(-place)
        low, high = ALL_ANGLES[cell : cell + 2]
        x = np.clip((2 * theta - low - high) / (high - low), -1, 1)
        factor = theta**power * (np.sin(theta / 2) if power < 0 else 1.0)
        values = np.cos(np.arange(TERMS) * np.arccos(x)[:, None]) * factor[:, None]
        matrices.append(transform() @ values)
    return np.stack(matrices)


@functools.partial(jax.jit, static_argnames=("depth", "fixed"))
def roll(
    phi: Tabulated,
    sigma_w: ScalarLike,
    sigma_b: ScalarLike,
    q: Array,
    epsilon: Array,
    depth: int,
    fixed: bool = False,
) -> tuple[Array, Array]:
    """Return variances, of shape (depth + 1,), and 1 - c of pairs, of shape (n, depth + 1).

    Parameters
    ----------
    phi : an activation with a table of its moments and of pairs, with obtuse angles if it is not
        odd.
    sigma_w, sigma_b : of one network without dropout.
    q : the variance of all inputs, a scalar.
    epsilon : 1 - c of the pairs, of shape (n,).
    depth : how many layers.
    fixed : whether q is fixed.

    Both are NaN from where the table does not know them on.
    """
    unit = jnp.square(phi.width)
    cells = jnp.asarray(phi.table.pairs.angles).size - 1
    pairs = phi.table.pairs
    place = jnp.searchsorted(jnp.array(POWERS), pairs.power)
    change = jnp.asarray(_changes_of_variable())[place, :cells]
    weights, biases = jnp.square(sigma_w * phi.steepness), jnp.square(sigma_b) / unit

    def ratio(q: Array) -> tuple[Array, Array]:
        """Return the variance that follows, and r as a series in each cell."""
        table = phi.table
        after = weights * table.read(table.second_moment, q) + biases
        gain, mean = weights * q / after, table.read(table.slope_moment, q)
        cell, x = locate(jnp.asarray(PAIRS), jnp.log(q))
        known = (q >= np.exp(PAIRS[0])) & (q <= np.exp(PAIRS[-1]))
        g = series(jnp.moveaxis(jnp.asarray(pairs.g)[cell], 1, -1), x)
        left = -jnp.exp(-pairs.rate / q) * jnp.einsum("cjk,ck->cj", change, g)
        left = left.at[:, 0].add(jnp.where(pairs.jumps, 0.0, mean))
        return after, gain * jnp.where(known, left, jnp.nan)

    def passed(after: Array, coefficients: Array, epsilon: Array) -> Array:
        # An odd φ knows what -c becomes from what c does.
        mirrored = (epsilon > 1) & phi.odd
        here = jnp.where(mirrored, 2.0 - epsilon, epsilon)
        edges = jnp.asarray(EDGES[1:cells])
        cell = jnp.searchsorted(edges, here, side="right", method="compare_all")
        acute = cell < ACUTE.size - 1
        root = jnp.sqrt(jnp.where(acute, here, 2.0 - here) / 2)
        low, high = jnp.asarray(START)[cell], jnp.asarray(STOP)[cell]
        x = (2 * jnp.where(acute, root, -root) - low - high) / (high - low)
        # If φ jumps, the series is that of r sin(θ/2).
        factor = jnp.where(pairs.jumps, jnp.sqrt(2 * here), here)
        apart = factor * series(coefficients[cell], x)
        apart = jnp.where(mirrored, 2.0 - 2 * biases / after - apart, apart)
        return jnp.clip(apart, 0.0, 2.0)

    def still(epsilon: Array, _: None) -> tuple[Array, Array]:
        epsilon = passed(after, coefficients, epsilon)
        return epsilon, epsilon

    def moving(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Any]:
        after, coefficients = ratio(state[0])
        state = after, passed(after, coefficients, state[1])
        return state, state

    start = jnp.asarray(q) / unit, jnp.asarray(epsilon)
    if fixed:
        after, coefficients = ratio(start[0])
        _, path = jax.lax.scan(still, start[1], length=depth)
        variances = jnp.full(depth, start[0])
    else:
        _, (variances, path) = jax.lax.scan(moving, start, length=depth)
    variances = jnp.append(start[0], variances) * unit
    return variances, jnp.concatenate([start[1][None], path]).T


@jax.jit
def is_fixed(phi: Tabulated, sigma_w: ScalarLike, sigma_b: ScalarLike, q: ScalarLike) -> Array:
    """Return whether a variance is fixed, as far as the table says."""
    after = jnp.square(sigma_w) * phi.second_moment(q) + jnp.square(sigma_b)
    return jnp.abs(after - q) <= FIXED * q
