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
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from meanfield import devices
from meanfield.arguments import count
from meanfield.errors import MeanFieldError
from meanfield.sweep.config import FOLDER
from meanfield.sweep.engine import Engine, Fill, Results, Step, compute, versions
from meanfield.sweep.grid import Grid
from meanfield.sweep.spec import SweepSpec
from meanfield.sweep.store import VERSIONS_KEY, Store

if TYPE_CHECKING:
    from distributed import Client

# Dask has malloc give memory back at once, with which kernels take 1.4 times as long; what glibc
# itself comes to in the end.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": 2**25, "MALLOC_TRIM_THRESHOLD_": 2**26}
PRE_SPAWN = "distributed.nanny.pre-spawn-environ"
# Tasks that a worker has been given: one to do, and one to go on with.
AHEAD = 2
# Seconds that a scheduler has to answer, and after which it is asked for results and for workers.
PATIENCE, POLL, ROLL = 30, 0.01, 1.0


def local(workers: int, memory: int | None = None) -> Engine:
    """Return the engine of worker processes on this machine.

    `memory` is the number of bytes that all of them may hold together. With GPUs, each worker sees
    one. Raises `MeanFieldError` for no workers, or where dask is absent.
    """
    _require("distributed")
    return _local(count("workers", workers, 1), memory)


@contextlib.contextmanager
def _local(workers: int, memory: int | None) -> Iterator[Fill]:
    from dask import config  # pyright: ignore[reportPrivateImportUsage]
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
        config.set({PRE_SPAWN: config.get(PRE_SPAWN) | MALLOC}),
        SpecCluster(scheduler=scheduler, workers=specs) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(_undisturbed())
        yield functools.partial(_on, client, _nothing)


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
        yield functools.partial(_on, client, _nothing)


def slurm(jobs: int, memory: int | None = None) -> Engine:
    """Return the engine of so many Slurm jobs, of one worker each.

    Partition, account, cores, walltime and the like are those of dask-jobqueue's own configuration,
    `~/.config/dask/jobqueue.yaml`. `memory` is the number of bytes that each job may hold. Raises
    `MeanFieldError` for no jobs, where dask or Slurm is absent, and once it is entered where the
    configuration lacks something. Where all jobs have ended and none is waiting, so does the sweep.
    """
    _require("distributed", "dask_jobqueue")
    jobs = count("workers", jobs, 1)
    if shutil.which("sbatch") is None:
        raise MeanFieldError("--slurm: there is no Slurm here; its sbatch is not found")
    return _slurm(jobs, memory)


@contextlib.contextmanager
def _slurm(jobs: int, memory: int | None) -> Iterator[Fill]:
    from dask import config  # pyright: ignore[reportPrivateImportUsage]
    from distributed import Client

    # Importing dask-jobqueue takes Ctrl-C away, and is possible in the main thread alone.
    if threading.current_thread() is not threading.main_thread():
        raise MeanFieldError("--slurm is for the main thread of a program")
    handler = signal.getsignal(signal.SIGINT)
    from dask_jobqueue.slurm import SLURMCluster

    signal.signal(signal.SIGINT, handler)

    before = config.get("jobqueue.slurm.job-script-prologue", None) or []
    exports = [f"export {name}={value}" for name, value in MALLOC.items()]
    options: Any = {"job_script_prologue": [*before, *exports]}
    options |= {"memory": f"{memory}B"} if memory else {}
    if not memory and config.get("jobqueue.slurm.memory", None) is None:
        raise MeanFieldError("--slurm needs --memory, or memory in dask's jobqueue.yaml")
    try:
        cores = config.get("jobqueue.slurm.cores", None) or 1
        cluster = SLURMCluster(cores=cores, processes=1, **options)
    except ValueError as error:
        raise MeanFieldError(f"--slurm: {error}") from error
    _quiet()
    with cluster, Client(cluster) as client:
        _require_legal(cluster.job_script())
        cluster.scale(jobs=jobs)
        yield functools.partial(_on, client, _require_jobs(cluster))


def _require_legal(script: str) -> None:
    """Raise `MeanFieldError` where Slurm would refuse a job."""
    told = _ask(["sbatch", "--test-only"], script)
    if told is not None and told.returncode:
        said = told.stderr.strip().splitlines() or [f"exit code {told.returncode}"]
        reason = said[-1].removeprefix("allocation failure: ")
        raise MeanFieldError(f"--slurm: Slurm would refuse such jobs: {reason}")


