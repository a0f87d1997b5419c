"""Expectations over two correlated Gaussians of one variance, one inside the other.

Of variance q, correlation c >= 0 and 1 - c = ε, u1 and u2 share y and differ in z:

    u_i = √(qc) y + s z_i,      s = √(qε),

with y, z1, z2 standard normal (for c < 0, u2 has -y). Given y both are independent
(`meanfield.smoothed`), and nothing cancels, however close to 1 c is:

    E φ(u1) φ(u2)               = E_y E_z φ(u1) E_z φ(u2),
    E (φ'(u1) - φ'(u2))²/2      = E_y Var_z φ'(u),
    E (φ(u1) - φ(u2))²/(2qε)    = E_y Var_z φ(u) / s²,
    E φ'² - the latter          = E_y [Var_z φ'(u) - Var_z R],      R = ∫ (φ'(u) - E_z φ'(u)) dz,

for if φ' has Hermite coefficients b_k in z, φ has s b_k/√(k + 1).

A Hermite series (`meanfield.hermite`) answers where one serves, and a rule for y elsewhere. It is
cut where φ's panels end, and within 9s of rough points into pieces of the width
of s. The mean of E_z φ(u)² and of E_z φ'(u)² is known from one Gaussian: where the rule misses it,
the answer is NaN.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from meanfield import hermite
from meanfield.line import density
from meanfield.panels import gauss
from meanfield.sampled import Sampled
from meanfield.smoothed import WIDTH, Smoothed, smoothed

# Ends of the pieces of y in units of s around a rough point, and of y.
AROUND = np.linspace(-WIDTH, WIDTH, 7)
OUTER = np.linspace(-WIDTH, WIDTH, 7)
# Nodes of a piece of y.
OUTER_NODES = 16
# Pairs whose statistics are remembered.
REMEMBERED = 20_000
# What the rule may miss of E φ² and E φ'².
TOLERANCE = 2e-12


class Rule(NamedTuple):
    """Places and weights of E_y, and what z makes of φ at y, and at y or -y."""

    y: np.ndarray
    """Places, in standard deviations."""
    weights: np.ndarray
    one: Smoothed
    other: Smoothed


def _outer(
    phi: Sampled, sigma: float, s: float, both: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return places y, as bases and offsets from them, and weights for y ~ N(0, sigma²)."""
    if sigma <= 1e-100 * s:
        return np.zeros(1), np.zeros(1), np.ones(1)
    marks = list(around(phi, sigma, s))
    if both:
        marks += [(-base, -offset) for base, offset in marks]
    base = np.concatenate([np.zeros(OUTER.size), *(mark[0] for mark in marks)])
    offset = np.concatenate([OUTER * sigma, *(mark[1] for mark in marks)])
    keep = np.abs(base + offset) <= WIDTH * sigma * (1 + 1e-15)
    base, offset = base[keep], offset[keep]
    order = np.argsort(base + offset, kind="stable")
    base, offset = base[order], offset[order]
    # A piece is measured from the base that is not 0.
    own = np.where(base[:-1] != 0, base[:-1], base[1:])
    low, high = (base[:-1] - own) + offset[:-1], (base[1:] - own) + offset[1:]
    real = high - low > 1e-12 * s
    own, low, high = own[real], low[real], high[real]
    x, w = gauss(OUTER_NODES)
    half = (high - low)[:, None] / 2
    places = (low + high)[:, None] / 2 + half * x
    own = np.broadcast_to(own[:, None], places.shape)
    weights = half * w * density(own + places, np.float64(sigma**2))
    return own.ravel(), places.ravel(), weights.ravel()


