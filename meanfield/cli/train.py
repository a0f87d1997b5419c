"""The command `meanfield train`: networks on a grid, trained as theory initialises them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meanfield.cli.completion import complete_training
from meanfield.cli.inputs import check_use
from meanfield.cli.options import FolderOption, OutOption, OverwriteOption
from meanfield.cli.output import progress
from meanfield.cli.stopping import stoppable
from meanfield.cli.waiting import waiting

if TYPE_CHECKING:
    import xarray as xr

    from meanfield.training import TrainingSpec


def train(
    config: Annotated[
        str,
        typer.Argument(
            help="The name of a training from `meanfield list configs`, or a TOML file.",
            autocompletion=complete_training,
        ),
    ],
    out: OutOption = Path("results"),
    folder: FolderOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Train networks on a grid into OUT/NAME.zarr; what was interrupted goes on."""
    with waiting(f"reading {config}"):
        from meanfield.training import load_training

        spec = load_training(config)
    path = run(spec, out, folder, overwrite)
    print(f"wrote {path}")


def run(
    spec: "TrainingSpec", out: Path, folder: Path | None = None, overwrite: bool = False
) -> Path:
    """Run a training to its end, print what became of its networks and return its path.

    Ends the program where it was asked to stop.
    """
    from meanfield.sweep import open_results
    from meanfield.sweep.store import Store
    from meanfield.training import run_training
    from meanfield.training.engine import Progress

    check_use(spec, spec.variables, spec.checks)
    print(f"{spec.name}: {spec.networks} networks, {spec.epochs} epochs", file=sys.stderr)
    with stoppable("epoch") as stop, progress(spec.title or spec.name, "epochs") as report:

        def show(state: Progress) -> None:
            report(state.done, state.total, "", f"{state.diverged} diverged" * bool(state.diverged))

        path = run_training(spec, out, show, folder=folder, overwrite=overwrite, stop=stop)
    if not Store(path, "r").finished().all():
        print(
            f"stopped: what was trained is in {path}; the same command goes on from there",
            file=sys.stderr,
        )
        raise SystemExit(stop.exit_code)
    _summarise(open_results(path))
    return path


def _summarise(dataset: "xr.Dataset") -> None:
    from meanfield.errors import Status

    last = dataset.isel(epoch=-1)
    for status in Status:
        here = last["status"] == status
        count = int(here.sum())
        if count:
            first = "" if status == Status.OK else f"; the first{_where(here)}"
            word = "trained" if status == Status.OK else f"{status.name}: {status.message}"
            print(f"{count} network{'s' * (count > 1)} {word}{first}")
    if "initialisation" in last["accuracy"].dims:
        _compare(last["accuracy"])
        return
    accuracy = last["accuracy"].mean("seed", skipna=False)
    if bool(accuracy.notnull().any()):
        best = accuracy == accuracy.max()
        shown = f"{100 * float(accuracy.max()):.1f} %"
        print(f"best after {int(last['epoch'])} epochs: {shown} of the test set{_where(best)}")


def _compare(accuracy: "xr.DataArray") -> None:
    """Print a line for each kind of networks."""
    import numpy as np

    mean = 100 * accuracy.mean("seed", skipna=False)
    ends = 100 * accuracy.min("seed"), 100 * accuracy.max("seed")
    for place in np.ndindex(mean.shape):
        words = ", ".join(str(mean[dim].values[i]) for dim, i in zip(mean.dims, place, strict=True))
        low, high = (float(end.values[place]) for end in ends)
        shown = float(mean.values[place])
        found = f"{shown:.1f} %, from {low:.1f} to {high:.1f} %" if shown == shown else "diverged"
        epochs, seeds = int(accuracy["epoch"]), accuracy.sizes["seed"]
        print(f"{words}: {found} of the test set after {epochs} epochs, {seeds} seeds")


def _where(mask: "xr.DataArray") -> str:
    """Return where a mask is first true."""
    import numpy as np

    places = zip(mask.dims, np.argwhere(mask.values)[0], strict=True)
    values = ((dim, mask[dim].values[place]) for dim, place in places)
    words = [f"{k} = {v if isinstance(v, str) else format(v, 'g')}" for k, v in values]
    return f" at {', '.join(words)}" if words else ""
