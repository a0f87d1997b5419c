"""The command line: every command is a thin wrapper around the public functions.

Whatever needs JAX or a plotting or table library is imported inside the command that needs it,
so that help and completion answer at once. A user's mistake ends with exit code 2 and a line
that names the field, the value and what is legal; a violated bound ends with exit code 1.
"""

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    import xarray as xr

    from meanfield.activations import Activation
    from meanfield.sweep import SweepSpec

app = typer.Typer(
    name="meanfield",
    help="Mean-field signal propagation in deep networks: what infinitely wide random "
    "networks do with signals and gradients, for any activation function.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

KINDS = ("activations", "observables", "figures", "configs")

ActivationOption = Annotated[
    str,
    typer.Option("--activation", "-a", help="A name from `list activations`, or file.py:function."),
]
ParamOption = Annotated[
    list[str] | None, typer.Option("--param", "-p", help="A parameter, as name=value. Repeatable.")
]
SigmaBOption = Annotated[float, typer.Option("--sigma-b", help="Standard deviation of the biases.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON; NaN becomes null.")]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Directory to write into.")]


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    from meanfield.errors import MeanFieldError

    _use_compilation_cache()
    try:
        app()
    except MeanFieldError as error:
        _fail(str(error))
    except BrokenPipeError:
        # The reader of our output has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _fail(message: str) -> NoReturn:
    print("\n".join(f"error: {line}" for line in message.splitlines()), file=sys.stderr)
    sys.exit(2)


def _use_compilation_cache() -> None:
    """Keep compiled kernels between runs; MEANFIELD_CACHE names the directory, or is `off`.

    The directory is keyed by processor and jaxlib version: foreign entries may crash.
    """
    chosen = os.environ.get("MEANFIELD_CACHE", "")
    if chosen == "off":
        return
    base = Path(chosen) if chosen else Path.home() / ".cache" / "meanfield"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(base / _machine()))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def _machine() -> str:
    import hashlib
    import importlib.metadata
    import platform

    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
        digest = hashlib.sha256("\n".join(model[:2]).encode()).hexdigest()[:12]
        return f"jaxlib-{importlib.metadata.version('jaxlib')}-{digest}"
    return f"jaxlib-{importlib.metadata.version('jaxlib')}-{platform.machine()}"


def _load_activation(name: str, params: list[str] | None) -> "Activation":
    from meanfield.activations import activation
    from meanfield.errors import MeanFieldError

    values = dict(_parse_param(text) for text in params or [])
    if ":" not in name:
        return activation(name, **values)
    if values:
        raise MeanFieldError(f"--param {params} is not legal; {name} takes no parameters")
    return _load_callable(name)


def _parse_param(text: str) -> tuple[str, float]:
    from meanfield.errors import MeanFieldError

    key, found, value = text.partition("=")
    try:
        if found:
            return key.strip(), float(value)
    except ValueError:
        pass
    raise MeanFieldError(f"--param {text!r} is not legal; it must be name=number")


def _load_callable(place: str) -> "Activation":
    import importlib.util
    import warnings

    from meanfield.activations import Activation, from_callable
    from meanfield.errors import MeanFieldError

    file, _, name = place.rpartition(":")
    path = Path(file)
    if path.suffix != ".py" or not path.is_file():
        raise MeanFieldError(f"--activation {place!r}: {file} is no Python file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise MeanFieldError(f"--activation {place!r}: {file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's file may raise anything
        raise MeanFieldError(
            f"--activation {place!r}: {file} raises {type(error).__name__}: {error}"
        ) from error
    found = getattr(module, name, None)
    if found is None:
        public = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise MeanFieldError(
            f"--activation {place!r}: {file} has no {name!r}; it has {', '.join(public) or 'none'}"
        )
    if isinstance(found, Activation):
        return found
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        phi = from_callable(found, label=name)
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)
    return phi


def _emit(record: dict[str, Any], as_json: bool, title: str) -> None:
    """Print a record as JSON or as a table."""
    if as_json:
        print(json.dumps({k: _plain(v) for k, v in record.items()}, ensure_ascii=False))
        return
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=False)
    for key, value in record.items():
        table.add_row(key, f"{value:.12g}" if isinstance(value, float) else str(value))
    _console().print(table)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 120, highlight=False)


