"""Expectations over one Gaussian as sums that do not know the function.

    E f(√q z) = ∫ f(x) n(x; q) dx,        n the normal density of variance q.

The line is cut into octaves ±[2^k, 2^(k+1)]. On each of them n is, for every q, a polynomial of
degree below `NODES` to rounding: the first `NODES` Legendre moments of f on the octaves are all
that an expectation sees of f, and they are found once. Written as weights W at the Gauss-Legendre
nodes of the octaves,

    E f(√q z) = Σ_i W_i n(x_i; q):

one array for every q, of a size that does not depend on how wild f is. Derivatives by q take the
same weights: ∂n/∂q = (x²/q - 1) n/(2q), and so on. A Dirac mass δ(x - t) has weights too, as n(t)
is a sum over the nodes of the octave of t. As n is even, x and -x share their weights.

The error of these sums is, for all q, 1e-15 of the largest |f| within reach, and 5e-15 with the
derivative of n. Of an f that vanishes wherever n is large it may be more of E |f|: see `doubt`.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from meanfield import panels

# Nodes of an octave. The innermost octave is [0, 2^LEAST].
NODES = 24
LEAST = -80
# Octaves that see a Gaussian: from 2^-INWARD of its width on.
WINDOW, INWARD = 35, 28
# The error of these sums, as a part of the largest |f| of an octave times its probability.
ROUNDING = 1e-15
# So many of the last moments tell the next ones.
LAST = 3
# The octaves on which they count, from that of a standard deviation on.
SEEN = np.arange(-5, 7)
# Variances in hand at a time.
AT_ONCE = 256


@functools.cache
def octaves(count: int) -> np.ndarray:
    """Return the ends of the innermost `count` octaves."""
    return np.concatenate([[0.0], 2.0 ** np.arange(LEAST, LEAST + count)])


def count_within(reach: float) -> int:
    """Return how many octaves there are up to a power of two."""
    return round(np.log2(reach)) - LEAST + 1


@functools.cache
def nodes(count: int) -> np.ndarray:
    """Return the nodes of octaves, shape (count, NODES)."""
    edges = octaves(count)
    return panels.places(edges[:-1], edges[1:], NODES)


def density(x: np.ndarray, q: np.ndarray | float) -> np.ndarray:
    """Return the normal density of variance q at x."""
    with np.errstate(under="ignore", over="ignore"):
        return np.exp(-0.5 * x * x / q) / np.sqrt(2 * np.pi * q)


class _Window(NamedTuple):
    """Densities of some variances at the nodes of the octaves that see them.

    Further in the density is that at 0, to rounding; further out it is 0.
    """

    octaves: np.ndarray
    """By variance, which octaves these are, shape (variances, WINDOW)."""
    density: np.ndarray
    """Shape (variances, WINDOW, NODES)."""
    square: np.ndarray
    """x²/q, of the same shape."""
    inside: np.ndarray
    """The density at 0."""


@functools.lru_cache(maxsize=16)
def _window(count: int, variances: bytes) -> _Window:
    q = np.frombuffer(variances)
    first = np.floor(np.log2(q) / 2).astype(int) - LEAST - INWARD
    # Windows do not depend on how many octaves are known: those beyond have no weights.
    first = np.clip(first, 0, count)
    places = first[:, None] + np.arange(WINDOW)
    x = nodes(count + WINDOW)[places]
    at = q[:, None, None]
    return _Window(places, density(x, at), x * x / at, density(np.zeros(1), q))


def moments(low: np.ndarray, high: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Return the Legendre moments of functions on octaves, shape (functions, count, NODES).

    Given are their `values` at the nodes of panels, which octaves' ends cut and which ascend, in an
    array of shape (functions, panels, nodes of a panel).
    """
    edges = octaves(count)
    place = np.searchsorted(edges, (low + high) / 2) - 1
    x, w = panels.gauss(values.shape[-1])
    middle, half = (edges[place] + edges[place + 1]) / 2, (edges[place + 1] - edges[place]) / 2
    size = (high - low) / 2
    local = (((low + high) / 2 - middle) / half)[:, None] + (size / half)[:, None] * x
    starts = np.flatnonzero(np.concatenate([[True], np.diff(place) > 0]))
    summands = values * (w * size[:, None])
    found = np.zeros((len(values), count, NODES))
    before, polynomial = np.zeros_like(local), np.ones_like(local)
    for k in range(NODES):
        sums = np.einsum("fpn,pn->fp", summands, polynomial)
        found[:, place[starts], k] = np.add.reduceat(sums, starts, axis=1)
        after = ((2 * k + 1) * local * polynomial - k * before) / (k + 1)
        before, polynomial = polynomial, after
    return found


def weights(moments: np.ndarray) -> np.ndarray:
    """Return weights: ∫ f n dx is Σ_k c_k ∫ f P_k dx with c_k the Legendre coefficients of n."""
    return moments @ panels.transform(NODES)


