"""Expectations over two correlated Gaussians, one inside the other.

Of correlation c >= 0 and 1 - c = ε, u1 and u2 share y and differ in z:

    u_i = y_i + s_i z_i,      y_i = √(q_i c) y,      s_i = √(q_i ε),

with y, z1, z2 standard normal (for c < 0, u2 has -y). Given y both are independent, so that

    E φ(u1) φ(u2)               = E_y E_z φ(u1) E_z φ(u2),
    E (s φ(u1) - t φ(u2))²      = E_y [s² Var_z φ(u1) + t² Var_z φ(u2)
                                       + (s E_z φ(u1) - t E_z φ(u2))²].

Of equal variances q nothing cancels, however close to 1 c is:

    E (φ'(u1) - φ'(u2))²/2      = E_y Var_z φ'(u),
    E (φ(u1) - φ(u2))²/(2qε)    = E_y Var_z φ(u) / s²,
    E φ'² - the latter          = E_y [Var_z φ'(u) - Var_z R],      R = ∫ (φ'(u) - E_z φ'(u)) dz,

for if φ' has Hermite coefficients b_k in z, φ has s b_k/√(k + 1). The slope of the smoothed φ, that
takes in what φ' has where φ jumps, is ∂/∂y E_z φ(u) = E_z z φ(u) / s.

The inner rule is cut where φ's panels end (`meanfield.panels`), so that it does not care for kinks
or jumps; the outer one is cut there too, and within 9s of rough points into pieces of the width of
s. Places are offsets from a rough point nearby, so that no digit is lost however small s is. The
mean of E_z φ(u)² and of E_z φ'(u)² is known from one Gaussian: where the rule misses it, the answer
is NaN.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from meanfield.line import density
from meanfield.panels import NODES, gauss
from meanfield.sampled import Sampled, antiderivative

# The rules end here, where the normal density is 1e-18 of its height.
WIDTH = 9.0
# Ends of the pieces of z, of the pieces of y in units of s around a rough point, and of y.
INNER = np.array([-WIDTH, -4.5, 0.0, 4.5, WIDTH])
AROUND = np.linspace(-WIDTH, WIDTH, 7)
OUTER = np.linspace(-WIDTH, WIDTH, 7)
# Part of E φ'² that a variance of φ' may be by rounding.
ROUNDED = 1e-28
# Where E Var φ is this part of E φ², it is known to all digits.
LARGE = 1e-3
# Nodes of a piece of y.
OUTER_NODES = 16
# Nodes of the even grids of y and z that are tried for a smooth φ.
EVEN = ((64, 48), (160, 120))
# Terms of the Hermite series of φ' in z, and what it may lack.
HERMITE, SERIES = 16, 1e-14
# Pairs whose statistics are remembered.
REMEMBERED = 20_000
# Numbers in hand at a time.
AT_ONCE = 2**21
# What the rule may miss of E φ² and E φ'².
TOLERANCE, EVEN_TOLERANCE = 2e-12, 5e-14
# Places that are closer than this part of s are together.
TOGETHER = 1e-3


class Smoothed(NamedTuple):
    """What a Gaussian of variance s² around places makes of φ: means and variances over z."""

    mean: np.ndarray
    variance: np.ndarray
    slope: np.ndarray
    """E φ'."""
    slope_variance: np.ndarray
    lack: np.ndarray
    """Var φ' - Var R."""
    tilt: np.ndarray
    """E zφ/s: the slope of the smoothed φ, jumps included."""
    bend: np.ndarray
    """E zφ'."""
    turn: np.ndarray
    """E (z² - 1) φ, which is s times the derivative of `mean` by s."""
    slope_turn: np.ndarray
    """E (z² - 1) φ'."""
    variance_turn: np.ndarray
    """E (z² - 1) (φ - E φ)², s times the derivative of `variance`."""
    slope_variance_turn: np.ndarray
    """E (z² - 1) (φ' - E φ')²."""
    lack_turn: np.ndarray
    """s times the derivative of `lack`: the last one less 2 E zR (φ' - E φ') - 2 Var R."""


