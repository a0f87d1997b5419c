"""On which points is the density of a spectrum known, and where are its atoms?

All is in log λ, with E λ = 1. First come the atoms and the outline: the ends of the support and its
gaps. The lowest end is λ = 0, or so far down that a grid must stop above it: at the floor, below
which lies next to nothing. Between floor and top, cells are halved (`meanfield.adaptive`) until
mass and moments are right.
"""

from typing import NamedTuple

import numpy as np

from meanfield.adaptive import FIRST, Cells
from meanfield.free_product import Known, Solution, Stack, solve
from meanfield.slope_law import FLAT, ORDER
from meanfield.spectral_gaps import edge_of_stack, find_gaps, smooth_bands

# The mass below the lowest grid point, that of an atom at 0 aside, is at most this; how often a
# bracket of that point is narrowed, and by how many points.
FLOOR = 1e-9
FLOOR_ROUNDS, FLOOR_POINTS = 2, 60
# An edge is an atom's place if it is as close, in units of the spectrum's width.
SNAP = 1e-5
# An atom is about to appear if so much mass is missing or present; what is so close to the end of
# the support, in the same units, is then known by its mass alone.
BORDERLINE, HIDDEN = 1e-3, 1e-5
# Cells of the grid are halved until moments of these orders are right to this, or are so many.
ORDERS_RIGHT = np.array([0, 1, 2, ORDER])
ENOUGH, MOST = np.array([2e-9, 2e-9, 2e-9, 1e-7]), 200
# Or until they are right to so many times that, and all cells are in doubt by the second part of
# it: more of them would change nothing.
CLOSE, SURE = 100.0, 0.1


class Atoms(NamedTuple):
    """Logarithms of the atoms' places, ascending from that at 0, and their masses."""

    place: np.ndarray
    mass: np.ndarray


class Outline(NamedTuple):
    """The ends of the support of log λ, -inf for λ = 0, and the gaps inside, of shape (gaps, 2)."""

    low: float
    high: float
    gaps: np.ndarray


def atoms_of(stack: Stack) -> tuple[Atoms, float]:
    """Return the atoms, and how far below the end of the support the density is to be looked at.

    That is 0 but where an atom is about to appear: then the density is unbounded there, and Ω at a
    double root. An atom has the heaviest value of X in all layers but one kind, at most: two others
    would be too light.
    """
    places, masses = [-np.inf], [stack.zero_mass]
    if stack.gaussian:
        return Atoms(np.array(places), np.array(masses)), 0.0
    laws, counts = [factor.law for factor in stack.factors], stack.count[:, 0]
    place, mass = np.array([law.heaviest for law in laws]).T
    together = (counts * mass).sum() - (stack.total - 1)
    top = (counts * np.log(place)).sum()
    places.append(top)
    masses.append(together)
    for law, count, heavy, weight in zip(laws, counts, np.log(place), mass, strict=True):
        others, lighter = np.log(law.places[1:]), law.masses[1:]
        own = np.abs(others - heavy) > FLAT
        places.extend(top + count * (others[own] - heavy))
        masses.extend(together + count * (lighter[own] - weight))
    borderline = abs(together) < BORDERLINE and not stack.is_law
    atoms = Atoms(np.array(places), np.array(masses))
    order = np.argsort(atoms.place, kind="stable")
    order = order[(order == 0) | (atoms.mass[order] > 0)]
    return Atoms(*(v[order] for v in atoms)), HIDDEN * stack.width if borderline else 0.0


def ends_of(stack: Stack, side: int) -> np.ndarray:
    """Return where the support of log X ends in every layer: below (0) or above (1)."""
    return np.array([factor.law.span[side] for factor in stack.factors])


def snapped(stack: Stack, atoms: Atoms, ends: np.ndarray) -> np.ndarray:
    """Return ends of bands, or the atoms that they are as good as at.

    Rounding keeps Ω away from an atom of X by what may matter n times over.
    """
    places = atoms.place[1:]
    near = np.abs(ends[..., None] - places) < SNAP * stack.width
    there = np.where(near, places, -np.inf).max(axis=-1, initial=-np.inf)
    return np.where(near.any(axis=-1), there, ends)


def outline_of(stack: Stack, atoms: Atoms) -> Outline:
    """Return the outline of the support."""
    faint = any(factor.law.faint > 0 for factor in stack.factors)
    reaches_zero = (stack.gaussian > 0 or atoms.mass[0] > 0 or faint) and not stack.is_law
    if stack.uniform:
        *inner, lowest, highest = find_gaps(stack)
        below, above = lowest[1], highest[0]
        if reaches_zero and not np.isnan(lowest).any():
            # A gap below an atom, with more of the spectrum below it.
            inner.append(lowest)
        gaps = np.array(inner).reshape(-1, 2)
    else:
        below, above = (
            edge_of_stack(stack, ends_of(stack, i), side) for i, side in ((0, -1.0), (1, 1.0))
        )
        gaps = np.zeros((0, 2))

    low = -np.inf if reaches_zero else float(snapped(stack, atoms, np.array(below)))
    return Outline(low, float(snapped(stack, atoms, np.array(above))), snapped(stack, atoms, gaps))


