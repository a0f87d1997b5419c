"""From a spec to a dataset, chunk by chunk.

All processors work on the points of a chunk (`meanfield.sweep.points`). Each chunk is written as
soon as it is done: a sweep that was interrupted, or killed, goes on from there. A chunk that
raises is recorded as failed, and the others go on.
"""

import contextlib
import dataclasses
import importlib.metadata
import json
import traceback
from collections.abc import Callable, Generator, Mapping
from pathlib import Path

import jax
import numpy as np

from meanfield.errors import MeanFieldError
from meanfield.memory import free, used
from meanfield.sweep.config import GridSpec
from meanfield.sweep.grid import Grid
from meanfield.sweep.lock import locked
from meanfield.sweep.spec import SweepSpec
from meanfield.sweep.store import (
    FORMAT,
    SPEC_KEY,
    VERSIONS_KEY,
    Store,
    clear_aside,
    create_store,
    remove_store,
    require_room,
    resume_store,
)


@dataclasses.dataclass(frozen=True)
class Step:
    """What an engine tells: how many workers it has, and a chunk that is done, if one is."""

    workers: int
    chunk: int | None = None
    failed: bool = False


# An engine's steps.
Results = Generator[Step, None, None]
# Computes what is left of a store.
Fill = Callable[[Store, Grid, list[int], Callable[[], bool]], Results]
# Whom that needs, started where there is something to do.
Engine = contextlib.AbstractContextManager[Fill]
# The part of what is free that a sweep may hold if nobody says otherwise.
SHARE = 0.8
VERSIONED = ("meanfield-jax", "jax", "jaxlib", "numpy")


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a sweep has come, in points, and with how many processes it goes on."""

    done: int
    total: int
    failed: int
    workers: int


def run_sweep(
    spec: SweepSpec,
    out: str | Path,
    progress: Callable[[Progress], None] | None = None,
    *,
    overwrite: bool = False,
    retry_failed: bool = False,
    stop: Callable[[], bool] = lambda: False,
    memory: int | None = None,
    engine: Engine | None = None,
) -> Path:
    """Compute a sweep into `out`/NAME.zarr and return that path.

    A store that exists is gone on with where it was left; a finished one is left alone.

    Parameters
    ----------
    progress : called at the start, after every chunk, and every second while workers compute.
    overwrite : delete a store that exists, whatever sweep it holds, and start anew.
    retry_failed : compute those chunks again that failed; without it they are left as they are.
    stop : asked after every chunk; once true, the rest is left for the next run.
    memory : the number of bytes that this process may hold, by default most of what is free. It
        does not grow with the sweep; if it did, the sweep would end, and what is on disk is kept.
    engine : who computes the chunks: this process, or a context of `meanfield.sweep.cluster`.

    Raises
    ------
    MeanFieldError : the directory cannot be written, or has no room; another process computes this
        store; or it holds another sweep of that name, or one that was computed with other versions.
    """
    limit = int(SHARE * free()) + used() if memory is None else memory
    path = Path(out) / f"{spec.name}.zarr"
    grid = Grid(spec)
    if overwrite or not path.exists():
        require_room(path, grid.layout)
    with locked(path):
        clear_aside(path)
        if path.exists() and not overwrite:
            store = resume_store(path, spec.model_dump_json(), versions(spec))
            if retry_failed:
                store.forget(store.failures())
            if store.finished(mend=True).all():
                engine = None
        with engine or contextlib.nullcontext(in_process) as fill:
            if path.exists() and overwrite:
                remove_store(path)
            store = Store(path, "r+") if path.exists() else _create(path, grid)
            left = np.flatnonzero(~store.finished()).tolist()
            # It ends here, whatever happens: workers do not outlive the lock.
            with contextlib.closing(fill(store, grid, left, stop)) as chunks:
                _follow(store, left, chunks, progress or (lambda _: None), limit)
    return path


def in_process(store: Store, grid: Grid, left: list[int], stop: Callable[[], bool]) -> Results:
    """Compute the chunks that are left of a store, one after another, on all processors."""
    for number in left:
        if stop():
            return
        yield Step(1, number, not compute(store, grid, number))


def _follow(
    store: Store,
    left: list[int],
    chunks: Results,
    progress: Callable[[Progress], None],
    limit: int,
) -> None:
    sizes = store.sizes
    total, failed = int(sizes.sum()), int(sizes[list(store.failures())].sum())
    done = total - int(sizes[left].sum())
    progress(Progress(done, total, failed, 0))
    for step in chunks:
        if step.chunk is not None:
            done += int(sizes[step.chunk])
            failed += int(sizes[step.chunk]) if step.failed else 0
        progress(Progress(done, total, failed, step.workers))
        if used() > limit:
            jax.clear_caches()
        if used() > limit:
            raise MeanFieldError(
                f"the sweep holds {used() / 1e9:.3g} GB, more than memory = {limit / 1e9:.3g} GB; "
                "what is on disk is kept, and the same command with more goes on from there"
            )


def _create(path: Path, grid: Grid) -> Store:
    text = grid.spec.model_dump_json()
    attrs = {
        "format": FORMAT,
        "title": grid.spec.title,
        SPEC_KEY: text,
        VERSIONS_KEY: versions(grid.spec),
    }
    return create_store(path, grid.layout, attrs)


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


def versions(spec: GridSpec, data: Mapping[str, str] = {}) -> str:
    """Return what decides the last digits: versions, the kind of device, files, data, as JSON."""
    found = {name: _version(name) for name in VERSIONED}
    files = {a.name: a.version for a in spec.activations if a.version}
    return json.dumps(found | {"platform": jax.default_backend()} | files | dict(data))


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
