"""From a spec to a dataset, chunk by chunk.

The grid is cut into chunks; a chunk holds one activation, and all processors work on its points
(`meanfield.sweep.points`). Each is written as soon as it is done: an interrupted sweep resumes.
"""

import importlib.metadata
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from meanfield.activations import activations
from meanfield.errors import Status
from meanfield.observables import observables
from meanfield.sweep.points import by_table, evaluate
from meanfield.sweep.spec import SweepSpec
from meanfield.sweep.store import (
    FORMAT,
    SPEC_KEY,
    VERSIONS_KEY,
    Layout,
    array_of,
    create_store,
    resume_store,
    write_chunk,
)

Progress = Callable[[int, int], None]

# A chunk has at most this many points, by quadrature and by table. By quadrature a sweep of one
# activation has at least four chunks.
CHUNK_POINTS, TABLE_POINTS = 256, 4096
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
VERSIONED = ("meanfield-jax", "jax", "jaxlib", "numpy")


def run_sweep(spec: SweepSpec, out: str | Path, progress: Progress | None = None) -> Path:
    """Compute a sweep into `out`/NAME.zarr and return that path.

    A store that exists is gone on with where it was left; a finished one is left alone.
    `progress(done, total)` is called with numbers of points.

    Raises
    ------
    MeanFieldError : the directory cannot be written, or holds another sweep of that name or
        one that was computed with other versions.
    """
    path = Path(out) / f"{spec.name}.zarr"
    grid = _Grid(spec)
    text = spec.model_dump_json()
    if path.exists():
        root = resume_store(path, text, _versions())
    else:
        attrs = {"format": FORMAT, "title": spec.title, SPEC_KEY: text, VERSIONS_KEY: _versions()}
        layout = Layout(grid.coords(), grid.variables(), grid.dims, grid.shape, grid.chunks)
        root = create_store(path, layout, attrs)
    status = np.asarray(array_of(root, "status")[...])
    total = status.size
    left = [r for r in grid.regions() if (status[r] == Status.PENDING).any()]
    done = total - sum(status[r].size for r in left)
    if progress:
        progress(done, total)

    for region in left:
        write_chunk(root, region, grid.evaluate(region))
        done += status[region].size
        if progress:
            progress(done, total)
    return path


def _versions() -> str:
    return json.dumps({name: _version(name) for name in VERSIONED})


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


class _Grid:
    """The grid of a spec: its axes, chunks and points."""

    def __init__(self, spec: SweepSpec) -> None:
        self.spec = spec
        self.has_activation_dim = len(spec.activations) > 1
        self.axes = [name for name in spec.axes if not spec.is_fixed(name)]
        lead = ("activation",) if self.has_activation_dim else ()
        self.dims = (*lead, *self.axes)
        lengths = [len(spec.values(name)) for name in self.axes]
        self.shape = (*((len(spec.activations),) if lead else ()), *lengths)
        self.tables = [by_table(spec, index) for index in range(len(spec.activations))]
        few = min(CHUNK_POINTS, max(1, math.prod(lengths) // 4))
        most = TABLE_POINTS if any(self.tables) else few
        self.chunks = (*((1,) if lead else ()), *_chunk_shape(lengths, most))

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

    def regions(self) -> list[tuple[slice, ...]]:
        starts = [range(0, n, c) for n, c in zip(self.shape, self.chunks, strict=True)]
        return [
            tuple(
                slice(s, min(s + c, n)) for s, c, n in zip(at, self.chunks, self.shape, strict=True)
            )
            for at in itertools.product(*starts)
        ]

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
            found = evaluate(self.spec, index, inside, self.tables[index])
            status[legal] = found["status"]
            for name, value in values.items():
                value[legal] = np.where(found["status"] == Status.OK, found[name], np.nan)
        shape = tuple(s.stop - s.start for s in region)
        return {name: value.reshape(shape) for name, value in (values | {"status": status}).items()}

    def _legal(self, index: int, points: dict[str, np.ndarray]) -> np.ndarray:
        legal = np.ones(next(iter(points.values())).shape, bool)
        for name, (_, _, check) in (
            activations[self.spec.activations[index].name].parameters().items()
        ):
            if name in points:
                legal &= np.asarray(check(points[name]), bool)
        return legal


def attributes(symbol: str, long_name: str) -> dict[str, Any]:
    """Return the attributes of a dimensionless variable."""
    return {"symbol": symbol, "long_name": long_name, "units": "dimensionless"}


def _chunk_shape(lengths: list[int], most: int) -> list[int]:
    shape = list(lengths)
    for axis in range(len(shape)):
        rest = math.prod(shape[axis + 1 :])
        shape[axis] = max(1, min(shape[axis], most // rest)) if rest <= most else 1
        if shape[axis] > 1:
            break
    return shape
