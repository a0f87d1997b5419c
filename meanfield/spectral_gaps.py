"""Where has the law of a free product no mass, and where does it end?

Outside the support Ω is real, and log λ as a function of log|Ω| (`meanfield.free_product`) is
monotone. The support ends where it turns.
"""

import numpy as np

from meanfield.free_product import Stack
from meanfield.rootfind import close_brackets
from meanfield.slope_law import FLAT
from meanfield.slope_transforms import log_below

# Edges are looked for at distances from the support of X between these, as logarithms. For layers
# that differ, M is tabulated at this number of distances, and made equal by this number of steps of
# Newton's method.
NEAREST, FARTHEST = -27.0, 6.0
DISTANCES, EQUAL_STEPS = 400, 4
# The number of points at which a search for gaps inside the spectrum looks, and of its rounds.
GAP_POINTS, GAP_ROUNDS = 65, 10
# The support of X is followed by a gap of this size in log Ω.
BEYOND = 400.0
# The slope of log ζ in log Ω is known to this, over the distance of log Ω from the support.
SLOPE_ROUNDING = 1e-13


def _stationary(stack: Stack, log_r: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return log ζ, its slope in log Ω, and M, for real Ω outside the support of X."""
    at = stack.at(log_r, np.zeros_like(log_r))
    ratio, m = np.real(at.log_ratio)[0], np.real(at.m)[0]
    value = (stack.count * log_r).sum(axis=0) + (stack.total - 1) * ratio
    value = value + stack.gaussian * np.real(log_below(at.one_plus_m[0]))
    slope = (stack.count / np.real(at.log_slope)).sum(axis=0) + stack.total - 1 + m * stack.gaussian
    return value, slope * np.real(at.log_slope)[0], m


def _gap_ends(
    stack: Stack, begin: np.ndarray, size: np.ndarray, positive: np.ndarray
) -> np.ndarray:
    """Return the log λ between which log ζ rises while log Ω of equal layers crosses gaps.

    A gap, from `begin` on, is one in the support of X; what is returned is one in that of λ, or
    NaNs; shape (gaps, 2). It has λ > 0 for real Ω only where M > 0 and, unless weights are
    Gaussian, where M < -1.
    """
    gaps = np.arange(begin.size)
    logits = np.tile([[[NEAREST, -NEAREST]]], (begin.size, 2, 1))
    part = np.linspace(0.0, 1.0, GAP_POINTS)
    ends = np.full((begin.size, 2), np.nan)
    for _ in range(GAP_ROUNDS):
        low, high = logits[..., :1], logits[..., 1:]
        points = low + (high - low) * part
        near, far = 1 / (1 + np.exp(-points)), 1 / (1 + np.exp(points))
        places = begin[:, None, None] + size[:, None, None] * near
        found = _stationary(stack, places.reshape(1, -1))
        values, slopes, m = (v.reshape(places.shape) for v in found)
        # The closer an end of the gap, the less is known of the slope.
        unsure = SLOPE_ROUNDING / np.minimum(near, far)
        rises = slopes * size[:, None, None] > unsure * stack.total
        rises &= np.where(positive[:, None, None], m > 0, (m < -1) & (stack.gaussian == 0))
        first = rises[:, 0].argmax(axis=1)
        last = GAP_POINTS - 1 - rises[:, 1, ::-1].argmax(axis=1)
        found_ends = np.stack([values[gaps, 0, first], values[gaps, 1, last]], axis=1)
        ends = np.where(np.any(rises, axis=(1, 2))[:, None], found_ends, np.nan)
        index = np.stack(
            [[np.maximum(first - 1, 0), first], [last, np.minimum(last + 1, GAP_POINTS - 1)]]
        )
        logits = np.take_along_axis(points, index.transpose(2, 0, 1), axis=2)
    return ends


def find_gaps(stack: Stack) -> np.ndarray:
    """Return the gaps in the support of log λ for equal layers, (gaps, 2), the outer ones last.

    These are the gap below the smallest X that is not 0, and the one above the largest.
    """
    low, high = stack.law.ranges.T
    reached = np.maximum.accumulate(high)
    begin, size = reached[:-1], low[1:] - reached[:-1]
    begin, size = begin[size > FLAT], size[size > FLAT]
    outer = np.array([low[0] - BEYOND, reached[-1]])
    if stack.is_law:
        begin, size = np.append(begin, outer), np.append(size, [BEYOND] * 2)
        return np.stack([begin, begin + size], axis=1)
    begin = np.concatenate([np.repeat(begin, 2), outer])
    size = np.concatenate([np.repeat(size, 2), np.full(2, BEYOND)])
    positive = np.append(np.arange(begin.size - 2) % 2 == 0, [False, True])
    with np.errstate(all="ignore"):
        ends = _gap_ends(stack, begin, size, positive)
    inner = ends[:-2]
    return np.concatenate([inner[~np.isnan(inner).any(axis=1)], ends[-2:]])


def edge_of_stack(stack: Stack, ends: np.ndarray, side: float) -> float:
    """Return log λ at the edge where Ω lies beyond `ends`, log x of every one of unlike layers."""
    distances = np.linspace(NEAREST, FARTHEST, DISTANCES)

    def beyond(distance: np.ndarray) -> np.ndarray:
        return ends[:, None] + side * np.exp(distance)

    def ratios(distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return log |log(M/(1 + M))| of every layer, and its slope in the log of the distance."""
        log_r = beyond(distance)
        at = stack.at(log_r, np.zeros_like(log_r))
        ratio = np.abs(np.real(at.log_ratio))
        return np.log(ratio), np.exp(distance) * np.abs(np.real(at.log_slope)) / ratio

    def alike(first: np.ndarray) -> np.ndarray:
        """Return log Ω of all layers, of one M, with the first one at a distance."""
        distance = np.tile(first, (ends.size, 1))
        if ends.size == 1:
            return beyond(distance)
        shared = ratios(distance)[0][0]
        distance[1:] = [np.interp(shared, row, distances) for row in table[1:]]
        for _ in range(EQUAL_STEPS):
            value, slope = ratios(distance)
            step = np.clip((shared - value) / slope, -1.0, 1.0)
            distance[1:] = np.clip(distance + step, NEAREST, FARTHEST)[1:]
        return beyond(distance)

    def slope(_: np.ndarray, distance: np.ndarray) -> np.ndarray:
        return np.nan_to_num(_stationary(stack, alike(distance))[1], nan=-1.0)

    with np.errstate(all="ignore"):
        table = ratios(np.tile(distances, (ends.size, 1)))[0] if ends.size > 1 else ends
        low, high = np.array([NEAREST]), np.array([FARTHEST])
        f_low, f_high = slope(low, low), slope(low, high)
        # log ζ rises far out; where it does so everywhere, there is no edge but the support's.
        if f_low >= 0 or f_high <= 0:
            root = low if f_low >= 0 else high
        else:
            root = close_brackets(slope, low, high, f_low, f_high)
        return float(_stationary(stack, alike(root))[0][0])


def support_of(low: float, high: float, gaps: np.ndarray) -> np.ndarray:
    """Return the bands of log λ that gaps leave of an interval; (bands, 2)."""
    inside = gaps[(gaps[:, 1] > low) & (gaps[:, 0] < high)]
    ends = np.sort(np.concatenate([[low], inside.ravel(), [high]]))
    bands = ends.reshape(-1, 2)
    return bands[bands[:, 1] > bands[:, 0]]


def smooth_bands(stack: Stack, low: float, high: float, gaps: np.ndarray) -> np.ndarray:
    """Return the intervals of log λ on which the density is smooth; (bands, 2)."""
    if not stack.is_law:
        return support_of(low, high, gaps)
    # The law itself is singular where a piece ends.
    breaks = np.unique(stack.law.log_x[:, [0, -1]])
    bands = np.stack([breaks[:-1], breaks[1:]], axis=1)
    return bands[np.diff(bands)[:, 0] > FLAT]
