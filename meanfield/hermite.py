"""Two correlated Gaussians by Hermite series, where these end or c is well below 1.

With normalised Hermite polynomials h_k, φ(√q z) = Σ a_k h_k(z) and φ'(√q z) = Σ b_k h_k(z), where
a_{k+1} = √q b_k/√(k + 1). Gaussians of correlation c and any two variances have [1]

    E φ(u1) φ(u2) = Σ a_k a'_k c^k,      E φ'(u1) φ'(u2) = Σ b_k b'_k c^k,

the primes standing for the second variance. If the variances are equal, and ε = 1 - c,

    E (φ(u1) - φ(u2))²/(2qε)           = Σ b_k²/(k + 1) (1 - c^(k+1))/ε,
    E (φ'(u1) - φ'(u2))²/2             = Σ b_k² (1 - c^k),
    E φ'² - E (φ(u1) - φ(u2))²/(2qε)   = Σ b_k²/(k + 1) Σ_{i <= k} (1 - c^i).

The terms are positive, so that nothing cancels however close to 1 c is. Derivatives by q are those
of the coefficients, 2q da_k/dq = k a_k + √((k + 1)(k + 2)) a_{k+2}; b_k obeys the same law.

Parseval's theorem tells what the terms that are left out add up to. A series has *ended* where this
is rounding for φ, φ' and φ'' alike. It then serves every c. A series that has not ended serves
those c at which c^k is nothing for all that is left out.

References
----------
[1] F. G. Mehler, Journal für die reine und angewandte Mathematik 66 (1866) 161-176.
"""

import functools
from typing import NamedTuple

import numpy as np

from meanfield.panels import gauss
from meanfield.sampled import Sampled

# Coefficients of φ' that are kept.
TERMS = 512
# Gaussians are seen up to here, in standard deviations: the density times h_k is 1e-16 there.
WIDTH = 12.0
# The ends of the rule's pieces, which resolve h_k, and the nodes of each.
GRID, NODES = np.linspace(-WIDTH, WIDTH, 65), 16
# φ is seen by pieces that are not cut if no panel is smaller than this part of them.
FINER = 8
# A rule of more nodes costs more than it saves.
MOST = 4096
# What the rule may miss of E φ² and E φ'²: whole pieces, and pieces cut where panels end.
WHOLE, CUT = 5e-14, 2e-12
# A series has ended if it lacks at most these parts of Var φ' and of E φ''², or this one of E φ'².
ENDED, BENT, ROUNDED = 1e-13, 1e-11, 1e-30
# c^k, and what later terms add, is nothing below these.
NOTHING, SMALL = 1e-18, 1e-17
# The difference of coefficients whose variances differ by less than this part is an integral.
TOGETHER = 1e-3
# The series of so many variances are remembered.
REMEMBERED = 512


class Series(NamedTuple):
    """The coefficients of φ and φ' at a variance, and what is left out.

    Where φ jumps those of φ' include its Dirac masses.
    """

    q: float
    values: np.ndarray
    """a_k, one more than there are b_k."""
    slopes: np.ndarray
    """b_k."""
    value_rates: np.ndarray
    """da_k/dq."""
    slope_rates: np.ndarray
    """db_k/dq."""
    rest: float
    """Σ a_k²/q of what is left out."""
    slope_rest: float
    """Σ b_k² of what is left out."""
    rest_rate: float
    """The derivatives of both by q."""
    slope_rest_rate: float
    ended: bool
    jumps: bool

    def serves(self, epsilon: np.ndarray) -> np.ndarray:
        """Return whether the series is right at correlations 1 - ε."""
        return np.full(np.shape(epsilon), True) if self.ended else _is_far(epsilon)


def _is_far(epsilon: np.ndarray) -> np.ndarray:
    """Return whether c^k is nothing for all terms that are left out."""
    return np.abs(1 - np.asarray(epsilon)) ** TERMS <= NOTHING