def mass(at: float, count: int) -> np.ndarray:
    """Return the moments of δ(x - at), at > 0, shape (count, NODES)."""
    edges = octaves(count)
    found = np.zeros((count, NODES))
    place = int(np.searchsorted(edges, at, side="right")) - 1
    if place < count:
        local = (2 * at - edges[place] - edges[place + 1]) / (edges[place + 1] - edges[place])
        found[place] = np.polynomial.legendre.legvander(np.array([local]), NODES - 1)[0]
    return found


class Weights(NamedTuple):
    """Weights of functions, and their sums over all octaves before one.

    Behind the last octave follow as many empty ones as a window has.
    """

    nodes: np.ndarray
    before: np.ndarray

    @classmethod
    def of(cls, weights: np.ndarray) -> "Weights":
        """Return weights of shape (functions, count, NODES) as such."""
        weights = np.pad(weights, ((0, 0), (0, WINDOW), (0, 0)))
        sums = weights.sum(axis=2)
        return cls(weights, np.cumsum(sums, axis=1) - sums)

    @property
    def size(self) -> int:
        return self.nodes.shape[1] - WINDOW


def sums(weights: Weights, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return expectations, and their parts in the last octave, shapes (functions, variances)."""
    found = []
    for part in _pieces(q):
        window = _window(weights.size, part.tobytes())
        seen = np.einsum("qon,fqon->fqo", window.density, weights.nodes[:, window.octaves])
        inner = weights.before[:, window.octaves[:, 0]] * window.inside
        last = np.where(window.octaves == weights.size - 1, seen, 0.0).sum(axis=2)
        last = np.where(window.octaves[:, 0] < weights.size, last, np.abs(inner))
        found.append((seen.sum(axis=2) + inner, last))
    value, last = zip(*found, strict=True)
    return np.concatenate(value, axis=1), np.concatenate(last, axis=1)


def derivatives(
    weights: Weights, q: np.ndarray, order: int = 1, divided: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return d^order/dq^order of E f(√q z)/q^divided, and their sizes.

    The weights are those of f and of |f|.
    """
    polynomial, power = _rising(order, divided)
    found = []
    for part in _pieces(q):
        window = _window(weights.size, part.tobytes())
        w = window.square
        turn = window.density * np.polynomial.polynomial.polyval(w, polynomial)
        value = np.einsum("qon,qon->q", turn, weights.nodes[0, window.octaves])
        size = np.einsum("qon,qon->q", np.abs(turn), weights.nodes[1, window.octaves])
        inner = weights.before[:2, window.octaves[:, 0]] * window.inside * polynomial[0]
        found.append(np.stack([value + inner[0], size + np.abs(inner[1])]) / part**power)
    value, size = np.concatenate(found, axis=1)
    return value, size


@functools.cache
def _rising(order: int, divided: int) -> tuple[np.ndarray, int]:
    """Return P and r with d^order/dq^order n(x; q)/q^divided = n P(x²/q)/q^r."""
    polynomial, power = np.array([1.0]), divided
    for _ in range(order):
        turned = np.polynomial.polynomial.polymul(polynomial, [-0.5 - power, 0.5])
        slope = np.polynomial.polynomial.polyder(polynomial) if polynomial.size > 1 else [0.0]
        shrunk = np.polynomial.polynomial.polymul([0.0, 1.0], slope)
        polynomial, power = np.polynomial.polynomial.polysub(turned, shrunk), power + 1
    return polynomial, power


def doubt(moments: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return what expectations may lack, from Legendre moments by octave, shape (count, NODES).

    On an octave from x on the k-th coefficient of the density is about n(x) (2k + 1) e^-a i_k(a),
    i_k the modified spherical Bessel function and a = 3x²/4q. Lost are the products with moments
    from `NODES` on, which are taken to be as large as the last ones known, and what the nodes take
    the coefficients from 2 NODES on for. Beside all of E f this counts where f is 0 wherever the
    density is large.
    """
    sizes = np.pad(np.abs(moments), ((0, len(SEEN)), (0, 0)))
    last, largest = sizes[:, -LAST:].max(axis=1), sizes.max(axis=1)
    first = np.floor(np.log2(q) / 2).astype(int) - LEAST
    places = np.clip(first, 1 - SEEN[0], len(moments))[:, None] + SEEN
    low = octaves(len(sizes))[places]
    a = 0.75 * low**2 / q[:, None]
    lost = last[places] * _bessel(NODES, a) + largest[places] * _bessel(2 * NODES, a)
    return (lost * density(low, q[:, None])).sum(axis=1)


def _bessel(k: int, a: np.ndarray) -> np.ndarray:
    """Return (2k + 1) e^-a i_k(a) by the uniform expansion of the Bessel function."""
    order = k + 0.5
    root = np.hypot(order, a)
    size = np.exp(root - order * np.arcsinh(order / a) - a)
    return (2 * k + 1) * size / np.sqrt(4 * a * root)


@functools.cache
def probabilities(count: int) -> np.ndarray:
    """Return the weights of the function 1, shape (count, NODES)."""
    return np.diff(octaves(count))[:, None] / 2 * panels.gauss(NODES)[1]


def _pieces(q: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, q.size, AT_ONCE):
        yield np.ascontiguousarray(q[start : start + AT_ONCE], dtype=float)
