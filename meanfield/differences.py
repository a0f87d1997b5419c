"""E (f(u1) - f(u2))²/2 for all variances q and angles θ = arccos c at once, f being φ or φ'.

With u1 = s + d and u2 = s - d, s and d are independent, of variances A = q cos²(θ/2) and
B = q sin²(θ/2):

    E (f(u1) - f(u2))²/2 = ∫∫ F(s, d) n(s; A) n(d; B) ds dd,    F = (f(s + d) - f(s - d))²/2.

As in `meanfield.line`, a normal density n is a polynomial on octaves of |s| and of d, to rounding,
for every variance. So the Legendre moments of F on cells, products of two octaves, are all that
these expectations see of f. They make one matrix M that serves all q and θ:

    E (f(u1) - f(u2))²/2 = n(s; A)ᵀ M n(d; B).

*Moments.* F is integrated over d and, inside, over s. The lines s ± d = x at the ends x of f's
panels cut s, so that the inner integral is right to rounding. As a function of d it is smooth but
where lines of rough points cross each other or the ends of an octave of s: there d is cut. What
lies between is halved until it is no larger than the panels that matter.

*Steps.* If f is constant on all panels, its slope is a sum of Dirac masses J_i at x_i, and

    ∂/∂θ E (f(u1) - f(u2))²/2 = q sin θ E f'(u1) f'(u2)
                              = q sin θ Σ_ij J_i J_j n((x_i + x_j)/2; A) n((x_i - x_j)/2; B)/2

by Price's theorem: M is that of masses, for any number of steps.

What M makes of (A, B) is read off Chebyshev series over log A and log B.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from meanfield import chebyshev, line
from meanfield.line import NODES
from meanfield.panels import NODES as TERMS
from meanfield.panels import gauss, places, transform
from meanfield.sampled import REACHES, Sampled

# The innermost octaves end at this part of the least standard deviation, or within a factor of 2.
INWARD = 0.5
# Nothing is asked of f beyond.
LIMIT = REACHES[0]
# Standard deviations that are seen of a Gaussian; the outermost octave is to lie beyond, and may
# have this part of an expectation.
WIDTHS, RIM = 7.5, 1e-13
# Terms of a panel's series below this part of the largest one are rounding.
NOTHING = 1e-13
# Nodes of a piece that is at most this part of its cell, and twice this part of its panel. Those of
# a larger one are `NODES`.
FEWER = ((0.05, 8), (0.5, 14))
# A piece of this part of its place is rounding.
FINEST = 1e-14
# So many rough points have their lines followed, and f is evaluated at so many points: in all, and
# at a time.
MOST_ROUGH, MOST, AT_ONCE = 128, 1e7, 2**19
# Cells of s and d are so many in what is 0 between two kinks: there n falls steeply.
STILL = 16
# exp of this is as large as need be.
STEEPEST = 300.0
# The width of cells of log A and log B.
CELL = np.log(2.0)


class Differences(NamedTuple):
    """E (f(u1) - f(u2))²/2, of shape (q, θ), by how much it is in doubt, and where f begins."""

    value: np.ndarray
    doubt: np.ndarray
    still: float
    """f is constant from minus this on to this."""


def differences(phi: Sampled, of_slope: bool, q: np.ndarray, angles: np.ndarray) -> Differences:
    """Return E (f(u1) - f(u2))²/2, f = φ' or φ.

    Variances q ascend; θ are the nodes of the cells between `angles`, of which the first is 0. It
    is NaN where Gaussians reach further than what is known of φ, or than can be afforded.
    """
    with np.errstate(all="ignore"):
        return _differences(phi, of_slope, q, angles)


def _differences(phi: Sampled, of_slope: bool, q: np.ndarray, angles: np.ndarray) -> Differences:
    theta = chebyshev.nodes(angles).ravel()
    a, b = np.outer(q, np.cos(theta / 2) ** 2), np.outer(q, np.sin(theta / 2) ** 2)
    least, most = (np.sqrt([x.min() for x in (a, b)]), np.sqrt(q[-1]))
    field = _Field(phi, of_slope)
    known = min(-field.edges[0], field.edges[-1])
    still = field.still()
    if field.constant:
        rows, columns = (_octaves(x, known, still) for x in least)
        growth = _read(_of_masses(phi, of_slope, rows, columns), rows, columns, a, b, still)
        growth *= np.outer(q / 2, np.sin(theta))
        found = growth @ chebyshev.running_integral(angles, np.ones_like).T
        # What integrals miss of series that have not ended, from the first cell on.
        series = growth.reshape(q.size, -1, chebyshev.TERMS) @ chebyshev.transform().T
        tails = (
            np.abs(series[..., -chebyshev.TAIL :]).sum(axis=2) * np.diff(angles) / chebyshev.TERMS
        )
        doubt = np.repeat(np.cumsum(tails, axis=1), chebyshev.TERMS, axis=1)
    else:
        # u = s ± d reaches twice as far as they do.
        reach = min(4 * WIDTHS * most, known / 2)
        rows, columns = (_octaves(x, reach, still) for x in least)
        matrix, count = _of_cells(field, rows, columns)
        rows, columns = rows[: rows.size - count], columns[: columns.size - count]
        found = np.full_like(a, np.nan)
        if matrix.size:
            found = _read(matrix, rows, columns, a, b, still, RIM)
        # Beyond what is left nothing is known.
        known, doubt = rows[-1], np.zeros_like(found)
    found[WIDTHS * np.sqrt(q) > known] = np.nan
    return Differences(found, doubt, still)


class _Field:
    """f as a function of x, or of -x."""

    def __init__(self, phi: Sampled, of_slope: bool, sign: float = 1.0):
        self.phi, self.of_slope, self.sign = phi, of_slope, sign
        self.edges = np.sort(sign * np.unique(np.clip(phi.edges, -LIMIT, LIMIT)))
        self.rough = np.sort(sign * phi.panels.rough[np.abs(phi.panels.rough) < LIMIT])
        self.values = self(places(self.edges[:-1], self.edges[1:]))
        series = np.abs(self.values @ transform().T)
        seen = series > NOTHING * series.max()
        terms = np.where(seen, np.arange(1, TERMS + 1), 1).max(axis=1)
        self.constant = bool((terms == 1).all())
        # A panel whose series is short would be resolved if it were larger.
        self.sizes = np.append(np.diff(self.edges) * TERMS / terms, np.inf)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.phi.values(self.sign * x.ravel())[int(self.of_slope)].reshape(x.shape)

    def sides(self) -> list["_Field"]:
        """Return f as seen from s > 0 and from s < 0, or once if that is the same."""
        other = _Field(self.phi, self.of_slope, -1.0)
        if np.array_equal(self.edges, other.edges):
            apart = min(np.abs(self.values - sign * other.values).max() for sign in (1, -1))
            if apart <= NOTHING * np.abs(self.values).max():
                return [self]
        return [self, other]

    def still(self) -> float:
        """Return how far from 0 on f is constant on both sides."""
        first = np.abs(self.rough).min(initial=np.inf)
        inside = self.values[(self.edges[:-1] >= -first) & (self.edges[1:] <= first)]
        small = NOTHING * np.abs(self.values).max()
        return first if inside.size and np.ptp(inside) <= small and first < np.inf else 0.0

    def size(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Return the size of the smallest panel that intervals meet."""
        last = self.edges.size - 2
        first = np.clip(np.searchsorted(self.edges, low, side="right") - 1, 0, last)
        stop = np.clip(np.searchsorted(self.edges, high, side="left"), first + 1, last + 1)
        return np.minimum.reduceat(self.sizes, np.stack([first, stop], axis=1).ravel())[::2]


