"""Activations with kinks: piecewise linear ones, and smooth pieces joined at kinks.

The four scaled-bounded families are linear on [-a, a] and bounded by their value at a
(Definition 2.1 of [1]); the other pieces follow the names of the deep-learning frameworks.

References
----------
[1] M. Murray, V. Abrol, J. Tanner, Activation function design for deep networks:
    linearity and effective initialisation, arXiv:2105.07741 (2021).
"""

import jax.numpy as jnp

from meanfield.activations.base import Activation, parameter, positive
from meanfield.activations.piecewise_linear import PiecewiseLinear
from meanfield.activations.registry import register_activation
from meanfield.typing import Array, ScalarLike

MURRAY = "Murray, Abrol and Tanner 2021, Figure 3"


@register_activation("linear", formula="x", source="identity")
class Linear(PiecewiseLinear):
    """φ(x) = x."""

    odd = True

    def __call__(self, x: Array) -> Array:
        return x


@register_activation("relu", formula="max(x, 0)", source="Nair and Hinton 2010")
class Relu(PiecewiseLinear):
    """φ(x) = max(x, 0)."""

    def __call__(self, x: Array) -> Array:
        return jnp.maximum(x, 0.0)

    def slope(self, x: Array) -> Array:
        return jnp.where(x > 0, 1.0, 0.0)

    def kinks(self) -> tuple[ScalarLike, ...]:
        return (0.0,)


@register_activation(
    "leaky_relu", formula="x if x > 0 else negative_slope·x", source="Maas, Hannun and Ng 2013"
)
class LeakyRelu(PiecewiseLinear):
    """φ(x) = x for x > 0, negative_slope·x below."""

    negative_slope: ScalarLike = parameter(0.01, "finite", lambda value: value == value)

    def __call__(self, x: Array) -> Array:
        return jnp.where(x > 0, x, self.negative_slope * x)

    def slope(self, x: Array) -> Array:
        return jnp.where(x > 0, 1.0, self.negative_slope)

    def kinks(self) -> tuple[ScalarLike, ...]:
        return (0.0,)


@register_activation("abs", formula="|x|", source="absolute value")
class Abs(PiecewiseLinear):
    """φ(x) = |x|."""

    def __call__(self, x: Array) -> Array:
        return jnp.abs(x)

    def slope(self, x: Array) -> Array:
        return jnp.where(x > 0, 1.0, -1.0)

    def kinks(self) -> tuple[ScalarLike, ...]:
        return (0.0,)


@register_activation("relu6", formula="min(max(x, 0), 6)", source="Krizhevsky 2010")
class Relu6(PiecewiseLinear):
    """φ(x) = clip(x, 0, 6)."""

    def __call__(self, x: Array) -> Array:
        return jnp.clip(x, 0.0, 6.0)

    def slope(self, x: Array) -> Array:
        return jnp.where((x > 0) & (x < 6), 1.0, 0.0)

    def kinks(self) -> tuple[ScalarLike, ...]:
        return (0.0, 6.0)


@register_activation("hard_tanh", formula="min(max(x, -a), a)", source="Collobert 2004")
class HardTanh(PiecewiseLinear):
    """φ(x) = clip(x, -a, a)."""

    odd = True

    a: ScalarLike = positive(1.0)

    def standard(self) -> tuple[Activation, ScalarLike, ScalarLike]:
        return HardTanh(), self.a, self.a

    def __call__(self, x: Array) -> Array:
        return jnp.clip(x, -self.a, self.a)

    def slope(self, x: Array) -> Array:
        return jnp.where(jnp.abs(x) < self.a, 1.0, 0.0)

    def kinks(self) -> tuple[ScalarLike, ...]:
        return (-self.a, self.a)


@register_activation(
    "shtanh", formula="k·min(max(x, -a), a)", source="Murray, Abrol and Tanner 2021, eq. 14"
)
class Shtanh(PiecewiseLinear):
    """φ(x) = k·clip(x, -a, a), the extremal scaled-bounded activation."""

    odd = True

    a: ScalarLike = positive(1.0)
    k: ScalarLike = positive(1.0)

    def standard(self) -> tuple[Activation, ScalarLike, ScalarLike]:
        return HardTanh(), self.a, jnp.asarray(self.a) * self.k

    def __call__(self, x: Array) -> Array:
        return jnp.clip(x, -self.a, self.a) * jnp.asarray(self.k)

    def slope(self, x: Array) -> Array:
        return jnp.where(jnp.abs(x) < self.a, 1.0, 0.0) * self.k

    def kinks(self) -> tuple[ScalarLike, ...]:
        return (-self.a, self.a)


@register_activation("ssaw", formula="x if |x| ≤ a else sign(x)·max(2a - |x|, 0)", source=MURRAY)
class Ssaw(PiecewiseLinear):
    """φ(x) = x on [-a, a], falling back to 0 at ±2a and 0 beyond."""

    odd = True

    a: ScalarLike = positive(1.0)

    def standard(self) -> tuple[Activation, ScalarLike, ScalarLike]:
        return Ssaw(), self.a, self.a

    def __call__(self, x: Array) -> Array:
        size = jnp.abs(x)
        return jnp.where(size <= self.a, x, jnp.sign(x) * jnp.maximum(2.0 * self.a - size, 0.0))

    def slope(self, x: Array) -> Array:
        size = jnp.abs(x)
        return jnp.where(size < self.a, 1.0, jnp.where(size < 2.0 * self.a, -1.0, 0.0))

    def kinks(self) -> tuple[ScalarLike, ...]:
        return (-2.0 * self.a, -self.a, self.a, 2.0 * self.a)