class Grid(NamedTuple):
    """The density of log λ (E λ = 1) where it was integrated, the floor and the mass below it.

    Cells carry log|Ω| and arg Ω of every layer, and P(> λ).
    """

    cells: Cells
    floor: float
    below: float
    hidden: float
    """The mass between the highest point and the end of the support."""


def _solved(stack: Stack, start: tuple[np.ndarray, np.ndarray], cells: Cells) -> Solution:
    """Return the solutions at the nodes of cells, guessed from what these carry."""
    guess = cells.carried.reshape(cells.x.size, cells.carried.shape[-1]).T
    layers = len(stack.factors)
    return solve(stack, start, cells.x.ravel(), (guess[:layers], guess[layers : 2 * layers]))


def on_grid(
    stack: Stack,
    start: tuple[np.ndarray, np.ndarray],
    outline: Outline,
    atoms: Atoms,
    cut: float,
    exact: np.ndarray,
) -> Grid:
    """Return the density on a grid that resolves its mass and its `exact` moments.

    What is not resolved counts as nothing: mass and moments tell whether that matters. The grid
    ends `cut` below the support; if that is not 0 the density grows there as one over a root.
    """
    low, high, gaps = outline
    top = high - cut
    floor, below, hidden, seen = _floor(stack, start, low, top, atoms, cut)
    log_exact = np.append(0.0, np.log(exact))[ORDERS_RIGHT]
    # What overflows is not waited for.
    attainable = np.where(np.isfinite(log_exact), ENOUGH, np.inf)
    log_unit = log_exact + np.log(attainable)

    def scale(log_x: np.ndarray) -> np.ndarray:
        """Return what has an integral of 1, over the tolerance that it has."""
        shape = (-1, *(1,) * log_x.ndim)
        orders = ORDERS_RIGHT.reshape(shape)
        return np.exp(np.where(orders > 0, orders * log_x, 0.0) - log_unit.reshape(shape))

    known = (scale(atoms.place) * atoms.mass).sum(axis=1)
    known = known + scale(np.array(high - cut / 3)) * hidden
    known[0] += below / attainable[0]

    def judged(cells: Cells) -> Cells:
        found = _solved(stack, start, cells)
        density = np.where(found.resolved, found.log_density, 0.0).reshape(cells.values.shape)
        above = np.where(found.resolved, found.above, np.nan)
        carried = np.concatenate([found.log_r, found.theta, above[None]]).T
        return cells.judged(density, carried.reshape(cells.carried.shape), scale)

    with np.errstate(all="ignore"):
        bands = smooth_bands(stack, floor, top, gaps)
        cells = Cells.of(bands, 2 * len(stack.factors) + 1)
        if seen is not None:
            cells.carried[..., :-1] = np.moveaxis(seen.nearby(cells.x), 0, -1)
        cells = judged(cells)
        while room := FIRST * len(bands) + MOST - len(cells.doubt):
            wrong = np.abs(cells.integrals(scale) + known - 1 / attainable).max()
            if wrong <= 1 or (wrong <= CLOSE and cells.doubt.sum() <= SURE):
                break
            which = cells.doubtful(room)
            cells = cells.replaced(which, judged(cells.halves(which)))
        return Grid(cells, floor, below, hidden)


def _floor(
    stack: Stack,
    start: tuple[np.ndarray, np.ndarray],
    low: float,
    top: float,
    atoms: Atoms,
    cut: float,
) -> tuple[float, float, float, Known | None]:
    """Return the log λ below which lies next to nothing, the mass below it, and that above `top`.

    The latter is 0 unless the density is not to be looked at there. Beside them: what was seen.
    """
    # What is at 0, or counts as if.
    nil = max(factor.law.zero_mass + factor.law.faint for factor in stack.factors)
    if stack.is_law or not low < top + cut:
        # Nothing is to be looked for in a law itself, and where all mass is in atoms.
        return low, nil - atoms.mass[0] if stack.is_law else 0.0, 0.0, None
    floor, ceiling, below, hidden, seen = max(start[1][0], low), top, 0.0, 0.0, None
    for _ in range(FLOOR_ROUNDS):
        log_x = np.linspace(floor, ceiling, FLOOR_POINTS)
        found = solve(stack, start, log_x, seen and seen.guess(log_x))
        known = found.resolved & (log_x > low)
        mass = np.where(known, np.maximum(1 - found.above - nil, 0.0), 0.0)
        last = max(int((mass > FLOOR).argmax()) - 1, 0)
        floor, ceiling = log_x[last], log_x[last + 1]
        below = mass[last] + nil - atoms.mass[0]
        if seen is None:
            seen = Known.of(log_x, found)
            hidden = found.above[-1] - atoms.mass[atoms.place >= top].sum() if cut else 0.0
    return float(floor), float(below), float(hidden), seen
