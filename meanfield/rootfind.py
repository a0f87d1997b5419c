"""Roots of a function of one variable: find a bracket on a grid, then close it.

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
from meanfield.typing import Array

MAX_STEPS = 120


@struct
class Bracket:
    """An interval, and the values of opposite sign that a function has at its ends."""

    low: Array
    high: Array
    f_low: Array
    f_high: Array


def first_bracket(grid: Array, values: Array) -> tuple[Bracket, Array]:
    """Return the first cell of a grid in which a function changes sign, and if there is one.

    A cell with a value that is not a number at either end is passed over.
    """
    usable = ~(jnp.isnan(values[:-1]) | jnp.isnan(values[1:]))
    found = ((values[:-1] < 0) != (values[1:] < 0)) & usable
    i = jnp.argmax(found)
    return Bracket(grid[i], grid[i + 1], values[i], values[i + 1]), found.any()


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