# The matrix


def _octaves(least: float, most: float, still: float) -> np.ndarray:
    """Return the ends of octaves, from within a standard deviation up to a reach at most.

    Around where f begins to vary they are cut.
    """
    first, last = np.floor(np.log2([INWARD * least, most]))
    octaves = np.append(0.0, 2.0 ** np.arange(first, last + 1))
    steps = still * np.arange(1, STILL + STILL // 4) / STILL
    steps = steps[(steps > octaves[1]) & (steps < octaves[-1])]
    outside = (octaves < steps[0]) | (octaves > steps[-1]) if steps.size else octaves >= 0
    return np.union1d(octaves[outside], steps)


def _read(
    matrix: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    still: float,
    rim: float = np.inf,
) -> np.ndarray:
    """Return n(s; A)ᵀ M n(d; B), NaN where the outermost octaves have more than a part of it."""
    grids = [
        CELL * np.arange(np.floor(np.log(x.min()) / CELL), np.ceil(np.log(x.max()) / CELL) + 1)
        for x in (a, b)
    ]
    left, right = (
        line.density(_nodes(octaves)[:, None], np.exp(chebyshev.nodes(grid).ravel()))
        for octaves, grid in zip((rows, columns), grids, strict=True)
    )
    inner = left.T @ matrix
    values = inner @ right
    last = np.abs(left[-NODES:].T @ matrix[-NODES:] @ right)
    last += np.abs(inner[:, -NODES:] @ right[-NODES:])
    values[last > rim * np.abs(values)] = np.nan
    # Where f is constant up to x, this falls like exp(-x²/2q) as q = A + B does.
    both = np.exp(chebyshev.nodes(grids[0]).reshape(-1, 1)) + np.exp(
        chebyshev.nodes(grids[1]).ravel()
    )
    values *= np.exp(np.minimum(still**2 / 2 / both, STEEPEST))
    series = chebyshev.transform()
    shape = grids[0].size - 1, series.shape[0], grids[1].size - 1, series.shape[0]
    cells = np.einsum("ki,ricj,lj->rckl", series, values.reshape(shape), series, optimize=True)
    found = np.empty(a.size)
    (i, along), (j, across) = map(_within, grids, (a.ravel(), b.ravel()))
    for own in _alike(i * shape[2] + j):
        inner = along[own] @ cells[i[own[0]], j[own[0]]]
        found[own] = np.einsum("pl,pl->p", inner, across[own])
    return found.reshape(a.shape) * np.exp(-np.minimum(still**2 / 2 / (a + b), STEEPEST))


def _nodes(octaves: np.ndarray) -> np.ndarray:
    return places(octaves[:-1], octaves[1:], NODES).ravel()


def _within(edges: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the cells that hold variances, and Chebyshev's polynomials there."""
    x = np.log(variance)
    cell = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, edges.size - 2)
    local = np.clip((2 * x - edges[cell] - edges[cell + 1]) / CELL, -1, 1)
    return cell, np.polynomial.chebyshev.chebvander(local, chebyshev.TERMS - 1)


def _alike(kinds: np.ndarray) -> list[np.ndarray]:
    """Return the places of each kind."""
    order = np.argsort(kinds, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(kinds[order])) + 1) if kinds.size else []


