"""The commands `meanfield sweep`, `status` and `export`: datasets on disk."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meanfield.cli.completion import FILES, METHODS, among, complete_config
from meanfield.cli.inputs import check_use, given
from meanfield.cli.options import JsonOption, OutOption, OverwriteOption, StoreArgument
from meanfield.cli.output import emit, progress
from meanfield.cli.stopping import stoppable
from meanfield.cli.waiting import waiting

if TYPE_CHECKING:
    from meanfield.errors import Status
    from meanfield.sweep import SweepSpec
    from meanfield.sweep.store import Store

CONFIG_HELP = (
    "A name from `meanfield list configs`, or a TOML file. Of activations that the file names as "
    "FILE.py:NAME, the Python files are executed."
)
# So many chunks, the last ones, say how fast a sweep goes.
RECENT = 64
# Chunks that come so much later than others do follow a pause.
PAUSE = 20


def sweep(
    config: Annotated[str, typer.Argument(help=CONFIG_HELP, autocompletion=complete_config)],
    out: OutOption = Path("results"),
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="How networks are solved: table, quadrature or auto. It replaces the method of "
            "CONFIG.",
            autocompletion=among(METHODS),
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="Compute those chunks again that raised an error."),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            help="Number of processes that compute, >= 1; with --slurm, number of Slurm jobs.",
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            help="Address of a running dask scheduler, as tcp://HOST:PORT, whose workers compute.",
        ),
    ] = None,
    slurm: Annotated[
        bool,
        typer.Option("--slurm", help="Start the workers as Slurm jobs; --workers says how many."),
    ] = False,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            help="Memory that this process, all workers together, or each Slurm job may hold, as "
            "2GiB.",
        ),
    ] = None,
) -> None:
    """Compute a sweep into OUT/NAME.zarr; one that was interrupted goes on where it stopped."""
    with waiting(f"reading {config}"):
        from meanfield.memory import parse_memory
        from meanfield.method import require_method
        from meanfield.sweep import load_config

        spec = load_config(config)
    if method is not None:
        spec = spec.model_copy(update={"method": require_method(method)})
    limit = None if memory is None else parse_memory(memory)
    engine = _engine(workers, scheduler, slurm, limit)
    options = {"overwrite": overwrite, "retry_failed": retry_failed, "engine": engine}
    path = run(spec, out, memory=None if engine else limit, **options)
    print(f"wrote {path}")


def _engine(workers: int | None, scheduler: str | None, slurm: bool, memory: int | None) -> Any:
    """Return who computes, None for this process."""
    from meanfield.errors import MeanFieldError
    from meanfield.sweep import cluster

    if scheduler is not None and (slurm or workers is not None):
        raise MeanFieldError("--scheduler has its own workers: --workers and --slurm are not legal")
    if scheduler is not None and memory is not None:
        raise MeanFieldError("--scheduler has its own workers: give --memory to these")
    if slurm and workers is None:
        raise MeanFieldError("--slurm needs --workers, the number of jobs")
    if scheduler is not None:
        return cluster.connected(scheduler)
    if slurm:
        return cluster.slurm(workers or 0, memory)
    return None if workers is None else cluster.local(workers, memory)


def run(spec: "SweepSpec", out: Path, **options: Any) -> Path:
    """Run a sweep to its end, print what became of its points and return its path.

    The options are those of `run_sweep`. Ends the program where it was asked to stop, or where
    chunks failed.
    """
    from meanfield.sweep import run_sweep
    from meanfield.sweep.engine import Progress
    from meanfield.sweep.grid import STATE, Grid
    from meanfield.sweep.store import Store

    check_use(spec, {*spec.axes, *spec.observables, *STATE, "activation", "status"}, spec.checks)
    grid = Grid(spec)
    print(
        f"{spec.name}: {grid.size} points, {len(grid.layout.variables)} variables, "
        f"{_size(grid.layout.bytes)}",
        file=sys.stderr,
    )
    with stoppable() as stop, progress(spec.title or spec.name, "points") as report:

        def show(state: Progress) -> None:
            failed = f"{state.failed} failed" if state.failed else ""
            workers = f"{state.workers} workers" if options.get("engine") else ""
            report(state.done, state.total, workers, failed)

        path = run_sweep(spec, out, show, stop=stop, **options)
    store = Store(path, "r")
    counts = store.tally()
    if stop():
        left = _pending(counts)
        print(
            f"stopped: {grid.size - left} of {grid.size} points are in {path}; "
            "the same command goes on from there",
            file=sys.stderr,
        )
        raise SystemExit(stop.exit_code)
    _summarise(counts)
    if _pending(counts):
        print(f"{path} is not whole; the same command goes on", file=sys.stderr)
        raise SystemExit(1)
    failures = store.failures()
    if failures:
        print(_words(failures), file=sys.stderr)
        raise SystemExit(1)
    return path


def _pending(counts: "dict[Status, int]") -> int:
    from meanfield.errors import Status

    return counts.get(Status.PENDING, 0)


def _summarise(counts: "dict[Status, int]") -> None:
    for status, count in counts.items():
        print(f"{count} points {status.name}: {status.message}")


def _words(failures: dict[int, str]) -> str:
    chunks = "1 chunk" if len(failures) == 1 else f"{len(failures)} chunks"
    number, message = next(iter(failures.items()))
    last = (message.strip().splitlines() or ["no message"])[-1]
    return f"{chunks} failed, the first of them chunk {number}: {last}"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def status(store: StoreArgument, as_json: JsonOption = False) -> None:
    """Say how far a sweep is: what is solved, what is not, what failed, and how fast it goes."""
    from meanfield.errors import Status
    from meanfield.sweep.lock import is_locked
    from meanfield.sweep.store import Store

    opened = Store(store, "r")
    counts = opened.tally()
    left = _pending(counts)
    total = sum(counts.values())
    failures = opened.failures()
    running = is_locked(store)
    rate = _rate(opened)
    record = {
        "points": total,
        "done": total - left,
        **{s.name.lower(): count for s, count in counts.items() if s != Status.PENDING},
        "left": left,
        "failed_chunks": len(failures),
        "running": running,
        "points_per_second": rate,
        "seconds_left": left / rate if rate and running and left else None,
    }
    state = "finished" if not left else "running" if running else "not running"
    emit(record, as_json, f"{store}: {state}")
    if failures and not as_json:
        print(_words(failures))


def _rate(store: "Store") -> float | None:
    """Return how many points a second came in last, or None."""
    import numpy as np

    apart = np.diff(store.times()[-RECENT:])
    # Nothing was computed between two runs.
    apart = apart[apart <= PAUSE * np.median(apart)] if apart.size else apart
    return float(np.median(store.sizes) * apart.size / apart.sum()) if apart.sum() > 0 else None


def export(
    store: StoreArgument,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help=f"Kind of the file, which must be given: {', '.join(FILES)}.",
            autocompletion=among(FILES),
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="The file. Without it the file lies beside STORE, under its name."
        ),
    ] = None,
) -> None:
    """Write a sweep as one file that other programs read, its labels kept."""
    from meanfield.sweep import open_results
    from meanfield.sweep.export import export_results

    if to is None:
        # A store that cannot be read is told of before what is missing.
        open_results(store)
    kind = given("--to", to, f"one of {', '.join(FILES)}")
    print(f"wrote {export_results(store, kind, out)}")
