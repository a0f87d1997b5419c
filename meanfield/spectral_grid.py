"""On which points is the density of a spectrum known, and where are its atoms?

All is in log λ, with E λ = 1. First come the atoms and the outline: the ends of the support and its
gaps. The lowest end is λ = 0, or so far down that a grid must stop above it: at the floor, below
which lies next to nothing. Between floor and top, cells are halved (`meanfield.adaptive`) until
mass and moments are right.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._struct import struct
from meanfield.adaptive import BATCH, Cells
from meanfield.free_product import (
    Stack,
    edge_of_stack,
    find_gaps,
    gather,
    smooth_bands,
    solve,
)
from meanfield.slope_law import FLAT, SlopeLaw
from meanfield.typing import Array

# Moments up to this order.
ORDER = 8
# The mass below the lowest grid point, that of an atom at 0 aside, is at most this, and how often
# a bracket of that point is narrowed.
FLOOR = 1e-9
FLOOR_ROUNDS = 2
# An edge is an atom's place if it is as close, in units of the spectrum's width.
SNAP = 1e-5
# An atom is about to appear if so much mass is missing or present; what is so close to the end of
# the support, in the same units, is then known by its mass alone.
BORDERLINE, HIDDEN = 1e-3, 1e-5
# Cells of the grid are halved until moments of these orders are right to this, or as often.
ORDERS_RIGHT = np.array([0, 1, 2, ORDER])
ENOUGH, HALVINGS = np.array([2e-9, 2e-9, 2e-9, 1e-7]), 96


def _merged(law: SlopeLaw) -> tuple[Array, Array]:
    """Return log x and mass of each atom not at 0; of equal values the first has it."""
    same = jnp.abs(law.values[:, None] - law.values) <= FLAT * law.values
    masses = jnp.where(same, law.masses, 0.0).sum(axis=1)
    first = same.argmax(axis=1) == jnp.arange(law.values.shape[0])
    counts = first & (law.values > 0) & (masses > 0)
    return jnp.log(jnp.where(counts, law.values, 1.0)), jnp.where(counts, masses, 0.0)


def atoms_of(stack: Stack) -> tuple[Array, Array, Array]:
    """Return log λ and mass of the atoms, that at 0 first, and how far below the end of the support
    the density is to be looked at.

    That is 0 but where an atom is about to appear: then the density is unbounded there, and Ω at a
    double root. An atom has the heaviest value of X in all layers but one kind, at most: two others
    would be too light.
    """
    zero = gather(stack.factors, lambda law: law.zero_mass).max()
    place, mass = gather(stack.factors, lambda law: law.heaviest)
    place = jnp.log(jnp.where(mass > 0, place, 1.0))
    together = (stack.count * mass).sum() - (stack.total - 1)
    borderline = (stack.gaussian.sum() == 0) & (jnp.abs(together) < BORDERLINE) & ~stack.is_law
    places, masses = [(stack.count * place).sum()[None]], [together[None]]
    start = 0
    for kind in stack.factors:
        at = slice(start, start + kind.count.shape[0])
        start = at.stop
        own_places, own_masses = jax.vmap(_merged)(kind.law)
        further = own_places - place[at, None]
        other = (own_masses > 0) & (jnp.abs(further) > FLAT)
        lighter = together + stack.count[at, None] * (own_masses - mass[at, None])
        places.append((places[0] + stack.count[at, None] * further).ravel())
        masses.append(jnp.where(other, lighter, 0.0).ravel())
    places, masses = jnp.concatenate(places), jnp.concatenate(masses)
    masses = jnp.where(stack.gaussian.sum() == 0, jnp.maximum(masses, 0.0), 0.0)
    places, masses = jnp.append(-jnp.inf, places), jnp.append(zero, masses)
    cut = jnp.where(borderline, HIDDEN * stack.width, 0.0)
    return jnp.where(masses > 0, places, jnp.nan), masses, cut


def outline_of(stack: Stack, zero: Array, places: Array) -> tuple[Array, Array, Array]:
    """Return the ends of the support of log λ, -inf for λ = 0, and the gaps inside."""
    spans = gather(stack.factors, lambda law: jnp.stack(law.span))
    faint = gather(stack.factors, lambda law: law.faint)
    reaches_zero = (stack.gaussian.sum() > 0) | (zero > 0) | (faint > 0).any()
    reaches_zero = reaches_zero & ~stack.is_law
    if stack.uniform:
        gaps = find_gaps(stack)
        # A gap below an atom, with more of the spectrum below it.
        inner = jnp.where(reaches_zero, gaps[-2], jnp.nan)
        gaps, below, above = jnp.vstack([gaps[:-2], inner]), gaps[-2, 1], gaps[-1, 0]
    else:
        gaps = jnp.full((1, 2), jnp.nan)
        below, above = (
            edge_of_stack(stack, spans[:, i], side) for i, side in ((0, -1.0), (1, 1.0))
        )

    def snapped(ends: Array) -> Array:
        # Rounding keeps Ω away from an atom of X by what may matter n times over.
        near = jnp.abs(ends[..., None] - places) < SNAP * stack.width
        return jnp.where(near.any(axis=-1), jnp.where(near, places, -jnp.inf).max(axis=-1), ends)

    low = jnp.where(reaches_zero, -jnp.inf, snapped(below))
    return low, snapped(above), snapped(gaps)


@struct
class Grid:
    """The density of log λ (E λ = 1) where it was integrated, the floor and the mass below it."""

    cells: Cells
    floor: Array
    ceiling: Array
    """The floor is looked for between it and this."""
    below: Array
    hidden: Array
    """The mass between the highest point and the end of the support."""
    round: Array

    @property
    def summands(self) -> Array:
        """What each point adds to the mass."""
        return (self.cells.weights * self.cells.values).ravel()


def on_grid(
    stack: Stack,
    start: tuple[Array, Array],
    outline: tuple[Array, Array, Array],
    cut: Array,
    atoms: tuple[Array, Array],
    exact: Array,
    single: bool,
) -> Grid:
    """Return the density on a grid that resolves its mass and its `exact` moments.

    The first rounds look for the λ below which lies `FLOOR`. What is not resolved counts as
    nothing: mass and moments tell whether that matters. The grid ends `cut` below the support; if
    that is not 0 the density grows there as one over a root.
    """
    low, high, gaps = outline
    top = high - cut
    places, masses = atoms
    layers = stack.count.shape[0]
    even = jnp.linspace(0.0, 1.0, BATCH)

    def bands(floor: Array) -> Array:
        return smooth_bands(stack, floor, top, gaps)

    def cells_above(floor: Array) -> Cells:
        return Cells.of(bands(floor), HALVINGS, carried=2 * layers)

    log_exact = jnp.append(0.0, jnp.log(exact))[ORDERS_RIGHT]
    # What overflows is not waited for.
    attainable = jnp.where(jnp.isfinite(log_exact), ENOUGH, jnp.inf)

    def scale(log_x: Array) -> Array:
        """Return what has an integral of 1, over the tolerance that it has."""
        units = log_exact + jnp.log(attainable)
        orders, log_unit = (v.reshape(-1, *(1,) * log_x.ndim) for v in (ORDERS_RIGHT, units))
        return jnp.exp(jnp.where(orders > 0, orders * log_x, 0.0) - log_unit)

    of_atoms = jnp.where(masses > 0, scale(places) * masses, 0.0).sum(axis=1)
    upper = jnp.where(places >= top, masses, 0.0).sum()
    # What is at 0, or counts as if.
    nil = gather(stack.factors, lambda law: law.zero_mass + law.faint).max()

    def goes_on(grid: Grid) -> Array:
        sums = grid.cells.integrals(scale) + of_atoms + scale(high - cut / 3) * grid.hidden
        sums = sums.at[0].add(grid.below / attainable[0])
        right = (jnp.abs(sums - 1 / attainable) <= 1).all()
        return (grid.round < FLOOR_ROUNDS) | ~right & (grid.round < FLOOR_ROUNDS + HALVINGS)

    def round_(grid: Grid) -> Grid:
        searches = grid.round < FLOOR_ROUNDS
        which = grid.cells.worst()
        halves = grid.cells.halves(which, bands(grid.floor))
        even_x = grid.floor + (grid.ceiling - grid.floor) * even
        log_x = jnp.where(searches, even_x, halves.x.ravel())
        guess = jnp.where(searches, jnp.nan, halves.carried.reshape(-1, 2 * layers))
        found = solve(stack, start, log_x, single, (guess[:, :layers], guess[:, layers:]))

        mass = jnp.where(found.resolved, jnp.maximum(1 - found.above - nil, 0.0), 0.0)
        last = jnp.maximum((mass > FLOOR).argmax() - 1, 0)
        floor, ceiling = log_x[last], log_x[last + 1]
        hidden = jnp.where(cut > 0, found.above[-1] - upper, 0.0)
        hidden = jnp.where(grid.round == 0, hidden, grid.hidden)
        below = mass[last] + nil - masses[0]
        searched = Grid(cells_above(floor), floor, ceiling, below, hidden, grid.round)
        density = jnp.where(found.resolved, found.log_density, 0.0).reshape(halves.x.shape)
        omega = jnp.concatenate([found.log_r, found.theta], axis=-1)
        halves = halves.judged(density, omega.reshape(halves.carried.shape), scale)
        refined = replace(grid, cells=grid.cells.replaced(which, halves))
        grid = jax.tree.map(lambda a, b: jnp.where(searches, a, b), searched, refined)
        return replace(grid, round=grid.round + 1)

    # Nothing is to be looked for in a law itself, and where all mass is in atoms.
    known = stack.is_law | ~(low < high)
    floor = jnp.where(known, low, jnp.maximum(start[1][0], low))
    first = jnp.where(known, FLOOR_ROUNDS, 0)
    below = jnp.where(stack.is_law, nil - masses[0], 0.0)
    grid = Grid(cells_above(floor), floor, top, below, jnp.zeros(()), first)
    return jax.lax.while_loop(goes_on, round_, grid)
