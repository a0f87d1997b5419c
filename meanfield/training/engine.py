"""From a training's spec to its store: networks side by side, each written as it is finished.

A processor trains one network on each thread, whose weights stay in its caches; an accelerator as
many at once, under `vmap`, as a part of its memory holds. Networks in training are kept on disk
from time to time and when a stop is asked for: a training that was interrupted, or killed, goes on
from there, to the same numbers. What an epoch does depends on seed and number of the epoch alone.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield import devices
from meanfield.errors import MeanFieldError, Status
from meanfield.sweep.engine import versions
from meanfield.sweep.lock import locked
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
from meanfield.training import checkpoint
from meanfield.training.checkpoint import Checkpoint
from meanfield.training.data import Images, load_images
from meanfield.training.descent import Batches
from meanfield.training.grid import SCORES, Network, TrainingGrid
from meanfield.training.network import unit_inputs
from meanfield.training.spec import TrainingSpec
from meanfield.training.unit import Unit

# Seconds between two checkpoints of a network.
CHECKPOINT = 30.0
BYTES = 4
# Weights, their slopes, and what comes between.
COPIES = 4


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a training has come: epochs of all networks, and networks that have diverged."""

    done: int
    total: int
    diverged: int


def run_training(
    spec: TrainingSpec,
    out: str | Path,
    progress: Callable[[Progress], None] | None = None,
    *,
    folder: str | Path | None = None,
    overwrite: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Train all networks of a spec into `out`/NAME.zarr and return that path.

    A store that exists is gone on with where it was left; a finished one is left alone. Networks
    that diverge are stopped, and their scores have the status TRAINING_DIVERGES from there; those
    that theory cannot initialise have its status.

    Parameters
    ----------
    progress : called at the start and after every epoch of a network.
    folder : where the files of the images are, for data that need them.
    overwrite : delete a store that exists, whatever it holds, and start anew.
    stop : asked after every epoch of a network; once true, the rest is left for the next run.

    Raises
    ------
    MeanFieldError : the images cannot be read, or are fewer than a batch; the directory cannot be
        written, or has no room; another process computes this store; or it holds another training
        of that name, or one that was computed with other versions or images.
    """
    images = load_images(spec.data, folder)
    count = len(images.train_labels)
    if spec.batch > count:
        raise MeanFieldError(f"batch = {spec.batch} is not legal; {spec.data} has {count} images")
    path = Path(out) / f"{spec.name}.zarr"
    grid = TrainingGrid(spec)
    attrs = {
        "format": FORMAT,
        "title": spec.title,
        SPEC_KEY: spec.model_dump_json(),
        VERSIONS_KEY: versions(spec, {f"images of {spec.data}": f"SHA-256 {images.digest}"}),
    }
    layout = grid.layout
    if overwrite or not path.exists():
        require_room(path, layout)
    with locked(path):
        clear_aside(path)
        if path.exists() and not overwrite:
            store = resume_store(path, attrs[SPEC_KEY], attrs[VERSIONS_KEY])
        else:
            if path.exists():
                remove_store(path)
            checkpoint.clear(path)
            store = create_store(path, layout, attrs)
        _train(store, grid, images, progress or (lambda _: None), stop)
    return path


def _train(
    store: Store,
    grid: TrainingGrid,
    images: Images,
    progress: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> None:
    finished = store.finished(mend=True)
    starts: dict[Network, Checkpoint | None] = {}
    for network in grid.networks:
        if finished[network.number]:
            continue
        status = grid.status(network)
        if status == Status.OK:
            starts[network] = checkpoint.read(store.path, network.number)
        else:
            _write(store, network, _without(status, grid.spec.epochs))
    epochs = grid.spec.epochs
    behind = {network: epochs - (start.epoch if start else 0) for network, start in starts.items()}
    diverged = sum(_has_diverged(store, number) for number in np.flatnonzero(finished).tolist())
    total = epochs * len(grid.networks)
    progress(Progress(total - sum(behind.values()), total, diverged))
    saved: dict[Unit, float] = {}
    places = _places(images)
    for unit in _side_by_side(_units(grid, places[0], starts), places, stop):
        behind |= unit.behind()
        for network, values in unit.ended():
            _write(store, network, values)
            checkpoint.remove(store.path, network.number)
            diverged += int(values["status"][-1] == Status.TRAINING_DIVERGES)
        if not unit.finished and (
            stop() or time.monotonic() > saved.setdefault(unit, time.monotonic()) + CHECKPOINT
        ):
            for network, state in unit.checkpoints():
                checkpoint.save(store.path, network.number, state)
            saved[unit] = time.monotonic()
        progress(Progress(total - sum(behind.values()), total, diverged))


def _write(store: Store, network: Network, values: dict[str, np.ndarray]) -> None:
    store.write(network.number, {k: v.reshape(store.chunks) for k, v in values.items()})


def _without(status: Status, epochs: int) -> dict[str, np.ndarray]:
    """Return the scores of a network that is not trained."""
    scores = {name: np.full(epochs + 1, np.nan) for name in SCORES}
    return scores | {"status": np.full(epochs + 1, status, "int8")}


def _side_by_side(
    units: Iterator[Unit], places: list[Batches], stop: Callable[[], bool]
) -> Iterator[Unit]:
    """Train units where images lie, one at each place; yield each after every one of its epochs.

    A kernel that is new runs alone: XLA must not write one into the compilation cache while another
    runs.
    """
    compiled: set[Hashable] = set()
    running: dict[Future[None], tuple[Unit, Batches]] = {}

    def begin(unit: Unit, place: Batches) -> None:
        kernel = unit.kernel
        if kernel not in compiled:
            wait(running)
        future = pool.submit(unit.advance, place)
        running[future] = unit, place
        if kernel not in compiled:
            wait([future])
            compiled.add(kernel)

    with ThreadPoolExecutor(len(places)) as pool:
        for place, unit in zip(places, units, strict=False):
            begin(unit, place)
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                unit, place = running.pop(future)
                future.result()
                yield unit
                following = unit if not unit.finished else next(units, None)
                if following is not None and not stop():
                    begin(following, place)


def _places(images: Images) -> list[Batches]:
    """Return the images on every device, on a processor once for each of its threads."""
    batches = Batches(
        jnp.asarray(unit_inputs(images.train_pixels)),
        jnp.asarray(images.train_labels),
        jnp.asarray(unit_inputs(images.test_pixels)),
        jnp.asarray(images.test_labels),
    )
    here = [jax.device_put(batches, device) for device in jax.local_devices()]
    return here * devices.threads() if devices.lanes() is None else here


def _units(
    grid: TrainingGrid, images: Batches, starts: dict[Network, Checkpoint | None]
) -> Iterator[Unit]:
    """Yield networks that share their kernels, as many at a time as fit."""

    def alike(network: Network) -> tuple[Any, ...]:
        start = starts[network]
        epoch = start.epoch if start else -1
        return network.depth, network.activation, network.ensemble, -epoch

    for _, group in itertools.groupby(sorted(starts, key=alike), key=alike):
        networks = list(group)
        size = _together(grid, networks[0].depth, images)
        for first in range(0, len(networks), size):
            few = networks[first : first + size]
            given = [start for network in few if (start := starts[network])]
            yield Unit(grid, few, given)


def _together(grid: TrainingGrid, depth: int, images: Batches) -> int:
    """Return how many networks of a depth are trained as one array."""
    lanes = devices.lanes()
    if lanes is None:
        return 1
    width, (tested, inputs) = grid.spec.width, images.test_inputs.shape
    numbers = width * (inputs + depth * width + 2 * depth * grid.spec.batch + tested)
    memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 0)
    return max(1, min(lanes, int(devices.SHARE * memory / (BYTES * COPIES * numbers))))


def _has_diverged(store: Store, number: int) -> bool:
    status = store.arrays["status"][store.region(number)]
    return bool((np.asarray(status) == Status.TRAINING_DIVERGES).any())
