"""S = E (φ'(u1) - φ'(u2))²/2 for many variances q and angles θ = arccos c at once.

With φ' the sum of a step function H, which has its jumps, and a continuous g,

    S = E ΔH²/2 + E Δg (Δg + 2ΔH)/2,      Δ the difference between u1 and u2.

Price's theorem says in closed form how the first part grows with θ (see
`meanfield.gaussian.plackett`). The second is smaller by θ. In polar coordinates of the plane of
two standard normal variables, u1 = r cos(α - θ/2) and u2 = r cos(α + θ/2), with α uniform and r²/q
of χ² law with two degrees of freedom, it is

    ∫ I(r, θ) exp(-r²/2q) r dr/q,     I = (1/2π) ∫₀^π Δg (Δg + 2ΔH) dα.

The function φ' is evaluated for I alone, which does not know q: one table of I serves all q.
Cuts x of φ are cuts in α. Kinks beside 0 make I(r) singular where the circle first reaches them,
r = |x|, and where two lines u1 = x and u2 = y cross on it,

    r² = (x² + y² - 2xy cos θ) / sin² θ.

Without any the weight is analytic in a strip of log r, and the trapezoidal rule converges
geometrically. Otherwise log r is cut there, and every piece has a rule that is graded to its ends.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.activations.base import Activation
from meanfield.gaussian import is_zero
from meanfield.quadrature import panel
from meanfield.typing import Array, ScalarLike

# Nodes between two cuts in α, graded down to exp(-GRADING) of the distance between them; and in
# both directions where cuts lie beside 0.
SIZE, GRADING = 89, 8.0
KINKED_SIZE, KINKED_GRADING = 57, 4.0
# The spacing in log r, which leaves 1e-11 of S for smooth φ; and the longest piece of a cut log r.
STEP, PIECE = 0.125, 2.0
# What is above this multiple of √q has a probability of 1e-17; below the other I is negligible.
LEAST, MOST = 3e-4, 8.7


def polar_gaps(
    phi: Activation, q: np.ndarray, theta: np.ndarray, rate: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return exp(rate/q) E Δg (Δg + 2ΔH)/2, of shape (q, θ), by a rule and by its half."""
    beside = any(float(cut) != 0 for cut in phi.cuts())
    low, high = np.log(LEAST * np.sqrt(q.min())), np.log(MOST * np.sqrt(q.max()))
    step = PIECE if beside else STEP
    edges = low + (high - low) * np.linspace(0, 1, int(np.ceil((high - low) / step)) + 1)
    full, half = _remainder(phi, edges, q, theta, rate, beside)
    return np.asarray(full).T, np.asarray(half).T


@functools.partial(jax.jit, static_argnames="beside")
def _remainder(
    phi: Activation, edges: Array, q: Array, theta: Array, rate: ScalarLike, beside: bool
) -> tuple[Array, Array]:
    """Return what `polar_gaps` does, of shape (θ, q), with log r at `edges`, or between them.

    They are between them if φ has cuts beside 0.
    """

    def weighted(log_r: Array, weights: Array) -> Array:
        exponents = 2 * log_r - jnp.log(q)[:, None] + (rate - jnp.exp(2 * log_r) / 2) / q[:, None]
        return jnp.exp(exponents) * weights

    def cut_row(angle: Array) -> tuple[Array, Array]:
        rule = panel(KINKED_GRADING, KINKED_SIZE)
        radii = jnp.log(jnp.stack(_singular_radii(phi, angle)))
        pieces = jnp.sort(jnp.append(edges, jnp.clip(radii, edges[0], edges[-1])))
        lengths = jnp.diff(pieces)[:, None]
        log_r = (pieces[:-1, None] + lengths * rule.nodes).ravel()
        measure = weighted(log_r, (lengths * rule.weights).ravel())
        full, half = _circles(phi, jnp.exp(log_r), angle, KINKED_SIZE, KINKED_GRADING)
        return measure @ full, 2 * measure[:, ::2] @ half[::2]

    if beside:
        return jax.lax.map(cut_row, theta)
    measure = weighted(edges, edges[1] - edges[0])
    circles = jax.lax.map(lambda angle: _circles(phi, jnp.exp(edges), angle, SIZE, GRADING), theta)
    return jax.tree.map(lambda part: part @ measure.T, circles)


