"""E (s φ(u1) - t φ(u2))²/2 of many pairs of unequal variances, in kernels that are compiled.

A smooth φ is evaluated on an even grid. Of a piecewise linear φ with kinks d, where φ' jumps by Δ,
one dimension does: with c = 1 - ε = cos θ,

    E (s φ(u1) - t φ(u2))² = E (s φ(√q1 z) - t φ(√q2 z))²
                             + 2st√(q1 q2) ε (E φ'(√q1 z) φ'(√q2 z) - L),

where φ is straight between kinks, so that no term need be a difference of large numbers. By
Price's theorem [1]

    L = ∫ ψ(τ) (cos τ - cos θ)/(1 - cos θ) dτ over [0, θ],
    ψ(τ) = (1/2π) Σ_ij Δ_i Δ_j exp(-[(x_i - y_j)²/sin²(τ/2) + (x_i + y_j)²/cos²(τ/2)]/8)

with x = d/√q1 and y = d/√q2. Kinks are data: one kernel serves all φ that have as many.

References
----------
[1] R. L. Plackett, A reduction formula for normal multivariate integrals, Biometrika 41 (1954)
    351-360.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._struct import Whole, struct
from meanfield.gaussian import TINY, Pair, line_rule, normal_density
from meanfield.panels import places
from meanfield.quadrature import Sums, line_sums, panel, plane_sums
from meanfield.sampled import Sampled
from meanfield.typing import Array, ScalarLike

Numbers = Array | np.ndarray

# Nodes a side of the even grids that are tried, and the error they may have.
EVEN_SIZES, EVEN_TOLERANCE = (64, 128), 1e-10
# How far an even grid reaches, and what part of its sum may lie on its rim.
EVEN_REACH, EVEN_RIM = 8.0, 1e-11
# Where inputs are so near to each other, φ has one slope between them.
NEAR = 3e-6
# The part of E φ² that the separation may be without being rounded to less than 12 digits.
ROUNDED = 1e-8
# Nodes of the integral over ψ, whose layers may be 1e-10 of the whole, and its least grading.
LAYER_SIZE, LEAST_GRADING = 513, 8.0
# A reciprocal of less is not differentiated.
ROOT_TINY = 1e-140
# What adds up to the separation is known to ROUNDING, the result to LOST or not so.
ROUNDING, LOST = 1e-16, 5e-10
# A mean square of this part of E φ² is that of a rounding.
NOISE = 1e-28
# More kinks than this are no faster than what any φ takes.
MANY_KINKS = 12
# Where a piecewise linear φ is straight for good, and the part of it by which it may not be.
FAR, STRAIGHT = 2.0**10, 1e-12
BEYOND = np.concatenate([-1.3 * 2.0 ** np.arange(10, 39, 4), 1.3 * 2.0 ** np.arange(10, 39, 4)])


@struct
class Segments(Whole):
    """A piecewise linear φ as data: φ(x) = start + slope x + Σ bend (x - kink)₊."""

    start: Numbers
    slope: Numbers
    kinks: Numbers
    bends: Numbers

    def steepness(self, x: Array) -> Array:
        """Return φ'(x), for x of any shape."""
        above = x[..., None] > self.kinks
        return jnp.asarray(self.slope) + jnp.where(above, self.bends, 0.0).sum(axis=-1)

    def value(self, x: Array) -> Array:
        """Return φ(x), for x of any shape."""
        ramps = jnp.maximum(x[..., None] - self.kinks, 0.0) * self.bends
        return jnp.asarray(self.start) + self.slope * x + ramps.sum(axis=-1)


def segments(phi: Sampled) -> Segments | None:
    """Return a sampled φ as data, if it is continuous and straight between few kinks."""
    rough = phi.upto(FAR).rough
    if rough.size > MANY_KINKS or (rough.size and np.abs(phi.rough.jump).max() > 0):
        return None
    edges = phi.upto(FAR).edges
    edges = edges[np.abs(edges) <= FAR]
    x = places(edges[:-1], edges[1:]).ravel()
    piece = np.searchsorted(rough, x)
    first = np.searchsorted(piece, np.arange(rough.size + 1))
    last = np.append(first[1:], x.size) - 1
    values = phi.values(x)[0]
    slopes = (values[last] - values[first]) / (x[last] - x[first])

    x, piece = np.append(x, BEYOND), np.append(piece, np.searchsorted(rough, BEYOND))
    values = np.append(values, phi.values(BEYOND)[0])
    line = values[first][piece] + slopes[piece] * (x - x[first][piece])
    size = np.abs(values) + np.abs(slopes[piece] * x)
    if not (np.abs(values - line) <= STRAIGHT * (1 + size)).all():
        return None
    start = values[0] - slopes[0] * x[0]
    return Segments(np.asarray(start), np.asarray(slopes[0]), rough, np.diff(slopes))


