"""The command `meanfield init`: code that initialises a network in a framework."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from meanfield.cli.output import emit
from meanfield.errors import require, unknown_name

if TYPE_CHECKING:
    from meanfield.activations import Activation
    from meanfield.layers import Dense

# The layers of the code where --depth does not say.
DEPTH = 3
SNIPPETS = {
    "torch": """
import torch
from meanfield.integrations.torch import init_
{imports}
# Your model calls the layers in this order, with your activation between them, and a last layer of
# your own after them.
model = torch.nn.ModuleList([
    torch.nn.Linear(784, 300),
    *(torch.nn.Linear(300, 300) for _ in range({depth} - 1)),
])
# The first layer brings the inputs to the variance q.
numbers = dict(sigma_w={sigma_w}, sigma_b={sigma_b}, q={q}, second_moment={second_moment})
init_(model, activation={phi}, distribution={distribution}, **numbers)
print(model)
""",
    "flax": """
import jax
import jax.numpy as jnp
from flax import nnx
from meanfield.init import biases, weights

rngs = nnx.Rngs(0)
bias = biases({sigma_b})
# The first layer brings the inputs to the variance q.
begin = weights({first}, {distribution})
inner = weights({sigma_w}, {distribution})
layers = [nnx.Linear(784, 300, kernel_init=begin, bias_init=bias, rngs=rngs)]
for _ in range({depth} - 1):
    layers.append(nnx.Linear(300, 300, kernel_init=inner, bias_init=bias, rngs=rngs))
# Put your activation between the layers, and a last layer of your own after them.
model = nnx.Sequential(*layers)
print(model(jnp.ones((1, 784))).shape)
""",
    "jax": """
import jax
from meanfield.init import biases, weights

sizes = [784] + [300] * {depth}
# The first layer brings the inputs to the variance q.
scales = [{first}] + [{sigma_w}] * ({depth} - 1)
keys = jax.random.split(jax.random.key(0), (len(scales), 2))
layers = [
    (weights(scale, {distribution})(one, shape), biases({sigma_b})(other, shape[1:]))
    for scale, (one, other), shape in zip(scales, keys, zip(sizes, sizes[1:]))
]
print([weight.shape for weight, bias in layers])
""",
    "keras": """
import keras
from meanfield.integrations.keras import MeanField

bias = MeanField({sigma_b}, "bias")
# The first layer brings the inputs to the variance q.
begin = MeanField({first}, {distribution})
inner = MeanField({sigma_w}, {distribution})
layers = [keras.layers.Dense(300, kernel_initializer=begin, bias_initializer=bias)]
for _ in range({depth} - 1):
    layers.append(keras.layers.Dense(300, kernel_initializer=inner, bias_initializer=bias))
# Put your activation between the layers, and a last layer of your own after them.
model = keras.Sequential([keras.Input((784,)), *layers])
model.summary()
""",
    "equinox": """
import equinox
import jax
from meanfield.integrations.equinox import init
{imports}
keys = jax.random.split(jax.random.key(0), {depth} + 1)
# Your model calls the layers in this order, with your activation between them, and a last layer of
# your own after them.
widths = [784] + [300] * {depth}
model = [equinox.nn.Linear(*size, key=key) for *size, key in zip(widths, widths[1:], keys)]
# The first layer brings the inputs to the variance q.
numbers = dict(sigma_w={sigma_w}, sigma_b={sigma_b}, q={q}, second_moment={second_moment})
model = init(model, keys[-1], activation={phi}, distribution={distribution}, **numbers)
print(model)
""",
}


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
            help="Number L of layers, >= 1. With it σw and σb are chosen as by `meanfield "
            f"recommend`. Without it the code has {DEPTH} layers.",
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
        str,
        typer.Option(
            "--distribution",
            help=f"How weights are drawn: {', '.join(DISTRIBUTIONS)}.",
            autocompletion=among(DISTRIBUTIONS),
        ),
    ] = "gaussian",
    second_moment: Annotated[
        float,
        typer.Option(
            "--second-moment", help="Second moment |x|²/N of the network's inputs x in R^N, > 0."
        ),
    ] = 1.0,
    param: ParamOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print code that puts a network of PyTorch, Flax, Keras or Equinox on the edge of chaos."""
    from meanfield.arguments import count
    from meanfield.init import input_scale
    from meanfield.integrations.critical import warn_of_drift

    if framework is not None and framework not in SNIPPETS:
        raise unknown_name("framework", framework, SNIPPETS)
    if distribution not in DISTRIBUTIONS:
        raise unknown_name("distribution", distribution, DISTRIBUTIONS)
    legal = math.isfinite(second_moment) and second_moment > 0
    require(legal, "second_moment", second_moment, "a finite number > 0")
    name = one_activation(activation, named)
    phi, params = load_activation(name, param), shown_params(param)
    if depth is not None:
        count("depth", depth, 1)
    given_layer(phi, sigma_w, sigma_b, q=q)
    framework_ = given("--framework", framework, f"one of {', '.join(SNIPPETS)}")
    layer, q = _network(phi, depth, sigma_w, sigma_b, q)
    first = input_scale(q, float(layer.sigma_b), second_moment)
    warn_of_drift(q, float(layer.variance_slope(q)), float(layer.sigma_b))
    numbers = {"sigma_w": layer.sigma_w, "sigma_b": layer.sigma_b, "q": q, "first": first}
    record = {"activation": name, **params, "framework": framework_, "distribution": distribution}
    record |= {key: float(value) for key, value in numbers.items()}
    record |= {"second_moment": second_moment, "depth": DEPTH if depth is None else depth}
    phi_code, imports = _activation_code(name, params)
    words = {key: repr(value) for key, value in record.items()}
    words["distribution"] = json.dumps(distribution)
    code = SNIPPETS[framework_].strip().format(**words, phi=phi_code, imports=imports)
    if as_json:
        emit({**record, "code": code}, True, "")
        return
    print(
        f"# {name}, sigma_b = {words['sigma_b']}: sigma_w = {words['sigma_w']}, "
        f"first layer {words['first']}, q = {words['q']}"
    )
    print(code)


def _network(
    phi: "Activation",
    depth: int | None,
    sigma_w: float | None,
    sigma_b: float | None,
    q: float | None,
) -> "tuple[Dense, float]":
    """Return the layer, and the variance that it keeps: those for a depth, if it is given."""
    from meanfield.recommendation import chosen_network

    if depth is not None and sigma_w is None and sigma_b is None:
        point = chosen_network(phi, depth, None)
        if point is not None:
            q = float(point.q) if q is None else q
            sigma_w, sigma_b = float(point.sigma_w), float(point.sigma_b)
    return load_network(phi, sigma_w, sigma_b, q=q)


def _activation_code(name: str, params: dict[str, float]) -> tuple[str, str]:
    """Return code that stands for an activation wherever it runs, and the lines that it needs."""
    from meanfield.activations.files import is_file
    from meanfield.activations.torch_modules import PREFIX

    values = "".join(f", {key}={value!r}" for key, value in params.items())
    if is_file(name) and not name.startswith(PREFIX):
        file, _, function = name.rpartition(":")
        place = json.dumps(f"{Path(file).resolve()}:{function}", ensure_ascii=False)
        line = "from meanfield.activations.files import load\n"
        return f"load({place}).make({values.removeprefix(', ')})", line
    quoted = json.dumps(name)
    if params:
        return f"mf.activation({quoted}{values})", "import meanfield as mf\n"
    return quoted, ""
