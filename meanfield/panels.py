"""A function as panels: intervals on which it and its slope are polynomials to rounding.

φ and φ' are evaluated at the Gauss-Legendre nodes of panels, and a panel is halved until the last
coefficients of its Legendre series have fallen to rounding [1]. What is left of an interval that
has shrunk to rounding itself is a *rough* point: there φ or one of its derivatives jumps, or has a
singularity. So kinks and jumps are found by the sampling, wherever they are. A scan with steps of
1e-4 sees to it that a narrow feature does not fall between the nodes of a wide panel.

Panels reach outwards octave by octave, as far as they are asked for. An octave that takes more
panels than `MOST` (φ oscillates), or in which φ is not finite, ends the reach.

References
----------
[1] L. N. Trefethen, Approximation theory and approximation practice, SIAM 2013.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Nodes of a panel, and the part of its height that its last coefficients may have.
NODES = 20
TOLERANCE = 1e-14
LAST = 3
# Rounds in which rough points and narrow features are found.
ROUNDS = 8
# Panels of one octave.
MOST = 4096
# A feature is narrow if it is seen by steps of STEP up to NEAR.
STEP, NEAR = 1e-4, 16.0
# Beyond, the steps grow like this part of x, up to SCANNED.
GROWTH, SCANNED = 2.5e-5, 2.0**8
# Heights are those of so many steps.
BLOCK = 256
# What steps of h show of a panel of width w is smooth up to (SMOOTH h/w)⁴ of its height.
SMOOTH = 25.0
ROUNDED = 1e-11
# Panels around a narrow feature have at most this many steps.
STEPS = 16
# What is below this is 0, within [-1, 1] and beyond.
NOTHING, FAR_NOTHING = 1e-250, 1e-40
# What is below this part of what lies further in is 0 beside it, in each Gaussian. Heights further
# in are told by so many bins an octave, from 2^-80 on.
FAINT, BINS, FIRST_BIN = 1e-30, 16, -80
# A panel of this part of its place is at rounding.
FINEST = 4 * np.finfo(float).eps
SMALLEST = 2.0**-80
# The points next to the ends of a panel, as a part of it, and how rounding grows towards them.
NEXT, EXTRAPOLATED = 1e-9, 100.0
# A series is continued over an edge by this part of the smaller panel. It then misses by less than
# this part of the height; its errors grow by so much.
AHEAD, CONTINUED, GROWS = 0.05, 1e-8, 3e4
# Noise: it may be this part of the height where it does not fall as panels are halved.
NOISE = 1e-11
# It may also be this part of what lies further in: x (1 + tanh x) is rounded like 1.
BESIDE = 1e-13
# Panels that are joined differ in size by at most this factor.
ALIKE = 4.0
# The step of a secant, as a part of its place.
SECANT = 1e-6
# Slopes are not known better than to this part of the height over the place.
SLOPE_NOISE = 1e-9
# Next to a kink panels are so much larger once it is an edge.
WIDER = 2.0**6
# How many panels beside a fine one are looked at, and by how much the largest is to exceed it.
STEPS_AWAY, FINER = 24, 2.0**10
# How far from a kink φ is looked at, as a part of its place, and how clear its angle is to be.
LEAST_REACH, CLEAR = 1e-7, 30.0
# The part of its own change that φ' is known to at worst: less than what a jump leaves unresolved.
TURN = 0.01
# The octave beyond which nothing is asked.
LARGEST = 2.0**40

Values = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
_NOWHERE = np.zeros(0)


@functools.cache
def gauss(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes and weights of Gauss and Legendre on [-1, 1]."""
    return np.polynomial.legendre.leggauss(size)


@functools.cache
def transform(size: int = NODES) -> np.ndarray:
    """Return the matrix from values at the nodes to Legendre coefficients, one row each."""
    x, w = gauss(size)
    degrees = np.arange(size)
    return (degrees[:, None] + 0.5) * np.polynomial.legendre.legvander(x, size - 1).T * w


@functools.cache
def _rim() -> np.ndarray:
    """Return the matrix from values at the nodes to those next to the ends."""
    rim = np.array([-1.0, 1.0]) * (1 - 2 * NEXT)
    return np.polynomial.legendre.legvander(rim, NODES - 1) @ transform()


