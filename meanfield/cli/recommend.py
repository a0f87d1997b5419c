"""The command `meanfield recommend`: how to initialise a deep network with an activation."""

import math
import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meanfield.cli.inputs import given, load_activation, one_activation, shown_params
from meanfield.cli.options import ActivationArgument, ActivationOption, JsonOption, ParamOption
from meanfield.cli.output import console

if TYPE_CHECKING:
    from meanfield.assessment import Assessment
    from meanfield.recommendation import Recommendation


def recommend(
    activation: ActivationArgument = None,
    named: ActivationOption = None,
    depth: Annotated[
        int | None,
        typer.Option(
            "--depth",
            help="Number L of layers that the activation follows, >= 1; the output layer does not "
            "count. It must be given.",
        ),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(
            "--width",
            help="Units N of a layer, >= 1. With it the page says how much squared gradients vary "
            "between networks of this width.",
        ),
    ] = None,
    sigma_b: Annotated[
        float | None,
        typer.Option(
            "--sigma-b",
            help="Standard deviation σb of the biases, >= 0. Without it σb is chosen too.",
            show_default=False,
        ),
    ] = None,
    free: Annotated[
        str | None,
        typer.Option(
            "--free", help="Name of a parameter of φ, as a. Its value is chosen for the depth."
        ),
    ] = None,
    param: ParamOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recommend how to initialise a deep network: σw, σb, weights, and why."""
    import json

    from meanfield.recommendation import checked_options, recommend

    name = one_activation(activation, named)
    phi = load_activation(name, param)
    checked_options(phi, width, sigma_b, free)
    layers = given("--depth", depth, "the number of layers, an integer >= 1")
    page, told = console(), []

    def tell(verdict: "Recommendation") -> None:
        """Print the verdict before cures are looked for, which takes longer."""
        if not as_json:
            _print_verdict(page, name, free, verdict)
            told.append(verdict)

    found = recommend(phi, layers, width, sigma_b, free, tell)
    params = shown_params(param)
    following = _next(name, params, sigma_b, free, layers, found)
    if as_json:
        print(json.dumps(_record(name, params, found, following), ensure_ascii=False))
    else:
        if not told:
            _print_verdict(page, name, free, found)
        _print_cures(page, found)
        if following:
            print(f"\nnext: {following}")


def _next(
    name: str,
    params: dict[str, float],
    sigma_b: float | None,
    free: str | None,
    depth: int,
    found: "Recommendation",
) -> str | None:
    """Return the command that makes code of the network to use, None where there is none.

    It has the network's numbers. A cure without a name is made anew, from the depth.
    """
    from meanfield.activations import activations

    one = found.choice
    if one is None:
        return None
    if free is not None and found.parameter is not None:
        params = {**params, free: found.parameter}
    numbers = {
        "--sigma-w ": float(one.layer.sigma_w),
        "--sigma-b ": float(one.layer.sigma_b),
        "--q ": one.q,
    }
    more = f" --distribution {one.layer.ensemble}"
    if one is not found.best:
        cured = one.layer.phi
        if cured.name in activations and activations[cured.name] is type(cured):
            name = cured.name
            params = {key: float(getattr(cured, key)) for key in type(cured).parameters()}
        else:
            numbers, more = {} if sigma_b is None else {"--sigma-b ": sigma_b}, ""
    numbers = {f"-p {key}=": value for key, value in params.items()} | numbers
    options = "".join(f" {option}{value:.12g}" for option, value in numbers.items())
    return f"meanfield init {shlex.quote(name)} --framework torch --depth {depth}{options}{more}"


def _record(
    name: str, params: dict[str, float], found: "Recommendation", following: str | None
) -> dict[str, Any]:
    return {
        "activation": name,
        **params,
        "best": None if found.best is None else _numbers(found.best),
        "why": found.why,
        "parameter": found.parameter,
        "stretch": found.stretch,
        "cures": [{"words": c.words, **_numbers(c.assessment)} for c in found.cures],
        "next": following,
    }


def _numbers(one: "Assessment") -> dict[str, Any]:
    numbers = {
        "sigma_w": float(one.layer.sigma_w),
        "sigma_b": float(one.layer.sigma_b),
        "ensemble": one.layer.ensemble,
        "q": one.q,
        "depth": one.depth,
        "chi": one.chi,
        "slope": one.slope,
        "gradient": one.gradient,
        "decorrelation": list(one.decorrelation),
        "spread_gaussian": one.spread_gaussian,
        "spread_orthogonal": one.spread_orthogonal,
        "largest": one.largest,
        "width": one.width,
        "width_spread": one.width_spread,
        "trainable": one.trainable,
        "faults": list(one.faults),
    }
    lost = {k for k, v in numbers.items() if isinstance(v, float) and not math.isfinite(v)}
    return {k: None if k in lost else v for k, v in numbers.items()}


def _print_verdict(page: Any, name: str, free: str | None, found: "Recommendation") -> None:
    if found.parameter is not None:
        page.print(f"{free} = {found.parameter:.6g}")
    if found.best is None:
        page.print(found.why)
    else:
        _print_network(page, name, found.best)
    if found.stretch is not None and found.stretch > 1:
        page.print(
            f"for this σb a linear region {found.stretch:.4g} times as wide would do: "
            f"a φ(x/a) with a = {found.stretch:.4g}"
        )


def _print_cures(page: Any, found: "Recommendation") -> None:
    for cure in found.cures:
        page.print(f"\n[bold]Cure[/bold]: {cure.words}", highlight=False)
        _print_network(page, "the cured activation", cure.assessment)
    if found.choice is None or not found.choice.trainable:
        page.print("\nno network of this depth was found that meets the criteria")


def _print_network(page: Any, name: str, one: "Assessment") -> None:
    verdict = "can be trained" if one.trainable else f"trains slowly: {'; '.join(one.faults)}"
    page.print(f"[bold]{name}, {one.depth} layers: {verdict}[/bold]")
    layer = one.layer
    page.print(
        f"  sigma_w = {float(layer.sigma_w):.9g}, sigma_b = {float(layer.sigma_b):.9g}, "
        f"{layer.ensemble} weights; q = {one.q:.9g}"
    )
    for reason in one.reasons:
        page.print(f"  • {reason}")
    page.print(f"  • the largest singular value of the Jacobian is {one.largest:.4g}")
    apart = ", ".join(f"{i / 10:g}: {e:.3g}" for i, e in enumerate(one.decorrelation))
    page.print(f"  • 1 - c at the output, by c at the input: {apart}")
    if one.width_spread is not None:
        page.print(
            f"  • at width {one.width} squared gradients vary from network to network by "
            f"{100 * one.width_spread:.3g} %"
        )
