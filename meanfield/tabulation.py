"""An activation seen once: its table.

Statistics of one Gaussian are found at the Chebyshev nodes of log q; pairs are the subject of
`meanfield.pair_table`. A cell is used only where it is certified: the last terms of its series are
small. What lies elsewhere is computed directly.
"""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any, Literal

import jax
import numpy as np

from meanfield._elementwise import PIECE
from meanfield.activations.base import Activation, ActivationLike, single_activation
from meanfield.activations.sampling import sampled
from meanfield.arguments import refuse_traced
from meanfield.chebyshev import TAIL, TERMS, nodes, transform
from meanfield.pair_table import no_pairs, tabulated_pairs
from meanfield.sampled import Sampled
from meanfield.table import WIDE, Table, Tabulated

Part = Literal["moments", "edge", "means", "acute", "obtuse"]
PARTS: tuple[Part, ...] = ("moments", "edge", "means", "acute", "obtuse")
# Relative errors up to which cells are used: of moments, of V' (beside V/q), and of what σb² is on
# the edge.
MOMENT_TOLERANCE, SLOPE_TOLERANCE, EDGE_TOLERANCE = 1e-12, 1e-11, 1e-11
# What σb² is on the edge may be so wrong where it is only asked whether it is below another.
ROUGH = 1e-3
# Cells of one Gaussian are made by so many at a time: one call.
GROUP = PIECE // TERMS
GROUPS = (WIDE.size - 1) // GROUP
# A bias variance of this part of q is 0.
NOTHING = 1e-27
# It is less for λ/q above this: exp(-70) is 4e-31.
FAINT = 70.0
# What φ is up to its first kink is seen at these fractions of it.
FRACTIONS = np.array([0.1, 0.3, 0.7, 0.99])


def tabulate(phi: ActivationLike, parts: Iterable[Part] = PARTS) -> Tabulated:
    """Return an activation whose parameters are numbers with the table of its statistics.

    Parameters
    ----------
    phi : the activation.
    parts : what is needed of "moments" of φ and φ', the "edge" of chaos, "means" of φ and of
        its even part squared, and pairs of "acute" angles, with correlations from 0 to 1, and
        "obtuse" ones.

    Returns
    -------
    An activation for `Dense` and all that is computed from it, in place of `phi`. What is made is
    kept: a second call for an activation of this scale or another costs nothing.
    """
    if isinstance(phi, Tabulated):
        phi = phi.phi
    phi = single_activation(phi)
    refuse_traced("tabulate", phi)
    wanted = frozenset(parts)
    one, width, height = phi.standard()
    groups = range(GROUPS)
    return Tabulated(
        phi,
        table_of(
            one,
            moments=groups if "moments" in wanted else (),
            edge=groups if "edge" in wanted else (),
            means=groups if "means" in wanted else (),
            angles="obtuse" if "obtuse" in wanted else "acute" if "acute" in wanted else None,
        ),
        width,
        height,
    )


@dataclasses.dataclass(frozen=True)
class Family:
    """An activation that stands for some of many: which ones."""

    one: Activation
    places: np.ndarray


def distinct(phi: Activation, size: int) -> list[Family]:
    """Return the different ones of `size` activations, whose parameters are vectors or numbers."""
    leaves, tree = jax.tree.flatten(phi)
    rows = np.zeros((size, len(leaves)))
    for column, leaf in enumerate(leaves):
        rows[:, column] = leaf
    if (rows == rows[0]).all():
        return [Family(jax.tree.unflatten(tree, [float(x) for x in rows[0]]), np.arange(size))]
    kinds, which = np.unique(rows, axis=0, return_inverse=True)
    return [
        Family(jax.tree.unflatten(tree, [float(x) for x in kind]), np.flatnonzero(which == i))
        for i, kind in enumerate(kinds)
    ]


