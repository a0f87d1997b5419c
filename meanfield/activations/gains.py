"""Gains: the weight scale that keeps the size of a signal through one activation.

Weights of standard deviation σ_w/√fan_in make pre-activations u = √q z, z ~ N(0, 1), with
q' = σ_w² E φ(u)². At q = 1 the variance is kept by

    σ_w = gain(φ) = 1 / √(E φ(z)²),

which is √2 for ReLU (He et al. [1]). Only for a positively homogeneous φ does it keep every
variance; elsewhere q = 1 is a fixed point which may be unstable, as it is for the GELU and
the Swish, and correlations and gradients need criticality, not a gain.

It is also the weight scale of AutoInit [3] behind an activation that receives N(0, 1).
Normaliser-free networks [4] scale the activation instead, by 1/√Var φ(z), and their weights remove
its mean.

PyTorch's `calculate_gain` [2] agrees for linear, ReLU and leaky ReLU only. It says 5/3 for
tanh (exactly 1.5925), 1 for the sigmoid (1.8462), and 3/4 for the SELU, whose gain is 1 by
construction: [2] explains that this gives up the normalisation for a stabler gradient.

References
----------
[1] K. He, X. Zhang, S. Ren, J. Sun, Delving deep into rectifiers: surpassing human-level
    performance on ImageNet classification, ICCV 2015, arXiv:1502.01852.
[2] PyTorch documentation, torch.nn.init.calculate_gain,
    https://docs.pytorch.org/docs/stable/nn.init.html
[3] G. Bingham, R. Miikkulainen, AutoInit: analytic signal-preserving weight initialization for
    neural networks, AAAI 2023, arXiv:2109.08958.
[4] A. Brock, S. De, S. Smith, Characterizing signal propagation to close the performance gap in
    unnormalized ResNets, ICLR 2021, arXiv:2101.08692.
"""

import math

import jax.numpy as jnp

from meanfield.activations.base import Activation
from meanfield.activations.piecewise import LeakyRelu, Linear, Relu, Selu
from meanfield.activations.smooth import Sigmoid, Tanh
from meanfield.typing import Array

# Leaky ReLU, whose gain depends on its slope, is the sixth that PyTorch knows.
TORCH_GAINS: dict[type[Activation], float] = {
    Linear: 1.0,
    Sigmoid: 1.0,
    Tanh: 5 / 3,
    Relu: math.sqrt(2.0),
    Selu: 3 / 4,
}


def gain(phi: Activation) -> Array:
    """Return 1/√(E φ(z)²), z ~ N(0, 1): the σ_w that keeps unit variance.

    Right to rounding, differentiable in the parameters of φ; inf if φ vanishes, NaN where
    the expectation is not resolved.
    """
    return 1.0 / jnp.sqrt(phi.second_moment(1.0))


def variance_gain(phi: Activation) -> Array:
    """Return 1/√(Var φ(z)), z ~ N(0, 1): the factor of φ that gives its output unit variance.

    Right to rounding but for 1e-16 (E φ)²/Var φ, differentiable in the parameters of φ; inf if φ is
    constant, NaN where an expectation is not resolved.
    """
    return 1.0 / jnp.sqrt(phi.second_moment(1.0) - jnp.square(phi.mean(1.0)))


def torch_gain(phi: Activation) -> float | None:
    """Return what `torch.nn.init.calculate_gain` returns, None where it knows no such φ.

    It knows linear, sigmoid, tanh, relu, leaky_relu and selu; combinations of activations it
    does not. The parameters of φ must be concrete.
    """
    if isinstance(phi, LeakyRelu):
        slope = float(phi.negative_slope)  # pyright: ignore[reportAttributeAccessIssue]
        return math.sqrt(2.0 / (1.0 + slope**2))
    return TORCH_GAINS.get(type(phi))
