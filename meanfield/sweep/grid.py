"""The grid of a spec: its axes, chunks and points.

A chunk holds one activation. How a grid is cut depends on the grid alone, so that a sweep has the
same bytes wherever it is computed.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from meanfield.errors import Status
from meanfield.observables import observables
from meanfield.sweep.points import by_table, evaluate
from meanfield.sweep.spec import SweepSpec
from meanfield.sweep.store import Layout

# A chunk has at least this many points, by quadrature and by table, where the grid has; by
# quadrature a sweep of one activation has at least four chunks.
QUADRATURE_POINTS, TABLE_POINTS = 256, 4096
# A larger grid has larger chunks, of which it has about so many, up to these: writing one costs
# what 4000 points cost by table.
QUADRATURE_CHUNKS, TABLE_CHUNKS = 4096, 64
MOST_QUADRATURE_POINTS, MOST_TABLE_POINTS = 4096, 131072
STATE = {
    "q": ("q*", "fixed variance of pre-activations"),
    "sigma_w": ("σ_w", "standard deviation of weights, times the root of the width"),
    "sigma_b": ("σ_b", "standard deviation of biases"),
    "slope": ("V'(q*)", "slope of the variance map at its fixed point"),
    "chi": ("χ₁", "slope of the correlation map at correlation 1"),
}
AXES = {
    "activation": ("φ", "activation function"),
    "weight_variance": ("σ_w²", "variance of weights, times the width"),
    "bias_variance": ("σ_b²", "variance of biases"),
}


class Grid:
    """What a sweep computes, and in which chunks."""

    def __init__(self, spec: SweepSpec) -> None:
        self.spec = spec
        self.has_activation_dim = len(spec.activations) > 1
        self.axes = [name for name in spec.axes if not spec.is_fixed(name)]
        lead = ("activation",) if self.has_activation_dim else ()
        self.dims = (*lead, *self.axes)
        lengths = [len(spec.values(name)) for name in self.axes]
        self.shape = (*((len(spec.activations),) if lead else ()), *lengths)
        self.by_table = by_table(spec)
        self.chunks = (*((1,) if lead else ()), *chunk_shape(lengths, self._points_of_a_chunk()))

    def _points_of_a_chunk(self) -> int:
        if self.by_table:
            return min(max(TABLE_POINTS, self.size // TABLE_CHUNKS), MOST_TABLE_POINTS)
        share = self.size // QUADRATURE_CHUNKS
        if share >= QUADRATURE_POINTS:
            return min(share, MOST_QUADRATURE_POINTS)
        quarter = self.size // len(self.spec.activations) // 4
        return min(QUADRATURE_POINTS, max(1, quarter))

    @property
    def size(self) -> int:
        """The number of points."""
        return math.prod(self.shape)

    @property
    def layout(self) -> Layout:
        """What its store holds."""
        return Layout(self.coords(), self.variables(), self.dims, self.shape, self.chunks)

    def coords(self) -> dict[str, Any]:
        """Return (dims, values, attributes) of every coordinate; fixed ones have no dims."""
        labels = np.array([s.label for s in self.spec.activations], np.dtypes.StringDType())
        lead = ("activation",) if self.has_activation_dim else ()
        labels = labels if lead else labels.reshape(())
        coords: dict[str, Any] = {"activation": (lead, labels, attributes(*AXES["activation"]))}
        for name in self.spec.axes:
            values = self.spec.values(name)
            fixed = self.spec.is_fixed(name)
            labelled = AXES.get(name) or STATE.get(name) or (name, f"parameter {name}")
            coords[name] = (
                () if fixed else (name,),
                values.reshape(()) if fixed else values,
                attributes(*labelled),
            )
        return coords

    def variables(self) -> dict[str, dict[str, Any]]:
        names = {k: v for k, v in STATE.items() if k not in self.spec.axes}
        for name in self.spec.observables:
            names[name] = (observables[name].symbol, observables[name].long_name)
        return {name: attributes(*labels) for name, labels in names.items()}

    def points(self, index: int, region: tuple[slice, ...]) -> dict[str, np.ndarray]:
        """Return the points of one chunk, as vectors."""
        spec = self.spec
        slices = dict(zip(self.dims, region, strict=True))
        pieces = [spec.values(name)[slices[name]] for name in self.axes]
        mesh = dict(zip(self.axes, np.meshgrid(*pieces, indexing="ij"), strict=True))
        values = {n: mesh[n] if n in mesh else spec.values(n)[0] for n in spec.axes}
        values |= {k: np.asarray(float(v)) for k, v in spec.activations[index].params.items()}
        shape = tuple(len(piece) for piece in pieces)
        return {k: np.broadcast_to(v, shape).ravel() for k, v in values.items()}

    def evaluate(self, region: tuple[slice, ...]) -> dict[str, np.ndarray]:
        """Return every variable on one chunk."""
        index = region[0].start if self.has_activation_dim else 0
        points = self.points(index, region)
        legal = self._legal(index, points)
        status = np.full(legal.size, Status.OUT_OF_DOMAIN, "int8")
        values = {name: np.full(legal.size, np.nan) for name in self.variables()}
        if legal.any():
            inside = {name: value[legal] for name, value in points.items()}
            found = evaluate(self.spec, index, inside, self.by_table)
            status[legal] = found["status"]
            for name, value in values.items():
                value[legal] = np.where(found["status"] == Status.OK, found[name], np.nan)
        shape = tuple(s.stop - s.start for s in region)
        return {name: value.reshape(shape) for name, value in (values | {"status": status}).items()}

    def _legal(self, index: int, points: dict[str, np.ndarray]) -> np.ndarray:
        legal = np.ones(next(iter(points.values())).shape, bool)
        for name, (_, _, check) in self.spec.activations[index].parameters().items():
            if name in points:
                legal &= np.asarray(check(points[name]), bool)
        return legal


def attributes(symbol: str, long_name: str) -> dict[str, Any]:
    """Return the attributes of a dimensionless variable."""
    return {"symbol": symbol, "long_name": long_name, "units": "dimensionless"}


def chunk_shape(lengths: Sequence[int], most: int) -> list[int]:
    """Return the shape of chunks of an array with so many cells at most, whole rows first."""
    shape = list(lengths)
    for axis in range(len(shape)):
        rest = math.prod(shape[axis + 1 :])
        shape[axis] = max(1, min(shape[axis], most // rest)) if rest <= most else 1
        if shape[axis] > 1:
            break
    return shape