def joined(kinds: list[Family], parts: list[Any]) -> Any:
    """Return in the order of the many what was found for each kind, pytrees of vectors."""
    order = np.argsort(np.concatenate([kind.places for kind in kinds]))
    return jax.tree.map(lambda *xs: np.concatenate(xs)[order], *parts)


def families(phi: Activation, size: int) -> tuple[list[Family], np.ndarray, np.ndarray]:
    """Return the families of `size` activations, and the widths and heights of all of them."""
    one, width, height = phi.standard()
    width, height = (np.broadcast_to(np.asarray(x, float), size) for x in (width, height))
    return distinct(one, size), width, height


def _key(phi: Activation) -> tuple[Any, tuple[float, ...]]:
    """Return what tells an activation from others: its structure and its parameters."""
    leaves, tree = jax.tree.flatten(phi)
    return tree, tuple(float(leaf) for leaf in leaves)


def table_of(
    phi: Activation,
    moments: Iterable[int] = (),
    edge: Iterable[int] = (),
    means: Iterable[int] = (),
    angles: Literal["acute", "obtuse"] | None = None,
) -> Table:
    """Return a table of what is needed: groups of cells of one Gaussian, and the pairs."""
    key = _key(phi)
    cells = WIDE.size - 1
    lines = {name: np.full((cells, TERMS), np.nan) for names in LINES.values() for name in names}
    certified, error = np.zeros(cells, bool), 0.0
    for kind, groups in (("moments", moments), ("edge", edge), ("means", means)):
        for group in groups:
            place = slice(group * GROUP, (group + 1) * GROUP)
            if kind == "edge":
                lines["edge_bias"][place], certified[place], worst = _edge_group(*key, group)
            else:
                found, worst = _group(kind, *key, group)
                for name, coefficients in zip(LINES[kind], found, strict=True):
                    lines[name][place] = coefficients
            error = max(error, worst)
    pairs = no_pairs()
    if angles:
        pairs, worst = tabulated_pairs(*key, angles)
        error = max(error, worst)
    return Table(
        **lines,
        edge_certified=certified,
        edge_rate=np.asarray(_edge_rate(*key)),
        pairs=pairs,
        error=np.asarray(error),
    )


LINES = {
    "moments": ("second_moment", "variance_slope", "slope_moment", "fourth_slope_moment"),
    "edge": ("edge_bias",),
    "means": ("mean", "even_moment"),
}


def _moments(phi: Sampled, q: np.ndarray) -> list[np.ndarray]:
    return [
        phi.second_moment(q),
        phi.variance_slope(q),
        phi.slope_moment(q, 2),
        phi.slope_moment(q, 4),
    ]


def _means(phi: Sampled, q: np.ndarray) -> list[np.ndarray]:
    return [phi.mean(q), phi.even_moment(q), phi.second_moment(q)]


