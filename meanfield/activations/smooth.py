"""Analytic activations: no kinks."""

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.activations.base import Activation, positive
from meanfield.activations.registry import register_activation
from meanfield.typing import Array, ScalarLike


@register_activation("tanh", formula="tanh(x)", source="LeCun et al. 1998")
class Tanh(Activation):
    """φ(x) = tanh x."""

    odd = True

    def __call__(self, x: Array) -> Array:
        return jnp.tanh(x)


@register_activation("erf", formula="erf(x)", source="Williams 1997")
class Erf(Activation):
    """φ(x) = erf x."""

    odd = True

    def __call__(self, x: Array) -> Array:
        return jax.scipy.special.erf(x)


@register_activation("sigmoid", formula="1/(1 + exp(-x))", source="logistic function")
class Sigmoid(Activation):
    """φ(x) = 1/(1 + e^-x)."""

    def __call__(self, x: Array) -> Array:
        return jax.nn.sigmoid(x)


@register_activation("arctan", formula="arctan(x)", source="inverse tangent")
class Arctan(Activation):
    """φ(x) = arctan x."""

    odd = True

    def __call__(self, x: Array) -> Array:
        return jnp.arctan(x)

    def slope(self, x: Array) -> Array:
        return 1.0 / (1.0 + x * x)


@register_activation("gaussian", formula="exp(-x²)", source="Gaussian bump")
class Gaussian(Activation):
    """φ(x) = exp(-x²)."""

    def __call__(self, x: Array) -> Array:
        return jnp.exp(-x * x)


@register_activation("softplus", formula="log(1 + exp(beta·x))/beta", source="Dugas et al. 2001")
class Softplus(Activation):
    """φ(x) = log(1 + e^(beta x))/beta, a smooth ReLU."""

    beta: ScalarLike = positive(1.0)

    def standard(self) -> tuple[Activation, ScalarLike, ScalarLike]:
        return Softplus(), 1 / jnp.asarray(self.beta), 1 / jnp.asarray(self.beta)

    def __call__(self, x: Array) -> Array:
        return jax.nn.softplus(self.beta * x) / self.beta

    def slope(self, x: Array) -> Array:
        return jax.nn.sigmoid(self.beta * x)


@register_activation(
    "swish", "silu", formula="x/(1 + exp(-beta·x))", source="Ramachandran et al. 2017"
)
class Swish(Activation):
    """φ(x) = x·sigmoid(beta x); beta = 1 is the SiLU."""

    beta: ScalarLike = positive(1.0)

    def standard(self) -> tuple[Activation, ScalarLike, ScalarLike]:
        return Swish(), 1 / jnp.asarray(self.beta), 1 / jnp.asarray(self.beta)

    def __call__(self, x: Array) -> Array:
        return x * jax.nn.sigmoid(self.beta * x)


@register_activation("gelu", formula="x·Φ(x)", source="Hendrycks and Gimpel 2016")
class Gelu(Activation):
    """φ(x) = x Φ(x), Φ the normal distribution function."""

    def __call__(self, x: Array) -> Array:
        # Unlike 1 + erf, right to rounding in the lower tail.
        return x * jax.scipy.special.ndtr(x)


@register_activation(
    "gelu_tanh",
    formula="x·(1 + tanh(√(2/π)·(x + 0.044715 x³)))/2",
    source="Hendrycks and Gimpel 2016, approximation",
)
class GeluTanh(Activation):
    """The tanh approximation of the GELU."""

    def __call__(self, x: Array) -> Array:
        return x * jax.nn.sigmoid(np.sqrt(8 / np.pi) * (x + 0.044715 * x**3))


@register_activation("mish", formula="x·tanh(log(1 + exp(x)))", source="Misra 2019")
class Mish(Activation):
    """φ(x) = x tanh(softplus(x))."""

    def __call__(self, x: Array) -> Array:
        return x * jnp.tanh(jax.nn.softplus(x))


@register_activation("tanhexp", formula="x·tanh(exp(x))", source="Liu and Di 2020")
class TanhExp(Activation):
    """φ(x) = x tanh(e^x)."""

    def __call__(self, x: Array) -> Array:
        # tanh(e^6) is 1 to double precision; e^x itself would overflow.
        return x * jnp.tanh(jnp.exp(jnp.minimum(x, 6.0)))


@register_activation("sin", formula="sin(x)", source="Sitzmann et al. 2020")
class Sin(Activation):
    """φ(x) = sin x."""

    odd = True

    def __call__(self, x: Array) -> Array:
        return jnp.sin(x)
