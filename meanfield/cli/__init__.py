"""The command line: every command is a thin wrapper around the public functions.

Whatever needs JAX or a plotting or table library is imported inside the command that needs it,
so that help and completion answer at once. A user's mistake ends with exit code 2 and a line
that names the field, the value and what is legal; a violated bound, or a chunk of a sweep that
failed, with exit code 1; a signal with 128 and its number.
"""

import itertools
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from meanfield.cli.cache import use_compilation_cache
from meanfield.cli.completion import KINDS as KINDS
from meanfield.cli.completion import among, complete_config, figure_names
from meanfield.cli.describe import describe
from meanfield.cli.edge import edge
from meanfield.cli.init import init
from meanfield.cli.inputs import one_activation
from meanfield.cli.listing import list_
from meanfield.cli.options import (
    ActivationArgument,
    ActivationOption,
    FolderOption,
    JsonOption,
    KeepOption,
    MethodOption,
    OutOption,
    ParamOption,
    PlotOption,
    Q0Option,
)
from meanfield.cli.output import progress, report_check
from meanfield.cli.point import point
from meanfield.cli.recommend import recommend
from meanfield.cli.simulate import simulate
from meanfield.cli.spectrum import spectrum
from meanfield.cli.sweep import CONFIG_HELP, export, run, status, sweep
from meanfield.cli.train import run as run_training
from meanfield.cli.train import train
from meanfield.cli.waiting import waiting

if TYPE_CHECKING:
    import xarray as xr

    from meanfield.sweep import SweepSpec
    from meanfield.training import TrainingSpec