@app.command("list")
def list_(
    kind: Annotated[str, typer.Argument(help=f"One of: {', '.join(KINDS)}.")],
) -> None:
    """List what can be named: activations, observables, figures or configs."""
    from rich.table import Table

    from meanfield.errors import unknown_name

    if kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    header, rows = {
        "activations": _activation_rows,
        "observables": _observable_rows,
        "figures": _figure_rows,
        "configs": _config_rows,
    }[kind]()
    table = Table(*header)
    for row in rows:
        table.add_row(*row)
    _console().print(table)


Rows = tuple[tuple[str, ...], list[tuple[str, ...]]]


def _activation_rows() -> Rows:
    from meanfield.activations import activations

    rows = []
    for name, cls in sorted(activations.items()):
        params = "\n".join(f"{k} = {v[0]:g}, {v[1]}" for k, v in cls.parameters().items())
        kinks = ", ".join(f"{float(k):g}" for k in cls().kinks())
        alias = f" (= {cls.name})" if cls.name != name else ""
        rows.append((name + alias, cls.formula, params, kinks, cls.source))
    return ("name", "φ(x)", "parameters", "kinks", "source"), rows


def _observable_rows() -> Rows:
    from meanfield.observables import observables

    rows = [(o.name, o.symbol, o.long_name) for o in observables.values()]
    return ("name", "symbol", "meaning"), rows


def _figure_rows() -> Rows:
    from meanfield.plots import figures

    rows = [(f.name, f.title, f.source) for _, f in sorted(figures.items())]
    return ("name", "content", "source"), rows


def _config_rows() -> Rows:
    from meanfield.sweep import config_names, load_config

    rows = [(name, load_config(name).title) for name in config_names()]
    return ("name", "content"), rows


@app.command()
def point(
    activation: ActivationOption,
    sigma_w: Annotated[float, typer.Option("--sigma-w", help="Standard deviation of weights.")],
    sigma_b: SigmaBOption = 0.0,
    param: ParamOption = None,
    q0: Annotated[float, typer.Option("--q0", help="Variance of the first layer.")] = 1.0,
    as_json: JsonOption = False,
) -> None:
    """Describe one network: its fixed variance, χ₁, the limit of correlations, moments."""
    from meanfield.errors import Status, require
    from meanfield.fixedpoint import correlation_fixed_point, steady_state
    from meanfield.layers import Dense

    phi = _load_activation(activation, param)
    require(math.isfinite(q0) and q0 > 0, "q0", q0, "a finite variance > 0")
    layer = Dense(phi, sigma_w, sigma_b)
    state = steady_state(layer, q0)
    limit = correlation_fixed_point(layer, q0)
    solved = int(state.status) == Status.OK
    mu1, mu2 = (phi.slope_moment(state.q, power) if solved else math.nan for power in (2, 4))
    status = Status(int(limit.status if solved else state.status))
    record = {
        "activation": activation,
        **_shown_params(param),
        "sigma_w": sigma_w,
        "sigma_b": sigma_b,
        "q": float(state.q),
        "slope": float(state.slope),
        "chi": float(state.chi),
        "c": float(limit.c),
        "epsilon": float(limit.epsilon),
        "correlation_slope": float(limit.slope),
        "moment_ratio": float(mu2 / mu1**2),
        "phase": _phase(float(state.chi)),
        "status": status.name,
    }
    _emit(record, as_json, f"{activation}: {status.message}")


def _phase(chi: float) -> str | None:
    if math.isnan(chi):
        return None
    return "edge" if abs(chi - 1) < 1e-9 else "ordered" if chi < 1 else "chaotic"


def _shown_params(param: list[str] | None) -> dict[str, float]:
    return dict(_parse_param(text) for text in param or [])