def of_segments(
    phi: Segments,
    q1: ScalarLike,
    q2: ScalarLike,
    epsilon: ScalarLike,
    s: ScalarLike,
    t: ScalarLike,
) -> Array:
    """Return the separation of a piecewise linear φ, relatively accurate however small it is.

    It is NaN where variances are so large that φ is a rounding of what is subtracted.
    """
    epsilon = jnp.asarray(epsilon, dtype=float)
    r1, r2 = (jnp.sqrt(jnp.maximum(q, TINY)) for q in (q1, q2))
    rule = line_rule(q1, tuple(phi.kinks), other=q2)
    slopes = phi.steepness(r1 * rule.z) * phi.steepness(r2 * rule.z)
    squares = jnp.square(_aligned(phi, rule.z, q1, q2, s, t))
    own = rule.sum(jnp.square(s * phi.value(r1 * rule.z)))
    # Of s and t as they are rounded nothing more is known.
    rounded = rule.sum(squares) <= NOISE * own
    start = jnp.where(rounded, rule.sum(squares), rule.mean(squares)) / 2
    lack = _lack(phi, q1, q2, epsilon)
    gain = (s * r1) * (t * r2) * epsilon

    # The lack is certified to a part of the result, not of itself.
    rest = start + gain * (rule.mean(slopes) - lack.value)
    scale = (rest + TINY) / (jnp.abs(gain) + TINY)
    value = start + gain * (rule.mean(slopes) - lack.certified(scale))
    reach = jnp.abs(jnp.asarray(phi.kinks)).sum() * (1 / r1 + 1 / r2)
    most = jnp.square(jnp.asarray(phi.bends)).sum()
    parts = rule.sum(jnp.abs(slopes)) + most * jnp.minimum(jnp.sqrt(epsilon / 2), reach)
    return jnp.where(ROUNDING * parts <= LOST * scale, value, jnp.nan)


def _aligned(
    phi: Segments, z: Array, q1: ScalarLike, q2: ScalarLike, s: ScalarLike, t: ScalarLike
) -> Array:
    """Return s φ(√q1 z) - t φ(√q2 z), free of cancellation where s ≈ t and q1 ≈ q2.

    On one piece of φ, m x + b, it is m (s√q1 - t√q2) z + (s - t) b.
    """
    r1, r2 = (jnp.sqrt(jnp.maximum(q, TINY)) for q in (q1, q2))
    apart, less = (jnp.asarray(q1) - q2) / (r1 + r2), jnp.asarray(s) - t
    close = jnp.abs(apart) < (r1 + r2) / 4
    stretch = jnp.where(close, s * apart + less * r2, s * r1 - t * r2)
    u1, u2 = r1 * z, r2 * z
    one_piece = ((u1[:, None] - phi.kinks) * (u2[:, None] - phi.kinks) > 0).all(axis=-1)
    slope, value = phi.steepness(u2), phi.value(u2)
    straight = slope * stretch * z + less * (value - slope * u2)
    return jnp.where(one_piece, straight, s * phi.value(u1) - t * value)


def _lack(phi: Segments, q1: ScalarLike, q2: ScalarLike, epsilon: Array) -> Sums:
    """Return L."""
    half_angle = jnp.arcsin(jnp.sqrt(jnp.clip(epsilon / 2, TINY, 1.0)))
    x, y = (jnp.asarray(phi.kinks) / jnp.sqrt(jnp.maximum(q, TINY)) for q in (q1, q2))
    # A pair of kinks has a layer as wide as x and y, or x and -y, are apart.
    apart, summed = x[:, None] - y, x[:, None] + y
    widths = jnp.abs(jnp.stack([apart, summed]))
    finest = jnp.where(widths > 0, widths, jnp.inf).min(initial=jnp.inf)
    layer = jax.lax.stop_gradient(jnp.log(2 * half_angle / finest)) + 1
    rule = panel(jnp.maximum(LEAST_GRADING, layer), LAYER_SIZE)
    half = half_angle * rule.nodes
    inverse_sine, inverse_cosine = (
        1 / jnp.maximum(jnp.square(f(half)), ROOT_TINY) for f in (jnp.sin, jnp.cos)
    )
    # Jumps that add up to 0 leave what the exponentials lack of 1.
    bends = jnp.asarray(phi.bends)
    density = jnp.full_like(half, 1.0) * jnp.square(bends.sum())
    if bends.size:
        exponents = (
            jnp.square(apart)[..., None] * inverse_sine
            + jnp.square(summed)[..., None] * inverse_cosine
        )
        density += jnp.einsum("i,j,ijn->n", bends, bends, jnp.expm1(-exponents / 8))
    sine = jnp.sin(half_angle)
    weight = (jnp.sin(half_angle - half) / sine) * (jnp.sin(half_angle + half) / sine)
    return line_sums(density * weight * rule.weights * half_angle / np.pi)