app = typer.Typer(
    name="meanfield",
    help="Mean-field signal propagation in deep networks: what infinitely wide random "
    "networks do with signals and gradients, for any activation function.",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    from meanfield.errors import MeanFieldError

    # NumPy's matrices are small here: its threads would only wait for one another.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    use_compilation_cache()
    warnings.showwarning = _warn
    try:
        sys.exit(app(standalone_mode=False))
    except MeanFieldError as error:
        _fail(str(error))
    except BrokenPipeError:
        # The reader of our output has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        # Typer's own errors know how to say what is wrong; the rest are ours.
        message = getattr(error, "format_message", str)()
        if not message:
            raise
        _fail(f"{message.strip()}{_given(error)}")
    except KeyboardInterrupt:
        sys.exit(130)


def _given(error: Any) -> str:
    """Return the value that an option could not read, as it was typed."""
    names = getattr(getattr(error, "param", None), "opts", ())
    typed = [value for name, value in itertools.pairwise(sys.argv) if name in names]
    typed += [
        arg.split("=", 1)[1] for arg in sys.argv if arg.split("=", 1)[0] in names and "=" in arg
    ]
    return f" (it was {typed[-1]!r})" if typed else ""


def _warn(message: Warning | str, category: type[Warning], *_: Any) -> None:
    prefix = "" if issubclass(category, UserWarning) else f"{category.__name__}: "
    print(
        "\n".join(f"warning: {line}" for line in f"{prefix}{message}".splitlines()), file=sys.stderr
    )


def _fail(message: str) -> NoReturn:
    print("\n".join(f"error: {line}" for line in message.splitlines()), file=sys.stderr)
    sys.exit(2)


def _show_version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        print(f"meanfield {importlib.metadata.version('meanfield-jax')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


app.command("list")(waiting("reading what is registered")(list_))
app.command()(waiting("solving the network")(point))
app.command()(waiting("sampling the activation, and looking for its edge of chaos")(describe))
app.command()(waiting("looking for a network, and for cures if it needs any")(recommend))
app.command()(waiting("looking for the critical network")(init))
app.command()(waiting("solving for the spectrum")(spectrum))
app.command()(simulate)
app.command()(waiting("looking for the edge of chaos")(edge))
app.command()(sweep)
app.command()(waiting("reading the store")(status))
app.command()(waiting("writing the file")(export))
app.command()(train)


@app.command()
@waiting("solving the networks of the diagram")
def phase(
    activation: ActivationArgument = None,
    named: ActivationOption = None,
    sigma_w: Annotated[
        str | None,
        typer.Option(
            "--sigma-w",
            help="Values of σw: start:stop:number, as 0.5:3:81, or one number >= 0. Without it "
            "from 0.5 to where variances no longer settle, at most 3.",
        ),
    ] = None,
    sigma_b: Annotated[
        str,
        typer.Option(
            "--sigma-b", help="Values of σb: start:stop:number, as 0:1:61, or one number >= 0."
        ),
    ] = "0:1:61",
    q0: Q0Option = 1.0,
    keep: KeepOption = 1.0,
    method: MethodOption = "auto",
    param: ParamOption = None,
    plot: PlotOption = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Write the numbers into this .zarr, which must be new."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compute the phase diagram of an activation over σw and σb; draw or keep it."""
    name = one_activation(activation, named)

    from meanfield.cli.phase import phase_command

    phase_command(name, sigma_w, sigma_b, q0, keep, method, param, plot, data, as_json)


@app.command()
def figure(
    name: Annotated[
        str,
        typer.Argument(
            help="A name from `meanfield list figures`.", autocompletion=among(figure_names)
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="Draw from this .zarr of a sweep. Without it the data are computed."
        ),
    ] = None,
    out: OutOption = Path("figures"),
) -> None:
    """Draw a figure as PDF and PNG; without --data its data are computed."""
    with waiting(f"finding the data of {name}"):
        from meanfield.plots import figures
        from meanfield.plots.base import require_variables
        from meanfield.sweep import open_results
        from meanfield.training.spec import load_either

        record = figures[name]
        dataset = None if data is None else open_results(data)
        if dataset is not None:
            require_variables(dataset, record.needs, f"figure {name!r}")
        _check_writable(out)
        if dataset is None and record.data is not None:
            dataset = record.data()
    if dataset is None:
        dataset = open_results(_run(load_either(record.dataset), Path("results")))
    for path in _draw(record, dataset, out):
        print(f"wrote {path}")


def _run(spec: "SweepSpec | TrainingSpec", out: Path, folder: Path | None = None) -> Path:
    """Run a sweep or a training to its end, and return its path."""
    from meanfield.sweep import SweepSpec

    return run(spec, out) if isinstance(spec, SweepSpec) else run_training(spec, out, folder)


def _draw(record: Any, dataset: "xr.Dataset", out: Path) -> list[Path]:
    from meanfield.plots import draw, save

    return save(draw(record.name, dataset), out, record.name)


def _check_writable(out: Path) -> None:
    from meanfield.errors import MeanFieldError

    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".meanfield-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise MeanFieldError(f"--out {out} cannot be written: {error.strerror}") from error


@app.command()
def reproduce(
    name: Annotated[str, typer.Argument(help=CONFIG_HELP, autocompletion=complete_config)],
    out: OutOption = Path("results"),
    folder: FolderOption = None,
) -> None:
    """Run a sweep or training, draw its figures, check its claims; 1 if one is violated."""
    with waiting(f"reading {name}"):
        from meanfield.plots import figures
        from meanfield.studies import checks
        from meanfield.sweep import open_results
        from meanfield.training.spec import load_either

        spec = load_either(name)
    _check_writable(out)
    path = _run(spec, out, folder)
    print(f"wrote {path}")
    dataset = open_results(path)
    if spec.figures:
        with progress(spec.title or spec.name, "figures") as report:
            for done, figure_name in enumerate(spec.figures):
                report(done, len(spec.figures))
                record = figures[figure_name]
                _draw(record, dataset if record.data is None else record.data(), out / "figures")
            report(len(spec.figures), len(spec.figures))
        count = len(spec.figures)
        print(f"wrote {count} figure{'s' * (count > 1)} to {out / 'figures'}")
    claims = getattr(spec, "checks", ())
    held = [report_check(check, checks[check].function(dataset)) for check in claims]
    if not all(held):
        raise typer.Exit(1)
