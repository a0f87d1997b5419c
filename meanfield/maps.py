"""What does a layer, or a stack of them, do to a correlation?

For two inputs of variance q and correlation c = 1 - ε, a layer returns the correlation

    C(c) = q12'/q',

with C(1) = 1 and, at a fixed point q of the variance map, C'(c) = σw² E φ'(u1) φ'(u2) [1].
Near c = 1 the map is used in the form ε → ε', which is exact relatively: a trajectory can be
followed to any depth without losing digits of 1 - c.

References
----------
[1] B. Poole et al., Exponential expressivity in deep neural networks through transient
    chaos, NeurIPS 2016, arXiv:1606.05340.
"""

from meanfield._elementwise import CORRELATION, DECORRELATION, POSITIVE, elementwise
from meanfield.layers import Layer
from meanfield.typing import Array, ScalarLike


@elementwise(host=True, q=POSITIVE, c=CORRELATION)
def correlation_map(layer: Layer, q: ScalarLike, c: ScalarLike) -> Array:
    """Return the correlation that follows c for two inputs of variance q > 0.

    All arguments broadcast, parameters of the layer included. NaN where the expectation is not
    resolved. Differentiable. For c within 1e-6 of 1 prefer `decorrelation_map`.
    """
    return 1.0 - layer.decorrelation(q, 1.0 - c)


@elementwise(host=True, q=POSITIVE, epsilon=DECORRELATION)
def decorrelation_map(layer: Layer, q: ScalarLike, epsilon: ScalarLike) -> Array:
    """Return ε' = 1 - C(1 - ε), relatively accurate for every ε in (0, 2]."""
    return layer.decorrelation(q, epsilon)


@elementwise(host=True, q=POSITIVE, c=CORRELATION)
def correlation_slope(layer: Layer, q: ScalarLike, c: ScalarLike) -> Array:
    """Return dC/dc at correlation c for two inputs of variance q > 0.

    At c = 1 and a fixed point q of the variance map this is χ1, inf if φ jumps.
    """
    return layer.correlation_slope(q, 1.0 - c)
