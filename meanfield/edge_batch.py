"""The edge of chaos for many σb at once, read off a table.

On the edge (`meanfield.criticality`) the variance q asks for the bias variance

    σb²(q) = (q E φ'² - E φ²) / E φ'²,

the same function of q for all networks. On a grid of log q its running maximum ascends, and where
that first reaches the σb² of a network is the cell of the smallest q; a safeguarded Newton
iteration in log σb² finds it there.
"""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._elementwise import PIECE, elementwise
from meanfield._struct import struct
from meanfield.activations.base import Activation
from meanfield.batch import newton
from meanfield.chebyshev import locate, series, series_and_slope
from meanfield.devices import threads
from meanfield.errors import Status
from meanfield.method import in_pieces
from meanfield.table import WIDE, Numbers, Table
from meanfield.tabulation import GROUPS, Family, families, group_of, joined, rough_bias, table_of
from meanfield.typing import Array, ScalarLike

# Points of the grid in a cell of the table; networks that go through one kernel, if they are few
# and if they are many.
POINTS, SHORT, LONG = 8, 128, 4096
# The logarithm of σb²(q)/σb² that is left at a root.
RESIDUAL = 1e-11


@struct
class Edge:
    """Critical networks: the variance q, E φ'² and V'(q); NaN where the status is not OK.

    `sure` says where a table knows them, or that none exists.
    """

    q: Numbers
    mean: Numbers
    slope: Numbers
    status: Numbers
    sure: Numbers


def grid() -> np.ndarray:
    """Return the points of log q among which a critical variance is looked for."""
    inner = np.linspace(WIDE[:-1], WIDE[1:], POINTS, endpoint=False, axis=1).ravel()
    return np.append(inner, WIDE[-1])


@jax.jit
def critical_variances(table: Table, wanted: Array) -> tuple[Array, Array, Array]:
    """Return the smallest variances at which σb²(q) is what is wanted.

    Beside them: whether there is one, and whether that is sure. What is needed of the table is its
    edge, from the least wanted σb² upwards.
    """
    points = jnp.asarray(grid())
    cell, x = locate(jnp.asarray(WIDE), points)
    q = jnp.exp(points)
    bias = q * jnp.exp(-table.edge_rate / q) * series(table.edge_bias[cell], x)
    # σb²(q) < q: what is below σb² does not matter, unknown or not.
    reached = jax.lax.cummax(jnp.where(jnp.isnan(bias), -jnp.inf, bias))
    place = jnp.searchsorted(reached, wanted, side="left")
    blind = jnp.append(0, jnp.cumsum(jnp.isnan(bias)))
    # Unknown points from σb² up to the place.
    start = jnp.searchsorted(points, jnp.log(wanted), side="left")
    end = jnp.minimum(place, points.size)
    passed = (blind[end] - blind[jnp.minimum(start, end)] == 0) & (wanted >= np.exp(WIDE[0]))
    found = (place < points.size) & (place > 0)
    place = jnp.clip(place, 1, points.size - 1)

    cell, _ = locate(jnp.asarray(WIDE), (points[place] + points[place - 1]) / 2)
    ends = jnp.asarray(WIDE)[cell], jnp.asarray(WIDE)[cell + 1]
    middle, half = (ends[0] + ends[1]) / 2, (ends[1] - ends[0]) / 2
    coefficients = table.edge_bias[cell]

    def step(log_q: Array) -> tuple[Array, Array]:
        """Return log(σb²(q)/σb²) and its slope; below 0, as far as is known, where σb²(q) < 0."""
        e, slope = series_and_slope(coefficients, (log_q - middle) / half)
        positive = e > 0
        decay = table.edge_rate * jnp.exp(-log_q)
        value = log_q - decay + jnp.log(jnp.where(positive, e, 1.0)) - jnp.log(wanted)
        slope = 1 + decay + slope / e / half
        return jnp.where(positive, value, -1.0), jnp.where(positive, slope, 0.0)

    log_q, _ = newton(step, points[place - 1], points[place])
    # Rough cells before this one may have hidden that the root is there.
    closed = (jnp.abs(step(log_q)[0]) <= RESIDUAL) & table.edge_certified[cell]
    return jnp.where(found, jnp.exp(log_q), jnp.nan), found, passed & (closed | ~found)


@jax.jit
def _read(table: Table, q: Array) -> tuple[Array, Array]:
    return table.read(table.slope_moment, q), table.read(table.variance_slope, q)


@elementwise(host=True)
def _slopes(phi: Activation, q: ScalarLike) -> tuple[Array, Array]:
    return phi.slope_moment(q, 2), phi.variance_slope(q)


def edges(phi: Activation, sigma_b: np.ndarray) -> Edge:
    """Return the edge for a vector of σb > 0 and as many activations, or one.

    Cells of a table are made from the least σb² upwards, until all networks have been found.
    """
    kinds, width, height = families(phi, sigma_b.size)

    def solve(kind: Family) -> Edge:
        at = kind.places
        return _of_family(kind.one, width[at], height[at], sigma_b[at])

    # The first compiles, before any thread starts.
    first = solve(kinds[0])
    with ThreadPoolExecutor(threads()) as pool:
        parts = [first, *pool.map(solve, kinds[1:])]
    return joined(kinds, parts)


def _of_family(one: Activation, width: np.ndarray, height: np.ndarray, sigma_b: np.ndarray) -> Edge:
    wanted = np.square(sigma_b / width)
    first, last = int(group_of(wanted.min())), 0
    for group in range(first, GROUPS):
        last = group + 1
        # The last point of the grid in this group: the end itself belongs to the next.
        if rough_bias(one, group, 1 - 2 / POINTS) >= wanted.max():
            break
    table = table_of(one, edge=range(first, last))
    length = SHORT if wanted.size <= SHORT else LONG
    unit, found, sure = in_pieces(lambda part: critical_variances(table, part), wanted, length)

    q = np.where(found, unit, 1.0)
    groups = np.unique(group_of(q))
    if groups.size * PIECE < q.size:
        table = table_of(one, moments=map(int, groups))
        mean, slope = in_pieces(lambda part: _read(table, part), q, length)
    else:
        mean, slope = (np.asarray(x) for x in _slopes(one, q))
    values = width**2 * q, (height / width) ** 2 * mean, slope / mean
    known = sure & np.isfinite(values).all(axis=0) & (values[1] > 0)
    status = np.where(found, Status.OK, Status.NO_SOLUTION).astype("int8")
    return Edge(*(np.where(found, x, np.nan) for x in values), status=status, sure=known)
