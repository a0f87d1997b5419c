"""E (φ'(u1) - φ'(u2))²/2 for many variances q and angles θ = arccos c at once.

In polar coordinates of the plane of two standard normal variables, u1 = r cos(α - θ/2) and
u2 = r cos(α + θ/2), with α uniform and r²/q of χ² law with two degrees of freedom:

    S(q, θ) = ∫ I(r, θ) exp(-r²/2q) r dr/q,     I = (1/2π) ∫₀^π (φ'(u1) - φ'(u2))² dα.

The function φ' is evaluated for I alone, which does not know q: one table of I gives S for all q.
In log r the weight is analytic in a strip, and the trapezoidal rule converges geometrically. Kinks
of φ are cuts in α. A kink at 0 is met by every circle alike; one elsewhere makes I(r) singular
where the circle first reaches it, so that curved φ with such kinks are not for this rule.

For a piecewise linear φ Price's theorem says at once how S grows with θ: see
`meanfield.gaussian.plackett`.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.activations.base import Activation
from meanfield.quadrature import panel
from meanfield.typing import Array

# Nodes between two cuts in α, graded down to exp(-GRADING) of the distance between them.
SIZE, GRADING = 89, 8.0
# The spacing in log r: exp(-2π·(π/4)/STEP) is 1e-17.
STEP = 0.125
# What is above this multiple of √q has a probability of 1e-17; below the others I, of the order of
# r² unless φ' jumps, is negligible.
MOST = 8.7
LEAST_SMOOTH, LEAST_JUMPING = 3e-4, 1e-8


def polar_gaps(
    phi: Activation, q: np.ndarray, theta: np.ndarray, jumps: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return S(q, θ), of shape (q, θ), by a rule and by its half; φ has no kinks but at 0.

    `jumps` says whether φ' jumps.
    """
    least = LEAST_JUMPING if jumps else LEAST_SMOOTH
    low, high = np.log(least * np.sqrt(q.min())), np.log(MOST * np.sqrt(q.max()))
    log_r = low + (high - low) * np.linspace(0, 1, int(np.ceil((high - low) / STEP)) + 1)
    weights = np.exp(2 * log_r - np.log(q)[:, None] - np.exp(2 * log_r) / (2 * q[:, None]))
    angular = _angular(phi, np.exp(log_r), theta)
    full, half = (weights @ (np.asarray(part) * (log_r[1] - log_r[0])) for part in angular)
    return full, half


@jax.jit
def _angular(phi: Activation, r: Array, theta: Array) -> tuple[Array, Array]:
    """Return I(r, θ), of shape (r, θ), by a rule and by its half."""
    rule = panel(GRADING, SIZE)
    cuts = phi.cuts() or (0.0,)

    def folded(alpha: Array) -> Array:
        alpha = jnp.abs(alpha)
        return jnp.where(alpha > np.pi, 2 * np.pi - alpha, alpha)

    def one(r: Array, half_angle: Array) -> tuple[Array, Array]:
        edges = [jnp.zeros(()), jnp.full((), np.pi)]
        for cut in cuts:
            reached = jnp.arccos(jnp.clip(cut / r, -1.0, 1.0))
            edges += [folded(reached + half_angle), folded(reached - half_angle)]
        edges = jnp.sort(jnp.stack(edges))
        lengths = jnp.diff(edges)[:, None]
        alpha = edges[:-1, None] + lengths * rule.nodes
        apart = phi.slope(r * jnp.cos(alpha - half_angle)) - phi.slope(
            r * jnp.cos(alpha + half_angle)
        )
        summands = (apart**2 * lengths * rule.weights / (2 * np.pi)).reshape(-1, 4).sum(axis=0)
        return summands.sum(), 2 * (summands[0] + summands[2])

    def row(angle: Array) -> tuple[Array, Array]:
        return jax.vmap(lambda radius: one(radius, angle / 2))(r)

    full, half = jax.lax.map(row, theta)
    return full.T, half.T


@jax.jit
def gap_growth(phi: Activation, q: Array, theta: Array) -> Array:
    """Return dS/dθ, of shape (q, θ), for a continuous, piecewise linear φ.

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
