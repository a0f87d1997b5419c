"""The same as `meanfield.plane` for two Gaussians of any variances q1, q2.

Of correlation c >= 0 and 1 - c = ε, u_i = y_i + s_i z_i with y_i = √(q_i c) y and s_i = √(q_i ε)
share y (for c < 0, u2 has -y). Given y both are independent, so that

    E φ(u1) φ(u2)               = E_y E_z φ(u1) E_z φ(u2),
    E (s φ(u1) - t φ(u2))²      = E_y [s² Var_z φ(u1) + t² Var_z φ(u2)
                                       + (s E_z φ(u1) - t E_z φ(u2))²].

Where u1 and u2 are much closer than s, the difference of their means is the mean of its derivative;
at ε = 0 that of φ' between them.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from meanfield.line import density
from meanfield.panels import gauss
from meanfield.plane import (
    EVEN,
    EVEN_TOLERANCE,
    OUTER,
    OUTER_NODES,
    TOLERANCE,
    around,
    bend,
    is_smooth,
    missed_by,
    remembered,
)
from meanfield.sampled import Sampled
from meanfield.smoothed import WIDTH, Smoothed, even_grid, evenly, smoothed

# Places that are closer than this part of s are together.
TOGETHER = 1e-3


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

    return Unequal(*remembered(phi, "unequal", solve, q1, q2, epsilon, s, t, gap))


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
                missed_by(weights, part, a, b)
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
    bends = [bend(part, s, jumps) for part, s in zip(parts, spread, strict=True)]
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
        for t, mass in masses:
            beside = ratio * t * np.array([1 - 1e-9, 1 + 1e-9])
            height = mass * float(density(np.asarray(t), stretch[i] ** 2))
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
        if is_smooth(phi, reach, max(stretch.max() / size_y, spread.max() / size_z)):
            yield (
                EVEN_TOLERANCE,
                *even_grid(size_y),
                lambda y, s, size=size_z: evenly(phi, y, s, size),
            )
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
            points += [side * (base + offset) / a for base, offset in around(phi, a, s)]
    ends = np.unique(np.clip(np.concatenate(points), -WIDTH, WIDTH))
    low, high = ends[:-1], ends[1:]
    x, w = gauss(OUTER_NODES)
    half = (high - low)[:, None] / 2
    y = (low + high)[:, None] / 2 + half * x
    return y.ravel(), (half * w * density(y, np.float64(1.0))).ravel()
