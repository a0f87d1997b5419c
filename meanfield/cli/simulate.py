"""The command `meanfield simulate`: random networks beside the theory of infinite ones."""

import dataclasses
import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meanfield.cli.inputs import load_activation, one_activation, shown_params
from meanfield.cli.network import load_network
from meanfield.cli.options import (
    ActivationArgument,
    ActivationOption,
    EnsembleOption,
    JsonOption,
    KeepOption,
    ParamOption,
    PlotOption,
    SigmaBOption,
    SigmaWOption,
)
from meanfield.cli.output import check_drawing, console, emit, progress
from meanfield.cli.waiting import waiting
from meanfield.errors import MeanFieldError

if TYPE_CHECKING:
    from meanfield.ensemble import Comparison

# Of the networks that are simulated where --widths does not say.
DEPTH, WIDTH = 8, 400
SYMBOLS = {"q1": "q1", "q2": "q2", "c": "c", "gradient": "|δ|²", "m1": "m1", "m2": "m2"}


def simulate(
    activation: ActivationArgument = None,
    named: ActivationOption = None,
    sigma_b: SigmaBOption = None,
    sigma_w: SigmaWOption = None,
    depth: Annotated[
        int | None,
        typer.Option("--depth", help=f"Number L of layers, >= 1. Without it L is {DEPTH}."),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option("--width", help=f"Units of every layer, >= 1. Without it N is {WIDTH}."),
    ] = None,
    widths: Annotated[
        str | None,
        typer.Option(
            "--widths",
            help="Units layer by layer, the inputs first: N_0,N_1,...,N_L, as 300,400,500. It "
            "replaces --depth and --width.",
        ),
    ] = None,
    ensemble: EnsembleOption = "gaussian",
    keep: KeepOption = 1.0,
    q: Annotated[
        float | None,
        typer.Option(
            "--q",
            help="Variance q of the two inputs of the first φ, > 0. Without it q is the one that "
            "the layers keep.",
            show_default=False,
        ),
    ] = None,
    c: Annotated[
        float, typer.Option("--c", help="Correlation c of the two inputs, -1 <= c <= 1.")
    ] = 0.5,
    networks: Annotated[
        int, typer.Option("--networks", help="Number of random networks, >= 2.")
    ] = 20,
    seed: Annotated[
        int, typer.Option("--seed", help="Seed of the random numbers, an integer >= 0.")
    ] = 0,
    memory: Annotated[
        str,
        typer.Option("--memory", help="Memory that networks may take at a time, as 512MiB or 2GB."),
    ] = "1GiB",
    param: ParamOption = None,
    plot: PlotOption = None,
    as_json: JsonOption = False,
) -> None:
    """Simulate random networks, and compare signals, gradients and Jacobians with the theory."""
    if plot:
        check_drawing(plot)
    name = one_activation(activation, named)
    chosen = _widths(depth, width, widths)
    with waiting(f"finding the network of {name}"):
        from meanfield.ensemble import compare_with_theory, count_fitting
        from meanfield.ensemble import simulate as simulate_networks

        phi = load_activation(name, param)
        count_fitting(chosen, c, networks, seed, memory, jacobians=True)
        layer, q = load_network(phi, sigma_w, sigma_b, ensemble, keep, q)
    with progress(f"{name}: random networks", "networks") as report:
        simulation = simulate_networks(
            layer, chosen, q, c, networks=networks, seed=seed, memory=memory, report=report
        )
    comparison = compare_with_theory(simulation)
    if plot:
        from meanfield.plots.base import save_as
        from meanfield.plots.simulation import draw_simulation
        from meanfield.studies.simulation import simulation_data

        dataset = simulation_data(simulation, comparison).assign_attrs(activation=name)
        save_as(draw_simulation(dataset), plot)
    record: dict[str, Any] = {
        "activation": name,
        **shown_params(param),
        "sigma_w": layer.sigma_w,
        "sigma_b": layer.sigma_b,
        "ensemble": ensemble,
        "keep": keep,
        "widths": chosen,
        "q": float(simulation.inputs.q1),
        "c": c,
        "networks": networks,
        "seed": seed,
    }
    if plot:
        record["plot"] = str(plot)
    if as_json:
        rows = [dataclasses.asdict(row) for row in comparison.rows]
        emit({**record, "rows": rows}, as_json, "")
        return
    if len(set(chosen)) == 1:
        record["widths"] = f"{len(chosen)} of {chosen[0]}"
    emit(record, as_json, f"{name}: random networks")
    _print_rows(comparison)
    print(_verdict(comparison, networks))


def _widths(depth: int | None, width: int | None, widths: str | None) -> list[int]:
    if widths is None:
        depth, width = (DEPTH if depth is None else depth), (WIDTH if width is None else width)
        if depth < 1 or width < 1:
            raise MeanFieldError(
                f"--depth {depth} --width {width} is not legal; both must be integers >= 1"
            )
        return [width] * (depth + 1)
    if depth is not None or width is not None:
        raise MeanFieldError(
            "--widths says what --depth and --width do; give the one or the others"
        )
    try:
        chosen = [int(part) for part in widths.split(",")]
    except ValueError:
        chosen = []
    if len(chosen) < 2 or min(chosen) < 1:
        raise MeanFieldError(
            f"--widths {widths!r} is not legal; it must be two or more integers >= 1 with commas, "
            "as 300,400,500"
        )
    return chosen


def _print_rows(comparison: "Comparison") -> None:
    from rich.table import Table

    table = Table()
    table.add_column("quantity")
    for name in ("layer", "theory", "mean", "error", "z"):
        table.add_column(name, justify="right")
    previous = None
    for row in comparison.rows:
        if previous not in (None, row.quantity):
            table.add_section()
        shown = SYMBOLS[row.quantity] if row.quantity != previous else ""
        numbers = (f"{row.theory:.6g}", f"{row.mean:.6g}", f"{row.error:.2g}")
        z = "given" if row.given else "unknown" if math.isnan(row.z) else f"{row.z:+.2f}"
        table.add_row(shown, str(row.layer), *numbers, z)
        previous = row.quantity
    console().print(table)


def _verdict(comparison: "Comparison", networks: int) -> str:
    """Return what the largest z-score is worth."""
    from scipy.stats import t

    worst = comparison.worst
    rows = sum(not math.isnan(row.z) for row in comparison.rows)
    if rows == 0:
        return "nothing can be compared: theory or networks have no finite numbers"
    # At most: what happens in one row is not independent of what happens in the next.
    chance = min(1.0, 2 * rows * float(t.sf(abs(worst.z), networks - 1)))
    return (
        f"largest |z|: {abs(worst.z):.2f}, {SYMBOLS[worst.quantity]} at layer {worst.layer}; "
        f"chance has one as large in {100 * chance:.3g} % of such runs, or fewer"
    )
