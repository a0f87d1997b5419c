"""Chunks of a sweep on many processes: of this machine, of a cluster, of Slurm's.

A task is a chunk. It reads and writes the store, and only its number travels; a task that is done
twice does no harm. Workers are processes with one task at a time, each on a device of its own.
The engine is dask.distributed [1], which starts lost workers anew and gives their tasks to others.

References
----------
[1] M. Rocklin, Dask: parallel computation with blocked algorithms and task scheduling, SciPy 2015.
"""

import contextlib
import functools
import importlib.util
import logging
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meanfield import devices
from meanfield.errors import MeanFieldError
from meanfield.sweep.engine import Engine, Fill, Results, compute, versions
from meanfield.sweep.grid import Grid
from meanfield.sweep.spec import SweepSpec
from meanfield.sweep.store import VERSIONS_KEY, Store

if TYPE_CHECKING:
    from distributed import Client

# Tasks that a worker has been given: one to do, and one to go on with.
AHEAD = 2
# Seconds that a scheduler has to answer, and after which it is asked for results again.
PATIENCE, POLL = 30, 0.05


def local(workers: int, memory: int | None = None) -> Engine:
    """Return the engine of worker processes on this machine.

    `memory` is the number of bytes that all of them may hold together. With GPUs, each worker sees
    one. Raises `MeanFieldError` for no workers, or where dask is absent.
    """
    _require("distributed")
    _require_workers(workers)
    return _local(workers, memory)


@contextlib.contextmanager
def _local(workers: int, memory: int | None) -> Iterator[Fill]:
    from distributed import Client, Nanny, Scheduler, SpecCluster

    share = "auto" if memory is None else memory // workers
    specs = {
        number: {
            "cls": Nanny,
            "options": {
                "nthreads": 1,
                "memory_limit": share,
                "env": _environment(number, workers),
                "silence_logs": logging.CRITICAL,
            },
        }
        for number in range(workers)
    }
    scheduler = {
        "cls": Scheduler,
        "options": {"host": "127.0.0.1", "port": 0, "dashboard": False},
    }
    _quiet()
    with (
        SpecCluster(scheduler=scheduler, workers=specs) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(_undisturbed())
        yield functools.partial(_on, client)


def connected(address: str) -> Engine:
    """Return the engine of the workers of a running dask scheduler, "tcp://HOST:PORT".

    The store must lie where they see it, under the same path. Raises `MeanFieldError` where dask is
    absent, and once it is entered where no scheduler answers.
    """
    _require("distributed")
    return _connected(address)


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Fill]:
    from distributed import Client

    _quiet()
    try:
        client = Client(address, timeout=PATIENCE)
    except (OSError, ValueError, TypeError) as error:
        raise MeanFieldError(f"--scheduler {address!r}: no dask scheduler answers there") from error
    with client:
        yield functools.partial(_on, client)


def slurm(jobs: int, memory: int | None = None) -> Engine:
    """Return the engine of so many Slurm jobs, of one worker each.

    Partition, account, cores, walltime and the like are those of dask-jobqueue's own configuration,
    `~/.config/dask/jobqueue.yaml`. `memory` is the number of bytes that each job may hold. Raises
    `MeanFieldError` for no jobs, where dask is absent, and once it is entered where the
    configuration lacks something.
    """
    _require("distributed", "dask_jobqueue")
    _require_workers(jobs)
    return _slurm(jobs, memory)


@contextlib.contextmanager
def _slurm(jobs: int, memory: int | None) -> Iterator[Fill]:
    from dask import config  # pyright: ignore[reportPrivateImportUsage]
    from dask_jobqueue.slurm import SLURMCluster
    from distributed import Client

    options: Any = {"memory": f"{memory}B"} if memory else {}
    try:
        cores = config.get("jobqueue.slurm.cores", None) or 1
        cluster = SLURMCluster(cores=cores, processes=1, **options)
    except ValueError as error:
        raise MeanFieldError(f"--slurm: {error}") from error
    _quiet()
    with cluster, Client(cluster) as client:
        cluster.scale(jobs=jobs)
        yield functools.partial(_on, client)


