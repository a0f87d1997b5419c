"""What a user reads: records, lists, progress and verdicts, as tables or JSON."""

import contextlib
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from meanfield.errors import MeanFieldError

# What a drawing may be saved as.
FORMATS = (".png", ".pdf", ".svg")
# A cell that is a list is printed line by line.
Row = tuple[str | list[str], ...]
# A header, and what is below it.
Rows = tuple[tuple[str, ...], list[Row]]


def emit(record: dict[str, Any], as_json: bool, title: str) -> None:
    """Print a record as JSON or as a table."""
    if as_json:
        print(json.dumps(_plain(record), ensure_ascii=False))
        return
    from rich.table import Table

    table = Table(show_header=False)
    for key, value in record.items():
        shown = f"{value:.12g}" if isinstance(value, float) else str(value)
        table.add_row(key, "unknown" if value is None else shown)
    # A title of its own would be wrapped to the width of the table.
    print(title)
    console().print(table)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_drawing(path: Path) -> None:
    """Raise `MeanFieldError` unless --plot names a place and a kind of file for a drawing."""
    if path.suffix not in FORMATS:
        raise MeanFieldError(f"--plot {path} is not legal; it must end in {', '.join(FORMATS)}")
    check_place(path)


def check_place(path: Path) -> None:
    """Raise `MeanFieldError` unless a file may be made there."""
    if not path.parent.is_dir():
        raise MeanFieldError(f"{path} cannot be written: there is no directory {path.parent}")
    if path.is_dir():
        raise MeanFieldError(f"{path} cannot be written: it is a directory")
    new = not path.exists()
    try:
        path.open("ab").close()
    except OSError as error:
        raise MeanFieldError(f"{path} cannot be written: {error.strerror}") from error
    if new:
        path.unlink()


def check_new(path: Path) -> None:
    """Raise `MeanFieldError` unless a file may be made there, and there is none yet."""
    if path.is_file():
        raise MeanFieldError(f"--out {path} is not legal: the file exists; it must be a new one")
    check_place(path)


def console() -> Any:
    """Return the console that tables are printed on."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 120, highlight=False)


def activation_rows() -> Rows:
    """Return the table of activations."""
    from meanfield.activations import activations

    rows: list[Row] = []
    for name, cls in sorted(activations.items()):
        params = [f"{k} = {v[0]:g}, {v[1]}" for k, v in cls.parameters().items()]
        kinks = ", ".join(f"{float(k):g}" for k in cls().kinks())
        alias = f" (= {cls.name})" if cls.name != name else ""
        rows.append((name + alias, cls.formula, params, kinks, cls.source))
    return ("name", "φ(x)", "parameters", "kinks", "source"), rows


def observable_rows() -> Rows:
    """Return the table of observables."""
    from meanfield.observables import observables

    rows: list[Row] = [(o.name, o.symbol, o.long_name) for o in observables.values()]
    return ("name", "symbol", "meaning"), rows


def figure_rows() -> Rows:
    """Return the table of figures."""
    from meanfield.plots import figures

    rows: list[Row] = [(f.name, f.title, f.source) for _, f in sorted(figures.items())]
    return ("name", "content", "source"), rows


def config_rows() -> Rows:
    """Return the table of shipped configs."""
    from meanfield.shipped import shipped
    from meanfield.training.spec import load_either

    specs = [(name, load_either(name)) for name in shipped()]
    rows: list[Row] = [(name, one.what, one.title) for name, one in specs]
    return ("name", "kind", "content"), rows


@contextlib.contextmanager
def progress(title: str, unit: str) -> Iterator[Any]:
    """Report progress on stderr: a bar on a terminal, else a line every tenth of the way.

    What is yielded is called with how much is done, with the total, with a remark, and with what
    is wrong.
    """
    if sys.stderr.isatty():
        from rich import progress as bars
        from rich.console import Console

        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn(unit),
            bars.TextColumn("{task.fields[rate]}"),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[remark]}"),
            bars.TextColumn("[red]{task.fields[wrong]}"),
        )
        with bars.Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(title, rate="", remark="", wrong="")

            def show(done: int, total: int, remark: str = "", wrong: str = "") -> None:
                speed = bar.tasks[task].speed
                words: Any = {"rate": f"{speed:.3g}/s" if speed else "", "remark": remark}
                bar.update(task, completed=done, total=total, wrong=wrong, **words)

            yield show
        return
    reached = -1

    def report(done: int, total: int, *words: str) -> None:
        nonlocal reached
        tenth = 10 * done // total
        if tenth > reached:
            reached = tenth
            line = ", ".join([f"{title}: {done} of {total} {unit}", *filter(None, words)])
            print(line, file=sys.stderr, flush=True)

    yield report


def report_check(name: str, verdict: Any) -> bool:
    """Print a verdict, every violation named; return whether it holds."""
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
    console().print(table)
    for c in verdict.comparisons:
        if c.violations:
            print(f"violated: {c.activation} {c.bound} = {c.worst:.12g} at {c.where}")
    for place in verdict.unsolved:
        print(f"not solved: {place}")
    print(f"{name}: {'holds' if verdict.holds else 'is violated'}; {verdict.violations} violations")
    return verdict.holds