def _local(octaves: np.ndarray, place: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return where x is in octaves, from -1 to 1."""
    low, high = octaves[place], octaves[place + 1]
    return (2 * x - low - high) / (high - low)


def _joined(moments: np.ndarray) -> np.ndarray:
    """Return M from the moments of cells, shape (rows, columns, NODES, NODES)."""
    back = transform(NODES)
    found = np.einsum("ki,rckl,lj->ricj", back, moments, back, optimize=True)
    return found.reshape(found.shape[0] * NODES, found.shape[2] * NODES)


def _gathered(
    moments: np.ndarray, row: np.ndarray, column: np.ndarray, left: np.ndarray, right: np.ndarray
) -> None:
    """Add products of vectors, one on the left and one on the right, to the moments of cells."""
    for part in _alike(row * moments.shape[1] + column):
        moments[row[part[0]], column[part[0]]] += left[part].T @ right[part]


# Steps


def _of_masses(phi: Sampled, of_slope: bool, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the matrix of Dirac masses where two steps meet."""
    moments = np.zeros((rows.size - 1, columns.size - 1, NODES, NODES))
    jump = phi.rough.bend if of_slope else phi.rough.jump
    seen = (jump != 0) & (np.abs(phi.rough.at) < LIMIT)
    at, jump = phi.rough.at[seen], jump[seen]
    for x, height in zip(at, jump, strict=True):
        s, d = np.abs(at + x) / 2, np.abs(at - x) / 2
        seen = (s < rows[-1]) & (d < columns[-1])
        s, d = s[seen], d[seen]
        row, column = (
            np.searchsorted(ends, v, side="right") - 1 for ends, v in ((rows, s), (columns, d))
        )
        left, right = (
            np.polynomial.legendre.legvander(_local(ends, place, v), NODES - 1)
            for ends, place, v in ((rows, row, s), (columns, column, d))
        )
        _gathered(moments, row, column, left * (height * jump[seen])[:, None], right)
    return _joined(moments)


# Cells


class _Slabs(NamedTuple):
    """Pieces of d in cells: which octaves of s and d these are, and the ends of the pieces."""

    row: np.ndarray
    column: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def pick(self, chosen: np.ndarray) -> "_Slabs":
        return _Slabs(*(part[chosen] for part in self))


def _merged(parts: list[_Slabs]) -> _Slabs:
    return _Slabs(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _of_cells(field: _Field, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, int]:
    """Return M, and how many of the outermost octaves it leaves out because they cost too much."""
    out = 0
    while np.sum(np.abs(field.rough) < 2 * rows[-1 - out]) > MOST_ROUGH:
        out += 1
    size = rows.size - 1 - out, columns.size - 1 - out
    if min(size) <= 0:
        return np.zeros((0, 0)), min(rows.size, columns.size) - 1
    sides = [_Side(side, rows[: size[0] + 1], columns[: size[1] + 1]) for side in field.sides()]
    # By how many octaves cells are further in than the outermost ones.
    inside = [np.minimum(size[0] - side.slabs.row, size[1] - side.slabs.column) for side in sides]
    costs = np.zeros(min(size) + 1)
    for side, depth in zip(sides, inside, strict=True):
        costs += np.bincount(depth, side.costs(), costs.size)
    left = int(np.sum(np.cumsum(costs[:0:-1]) > MOST))
    moments = np.zeros((size[0] - left, size[1] - left, NODES, NODES))
    for side, depth in zip(sides, inside, strict=True):
        for group in side.groups(depth > left):
            _integrate(moments, side, *group)
    while moments.size and not np.isfinite(moments).all():
        # Squares overflow.
        moments, left = moments[:-1, :-1], left + 1
    # From d < 0 the same is seen, and from s < 0 too if there is one side.
    return 4 / len(sides) * _joined(moments), out + left


class _Side:
    """Cells of s > 0, and the pieces in which they are integrated."""

    def __init__(self, field: _Field, rows: np.ndarray, columns: np.ndarray):
        self.field, self.rows, self.columns = field, rows, columns
        self.slabs = self._halved(self._cut())
        slabs = self.slabs
        self.width = slabs.high - slabs.low
        self.start, self.stop = rows[slabs.row], rows[slabs.row + 1]
        cell = columns[slabs.column + 1] - columns[slabs.column]
        self.count = _nodes_for(self.width, cell, self._scale(slabs))
        # The first of panels' edges that s + d meets, and how many, and those that s - d does.
        self.first, self.cuts = [], []
        for low, high in (
            (self.start + slabs.low, self.stop + slabs.high),
            (self.start - slabs.high, self.stop - slabs.low),
        ):
            first = np.searchsorted(field.edges, low, side="right")
            last = np.searchsorted(field.edges, high, side="left")
            self.first.append(first)
            self.cuts.append(np.maximum(last - first, 0))

    def _cut(self) -> _Slabs:
        """Return pieces of d on which no lines of rough points cross, nor the ends of octaves."""
        rough, parts = self.field.rough, []
        one, other = np.meshgrid(rough, rough, indexing="ij")
        s, d = (one + other)[one > other] / 2, (one - other)[one > other] / 2
        for row, (start, stop) in enumerate(zip(self.rows[:-1], self.rows[1:], strict=True)):
            ends = [np.abs(rough - start), np.abs(rough - stop), d[(s > start) & (s < stop)]]
            ends = np.unique(np.concatenate(ends))
            column = np.searchsorted(self.columns, ends, side="right")
            ends = ends[column < self.columns.size]
            ends = np.union1d(ends, self.columns)
            low, high = ends[:-1], ends[1:]
            column = np.searchsorted(self.columns, (low + high) / 2) - 1
            real = high - low > FINEST * high
            parts.append(_Slabs(np.full(column.size, row), column, low, high).pick(real))
        return _merged(parts)

    def _halved(self, slabs: _Slabs) -> _Slabs:
        """Return pieces of d that are no larger than the scale on which integrals over s vary."""
        done = []
        while slabs.row.size:
            small = slabs.high - slabs.low <= self._scale(slabs)
            done.append(slabs.pick(small))
            row, column, low, high = slabs.pick(~small)
            middle = (low + high) / 2
            slabs = _merged([_Slabs(row, column, low, middle), _Slabs(row, column, middle, high)])
        return _merged(done)

    def _scale(self, slabs: _Slabs) -> np.ndarray:
        """Return the size of the smallest panels on which integrals over s vary.

        At the ends of an octave of s they are those of f(s + d) and f(s - d). In between, where one
        is multiplied by the other, the smoother one's.
        """
        size, low, high = self.field.size, slabs.low, slabs.high
        start, stop = self.rows[slabs.row], self.rows[slabs.row + 1]
        ends = [size(s + low, s + high) for s in (start, stop)]
        ends += [size(s - high, s - low) for s in (start, stop)]
        between = np.maximum(size(start + low, stop + high), size(start - high, stop - low))
        return np.minimum.reduce([*ends, between])

    def costs(self) -> np.ndarray:
        """Return about how many points slabs take."""
        return self.count * (1 + self.cuts[0] + self.cuts[1]) * float(FEWER[-1][1])

    def groups(self, chosen: np.ndarray) -> Iterator[tuple[np.ndarray, int, int, int]]:
        """Yield places of slabs that have all as many nodes of d and edges of panels."""
        kinds = np.stack([self.count, *self.cuts], axis=1)
        for kind in np.unique(kinds[chosen], axis=0):
            alike = np.flatnonzero(chosen & (kinds == kind).all(axis=1))
            nodes, plus, minus = map(int, kind)
            step = max(1, AT_ONCE // (nodes * (plus + minus + 1) * NODES))
            for begin in range(0, alike.size, step):
                yield alike[begin : begin + step], nodes, plus, minus


def _nodes_for(width: np.ndarray, cell: np.ndarray, panel: np.ndarray) -> np.ndarray:
    """Return how many nodes pieces take."""
    part = np.maximum(width / cell, width / panel / 2)
    return np.select([part <= most for most, _ in FEWER], [n for _, n in FEWER], NODES)


def _integrate(
    moments: np.ndarray, side: _Side, own: np.ndarray, nodes: int, plus: int, minus: int
) -> None:
    """Add the moments of F on slabs to those of their cells."""
    slabs, edges = side.slabs.pick(own), side.field.edges
    x, w = gauss(nodes)
    half = (slabs.high - slabs.low)[:, None] / 2
    d = (slabs.low + slabs.high)[:, None] / 2 + half * x
    start, stop = (v[own, None, None] for v in (side.start, side.stop))
    first = [v[own, None, None] for v in side.first]
    ends = np.concatenate(
        [
            np.broadcast_to(start, (*d.shape, 1)),
            edges[first[0] + np.arange(plus)] - d[..., None],
            edges[first[1] + np.arange(minus)] + d[..., None],
            np.broadcast_to(stop, (*d.shape, 1)),
        ],
        axis=2,
    )
    ends = np.sort(np.clip(ends, start, stop), axis=2)
    slab, node, piece = np.nonzero(np.diff(ends, axis=2) > FINEST * stop)
    low, high, at = ends[slab, node, piece], ends[slab, node, piece + 1], d[slab, node]
    weights = (half * w)[slab, node]
    row, column = slabs.row[slab], slabs.column[slab]
    middle = (low + high) / 2
    panel = np.minimum(*(side.field.size(x, x) for x in (middle + at, middle - at)))
    octave = side.rows[row + 1] - side.rows[row]
    counts = _nodes_for(high - low, octave, panel)
    inner = np.empty((low.size, NODES))
    for count in np.unique(counts):
        these = np.flatnonzero(counts == count)
        y, v = gauss(int(count))
        radius = (high - low)[these, None] / 2
        s, offset = middle[these, None] + radius * y, at[these, None]
        apart = side.field(s + offset) - side.field(s - offset)
        values = apart**2 / 2 * (radius * v)
        local = _local(side.rows, row[these, None], s)
        before, polynomial = np.zeros_like(local), np.ones_like(local)
        for k in range(NODES):
            inner[these, k] = np.einsum("pn,pn->p", values, polynomial)
            after = ((2 * k + 1) * local * polynomial - k * before) / (k + 1)
            before, polynomial = polynomial, after
    basis = np.polynomial.legendre.legvander(_local(side.columns, column, at), NODES - 1)
    _gathered(moments, row, column, inner * weights[:, None], basis)