def smoothed(phi: Sampled, base: np.ndarray, offset: np.ndarray, s: float) -> Smoothed:
    """Return what z makes of φ(base + offset + s z), elements of vectors by themselves."""
    found = np.empty((len(Smoothed._fields), base.size))
    for part, cuts in _cuts(phi, base, offset, s):
        found[:, part] = _inner(phi, base[part], offset[part], s, cuts)
    return Smoothed(*found)


def squared_curvature(phi: Sampled, base: np.ndarray, s: float) -> np.ndarray:
    """Return E φ''(base + s z)² of a φ without kinks."""
    found, nowhere = np.empty(base.size), np.zeros(base.size)
    for part, cuts in _cuts(phi, base, nowhere, s):
        _, _, weights, places = _nodes(base[part], nowhere[part], s, cuts)
        curves = phi.curvature_at(places.ravel()).reshape(places.shape)
        found[part] = np.einsum("yiz,yiz->y", curves**2, weights)
    return found


def _cuts(
    phi: Sampled, base: np.ndarray, offset: np.ndarray, s: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield some elements, and where panels end within their reach, in units of s."""
    edges = phi.edges
    at = base + offset
    first = np.searchsorted(edges, at - WIDTH * s, side="right")
    last = np.searchsorted(edges, at + WIDTH * s, side="left")
    count = np.maximum(last - first, 0)
    for n in np.unique(count):
        rows = np.flatnonzero(count == n)
        step = max(1, AT_ONCE // ((n + INNER.size) * NODES))
        for start in range(0, rows.size, step):
            part = rows[start : start + step]
            inside = edges[first[part, None] + np.arange(n)]
            z = ((inside - base[part, None]) - offset[part, None]) / s
            yield part, np.clip(z, -WIDTH, WIDTH)


def _nodes(
    base: np.ndarray, offset: np.ndarray, s: float, cuts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return half the widths of pieces, nodes z, weights of E_z, and where φ is evaluated."""
    grid = np.broadcast_to(INNER, (base.size, INNER.size))
    ends = np.sort(np.concatenate([grid, cuts], axis=1), axis=1)
    x, w = gauss(NODES)
    half = np.diff(ends, axis=1)[..., None] / 2
    z = (ends[:, :-1, None] + ends[:, 1:, None]) / 2 + half * x
    weights = half * w * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    return half, z, weights, base[:, None, None] + (offset[:, None, None] + s * z)


def _inner(
    phi: Sampled, base: np.ndarray, offset: np.ndarray, s: float, cuts: np.ndarray
) -> np.ndarray:
    half, z, weights, places = _nodes(base, offset, s, cuts)
    w = gauss(NODES)[1]
    values, slopes = (v.reshape(z.shape) for v in phi.values(places.ravel()))

    def mean(f: np.ndarray) -> np.ndarray:
        return np.einsum("yiz,yiz->y", f, weights)

    total = mean(np.ones_like(z))
    middle = mean(values) / total
    slope = mean(slopes) / total
    values = values - middle[:, None, None]
    slopes = slopes - slope[:, None, None]
    tilt = mean(z * values) / s
    # R from the left end, piece by piece.
    within = half * (slopes @ antiderivative().T)
    whole = (half * slopes * w).sum(axis=2)
    rest = within + (np.cumsum(whole, axis=1) - whole)[..., None]
    rest = rest - mean(rest)[:, None, None]
    variance = mean(slopes**2)
    spread, square = mean(rest**2), z * z - 1
    turned = mean(square * slopes**2)
    return np.stack(
        [
            middle,
            mean(values**2),
            slope,
            variance,
            variance - spread,
            tilt,
            mean(z * slopes),
            mean(square * values),
            mean(square * slopes),
            mean(square * values**2),
            turned,
            turned - 2 * mean(z * rest * slopes) + 2 * spread,
        ]
    )


def _evenly(phi: Sampled, y: np.ndarray, s: float, size: int) -> Smoothed:
    """Return `smoothed` of a smooth φ by an even grid of z, which then converges geometrically."""
    z, weights = _grid(size)
    values, slopes = (v.reshape(y.size, size) for v in phi.values((y[:, None] + s * z).ravel()))
    middle, slope = values @ weights, slopes @ weights
    values, slopes = values - middle[:, None], slopes - slope[:, None]
    variance = slopes**2 @ weights
    terms = slopes @ (weights[:, None] * _hermite(size))
    k = np.arange(1, HERMITE + 1)
    lack = terms**2 @ (k / (k + 1))
    # s times the derivative of the k-th term is k times it and √((k + 1)(k + 2)) the next but one.
    growth = k * terms
    growth[:, :-2] += np.sqrt((k + 1) * (k + 2))[:-2] * terms[:, 2:]
    lack_turn = 2 * (terms * growth) @ (k / (k + 1))
    # Where the Hermite series of φ' has not ended, it does not tell.
    ended = np.abs(variance - (terms**2).sum(axis=1)) <= SERIES * variance + ROUNDED * slope**2
    lack, lack_turn = (np.where(ended, x, np.nan) for x in (lack, lack_turn))
    tilt, bend = values @ (weights * z) / s, slopes @ (weights * z)
    square = weights * (z * z - 1)
    turns = (values @ square, slopes @ square, values**2 @ square, slopes**2 @ square, lack_turn)
    return Smoothed(middle, values**2 @ weights, slope, variance, lack, tilt, bend, *turns)


@functools.cache
def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an even grid, symmetric about 0, and its weights of a standard normal variable."""
    z = WIDTH * (2 * np.arange(size) + 1 - size) / size
    weights = np.exp(-0.5 * z * z)
    return z, weights / weights.sum()


@functools.cache
def _hermite(size: int) -> np.ndarray:
    """Return the normalised Hermite polynomials of degree 1 to HERMITE on an even grid."""
    z = _grid(size)[0]
    columns = [np.ones(size), z]
    for k in range(1, HERMITE):
        columns.append((z * columns[k] - np.sqrt(k) * columns[k - 1]) / np.sqrt(k + 1))
    return np.stack(columns[1:], axis=1)


class Rule(NamedTuple):
    """What it may miss, weights of E_y, and what z makes of φ at y, and at y or -y."""

    tolerance: float
    y: np.ndarray
    """Places, in standard deviations."""
    weights: np.ndarray
    one: Smoothed
    other: Smoothed


def _rules(phi: Sampled, variance: float, s: float, opposite: bool) -> Iterator[Rule]:
    """Yield rules, each finer than the one before."""
    sigma = np.sqrt(variance)
    reach = WIDTH * (sigma + s)
    for size_y, size_z in EVEN:
        if _is_smooth(phi, reach, max(sigma / size_y, s / size_z)):
            y, weights = _grid(size_y)
            one = _evenly(phi, sigma * y, s, size_z)
            other = Smoothed(*(part[::-1] for part in one)) if opposite else one
            yield Rule(EVEN_TOLERANCE, y, weights, one, other)
    base, offset, weights = _outer(phi, sigma, s, opposite)
    one = smoothed(phi, base, offset, s)
    other = smoothed(phi, -base, -offset, s) if opposite else one
    y = (base + offset) / sigma if sigma else base
    yield Rule(TOLERANCE, y, weights, one, other)


def _is_smooth(phi: Sampled, reach: float, step: float) -> bool:
    """Return whether even grids see φ: steps of 2 WIDTH step are to pass none of its panels."""
    edges = phi.edges
    if -edges[0] <= reach or edges[-1] <= reach or (np.abs(phi.panels.rough) < reach).any():
        return False
    inside = (edges[:-1] < reach) & (edges[1:] > -reach)
    return bool(2 * WIDTH * step < np.diff(edges)[inside].min())


def _outer(
    phi: Sampled, sigma: float, s: float, both: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return places y, as bases and offsets from them, and weights for y ~ N(0, sigma²)."""
    if sigma <= 1e-100 * s:
        return np.zeros(1), np.zeros(1), np.ones(1)
    marks = list(_around(phi, sigma, s))
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


def _around(phi: Sampled, sigma: float, s: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
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
    return Equal(*_remembered(phi, "equal", _rows(phi, _equal), q, epsilon))


def equal_rates(phi: Sampled, q: np.ndarray, epsilon: np.ndarray) -> Equal:
    """Return the derivatives of the statistics `equal` by q."""
    return Equal(*_remembered(phi, "rates", _rows(phi, _equal_rates), q, epsilon))


def _rows(phi: Sampled, function: Callable[..., Any]) -> Callable[[np.ndarray], list[Any]]:
    def solve(new: np.ndarray) -> list[Any]:
        moments = phi.second_moment(new[:, 0]), phi.slope_moment(new[:, 0], 2)
        return [function(phi, *row) for row in zip(*new.T, *moments, strict=True)]

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
    rule = _rule(phi, q, epsilon, second, slopes)
    if rule is None:
        return NOTHING
    _, _, weights, one, other = rule
    tilt = "tilt" if jumps else "slope"
    product = weights @ (one.mean * other.mean)
    slope_product = weights @ (getattr(one, tilt) * getattr(other, tilt))
    s = np.sqrt(q * min(epsilon, 2 - epsilon))
    bends = weights @ (_bend(one, s, jumps) * _bend(other, s, jumps))
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


def _bend(part: Smoothed, s: float, jumps: bool) -> np.ndarray:
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
    rule = _rule(phi, q, epsilon, second, slopes)
    if rule is None:
        return NOTHING
    _, y, weights, one, other = rule
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


def _rule(phi: Sampled, q: float, epsilon: float, second: float, slopes: float) -> Rule | None:
    """Return the first rule that finds what is known from one Gaussian."""
    opposite = epsilon > 1
    rest = 2 - epsilon if opposite else epsilon
    for rule in _rules(phi, q * (1 - rest), np.sqrt(q * rest), opposite):
        missed = _missed(rule.weights, rule.one, second, slopes)
        if opposite:
            missed = max(missed, _missed(rule.weights, rule.other, second, slopes))
        variance, lack = rule.weights @ rule.one.variance, rule.weights @ rule.one.lack
        known = phi.diverges(2) or opposite or np.isfinite(lack)
        if missed <= rule.tolerance and (known or variance > LARGE * second):
            return rule
    return None


def _missed(weights: np.ndarray, part: Smoothed, second: float, slopes: float) -> Any:
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


class Unequal(NamedTuple):
    """Statistics of pairs of any variances."""

    product: np.ndarray
    slope_product: np.ndarray
    separation: np.ndarray
    """E (s φ(u1) - t φ(u2))²/2."""
    bend_product: np.ndarray
    """E φ''(u1) φ''(u2), Dirac masses included."""
    rate1: np.ndarray
    """The derivative of `product` by q1."""
    rate2: np.ndarray
    slope_rate1: np.ndarray
    """The derivative of `slope_product` by q1."""
    slope_rate2: np.ndarray


def unequal(
    phi: Sampled,
    q1: np.ndarray,
    q2: np.ndarray,
    epsilon: np.ndarray,
    s: np.ndarray,
    t: np.ndarray,
    gap: np.ndarray,
) -> Unequal:
    """Return the statistics of pairs of variances q1, q2 > 0 and correlation 1 - ε, vectors.

    `gap` is q1 - q2, of which rounded variances may have lost digits.
    """

    def solve(new: np.ndarray) -> list[tuple[float, ...]]:
        seconds = np.stack([phi.second_moment(q) for q in new[:, :2].T], axis=1)
        slopes = np.stack([phi.slope_moment(q, 2) for q in new[:, :2].T], axis=1)
        return [
            _unequal(phi, *pair, *moments)
            for *pair, moments in zip(*new.T, zip(seconds, slopes, strict=True), strict=True)
        ]

    return Unequal(*_remembered(phi, "unequal", solve, q1, q2, epsilon, s, t, gap))


def _remembered(
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


def _unequal(
    phi: Sampled,
    q1: float,
    q2: float,
    epsilon: float,
    s: float,
    t: float,
    gap: float,
    seconds: np.ndarray,
    slopes: np.ndarray,
) -> tuple[Any, ...]:
    if not (np.isfinite(seconds).all() and min(q1, q2) > 0 and 0 <= epsilon <= 2):
        return NONE
    rest = 2 - epsilon if epsilon > 1 else epsilon
    sign = -1.0 if epsilon > 1 else 1.0
    stretch = np.sqrt(np.array([q1, q2]) * (1 - rest))
    spread = np.sqrt(np.array([q1, q2]) * rest)
    jumps, tolerance = phi.diverges(2), TOLERANCE
    if rest == 0:
        y, weights = _common(phi, stretch, spread, sign)
        (one, _), (two, _) = (phi.values(r * y) for r in (stretch[0], sign * stretch[1]))
        variances = 0.0
        others = _aligned(phi, y, weights, stretch, sign)
    else:
        for tolerance, y, weights, smooth in _common_rules(phi, stretch, spread, sign):
            first = smooth(stretch[0] * y, spread[0])
            second = smooth(sign * stretch[1] * y, spread[1])
            missed = max(
                _missed(weights, part, a, b)
                for part, a, b in zip((first, second), seconds, slopes, strict=True)
            )
            if missed <= tolerance:
                break
        else:
            return NONE
        one, two = first.mean, second.mean
        variances = weights @ (s * s * first.variance + t * t * second.variance)
        others = _apart(weights, y, first, second, stretch, spread, sign, jumps)
    width = (abs(stretch[0] - stretch[1]) + abs(spread[0] - spread[1])) * WIDTH
    # What is smooth by itself is so beyond the scale of s.
    scale = spread.min()
    if rest > 0 and tolerance == EVEN_TOLERANCE:
        scale = max(scale, np.diff(phi.edges).min())
    if sign > 0 and rest > 0 and width < TOGETHER * scale:
        steps = gap * np.array([1 - rest, rest]) / np.array([stretch.sum(), spread.sum()])
        apart = s * _difference(phi, y, stretch, spread, steps) + (s - t) * two
    elif sign > 0 and rest == 0:
        step = gap / stretch.sum() * y
        apart = s * _step(phi, stretch[1] * y, step, one - two) + (s - t) * two
    else:
        apart = s * one - t * two
    slope_product, bends, *rates = others
    separation = (variances + weights @ apart**2) / 2
    return weights @ (one * two), slope_product, separation, bends, *rates


NONE = (np.nan,) * 8


def _apart(
    weights: np.ndarray,
    y: np.ndarray,
    first: Smoothed,
    second: Smoothed,
    stretch: np.ndarray,
    spread: np.ndarray,
    sign: float,
    jumps: bool,
) -> tuple[Any, ...]:
    """Return E φ'φ' and E φ''φ'', and derivatives by q1 and q2 of E φφ and of E φ'φ'.

    That of a smoothed function by log q is half of y times its derivative by y and s times that
    by s.
    """
    at = stretch[0] * y, sign * stretch[1] * y
    parts, q = (first, second), stretch**2 + spread**2
    slopes = [part.tilt if jumps else part.slope for part in parts]
    bends = [_bend(part, s, jumps) for part, s in zip(parts, spread, strict=True)]
    rates, slope_rates = [], []
    for i, part in enumerate(parts):
        other = parts[1 - i]
        rates.append(weights @ ((at[i] * part.tilt + part.turn) * other.mean) / (2 * q[i]))
        rate = weights @ ((at[i] * bends[i] + part.slope_turn) * slopes[1 - i]) / (2 * q[i])
        slope_rates.append(np.nan if jumps else rate)
    return weights @ (slopes[0] * slopes[1]), weights @ (bends[0] * bends[1]), *rates, *slope_rates


def _aligned(
    phi: Sampled, y: np.ndarray, weights: np.ndarray, stretch: np.ndarray, sign: float
) -> tuple[Any, ...]:
    """Return what `_apart` does of u1 = a1 y and u2 = a2 y, Dirac masses included."""
    if phi.diverges(2):
        return (np.inf, np.inf, *(np.nan,) * 4)
    scale = stretch[0], sign * stretch[1]
    at = [a * y for a in scale]
    values, slopes = zip(*(phi.values(x) for x in at), strict=True)
    curves = [phi.curvature_at(x) for x in at]
    bends = weights @ (curves[0] * curves[1])
    rough = phi.rough
    masses = [(t, b) for t, b in zip(rough.at, rough.bend, strict=True) if b]
    rates, slope_rates = [], []
    for i in range(2):
        ratio = scale[1 - i] / scale[i]
        rate = weights @ (at[i] * curves[i] * slopes[1 - i])
        for t, bend in masses:
            beside = ratio * t * np.array([1 - 1e-9, 1 + 1e-9])
            height = bend * float(density(np.asarray(t), stretch[i] ** 2))
            rate += t * height * phi.values(beside)[1].mean()
            meets = [b for x, b in masses if abs(x - ratio * t) <= 1e-13 * abs(x)]
            curve = np.inf * meets[0] if meets else phi.curvature_at(beside).mean()
            bends += height * curve
        rates.append(weights @ (at[i] * slopes[i] * values[1 - i]) / (2 * stretch[i] ** 2))
        slope_rates.append(rate / (2 * stretch[i] ** 2))
    return weights @ (slopes[0] * slopes[1]), bends, *rates, *slope_rates


def _difference(
    phi: Sampled, y: np.ndarray, stretch: np.ndarray, spread: np.ndarray, steps: np.ndarray
) -> np.ndarray:
    """Return E_z φ(u1) - E_z φ(u2), u1 and u2 much closer than s, as the mean of its derivative.

    `steps` are the differences a1 - a2 and s1 - s2, which roots have lost.
    """
    total = np.zeros_like(y)
    for x, w in zip(*gauss(2), strict=True):
        middle, width = (
            pair.mean() + x * d / 2 for pair, d in zip((stretch, spread), steps, strict=True)
        )
        part = smoothed(phi, np.zeros(y.size), middle * y, width)
        total += w / 2 * (steps[0] * y * part.slope + steps[1] * part.bend)
    return total


def _step(phi: Sampled, x: np.ndarray, step: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Return φ(x + step) - φ(x), known as `apart`; by φ' where no panel ends between and close."""
    edges = phi.edges
    panel = np.searchsorted(edges, x)
    size = np.diff(edges)[np.clip(panel - 1, 0, edges.size - 2)]
    close = (panel == np.searchsorted(edges, x + step)) & (np.abs(step) < TOGETHER * size)
    slopes = [phi.values(x + (1 + z) * step / 2)[1] for z in gauss(2)[0]]
    return np.where(close, step * (slopes[0] + slopes[1]) / 2, apart)


def _common_rules(
    phi: Sampled, stretch: np.ndarray, spread: np.ndarray, sign: float
) -> Iterator[tuple[float, np.ndarray, np.ndarray, Callable[[np.ndarray, float], Smoothed]]]:
    """Yield rules for E_y, and the one for E_z that goes with each."""
    reach = WIDTH * (stretch + spread).max()
    for size_y, size_z in EVEN:
        if _is_smooth(phi, reach, max(stretch.max() / size_y, spread.max() / size_z)):
            yield EVEN_TOLERANCE, *_grid(size_y), lambda y, s, size=size_z: _evenly(phi, y, s, size)
    yield (
        TOLERANCE,
        *_common(phi, stretch, spread, sign),
        lambda y, s: smoothed(phi, np.zeros(y.size), y, s),
    )


def _common(
    phi: Sampled, stretch: np.ndarray, spread: np.ndarray, sign: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rule for E_y, y standard normal, of what two Gaussians make of φ."""
    points = [OUTER]
    for a, s, side in zip(stretch, spread, (1.0, sign), strict=True):
        if a > 1e-100 * s:
            points += [side * (base + offset) / a for base, offset in _around(phi, a, s)]
    ends = np.unique(np.clip(np.concatenate(points), -WIDTH, WIDTH))
    low, high = ends[:-1], ends[1:]
    x, w = gauss(OUTER_NODES)
    half = (high - low)[:, None] / 2
    y = (low + high)[:, None] / 2 + half * x
    return y.ravel(), (half * w * density(y, np.float64(1.0))).ravel()