def _undisturbed() -> Any:
    """Return what makes workers ignore Ctrl-C, which reaches all processes of a terminal."""
    from distributed import WorkerPlugin

    class Undisturbed(WorkerPlugin):
        def setup(self, worker: Any) -> None:  # noqa: ARG002
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    return Undisturbed()


def _require(*modules: str) -> None:
    if any(importlib.util.find_spec(name) is None for name in modules):
        raise MeanFieldError(
            "workers need dask.distributed and dask-jobqueue: pip install 'meanfield-jax[cluster]'"
        )


def _require_workers(count: int) -> None:
    if count < 1:
        raise MeanFieldError(f"workers = {count} is not legal; it must be at least 1")


def _environment(number: int, workers: int) -> dict[str, str]:
    """Return the variables that give a worker its own device, and its part of the processors."""
    threads = max(1, devices.threads() // workers)
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    own = {"MEANFIELD_THREADS": str(threads), "XLA_FLAGS": flags, "OMP_NUM_THREADS": "1"}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = _gpus() if visible is None else visible.split(",")
    return own | ({"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if any(gpus) else {})


def _gpus() -> list[str]:
    folder = Path("/proc/driver/nvidia/gpus")
    count = len(list(folder.iterdir())) if folder.is_dir() else 0
    return [str(number) for number in range(count)]


def _quiet() -> None:
    """Keep dask's own log of lost workers and schedulers from the terminal from now on."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    logging.getLogger("tornado").setLevel(logging.CRITICAL)


def _on(
    client: "Client", store: Store, grid: Grid, left: list[int], stop: Callable[[], bool]
) -> Results:
    """Compute the chunks that are left of a store on the workers of a client."""
    from distributed import as_completed, wait
    from distributed.client import FutureCancelledError
    from distributed.comm.core import CommClosedError
    from distributed.scheduler import KilledWorker

    task = functools.partial(_task, str(store.path.absolute()), grid.spec.model_dump_json())
    # Others may use this scheduler for a store of the same name.
    run, waiting = f"{store.path.name}-{uuid.uuid4().hex}", iter(left)
    running: dict[Any, int] = {}
    done = as_completed()

    def submit() -> None:
        """Give all workers that there are by now something to do, and something to go on with."""
        count = AHEAD * len(client.scheduler_info(n_workers=-1)["workers"]) - len(running)
        for number in () if stop() or count < 1 else waiting:
            future = client.submit(task, number, key=f"{run}-{number}", pure=False)
            running[future] = number
            done.add(future)
            if (count := count - 1) < 1:
                return

    missing = len(left)
    try:
        while missing and (running or not stop()):
            submit()
            if not done.has_ready():
                time.sleep(POLL)
                continue
            future = next(done)
            number = running.pop(future)
            try:
                good = future.result()
            except KilledWorker:
                store.fail(number, "the workers that computed it were killed, or ran out of memory")
                good = False
            missing -= 1
            yield number, good
    except (CommClosedError, FutureCancelledError, TimeoutError, OSError) as error:
        raise MeanFieldError(
            f"the scheduler or its workers were lost ({type(error).__name__}); what is on disk is "
            "kept, and the same command goes on from there"
        ) from error
    finally:
        # No worker writes after the lock is given up.
        with contextlib.suppress(Exception):
            wait(list(running), timeout=PATIENCE)


def _task(path: str, spec: str, number: int) -> bool:
    """Compute a chunk in a worker; return whether it did not fail."""
    return compute(*_opened(path, spec), number)


@functools.lru_cache(maxsize=1)
def _opened(path: str, spec: str) -> tuple[Store, Grid]:
    store = Store(Path(path), "r+")
    if store.root.attrs[VERSIONS_KEY] != versions():
        raise MeanFieldError(
            f"a worker has other versions, {versions()}, than {path}: "
            f"{store.root.attrs[VERSIONS_KEY]}"
        )
    return store, Grid(SweepSpec.model_validate_json(spec))
