"""The table of pairs of an activation.

With S = E (φ'(u1) - φ'(u2))²/2 (`meanfield.slope_gaps`), Price's theorem gives

    G(θ) = ∫₀^θ S(t) sin t dt / (1 - cos θ),

so that neither G nor S is ever a difference: both keep their digits as c → 1.

A cell is used only where the last terms of its series are small and a rule of twice the step
agrees, and the table only if direct quadrature confirms it at random points.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._elementwise import elementwise, namespace
from meanfield.activations.base import Activation
from meanfield.activations.piecewise_linear import PiecewiseLinear
from meanfield.activations.smooth import Sin
from meanfield.chebyshev import TAIL, TERMS, nodes, running_integral, transform
from meanfield.slope_gaps import gap_growth, polar_gaps
from meanfield.table import ACUTE, ALL_ANGLES, PAIRS, Pairs, Term
from meanfield.typing import Array, ScalarLike

# The relative error up to which cells are used.
PAIR_TOLERANCE = 1e-9
# How many random points are compared with direct quadrature.
CHECKS = 16
# A term that is smaller than this part of another is 0.
NOTHING = 1e-27
# What φ is up to its first kink is seen at these fractions of it.
FRACTIONS = np.array([0.1, 0.3, 0.7, 0.99])


@functools.lru_cache(maxsize=64)
def tabulated_pairs(
    tree: Any, leaves: tuple[float, ...], angles: Literal["acute", "obtuse"]
) -> tuple[Pairs, float]:
    """Return the series of g, and their largest error."""
    phi = jax.tree.unflatten(tree, leaves)
    edges = ACUTE if angles == "acute" else ALL_ANGLES
    terms, error = _deficits(phi, edges)
    pairs = Pairs(terms, jnp.asarray(edges))
    return (pairs, error) if _agrees(phi, pairs) else (no_pairs(), 0.0)


@functools.cache
def no_pairs() -> Pairs:
    nothing = jnp.full((PAIRS.size - 1, ACUTE.size - 1, TERMS, TERMS), jnp.nan)
    return Pairs((Term(nothing, jnp.zeros(()), power=2),), jnp.asarray(ACUTE))


@dataclasses.dataclass(frozen=True)
class _Part:
    """A term in the making: exp(κ/q) S/θ^m, with a row for each q; what a coarser rule adds."""

    scaled: np.ndarray
    rate: float
    power: int
    doubt: np.ndarray | None = None

    def scale(self, q: np.ndarray, theta: np.ndarray, rate: float) -> np.ndarray:
        """Return what the part is to be multiplied with for exp(rate/q) S."""
        return theta**self.power * np.exp((rate - self.rate) / q)[:, None]

    def mean(self, theta: np.ndarray) -> np.ndarray:
        """Return exp(κ/q) G/θ^m."""
        integral = _integral(theta.size // TERMS + 1, self.power, np.sin)
        weight = 2 * np.sin(theta / 2) ** 2 * theta**self.power
        return self.scaled @ (integral / weight[:, None]).T


def _jumping_part(phi: Activation, q: np.ndarray, theta: np.ndarray) -> _Part:
    bends = zip(phi.kinks(), phi.slope_jumps(), strict=True)
    rate = min((float(kink) ** 2 / 2 for kink, jump in bends if float(jump)), default=0.0)
    growth = np.asarray(gap_growth(phi, q, theta)) * np.exp(rate / q)[:, None]
    integral = _integral(theta.size // TERMS + 1, 0, np.ones_like)
    return _Part(growth @ (integral / theta[:, None]).T, rate, 1)


def _continuous_part(phi: Activation, q: np.ndarray, theta: np.ndarray) -> _Part:
    """Return what S has beside the jumps of φ'."""
    if isinstance(phi, Sin):
        # E cos² - E cos u1 cos u2, of which the latter is exp(-q) cosh qc.
        loss = q[:, None] * 2 * np.sin(theta / 2) ** 2
        gaps = -(np.expm1(-loss) + np.exp(-2 * q[:, None]) * np.expm1(loss)) / 2
        # Where exp(qε) overflows, the product is exp(-q (2 - ε)) - exp(-2q).
        far = (1 + np.exp(-2 * q[:, None]) - np.exp(-loss) - np.exp(loss - 2 * q[:, None])) / 2
        return _Part(np.where(loss > 1, far, gaps) / theta**2, 0.0, 2)
    rate = _linear_rate(phi)
    gaps, halves = polar_gaps(phi, q, theta, rate)
    return _Part(gaps / theta**2, rate, 2, (halves - gaps) / theta**2)


