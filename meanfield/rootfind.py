"""Roots of a function of one variable: scan for a bracket, then close it.

`close_bracket` is Chandrupatla's method [1]: inverse quadratic interpolation where it is safe,
bisection elsewhere; it never leaves the bracket. `implicit` then attaches the derivatives of
the implicit function theorem, of any order, in forward and in reverse mode. `all_roots` works
outside JAX's compiler, on a function that returns its slope too: so it finds double roots.

References
----------
[1] T. R. Chandrupatla, A new hybrid quadratic/bisection algorithm for finding the zero of a
    nonlinear function, Adv. Eng. Software 28 (1997) 145-149.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._struct import struct
from meanfield.typing import Array, ScalarLike

MAX_STEPS = 120
# A value that has a sign and nothing else.
TINY = 1e-280


@struct
class Bracket:
    """An interval, and the values of opposite sign that a function has at its ends."""

    low: Array
    high: Array
    f_low: Array
    f_high: Array


def scan(
    f: Callable[[Array], Array],
    start: ScalarLike,
    step: ScalarLike,
    count: int | Array,
    slope: Callable[[Array], Array] | None = None,
    tolerance: float = 0.0,
) -> tuple[Bracket, Array, Array]:
    """Return where f first changes sign on start, start + step, ..., start + count·step.

    Beside the bracket: whether there is one, and whether f was NaN at a point that was tried. A
    cell with a NaN at either end is passed over. Points beyond the first change cost nothing.

    Given the `slope` of f, a cell in which f turns round before it reaches 0 is looked into: where
    f is beyond 0 at the turning point, or within `tolerance` of it, the bracket ends there.
    """
    start, step = (jax.lax.stop_gradient(jnp.asarray(x, dtype=float)) for x in (start, step))

    def turning(
        at: Array, end: Array, low: Array, high: Array, tilt: Array, tilt_end: Array
    ) -> tuple[Array, Array]:
        def look() -> tuple[Array, Array]:
            assert slope is not None
            middle = close_bracket(slope, Bracket(at, end, tilt, tilt_end))
            value = f(middle)
            beyond = _changed(low, value) | (jnp.abs(value) <= tolerance)
            return jnp.where(beyond, middle, end), jnp.where(beyond, -jnp.copysign(TINY, low), high)

        turns = (low * high > 0) & (low * tilt * step < 0) & (high * tilt_end * step > 0)
        return jax.lax.cond(turns, look, lambda: (end, high))

    def searching(state: tuple[Array, ...]) -> Array:
        i, _, _, low, high, _, _ = state
        return ~_changed(low, high) & (i < count)

    def advance(state: tuple[Array, ...]) -> tuple[Array, ...]:
        i, _, at, _, low, tilt, blind = state
        end = start + (i + 1) * step
        high = f(end)
        blind = blind | jnp.isnan(high)
        if slope is None:
            return i + 1, at, end, low, high, tilt, blind
        tilt_end = slope(end)
        stop, value = turning(at, end, low, high, tilt, tilt_end)
        return i + 1, at, stop, low, value, tilt_end, blind

    # The first turn evaluates f(start): a NaN before it cannot change sign with it.
    nothing = jnp.full((), jnp.nan)
    first = (jnp.full((), -1), *[nothing] * 5, jnp.zeros((), bool))
    _, at, end, low, high, _, blind = jax.lax.while_loop(
        searching, advance, jax.lax.stop_gradient(first)
    )
    return Bracket(at, end, low, high), _changed(low, high), blind


@struct
class Chandrupatla:
    """The iteration [1]: the root lies between a and b, and a + t (b - a) is looked at next."""

    steps: Array
    a: Array
    b: Array
    f_a: Array
    f_b: Array
    t: Array

    @classmethod
    def of(cls, a: Array, b: Array, f_a: Array, f_b: Array) -> "Chandrupatla":
        """Return the iteration before its first step."""
        return cls(jnp.zeros((), int), a, b, f_a, f_b, jnp.full((), 0.5))

    @property
    def next(self) -> Array:
        return self.a + self.t * (self.b - self.a)

    @property
    def going(self) -> Array:
        """Whether the root is not known to rounding yet."""
        known = (self.f_a == 0) | (self.f_b == 0) | (self._width() >= 1)
        return ~known & (self.steps < MAX_STEPS) & ~jnp.isnan(self.f_a)

    @property
    def root(self) -> Array:
        nearer = jnp.where(jnp.abs(self.f_a) < jnp.abs(self.f_b), self.a, self.b)
        return jnp.where(jnp.isnan(self.f_a), jnp.nan, nearer)

    def _width(self) -> Array:
        """Return what is rounding, as a part of the distance of a and b."""
        scale = jnp.maximum(jnp.abs(self.a), jnp.abs(self.b)) + jnp.finfo(float).tiny
        return 2 * jnp.finfo(float).eps * scale / jnp.abs(self.b - self.a)

    def after(self, x: Array, f_x: Array) -> "Chandrupatla":
        """Return the iteration after f has been found at x, its `next`."""
        same = jnp.sign(f_x) == jnp.sign(self.f_a)
        b, f_b = jnp.where(same, self.b, self.a), jnp.where(same, self.f_b, self.f_a)
        c, f_c = jnp.where(same, self.a, self.b), jnp.where(same, self.f_a, self.f_b)
        new = Chandrupatla(self.steps + 1, x, b, f_x, f_b, self.t)
        xi, phi = (x - b) / (c - b), (f_x - f_b) / (f_c - f_b)
        safe = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi)
        t = f_x / (f_b - f_x) * f_c / (f_b - f_c)
        t += (c - x) / (b - x) * f_x / (f_c - f_x) * f_b / (f_c - f_b)
        margin = jnp.minimum(0.5, 0.5 * new._width())
        t = jnp.clip(jnp.where(safe & jnp.isfinite(t), t, 0.5), margin, 1 - margin)
        return replace(new, t=t)


def close_bracket(f: Callable[[Array], Array], bracket: Bracket) -> Array:
    """Return the root of f in the bracket; NaN where f is NaN on the way. Not differentiable.

    The values at the ends guide the interpolation: right signs suffice.
    """
    start = Chandrupatla.of(bracket.low, bracket.high, bracket.f_low, bracket.f_high)
    last = jax.lax.while_loop(
        lambda state: state.going,
        lambda state: state.after(state.next, f(state.next)),
        jax.lax.stop_gradient(start),
    )
    return jax.lax.stop_gradient(last.root)


def first_root(
    f: Callable[[Array], Array], start: ScalarLike, step: ScalarLike, count: int | Array
) -> tuple[Array, Array, Array]:
    """Return the root at which f first changes sign on start, start + step, ..., or NaN.

    It is `close_bracket` of what `scan` finds in `count` steps, in one loop: f is compiled once.
    Beside the root: whether there is one, and whether f was NaN at a point that was tried.
    """
    start, step = (jax.lax.stop_gradient(jnp.asarray(x, dtype=float)) for x in (start, step))

    def going(state: tuple[Array, Array, Chandrupatla, Array]) -> Array:
        i, closing, bracket, _ = state
        return jnp.where(closing, bracket.going, i < count)

    def advance(state: tuple[Array, Array, Chandrupatla, Array]) -> tuple[Any, ...]:
        i, closing, bracket, blind = state
        x = jnp.where(closing, bracket.next, start + (i + 1) * step)
        f_x = f(x)
        found = _changed(bracket.f_a, f_x)
        ahead = jnp.where(found, bracket.a, x), x, jnp.where(found, bracket.f_a, f_x), f_x
        bracket = jax.tree.map(
            lambda one, other: jnp.where(closing, one, other),
            bracket.after(x, f_x),
            Chandrupatla.of(*ahead),
        )
        return i + ~closing, closing | found, bracket, blind | (~closing & jnp.isnan(f_x))

    nothing = jnp.full((), jnp.nan)
    no = jnp.zeros((), bool)
    # The first turn evaluates f(start): a NaN before it cannot change sign with it.
    first = (jnp.full((), -1), no, Chandrupatla.of(*[nothing] * 4), no)
    _, closing, bracket, blind = jax.lax.while_loop(going, advance, first)
    root = jnp.where(closing, bracket.root, jnp.nan)
    return jax.lax.stop_gradient(root), closing, blind


def _changed(low: Array, high: Array) -> Array:
    return ((low < 0) != (high < 0)) & ~(jnp.isnan(low) | jnp.isnan(high))


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

    def value(t: float) -> float:
        return float(f(np.array([t]))[0][0])

    def slope(t: float) -> float:
        return float(f(np.array([t]))[1][0])

    values, slopes = (np.asarray(x) for x in f(grid))
    low, high = values[:-1], values[1:]
    with np.errstate(invalid="ignore"):
        turns = (low * high > 0) & (low * slopes[:-1] < 0) & (high * slopes[1:] > 0)
    doubles, points, heights = [], list(grid), list(values)
    for cell in np.flatnonzero(turns):
        at = _close(slope, grid[cell], grid[cell + 1])
        height = value(at)
        if abs(height) <= tolerance:
            doubles.append(Root(at, double=True))
        else:
            points.append(at)
            heights.append(height)
    order = np.argsort(points)
    points, heights = np.asarray(points)[order], np.asarray(heights)[order]
    low, high = heights[:-1], heights[1:]
    crosses = ((low < 0) != (high < 0)) & ~(np.isnan(low) | np.isnan(high))
    simple = [Root(_close(value, points[i], points[i + 1])) for i in np.flatnonzero(crosses)]
    return sorted([*simple, *doubles], key=lambda root: root.at)


def sign_changes(
    f: Callable[[float], float], grid: np.ndarray, values: np.ndarray, visible: float
) -> list[float]:
    """Return where f, known on an ascending grid, changes its sign; between ±visible it is 0."""
    there = np.flatnonzero(np.abs(values) > visible)
    changes = [
        (i, j)
        for i, j in itertools.pairwise(there)
        if (values[i] < 0) != (values[j] < 0) and not np.isnan(values[i : j + 1]).any()
    ]
    return [_close(f, grid[i], grid[j]) for i, j in changes]


def _close(f: Callable[[float], float], low: float, high: float) -> float:
    """Return the root of f in a bracket to rounding."""
    # A third of a second to import, and most questions do not need it.
    from scipy.optimize import brentq

    # log(V/q) may be infinite at one end: it has a sign, and that is what counts.
    def bounded(t: float) -> float:
        return float(np.clip(f(t), -1e300, 1e300))

    root: Any = brentq(bounded, low, high, xtol=1e-15, rtol=4 * np.finfo(float).eps)
    return float(root)