def may_serve(phi: Sampled, epsilon: np.ndarray) -> np.ndarray:
    """Return at which correlations 1 - ε a series may be right: where φ has a kink none ends."""
    smooth = not (phi.diverges(2) or (phi.rough.bend != 0).any())
    return np.full(np.shape(epsilon), True) if smooth else _is_far(epsilon)


def series(phi: Sampled, q: float) -> Series | None:
    """Return the Hermite series of φ at a variance q > 0, None where no rule resolves φ."""
    known = phi.series
    if q not in known:
        if len(known) >= REMEMBERED:
            known = phi.series = {}
        with np.errstate(all="ignore"):
            known[q] = _series(phi, q)
    return known[q]


def _series(phi: Sampled, q: float) -> Series | None:
    at, jumps = np.array([q]), phi.diverges(2)
    squared = float(phi.slope_moment(at, 2)[0])
    rule = _resolved(phi, np.sqrt(q), float(phi.second_moment(at)[0]), squared)
    if rule is None:
        return None
    a, b = _coefficients(rule, q, jumps)
    da, db = _rates(a, q), _rates(b, q)
    rests, size = _rests(rule, q, a, b, da, db), None
    if not jumps:
        size = _end(b, rests[1], q * float(phi.curvature_moment(at)[0]), ROUNDED * squared)
    ended = size is not None
    if ended:
        rests = 0.0, 0.0, 0.0, 0.0
    kept = TERMS if size is None else size
    parts = a[: kept + 1], b[:kept], da[: kept + 1], db[:kept]
    return Series(q, *parts, *rests, ended, jumps)


