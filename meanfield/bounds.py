"""What does the scaled-bounded theorem promise, and does it hold?

Let φ be scaled-bounded (continuous, odd, φ(x) = k x on [-a, a], |φ| ≤ a k, |φ'| ≤ k) and the
network critical at variance q* with biases of variance σb² > 0. With y = σb²/a², Theorem 2.1
and Lemma 3.4 of [1] say

    (23)   Λ(y) < a/√q* < (8/π)^(1/6) y^(-1/3),
    (15)   max over ρ in [0, 1] of |R(ρ) - ρ| < (8/π)^(1/3) y^(1/3),
    (16)   |μ2/μ1² - 1| ≤ erf(Λ(y)/√2)^(-2) - 1,

where, W being the principal Lambert function and ω = W(2/(π y²)),

    Λ(y) = √W(ω e^ω/(ω + 2)²).

The proof gives more than it states. With x = a/√q*, these are the sharp versions:

    x ≥ x_S(y),    the root of √(2/π) e^(-x²/2)/x = y + (1 - y) erfc(x/√2)    (equality: shtanh)
    x ≤ U(y),      the root of y x² = erfc(x/√2) + √(2/π) x e^(-x²/2)
    max |R(ρ) - ρ| = R(0) = y x² ≤ y U(y)²  on [0, 1],   and 2 y x² = R(-1) + 1  on [-1, 1],
    1 ≤ μ2/μ1² ≤ 1/erf(x/√2) ≤ 1/erf(x_S/√2)

The statement on negative correlations, a conjecture in [1], follows from |R'| ≤ 1: by
Cauchy-Schwarz R(ρ) - ρ does not increase on [-1, 1], and R is odd up to 2σb²/q*. All equations are
solved in logarithms, so y may run from 1e-300 to 1e8.

References
----------
[1] M. Murray, V. Abrol, J. Tanner, Activation function design for deep networks:
    linearity and effective initialisation, arXiv:2105.07741 (2021).
"""

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._elementwise import elementwise
from meanfield._struct import struct
from meanfield.rootfind import Equation, implicit
from meanfield.typing import Array, ScalarLike

NEWTON_STEPS = 12
# They take an interval of logarithms of numbers down to rounding.
HALVINGS = 65
# From here on the asymptotic series of erfc(x/√2) has the digits of double precision.
TAIL, TAIL_TERMS = 15.0, 16
RANGE = (lambda y: (y >= 1e-300) & (y <= 1e100), "a number from 1e-300 to 1e100")


@struct
class ScaledBoundedTheorem:
    """The bounds at one y, as printed and (`sharp_`) as the proof allows."""

    ratio_lower: Array
    """Λ(y) < a/√q*."""
    ratio_upper: Array
    """a/√q* < (8/π)^(1/6) y^(-1/3)."""
    correlation: Array
    """The bound (15) on max |R(ρ) - ρ| over [0, 1]."""
    moment_ratio: Array
    """The bound (16) on μ2/μ1² - 1."""
    sharp_ratio_lower: Array
    """x_S(y) ≤ a/√q*, with equality for shtanh."""
    sharp_ratio_upper: Array
    """a/√q* ≤ U(y)."""
    sharp_correlation: Array
    """y U(y)² ≥ max |R(ρ) - ρ| over [0, 1]; twice that over [-1, 1]."""
    sharp_moment_ratio: Array
    """1/erf(x_S/√2) - 1 ≥ μ2/μ1² - 1."""


