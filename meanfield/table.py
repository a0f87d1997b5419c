"""An activation compiled once: its Gaussian statistics as Chebyshev series.

Over log q, cell by cell: E φ², its slope, E φ'² and E φ'⁴. Over (log q, θ), with c = cos θ, the
deficit of the correlation map,

    G(q, θ) = E φ'(u)² - E (φ(u1) - φ(u2))²/(2q(1 - c)) = θ^m exp(-κ/q) g(q, θ),

with m = 2 for a smooth φ, m = 1 if φ' jumps, and κ = x²/2 for a piecewise linear φ whose kink
closest to 0 is at x. In θ, not in c, it is smooth at c = 1, kinks or not. From Price's theorem,
with S = E (φ'(u1) - φ'(u2))²/2 (`meanfield.slope_gaps`),

    G(θ) = ∫₀^θ S(t) sin t dt / (1 - cos θ),      S = G + tan(θ/2) dG/dθ,

so that neither G nor S is ever a difference: both keep their digits as c → 1.

A cell is used only where it is certified: the last terms of its series are small and, for pairs of
a curved φ, a rule of twice the step agrees. Pairs are used only if direct quadrature confirms them
at random points. What lies elsewhere is left to it.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._struct import elementwise, in_blocks, static, struct
from meanfield.activations.base import Activation, require_single
from meanfield.activations.piecewise_linear import PiecewiseLinear
from meanfield.chebyshev import (
    TAIL,
    TERMS,
    locate,
    nodes,
    running_integral,
    series,
    series_and_slope,
    transform,
)
from meanfield.errors import MeanFieldError
from meanfield.slope_gaps import gap_growth, polar_gaps
from meanfield.typing import Array, ScalarLike

# Ends of the cells of log q, for one Gaussian and for pairs.
WIDE = np.linspace(np.log(1e-10), np.log(1e16), 61)
PAIRS = np.linspace(np.log(1e-6), np.log(1e4), 24)
# Cells of θ, for 0 <= c <= 1; they halve towards 0, where layers of width 1/√q are.
ANGLES = np.append(0.0, np.pi / 2 * 2.0 ** -np.arange(7, -1, -1))
# Relative errors up to which cells are used: of moments, of V' (beside V/q), and of pairs.
MOMENT_TOLERANCE, SLOPE_TOLERANCE, PAIR_TOLERANCE = 1e-12, 1e-11, 1e-9
# How many random points are compared with direct quadrature.
CHECKS = 16


@struct
class Table:
    """Statistics of one activation: see `tabulate`. NaN where nothing is certified."""

    second_moment: Array
    variance_slope: Array
    slope_moment: Array
    fourth_slope_moment: Array
    """Coefficients over the cells `WIDE`, shape (60, 16)."""
    deficits: Array
    """Coefficients of g over the cells `PAIRS` and `ANGLES`, shape (23, 8, 16, 16)."""
    rate: Array
    """κ."""
    error: Array
    """The largest relative error that was found in what is certified, over its tolerance."""
    power: int = static()
    """m."""

    def read(self, statistic: Array, q: ScalarLike) -> Array:
        """Return a statistic of one Gaussian at the variance q, a scalar."""
        cell, x = locate(jnp.asarray(WIDE), jnp.log(jnp.asarray(q, dtype=float)))
        inside = (q >= np.exp(WIDE[0])) & (q <= np.exp(WIDE[-1]))
        return jnp.where(inside, series(statistic[cell], x), jnp.nan)

    def gaps(self, q: ScalarLike, theta: ScalarLike) -> tuple[Array, Array]:
        """Return G and S at the variance q and the angle θ in [0, π/2], scalars."""
        q, theta = jnp.asarray(q, dtype=float), jnp.asarray(theta, dtype=float)
        cell, x = locate(jnp.asarray(PAIRS), jnp.log(q))
        angle, y = locate(jnp.asarray(ANGLES), theta)
        width = jnp.diff(jnp.asarray(ANGLES))[angle]
        g, slope = series_and_slope(series(self.deficits[cell, angle].T, x), y)
        scale = theta**self.power * jnp.exp(-self.rate / q)
        deficit = scale * g
        # θ dG/dθ, and tan(θ/2)/θ, which is 1/2 at 0.
        growth = scale * (self.power * g + theta * slope * 2 / width)
        ratio = jnp.where(theta > 0, jnp.tan(theta / 2) / jnp.where(theta > 0, theta, 1.0), 0.5)
        unknown = (q < np.exp(PAIRS[0])) | (q > np.exp(PAIRS[-1])) | (theta < 0)
        unknown = unknown | (theta > ANGLES[-1])
        gap = deficit + ratio * growth
        return jnp.where(unknown, jnp.nan, deficit), jnp.where(unknown, jnp.nan, gap)

    @property
    def pair_range(self) -> tuple[float, float]:
        """The least and the largest variance for which pairs are tabulated, NaN if none is."""
        used = np.flatnonzero(np.isfinite(np.asarray(self.deficits)).all(axis=(1, 2, 3)))
        if not used.size:
            return np.nan, np.nan
        return float(np.exp(PAIRS[used[0]])), float(np.exp(PAIRS[used[-1] + 1]))


def has_table(phi: Activation) -> bool:
    """Return whether `tabulate` can serve an activation.

    It cannot where φ oscillates for ever or jumps, or is curved and has kinks beside 0.
    """
    if phi.oscillates or any(float(jump) for jump in phi.jumps()):
        return False
    return isinstance(phi, PiecewiseLinear) or all(float(cut) == 0 for cut in phi.cuts())


def tabulate(phi: Activation) -> Table:
    """Return the table of an activation whose parameters are numbers.

    It is kept: a second call for an equal activation costs nothing. Raises `MeanFieldError` where
    there can be none: see `has_table`.
    """
    require_single(phi)
    if not has_table(phi):
        raise MeanFieldError(
            f"phi = {type(phi).__name__} has no table: it oscillates, jumps, or is curved with "
            "kinks beside 0"
        )
    leaves, tree = jax.tree.flatten(phi)
    return _tabulate(tree, tuple(float(leaf) for leaf in leaves))


@functools.lru_cache(maxsize=64)
def _tabulate(tree: Any, leaves: tuple[float, ...]) -> Table:
    phi = jax.tree.unflatten(tree, leaves)
    singles, error = _singles(phi)
    power = 1 if any(float(jump) for jump in phi.slope_jumps()) else 2
    rate = 0.0
    if isinstance(phi, PiecewiseLinear):
        rate = min((float(kink) ** 2 / 2 for kink in phi.kinks()), default=0.0)
    deficits, pair_error = _deficits(phi, power, rate)
    table = Table(
        *map(jnp.asarray, singles),
        deficits=jnp.asarray(deficits),
        rate=jnp.asarray(rate),
        power=power,
        error=jnp.asarray(max(error, pair_error)),
    )
    return table if _agrees(phi, table) else _without_pairs(table)


@elementwise()
def _line(phi: Activation, q: ScalarLike) -> tuple[Array, Array, Array, Array]:
    return (
        phi.second_moment(q),
        phi.variance_slope(q),
        phi.slope_moment(q, 2),
        phi.slope_moment(q, 4),
    )


def _singles(phi: Activation) -> tuple[list[np.ndarray], float]:
    """Return the coefficients of what is a function of q alone, and their largest error."""
    q = np.exp(nodes(WIDE))
    values = [part.reshape(q.shape) for part in in_blocks(_line, phi, q.ravel())]
    sizes = [np.abs(value) for value in values]
    sizes[1] = np.maximum(sizes[1], sizes[0] / q)
    tolerances = (MOMENT_TOLERANCE, SLOPE_TOLERANCE, MOMENT_TOLERANCE, MOMENT_TOLERANCE)
    kept, largest = [], 0.0
    for value, size, tolerance in zip(values, sizes, tolerances, strict=True):
        with np.errstate(invalid="ignore", over="ignore"):
            coefficients = value @ transform().T
            tail = np.abs(coefficients[:, -TAIL:]).sum(axis=1)
            allowed = tolerance * size.min(axis=1)
            certified = tail <= allowed
        kept.append(np.where(certified[:, None], coefficients, np.nan))
        used = certified & (allowed > 0)
        largest = max(largest, float((tail[used] / allowed[used]).max(initial=0.0)))
    return kept, largest


def _deficits(phi: Activation, power: int, rate: float) -> tuple[np.ndarray, float]:
    """Return the coefficients of g, and their largest error."""
    q, theta = np.exp(nodes(PAIRS).ravel()), nodes(ANGLES).ravel()
    shape = (len(PAIRS) - 1, TERMS, len(ANGLES) - 1, TERMS)
    doubt = np.zeros(shape[0])
    with np.errstate(invalid="ignore", divide="ignore", over="ignore", under="ignore"):
        if isinstance(phi, PiecewiseLinear):
            growth = np.asarray(gap_growth(phi, q, theta)) * np.exp(rate / q)[:, None]
            scaled = growth @ (_integral(0, np.ones_like) / theta[:, None]).T
        else:
            gaps, halves = polar_gaps(phi, q, theta, jumps=power == 1)
            # Halving the step squares the error.
            doubt = np.square(halves / gaps - 1).reshape(shape).max(axis=(1, 2, 3))
            scaled = gaps / theta**power
        mean = _integral(power, np.sin) / (2 * np.sin(theta / 2) ** 2 * theta**power)[:, None]
        g = (scaled @ mean.T).reshape(shape).transpose(0, 2, 1, 3)
        coefficients = transform() @ g @ transform().T
        sizes = np.abs(coefficients)
        tail = sizes[..., -TAIL:, :].sum(axis=(-2, -1)) + sizes[..., -TAIL:].sum(axis=(-2, -1))
        # Of a linear φ all is 0.
        relative = np.where(tail == 0, 0.0, tail / np.abs(g).min(axis=(-2, -1)))
        error = doubt + relative.max(axis=1)
    certified = error <= PAIR_TOLERANCE
    kept = np.where(certified[:, None, None, None], coefficients, np.nan)
    return kept, float(error[certified].max(initial=0.0) / PAIR_TOLERANCE)


@functools.cache
def _integral(power: int, weight: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return running_integral(ANGLES, lambda t: t**power * weight(t))


def _agrees(phi: Activation, table: Table) -> bool:
    """Return whether direct quadrature gives the same at random points."""
    low, high = table.pair_range
    if np.isnan(low):
        return True
    random = np.random.default_rng(0)
    q = np.exp(random.uniform(np.log(low), np.log(high), CHECKS))
    theta = random.uniform(0.0, np.pi / 2, CHECKS)
    mean, direct = (np.asarray(part) for part in _direct(phi, q, theta))
    ours = mean - np.asarray(_gaps(table, q, theta)[0])
    # What direct quadrature does not resolve says nothing.
    known = np.isfinite(direct)
    agrees = np.abs(ours - direct)[known] <= PAIR_TOLERANCE * mean[known]
    return bool(known.any() and agrees.all())


@jax.jit
def _gaps(table: Table, q: Array, theta: Array) -> tuple[Array, Array]:
    return jax.vmap(table.gaps)(q, theta)


@elementwise()
def _direct(phi: Activation, q: ScalarLike, theta: ScalarLike) -> tuple[Array, Array]:
    """Return E φ'(u)² and E (φ(u1) - φ(u2))²/(2q(1 - c)) by quadrature."""
    epsilon = 2 * jnp.sin(jnp.asarray(theta) / 2) ** 2
    return phi.slope_moment(q, 2), phi.decorrelation(q, epsilon)


def _without_pairs(table: Table) -> Table:
    return replace(table, deficits=jnp.full_like(table.deficits, jnp.nan))
