"""Analytic activations: no kinks.

The Gaussian statistics of `erf` and `sin` are elementary; kernels that hold φ use them. `sin`
oscillates, which no fixed rule resolves at every variance.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.activations.base import Activation, positive
from meanfield.activations.pair_rules import by_price, decorrelation_rate
from meanfield.activations.registry import register_activation
from meanfield.gaussian import TINY
from meanfield.typing import Array, ScalarLike


@register_activation("tanh", formula="tanh(x)", source="LeCun et al. 1998")
class Tanh(Activation):
    """φ(x) = tanh x."""

    odd = True

    def __call__(self, x: Array) -> Array:
        return jnp.tanh(x)


@register_activation("erf", formula="erf(x)", source="Williams 1997")
class Erf(Activation):
    """φ(x) = erf x, with E erf(u1) erf(u2) = (2/π) arcsin(2 q12/√((1 + 2q1)(1 + 2q2))) [1].

    References
    ----------
    [1] C. Williams, Computing with infinite networks, NeurIPS 1996.
    """

    odd = True

    def __call__(self, x: Array) -> Array:
        return jax.scipy.special.erf(x)

    def second_moment(self, q: ScalarLike) -> Array:
        return 2 / np.pi * jnp.arctan(2.0 * q / jnp.sqrt(1.0 + 4.0 * q))

    def slope_moment(self, q: ScalarLike, power: int) -> Array:
        return (4 / math.pi) ** (power / 2) / jnp.sqrt(1.0 + 2.0 * power * jnp.asarray(q))

    def variance_slope(self, q: ScalarLike) -> Array:
        q = jnp.asarray(q)
        return 4 / np.pi / ((1.0 + 2.0 * q) * jnp.sqrt(1.0 + 4.0 * q))

    def covariance(self, q1: ScalarLike, q2: ScalarLike, epsilon: ScalarLike) -> Array:
        root = jnp.sqrt(jnp.asarray(q1, dtype=float) * q2)
        spread = jnp.sqrt(self._spread(q1, q2, epsilon))
        return 2 / np.pi * jnp.arctan(2 * root * (1 - epsilon) / spread)

    def slope_covariance(self, q1: ScalarLike, q2: ScalarLike, epsilon: ScalarLike) -> Array:
        return 4 / np.pi / jnp.sqrt(self._spread(q1, q2, epsilon))

    @staticmethod
    def _spread(q1: ScalarLike, q2: ScalarLike, epsilon: ScalarLike) -> Array:
        """Return (1 + 2q1)(1 + 2q2) - 4 q12²."""
        return jnp.asarray(1 + 2.0 * q1 + 2.0 * q2 + 4.0 * q1 * q2 * epsilon * (2.0 - epsilon))

    @by_price(decorrelation_rate)
    def decorrelation(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        # arcsin a - arcsin b = 2 arctan((a - b)/(√(1 - a²) + √(1 - b²))).
        x = jnp.maximum(q * epsilon, TINY)
        roots = jnp.sqrt(self._spread(q, q, 0.0)) + jnp.sqrt(self._spread(q, q, epsilon))
        return 4 / np.pi * jnp.arctan(2 * x / roots) / x

    def slope_gap(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        near, far = self._spread(q, q, 0.0), self._spread(q, q, epsilon)
        s, t = jnp.sqrt(near), jnp.sqrt(far)
        return (
            16 / np.pi * jnp.square(q) * epsilon * (2.0 - jnp.asarray(epsilon)) / (s * t * (s + t))
        )

    def smooth_curvature_moment(self, q: ScalarLike) -> Array:
        q = jnp.asarray(q)
        return 16 / np.pi * q / (1.0 + 4.0 * q) ** 1.5


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
    """φ(x) = sin x, with E sin u1 sin u2 = e^(-(q1 + q2)/2) sinh(cov(u1, u2)) and the like."""

    odd = True
    oscillates = True

    def __call__(self, x: Array) -> Array:
        return jnp.sin(x)

    def second_moment(self, q: ScalarLike) -> Array:
        return -jnp.expm1(-2.0 * q) / 2

    def slope_moment(self, q: ScalarLike, power: int) -> Array:
        if power == 2:
            return (1.0 + jnp.exp(-2.0 * q)) / 2
        if power == 4:
            return (3.0 + 4.0 * jnp.exp(-2.0 * q) + jnp.exp(-8.0 * q)) / 8
        return super().slope_moment(q, power)

    def variance_slope(self, q: ScalarLike) -> Array:
        return jnp.exp(-2.0 * q)

    def covariance(self, q1: ScalarLike, q2: ScalarLike, epsilon: ScalarLike) -> Array:
        near, far = self._waves(q1, q2, epsilon)
        return (near - far) / 2

    def slope_covariance(self, q1: ScalarLike, q2: ScalarLike, epsilon: ScalarLike) -> Array:
        near, far = self._waves(q1, q2, epsilon)
        return (near + far) / 2

    @staticmethod
    def _waves(q1: ScalarLike, q2: ScalarLike, epsilon: ScalarLike) -> tuple[Array, Array]:
        """Return E cos(u1 - u2) and E cos(u1 + u2)."""
        root = jnp.sqrt(jnp.asarray(q1, dtype=float) * q2)
        gap = (jnp.sqrt(jnp.asarray(q1, dtype=float)) - jnp.sqrt(q2)) ** 2
        return (
            jnp.exp(-(gap + 2.0 * root * epsilon) / 2),
            jnp.exp(-(gap + 2.0 * root * (2.0 - epsilon)) / 2),
        )

    @by_price(decorrelation_rate)
    def decorrelation(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        x = jnp.maximum(q * epsilon, TINY)
        return -jnp.expm1(-x) * (1.0 + jnp.exp(x - 2.0 * q)) / (2 * x)

    def slope_gap(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        x = jnp.asarray(q * epsilon, dtype=float)
        return jnp.expm1(-x) * jnp.expm1(x - 2.0 * q) / 2

    def smooth_curvature_moment(self, q: ScalarLike) -> Array:
        return self.second_moment(q)

    def separation(
        self, q1: ScalarLike, q2: ScalarLike, epsilon: ScalarLike, s: ScalarLike, t: ScalarLike
    ) -> Array:
        own = jnp.square(s) * self.second_moment(q1) + jnp.square(t) * self.second_moment(q2)
        return own / 2 - s * t * self.covariance(q1, q2, epsilon)