def _coefficients(rule: "_Rule", q: float, jumps: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return a_k up to k = TERMS + 2, and b_k up to TERMS + 1."""
    k = np.arange(1, TERMS + 3)
    mean = rule.weights @ rule.value
    if jumps:
        later = (rule.polynomials @ (rule.weights * (rule.value - mean)))[1:]
        return np.append(mean, later), later * np.sqrt(k / q)
    b = (rule.polynomials @ (rule.weights * rule.slope))[:-1]
    return np.append(mean, b * np.sqrt(q / k)), b


def _rests(
    rule: "_Rule", q: float, a: np.ndarray, b: np.ndarray, da: np.ndarray, db: np.ndarray
) -> tuple[float, float, float, float]:
    """Return what `TERMS` terms leave out of Σ a_k²/q and of Σ b_k², and its derivatives by q.

    What is linear is taken off φ before, so that nothing cancels where there is little else.
    """
    weights, turn = rule.weights, rule.weights * (rule.z**2 - 1) / (2 * q)
    value, slope = rule.value - a[0] - a[1] * rule.z, rule.slope - b[0]
    rest = max(0.0, weights @ value**2 - (a[2 : TERMS + 1] ** 2).sum()) / q
    rest_rate = (turn @ value**2 - 2 * (a[2 : TERMS + 1] * da[2:]).sum() - rest) / q
    slope_rest = max(0.0, weights @ slope**2 - (b[1:TERMS] ** 2).sum())
    slope_rest_rate = turn @ slope**2 - 2 * (b[1:TERMS] * db[1:]).sum()
    return rest, slope_rest, rest_rate, slope_rest_rate


def _end(b: np.ndarray, rest: float, bent: float, noise: float) -> int | None:
    """Return how many terms of φ' are more than rounding, None if the series has not ended.

    `rest` is what is left out of Σ b_k², `bent` is q E φ''² = Σ k b_k², `noise` the rounding of φ'.
    """
    k, squares = np.arange(1, TERMS), b[1:TERMS] ** 2
    within = BENT * bent + np.sqrt(noise * bent) + noise
    if not (rest <= ENDED * squares.sum() + noise and abs(k @ squares - bent) <= within):
        return None
    if squares.sum() <= noise:
        return 1
    tails = np.cumsum((k**2 * squares)[::-1])[::-1]
    return 1 + int((tails > SMALL * tails[0]).sum())


def _rates(terms: np.ndarray, q: float) -> np.ndarray:
    """Return the derivatives of coefficients by q, but those of the last two."""
    k = np.arange(terms.size - 2)
    return (k * terms[:-2] + np.sqrt((k + 1) * (k + 2)) * terms[2:]) / (2 * q)


class _Rule(NamedTuple):
    """Nodes z, weights of E, h_k at the nodes, and φ and φ' at √q z."""

    z: np.ndarray
    weights: np.ndarray
    polynomials: np.ndarray
    value: np.ndarray
    slope: np.ndarray


def _resolved(phi: Sampled, sigma: float, second: float, squared: float) -> _Rule | None:
    """Return a rule whose pieces are cut where φ is rough or small panels end.

    None if it misses E φ² or E φ'².
    """

    def tried(ends: np.ndarray, tolerance: float) -> _Rule | None:
        z, weights = _nodes(ends.tobytes())
        value, slope = phi.values(sigma * z)
        missed = abs(weights @ value**2 - second) / (second or 1.0)
        if np.isfinite(squared):
            missed = max(missed, abs(weights @ slope**2 - squared) / (squared or 1.0))
        if not missed <= tolerance:
            return None
        polynomials = _plain() if ends is GRID else _polynomials(z)
        return _Rule(z, weights, polynomials, value, slope)

    if not np.isfinite(second):
        return None
    edges, sizes = phi.edges / sigma, np.diff(phi.edges) / sigma
    sizes = np.minimum(np.append(sizes, np.inf), np.append(np.inf, sizes))
    seen, piece = np.abs(edges) < WIDTH, GRID[1] - GRID[0]
    rough = seen & np.isin(phi.edges, phi.panels.rough) & ~np.isin(edges, GRID)
    found = None
    if not rough.any() and sizes[seen].min(initial=np.inf) > piece / FINER:
        found = tried(GRID, WHOLE)
    if found is None:
        ends = np.union1d(GRID, edges[rough | (seen & (sizes < piece))])
        found = tried(ends, CUT) if NODES * ends.size <= MOST else None
    return found


@functools.lru_cache(maxsize=4)
def _nodes(ends: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes between ends and their weights of a standard normal variable."""
    marks = np.frombuffer(ends)
    x, w = gauss(NODES)
    half = np.diff(marks)[:, None] / 2
    z = ((marks[:-1] + marks[1:])[:, None] / 2 + half * x).ravel()
    return z, (half * w).ravel() * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)


def _polynomials(z: np.ndarray) -> np.ndarray:
    """Return the normalised Hermite polynomials h_0 to h_{TERMS + 2} at z."""
    rows = np.empty((TERMS + 3, z.size))
    rows[0], rows[1] = 1.0, z
    for k in range(1, TERMS + 2):
        rows[k + 1] = (z * rows[k] - np.sqrt(k) * rows[k - 1]) / np.sqrt(k + 1)
    return rows


@functools.cache
def _plain() -> np.ndarray:
    return _polynomials(_nodes(GRID.tobytes())[0])


# Pairs


class _Powers(NamedTuple):
    """c^k and 1 - c^k of correlations, axis 0, for k from 0."""

    power: np.ndarray
    lost: np.ndarray


def _powers(epsilon: np.ndarray, terms: int) -> _Powers:
    k = np.arange(terms)
    opposite = epsilon[:, None] > 1
    rest = np.where(opposite, 2 - epsilon[:, None], epsilon[:, None])
    log = np.maximum(np.log1p(-rest), -1e300)
    turned = opposite & (k % 2 == 1)
    power, lost = np.exp(k * log), -np.expm1(k * log)
    return _Powers(np.where(turned, -power, power), np.where(turned, 1 + power, lost))


def equal(own: Series, epsilon: np.ndarray) -> np.ndarray:
    """Return rows of what `meanfield.plane.Equal` has, for 0 < ε < 2."""
    a, b = own.values, own.slopes
    k = np.arange(1, a.size)
    power, lost = _powers(epsilon, a.size)
    product, slope_product = power @ a**2, power[:, :-1] @ b**2
    apart = (lost[:, 1:] @ (b**2 / k) + own.rest) / epsilon
    bends = power[:, : b.size - 1] @ (k[:-1] * b[1:] ** 2) / own.q
    if own.jumps:
        gap = deficit = np.full_like(apart, np.inf)
    else:
        gap = lost[:, :-1] @ b**2 + own.slope_rest
        within = np.cumsum(lost[:, :-1], axis=1) @ (b**2 / k)
        deficit = within + np.maximum(0.0, own.slope_rest - own.rest / epsilon)
    return np.stack([product, slope_product, apart, gap, deficit, bends], axis=1)


def equal_rates(own: Series, epsilon: np.ndarray) -> np.ndarray:
    """Return rows of the derivatives of `equal` by q, NaN for E φ''φ''."""
    a, b = own.values, own.slopes
    k = np.arange(1, a.size)
    by_value, by_slope = 2 * a * own.value_rates, 2 * b * own.slope_rates
    power, lost = _powers(epsilon, a.size)
    product, slope_product = power @ by_value, power[:, :-1] @ by_slope
    apart = (lost[:, 1:] @ (by_slope / k) + own.rest_rate) / epsilon
    unknown = np.full_like(apart, np.nan)
    if own.jumps:
        slope_product = gap = deficit = unknown
    else:
        gap = lost[:, :-1] @ by_slope + own.slope_rest_rate
        within = np.cumsum(lost[:, :-1], axis=1) @ (by_slope / k)
        deficit = within + own.slope_rest_rate - own.rest_rate / epsilon
    return np.stack([product, slope_product, apart, gap, deficit, unknown], axis=1)


def unequal(
    phi: Sampled, one: Series, other: Series, epsilon: float, s: float, t: float, gap: float
) -> tuple[float, ...]:
    """Return what `meanfield.unequal.Unequal` has, for 0 < ε < 2. `gap` is q1 - q2."""
    a1, a2 = _padded(one.values, other.values)
    b1, b2 = _padded(one.slopes, other.slopes)
    (power,), (lost,) = _powers(np.array([epsilon]), a1.size)
    away = a1 - a2
    if abs(gap) < TOGETHER * one.q:
        away = _difference(phi, one, other, gap, away)
    apart = s * away + (s - t) * a2
    rest = s * s * one.q * one.rest + t * t * other.q * other.rest
    separation = (apart @ apart + rest) / 2 + s * t * (lost @ (a1 * a2))
    return power @ (a1 * a2), power[:-1] @ (b1 * b2), separation


def _difference(
    phi: Sampled, one: Series, other: Series, gap: float, away: np.ndarray
) -> np.ndarray:
    """Return a_k(q1) - a_k(q2) as the integral of its derivative, known as `away` if not so."""
    total = np.zeros(away.size)
    for x, w in zip(*gauss(3), strict=True):
        own = series(phi, (one.q + other.q + x * gap) / 2)
        if own is None:
            return away
        total += w / 2 * gap * _padded(own.value_rates, total)[0][: total.size]
    return total


def unequal_rates(one: Series, other: Series, epsilon: float) -> tuple[float, ...]:
    """Return what `meanfield.unequal.Rates` has, for 0 < ε < 2."""
    a1, a2, da1, da2 = _padded(one.values, other.values, one.value_rates, other.value_rates)
    b1, b2, db1, db2 = _padded(one.slopes, other.slopes, one.slope_rates, other.slope_rates)
    ((power,), _), k = _powers(np.array([epsilon]), a1.size), np.arange(1, b1.size)
    bends = power[: k.size] @ (k * b1[1:] * b2[1:]) / np.sqrt(one.q * other.q)
    slopes = (np.nan,) * 2
    if not one.jumps:
        slopes = power[:-1] @ (db1 * b2), power[:-1] @ (b1 * db2)
    return bends, power @ (da1 * a2), power @ (a1 * da2), *slopes


def _padded(*vectors: np.ndarray) -> list[np.ndarray]:
    """Return vectors with zeros at their ends, all of one size."""
    size = max(vector.size for vector in vectors)
    return [np.pad(vector, (0, size - vector.size)) for vector in vectors]
