"""The law of a unit's squared slope, and its transforms in the complex plane.

What a layer does to the lengths of gradients is decided by the law of

    X = B φ'(√q z)² / (p E φ'²),        z ~ N(0, 1),    B ~ Bernoulli(p),    E X = 1,

p the probability with which dropout keeps a unit. It has atoms where φ is linear (and at 0 where
it is constant, or a unit is dropped), and a continuous part where it is curved. Free
probability asks for its moment transform and its logarithmic potential,

    M(Ω) = E X/(Ω - X),        E log(Ω - X),

at Ω = r e^{iθ} above the real axis, often so close to it that the integrand nearly has a pole
where X(z) = r. The line is therefore cut into pieces on which X is monotone (at the rough points
of φ and where φ' or φ'' vanishes), and each piece is integrated in the variable u of

    z = z0 + δ sinh u,                                                                 (1)

z0 the place where X(z) comes closest to Ω and δ the distance of the pole from the axis: in u the
pole is at ±iπ/2 wherever Ω is, and Gauss-Legendre quadrature converges geometrically [1].

References
----------
[1] P. R. Johnston, D. Elliott, A sinh transformation for evaluating nearly singular boundary
    element integrals, Int. J. Numer. Methods Eng. 62 (2005) 564-578.
"""

import dataclasses
import functools
import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from meanfield._once import once
from meanfield.panels import NODES, places, transform
from meanfield.rootfind import sign_changes
from meanfield.sampled import Sampled

# What lies further out than this has probability 1e-15.
REACH = 8.0
CHECK, ROUGH = 0.75, 0.35
# A piece is tabulated at its ends and between, graded towards them by exp(-20).
TABLE = np.concatenate([[0.0], 1 / (1 + np.exp(-np.linspace(-20.0, 20.0, 127))), [1.0]])
# Pieces of the line keep off their ends by this part of them.
INSET = 1e-14
# Where X turns is known to this.
APART = 1e-10
# Points of a panel at which signs of φ' and φ'' are looked at. Values below the first part of the
# largest one are rounding, and so is a φ'' that does not move φ' by the second over a panel.
LOOKS, ROUNDING, STILL = 41, 1e-12, 1e-12
# Points that make a stretch.
RUN = 8
# X is the same all over a piece, or on two pieces, if it varies by less than this part of itself;
# the second where φ' is known from values of φ alone.
FLAT, ROUGHLY_FLAT = 1e-12, 1e-9
# X with a logarithm below this counts as 0: φ' is known to 1e-16 of its largest value. Logarithms
# end at the second, within double precision.
FAINT, FAINTEST = -40.0, -690.0
# Steps that find where X(z) = r in a cell of the table, to this part of θ.
STEPS, CENTRED = 30, 0.1
# Moments of X up to this order.
ORDER = 8


class Slopes(NamedTuple):
    """φ' as Legendre series on panels, from which its derivatives come."""

    edges: np.ndarray
    series: np.ndarray

    @classmethod
    def of(cls, one: Sampled, reach: float) -> "Slopes":
        """Return φ' at least from -reach to reach, or as far as φ goes."""
        one.upto(reach)
        edges = one.edges
        seen = (edges[1:] > -reach) & (edges[:-1] < reach)
        edges = edges[np.append(seen, False) | np.append(False, seen)]
        x = places(edges[:-1], edges[1:])
        return cls(edges, one.values(x.ravel())[1].reshape(x.shape) @ transform().T)

    def derivative(self, x: np.ndarray, order: int) -> np.ndarray:
        """Return the derivative of φ' at x of an order."""
        row = np.clip(np.searchsorted(self.edges, x, side="right") - 1, 0, self.edges.size - 2)
        low, high = self.edges[row], self.edges[row + 1]
        turns = np.polynomial.legendre.legder(np.eye(NODES), order)
        basis = np.polynomial.legendre.legvander((2 * x - low - high) / (high - low), NODES - 1)
        value = np.einsum("...k,...k->...", self.series[row], basis[..., : len(turns)] @ turns)
        return value * (2 / (high - low)) ** order

    def turns(self) -> np.ndarray:
        """Return the zeros of φ' and φ'', and where stretches begin and end on which φ'' is 0."""
        low, high = self.edges[:-1, None], self.edges[1:, None]
        # The ends of a panel belong to it.
        x = low + (high - low) * np.linspace(INSET, 1 - INSET, LOOKS)
        slope, curvature = self.derivative(x, 0), self.derivative(x, 1)
        still = STILL * np.abs(slope).max(axis=1, keepdims=True) / (high - low)
        found = []
        for order, values, rounding in ((0, slope, 0.0), (1, curvature, still)):
            visible = np.maximum(ROUNDING * np.abs(values).max(), rounding)
            seen = np.where(np.abs(values) > visible, values, 0.0).ravel()
            found.append(
                sign_changes(lambda t, k=order: self.derivative(t, k), x.ravel(), seen, 0.0)
            )
        return np.concatenate([*found, _ends_of_runs(x.ravel(), seen == 0)])


