"""The command `meanfield init`: code that initialises a network in a framework."""

import json
from typing import Annotated

import typer

from meanfield.cli.inputs import load_activation, shown_params
from meanfield.cli.options import ActivationArgument, ParamOption

SNIPPETS = {
    "torch": """
import torch
from meanfield.integrations.torch import init_
{imports}
# Your model calls the layers in this order, with your activation between them.
model = torch.nn.ModuleList([
    torch.nn.Linear(784, 300),
    torch.nn.Linear(300, 300),
    torch.nn.Linear(300, 10),
])
init_(model, {given})
print(model)
""",
    "flax": """
import jax
import jax.numpy as jnp
from flax import nnx
from meanfield.init import biases, weights

rngs = nnx.Rngs(0)
bias = biases({sigma_b})
begin = weights({first}, {distribution})
inner = weights({sigma_w}, {distribution})
first = nnx.Linear(784, 300, kernel_init=begin, bias_init=bias, rngs=rngs)
other = nnx.Linear(300, 300, kernel_init=inner, bias_init=bias, rngs=rngs)
# Put your activation between the layers.
print(other(first(jnp.ones((1, 784)))).shape)
""",
    "jax": """
import jax
from meanfield.init import biases, weights

keys = jax.random.split(jax.random.key(0), 4)
first = weights({first}, {distribution})(keys[0], (784, 300))
other = weights({sigma_w}, {distribution})(keys[1], (300, 300))
bias = biases({sigma_b})(keys[2], (300,))
print(first.shape, other.shape, bias.shape)
""",
    "keras": """
import keras
from meanfield.integrations.keras import MeanField

bias = MeanField({sigma_b}, "bias")
begin = MeanField({first}, {distribution})
inner = MeanField({sigma_w}, {distribution})
model = keras.Sequential([
    keras.Input((784,)),
    keras.layers.Dense(300, kernel_initializer=begin, bias_initializer=bias),
    # Put your activation between the layers.
    keras.layers.Dense(300, kernel_initializer=inner, bias_initializer=bias),
])
model.summary()
""",
    "equinox": """
import equinox
import jax
from meanfield.integrations.equinox import init
{imports}
key = jax.random.key(0)
# Your model calls the layers in this order, with your activation between them.
model = [equinox.nn.Linear(*size, key=key) for size in ((784, 300), (300, 300), (300, 10))]
model = init(model, key, {given})
print(model)
""",
}


def init(
    activation: ActivationArgument,
    framework: Annotated[str, typer.Option("--framework", help=f"{', '.join(SNIPPETS)}.")],
    sigma_b: Annotated[
        float, typer.Option("--sigma-b", help="Standard deviation of the biases.")
    ] = 0.1,
    distribution: Annotated[
        str, typer.Option("--distribution", help="gaussian or orthogonal.")
    ] = "gaussian",
    second_moment: Annotated[
        float, typer.Option("--second-moment", help="Of the inputs, |x|²/N.")
    ] = 1.0,
    param: ParamOption = None,
) -> None:
    """Print code that puts a network of PyTorch, Flax, Keras or Equinox on the edge of chaos."""
    from meanfield.errors import unknown_name
    from meanfield.integrations.critical import critical_scales

    if framework not in SNIPPETS:
        raise unknown_name("framework", framework, SNIPPETS)
    if distribution not in ("gaussian", "orthogonal"):
        raise unknown_name("distribution", distribution, ("gaussian", "orthogonal"))
    phi = load_activation(activation, param)
    scales = critical_scales(phi, sigma_b, None, second_moment)
    name = json.dumps(distribution)
    phi_code, imports = _activation_code(activation, shown_params(param))
    given = f"activation={phi_code}, sigma_b={sigma_b!r}, distribution={name}"
    given += "" if second_moment == 1 else f", second_moment={second_moment!r}"
    numbers = f"sigma_w = {scales.sigma_w!r}, first layer {scales.first!r}"
    print(f"# {activation}, sigma_b = {sigma_b!r}: {numbers}")
    print(
        SNIPPETS[framework]
        .strip()
        .format(
            given=given,
            imports=imports,
            first=repr(scales.first),
            sigma_w=repr(scales.sigma_w),
            sigma_b=repr(sigma_b),
            distribution=name,
        )
    )


def _activation_code(name: str, params: dict[str, float]) -> tuple[str, str]:
    """Return code that stands for an activation, and the lines that it needs."""
    values = "".join(f", {key}={value!r}" for key, value in params.items())
    quoted = json.dumps(name)
    if ":" in name:
        line = "from meanfield.activations.files import load\n"
        return f"load({quoted}).make({values.removeprefix(', ')})", line
    if params:
        return f"mf.activation({quoted}{values})", "import meanfield as mf\n"
    return quoted, ""
