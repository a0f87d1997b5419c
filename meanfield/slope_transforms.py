"""E X/(Ω - X) and its like, of a law of slopes X (`meanfield.slope_law`) and a complex Ω.

On each piece z is replaced by a variable in which the pole keeps its distance from the path.
"""

import functools
from typing import NamedTuple

import numpy as np

from meanfield.line import density as normal_density
from meanfield.panels import gauss
from meanfield.slope_law import CENTRED, SlopeLaw, preimages

# Nodes of rules on a piece; how many are wanted in any case, and for each unit of u; parts of these
# for a coarser rule that checks it, and for the way to a solution.
SIZES, FEWEST, A_UNIT = (16, 24, 32, 40, 48, 64, 80, 96, 128), 24.0, 5.4
# |M| from which on 1 + M is computed from it.
LARGE = 2.0
NARROWEST, WIDEST = 1e-13, 4.0
# Nodes in hand at a time.
AT_ONCE = 2**17


@functools.cache
def legendre(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes and weights of Gauss and Legendre on (0, 1)."""
    nodes, weights = gauss(size)
    return (nodes + 1) / 2, weights / 2


class _Centres(NamedTuple):
    """z0 and δ of (1), and the ends of u, of shape (points, K)."""

    z: np.ndarray
    delta: np.ndarray
    start: np.ndarray
    stop: np.ndarray


def _centres(law: SlopeLaw, log_r: np.ndarray, theta: np.ndarray) -> _Centres:
    z, log_x, steep, bend = preimages(law, log_r, CENTRED * theta)
    apart = np.hypot(log_r[:, None] - log_x, theta[:, None])
    # steep·δ + bend·δ²/2 = apart
    delta = 2 * apart / (steep + np.sqrt(steep**2 + 2 * bend * apart) + 1e-300)
    delta = np.clip(delta, NARROWEST, WIDEST)
    low, high = law.ends
    return _Centres(z, delta, -np.arcsinh((z - low) / delta), np.arcsinh((high - z) / delta))


def _nodes(law: SlopeLaw, centres: _Centres, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return X on pieces, and probabilities, fit for an integrand in Ω - X: shape (points, all)."""
    nodes, weights = legendre(size)
    z0, delta, start, stop = centres
    grown = np.exp(start[..., None] + (stop - start)[..., None] * nodes)
    half = delta[..., None] / 2
    shrunk = half / grown
    grown *= half
    low, high = law.ends
    z = np.clip(z0[..., None] + (grown - shrunk), low[:, None], high[:, None])
    masses = (grown + shrunk) * weights * (law.keep * (stop - start))[..., None]
    masses *= normal_density(z, 1.0)
    return law.x(z).reshape(len(z), -1), masses.reshape(len(z), -1)


class Transforms(NamedTuple):
    """M = E X/(Ω - X) and what goes with it; complex, but for the angle."""

    m: np.ndarray
    one_plus_m: np.ndarray
    log_slope: np.ndarray
    """d/dlog Ω of log(M/(1 + M))."""
    angle: np.ndarray
    """E arg(Ω - X)."""

    @property
    def log_ratio(self) -> np.ndarray:
        """log(M/(1 + M)), continuous above the real axis, where both arguments are in [-π, 0]."""
        apart = log_below(self.m) - log_below(self.one_plus_m)
        # Where X varies little, M is large, and 1/M is what counts.
        large = np.abs(self.m) > LARGE
        w = 1 / np.where(large, self.m, LARGE)
        size = np.log1p(2 * w.real + w.real**2 + w.imag**2) / 2
        return np.where(large, -size - 1j * np.arctan2(w.imag, 1 + w.real), apart)


def transforms(
    law: SlopeLaw,
    log_r: np.ndarray,
    theta: np.ndarray,
    part: float = 1.0,
    angle: bool = False,
) -> Transforms:
    """Return the transforms at Ω = exp(log_r + iθ), 0 <= θ <= π, by a `part` of the nodes.

    The angle is 0 unless asked for.
    """
    if law.discrete:
        values, masses = (
            np.broadcast_to(v, (log_r.size, v.size)) for v in (law.places, law.masses)
        )
        return _transforms(values, masses, log_r, theta, angle)
    centres = _centres(law, log_r, theta)
    # The pole is at ±iπ/2, and the rule on an interval of this length: so many digits take
    # so many nodes.
    wanted = part * (FEWEST + A_UNIT * (centres.stop - centres.start).max(axis=1))
    size = np.searchsorted(SIZES, wanted)
    found = np.zeros((4, log_r.size), dtype=complex)
    for kind in np.unique(size):
        nodes = SIZES[min(kind, len(SIZES) - 1)]
        where = np.flatnonzero(size == kind)
        count = max(1, AT_ONCE // (len(law.z) * nodes))
        for at in np.split(where, range(count, where.size, count)):
            x, weights = _nodes(law, _Centres(*(v[at] for v in centres)), nodes)
            shape = (at.size, law.places.size)
            values = np.concatenate([np.broadcast_to(law.places, shape), x], axis=1)
            masses = np.concatenate([np.broadcast_to(law.masses, shape), weights], axis=1)
            found[:, at] = _transforms(values, masses, log_r[at], theta[at], angle)
    return Transforms(found[0], found[1], found[2], np.real(found[3]))


def _transforms(
    values: np.ndarray, masses: np.ndarray, log_r: np.ndarray, theta: np.ndarray, angle: bool
) -> Transforms:
    """Return the transforms of values of X and their probabilities."""
    ratio = values * np.exp(-log_r)[:, None]
    sine, cosine = np.sin(theta)[:, None], np.cos(theta)[:, None]
    apart = np.square(1 - ratio) + ratio * (4 * np.square(np.sin(theta / 2)))[:, None]
    inverse = 1 / np.maximum(apart, 1e-280)
    ratio_inverse = ratio * inverse
    real = ratio_inverse * (cosine - ratio)
    imaginary = -sine * ratio_inverse
    other = (1 - ratio * cosine) * inverse

    def mean(f: np.ndarray) -> np.ndarray:
        return np.einsum("ij,ij->i", masses, f)

    mean_imaginary = mean(imaginary)
    m = mean(real) + 1j * mean_imaginary
    one_plus_m = np.where(np.abs(m) > LARGE, 1 + m, mean(other) + 1j * mean_imaginary)
    # d M/d log Ω = -E XΩ/(Ω - X)², the product of the two summands.
    slope = -mean(real * other - imaginary**2) - 1j * mean(imaginary * (real + other))
    turned = mean(np.arctan2(sine, cosine - ratio)) if angle else np.zeros(log_r.size)
    return Transforms(m, one_plus_m, slope / (m * one_plus_m), turned)


def log_below(w: np.ndarray) -> np.ndarray:
    """Return log w for w on or below the real axis, its argument in [-π, 0]."""
    size = np.log(np.maximum(np.abs(w), 1e-300))
    return size + 1j * np.arctan2(-np.abs(np.imag(w)), np.real(w))
