"""Roots of a function of one variable: scan for a bracket, then close it.

`close_bracket` is Chandrupatla's method [1]: inverse quadratic interpolation where it is safe,
bisection elsewhere; it never leaves the bracket. `implicit` then attaches the derivative of
the implicit function theorem, in forward and in reverse mode.

References
----------
[1] T. R. Chandrupatla, A new hybrid quadratic/bisection algorithm for finding the zero of a
    nonlinear function, Adv. Eng. Software 28 (1997) 145-149.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from meanfield._struct import struct
from meanfield.typing import Array, ScalarLike

MAX_STEPS = 120


@struct
class Bracket:
    """An interval, and the values of opposite sign that a function has at its ends."""

    low: Array
    high: Array
    f_low: Array
    f_high: Array


def scan(
    f: Callable[[Array], Array], start: ScalarLike, step: ScalarLike, count: int | Array
) -> tuple[Bracket, Array, Array]:
    """Return where f first changes sign on start, start + step, ..., start + count·step.

    Beside the bracket: whether there is one, and whether f was NaN at a point that was tried. A
    cell with a NaN at either end is passed over. Points beyond the first change cost nothing.
    """
    start, step = (jax.lax.stop_gradient(jnp.asarray(x, dtype=float)) for x in (start, step))

    def changed(low: Array, high: Array) -> Array:
        return ((low < 0) != (high < 0)) & ~(jnp.isnan(low) | jnp.isnan(high))

    def searching(state: tuple[Array, ...]) -> Array:
        i, low, high, _ = state
        return ~changed(low, high) & (i < count)

    def advance(state: tuple[Array, ...]) -> tuple[Array, ...]:
        i, _, high, blind = state
        value = f(start + (i + 1) * step)
        return i + 1, high, value, blind | jnp.isnan(value)

    # The first turn evaluates f(start): a NaN before it cannot change sign with it.
    nothing = jnp.full((), jnp.nan)
    first = (jnp.full((), -1), nothing, nothing, jnp.zeros((), bool))
    i, low, high, blind = jax.lax.while_loop(searching, advance, jax.lax.stop_gradient(first))
    return Bracket(start + (i - 1) * step, start + i * step, low, high), changed(low, high), blind


def close_bracket(f: Callable[[Array], Array], bracket: Bracket) -> Array:
    """Return the root of f in the bracket; NaN where f is NaN on the way. Not differentiable.

    The values at the ends guide the interpolation: right signs suffice.
    """
    tolerance = 2 * jnp.finfo(float).eps

    def width(a: Array, b: Array) -> Array:
        scale = jnp.maximum(jnp.abs(a), jnp.abs(b)) + jnp.finfo(float).tiny
        return tolerance * scale / jnp.abs(b - a)

    def unfinished(state: tuple[Array, ...]) -> Array:
        steps, a, b, fa, fb, _ = state
        return (width(a, b) < 1) & (fa != 0) & (fb != 0) & (steps < MAX_STEPS) & ~jnp.isnan(fa)

    def step(state: tuple[Array, ...]) -> tuple[Array, ...]:
        steps, a, b, fa, fb, t = state
        x = a + t * (b - a)
        fx = f(x)
        same = jnp.sign(fx) == jnp.sign(fa)
        c, fc = jnp.where(same, a, b), jnp.where(same, fa, fb)
        b, fb = jnp.where(same, b, a), jnp.where(same, fb, fa)
        a, fa = x, fx
        xi, phi = (a - b) / (c - b), (fa - fb) / (fc - fb)
        safe = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi)
        t = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
        margin = jnp.minimum(0.5, 0.5 * width(a, b))
        t = jnp.clip(jnp.where(safe & jnp.isfinite(t), t, 0.5), margin, 1 - margin)
        return steps + 1, a, b, fa, fb, t

    ends = (bracket.low, bracket.high, bracket.f_low, bracket.f_high)
    state = jax.lax.stop_gradient((jnp.zeros((), int), *ends, jnp.full((), 0.5)))
    _, a, b, fa, fb, _ = jax.lax.while_loop(unfinished, step, state)
    root = jnp.where(jnp.isnan(fa), jnp.nan, jnp.where(jnp.abs(fa) < jnp.abs(fb), a, b))
    return jax.lax.stop_gradient(root)


def implicit(root: Array, residual: Array, slope: Array) -> Array:
    """Return `root` with the derivative -∂f/∂θ / f', given residual f(root; θ) and slope f'.

    `residual` must be evaluated at a root that is constant (`jax.lax.stop_gradient`). A zero
    slope, where the theorem does not apply, gives a zero derivative.
    """
    slope = jax.lax.stop_gradient(slope)
    step = residual / jnp.where(slope == 0, jnp.inf, slope)
    return root - (step - jax.lax.stop_gradient(step))