def places(low: np.ndarray, high: np.ndarray, size: int = NODES) -> np.ndarray:
    """Return the nodes of panels, one row each."""
    return (low + high)[:, None] / 2 + (high - low)[:, None] / 2 * gauss(size)[0]


@dataclasses.dataclass(frozen=True)
class Panels:
    """Panels between ascending edges, and what is known of φ on them."""

    edges: np.ndarray
    error: np.ndarray
    """By panel, how far φ may be from the polynomial of its values."""
    slope_error: np.ndarray
    rough: np.ndarray
    """The rough points, ascending: some of the edges."""
    ends: tuple[bool, bool]
    """Whether the panels end, below and above, because φ is not finite or not resolved beyond."""

    @property
    def lows(self) -> np.ndarray:
        return self.edges[:-1]

    @property
    def highs(self) -> np.ndarray:
        return self.edges[1:]

    def __add__(self, above: "Panels") -> "Panels":
        """Return these panels and those that begin where they end."""
        return Panels(
            np.concatenate([self.edges, above.edges[1:]]),
            np.concatenate([self.error, above.error]),
            np.concatenate([self.slope_error, above.slope_error]),
            np.union1d(self.rough, above.rough),
            (self.ends[0], above.ends[1]),
        )


def sample(
    values: Values, low: float, high: float, known: np.ndarray = _NOWHERE, slopes: bool = True
) -> Panels:
    """Return the panels of a function from one octave's end to another's.

    `known` points, where φ may be rough, are edges from the start. Without `slopes` those of φ are
    rough, and need not be resolved.
    """
    inside = np.unique(np.asarray(known, dtype=float))
    with np.errstate(all="ignore"):
        return _Sampling(values, slopes).panels(low, high, inside[(inside > low) & (inside < high)])


def joined(values: Values, panels: Panels, slopes: bool = True) -> np.ndarray:
    """Return edges of as few panels as resolve what the panels resolve: neighbours are joined."""
    edges, first = panels.edges, 0
    fixed = np.isin(edges, panels.rough)
    stuck = 0
    while stuck < 2 and edges.size > 2:
        # Every second inner edge may go, those of even and of odd places in turn.
        places = np.arange(first + 1, edges.size - 1, 2)
        before, after = edges[places] - edges[places - 1], edges[places + 1] - edges[places]
        # What a much smaller panel has is not seen by the nodes of a larger one.
        alike = np.maximum(before, after) <= ALIKE * np.minimum(before, after)
        places = places[~fixed[places] & alike]
        lows, highs = edges[places - 1], edges[places + 1]
        x = _with_ends(lows, highs)
        with np.errstate(all="ignore"):
            phi, slope = (v.reshape(x.shape) for v in values(x.ravel()))
            ratio = _tails(x, highs - lows, phi, slope, 2 if slopes else 1)[0]
            gone = places[ratio <= 1]
        edges, fixed = np.delete(edges, gone), np.delete(fixed, gone)
        stuck, first = (0 if gone.size else stuck + 1), 1 - first
    return edges