def around(phi: Sampled, sigma: float, s: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield where pieces of y end because of φ: as bases and offsets from them."""
    edges, rough = phi.edges, phi.panels.rough
    near = np.abs(edges) < WIDTH * (sigma + s)
    sizes = np.diff(edges)
    smaller = np.minimum(np.append(sizes, np.inf), np.append(np.inf, sizes))[near]
    edges = edges[near]
    is_rough, wide = np.isin(edges, rough), smaller >= s
    alone = edges[is_rough & wide]
    yield np.repeat(alone, AROUND.size), np.tile(AROUND * s, alone.size)
    plain = edges[~is_rough & wide]
    yield np.zeros(plain.size), plain
    # Where panels are narrower than s, what is smoothed is smooth on the scale of s.
    crowd = edges[~wide]
    cells = np.unique(np.floor(crowd / (3 * s)))
    marks = np.unique((cells[:, None] + np.arange(-3, 5)).ravel()) * (3 * s)
    yield np.zeros(marks.size), marks


class Equal(NamedTuple):
    """Statistics of pairs of one variance."""

    product: np.ndarray
    """E φ(u1) φ(u2)."""
    slope_product: np.ndarray
    """E φ'(u1) φ'(u2), jumps included."""
    apart: np.ndarray
    """E (φ(u1) - φ(u2))²/(2qε)."""
    gap: np.ndarray
    """E (φ'(u1) - φ'(u2))²/2."""
    deficit: np.ndarray
    """E φ'² - apart."""
    bend_product: np.ndarray
    """E φ''(u1) φ''(u2), Dirac masses included."""


def equal(phi: Sampled, q: np.ndarray, epsilon: np.ndarray) -> Equal:
    """Return the statistics of pairs of variance q > 0 and correlation 1 - ε, vectors."""
    rows = _rows(phi, hermite.equal, _equal)
    return Equal(*remembered(phi, "equal", rows, q, epsilon))


def equal_rates(phi: Sampled, q: np.ndarray, epsilon: np.ndarray) -> Equal:
    """Return the derivatives of the statistics `equal` by q."""
    rows = _rows(phi, hermite.equal_rates, _equal_rates)
    return Equal(*remembered(phi, "rates", rows, q, epsilon))


def _rows(
    phi: Sampled, by_series: Callable[..., np.ndarray], by_rule: Callable[..., tuple[Any, ...]]
) -> Callable[[np.ndarray], list[Any]]:
    """Return what answers rows of q and ε: by a Hermite series where one serves, else by a rule."""

    def solve(new: np.ndarray) -> list[Any]:
        found: list[Any] = [None] * len(new)
        q, epsilon = new.T
        hopeful = (q > 0) & (epsilon > 0) & (epsilon < 2) & hermite.may_serve(phi, epsilon)
        for variance in np.unique(q[hopeful]):
            series = hermite.series(phi, float(variance))
            if series is not None:
                served = np.flatnonzero(hopeful & (q == variance) & series.serves(epsilon))
                for place, row in zip(served, by_series(series, epsilon[served]), strict=True):
                    found[place] = row
        left = [place for place, row in enumerate(found) if row is None]
        if not left:
            return found
        moments = phi.second_moment(q[left]), phi.slope_moment(q[left], 2)
        for place, *row in zip(left, q[left], epsilon[left], *moments, strict=True):
            found[place] = by_rule(phi, *row)
        return found

    return solve


NOTHING = (np.nan,) * 6


def _equal(phi: Sampled, q: float, epsilon: float, second: float, slopes: float) -> tuple[Any, ...]:
    jumps = phi.diverges(2)
    if not _is_pair(q, epsilon, second):
        return NOTHING
    if epsilon == 0:
        bends = float(phi.curvature_moment(np.array([q]))[0])
        return second, slopes, slopes, 0.0 if np.isfinite(slopes) else np.inf, 0.0, bends
    if epsilon == 2:
        return _mirror(phi, q)
    rule = _rule(phi, q, epsilon, second, slopes, turns=jumps)
    if rule is None:
        return NOTHING
    _, weights, one, other = rule
    tilt = "tilt" if jumps else "slope"
    product = weights @ (one.mean * other.mean)
    slope_product = weights @ (getattr(one, tilt) * getattr(other, tilt))
    s = np.sqrt(q * min(epsilon, 2 - epsilon))
    bends = weights @ (bend(one, s, jumps) * bend(other, s, jumps))
    if epsilon > 1:
        apart = weights @ _half_square(one.variance, other.variance, one.mean - other.mean)
        gap = slopes - slope_product
        if not jumps:
            variances = one.slope_variance, other.slope_variance
            gap = weights @ _half_square(*variances, one.slope - other.slope)
        apart /= q * epsilon
        return product, slope_product, apart, gap, slopes - apart, bends
    apart = weights @ one.variance / (q * epsilon)
    if jumps:
        return product, slope_product, apart, np.inf, np.inf, bends
    gap, deficit = weights @ one.slope_variance, weights @ one.lack
    # Either is a small part of what it is subtracted from, or is the better one itself.
    if deficit < 0.5 * slopes:
        apart = slopes - deficit
    else:
        deficit = slopes - apart
    return product, slope_product, apart, gap, deficit, bends


def bend(part: Smoothed, s: float, jumps: bool) -> np.ndarray:
    """Return the second derivative of the smoothed φ."""
    return part.turn / s**2 if jumps else part.bend / s


def _equal_rates(
    phi: Sampled, q: float, epsilon: float, second: float, slopes: float
) -> tuple[Any, ...]:
    """Return the derivatives of `_equal` by q, from those of the densities of y and z by log q.

    These are (y² - 1)/2 and (z² - 1)/2 times the densities.
    """
    jumps = phi.diverges(2)
    if not _is_pair(q, epsilon, second):
        return NOTHING
    at = np.array([q])
    by_second, by_slopes = (float(phi.moment_rate(at, x, 1)[0]) for x in ("second", "slope2"))
    if epsilon == 0:
        still = np.nan if jumps else 0.0
        return by_second, by_slopes, by_slopes, still, still, np.nan
    if epsilon == 2:
        return _mirror_rates(phi, q, by_second, by_slopes)
    rule = _rule(phi, q, epsilon, second, slopes, turns=True)
    if rule is None:
        return NOTHING
    y, weights, one, other = rule
    outer = weights * (y * y - 1)

    def of_product(f: np.ndarray, g: np.ndarray, f_turn: np.ndarray, g_turn: np.ndarray) -> Any:
        return (outer @ (f * g) + weights @ (f_turn * g + f * g_turn)) / (2 * q)

    product = of_product(one.mean, other.mean, one.turn, other.turn)
    slope_product = np.nan
    if not jumps:
        slope_product = of_product(one.slope, other.slope, one.slope_turn, other.slope_turn)
    apart = weights @ one.variance / (q * epsilon)
    if epsilon > 1:
        distance = second - weights @ (one.mean * other.mean)
        apart = (by_second - product) / (q * epsilon) - distance / (q * q * epsilon)
        return product, slope_product, apart, by_slopes - slope_product, by_slopes - apart, np.nan
    apart = (outer @ one.variance + weights @ one.variance_turn) / (2 * q * q * epsilon) - apart / q
    if jumps:
        return product, slope_product, apart, np.nan, np.nan, np.nan
    gap = (outer @ one.slope_variance + weights @ one.slope_variance_turn) / (2 * q)
    deficit = (outer @ one.lack + weights @ one.lack_turn) / (2 * q)
    if weights @ one.lack < 0.5 * slopes:
        apart = by_slopes - deficit
    else:
        deficit = by_slopes - apart
    return product, slope_product, apart, gap, deficit, np.nan


def _is_pair(q: float, epsilon: float, second: float) -> bool:
    return bool(np.isfinite(second) and q > 0 and 0 <= epsilon <= 2)


def _rule(
    phi: Sampled, q: float, epsilon: float, second: float, slopes: float, turns: bool
) -> Rule | None:
    """Return the rule, None if it does not find what is known from one Gaussian."""
    opposite = epsilon > 1
    rest = 2 - epsilon if opposite else epsilon
    sigma, s = np.sqrt(q * (1 - rest)), np.sqrt(q * rest)
    base, offset, weights = _outer(phi, sigma, s, opposite)
    one = smoothed(phi, base, offset, s, turns)
    other = smoothed(phi, -base, -offset, s, turns) if opposite else one
    # One y stands for all if φ does not see it: that at which y² is 1, as its mean is.
    y = (base + offset) / sigma if base.size > 1 else np.ones(1)
    missed = missed_by(weights, one, second, slopes)
    if opposite:
        missed = max(missed, missed_by(weights, other, second, slopes))
    return Rule(y, weights, one, other) if missed <= TOLERANCE else None


def missed_by(weights: np.ndarray, part: Smoothed, second: float, slopes: float) -> Any:
    """Return what a rule misses of E φ² and of E φ'², if that is finite, as parts of them."""
    missed = abs(weights @ (part.variance + part.mean**2) - second) / (second or 1.0)
    if np.isfinite(slopes):
        seen = weights @ (part.slope_variance + part.slope**2)
        missed = max(missed, abs(seen - slopes) / (slopes or 1.0))
    return missed


def _half_square(one: np.ndarray, other: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Return E (f - g)²/2 of independent f and g from their variances and E f - E g."""
    return (one + other + apart**2) / 2


def _mirror(phi: Sampled, q: float) -> tuple[float, ...]:
    """Return the statistics at correlation -1: those of the even part of φ, the odd one of φ'."""
    at = np.array([q])
    second, slopes = float(phi.second_moment(at)[0]), float(phi.slope_moment(at, 2)[0])
    odd, odd_slope = (float(phi.expect(name, at)[0]) for name in ("odd", "odd_slope"))
    bends = phi.opposite(q, "curve")
    if phi.diverges(2):
        slope_product = phi.opposite(q, "slope")
        return second - 2 * odd, slope_product, odd / q, slopes - slope_product, np.nan, bends
    return second - 2 * odd, slopes - 2 * odd_slope, odd / q, 2 * odd_slope, slopes - odd / q, bends


def _mirror_rates(phi: Sampled, q: float, by_second: float, by_slopes: float) -> tuple[float, ...]:
    at = np.array([q])
    odd = float(phi.expect("odd", at)[0])
    rate, slope = (float(phi.moment_rate(at, name, 1)[0]) for name in ("odd", "odd_slope"))
    apart = rate / q - odd / q**2
    return by_second - 2 * rate, by_slopes - 2 * slope, apart, 2 * slope, by_slopes - apart, np.nan


def remembered(
    phi: Sampled,
    question: str,
    solve: Callable[[np.ndarray], list[tuple[float, ...]]],
    *numbers: np.ndarray,
) -> np.ndarray:
    """Return rows of numbers' answers, transposed, of which only new ones are solved for."""
    if len(phi.pairs) > REMEMBERED:
        phi.pairs = {}
    keys = list(zip(*(x.tolist() for x in numbers), strict=True))
    # Other threads may add to what is remembered, or forget it.
    known: dict[tuple[float, ...], Any] = {key: phi.pairs.get((question, key)) for key in keys}
    new = [key for key, row in known.items() if row is None]
    if new:
        with np.errstate(all="ignore"):
            known.update(zip(new, solve(np.array(new)), strict=True))
        phi.pairs.update(((question, key), known[key]) for key in new)
    return np.array([known[key] for key in keys]).T