def group_of(q: np.ndarray) -> np.ndarray:
    """Return the groups of cells that hold variances, or are closest to them."""
    cell = np.searchsorted(WIDE, np.log(q), side="right") - 1
    return np.clip(cell // GROUP, 0, GROUPS - 1)


def _nodes(group: int) -> np.ndarray:
    """Return the variances at which a group of cells is made, shape (GROUP, TERMS)."""
    return np.exp(nodes(WIDE))[group * GROUP : (group + 1) * GROUP]


@functools.lru_cache(maxsize=8192)
def _group(
    kind: str, tree: Any, leaves: tuple[float, ...], group: int
) -> tuple[list[np.ndarray], float]:
    """Return the coefficients of moments or means in one group of cells, and their error."""
    q = _nodes(group)
    function = {"moments": _moments, "means": _means}[kind]
    found = function(sampled(jax.tree.unflatten(tree, leaves)), q.ravel())
    parts = [part.reshape(q.shape) for part in found]
    if kind == "moments":
        sizes = [np.abs(part) for part in parts]
        sizes[1] = np.maximum(sizes[1], sizes[0] / q)
        tolerances = (MOMENT_TOLERANCE, SLOPE_TOLERANCE, MOMENT_TOLERANCE, MOMENT_TOLERANCE)
    else:
        *parts, size = parts
        sizes = [np.sqrt(size), size]
        tolerances = (MOMENT_TOLERANCE, MOMENT_TOLERANCE)
    kept, largest = [], 0.0
    for part, size, tolerance in zip(parts, sizes, tolerances, strict=True):
        if np.isinf(part).all():
            # φ jumps. A series is infinite if its first coefficient alone is.
            kept.append(np.where(np.arange(TERMS) == 0, part, 0.0))
            continue
        coefficients, tail = _coefficients(part)
        allowed = tolerance * size.min(axis=1)
        certified = tail <= allowed
        kept.append(np.where(certified[:, None], coefficients, np.nan))
        largest = max(largest, _worst(tail, allowed, certified))
    return kept, largest


@functools.lru_cache(maxsize=8192)
def _edge_group(
    tree: Any, leaves: tuple[float, ...], group: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the coefficients of e in a group of cells, which are certified, and their error.

    Where they are not, they are rough: NaN if not even that.
    """
    q, rate = _nodes(group), _edge_rate(tree, leaves)
    if rate > FAINT * q.max():
        return np.zeros(q.shape), np.ones(GROUP, bool), 0.0
    phi, at = sampled(jax.tree.unflatten(tree, leaves)), q.ravel()
    with np.errstate(over="ignore", invalid="ignore"):
        relative = (phi.edge_deficit(at) / (at * phi.slope_moment(at, 2))).reshape(q.shape)
        values = relative * np.exp(rate / q)
    faint = np.asarray(np.abs(relative) <= NOTHING)
    none, some = faint.all(axis=1, keepdims=True), faint.any(axis=1, keepdims=True)
    values = np.where(none, 0.0, values)
    partly = (some & ~none).ravel()
    # What falls like exp(-λ/q) is faint at the lower end: e goes on as it is above.
    first = np.take_along_axis(values, faint.sum(axis=1, keepdims=True) % TERMS, axis=1)
    values = np.where(partly[:, None] & faint, first, values)
    coefficients, tail = _coefficients(values)
    size = np.abs(values).mean(axis=1)
    certified = np.asarray(tail <= EDGE_TOLERANCE * size) & ~partly
    rough = np.asarray(tail <= ROUGH * size) | partly
    error = _worst(tail, EDGE_TOLERANCE * size, certified)
    return np.where(rough[:, None], coefficients, np.nan), certified, error


def rough_bias(phi: Activation, group: int, x: float) -> float:
    """Return, as far as is known, the critical bias variance at x in the last cell of a group."""
    key = _key(phi)
    low, high = WIDE[(group + 1) * GROUP - 1 :][:2]
    q = np.exp(low + (high - low) * (1 + x) / 2)
    e = np.polynomial.chebyshev.chebval(x, _edge_group(*key, group)[0][-1])
    return float(q * np.exp(-_edge_rate(*key) / q) * e)


def _coefficients(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the coefficients of cells, and the sizes of their last terms."""
    with np.errstate(invalid="ignore"):
        coefficients = values @ transform().T
    return coefficients, np.abs(coefficients[:, -TAIL:]).sum(axis=1)


def _worst(tail: np.ndarray, allowed: np.ndarray, certified: np.ndarray) -> float:
    used = certified & (allowed > 0)
    return float((tail[used] / allowed[used]).max(initial=0.0))


@functools.lru_cache(maxsize=1024)
def _edge_rate(tree: Any, leaves: tuple[float, ...]) -> float:
    phi = sampled(jax.tree.unflatten(tree, leaves))
    kinks = np.abs(phi.rough.at[phi.rough.at != 0])
    if not kinks.size:
        return 0.0
    first = kinks.min()
    rays = (phi.values(side * first * FRACTIONS)[0] / FRACTIONS for side in (1, -1))
    homogeneous = all(np.ptp(ray) <= 1e-13 * first for ray in rays)
    return float(first**2 / 2) if homogeneous else 0.0