@elementwise(y=RANGE)
def scaled_bounded(y: ScalarLike) -> ScaledBoundedTheorem:
    """Return the bounds of the theorem at y = σb²/a². Broadcasts; differentiable in y."""
    log_y = jnp.log(y)
    lower = _lambda(log_y)
    upper = (8 / np.pi) ** (1 / 6) * jnp.exp(-log_y / 3)
    shtanh = _solve(_shtanh_excess, log_y, lower, upper)
    widest = _solve(_widest_excess, log_y, lower, upper)
    return ScaledBoundedTheorem(
        ratio_lower=lower,
        ratio_upper=upper,
        correlation=(8 / np.pi) ** (1 / 3) * jnp.exp(log_y / 3),
        moment_ratio=_inverse_erf_excess(lower, 2),
        sharp_ratio_lower=shtanh,
        sharp_ratio_upper=widest,
        sharp_correlation=jnp.exp(log_y + 2 * jnp.log(widest)),
        sharp_moment_ratio=_inverse_erf_excess(shtanh, 1),
    )


def lambert_w(log_z: Array) -> Array:
    """Return W(z) for z = exp(log_z) > 0 of any size: Newton's method on w + log w = log z."""

    def newton(_: int, log_w: Array) -> Array:
        w = jnp.exp(log_w)
        return log_w - (w + log_w - log_z) / (w + 1)

    start = jnp.where(log_z > 1, jnp.log(jnp.maximum(log_z, 1.0)), log_z)
    log_w = jax.lax.fori_loop(0, NEWTON_STEPS, newton, jax.lax.stop_gradient(start))
    return jnp.exp(implicit(lambda t, log_z: jnp.exp(t) + t - log_z, log_w, log_z))


def _lambda(log_y: Array) -> Array:
    omega = lambert_w(np.log(2 / np.pi) - 2 * log_y)
    return jnp.sqrt(lambert_w(omega + jnp.log(omega) - 2 * jnp.log(omega + 2)))


def _log_erfc(x: Array) -> Array:
    """Return log erfc(x/√2)."""
    # Far out, where JAX has three terms of it, by the series erfc(x/√2) = √(2/π) e^(-x²/2)/x
    # (1 - 1/x² + 3/x⁴ - 15/x⁶ ...).
    far = jnp.maximum(x, TAIL)
    series = jnp.ones_like(far)
    for k in range(2 * TAIL_TERMS - 1, 0, -2):
        series = 1 - k / jnp.square(far) * series
    tail = 0.5 * np.log(2 / np.pi) - jnp.square(far) / 2 - jnp.log(far) + jnp.log(series)
    near = np.log(2.0) + jax.scipy.special.log_ndtr(-jnp.minimum(x, TAIL))
    return jnp.where(x > TAIL, tail, near)


def _inverse_erf_excess(x: Array, power: int) -> Array:
    """Return erf(x/√2)^(-power) - 1 without cancellation."""
    tail = jnp.exp(_log_erfc(x))
    log_erf = jnp.where(
        tail < 0.5, jnp.log1p(-tail), jnp.log(jax.scipy.special.erf(x / np.sqrt(2)))
    )
    return jnp.expm1(-power * log_erf)


def _solve(f: Equation, log_y: Array, lower: Array, upper: Array) -> Array:
    """Return the root in log x of a decreasing f(log x, log y) between two bounds on x."""
    ends, still = jax.lax.stop_gradient(((jnp.log(lower) - 0.1, jnp.log(upper) + 0.1), log_y))

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = low + (high - low) / 2
        below = f(middle, still) > 0
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    low, high = jax.lax.fori_loop(0, HALVINGS, halve, ends)
    return jnp.exp(implicit(f, low + (high - low) / 2, log_y))


def _shtanh_excess(t: Array, log_y: Array) -> Array:
    x = jnp.exp(t)
    left = 0.5 * np.log(2 / np.pi) - x * x / 2 - t
    # y + (1 - y) erfc = y erf + erfc, a sum of positive terms.
    log_erf = jnp.log(jax.scipy.special.erf(x / np.sqrt(2)))
    return left - jnp.logaddexp(log_y + log_erf, _log_erfc(x))


def _widest_excess(t: Array, log_y: Array) -> Array:
    x = jnp.exp(t)
    right = jnp.logaddexp(_log_erfc(x), 0.5 * np.log(2 / np.pi) + t - x * x / 2)
    return right - log_y - 2 * t