def _singular_radii(phi: Activation, theta: Array) -> list[Array]:
    """Return where I(r, θ) is singular; 0 and what rounds to it stand for nowhere."""
    cuts = [jnp.asarray(cut, float) for cut in phi.cuts()]
    crossings = [
        jnp.square((x - y) / jnp.sin(theta / 2)) + jnp.square((x + y) / jnp.cos(theta / 2))
        for x, y in itertools.combinations_with_replacement(cuts, 2)
    ]
    return [*map(jnp.abs, cuts), *(jnp.sqrt(square) / 2 for square in crossings)]


def _circles(
    phi: Activation, r: Array, theta: Array, size: int, grading: float
) -> tuple[Array, Array]:
    """Return I(r, θ), a vector after r, by a rule and by its half.

    That of an odd φ, whose φ' is even, is twice that over α from 0 to π/2.
    """
    rule, jumps = panel(grading, size), phi.slope_jumps()
    half_angle = theta / 2
    cuts = phi.cuts() or (0.0,)
    if phi.odd and len(cuts) == 2:
        # They are x and -x, which cut at the same places.
        cuts = cuts[1:]
    turns, end = (2, np.pi / 2) if phi.odd else (1, np.pi)

    def folded(alpha: Array) -> Array:
        alpha = jnp.abs(alpha)
        alpha = jnp.where(alpha > np.pi, 2 * np.pi - alpha, alpha)
        return jnp.minimum(alpha, np.pi - alpha) if phi.odd else alpha

    def one(r: Array) -> tuple[Array, Array]:
        edges = [jnp.zeros(()), jnp.full((), end)]
        for cut in cuts:
            reached = jnp.arccos(jnp.clip(cut / r, -1.0, 1.0))
            edges.append(folded(reached - half_angle))
            if not (phi.odd and is_zero(cut)):
                edges.append(folded(reached + half_angle))
        edges = jnp.sort(jnp.stack(edges))
        lengths = jnp.diff(edges)[:, None]
        alpha = edges[:-1, None] + lengths * rule.nodes
        u1, u2 = r * jnp.cos(alpha - half_angle), r * jnp.cos(alpha + half_angle)
        slopes, steps = phi.slope(u1) - phi.slope(u2), jnp.zeros_like(alpha)
        for kink, jump in zip(phi.kinks(), jumps, strict=True):
            steps += jump * ((u1 > kink).astype(float) - (u2 > kink).astype(float))
        products = turns * (slopes - steps) * (slopes + steps)
        summands = (products * lengths * rule.weights / (2 * np.pi)).reshape(-1, 4).sum(axis=0)
        return summands.sum(), 2 * (summands[0] + summands[2])

    return jax.vmap(one)(r)


@jax.jit
def gap_growth(phi: Activation, q: Array, theta: Array) -> Array:
    """Return the derivative of E ΔH²/2 by θ, of shape (q, θ).

    With jumps Δ_i of φ' at d_i it is

        (1/2π) Σ_ij Δ_i Δ_j exp(-[(d_i - d_j)²/sin²(θ/2) + (d_i + d_j)²/cos²(θ/2)]/8q).
    """
    q, inverse_sine, inverse_cosine = (
        q[:, None],
        1 / jnp.square(jnp.sin(theta / 2)),
        1 / jnp.square(jnp.cos(theta / 2)),
    )
    total = jnp.zeros((q.shape[0], theta.shape[0]))
    pairs = itertools.product(zip(phi.kinks(), phi.slope_jumps(), strict=True), repeat=2)
    for (one, jump), (other, other_jump) in pairs:
        exponent = (one - other) ** 2 * inverse_sine + (one + other) ** 2 * inverse_cosine
        total += jump * other_jump * jnp.exp(-exponent / (8 * q))
    return total / (2 * np.pi)
