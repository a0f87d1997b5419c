"""Activation functions: built in, combined, and made from any callable."""

from meanfield.activations.base import Activation, parameter
from meanfield.activations.combinators import centre, scale, shift
from meanfield.activations.custom import from_callable
from meanfield.activations.gains import gain, torch_gain, variance_gain
from meanfield.activations.mollify import Mollified, mollify
from meanfield.activations.piecewise import (
    Abs,
    Celu,
    Elu,
    HardSwish,
    HardTanh,
    LeakyRelu,
    Linear,
    Relu,
    Relu6,
    Selu,
    Sexp,
    Shtanh,
    Softsign,
    Srelu,
    Ssaw,
    Ssin,
)
from meanfield.activations.piecewise_linear import PiecewiseLinear
from meanfield.activations.registry import activation, activations, register_activation
from meanfield.activations.scaled_bounded import is_scaled_bounded
from meanfield.activations.shape import Shape, inactive_fraction, saturated_fraction, shape
from meanfield.activations.smooth import (
    Arctan,
    Erf,
    Gaussian,
    Gelu,
    GeluTanh,
    Mish,
    Sigmoid,
    Sin,
    Softplus,
    Swish,
    Tanh,
    TanhExp,
)

__all__ = [
    "Abs",
    "Activation",
    "Arctan",
    "Celu",
    "Elu",
    "Erf",
    "Gaussian",
    "Gelu",
    "GeluTanh",
    "HardSwish",
    "HardTanh",
    "LeakyRelu",
    "Linear",
    "Mish",
    "Mollified",
    "PiecewiseLinear",
    "Relu",
    "Relu6",
    "Selu",
    "Sexp",
    "Shape",
    "Shtanh",
    "Sigmoid",
    "Sin",
    "Softplus",
    "Softsign",
    "Srelu",
    "Ssaw",
    "Ssin",
    "Swish",
    "Tanh",
    "TanhExp",
    "activation",
    "activations",
    "centre",
    "from_callable",
    "gain",
    "inactive_fraction",
    "is_scaled_bounded",
    "mollify",
    "parameter",
    "register_activation",
    "saturated_fraction",
    "scale",
    "shape",
    "shift",
    "torch_gain",
    "variance_gain",
]
