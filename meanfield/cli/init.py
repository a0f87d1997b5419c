"""The command `meanfield init`: code that initialises a network in a framework."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from meanfield.cli.completion import DISTRIBUTIONS, FRAMEWORKS, among
from meanfield.cli.inputs import given, load_activation, one_activation, shown_params
from meanfield.cli.network import given_layer, load_network
from meanfield.cli.options import (
    ActivationArgument,
    ActivationOption,
    JsonOption,
    ParamOption,
    SigmaBOption,
    SigmaWOption,
)
from meanfield.cli.output import check_new, emit
from meanfield.cli.snippets import DEPTH, SNIPPETS, Code, changed_code, code_of
from meanfield.errors import require, unknown_name

if TYPE_CHECKING:
    from meanfield.activations import Activation
    from meanfield.layers import Dense


def init(
    activation: ActivationArgument = None,
    named: ActivationOption = None,
    framework: Annotated[
        str | None,
        typer.Option(
            "--framework",
            help=f"The framework of the code, which must be given: {', '.join(FRAMEWORKS)}.",
            autocompletion=among(FRAMEWORKS),
        ),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(
            "--depth",
            help="Number L of layers that the activation follows, >= 1; the output layer does not "
            "count. With it σw and σb are chosen as by `meanfield "
            "recommend`, and φ is changed where that recommends a cure. Without it the code has "
            f"{DEPTH} layers.",
        ),
    ] = None,
    sigma_b: SigmaBOption = None,
    sigma_w: SigmaWOption = None,
    q: Annotated[
        float | None,
        typer.Option(
            "--q",
            help="Variance q to which the first layer brings its pre-activations, > 0. Without it "
            "q is the one that the layers keep.",
            show_default=False,
        ),
    ] = None,
    distribution: Annotated[
        str | None,
        typer.Option(
            "--distribution",
            help=f"How weights are drawn: {', '.join(DISTRIBUTIONS)}. Without it gaussian, "
            "or with --depth what `meanfield recommend` says.",
            autocompletion=among(DISTRIBUTIONS),
        ),
    ] = None,
    second_moment: Annotated[
        float,
        typer.Option(
            "--second-moment", help="Second moment |x|²/N of the network's inputs x in R^N, > 0."
        ),
    ] = 1.0,
    param: ParamOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write the code into this file, which must not exist."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print code that puts a network of PyTorch, Flax, Keras or Equinox on the edge of chaos."""
    from meanfield.arguments import count
    from meanfield.init import input_scale
    from meanfield.integrations.critical import warn_of_drift

    if framework is not None and framework not in SNIPPETS:
        raise unknown_name("framework", framework, SNIPPETS)
    if distribution is not None and distribution not in DISTRIBUTIONS:
        raise unknown_name("distribution", distribution, DISTRIBUTIONS)
    legal = math.isfinite(second_moment) and second_moment > 0
    require(legal, "second_moment", second_moment, "a finite number > 0")
    name = one_activation(activation, named)
    phi, params = load_activation(name, param), shown_params(param)
    if depth is not None:
        count("depth", depth, 1)
    given_layer(phi, sigma_w, sigma_b, q=q)
    if out is not None:
        check_new(out)
    framework_ = given("--framework", framework, f"one of {', '.join(SNIPPETS)}")
    found = _network(phi, code_of(name, params), depth, sigma_w, sigma_b, q)
    layer, q = found.layer, found.q
    first = input_scale(q, float(layer.sigma_b), second_moment)
    warn_of_drift(q, float(layer.variance_slope(q)), float(layer.sigma_b))
    numbers = {"sigma_w": layer.sigma_w, "sigma_b": layer.sigma_b, "q": q, "first": first}
    record = {"activation": name, **params, "framework": framework_}
    record |= {"distribution": layer.ensemble if distribution is None else distribution}
    record |= {key: float(value) for key, value in numbers.items()}
    record |= {"second_moment": second_moment, "depth": DEPTH if depth is None else depth}
    words = {key: repr(value) for key, value in record.items()}
    words["distribution"] = json.dumps(record["distribution"])
    code = SNIPPETS[framework_].strip().format(**words, **found.code._asdict())
    code = "\n".join(f"# {line}" for line in (*found.remarks, _summary(name, words))) + "\n" + code
    if out is not None:
        out.write_text(code + "\n", encoding="utf-8")
    if as_json:
        emit({**record, "remarks": list(found.remarks), "code": code}, True, "")
    else:
        print(f"{out} holds the code" if out is not None else code)


def _summary(name: str, words: dict[str, str]) -> str:
    return (
        f"{name}, sigma_b = {words['sigma_b']}: sigma_w = {words['sigma_w']}, "
        f"first layer {words['first']}, q = {words['q']}"
    )


class _Network(NamedTuple):
    """The layer, the variance that it keeps, the code of its activation, and what to know of it."""

    layer: "Dense"
    q: float
    code: Code
    remarks: tuple[str, ...] = ()


def _network(
    phi: "Activation",
    own: Code,
    depth: int | None,
    sigma_w: float | None,
    sigma_b: float | None,
    q: float | None,
) -> _Network:
    """Return the network of the numbers given, or what is recommended for a depth."""
    if depth is None or sigma_w is not None:
        return _Network(*load_network(phi, sigma_w, sigma_b, q=q), own)
    from meanfield.recommendation import recommend

    found = recommend(phi, depth, None, sigma_b)
    one = found.choice
    if one is None:
        return _Network(*load_network(phi, sigma_w, sigma_b, q=q), own)
    q = one.q if q is None else q
    cure = next((cure for cure in found.cures if cure.assessment is one), None)
    if cure is not None:
        return _Network(one.layer, q, changed_code(one.layer.phi, own), (f"Cure: {cure.words}",))
    remarks = () if one.trainable else (f"This trains slowly: {'; '.join(one.faults)}",)
    return _Network(one.layer, q, own, remarks)