@app.command()
def edge(
    activation: ActivationOption,
    sigma_b: SigmaBOption = 0.0,
    param: ParamOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the edge of chaos: the σw that makes a network with this σb critical."""
    from meanfield.criticality import edge_of_chaos
    from meanfield.errors import Status

    phi = _load_activation(activation, param)
    critical = edge_of_chaos(phi, sigma_b)
    status = Status(int(critical.status))
    record = {
        "activation": activation,
        **_shown_params(param),
        "q": float(critical.q),
        "sigma_w": float(critical.sigma_w),
        "sigma_b": sigma_b,
        "slope": float(critical.slope),
        "status": status.name,
    }
    _emit(record, as_json, f"{activation}: {status.message}")


@app.command()
def sweep(
    config: Annotated[str, typer.Argument(help="A TOML file, or a name from `list configs`.")],
    out: OutOption = Path("results"),
) -> None:
    """Compute a sweep into OUT/NAME.zarr; an interrupted one is gone on with."""
    from meanfield.sweep import load_config

    path, dataset = _run(load_config(config), out)
    _summarise(dataset)
    print(f"wrote {path}")


def _run(spec: "SweepSpec", out: Path) -> tuple[Path, "xr.Dataset"]:
    from meanfield.errors import MeanFieldError
    from meanfield.plots import figures
    from meanfield.studies import checks
    from meanfield.sweep import open_results, run_sweep

    try:
        for name in spec.figures:
            figures[name]
        for name in spec.checks:
            checks[name]
    except MeanFieldError as error:
        raise MeanFieldError(f"{spec.name}.toml: {error}") from error
    with _progress(spec.title or spec.name, "points") as report:
        path = run_sweep(spec, out, report)
    return path, open_results(path)


@contextlib.contextmanager
def _progress(title: str, unit: str) -> Iterator[Any]:
    """Report progress on stderr: a bar on a terminal, else a line every tenth of the way."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task(title)
            yield lambda done, total: progress.update(task, completed=done, total=total)
        return
    reached = -1

    def report(done: int, total: int) -> None:
        nonlocal reached
        tenth = 10 * done // total
        if tenth > reached:
            reached = tenth
            print(f"{title}: {done} of {total} {unit}", file=sys.stderr, flush=True)

    yield report


def _summarise(dataset: "xr.Dataset") -> None:
    import numpy as np

    from meanfield.errors import Status

    codes, counts = np.unique(dataset["status"].values, return_counts=True)
    for code, count in zip(codes, counts, strict=True):
        status = Status(int(code))
        print(f"{count} points {status.name}: {status.message}")


@app.command()
def figure(
    name: Annotated[str, typer.Argument(help="A name from `list figures`.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="A sweep's .zarr to draw from.")
    ] = None,
    out: OutOption = Path("figures"),
) -> None:
    """Draw a figure as PDF and PNG; without --data its data are computed."""
    from meanfield.plots import figures
    from meanfield.sweep import load_config, open_results

    record = figures[name]
    _check_writable(out)
    if data is not None:
        dataset = open_results(data)
    elif record.data is not None:
        dataset = record.data()
    else:
        dataset = _run(load_config(record.dataset), Path("results"))[1]
    for path in _draw(record, dataset, out):
        print(f"wrote {path}")


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
    name: Annotated[str, typer.Argument(help="A config: a name from `list configs`, or a file.")],
    out: OutOption = Path("results"),
) -> None:
    """Run a sweep, draw its figures and check its claims; exit code 1 if one is violated."""
    from meanfield.plots import figures
    from meanfield.studies import checks
    from meanfield.sweep import load_config

    spec = load_config(name)
    _check_writable(out)
    path, dataset = _run(spec, out)
    print(f"wrote {path}")
    _summarise(dataset)
    with _progress(spec.title or spec.name, "figures") as report:
        for i, figure_name in enumerate(spec.figures):
            report(i, len(spec.figures))
            record = figures[figure_name]
            _draw(record, dataset if record.data is None else record.data(), out / "figures")
        report(max(1, len(spec.figures)), max(1, len(spec.figures)))
    if spec.figures:
        print(f"wrote {len(spec.figures)} figures to {out / 'figures'}")
    held = [_report_check(check, checks[check](dataset)) for check in spec.checks]
    if not all(held):
        raise typer.Exit(1)


def _report_check(name: str, verdict: Any) -> bool:
    from rich.table import Table

    table = Table("activation", "bound", "worst measured/bound", "at", "violated")
    previous = None
    for c in verdict.comparisons:
        if previous not in (None, c.activation):
            table.add_section()
        where = ", ".join(f"{k}={v:g}" for k, v in c.where.items())
        shown = c.activation if c.activation != previous else ""
        table.add_row(shown, c.bound, f"{c.worst:.6f}", where, f"{c.violations} of {c.points}")
        previous = c.activation
    _console().print(table)
    for c in verdict.comparisons:
        if c.violations:
            print(f"violated: {c.activation} {c.bound} = {c.worst:.12g} at {c.where}")
    for place in verdict.unsolved:
        print(f"not solved: {place}")
    print(f"{name}: {'holds' if verdict.holds else 'is violated'}; {verdict.violations} violations")
    return verdict.holds
