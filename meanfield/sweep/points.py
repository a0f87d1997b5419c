"""Points of a sweep: where networks settle, or where they are critical, and what is seen there.

By "quadrature" each network is solved by itself. By table all networks of one activation settle at
once (`meanfield.batch`), or are found on the edge (`meanfield.edge_batch`), and what the table does
not know is solved by itself. Both give the same numbers to 1e-10.
"""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from meanfield._elementwise import PIECE, elementwise, namespace, side_by_side
from meanfield._struct import pick
from meanfield.activations.base import Activation
from meanfield.batch import EACH
from meanfield.criticality import PER_TABLE, CriticalPoint, edge_of_chaos
from meanfield.devices import chunk
from meanfield.errors import Status
from meanfield.fixedpoint import CorrelationFixedPoint, SteadyState, steady_state
from meanfield.layers import Dense
from meanfield.limits import read_limits
from meanfield.method import completed, in_parallel, uses_table
from meanfield.observables import Point, observables
from meanfield.sweep.spec import SweepSpec
from meanfield.table import Tabulated
from meanfield.tabulation import Part, distinct, joined, tabulate
from meanfield.typing import Array

Values = dict[str, np.ndarray]

# Networks that are looked at by one kernel.
LOOK = 256


def _length(size: int) -> int:
    """Return how many networks to look at at a time: a call costs what a few networks do."""
    return LOOK if size >= LOOK else PIECE


def activation_of(spec: SweepSpec, index: int, values: dict[str, Any]) -> Activation:
    """Return an activation of a sweep with the parameters among some values."""
    given = spec.activations[index]
    return given.make(**{name: values[name] for name in given.parameters() if name in values})


def by_table(spec: SweepSpec) -> bool:
    """Return whether the points of each activation are read off its tables.

    Raises `MeanFieldError` if the spec asks for it and it cannot be.
    """
    sizes = {name: len(spec.values(name)) for name in spec.axes}
    each = math.prod(n for name, n in sizes.items() if name not in spec.parameter_axes)
    on_edge = spec.on == "edge_of_chaos"
    size = math.prod(sizes.values()) if on_edge and each >= PER_TABLE else each
    return uses_table(spec.method, size, str)


def evaluate(spec: SweepSpec, index: int, points: Values, table: bool) -> Values:
    """Return every variable at the points of one activation, vectors of legal values."""
    phi = activation_of(spec, index, points)
    sigma_b = _deviation(points, "sigma_b", "bias_variance")
    if spec.on == "edge_of_chaos":
        found = _on_edge(spec, phi, sigma_b, table)
    else:
        sigma_w = _deviation(points, "sigma_w", "weight_variance")
        layer = Dense(phi, sigma_w, sigma_b, spec.ensemble)
        found = _by_table(spec, layer) if table else _by_quadrature(spec, layer)
    return {"sigma_b": sigma_b} | {name: np.array(value) for name, value in found.items()}


def _deviation(values: Values, deviation: str, variance: str) -> np.ndarray:
    return values[deviation] if deviation in values else np.sqrt(values[variance])


def _on_edge(spec: SweepSpec, phi: Activation, sigma_b: np.ndarray, table: bool) -> Values:
    def solve(points: tuple[Activation, np.ndarray]) -> CriticalPoint:
        return edge_of_chaos(*points, "table" if table else "quadrature")

    size, points = sigma_b.size, (phi, sigma_b)
    critical = solve(points) if table else in_parallel(solve, points, PIECE)
    vanishes = (critical.status == Status.OK) & ~(critical.q > 0)
    status = np.where(vanishes, Status.VANISHES, critical.status)
    state = SteadyState(critical.q, critical.slope, jnp.ones(size), jnp.asarray(status))
    # Where there is no edge σw is NaN, of which no layer is made; the status says so.
    layer = Dense(phi, np.nan_to_num(np.asarray(critical.sigma_w)), sigma_b, spec.ensemble)

    def look(record: tuple[Dense, SteadyState]) -> dict[str, Array]:
        return _look(*record, None, spec.observables, True)

    return in_parallel(look, (layer, state), _length(size))


def _by_quadrature(spec: SweepSpec, layer: Dense) -> Values:
    return in_parallel(lambda layer: _solve(spec, layer), layer, PIECE)


def _solve(spec: SweepSpec, layer: Dense) -> dict[str, Array]:
    return _look(layer, steady_state(layer), None, spec.observables, False)


def _by_table(spec: SweepSpec, layer: Dense) -> Values:
    seen: list[Part] = [part for name in spec.observables for part in observables[name].parts]
    parts: tuple[Part, ...] = ("moments", "acute", *seen)
    kinds = distinct(layer.phi, np.size(layer.sigma_b))
    found = [_read(spec, tabulate(kind.one, parts), pick(layer, kind.places)) for kind in kinds]
    return joined(kinds, found)


def _read(spec: SweepSpec, phi: Tabulated, layer: Dense) -> Values:
    """Return every variable of networks of one activation, beside its table."""
    tabulated = dataclasses.replace(layer, phi=phi)
    state, limit = read_limits(phi, layer, 1.0)

    def look(record: tuple[Dense, SteadyState, CorrelationFixedPoint]) -> dict[str, Array]:
        return _look_at_all(*record, spec.observables, False)

    size = np.size(layer.sigma_w)
    seen = in_parallel(look, (tabulated, state, limit), chunk(size, EACH))
    sure = seen["status"] != Status.NOT_CONVERGED
    return completed(seen, sure, lambda layer: _solve(spec, layer), layer)


def _see(
    layer: Dense,
    state: SteadyState,
    limit: CorrelationFixedPoint | None,
    names: tuple[str, ...],
    critical: bool,
) -> dict[str, Array]:
    """Return what is seen of networks at their steady states, and the status."""
    chi = state.chi
    if critical:
        chi = layer.sigma_w**2 * layer.phi.slope_moment(state.q, 2)
    point = Point(layer, state, limit, critical)
    seen = {"q": state.q, "sigma_w": layer.sigma_w, "slope": state.slope, "chi": chi}
    seen |= {name: observables[name].function(point) for name in names}
    # An observable that is unresolved must not stand beside a status that says OK.
    xp = namespace(state.q)
    lost = xp.isnan(xp.stack([xp.asarray(x, float) for x in seen.values()])).any(axis=0)
    status = xp.where((state.status == Status.OK) & lost, Status.NOT_CONVERGED, state.status)
    return {name: xp.asarray(x, float) for name, x in seen.items()} | {
        "status": status.astype(np.int8)
    }


_look = elementwise("names", "critical", host=True)(_see)
_look_at_all = side_by_side(_see, "names", "critical")
