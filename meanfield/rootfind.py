"""Roots of functions of one variable: scan for brackets, then close them.

`close_brackets` is Chandrupatla's method [1]: inverse quadratic interpolation where it is safe,
bisection elsewhere; it never leaves a bracket. All this is done with numbers, for many functions at
once; `implicit` attaches the derivatives of the implicit function theorem to a root, of any order,
in forward and in reverse mode.

References
----------
[1] T. R. Chandrupatla, A new hybrid quadratic/bisection algorithm for finding the zero of a
    nonlinear function, Adv. Eng. Software 28 (1997) 145-149.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.typing import Array

MAX_STEPS = 120
# Points of a grid that are looked at together.
POINTS = 16
# A value that has a sign and nothing else.
TINY = 1e-280


Equation = Callable[[Array, Any], Array]


def implicit(
    f: Equation, root: Array, arguments: Any, slope: Equation | None = None, flat: float = 0.0
) -> Array:
    """Return the `root` x of f(x, arguments) = 0 with its derivatives in the arguments.

    By the implicit function theorem they are -∂f/∂arguments / f', of any order: the derivative is
    evaluated at a root that has derivatives itself. f must use no traced numbers but its own
    arguments; `slope` is f', where that is known better than by differentiating f. A slope of at
    most `flat` in size, where the theorem does not apply, gives a zero derivative.
    """
    return _root(f, slope or _slope_of(f), flat, jax.lax.stop_gradient(root), arguments)


def _slope_of(f: Equation) -> Equation:
    return lambda x, arguments: jax.jvp(lambda x: f(x, arguments), (x,), (jnp.ones_like(x),))[1]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _root(_f: Equation, _slope: Equation, _flat: float, root: Array, _arguments: Any) -> Array:
    return root


@_root.defjvp
def _implicitly(
    f: Equation, slope: Equation, flat: float, primals: Any, tangents: Any
) -> tuple[Array, Array]:
    (root, arguments), (_, steps) = primals, tangents
    x = _root(f, slope, flat, root, arguments)
    moved = jax.jvp(lambda arguments: f(x, arguments), (arguments,), (steps,))[1]
    steepness = slope(x, arguments)
    return x, -moved / jnp.where(jnp.abs(steepness) <= flat, jnp.inf, steepness)


@dataclasses.dataclass(frozen=True)
class Root:
    """A root, and whether the function touches 0 there without changing its sign."""

    at: float
    double: bool = False


def all_roots(
    f: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], grid: np.ndarray, tolerance: float
) -> list[Root]:
    """Return the roots of f between the first and last point of an ascending grid, in order.

    f returns its values and slopes at an array of points. Where these show that f turns round
    within a cell before it reaches 0, the turning point is solved for: so both roots in one cell
    are found, or, where |f| there is at most `tolerance`, their limit, a double root. A cell with
    a NaN at either end is passed over.
    """

    def closed(part: int, low: np.ndarray, high: np.ndarray, *ends: np.ndarray) -> np.ndarray:
        return close_brackets(lambda _, t: f(t)[part], low, high, *ends)

    values, slopes = (np.asarray(x) for x in f(grid))
    low, high = values[:-1], values[1:]
    with np.errstate(invalid="ignore"):
        turns = (low * high > 0) & (low * slopes[:-1] < 0) & (high * slopes[1:] > 0)
    cells = np.flatnonzero(turns)
    at = closed(1, grid[cells], grid[cells + 1], slopes[cells], slopes[cells + 1])
    heights = f(at)[0] if at.size else at
    touches = np.abs(heights) <= tolerance
    doubles = [Root(float(t), double=True) for t in at[touches]]
    points = np.concatenate([grid, at[~touches]])
    order = np.argsort(points)
    points, heights = points[order], np.concatenate([values, heights[~touches]])[order]
    low, high = heights[:-1], heights[1:]
    crosses = ((low < 0) != (high < 0)) & ~(np.isnan(low) | np.isnan(high))
    i = np.flatnonzero(crosses)
    simple = closed(0, points[i], points[i + 1], heights[i], heights[i + 1])
    return sorted([*(Root(float(t)) for t in simple), *doubles], key=lambda root: root.at)


def sign_changes(
    f: Callable[[np.ndarray], np.ndarray], grid: np.ndarray, values: np.ndarray, visible: float
) -> np.ndarray:
    """Return where f, known on an ascending grid, changes its sign; between ±visible it is 0."""
    there = np.flatnonzero(np.abs(values) > visible)
    changes = [
        (i, j)
        for i, j in itertools.pairwise(there)
        if (values[i] < 0) != (values[j] < 0) and not np.isnan(values[i : j + 1]).any()
    ]
    i, j = np.array(changes, dtype=int).reshape(-1, 2).T
    return close_brackets(lambda _, t: f(t), grid[i], grid[j], values[i], values[j])


def close_brackets(
    f: Callable[[np.ndarray, np.ndarray], np.ndarray],
    low: np.ndarray,
    high: np.ndarray,
    f_low: np.ndarray,
    f_high: np.ndarray,
) -> np.ndarray:
    """Return the roots of functions of numbers in their brackets.

    The values at the ends guide the interpolation: right signs suffice. f(places, x) returns the
    values of the functions at some places of the vectors. A root is NaN where its function is NaN
    on the way.
    """
    eps = np.finfo(float).eps
    a, b, f_a, f_b = (np.array(v, dtype=float) for v in (low, high, f_low, f_high))
    t = np.full(a.shape, 0.5)
    going = np.ones(a.shape, dtype=bool)
    with np.errstate(all="ignore"):
        for _ in range(MAX_STEPS):
            scale = np.maximum(np.abs(a), np.abs(b)) + np.finfo(float).tiny
            width = 2 * eps * scale / np.abs(b - a)
            going &= ~((f_a == 0) | (f_b == 0) | (width >= 1) | np.isnan(f_a))
            at = np.flatnonzero(going)
            if not at.size:
                break
            x = a[at] + t[at] * (b[at] - a[at])
            f_x = f(at, x)
            same = np.sign(f_x) == np.sign(f_a[at])
            c, f_c = np.where(same, a[at], b[at]), np.where(same, f_a[at], f_b[at])
            b[at], f_b[at] = np.where(same, b[at], a[at]), np.where(same, f_b[at], f_a[at])
            a[at], f_a[at] = x, f_x
            xi, phi = (x - b[at]) / (c - b[at]), (f_x - f_b[at]) / (f_c - f_b[at])
            safe = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi)
            guess = f_x / (f_b[at] - f_x) * f_c / (f_b[at] - f_c)
            guess += (c - x) / (b[at] - x) * f_x / (f_c - f_x) * f_b[at] / (f_c - f_b[at])
            scale = np.maximum(np.abs(a[at]), np.abs(b[at])) + np.finfo(float).tiny
            margin = np.minimum(0.5, eps * scale / np.abs(b[at] - a[at]))
            guess = np.where(safe & np.isfinite(guess), guess, 0.5)
            t[at] = np.clip(guess, margin, 1 - margin)
        nearer = np.where(np.abs(f_a) < np.abs(f_b), a, b)
        return np.where(np.isnan(f_a) | np.isnan(f_b), np.nan, nearer)


class Scanned(NamedTuple):
    """Brackets of the first roots of functions of numbers on a grid, and what was seen before."""

    low: np.ndarray
    high: np.ndarray
    f_low: np.ndarray
    f_high: np.ndarray
    found: np.ndarray
    blind: np.ndarray
    """Whether the function was NaN at a point that was tried."""
    gap: np.ndarray
    """Whether it was known again at a point behind one at which it was NaN."""
    last: np.ndarray
    """The values at the last points that were tried, one row each, NaN left out."""
    last_slopes: np.ndarray
    """The slopes there."""


def scan_all(
    f: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    start: np.ndarray,
    step: np.ndarray,
    count: np.ndarray,
    tolerance: float = 0.0,
) -> Scanned:
    """Return where functions first change their sign on start, start + step, ... in count steps.

    f(places, x) returns the values, and slopes, of the functions at some places at points of shape
    (places, points). A cell with a NaN at either end is passed over. A cell in which a function
    turns round before it reaches 0 is looked into: where it is beyond 0 at the turning point, or
    within `tolerance` of it, the bracket ends there.
    """
    size = start.size
    low, high, f_low, f_high = (np.full(size, np.nan) for _ in range(4))
    found, blind = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
    gap = np.zeros(size, dtype=bool)
    last, last_slopes = (np.full((size, POINTS), np.nan) for _ in range(2))
    end, f_end, tilt_end = start.copy(), np.full(size, np.nan), np.full(size, np.nan)
    for first in range(0, max(int(count.max(initial=-1)) + 1, 0), POINTS):
        at = np.flatnonzero(~found & (first <= count))
        if not at.size:
            break
        points = first + np.arange(POINTS)
        x = start[at, None] + points * step[at, None]
        values, tilts = f(at, x)
        beyond = points > count[at, None]
        values = np.where(beyond, np.nan, values)
        blind_here = np.isnan(values) & ~beyond
        x = np.concatenate([end[at, None], x], axis=1)
        values = np.concatenate([f_end[at, None], values], axis=1)
        tilts = np.concatenate([tilt_end[at, None], tilts], axis=1)
        one, two = values[:, :-1], values[:, 1:]
        with np.errstate(all="ignore"):
            crosses = ((one < 0) != (two < 0)) & ~np.isnan(one) & ~np.isnan(two)
            turns = (one * two > 0) & (one * tilts[:, :-1] * step[at, None] < 0)
            turns &= two * tilts[:, 1:] * step[at, None] > 0
        for row, cell in zip(*np.nonzero(turns & ~_after(crosses)), strict=True):
            # It turns round before it reaches 0: there it may be beyond.
            place = at[row : row + 1]
            middle = close_brackets(
                lambda _, x, place=place: f(place, x[:, None])[1][:, 0],
                x[row, cell : cell + 1],
                x[row, cell + 1 : cell + 2],
                tilts[row, cell : cell + 1],
                tilts[row, cell + 1 : cell + 2],
            )
            height = f(place, middle[:, None])[0][0, 0]
            if height * one[row, cell] <= 0 or abs(height) <= tolerance:
                x[row, cell + 1], two[row, cell] = middle[0], -np.copysign(TINY, one[row, cell])
                crosses[row, cell] = True
        hit = crosses.any(axis=1)
        cell = crosses.argmax(axis=1)
        rows = np.arange(at.size)
        low[at], high[at] = x[rows, cell], x[rows, cell + 1]
        f_low[at], f_high[at] = one[rows, cell], two[rows, cell]
        found[at] = hit
        seen = ~hit[:, None] | (np.arange(POINTS) <= cell[:, None])
        blind_before = blind[at, None] | (np.cumsum(blind_here, axis=1) > 0)
        gap[at] |= (blind_before & ~np.isnan(two) & seen).any(axis=1)
        blind[at] |= (blind_here & seen).any(axis=1)
        end[at], f_end[at], tilt_end[at] = x[:, -1], values[:, -1], tilts[:, -1]
        known = np.isfinite(two).any(axis=1, keepdims=True)
        last[at] = np.where(known, two, last[at])
        last_slopes[at] = np.where(known, tilts[:, 1:], last_slopes[at])
    nothing = ~found
    for part in (low, high, f_low, f_high):
        part[nothing] = np.nan
    return Scanned(low, high, f_low, f_high, found, blind, gap, last, last_slopes)


def _after(crosses: np.ndarray) -> np.ndarray:
    """Return which cells lie behind the first crossing of their row."""
    return np.cumsum(crosses, axis=1) > 0