def _ends_of_runs(x: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """Return where long runs of points at which a function is flat begin and end."""
    change = np.flatnonzero(np.diff(flat.astype(int), prepend=0, append=0))
    begin, end = change[::2], change[1::2]
    long = end - begin >= RUN
    return x[np.concatenate([begin[long], end[long] - 1])]


@dataclasses.dataclass(frozen=True, eq=False)
class SlopeLaw:
    """The law of X: atoms, and K pieces of the line on which X is monotone and not constant."""

    one: Sampled
    slopes: Slopes
    q: float
    scale: float
    """p E φ'²: what φ'² is divided by."""
    keep: float
    places: np.ndarray
    """The places of the atoms, ascending; the first is 0."""
    masses: np.ndarray
    z: np.ndarray
    """Points on the pieces, in the order of ascending X; shape (K, TABLE.size)."""
    log_x: np.ndarray
    """log X there."""
    faint: float
    """P(0 < X < exp(FAINT)), in the mass of the atom at 0."""
    mean: float
    """E φ'²."""

    @property
    def resolved(self) -> bool:
        """Whether E φ'² is known, finite and not 0."""
        return math.isfinite(self.mean) and self.mean > 0

    @property
    def zero_mass(self) -> float:
        """P(X = 0)."""
        return float(self.masses[0] - self.faint)

    @property
    def discrete(self) -> bool:
        """Whether there are atoms alone."""
        return not len(self.z)

    @property
    def heaviest(self) -> tuple[float, float]:
        """The place and mass of the heaviest atom that is not at 0; 1 and 0 if there is none."""
        if self.places.size == 1:
            return 1.0, 0.0
        best = 1 + self.masses[1:].argmax()
        return float(self.places[best]), float(self.masses[best])

    @once
    def ranges(self) -> np.ndarray:
        """The intervals of log X that make up the support, ascending; shape (parts, 2)."""
        atoms = np.log(self.places[1:])
        low, high = (np.concatenate([atoms, self.log_x[:, end]]) for end in (0, -1))
        return np.stack([low, high], axis=1)[np.argsort(low, kind="stable")]

    @property
    def span(self) -> tuple[float, float]:
        """The ends of the support of log X, without an atom at 0."""
        low, high = self.ranges.T
        return float(low.min(initial=np.inf)), float(high.max(initial=-np.inf))

    @once
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Where pieces begin and end on the line."""
        return self.z.min(axis=1), self.z.max(axis=1)

    @once
    def steepness(self) -> tuple[np.ndarray, np.ndarray]:
        """|d log X/dz| and |d² log X/dz²| at the points on the pieces."""
        x = math.sqrt(self.q) * self.z
        slope, first, second = (self.slopes.derivative(x, order) for order in range(3))
        slope = np.where(slope == 0, 1e-300, slope)
        first, second = math.sqrt(self.q) * first / slope, self.q * second / slope
        return np.abs(2 * first), np.abs(2 * (second - first**2))

    def steepness_at(self, z: np.ndarray) -> np.ndarray:
        """Return |d log X/dz| at z."""
        x = math.sqrt(self.q) * z.ravel()
        first = self.one.curvature_at(x) / self.one.values(x)[1]
        return np.abs(2 * math.sqrt(self.q) * first).reshape(z.shape)

    @once
    def powers(self) -> np.ndarray:
        """E X^k, k = 1 ... 8."""
        orders = np.arange(1, ORDER + 1)
        if self.discrete:
            return (self.masses[:, None] * self.places[:, None] ** orders).sum(axis=0)
        q = np.array([self.q])
        moments = np.array([float(self.one.slope_moment(q, 2 * int(k))[0]) for k in orders])
        return self.keep * moments / self.scale**orders

    def x(self, z: np.ndarray) -> np.ndarray:
        """Return X at z, of a unit that is kept."""
        with np.errstate(all="ignore"):
            slope = self.one.values(math.sqrt(self.q) * z.ravel())[1].reshape(z.shape)
            return np.square(slope) / self.scale


def probability(z: np.ndarray) -> np.ndarray:
    """Return P(Z <= z) of a standard Gaussian Z."""
    found = np.array([math.erfc(-x * math.sqrt(0.5)) / 2 for x in np.ravel(z)], dtype=float)
    return found.reshape(np.shape(z))


@functools.lru_cache(maxsize=256)
def slope_law(one: Sampled, q: float, keep: float) -> SlopeLaw:
    """Return the law of X for a variance q > 0.

    Where E φ'² is not resolved, infinite or 0, the law is not `resolved`.
    """
    mean = float(one.slope_moment(np.array([q]), 2)[0])
    slopes = Slopes.of(one, REACH * math.sqrt(q))
    nothing = np.zeros((0, TABLE.size))
    zero, sure = np.zeros(1), np.ones(1)
    law = SlopeLaw(one, slopes, q, keep * mean, keep, zero, sure, nothing, nothing, 0.0, mean)
    if not law.resolved:
        return law
    edges = _edges(one.rough.at / math.sqrt(q), slopes.turns() / math.sqrt(q))
    # What is beyond the outermost ones belongs to them.
    mass = np.diff(probability(np.concatenate([[-np.inf], edges[1:-1], [np.inf]])))
    # At a rough point φ' may jump: pieces end a rounding error before it.
    inset = INSET * np.abs(edges) + 1e-30
    low, high = edges[:-1] + inset[:-1], edges[1:] - inset[1:]
    low, high, mass = (v[high > low] for v in (low, high, mass))
    z = _table(low, high)
    x = law.x(z)
    largest = x.max(axis=1)
    flat = np.ptp(x, axis=1) <= (FLAT if one.slopes else ROUGHLY_FLAT) * largest
    dim = largest <= math.exp(FAINT)
    values, masses = _merged(largest[flat & ~dim], keep * mass[flat & ~dim])
    faint = keep * mass[dim & (largest > 0)].sum()
    zero_mass = 1 - keep + keep * mass[dim].sum()
    law = replace(
        law,
        places=np.append(0.0, values),
        masses=np.append(zero_mass, masses),
        faint=float(faint),
    )
    return _without_faint(_with_pieces(law, z[~flat & ~dim]))


def _edges(rough: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Return where the line is cut; a turn next to another cut is that cut."""
    fixed = np.unique(np.concatenate([[-REACH, 0.0, REACH], rough[np.abs(rough) < REACH]]))
    turns = np.sort(turns[np.abs(turns) < REACH])
    turns = turns[np.diff(turns, prepend=-np.inf) > APART]
    turns = turns[np.abs(turns[:, None] - fixed).min(axis=1, initial=np.inf) > APART]
    return np.union1d(fixed, turns)


def _table(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return points on pieces, graded towards their ends."""
    z = low[:, None] + (high - low)[:, None] * TABLE
    return np.clip(z, low[:, None], high[:, None])


def _merged(values: np.ndarray, masses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return different values, ascending, and the masses of all that are equal to each."""
    order = np.argsort(values, kind="stable")
    values, masses = values[order], masses[order]
    first = np.flatnonzero(np.diff(values, prepend=-np.inf) > FLAT * values)
    return values[first], np.add.reduceat(masses, first) if first.size else masses


def _with_pieces(law: SlopeLaw, z: np.ndarray) -> SlopeLaw:
    """Return the law with points on pieces, and log X there, in the order of ascending X."""
    x = law.x(z)
    falls = (x[:, 0] > x[:, -1])[:, None]
    z, x = (np.where(falls, v[:, ::-1], v) for v in (z, x))
    log_x = np.maximum.accumulate(np.log(np.maximum(x, np.exp(FAINTEST))), axis=1)
    return replace(law, z=z, log_x=log_x)


def _without_faint(law: SlopeLaw) -> SlopeLaw:
    """Return the law with X below exp(FAINT) taken for 0."""
    cut = law.log_x[:, 0] < FAINT
    if not cut.any():
        return law
    dim = np.where(cut, preimages(law, np.array([FAINT]), np.zeros(1)).z[0], law.z[:, 0])
    lost = law.keep * np.abs(probability(dim) - probability(law.z[:, 0])).sum()
    ends = np.sort(np.stack([dim, law.z[:, -1]]), axis=0)
    bright = ends[1] > ends[0]
    masses = law.masses + np.append(lost, np.zeros(law.masses.size - 1))
    law = replace(law, masses=masses, faint=float(law.faint + lost))
    return _with_pieces(law, _table(*ends[:, bright]))


def _hermite(
    x: np.ndarray,
    x0: np.ndarray,
    x1: np.ndarray,
    y0: np.ndarray,
    y1: np.ndarray,
    slope0: np.ndarray,
    slope1: np.ndarray,
) -> np.ndarray:
    """Return the cubic through two points, with slopes of these sizes, at x; linear if it fails."""
    step = x1 - x0
    t = (x - x0) / step
    rise = np.sign(y1 - y0) * step
    linear = y0 + t * (y1 - y0)
    cubic = linear + t * (1 - t) * (
        (1 - t) * (rise * slope0 - (y1 - y0)) - t * (rise * slope1 - (y1 - y0))
    )
    inside = np.abs(cubic - (y0 + y1) / 2) < np.abs(y1 - y0) / 2
    return np.where(inside, cubic, linear)


class Preimages(NamedTuple):
    """Where X(z) = r on every piece, or the end that comes closest; shapes (points, K)."""

    z: np.ndarray
    log_x: np.ndarray
    steep: np.ndarray
    """|d log X/dz| and |d² log X/dz²|, from the table."""
    bend: np.ndarray


class _Brackets(NamedTuple):
    """The points and pieces whose roots are looked for, what these miss, and brackets of them."""

    point: np.ndarray
    where: np.ndarray
    target: np.ndarray
    near: np.ndarray
    a: np.ndarray
    b: np.ndarray
    f_a: np.ndarray
    f_b: np.ndarray


def preimages(law: SlopeLaw, log_r: np.ndarray, tolerance: np.ndarray) -> Preimages:
    """Return where log X(z) = log r, which may be missed by so much."""
    below = np.stack([np.searchsorted(row, log_r) for row in law.log_x], axis=1)
    index = np.clip(below - 1, 0, TABLE.size - 2)
    piece = np.arange(len(law.z))
    low, high = (law.z[piece, index + i] for i in (0, 1))
    log_low, log_high = (law.log_x[piece, index + i] for i in (0, 1))
    root = np.where(below == 0, low, high)
    log_root = np.where(below == 0, log_low, log_high)
    point, where = np.nonzero((below > 0) & (below < TABLE.size))
    target, near = log_r[point], tolerance[point] / 2

    def height(log_x: np.ndarray, target: np.ndarray) -> np.ndarray:
        # Of one sign with X - r, close to linear, and finite where X vanishes.
        return np.log1p(np.exp(log_x - target)) - math.log(2.0)

    a, b = low[point, where], high[point, where]
    f_a, f_b = (height(v[point, where], target) for v in (log_low, log_high))
    left = _Brackets(point, where, target, near, a, b, f_a, f_b)
    with np.errstate(all="ignore"):
        guess = _hermite(
            target,
            *(v[point, where] for v in (log_low, log_high, low, high)),
            *(1 / law.steepness[0][where, index[point, where] + i] for i in (0, 1)),
        )
        for _ in range(STEPS):
            if not left.point.size:
                break
            point, where, target, near, a, b, f_a, f_b = left
            gap = f_b - f_a
            c = np.where(gap == 0, b, b - f_b * (b - a) / gap) if guess is None else guess
            guess = None
            log_c = np.log(np.maximum(law.x(c), math.exp(FAINTEST)))
            f_c = height(log_c, target)
            spot: Any = point, where
            root[spot], log_root[spot] = c, log_c
            # The end that is kept twice counts half: Illinois.
            crosses = (f_c < 0) != (f_b < 0)
            a, f_a = np.where(crosses, b, a), np.where(crosses, f_b, f_a / 2)
            going = (np.abs(f_c) > near) & (c != b) & (f_c != 0)
            left = _Brackets(*(v[going] for v in (point, where, target, near, a, c, f_a, f_c)))
    at = np.clip((root - low) / np.where(high == low, 1.0, high - low), 0.0, 1.0)
    steep, bend = (
        v[piece, index] + at * (v[piece, index + 1] - v[piece, index]) for v in law.steepness
    )
    return Preimages(root, log_root, steep, bend)
