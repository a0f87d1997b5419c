"""The code that `meanfield init` prints: a network of each framework, and its activation."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from meanfield.activations import Activation

# The layers of the code where --depth does not say.
DEPTH = 3
# How the function of a changed activation is called in comments.
CALLED = "changed(x, phi)"
SNIPPETS = {
    "torch": """
import torch
from meanfield.integrations.torch import init_
{imports}{change}
# Your model calls the layers in this order, with {between} between them, and a last
# layer of your own after them.
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
{change}
rngs = nnx.Rngs(0)
bias = biases({sigma_b})
# The first layer brings the inputs to the variance q.
begin = weights({first}, {distribution})
inner = weights({sigma_w}, {distribution})
layers = [nnx.Linear(784, 300, kernel_init=begin, bias_init=bias, rngs=rngs)]
for _ in range({depth} - 1):
    layers.append(nnx.Linear(300, 300, kernel_init=inner, bias_init=bias, rngs=rngs))
# Put {between} between the layers, and a last layer of your own after them.
model = nnx.Sequential(*layers)
print(model(jnp.ones((1, 784))).shape)
""",
    "jax": """
import jax
from meanfield.init import biases, weights
{change}
sizes = [784] + [300] * {depth}
# The first layer brings the inputs to the variance q.
scales = [{first}] + [{sigma_w}] * ({depth} - 1)
keys = jax.random.split(jax.random.key(0), (len(scales), 2))
layers = [
    (weights(scale, {distribution})(one, shape), biases({sigma_b})(other, shape[1:]))
    for scale, (one, other), shape in zip(scales, keys, zip(sizes, sizes[1:]))
]
# Put {between} between the layers, and a last layer of your own after them.
print([weight.shape for weight, bias in layers])
""",
    "keras": """
import keras
from meanfield.integrations.keras import MeanField
{change}
bias = MeanField({sigma_b}, "bias")
# The first layer brings the inputs to the variance q.
begin = MeanField({first}, {distribution})
inner = MeanField({sigma_w}, {distribution})
layers = [keras.layers.Dense(300, kernel_initializer=begin, bias_initializer=bias)]
for _ in range({depth} - 1):
    layers.append(keras.layers.Dense(300, kernel_initializer=inner, bias_initializer=bias))
# Put {between} between the layers, and a last layer of your own after them.
model = keras.Sequential([keras.Input((784,)), *layers])
model.summary()
""",
    "equinox": """
import equinox
import jax
from meanfield.integrations.equinox import init
{imports}{change}
keys = jax.random.split(jax.random.key(0), {depth} + 1)
# Your model calls the layers in this order, with {between} between them, and a last
# layer of your own after them.
widths = [784] + [300] * {depth}
model = [equinox.nn.Linear(*size, key=key) for *size, key in zip(widths, widths[1:], keys)]
# The first layer brings the inputs to the variance q.
numbers = dict(sigma_w={sigma_w}, sigma_b={sigma_b}, q={q}, second_moment={second_moment})
model = init(model, keys[-1], activation={phi}, distribution={distribution}, **numbers)
print(model)
""",
}


class Code(NamedTuple):
    """Code that stands for an activation wherever it runs."""

    phi: str
    """The activation as `meanfield` takes it."""
    imports: str
    """The lines that `phi` needs."""
    change: str = ""
    """Lines that define what to call between layers instead of the activation itself."""
    between: str = "your activation"
    """What the model has between its layers, in words."""


def code_of(name: str, params: dict[str, float]) -> Code:
    """Return the code of an activation that is named, with its parameters."""
    from meanfield.activations.files import is_file
    from meanfield.activations.torch_modules import PREFIX

    values = "".join(f", {key}={value!r}" for key, value in params.items())
    if is_file(name) and not name.startswith(PREFIX):
        file, _, function = name.rpartition(":")
        place = json.dumps(f"{Path(file).resolve()}:{function}", ensure_ascii=False)
        line = "from meanfield.activations.files import load\n"
        return Code(f"load({place}).make({values.removeprefix(', ')})", line)
    quoted = json.dumps(name)
    if params:
        return Code(f"mf.activation({quoted}{values})", "import meanfield as mf\n")
    return Code(quoted, "")


def changed_code(phi: "Activation", own: Code) -> Code:
    """Return the code of an activation that cures another one, whose code is `own`."""
    from meanfield.activations import activations
    from meanfield.activations.combinators import Affine
    from meanfield.activations.mollify import Mollified

    if isinstance(phi, Affine):
        numbers = {key: float(getattr(phi, key)) for key in ("rate", "centre", "gain", "offset")}
        line = "from meanfield.activations.combinators import Affine\n"
        values = ", ".join(f"{key}={value!r}" for key, value in numbers.items())
        return Code(
            f"Affine({own.phi}, {values})", own.imports + line, _function(**numbers), CALLED
        )
    if isinstance(phi, Mollified):
        # What is averaged has no formula in other frameworks; of JAX arrays it is a function.
        expression = f"mf.mollify({own.phi}, {json.dumps(phi.kernel)}, {float(phi.radius)!r})"
        imports = own.imports
        if "import meanfield as mf" not in imports:
            imports += "import meanfield as mf\n"
        return Code(expression, imports, "", f"{expression}, a function of JAX arrays,")
    name = phi.name
    if name not in activations or activations[name] is not type(phi):
        raise TypeError(f"{phi!r} has no code")
    found = code_of(name, {key: float(getattr(phi, key)) for key in type(phi).parameters()})
    return found._replace(between=found.phi.removeprefix("mf."))


def _function(rate: float, centre: float, gain: float, offset: float) -> str:
    """Return a function that computes gain φ(rate (x - centre)) + offset, without idle numbers."""
    inside = "x" if rate == 1 else f"{rate!r} * x"
    if rate * centre:
        inside += f" {'-' if rate * centre > 0 else '+'} {abs(rate * centre)!r}"
    outside = f"phi({inside})" if gain == 1 else f"{gain!r} * phi({inside})"
    if offset:
        outside += f" {'-' if offset < 0 else '+'} {abs(offset)!r}"
    return f"""

def changed(x, phi):
    \"\"\"Return the activation to call between the layers; phi is your own.\"\"\"
    return {outside}

"""
