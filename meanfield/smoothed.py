"""What a Gaussian around places makes of φ: means and variances of φ(y + s z) over z.

z is standard normal. With R = ∫ (φ'(u) - E φ'(u)) dz, u = y + s z, whose mean over z is taken off,

    Var φ' - Var R = Σ_k b_k² k/(k + 1),      b_k the Hermite coefficients of φ' in z.

The derivative of the density by s is (z² - 1)/s times it, so that s ∂/∂s E f(u) = E (z² - 1) f(u).
The slope of the smoothed φ, that takes in what φ' has where φ jumps, is ∂/∂y E φ(u) = E z φ(u)/s.

The rule is cut where φ's panels end (`meanfield.panels`), so that it does not care for kinks or
jumps. Places are offsets from a base, a rough point nearby, so that no digit is lost however small
s is.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from meanfield.panels import NODES, gauss
from meanfield.sampled import Sampled, antiderivative

# The rule ends here, where the normal density is 1e-18 of its height.
WIDTH = 9.0
# Ends of the pieces of z.
INNER = np.array([-WIDTH, -4.5, 0.0, 4.5, WIDTH])
# Numbers in hand at a time.
AT_ONCE = 2**21


NOTHING = np.empty(0)


class Smoothed(NamedTuple):
    """What a Gaussian of variance s² around places makes of φ: means and variances over z.

    The turns, what derivatives by s take, are empty unless they are asked for.
    """

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
    turn: np.ndarray = NOTHING
    """E (z² - 1) φ, which is s times the derivative of `mean` by s."""
    slope_turn: np.ndarray = NOTHING
    """E (z² - 1) φ'."""
    variance_turn: np.ndarray = NOTHING
    """E (z² - 1) (φ - E φ)², s times the derivative of `variance`."""
    slope_variance_turn: np.ndarray = NOTHING
    """E (z² - 1) (φ' - E φ')²."""
    lack_turn: np.ndarray = NOTHING
    """s times the derivative of `lack`: the last one less 2 E zR (φ' - E φ') - 2 Var R."""


TURNS = len(Smoothed._field_defaults)


def smoothed(
    phi: Sampled, base: np.ndarray, offset: np.ndarray, s: float, turns: bool = False
) -> Smoothed:
    """Return what z makes of φ(base + offset + s z), elements of vectors by themselves."""
    found = np.empty((len(Smoothed._fields) - (0 if turns else TURNS), base.size))
    for part, cuts in _cuts(phi, base, offset, s):
        found[:, part] = _inner(phi, base[part], offset[part], s, cuts, turns)
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
    phi: Sampled, base: np.ndarray, offset: np.ndarray, s: float, cuts: np.ndarray, turns: bool
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
    variance, spread = mean(slopes**2), mean(rest**2)
    lack, bend = variance - spread, mean(z * slopes)
    found = [middle, mean(values**2), slope, variance, lack, tilt, bend]
    if turns:
        square = z * z - 1
        turned = mean(square * slopes**2)
        found += [mean(square * values), mean(square * slopes), mean(square * values**2)]
        found += [turned, turned - 2 * mean(z * rest * slopes) + 2 * spread]
    return np.stack(found)
