"""The command `meanfield describe`: one page about an activation."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meanfield.cli.inputs import load_activation, one_activation
from meanfield.cli.options import ActivationArgument, ActivationOption, JsonOption, ParamOption
from meanfield.cli.output import console

if TYPE_CHECKING:
    from meanfield.activations import Shape
    from meanfield.description import Description

# The page is this wide, whatever the terminal is.
WIDTH = 100
# A statistic below this is rounding of 0.
ROUNDING = 1e-14
Rows = list[tuple[str, str]]


def describe(
    activation: ActivationArgument = None,
    named: ActivationOption = None,
    param: ParamOption = None,
    mean: Annotated[
        float, typer.Option("--mean", help="Mean μ of the Gaussian inputs of φ, a finite number.")
    ] = 0.0,
    variance: Annotated[
        float, typer.Option("--variance", help="Variance σ² of the Gaussian inputs of φ, > 0.")
    ] = 1.0,
    as_json: JsonOption = False,
) -> None:
    """Describe an activation: function, statistics, gains, edge of chaos, universality class."""
    import json

    from meanfield.description import describe

    facts = describe(load_activation(one_activation(activation, named), param), mean, variance)
    if as_json:
        print(json.dumps(facts.as_dict(), ensure_ascii=False))
        return
    _print_page(facts)


def _print_page(facts: "Description") -> None:
    page = console()
    page.width = min(page.width, WIDTH)
    values = ", ".join(f"{name} = {value:g}" for name, value in facts.parameters.items())
    title = [part for part in (facts.formula, values, facts.source) if part]
    page.print(f"[bold]{facts.name}[/bold]   " + "   ".join(map(_escaped, title)))
    at = facts.response
    for heading, rows in (
        ("Function", _function(facts)),
        ("Gaussian statistics, z ~ N(0, 1)", _statistics(facts)),
        (f"Inputs N({at.mean:g}, {at.variance:g})", _response(facts)),
        ("Initialisation: σw = gain, σb = 0, q = 1", _initialisation(facts)),
    ):
        page.print(f"[bold]{heading}[/bold]")
        page.print(_columns(rows))
    page.print("[bold]Edge of chaos, χ1 = 1[/bold]")
    for part in _edge(facts):
        page.print(part)
    verdict = facts.verdict
    stable = {True: "; V attracts all along the edge", False: "", None: ""}[verdict.stable]
    page.print("[bold]Verdict and remarks[/bold]")
    kind = verdict.universality if verdict.universality != "none" else "no critical point"
    lines = [f"{kind}: {verdict.why}{stable}", *facts.remarks]
    lines += [f"Published: {c.claim} ({c.source}). Right: {c.fact}." for c in facts.corrections]
    page.print(_bullets(lines))


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _columns(rows: Rows) -> Any:
    """Return facts in two columns, filled row by row."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    for width in (21, 30, 15, None):
        table.add_column(width=width, overflow="fold")
    for left, right in zip(rows[::2], [*rows[1::2], ("", "")], strict=False):
        table.add_row(*(Text(cell) for cell in (f"  {left[0]}", left[1], *right)))
    return table


def _bullets(lines: list[str]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    for line in lines:
        table.add_row("  •", Text(line))
    return table


def _number(value: float | None, digits: int = 8) -> str:
    if value is None or math.isnan(value):
        return "unknown"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.{digits}g}"


def _place(at: "float | tuple[float, float] | None") -> str:
    if at is None:
        return ""
    if isinstance(at, tuple):
        return f" on ({_number(at[0], 6)}, {_number(at[1], 6)})"
    return f" as x → {_number(at)}" if math.isinf(at) else f" at {_number(at, 6)}"


def _extremum(value: float | None, at: "float | tuple[float, float] | None") -> str:
    return _number(value) + (_place(at) if value is not None else "")


def _function(facts: "Description") -> Rows:
    form = facts.shape
    words = [
        word
        for word, holds in (
            ("odd", form.odd),
            ("even", form.even),
            ("monotone", form.monotone),
            ("convex", form.convex),
            ("homogeneous", form.homogeneous),
            ("bounded", form.bounded),
        )
        if holds
    ]
    nothing = "not monotone" if form.monotone is False else "undecided"
    left, right = (growth or "unknown" for growth in form.growth)
    linear = form.linear_region
    return [
        ("smoothness", facts.smoothness_class),
        ("jumps at", _kinks(form) or "nowhere"),
        ("Lipschitz constant", _extremum(form.lipschitz, form.lipschitz_at)),
        ("minimum", _extremum(form.minimum, form.minimum_at)),
        ("linear around 0", _place(linear)[4:] if linear else "nowhere"),
        ("maximum", _extremum(form.maximum, form.maximum_at)),
        ("φ is", ", ".join(words) or nothing),
        ("growth at ∓∞", f"{left}, {right}"),
    ]


def _kinks(form: "Shape") -> str:
    jumps = [(k.at, "φ", k.jump) if k.jump else (k.at, "φ'", k.slope_jump) for k in form.kinks]
    sharp = [f"{_number(at, 6)} ({what} {jump:+.4g})" for at, what, jump in jumps if jump]
    mild = [_number(at, 6) for at, _, jump in jumps if not jump]
    return ", ".join([*sharp, *([f"{', '.join(mild)} (φ'' or later)"] if mild else [])])


def _statistics(facts: "Description") -> Rows:
    own = facts.statistics
    values = {
        "E φ": own.mean,
        "E φ²": own.second_moment,
        "E |φ'|": own.absolute_slope,
        "E φ'²": own.slope_moment_2,
        "E φ'⁴": own.slope_moment_4,
        "dE φ²/dq": own.variance_slope,
        "E φ''": own.mean_curvature,
        "E φ''²": own.curvature_moment,
    }
    return [(k, "0" if abs(x) < ROUNDING else _number(x, 12)) for k, x in values.items()]


def _response(facts: "Description") -> Rows:
    at = facts.response
    rows = [
        ("inactive, P(φ = 0)", _number(at.inactive)),
        ("saturated", f"P(φ' = 0) = {_number(at.saturated)}"),
    ]
    if (at.mean, at.variance) != (0.0, 1.0):
        rows += [("E φ", _number(at.output_mean)), ("E φ²", _number(at.output_second_moment))]
    return rows


def _initialisation(facts: "Description") -> Rows:
    start = facts.initialisation
    torch = "has none" if start.torch_gain is None else _number(start.torch_gain)
    return [
        ("gain 1/√(E φ²)", _number(start.gain, 12)),
        ("PyTorch's gain", torch),
        ("V'", _number(start.variance_slope)),
        ("χ1", _number(start.chi)),
    ]


def _edge(facts: "Description") -> Iterator[Any]:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    for width in (8, 13, 13, 13, None):
        table.add_column(width=width)
    table.add_row(*("  σb", "q", "σw", "V'", "law of convergence, depth l"))
    absent: dict[str, list[str]] = {}
    for point in facts.edge:
        if point.status != "OK":
            absent.setdefault(point.message, []).append(f"{point.sigma_b:g}")
            continue
        numbers = (_number(x, 9) for x in (point.q, point.sigma_w, point.variance_slope))
        law = point.law + (f" beyond l ~ {point.crossover:.3g}" if point.crossover > 1 else "")
        law = point.law if math.isinf(point.crossover) else law
        table.add_row(f"  {point.sigma_b:g}", *numbers, Text(law))
    if table.row_count > 1:
        yield table
    for message, places in absent.items():
        yield Padding(Text(f"σb = {', '.join(places)}: {message}"), (0, 0, 0, 2))