def _deficits(phi: Activation, edges: np.ndarray) -> tuple[tuple[Term, ...], float]:
    """Return the terms of G, and their largest error."""
    q, theta = np.exp(nodes(PAIRS).ravel()), nodes(edges).ravel()
    shape = (PAIRS.size - 1, TERMS, edges.size - 1, TERMS)
    linear, parts = isinstance(phi, PiecewiseLinear), []
    with np.errstate(invalid="ignore", divide="ignore", over="ignore", under="ignore"):
        if linear or any(float(jump) for jump in phi.slope_jumps()):
            parts.append(_jumping_part(phi, q, theta))
        if not linear:
            parts.append(_continuous_part(phi, q, theta))

        rate = min(part.rate for part in parts)
        scales = [part.scale(q, theta, rate) for part in parts]
        means = [part.mean(theta) for part in parts]
        gaps, total = np.zeros_like(scales[0]), np.zeros_like(scales[0])
        for part, scale, mean in zip(parts, scales, means, strict=True):
            # Where a term is faint in a whole cell of q it is dropped.
            faint = scale.reshape(shape).max(axis=(1, 2, 3)) <= NOTHING
            rows = np.repeat(faint, TERMS)
            mean[rows], scale[rows] = 0.0, NOTHING
            gaps += np.where(rows[:, None], 0.0, scale * part.scaled)
            total += scale * mean
        error, terms = np.zeros(shape[0]), []
        for part, scale, mean in zip(parts, scales, means, strict=True):
            if part.doubt is not None:
                # Halving the step squares the error.
                error += np.square(part.doubt * scale / gaps).reshape(shape).max(axis=(1, 2, 3))
            g = mean.reshape(shape).transpose(0, 2, 1, 3)
            coefficients = transform() @ g @ transform().T
            sizes = np.abs(coefficients)
            tail = sizes[..., -TAIL:, :].sum(axis=(-2, -1)) + sizes[..., -TAIL:].sum(axis=(-2, -1))
            least = np.abs(total / scale).reshape(shape).min(axis=(1, 3))
            # Where a term vanishes it has no error.
            error += np.where(tail == 0, 0.0, tail / least).max(axis=1)
            terms.append(coefficients)
    certified = _longest_run(error <= PAIR_TOLERANCE)
    kept = [np.where(certified[:, None, None, None], x, np.nan) for x in terms]
    return (
        tuple(
            Term(jnp.asarray(x), jnp.asarray(part.rate), power=part.power)
            for x, part in zip(kept, parts, strict=True)
        ),
        float(error[certified].max(initial=0.0) / PAIR_TOLERANCE),
    )


def _longest_run(flags: np.ndarray) -> np.ndarray:
    """Return flags of which only those of the longest unbroken row are left."""
    ends = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    runs = ends.reshape(-1, 2)
    kept = np.zeros_like(flags)
    if runs.size:
        start, stop = runs[np.argmax(runs[:, 1] - runs[:, 0])]
        kept[start:stop] = True
    return kept


def _linear_rate(phi: Activation) -> float:
    """Return x²/2 if φ is linear up to its first kink at |x|, and else 0."""
    first = min((abs(float(kink)) for kink in phi.kinks()), default=0.0)
    inside = np.asarray(phi.slope(jnp.asarray(first * np.append(FRACTIONS, -FRACTIONS))))
    return first**2 / 2 if np.ptp(inside) <= 1e-13 else 0.0


@functools.cache
def _integral(count: int, power: int, weight: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the matrix of ∫ f(t) t^power weight(t) dt over the first `count` angles."""
    return running_integral(ALL_ANGLES[:count], lambda t: t**power * weight(t))


def _agrees(phi: Activation, pairs: Pairs) -> bool:
    """Return whether direct quadrature gives the same at random points."""
    low, high = pairs.range
    if np.isnan(low):
        return True
    random = np.random.default_rng(0)
    q = np.exp(random.uniform(np.log(low), np.log(high), CHECKS))
    theta = random.uniform(0.0, float(pairs.angles[-1]), CHECKS)
    mean, direct = (np.asarray(part) for part in _direct(phi, q, theta))
    ours = mean - np.asarray(_gaps(pairs, q, theta)[0])
    # What direct quadrature does not resolve says nothing.
    known = np.isfinite(direct)
    agrees = np.abs(ours - direct)[known] <= PAIR_TOLERANCE * mean[known]
    return bool(known.sum() >= CHECKS // 2 and agrees.all())


@jax.jit
def _gaps(pairs: Pairs, q: Array, theta: Array) -> tuple[Array, Array]:
    return jax.vmap(pairs.gaps)(q, theta)


@elementwise(host=True)
def _direct(phi: Activation, q: ScalarLike, theta: ScalarLike) -> tuple[Array, Array]:
    """Return E φ'(u)² and E (φ(u1) - φ(u2))²/(2q(1 - c)) by quadrature."""
    epsilon = 2 * namespace(theta).sin(theta / 2) ** 2
    return phi.slope_moment(q, 2), phi.decorrelation(q, epsilon)
