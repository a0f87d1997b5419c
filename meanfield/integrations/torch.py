"""PyTorch: models initialised in place, and gains for any activation.

    import meanfield.integrations.torch as mfi

    mfi.init_(model, activation="gelu", sigma_b=0.5)

Linear and convolutional layers get weights and biases, in the order in which `model.modules()`
names them, which should be that of the network. All else is left as it is.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import integrate

from meanfield.activations import Activation
from meanfield.activations import activation as named
from meanfield.activations import gain as gain_of
from meanfield.errors import MeanFieldError
from meanfield.init import Distribution, require_distribution, weights
from meanfield.integrations.critical import critical_scales, framework, require_layers

torch: Any = framework("torch", "torch")

# The normal distribution has 2e-21 beyond it.
FARTHEST = 9.5


def init_(
    model: Any,
    *,
    activation: str | Activation,
    sigma_b: float = 0.0,
    sigma_w: float | None = None,
    distribution: Distribution = "gaussian",
    second_moment: float = 1.0,
    generator: Any = None,
) -> Any:
    """Initialise a `torch.nn.Module` in place, and return it.

    Parameters
    ----------
    activation : a name of `mf.activation`, or an `Activation`.
    sigma_b, sigma_w : standard deviations; σw is that of the edge of chaos if it is not given.
    distribution : of the weights; "delta_orthogonal" concerns convolutions, whose kernels have a
        middle, and linear layers are then orthogonal.
    second_moment : that of the inputs, |x|²/N. The first layer brings it to q*, unless σw is given.
    generator : a `torch.Generator`, by default PyTorch's own.

    Raises `MeanFieldError` for what is not legal; the model is then as it was.
    """
    require_distribution(distribution)
    scales = critical_scales(activation, sigma_b, sigma_w, second_moment)
    convolutions = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
    layers = [m for m in model.modules() if isinstance(m, (torch.nn.Linear, *convolutions))]
    require_layers(layers, "Linear, Conv1d, Conv2d or Conv3d")
    lazy = [m for m in layers if isinstance(m.weight, torch.nn.parameter.UninitializedParameter)]
    if lazy:
        raise MeanFieldError("model is not legal; run it once, so that lazy layers have a shape")
    with torch.no_grad():
        for number, layer in enumerate(layers):
            sigma = scales.sigma_w if number else scales.first
            flat = distribution == "delta_orthogonal" and isinstance(layer, torch.nn.Linear)
            init = weights(sigma, "orthogonal" if flat else distribution, in_axis=1, out_axis=0)
            # Seeds come from PyTorch: `torch.manual_seed` decides them.
            seed = int(torch.randint(2**62, (), generator=generator))
            drawn = np.array(init(jax.random.key(seed), tuple(layer.weight.shape)))
            layer.weight.copy_(torch.from_numpy(drawn))
            if layer.bias is not None:
                layer.bias.normal_(0.0, scales.sigma_b or 1.0, generator=generator)
                layer.bias.mul_(1.0 if scales.sigma_b else 0.0)
    return model


def calculate_gain(activation: Any) -> float:
    """Return 1/√(E φ(z)²), z ~ N(0, 1), for a name, an `Activation` or any callable of tensors.

    To be used where `torch.nn.init.calculate_gain` is, which knows six activations, and not the
    gain of three of these. Raises `MeanFieldError` where φ is not elementwise, or has no such gain.
    """
    if isinstance(activation, str):
        return float(gain_of(named(activation)))
    if isinstance(activation, Activation):
        return float(gain_of(activation))

    def squared(z: float) -> float:
        with torch.no_grad():
            value = activation(torch.tensor([z], dtype=torch.float64))
        return float(value[0]) ** 2 * float(np.exp(-z * z / 2)) / np.sqrt(2 * np.pi)

    try:
        # Cut at 0, where most kinks are.
        parts = [
            integrate.quad(squared, *ends, epsabs=1e-13, epsrel=1e-12, limit=400)[0]
            for ends in ((-FARTHEST, 0.0), (0.0, FARTHEST))
        ]
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise MeanFieldError(
            f"activation is not legal; it must map a tensor elementwise ({error})"
        ) from error
    total = sum(parts)
    if not np.isfinite(total) or total <= 0:
        raise MeanFieldError(f"activation is not legal; E φ² = {total:g} must be positive")
    return float(1 / jnp.sqrt(total))
