"""The same as `meanfield.plane` for two Gaussians of any variances q1, q2.

Of correlation c >= 0 and 1 - c = ε, u_i = y_i + s_i z_i with y_i = √(q_i c) y and s_i = √(q_i ε)
share y (for c < 0, u2 has -y). Given y both are independent, so that

    E φ(u1) φ(u2)               = E_y E_z φ(u1) E_z φ(u2),
    E (s φ(u1) - t φ(u2))²      = E_y [s² Var_z φ(u1) + t² Var_z φ(u2)
                                       + (s E_z φ(u1) - t E_z φ(u2))²].

Where u1 and u2 are much closer than s, the difference of their means is the mean of its derivative;
at ε = 0 that of φ' between them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from meanfield import hermite
from meanfield.hermite import Series, series
from meanfield.line import density
from meanfield.panels import gauss
from meanfield.plane import OUTER, OUTER_NODES, TOLERANCE, around, bend, missed_by, remembered
from meanfield.sampled import Sampled
from meanfield.smoothed import WIDTH, Smoothed, smoothed

# Places that are closer than this part of s are together.
TOGETHER = 1e-3


class Unequal(NamedTuple):
    """Statistics of pairs of any variances."""

    product: np.ndarray
    slope_product: np.ndarray
    separation: np.ndarray
    """E (s φ(u1) - t φ(u2))²/2."""


class Rates(NamedTuple):
    """What their derivatives take."""

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
    numbers = (q1, q2, epsilon, s, t, gap)
    return Unequal(*remembered(phi, "unequal", _rows(phi, _unequal), *numbers))


def unequal_rates(phi: Sampled, q1: np.ndarray, q2: np.ndarray, epsilon: np.ndarray) -> Rates:
    """Return what derivatives of these statistics take."""
    return Rates(*remembered(phi, "unequal rates", _rows(phi, _rates), q1, q2, epsilon))


def _rows(phi: Sampled, function: Callable[..., Any]) -> Callable[[np.ndarray], list[Any]]:
    def solve(new: np.ndarray) -> list[Any]:
        seconds = np.stack([phi.second_moment(q) for q in new[:, :2].T], axis=1)
        slopes = np.stack([phi.slope_moment(q, 2) for q in new[:, :2].T], axis=1)
        rows = zip(new.tolist(), seconds, slopes, strict=True)
        return [
            function(_Pair(phi, q1, q2, epsilon, second, slope), *rest)
            for (q1, q2, epsilon, *rest), second, slope in rows
        ]

    return solve


class _Pair:
    """Two Gaussians: the parts of their variances that they share, and that they do not."""

    def __init__(
        self,
        phi: Sampled,
        q1: float,
        q2: float,
        epsilon: float,
        seconds: np.ndarray,
        slopes: np.ndarray,
    ):
        self.phi, self.q1, self.q2, self.epsilon = phi, q1, q2, epsilon
        self.seconds, self.slopes = seconds, slopes
        self.legal = bool(np.isfinite(seconds).all() and min(q1, q2) > 0 and 0 <= epsilon <= 2)
        self.rest = 2 - epsilon if epsilon > 1 else epsilon
        self.sign = -1.0 if epsilon > 1 else 1.0
        with np.errstate(invalid="ignore"):
            self.stretch = np.sqrt(np.array([q1, q2]) * (1 - self.rest))
            self.spread = np.sqrt(np.array([q1, q2]) * self.rest)

    def series(self) -> "tuple[Series, Series] | None":
        """Return the Hermite series of φ at both variances, if one serves the correlation."""
        epsilon = np.array(self.epsilon)
        if not self.legal or self.rest == 0 or not hermite.may_serve(self.phi, epsilon):
            return None
        one, other = (series(self.phi, float(q)) for q in (self.q1, self.q2))
        if one is None or other is None:
            return None
        return (one, other) if one.serves(epsilon) | other.serves(epsilon) else None

    def rule(self, turns: bool) -> "_Rule | None":
        """Return the rule, None if it does not find what is known from either Gaussian."""
        phi, stretch, spread, sign = self.phi, self.stretch, self.spread, self.sign
        y, weights = _common(phi, stretch, spread, sign)
        nowhere = np.zeros(y.size)
        first = smoothed(phi, nowhere, stretch[0] * y, spread[0], turns)
        second = smoothed(phi, nowhere, sign * stretch[1] * y, spread[1], turns)
        missed = max(
            missed_by(weights, part, a, b)
            for part, a, b in zip((first, second), self.seconds, self.slopes, strict=True)
        )
        return _Rule(y, weights, first, second) if missed <= TOLERANCE else None


class _Rule(NamedTuple):
    """Places and weights of E_y, and what z1 and z2 make of φ there."""

    y: np.ndarray
    weights: np.ndarray
    first: Smoothed
    second: Smoothed


def _unequal(pair: _Pair, s: float, t: float, gap: float) -> tuple[Any, ...]:
    if not pair.legal:
        return (np.nan,) * 3
    return _aligned(pair, s, t, gap) if pair.rest == 0 else _apart(pair, s, t, gap)


def _aligned(pair: _Pair, s: float, t: float, gap: float) -> tuple[Any, ...]:
    """Return the statistics of u1 = a1 y and u2 = ±a2 y."""
    phi, stretch, sign = pair.phi, pair.stretch, pair.sign
    y, weights = _common(phi, stretch, pair.spread, sign)
    (one, slope1), (two, slope2) = (phi.values(r * y) for r in (stretch[0], sign * stretch[1]))
    apart = s * one - t * two
    if sign > 0:
        step = gap / stretch.sum() * y
        apart = s * _step(phi, stretch[1] * y, step, one - two) + (s - t) * two
    slope_product = np.inf if phi.diverges(2) else weights @ (slope1 * slope2)
    return weights @ (one * two), slope_product, weights @ apart**2 / 2


def _apart(pair: _Pair, s: float, t: float, gap: float) -> tuple[Any, ...]:
    """Return the statistics of two Gaussians that are neither aligned nor opposite."""
    known = pair.series()
    if known is not None:
        return hermite.unequal(pair.phi, *known, pair.epsilon, s, t, gap)
    rule = pair.rule(turns=False)
    if rule is None:
        return (np.nan,) * 3
    y, weights, first, second = rule
    stretch, spread, rest = pair.stretch, pair.spread, pair.rest
    width = (abs(stretch[0] - stretch[1]) + abs(spread[0] - spread[1])) * WIDTH
    apart = s * first.mean - t * second.mean
    if pair.sign > 0 and width < TOGETHER * spread.min():
        sums = np.maximum([stretch.sum(), spread.sum()], np.finfo(float).tiny)
        steps = gap * np.array([1 - rest, rest]) / sums
        apart = s * _difference(pair.phi, y, stretch, spread, steps) + (s - t) * second.mean
    variances = weights @ (s * s * first.variance + t * t * second.variance)
    jumps = pair.phi.diverges(2)
    slopes = [part.tilt if jumps else part.slope for part in (first, second)]
    product = weights @ (first.mean * second.mean)
    return product, weights @ (slopes[0] * slopes[1]), (variances + weights @ apart**2) / 2


def _rates(pair: _Pair) -> tuple[Any, ...]:
    if not pair.legal:
        return (np.nan,) * 5
    return _aligned_rates(pair) if pair.rest == 0 else _apart_rates(pair)


def _apart_rates(pair: _Pair) -> tuple[Any, ...]:
    """Return E φ''φ'', and derivatives by q1 and q2 of E φφ and of E φ'φ'.

    That of a smoothed function by log q is half of y times its derivative by y and s times that
    by s.
    """
    known = pair.series()
    if known is not None:
        return hermite.unequal_rates(*known, pair.epsilon)
    rule = pair.rule(turns=True)
    if rule is None:
        return (np.nan,) * 5
    y, weights, *parts = rule
    jumps, at = pair.phi.diverges(2), (pair.stretch[0] * y, pair.sign * pair.stretch[1] * y)
    q = pair.stretch**2 + pair.spread**2
    slopes = [part.tilt if jumps else part.slope for part in parts]
    bends = [bend(part, s, jumps) for part, s in zip(parts, pair.spread, strict=True)]
    rates, slope_rates = [], []
    for i, part in enumerate(parts):
        other = parts[1 - i]
        rates.append(weights @ ((at[i] * part.tilt + part.turn) * other.mean) / (2 * q[i]))
        rate = weights @ ((at[i] * bends[i] + part.slope_turn) * slopes[1 - i]) / (2 * q[i])
        slope_rates.append(np.nan if jumps else rate)
    return weights @ (bends[0] * bends[1]), *rates, *slope_rates


def _aligned_rates(pair: _Pair) -> tuple[Any, ...]:
    """Return what `_apart_rates` does of u1 = a1 y and u2 = ±a2 y, Dirac masses included."""
    phi, stretch = pair.phi, pair.stretch
    if phi.diverges(2):
        return (np.inf, *(np.nan,) * 4)
    y, weights = _common(phi, stretch, pair.spread, pair.sign)
    scale = stretch[0], pair.sign * stretch[1]
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
        for t, mass in masses:
            beside = ratio * t * np.array([1 - 1e-9, 1 + 1e-9])
            height = mass * float(density(np.asarray(t), stretch[i] ** 2))
            rate += t * height * phi.values(beside)[1].mean()
            meets = [b for x, b in masses if abs(x - ratio * t) <= 1e-13 * abs(x)]
            curve = np.inf * meets[0] if meets else phi.curvature_at(beside).mean()
            bends += height * curve
        rates.append(weights @ (at[i] * slopes[i] * values[1 - i]) / (2 * stretch[i] ** 2))
        slope_rates.append(rate / (2 * stretch[i] ** 2))
    return bends, *rates, *slope_rates


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


def _common(
    phi: Sampled, stretch: np.ndarray, spread: np.ndarray, sign: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rule for E_y, y standard normal, of what two Gaussians make of φ."""
    points = [OUTER]
    for a, s, side in zip(stretch, spread, (1.0, sign), strict=True):
        if a > 1e-100 * s:
            points += [side * (base + offset) / a for base, offset in around(phi, a, s)]
    ends = np.unique(np.clip(np.concatenate(points), -WIDTH, WIDTH))
    low, high = ends[:-1], ends[1:]
    x, w = gauss(OUTER_NODES)
    half = (high - low)[:, None] / 2
    y = (low + high)[:, None] / 2 + half * x
    return y.ravel(), (half * w * density(y, np.float64(1.0))).ravel()
