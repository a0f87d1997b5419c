"""From a spec to a dataset, chunk by chunk.

All processors work on the points of a chunk (`meanfield.sweep.points`). Each chunk is written as
soon as it is done: a sweep that was interrupted, or killed, goes on from there. A chunk that
raises is recorded as failed, and the others go on.
"""

import dataclasses
import importlib.metadata
import json
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

from meanfield.errors import MeanFieldError
from meanfield.sweep.grid import Grid
from meanfield.sweep.lock import locked
from meanfield.sweep.spec import SweepSpec
from meanfield.sweep.store import (
    FORMAT,
    SPEC_KEY,
    VERSIONS_KEY,
    Store,
    create_store,
    remove_store,
    require_room,
    resume_store,
)

VERSIONED = ("meanfield-jax", "jax", "jaxlib", "numpy")


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a sweep has come, in points."""

    done: int
    total: int
    failed: int


def run_sweep(
    spec: SweepSpec,
    out: str | Path,
    progress: Callable[[Progress], None] | None = None,
    *,
    overwrite: bool = False,
    retry_failed: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Compute a sweep into `out`/NAME.zarr and return that path.

    A store that exists is gone on with where it was left; a finished one is left alone.

    Parameters
    ----------
    progress : called at the start and after every chunk.
    overwrite : delete a store that exists, whatever sweep it holds, and start anew.
    retry_failed : compute those chunks again that failed; without it they are left as they are.
    stop : asked after every chunk; once true, the rest is left for the next run.

    Raises
    ------
    MeanFieldError : the directory cannot be written, or has no room; another process computes this
        store; or it holds another sweep of that name, or one that was computed with other versions.
    """
    path = Path(out) / f"{spec.name}.zarr"
    grid = Grid(spec)
    if not path.exists():
        require_room(path, grid.layout)
    with locked(path):
        if overwrite and path.exists():
            remove_store(path)
        store = _open(path, grid)
        if retry_failed:
            store.forget(store.failures())
        _fill(store, grid, progress or (lambda _: None), stop)
    return path


def _open(path: Path, grid: Grid) -> Store:
    text = grid.spec.model_dump_json()
    if path.exists():
        return resume_store(path, text, versions())
    attrs = {"format": FORMAT, "title": grid.spec.title, SPEC_KEY: text, VERSIONS_KEY: versions()}
    return create_store(path, grid.layout, attrs)


def _fill(
    store: Store, grid: Grid, progress: Callable[[Progress], None], stop: Callable[[], bool]
) -> None:
    finished, sizes = store.finished(mend=True), store.sizes
    done, failed = int(sizes[finished].sum()), int(sizes[list(store.failures())].sum())
    progress(Progress(done, grid.size, failed))
    for number in np.flatnonzero(~finished):
        if stop():
            return
        failed += 0 if compute(store, grid, int(number)) else int(sizes[number])
        done += int(sizes[number])
        progress(Progress(done, grid.size, failed))


def compute(store: Store, grid: Grid, number: int) -> bool:
    """Compute and write one chunk; return whether it did not fail."""
    try:
        values = grid.evaluate(store.region(number))
    except Exception as error:
        told = str(error) if isinstance(error, MeanFieldError) else traceback.format_exc()
        store.fail(number, told)
        return False
    store.write(number, values)
    return True


def versions() -> str:
    """Return the versions that decide the last digits, as JSON."""
    return json.dumps({name: _version(name) for name in VERSIONED})


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
