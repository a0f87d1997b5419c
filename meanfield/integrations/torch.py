"""PyTorch: models initialised in place, and gains for any activation.

    import meanfield.integrations.torch as mfi

    mfi.init_(model, activation="gelu", sigma_b=0.5)

Layers of the kinds Linear, Conv1d, Conv2d and Conv3d get weights and biases. The theory is that of
a chain of these with one pointwise activation between them: a model that is seen to be anything
else (normalised, residual, attentive, recurrent) is refused.
"""

import math
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from scipy import integrate

from meanfield.activations import Activation
from meanfield.activations import activation as named
from meanfield.activations import gain as gain_of
from meanfield.activations.base import ActivationLike
from meanfield.errors import MeanFieldError
from meanfield.init import Distribution, Initializer, biases
from meanfield.integrations.critical import (
    Scales,
    critical_scales,
    framework,
    in_groups,
    require_layers,
)
from meanfield.integrations.scope import Findings, Part, Plan
from meanfield.integrations.torch_structure import LAYERS, structure

torch: Any = framework("torch", "torch")

# The normal distribution has 2e-21 beyond it.
FARTHEST = 9.5
NOT_ELEMENTWISE = "activation is not legal; it must map a tensor elementwise"


def init_(
    model: Any,
    *,
    activation: ActivationLike,
    sigma_b: float = 0.0,
    sigma_w: float | None = None,
    distribution: Distribution = "gaussian",
    second_moment: float = 1.0,
    q: float | None = None,
    generator: Any = None,
    dry_run: bool = False,
) -> Any:
    """Initialise a `torch.nn.Module` in place, and return it.

    The model is a chain of Linear and Conv layers with one pointwise activation between them, and
    biases where σb > 0; dropout and pooling may lie between layers too.

    Parameters
    ----------
    activation : a name of `mf.activation`, an `Activation`, a module or any other callable that is
        elementwise.
    sigma_b, sigma_w : standard deviations; σw is that of the edge of chaos if it is not given.
    distribution : of the weights; "delta_orthogonal" concerns convolutions, whose kernels have a
        middle, and linear layers are then orthogonal.
    second_moment : that of the inputs, |x|²/N.
    q : the variance to which the first layer brings inputs, by default q* of the edge of chaos. If
        σw is given and q is not, the first layer is like the others.
    generator : a `torch.Generator`, by default PyTorch's own.
    dry_run : change nothing, and return what would be: a list of `LayerPlan` that prints as a
        table, in the order of registration.

    Raises `MeanFieldError` for what is not legal, and for a model that is no such chain, by the
    names of the modules and with the reason: normalisation, attention, recurrence, other weights,
    layers without bias while σb > 0, functions between layers that are not φ (values at a few
    points are compared), paths that join, layers used twice. The model is then as it was. Warns
    of pooling, of dropout (φ's edge of chaos is that without it), of layers with nothing between
    them, and of forward code that `torch.fx` cannot trace: that is trusted to be a chain.
    """
    phi, scales = critical_scales(activation, distribution, sigma_b, sigma_w, second_moment, q)
    layers = [part for part in model.modules() if isinstance(part, LAYERS)]
    require_layers(layers, "Linear, Conv1d, Conv2d or Conv3d")
    for layer in layers:
        _require_plain(layer)
    findings = Findings()
    parts = structure(model, phi, sigma_b, findings, critical=sigma_w is None)
    findings.settle()
    if dry_run:
        return Plan(part.plan(scales, part.shape) for part in parts)
    drawn: dict[int, tuple[Any, Any]] = {}
    for part in parts:
        for tensor, draw, groups in _draws(part, scales, distribution):
            # Seeds come from PyTorch; a tensor that layers share is drawn once.
            device = "cpu" if generator is None else generator.device
            seed = int(torch.randint(2**62, (), generator=generator, device=device))
            if id(tensor) not in drawn:
                values = in_groups(draw, jax.random.key(seed), tuple(tensor.shape), groups)
                drawn[id(tensor)] = tensor, torch.from_numpy(np.array(values))
    with torch.no_grad():
        for tensor, values in drawn.values():
            tensor.copy_(values)
    return model


def _require_plain(layer: Any) -> None:
    """Raise `MeanFieldError` for a layer whose weights are not numbers of their own."""
    if isinstance(layer.weight, torch.nn.parameter.UninitializedParameter):
        raise MeanFieldError("model is not legal; run it once, so that lazy layers have a shape")
    if torch.nn.utils.parametrize.is_parametrized(layer) or "weight" not in layer._parameters:
        raise MeanFieldError(
            f"model is not legal; the weights of {layer} are parametrized: initialise it before"
        )


def _draws(
    part: Part, scales: Scales, distribution: Distribution
) -> Iterator[tuple[Any, Initializer, int]]:
    """Yield the tensors of a layer, their initialisers, and their groups."""
    yield part.layer.weight, part.initializer(scales, distribution), part.groups
    if part.bias:
        yield part.layer.bias, biases(scales.sigma_b), 1


def calculate_gain(activation: Any) -> float:
    """Return 1/√(E φ(z)²), z ~ N(0, 1), for a name, an `Activation` or any callable of tensors.

    To be used where `torch.nn.init.calculate_gain` is, which knows six activations, and not the
    gain of three of these. Raises `MeanFieldError` where φ is not elementwise, or has no such gain.
    """
    if isinstance(activation, str):
        activation = named(activation)
    if isinstance(activation, Activation):
        gain = float(gain_of(activation))
    else:
        _require_elementwise(activation)
        gain = 1 / math.sqrt(max(_second_moment(activation), 0.0) or math.nan)
    if not math.isfinite(gain):
        raise MeanFieldError(f"activation is not legal; its gain is {gain}: E φ² must be positive")
    return gain


def _call(activation: Any, numbers: list[float]) -> list[float]:
    """Return what a callable makes of numbers, in double precision if it can."""
    for dtype in (torch.float64, torch.float32):
        try:
            with torch.no_grad():
                return activation(torch.tensor(numbers, dtype=dtype)).double().tolist()
        except RuntimeError as error:
            # A module with parameters computes in the precision of these.
            failure = error
        except Exception as error:  # a user's callable may raise anything
            raise MeanFieldError(f"{NOT_ELEMENTWISE} ({error})") from error
    raise MeanFieldError(f"{NOT_ELEMENTWISE} ({failure})") from failure


def _require_elementwise(activation: Any) -> None:
    together = _call(activation, [-0.7, 1.3])
    apart = [value for x in (-0.7, 1.3) for value in _call(activation, [x])]
    if not np.allclose(together, apart, rtol=1e-6, atol=1e-12):
        raise MeanFieldError(NOT_ELEMENTWISE)


def _second_moment(activation: Any) -> float:
    def squared(z: float) -> float:
        value = _call(activation, [z])[0]
        return value**2 * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    # Cut at 0, where most kinks are.
    ends = ((-FARTHEST, 0.0), (0.0, FARTHEST))
    with warnings.catch_warnings():
        # In single precision it cannot reach what is asked for.
        warnings.simplefilter("ignore", integrate.IntegrationWarning)
        parts = [
            integrate.quad(squared, *pair, epsabs=1e-13, epsrel=1e-12, limit=200) for pair in ends
        ]
    return sum(part[0] for part in parts)