@register_activation(
    "ssin", formula="x if |x| ≤ a else sign(x)·(a - 1 + cos(|x| - a))", source=MURRAY
)
class Ssin(Activation):
    """φ(x) = x on [-a, a], a sine wave between a - 2 and a beyond."""

    odd = True
    continuous = True
    a: ScalarLike = parameter(1.0, ">= 1 (below, |φ| exceeds a)", lambda a: a >= 1)

    def __call__(self, x: Array) -> Array:
        size = jnp.abs(x)
        tail = jnp.sign(x) * (self.a - 1.0 + jnp.cos(size - self.a))
        return jnp.where(size <= self.a, x, tail)

    def slope(self, x: Array) -> Array:
        size = jnp.abs(x)
        return jnp.where(size <= self.a, 1.0, -jnp.sin(size - self.a))

    def kinks(self) -> tuple[ScalarLike, ...]:
        return (-self.a, self.a)


@register_activation(
    "sexp", formula="x if |x| ≤ a else sign(x)·(a - 1 + exp(a - |x|))", source=MURRAY
)
class Sexp(Activation):
    """φ(x) = x on [-a, a], decaying exponentially to a - 1 beyond."""

    odd = True
    continuous = True

    a: ScalarLike = parameter(1.0, ">= 1/2 (below, |φ| exceeds a)", lambda a: a >= 0.5)

    def __call__(self, x: Array) -> Array:
        size = jnp.abs(x)
        tail = jnp.sign(x) * (self.a - 1.0 + jnp.exp(jnp.minimum(self.a - size, 0.0)))
        return jnp.where(size <= self.a, x, tail)

    def slope(self, x: Array) -> Array:
        size = jnp.abs(x)
        return jnp.where(size <= self.a, 1.0, -jnp.exp(jnp.minimum(self.a - size, 0.0)))

    def kinks(self) -> tuple[ScalarLike, ...]:
        return (-self.a, self.a)


def _exponential_unit(x: Array, alpha: ScalarLike) -> Array:
    return jnp.where(x > 0, x, alpha * jnp.expm1(jnp.minimum(x, 0.0)))


@register_activation(
    "elu", formula="x if x > 0 else alpha·(exp(x) - 1)", source="Clevert et al. 2016"
)
class Elu(Activation):
    """φ(x) = x for x > 0, alpha·(e^x - 1) below."""

    continuous = True

    alpha: ScalarLike = positive(1.0)

    def __call__(self, x: Array) -> Array:
        return _exponential_unit(x, self.alpha)

    def kinks(self) -> tuple[ScalarLike, ...]:
        return (0.0,)


SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717


@register_activation(
    "selu",
    formula="1.0507·(x if x > 0 else 1.6733·(exp(x) - 1))",
    source="Klambauer et al. 2017",
)
class Selu(Activation):
    """The ELU scaled so that E φ(z) = 0 and E φ(z)² = 1."""

    continuous = True

    def __call__(self, x: Array) -> Array:
        return SELU_SCALE * _exponential_unit(x, SELU_ALPHA)

    def kinks(self) -> tuple[ScalarLike, ...]:
        return (0.0,)


@register_activation(
    "celu", formula="x if x > 0 else alpha·(exp(x/alpha) - 1)", source="Barron 2017"
)
class Celu(Activation):
    """φ(x) = x for x > 0, alpha·(e^(x/alpha) - 1) below: slope 1 from both sides."""

    continuous = True

    alpha: ScalarLike = positive(1.0)

    def standard(self) -> tuple[Activation, ScalarLike, ScalarLike]:
        return Celu(), self.alpha, self.alpha

    def __call__(self, x: Array) -> Array:
        return jnp.asarray(self.alpha) * _exponential_unit(x / self.alpha, 1.0)

    def kinks(self) -> tuple[ScalarLike, ...]:
        return (0.0,)


@register_activation("hard_swish", formula="x·min(max(x + 3, 0), 6)/6", source="Howard et al. 2019")
class HardSwish(Activation):
    """φ(x) = x·clip(x + 3, 0, 6)/6."""

    continuous = True

    def __call__(self, x: Array) -> Array:
        return x * jnp.clip(x + 3.0, 0.0, 6.0) / 6.0

    def kinks(self) -> tuple[ScalarLike, ...]:
        return (-3.0, 3.0)


@register_activation("softsign", formula="x/(1 + |x|)", source="Bergstra et al. 2009")
class Softsign(Activation):
    """φ(x) = x/(1 + |x|); φ'' jumps at 0."""

    odd = True
    continuous = True

    def __call__(self, x: Array) -> Array:
        return x / (1.0 + jnp.abs(x))

    def slope(self, x: Array) -> Array:
        return (1.0 + jnp.abs(x)) ** -2

    def kinks(self) -> tuple[ScalarLike, ...]:
        return (0.0,)


@register_activation(
    "srelu",
    formula="max(x, 0) smoothed over |x| < delta: (x + delta)³(3 delta - x)/(16 delta³)",
    source="S-ReLU, Mathematics 14 (2026) 72",
)
class Srelu(Activation):
    """ReLU mollified by an Epanechnikov kernel of radius delta; φ''' jumps at ±delta."""

    continuous = True

    delta: ScalarLike = positive(1.0)

    def standard(self) -> tuple[Activation, ScalarLike, ScalarLike]:
        return Srelu(), self.delta, self.delta

    def __call__(self, x: Array) -> Array:
        t = jnp.clip(x / self.delta, -1.0, 1.0)
        return jnp.where(x >= self.delta, x, self.delta * (t + 1.0) ** 3 * (3.0 - t) / 16.0)

    def slope(self, x: Array) -> Array:
        t = jnp.clip(x / self.delta, -1.0, 1.0)
        return (t + 1.0) ** 2 * (2.0 - t) / 4.0

    def kinks(self) -> tuple[ScalarLike, ...]:
        return (-self.delta, self.delta)