class _Sampling:
    """The halving of panels, all of one size at a time."""

    def __init__(self, values: Values, slopes: bool = True):
        self.values = values
        self.parts = 2 if slopes else 1
        self.heights = np.zeros((2, BINS * (int(np.log2(LARGEST)) - FIRST_BIN) + 1))

    def panels(self, lowest: float, highest: float, known: np.ndarray) -> Panels:
        octaves = np.concatenate([[0.0], 2.0 ** np.arange(-1, np.log2(LARGEST) + 1)])
        start = np.union1d(-octaves, octaves)
        start = start[(start >= lowest) & (start <= highest)]
        narrow = _NOWHERE
        cells: _Cells | None = None
        tried: dict[float, float] = {}
        wrong: list[float] = []
        for _ in range(ROUNDS):
            cells = self._halved(np.union1d(start, known), narrow)
            found = np.concatenate([_points_of(cells.rough), cells.highs[:-1][self._breaks(cells)]])
            if self.parts == 1:
                # What is no kink is as finely cut as before.
                wrong = [k for k in tried if k in known and cells.next_to(k) < WIDER * tried[k]]
                new = {k: size for k, size in self._kinks(cells).items() if k not in tried}
                tried |= new
                known, found = np.setdiff1d(known, wrong), np.append(found, list(new))
            known, before = _union(known, found), known.size
            if known.size > before or wrong:
                # With the rough points as edges, what lies between them needs few panels.
                continue
            hidden = self._narrow_features(cells, known)
            if np.isin(hidden, narrow).all():
                break
            narrow = np.union1d(narrow, hidden)
        assert cells is not None
        bad, middle = ~np.isfinite(cells.error), (cells.lows + cells.highs) / 2
        high = np.min(cells.lows[bad & (middle > 0)], initial=highest)
        low = np.max(cells.highs[bad & (middle < 0)], initial=lowest)
        keep = (cells.lows >= low) & (cells.highs <= high)
        edges = np.append(cells.lows[keep], high)
        return Panels(
            edges,
            cells.error[keep],
            cells.slope_error[keep],
            # Where the panels end nothing is known of φ.
            np.intersect1d(known, edges[int(low > lowest) : edges.size - int(high < highest)]),
            (low > lowest, high < highest),
        )

    def _halved(self, edges: np.ndarray, narrow: np.ndarray = _NOWHERE) -> "_Cells":
        """Return panels that are resolved, ascending, and the cells that are at rounding.

        Panels in which a `narrow` feature lies are halved down to its size.
        """
        lows, highs = edges[:-1], edges[1:]
        parent = np.full(lows.size, np.inf)
        done: list[tuple[np.ndarray, ...]] = []
        counts: dict[float, int] = {}
        while lows.size:
            size, middle = highs - lows, (lows + highs) / 2
            x = _with_ends(lows, highs)
            phi, slope = (v.reshape(x.shape) for v in self.values(x.ravel()))
            further_in = self._further_in(x, phi, slope)
            tail, error, slope_error, faint = _tails(x, size, phi, slope, self.parts, further_in)
            finite = np.isfinite(phi).all(axis=1) & np.isfinite(slope).all(axis=1)
            noise = faint & (tail >= parent / 4) & (size < 1e-2)
            step = np.maximum(STEP, np.abs(middle) * GROWTH)
            hides = np.searchsorted(narrow, highs) > np.searchsorted(narrow, lows)
            good = finite & ((tail <= 1) | noise) & ~(hides & (size > STEPS * step))
            tiny = ~good & (size <= np.maximum(FINEST * np.abs(middle), SMALLEST))
            # An octave in which φ is not finite, or that takes too many panels, is lost.
            octave = np.sign(middle) * (2000 + np.frexp(middle)[1])
            lost = ~finite & (size <= np.abs(middle) / 64) & (size > SMALLEST)
            for key, number in zip(*np.unique(octave[~good], return_counts=True), strict=True):
                counts[key] = counts.get(key, 0) + number
                if counts[key] > MOST:
                    lost |= ~good & (octave == key)
            lost &= ~good
            ended = good | tiny | lost
            error = np.where(tiny, np.ptp(phi, axis=1), error)
            slope_error = np.where(tiny, np.abs(slope).max(axis=1), slope_error)
            error = np.where(lost, np.inf, error)
            done.append(tuple(v[ended] for v in (lows, highs, error, slope_error, tiny & ~lost)))
            lows, middle, highs = lows[~ended], middle[~ended], highs[~ended]
            parent = np.repeat(tail[~ended], 2)
            lows, highs = (
                np.stack([lows, middle], axis=1).ravel(),
                np.stack([middle, highs], axis=1).ravel(),
            )
        parts = [np.concatenate(part) for part in zip(*done, strict=True)]
        order = np.argsort(parts[0], kind="stable")
        lows, highs, error, slope_error, tiny = (part[order] for part in parts)
        return _Cells(lows, highs, error, slope_error, np.stack([lows[tiny], highs[tiny]]))

    def _further_in(self, x: np.ndarray, phi: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """Return how large φ and φ' are seen to be nearer to 0 than panels are, on either side."""

        def bins(x: np.ndarray) -> np.ndarray:
            with np.errstate(divide="ignore"):
                place = BINS * (np.log2(np.abs(x)) - FIRST_BIN)
            return np.clip(place, 0, self.heights.shape[1] - 1).astype(int)

        places = bins(x)
        for known, values in zip(self.heights, (phi, slope), strict=True):
            np.maximum.at(known, places, np.where(np.isfinite(values), np.abs(values), 0.0))
        inner = np.maximum(places.min(axis=1) - 1, 0)
        return np.maximum.accumulate(self.heights, axis=1)[:, inner]

    def _kinks(self, cells: "_Cells") -> dict[float, float]:
        """Return where φ may have kinks, its panels being cut ever finer there, and how fine."""
        sizes = cells.highs - cells.lows
        first = np.flatnonzero(np.append(1.0, np.diff(sizes)) != 0)
        runs = np.minimum.reduceat(sizes, first)
        before, after = (np.append(np.inf, runs[:-1]), np.append(runs[1:], np.inf))
        finest = (runs < before) & (runs < after)
        last = np.append(first[1:], sizes.size) - 1
        found: dict[float, float] = {}
        for i, j in zip(first[finest], last[finest], strict=True):
            start, stop = cells.lows[i], cells.highs[j]
            near = slice(max(i - STEPS_AWAY, 0), j + STEPS_AWAY + 1)
            if sizes[near].max() < FINER * sizes[i]:
                continue
            kink = _crossing(self.values, float(start), float(stop))
            if kink is not None:
                found[kink] = float(sizes[i])
        return found

    def _narrow_features(self, cells: "_Cells", rough: np.ndarray) -> np.ndarray:
        """Return points of the scan at which φ or φ' is less smooth than its panel allows."""
        low, high = max(cells.lows[0], -SCANNED), min(cells.highs[-1], SCANNED)
        first, last = np.searchsorted(_scan()[0], [low, high])
        if last - first < BLOCK:
            return _NOWHERE
        x, _, smooth = (part[first:last] for part in _scan())
        counts = np.diff(np.searchsorted(x, np.append(cells.lows, cells.highs[-1])))
        limit = smooth * np.repeat((cells.highs - cells.lows) ** -4.0, counts)
        for at in (*rough, -NEAR, NEAR):
            # A rough point is an edge; at NEAR the steps change.
            near = np.searchsorted(x, at)
            limit[max(near - 4, 0) : near + 4] = np.inf
        seen = np.zeros(x.size, dtype=bool)
        starts = np.arange(0, x.size, BLOCK)
        height = 0.0
        for f in self.values(x)[: self.parts]:
            with np.errstate(all="ignore"):
                fourth = np.abs(f[:-4] + f[4:] - 4 * (f[1:-3] + f[3:-1]) + 6 * f[2:-2])
                # What φ' has of the rounding of φ is no feature.
                rounding = ROUNDED * height / (1 + np.abs(x[starts]))
                height = np.maximum.reduceat(np.abs(f), starts)
                rounding = rounding + ROUNDED * height + FAR_NOTHING
                height_, rounding_ = (
                    np.repeat(v, BLOCK)[2 : f.size - 2] for v in (height, rounding)
                )
                seen[2:-2] |= fourth > limit[2:-2] * height_ + rounding_
        return x[seen]

    def _breaks(self, cells: "_Cells") -> np.ndarray:
        """Return at which inner edges the series of one side does not go on on the other."""
        x = places(cells.lows, cells.highs)
        size = cells.highs - cells.lows
        ahead = np.minimum(size[:-1], size[1:]) * AHEAD
        edges = cells.highs[:-1]
        breaks = np.zeros(edges.size, dtype=bool)
        errors = (cells.error, cells.slope_error)
        for f, error in list(zip(self.values(x.ravel()), errors, strict=True))[: self.parts]:
            series = f.reshape(x.shape) @ transform().T
            height = CONTINUED * np.abs(f.reshape(x.shape)).max(axis=1) + GROWS * error
            here = _at(series[:-1], edges + ahead, cells.lows[:-1], size[:-1])
            there = _at(series[1:], edges + ahead, cells.lows[1:], size[1:])
            breaks |= np.abs(here - there) > np.maximum(height[:-1], height[1:])
        tiny = np.isin(cells.lows, cells.rough[0])
        return breaks & ~tiny[:-1] & ~tiny[1:]


def _union(known: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return known points, and those that were found away from them."""
    if known.size and found.size:
        gaps = np.abs(found[:, None] - known).min(axis=1)
        found = found[gaps > 1e-13 * np.abs(found) + 4 * SMALLEST]
    return np.union1d(known, found)


class _Cells(NamedTuple):
    """Panels, ascending, and the ends of those that are at rounding."""

    lows: np.ndarray
    highs: np.ndarray
    error: np.ndarray
    slope_error: np.ndarray
    rough: np.ndarray

    def next_to(self, edge: float) -> float:
        """Return the size of the smaller panel that ends at an edge."""
        at = (self.lows == edge) | (self.highs == edge)
        return float((self.highs - self.lows)[at].min())


def _crossing(values: Values, start: float, stop: float) -> float | None:
    """Return the kink of φ within a stretch: where cubics through φ below and above it cross."""
    middle, reach = (start + stop) / 2, max(8 * (stop - start), LEAST_REACH * (abs(start) + 1))
    x = np.linspace(1.0, 4.0, 12)
    below, above = (values(middle + side * reach * x)[0] for side in (-1, 1))
    low, high = (np.polynomial.Polynomial.fit(s * x, f, 3) for s, f in ((-1, below), (1, above)))
    noise = max(np.abs(low(-x) - below).max(), np.abs(high(x) - above).max())
    apart = high.convert() - low.convert()
    roots = apart.roots()
    real = roots.real[(np.abs(roots.imag) < 1e-12) & (np.abs(roots.real) <= 1)]
    if not real.size:
        return None
    root = float(real[np.abs(real).argmin()])
    turn = abs(apart.deriv()(root))
    # They cross at an angle, which is neither noise nor what they bend by themselves.
    if turn <= CLEAR * max(noise, abs(apart.deriv(2)(root)), abs(apart.deriv(3)(root))):
        return None
    place = middle + reach * root
    return simplest(place, place)


def _with_ends(lows: np.ndarray, highs: np.ndarray) -> np.ndarray:
    """Return the nodes of panels, and a point next to each end.

    Nodes alone do not see the outermost 0.34 % of a panel.
    """
    size = highs - lows
    inside = np.maximum(NEXT * size, 2 * np.spacing(np.maximum(np.abs(lows), np.abs(highs))))
    rim = np.stack([lows + inside, highs - inside], axis=1)
    return np.concatenate([places(lows, highs), rim], axis=1)


def _at(series: np.ndarray, x: np.ndarray, low: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return the sum of each panel's series at one point, which may lie a little outside."""
    return (series * np.polynomial.legendre.legvander(2 * (x - low) / size - 1, NODES - 1)).sum(1)


@functools.cache
def _scan() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the points of the scan, the steps between them, and (SMOOTH step)⁴."""
    count = round(NEAR / STEP)
    even = (np.arange(-count, count) + 1 / 3) * STEP
    growing = NEAR * np.exp(np.arange(GROWTH, np.log(SCANNED / NEAR), GROWTH))
    x = np.concatenate([-growing[::-1], even, growing])
    step = np.maximum(STEP, GROWTH * np.abs(x))
    return x, step, (SMOOTH * step) ** 4


def _tails(
    x: np.ndarray,
    width: np.ndarray,
    phi: np.ndarray,
    slope: np.ndarray,
    parts: int = 2,
    further_in: np.ndarray | float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return, by panel, what is not resolved over what may be, and the errors of φ and φ'.

    The last says whether these are so small that they may be noise. What is not resolved is the
    largest of the last coefficients, and by how much the series misses the points next to the ends.
    """
    eps = np.finfo(float).eps
    with np.errstate(all="ignore"):
        place = np.abs(x).max(axis=1)
        height = np.abs(phi).max(axis=1)
        steep = np.abs(slope).max(axis=1)
        may = TOLERANCE * height + 4 * eps * np.abs(x * slope).max(axis=1)
        turn = np.minimum(50 * eps * place / width, 1e-8)
        # The slope of what is rounded at 1e-16 is known to so much, if not to any digit.
        rounded = np.minimum(10 * TOLERANCE / width, SLOPE_NOISE / (place + width))
        slope_may = (10 * TOLERANCE + turn) * steep + rounded * height
        # The rounding of x moves φ' by what φ' changes over it, which is no jump.
        slope_may += np.minimum(4 * eps * place / width, TURN) * np.ptp(slope, axis=1)
        tail, slope_tail = _unresolved(phi), _unresolved(slope) * (parts == 2)
        nothing = np.where(place > 1, FAR_NOTHING, NOTHING)
        beside, beside_slope = FAINT * np.broadcast_to(further_in, (2, place.size))
        ratio = np.maximum(
            tail / (may + nothing + beside), slope_tail / (slope_may + nothing + beside_slope)
        )
        inner, inner_slope = np.broadcast_to(further_in, (2, place.size))
        faint = tail <= NOISE * height + BESIDE * inner
        faint &= slope_tail <= NOISE * (steep + height / (place + width)) + BESIDE * inner_slope
    return ratio, tail, slope_tail, faint


def _unresolved(values: np.ndarray) -> np.ndarray:
    inner, rim = values[:, :NODES], values[:, NODES:]
    last = np.abs(inner @ transform()[-LAST:].T).max(axis=1)
    return np.maximum(last, np.abs(inner @ _rim().T - rim).max(axis=1) / EXTRAPOLATED)


def _points_of(cells: np.ndarray) -> np.ndarray:
    """Return the points that cells at rounding stand for; neighbours are one."""
    lows, highs = cells
    if not lows.size:
        return lows
    order = np.argsort(lows)
    lows, highs = lows[order], highs[order]
    gap = lows[1:] - highs[:-1] > 8 * FINEST * np.abs(lows[1:]) + 1e-300
    firsts = np.concatenate([[True], gap])
    groups = np.cumsum(firsts) - 1
    starts = lows[firsts]
    stops = np.array([highs[groups == g].max() for g in range(starts.size)])
    return np.array([simplest(a, b) for a, b in zip(starts, stops, strict=True)])


def simplest(low: float, high: float) -> float:
    """Return the number of fewest decimals within rounding of [low, high]."""
    slack = 1e-15 * max(abs(low), abs(high))
    middle = (low + high) / 2
    for digits in range(17):
        candidate = round(middle, digits)
        if low - slack <= candidate <= high + slack:
            return float(candidate) + 0.0
    return float(middle)


def derivative(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Return the slope of a function of which only values can be had, from its panels.

    It is that of the polynomials of panels: right to some 1e-12 of the function's height over
    the width of a panel. The panels reach as far as slopes are asked for.
    """
    found: list[Panels] = []

    def values(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # A slope that is a little wrong says how far the rounding of x moves φ.
        f, step = function(x), SECANT * np.maximum(np.abs(x), SECANT)
        return f, (function(x + step) - f) / step

    def slope(x: np.ndarray) -> np.ndarray:
        reach = 2.0 ** np.ceil(np.log2(max(np.abs(x).max(initial=0.0), 64.0)))
        if not found or (found[0].edges[-1] < reach and not all(found[0].ends)):
            found[:] = [sample(values, -reach, reach, slopes=False)]
        edges = found[0].edges
        # On halves of panels no coefficient is left out.
        edges = np.sort(np.concatenate([edges, (edges[:-1] + edges[1:]) / 2]))
        at = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, edges.size - 2)
        used, row = np.unique(at, return_inverse=True)
        low, high = edges[used], edges[used + 1]
        f = function(places(low, high).ravel()).reshape(used.size, NODES)
        turns = f @ transform().T @ np.polynomial.legendre.legder(np.eye(NODES)).T
        turns *= (2 / (high - low))[:, None]
        local = np.clip((2 * x - (low + high)[row]) / (high - low)[row], -1, 1)
        basis = np.polynomial.legendre.legvander(local, NODES - 2)
        return np.einsum("xk,xk->x", turns[row], basis)

    return slope
