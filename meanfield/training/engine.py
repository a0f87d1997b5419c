"""From a training's spec to its store: networks side by side, each written as it ends.

A processor trains one network on each thread, whose weights stay in its caches; an accelerator as
many at once, under `vmap`, as a part of its memory holds. Networks in training are kept on disk
from time to time and when a stop is asked for: a training that was interrupted, or killed, goes on
from there. What an epoch does depends on seed and number of the epoch alone, so that the numbers
are the same: to the last bit on a processor, within the rounding of float32 on an accelerator,
where other networks may then share an array.
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
from meanfield.training.data import Images, load_images
from meanfield.training.descent import Samples
from meanfield.training.grid import Network, TrainingGrid
from meanfield.training.group import Group
from meanfield.training.network import unit_inputs
from meanfield.training.spec import TrainingSpec

# Seconds between two checkpoints of a network; and so many times what one takes to write.
CHECKPOINT, RARELY = 30.0, 20
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
    networks, epochs = grid.networks, grid.spec.epochs
    finished = store.finished(mend=True)
    for network in networks:
        if finished[network.number]:
            checkpoint.remove(store.path, network.number)
        elif (status := grid.status(network)) != Status.OK:
            _write(store, network, _without(status, store, epochs))
            finished[network.number] = True
    done = np.flatnonzero(finished).tolist()
    diverged = sum(_has_diverged(store, number) for number in done)
    # How far each network is that is left: -1 where it is not drawn yet.
    reached = {
        network: start.epoch if (start := checkpoint.read(store.path, network.number)) else -1
        for network in networks
        if not finished[network.number]
    }
    behind = {network: epochs - max(epoch, 0) for network, epoch in reached.items()}
    due: dict[Group, float] = {}

    def tell() -> None:
        total = epochs * len(networks)
        progress(Progress(total - sum(behind.values()), total, diverged))

    def after_epoch(group: Group) -> bool:
        """Keep what an epoch has given; return whether to go on."""
        nonlocal diverged
        behind.update(group.behind())
        for network, values in group.ended():
            _write(store, network, values)
            checkpoint.remove(store.path, network.number)
            diverged += int(values["status"][-1] == Status.TRAINING_DIVERGES)
        stopping = stop()
        if group.finished:
            due.pop(group, None)
        elif stopping or time.monotonic() > due.setdefault(group, time.monotonic() + CHECKPOINT):
            began = time.monotonic()
            for network, state in group.checkpoints():
                checkpoint.save(store.path, network.number, state)
            taken = time.monotonic() - began
            due[group] = time.monotonic() + max(CHECKPOINT, RARELY * taken)
        tell()
        return not stopping

    tell()
    places = places_of(images)
    _side_by_side(_groups(store, grid, places[0], reached), places, after_epoch)


def _write(store: Store, network: Network, values: dict[str, np.ndarray]) -> None:
    chunks = {name: store.arrays[name].chunks for name in values}
    store.write(network.number, {k: v.reshape(chunks[k]) for k, v in values.items()})


def _without(status: Status, store: Store, epochs: int) -> dict[str, np.ndarray]:
    """Return what is stored of a network that is not trained."""
    none = {name: np.full(store.arrays[name].chunks, np.nan) for name in store.variables}
    return none | {"status": np.full(epochs + 1, status, "int8")}


def _side_by_side(
    groups: Iterator[Group], places: list[Samples], after_epoch: Callable[[Group], bool]
) -> None:
    """Train groups where samples lie, one at each place, until `after_epoch` says not to go on.

    A program that is new on its device runs alone: XLA must not write one into the compilation
    cache while another runs.
    """
    compiled: set[Hashable] = set()
    running: dict[Future[None], tuple[Group, Samples]] = {}

    def begin(group: Group, place: Samples) -> None:
        program = group.program, place.train_inputs.device
        if program not in compiled:
            wait(running)
        future = pool.submit(group.advance, place)
        running[future] = group, place
        if program not in compiled:
            wait([future])
            compiled.add(program)

    with ThreadPoolExecutor(len(places)) as pool:
        for place, group in zip(places, groups, strict=False):
            begin(group, place)
        going_on = True
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                group, place = running.pop(future)
                future.result()
                going_on &= after_epoch(group)
                following = next(groups, None) if group.finished and going_on else group
                if going_on and following is not None:
                    begin(following, place)


def places_of(images: Images) -> list[Samples]:
    """Return the images on every device, on a processor once for each of its threads."""
    batches = Samples(
        jnp.asarray(unit_inputs(images.train_pixels)),
        jnp.asarray(images.train_labels),
        jnp.asarray(unit_inputs(images.test_pixels)),
        jnp.asarray(images.test_labels),
    )
    here = [jax.device_put(batches, device) for device in jax.local_devices()]
    return here * devices.threads() if devices.lanes() is None else here


def _groups(
    store: Store, grid: TrainingGrid, samples: Samples, reached: dict[Network, int]
) -> Iterator[Group]:
    """Yield networks that share their programs, as many at a time as fit; the farthest first."""

    def alike(network: Network) -> tuple[Any, ...]:
        return *grid.program(network), -reached[network]

    for (depth, *_, undrawn), some in itertools.groupby(sorted(reached, key=alike), key=alike):
        networks = list(some)
        size = together(grid, depth, samples)
        for first in range(0, len(networks), size):
            few = networks[first : first + size]
            start = [] if undrawn > 0 else [checkpoint.read(store.path, n.number) for n in few]
            yield Group(grid, few, [one for one in start if one])


def together(grid: TrainingGrid, depth: int, samples: Samples) -> int:
    """Return how many networks of a depth are trained as one array."""
    lanes = devices.lanes()
    if lanes is None:
        return 1
    width, (tested, inputs) = grid.spec.width, samples.test_inputs.shape
    numbers = width * (inputs + depth * width + 2 * depth * grid.spec.batch + tested)
    memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 0)
    return max(1, min(lanes, int(devices.SHARE * memory / (BYTES * COPIES * numbers))))


def _has_diverged(store: Store, number: int) -> bool:
    status = store.arrays["status"][store.region(number)]
    return bool((np.asarray(status) == Status.TRAINING_DIVERGES).any())
