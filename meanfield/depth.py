"""How deep do signals and gradients reach?

Near its fixed points a deep network forgets exponentially. Per layer [1]

    |q_l - q*|  shrinks by V'(q*),                  ξ_q  = -1/log |V'(q*)|,
    |c_l - c*|  shrinks by C'(c*),                  ξ_c  = -1/log C'(c*),
    E |∂loss/∂h|²  grows by χ1 towards the input,   ξ_∇  = -1/log χ1,

and a network can be trained to a depth of some 6 ξ_c. On the edge ξ_c and ξ_∇ are infinite (how
slowly correlations then converge is the question of `meanfield.rates`); in the chaotic
phase ξ_∇ is negative: gradients explode.

References
----------
[1] S. Schoenholz et al., Deep information propagation, ICLR 2017, arXiv:1611.01232.
"""

from meanfield._elementwise import elementwise, namespace
from meanfield._struct import struct
from meanfield.errors import Status
from meanfield.fixedpoint import ON_EDGE, CorrelationFixedPoint, SteadyState
from meanfield.layers import Layer
from meanfield.limits import limits
from meanfield.method import Method
from meanfield.typing import Array, ScalarLike


@struct
class DepthScales:
    """Depths in layers: `xi_q` of variances, `xi_c` of correlations, `xi_grad` of gradients."""

    xi_q: Array
    xi_c: Array
    xi_grad: Array
    status: Array


def depth_scales(layer: Layer, q0: ScalarLike = 1.0, method: Method = "auto") -> DepthScales:
    """Return the depth scales at the steady state that an input of variance q0 > 0 reaches.

    They count passes of the layer: of the whole stack, if it is one. All arguments broadcast. ξ_c
    and ξ_∇ are inf on the edge of chaos, ξ_∇ is negative in the chaotic phase, and a scale of 0
    means that one layer suffices. The status is that of `correlation_fixed_point`; where the
    variance vanishes, ξ_q and ξ_∇ are the limits, and ξ_c, for correlations that freeze, is NaN.
    Differentiable away from the edge. The `method` is that of `meanfield.limits`.
    """
    return scales(*limits(layer, q0, method))


@elementwise(host=True)
def scales(state: SteadyState, limit: CorrelationFixedPoint) -> DepthScales:
    """Return the depth scales at a steady state and a limit that are known."""
    xp = namespace(state.slope, limit.slope)
    known = (limit.status == Status.OK) | (limit.status == Status.VANISHES)
    xi_q, xi_grad = (xp.where(known, scale(x), xp.nan) for x in (xp.abs(state.slope), state.chi))
    return DepthScales(xi_q, scale(limit.slope), xi_grad, limit.status)


def scale(factor: Array) -> Array:
    """Return the depth in which what `factor` >= 0 multiplies per layer falls to 1/e."""
    xp = namespace(factor)
    critical = xp.abs(factor - 1) <= ON_EDGE
    rate = -xp.log(xp.where(critical, 0.5, factor))
    return xp.where(critical, xp.inf, 1 / rate)