def of_smooth(
    phi: Callable[[Array], Array],
    slope: Callable[[Array], Array],
    sizes: tuple[Array, Array],
    q1: ScalarLike,
    q2: ScalarLike,
    epsilon: ScalarLike,
    s: ScalarLike,
    t: ScalarLike,
) -> Array:
    """Return the separation of a smooth φ, NaN where even grids do not resolve it.

    `sizes` are E φ² and E φ'² at the larger variance.
    """
    epsilon, s, t = (jnp.asarray(x, dtype=float) for x in (epsilon, s, t))
    close = _is_close(*sizes, q1, q2, epsilon)

    def integrand(pair: Pair) -> Array:
        def together(pair: Pair) -> Array:
            middle = slope((pair.u1 + pair.u2) / 2)
            return s * middle * pair.difference + (s - t) * phi(pair.u2)

        def one_by_one(pair: Pair) -> Array:
            return s * phi(pair.u1) - t * phi(pair.u2)

        return jnp.square(jax.lax.cond(close, together, one_by_one, pair)) / 2

    def finer(sizes: tuple[int, ...]) -> Array:
        if not sizes:
            return jnp.full_like(epsilon, jnp.nan)
        sums = _even_sums(integrand, q1, q2, epsilon, sizes[0])
        # As in `Sums.certified`, to a part of the sum.
        ratio = sums.half / jnp.where(sums.quarter > 0, sums.quarter, 1.0)
        error = sums.half * jnp.minimum(1.0, ratio)
        seen = error <= EVEN_TOLERANCE * jnp.abs(sums.value)
        return jax.lax.cond(seen, lambda: sums.value, lambda: finer(sizes[1:]))

    return finer(EVEN_SIZES)


def _is_close(
    second_moment: Array, slope_moment: Array, q1: ScalarLike, q2: ScalarLike, epsilon: Array
) -> Array:
    """Return whether φ has one slope, or nearly so, between u1 and u2.

    With p = √(ε/2) + |log(q1/q2)|/2 they are some √q p apart: that, and p, are to be less than
    a distance. A larger p is legal where φ(u1) - φ(u2) would be rounded.
    """
    q = jnp.maximum(jnp.asarray(q1, dtype=float), q2)
    part = jnp.sqrt(epsilon / 2) + jnp.abs(jnp.log(jnp.asarray(q1, dtype=float) / q2)) / 2
    apart = jnp.sqrt(q) * part
    rounded = jnp.square(apart) * slope_moment <= ROUNDED * second_moment
    return (apart < NEAR) & ((part < NEAR) | rounded)


def _even_sums(
    function: Callable[[Pair], Array],
    q1: ScalarLike,
    q2: ScalarLike,
    epsilon: Array,
    size: int,
) -> Sums:
    """Return E F(u1, u2) at correlation 1 - epsilon by an even grid of `size` = 4m nodes a side.

    F must be smooth everywhere: the trapezoidal rule then converges geometrically. The coarser sums
    are infinite where F has not died out at the ends of the grid.
    """
    # Not symmetric about 0: a thinned rule must not be the mirror image of another.
    z = EVEN_REACH * (2 * np.arange(size) + 0.5 - size) / size
    weights = normal_density(jnp.asarray(z)) * (2 * EVEN_REACH / size)
    r1, r2 = (jnp.sqrt(jnp.asarray(q, dtype=float)) for q in (q1, q2))
    centre, apart = jnp.sqrt(1.0 - epsilon / 2) * z[:, None], jnp.sqrt(epsilon / 2) * z
    difference = (r1 - r2) * centre + (r1 + r2) * apart
    pair = Pair(r1 * (centre + apart), r2 * (centre - apart), difference, jnp.asarray(z))
    summands = function(pair) * weights[:, None] * weights
    rim = (
        jnp.abs(summands[jnp.array([0, -1])]).sum() + jnp.abs(summands[:, jnp.array([0, -1])]).sum()
    )
    sums = plane_sums(summands.reshape(size, -1, 4).sum(axis=1))
    unseen = jnp.where(rim <= EVEN_RIM * jnp.abs(sums.value), 0.0, jnp.inf)
    return Sums(sums.value, sums.half + unseen, sums.quarter + unseen)