def _require_jobs(cluster: Any) -> Callable[[], None]:
    """Return what raises `MeanFieldError` once Slurm has none of the jobs of a cluster."""
    asked = time.monotonic()

    def require() -> None:
        nonlocal asked
        if time.monotonic() < asked + PATIENCE:
            return
        asked = time.monotonic()
        numbers = [job.job_id for job in list(cluster.workers.values()) if job.job_id]
        told = _ask(["squeue", "--noheader", "--format=%i", f"--jobs={','.join(numbers)}"])
        if told is None:
            return
        # squeue fails where Slurm does not answer, and where the only job is long gone.
        gone = not told.stdout.split() and (not told.returncode or "Invalid job" in told.stderr)
        if not numbers or gone:
            raise MeanFieldError(
                "Slurm has ended all jobs of the sweep, or refused them (their logs say why); what "
                "is on disk is kept, and the same command goes on from there"
            )

    return require


def _ask(command: list[str], script: str = "") -> "subprocess.CompletedProcess[str] | None":
    """Return what a command of Slurm says, None where it does not answer."""
    try:
        return subprocess.run(
            command, input=script, capture_output=True, text=True, check=False, timeout=PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _undisturbed() -> Any:
    """Return what makes workers ignore Ctrl-C, which reaches all processes of a terminal."""
    from distributed import WorkerPlugin

    class Undisturbed(WorkerPlugin):
        def setup(self, worker: Any) -> None:  # noqa: ARG002
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    return Undisturbed()


def _nothing() -> None:
    """Let a sweep wait for workers: they will come, or the user sees that there are none."""


def _require(*modules: str) -> None:
    if any(importlib.util.find_spec(name) is None for name in modules):
        raise MeanFieldError(
            "workers need dask.distributed and dask-jobqueue: pip install 'meanfield-jax[cluster]'"
        )


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
    client: "Client",
    require_jobs: Callable[[], None],
    store: Store,
    grid: Grid,
    left: list[int],
    stop: Callable[[], bool],
) -> Results:
    """Compute the chunks that are left of a store on the workers of a client.

    While there are no workers, `require_jobs` is called: it raises where none will come.
    """
    from distributed import as_completed, wait
    from distributed.client import FutureCancelledError
    from distributed.comm.core import CommClosedError
    from distributed.scheduler import KilledWorker

    spec = grid.spec
    place, folder = str(store.path.absolute()), str(spec.folder)
    task = functools.partial(_task, place, spec.model_dump_json(), folder)
    # Others may use this scheduler for a store of the same name.
    run, waiting = f"{store.path.name}-{uuid.uuid4().hex}", iter(left)
    running: dict[Any, int] = {}
    done = as_completed()

    def submit(workers: int) -> None:
        """Give all workers that there are by now something to do, and something to go on with."""
        count = AHEAD * workers - len(running)
        for number in () if stop() or count < 1 else waiting:
            future = client.submit(task, number, key=f"{run}-{number}", pure=False)
            running[future] = number
            done.add(future)
            if (count := count - 1) < 1:
                return

    missing, workers, called = len(left), 0, -ROLL
    try:
        while missing and (running or not stop()):
            if time.monotonic() > called + ROLL:
                workers, called = (
                    len(client.scheduler_info(n_workers=-1)["workers"]),
                    time.monotonic(),
                )
                yield Step(workers)
                if not workers:
                    require_jobs()
            submit(workers)
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
            yield Step(workers, number, not good)
    except (CommClosedError, FutureCancelledError, TimeoutError, OSError) as error:
        raise MeanFieldError(
            f"the scheduler or its workers were lost ({type(error).__name__}); what is on disk is "
            "kept, and the same command goes on from there"
        ) from error
    finally:
        # No worker writes after the lock is given up.
        with contextlib.suppress(Exception):
            wait(list(running), timeout=PATIENCE)


def _task(path: str, spec: str, folder: str, number: int) -> bool:
    """Compute a chunk in a worker; return whether it did not fail."""
    return compute(*_opened(path, spec, folder), number)


@functools.lru_cache(maxsize=1)
def _opened(path: str, spec: str, folder: str) -> tuple[Store, Grid]:
    store = Store(Path(path), "r+")
    try:
        sweep = SweepSpec.model_validate_json(spec, context={FOLDER: Path(folder)})
    except ValidationError as error:
        raise MeanFieldError(
            f"a worker cannot read the sweep: {error.errors()[0]['msg']}"
        ) from error
    before, now = store.root.attrs[VERSIONS_KEY], versions(sweep)
    if before != now:
        raise MeanFieldError(f"a worker has other versions, {now}, than {path}: {before}")
    return store, Grid(sweep)
