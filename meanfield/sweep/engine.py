"""From a spec to a dataset: every point of the grid through one compiled kernel.

The grid is cut into chunks; a chunk holds one activation. Its points go one after another
through a kernel that solves the state once and reads every observable from it, so that a
branch which a point does not need costs nothing. Chunks run on as many threads as there are
processors, and each is written as soon as it is done: an interrupted sweep resumes.
"""

import importlib.metadata
import itertools
import json
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.activations import activations
from meanfield.criticality import edge_of_chaos
from meanfield.errors import Status
from meanfield.fixedpoint import SteadyState, steady_state
from meanfield.layers import Dense
from meanfield.observables import Point, observables
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
from meanfield.typing import Array

Progress = Callable[[int, int], None]

# A chunk has at most this many points, and a sweep of one activation at least four chunks.
CHUNK_POINTS = 256
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

    def index_of(region: tuple[slice, ...]) -> int:
        return region[0].start if grid.has_activation_dim else 0

    # Compiled one by one before any thread starts: XLA must not write one kernel into the
    # compilation cache while another runs.
    firsts = {index_of(region): region for region in left}
    kernels = {
        index: _kernel(spec, index).lower(grid.points(index, region)[0]).compile()
        for index, region in firsts.items()
    }

    def compute(region: tuple[slice, ...]) -> int:
        index = index_of(region)
        values = grid.evaluate(kernels[index], index, region)
        write_chunk(root, region, values)
        return status[region].size

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        futures = [pool.submit(compute, region) for region in left]
        try:
            for future in as_completed(futures):
                done += future.result()
                if progress:
                    progress(done, total)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
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
        self.chunks = (*((1,) if lead else ()), *_chunk_shape(lengths))

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

    def points(self, index: int, region: tuple[slice, ...]) -> tuple[dict[str, Array], np.ndarray]:
        """Return the points of one chunk, filled up to one size, and which of them are legal."""
        spec = self.spec
        slices = dict(zip(self.dims, region, strict=True))
        pieces = [spec.values(name)[slices[name]] for name in self.axes]
        mesh = dict(zip(self.axes, np.meshgrid(*pieces, indexing="ij"), strict=True))
        shape = tuple(len(piece) for piece in pieces)
        values = {n: mesh[n] if n in mesh else spec.values(n)[0] for n in spec.axes}
        values |= {k: np.asarray(float(v)) for k, v in spec.activations[index].params.items()}
        points = {k: np.broadcast_to(v, shape).ravel() for k, v in values.items()}
        legal = self._legal(index, points)
        # Every chunk is filled up to one size, so that the kernel compiles once.
        size = math.prod(self.chunks)
        padded = {k: jnp.asarray(np.resize(v, size)) for k, v in points.items()}
        padded |= {k: jnp.where(np.resize(legal, size), v, 1.0) for k, v in padded.items()}
        return padded, legal

    def evaluate(
        self, kernel: Callable[..., Any], index: int, region: tuple[slice, ...]
    ) -> dict[str, np.ndarray]:
        """Return every variable on one chunk."""
        padded, legal = self.points(index, region)
        result = {k: np.array(v)[: legal.size] for k, v in kernel(padded).items()}
        result["status"] = np.where(legal, result["status"], Status.OUT_OF_DOMAIN).astype("int8")
        for name, array in result.items():
            if name != "status":
                array[result["status"] != Status.OK] = np.nan
        full = tuple(s.stop - s.start for s in region)
        kept = {*self.variables(), "status"}
        return {k: v.reshape(full) for k, v in result.items() if k in kept}

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


def _chunk_shape(lengths: list[int]) -> list[int]:
    target = min(CHUNK_POINTS, max(1, math.prod(lengths) // 4))
    shape = list(lengths)
    for axis in range(len(shape)):
        rest = math.prod(shape[axis + 1 :])
        shape[axis] = max(1, min(shape[axis], target // rest)) if rest <= target else 1
        if shape[axis] > 1:
            break
    return shape


def _kernel(spec: SweepSpec, index: int) -> Any:
    cls = activations[spec.activations[index].name]
    names = [n for n in cls.parameters() if n in (*spec.axes, *spec.activations[index].params)]

    def one(values: dict[str, Array]) -> dict[str, Array]:
        phi = cls(**{name: values[name] for name in names})
        sigma_b = _deviation(values, "sigma_b", "bias_variance")
        if spec.on == "edge_of_chaos":
            critical = edge_of_chaos(phi, sigma_b)
            layer = Dense(phi, critical.sigma_w, sigma_b, spec.ensemble)
            chi = jnp.square(critical.sigma_w) * phi.slope_moment(critical.q, 2)
            positive = critical.q > 0
            status = jnp.where(
                (critical.status == Status.OK) & ~positive, Status.VANISHES, critical.status
            )
            state = SteadyState(critical.q, critical.slope, chi, status)
        else:
            sigma_w = _deviation(values, "sigma_w", "weight_variance")
            layer = Dense(phi, sigma_w, sigma_b, spec.ensemble)
            state = steady_state(layer)
        point = Point(layer, state)
        result = {
            "q": state.q,
            "sigma_w": layer.sigma_w,
            "sigma_b": sigma_b,
            "slope": state.slope,
            "chi": state.chi,
        }
        result |= {name: observables[name].function(point) for name in spec.observables}
        # An observable that is unresolved must not stand beside a status that says OK.
        lost = jnp.isnan(jnp.stack([jnp.asarray(v, float) for v in result.values()])).any()
        status = jnp.where((state.status == Status.OK) & lost, Status.NOT_CONVERGED, state.status)
        return {k: jnp.asarray(v, float) for k, v in result.items()} | {"status": status}

    return jax.jit(lambda points: jax.lax.map(one, points))


def _deviation(values: dict[str, Array], deviation: str, variance: str) -> Array:
    return values[deviation] if deviation in values else jnp.sqrt(values[variance])
