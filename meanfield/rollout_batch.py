"""Correlations of many pairs through the layers of one network, read off its table.

Two inputs of one variance q keep a common variance, and their ε = 1 - c becomes

    ε' = ε r(θ),    r = σw² (q/q') (E φ'² - G(q, θ)),      ε = 2 sin²(θ/2),

where E φ'² is left out if φ jumps.

All pairs of one variance pass a layer together: there r is a series in θ alone. It is turned into
one in s = sin(θ/2) = √(ε/2), and beyond θ = π/2 in -cos(θ/2), so that no angle has to be computed
from ε: a layer costs a root and a short sum for each pair. Where q is fixed, r is made once.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.chebyshev import TERMS, locate, roots, series, transform
from meanfield.table import ACUTE, ALL_ANGLES, PAIRS, Tabulated
from meanfield.typing import Array, ScalarLike

# A variance that moves by less than this is fixed.
FIXED = 1e-13
# No kernel has room for fewer layers.
LEAST_ROOM = 16
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


def room(depth: int) -> int:
    """Return how many layers the kernel for a depth has room for: it serves all up to those."""
    return max(LEAST_ROOM, 1 << (depth - 1).bit_length())


def roll(
    phi: Tabulated,
    sigma_w: ScalarLike,
    sigma_b: ScalarLike,
    q: ScalarLike,
    epsilon: Array,
    depth: int,
    fixed: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
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
    found = _roll(phi, sigma_w, sigma_b, q, epsilon, depth, room(depth), fixed)
    variances, path = map(np.asarray, found)
    return variances[: depth + 1], path[:, : depth + 1]


@functools.partial(jax.jit, static_argnames=("most", "fixed"))
def _roll(
    phi: Tabulated,
    sigma_w: ScalarLike,
    sigma_b: ScalarLike,
    q: ScalarLike,
    epsilon: Array,
    depth: ScalarLike,
    most: int,
    fixed: bool,
) -> tuple[Array, Array]:
    """Return what `roll` does, with room for `most` layers."""
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

    q, epsilon = jnp.asarray(q) / unit, jnp.asarray(epsilon)
    line = jnp.full(most + 1, q)
    path = jnp.zeros((most + 1, epsilon.size)).at[0].set(epsilon)
    if fixed:
        after, coefficients = ratio(q)

        def still(layer: Array, path: Array) -> Array:
            return path.at[layer + 1].set(passed(after, coefficients, path[layer]))

        return line * unit, jax.lax.fori_loop(0, depth, still, path).T

    def moving(layer: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        line, path = state
        after, coefficients = ratio(line[layer])
        apart = passed(after, coefficients, path[layer])
        return line.at[layer + 1].set(after), path.at[layer + 1].set(apart)

    line, path = jax.lax.fori_loop(0, depth, moving, (line, path))
    return line * unit, path.T


@jax.jit
def is_fixed(phi: Tabulated, sigma_w: ScalarLike, sigma_b: ScalarLike, q: ScalarLike) -> Array:
    """Return whether a variance is fixed, as far as the table says."""
    after = jnp.square(sigma_w) * phi.second_moment(q) + jnp.square(sigma_b)
    return jnp.abs(after - q) <= FIXED * q
