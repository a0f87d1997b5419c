"""The edge of chaos: where the correlation map has slope one at c = 1.

A dense layer with activation φ sends the variance q of its pre-activations to

    V(q) = σw² E φ(√q z)² + σb²,

and its correlation map has, at c = 1, the slope χ(q) = σw² E φ'(√q z)². The network is critical
when V(q) = q and χ(q) = 1 [1, 2]. Both conditions are linear in (σw², σb²), so every variance
q names exactly one candidate,

    σw²(q) = 1 / E φ'²,        σb²(q) = (q E φ'² - E φ²) / E φ'².                    (*)

`critical_point` evaluates (*) and `edge_of_chaos` inverts its second half. There is no
fixed-point iteration, so the edge is as accurate as the quadrature.

For a scale-invariant φ (ReLU, |x|, x) the second half of (*) vanishes identically: the edge is
one point, σb = 0, and every variance is fixed there.

References
----------
[1] B. Poole et al., Exponential expressivity in deep neural networks through transient
    chaos, NeurIPS 2016, arXiv:1606.05340.
[2] S. Schoenholz et al., Deep information propagation, ICLR 2017, arXiv:1611.01232.
"""

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._struct import NON_NEGATIVE, POSITIVE, elementwise, struct
from meanfield.activations.base import Activation
from meanfield.errors import Status
from meanfield.rootfind import close_bracket, implicit, scan
from meanfield.typing import Array, ScalarLike

# Critical variances are looked for on this grid in log q, from σb² upwards; where σb = 0,
# from SMALLEST.
SMALLEST, LARGEST = 1e-10, 1e10
GRID_STEP = 0.2
# The limit as q vanishes is read off here.
FAINTEST = 1e-30
# φ is scale-invariant if q E φ'² = E φ² at all of these.
LEVELS = (1e-6, 1.0, 1e6)


@struct
class CriticalPoint:
    """A critical network: variance `q`, its standard deviations, `slope` V'(q), a status."""

    q: Array
    sigma_w: Array
    sigma_b: Array
    slope: Array
    status: Array


@elementwise(q=POSITIVE)
def critical_point(phi: Activation, q: ScalarLike) -> CriticalPoint:
    """Return the critical network whose fixed-point variance is q > 0.

    Arguments broadcast. The status is NO_SOLUTION where (*) asks for a negative bias variance
    or φ jumps, NOT_CONVERGED where an expectation is unresolved. Differentiable.
    """
    return _candidate(phi, jnp.asarray(q))


def _candidate(phi: Activation, q: Array) -> CriticalPoint:
    mean_slope = phi.slope_moment(q, 2)
    bias_variance = phi.edge_deficit(q) / mean_slope
    sigma_w = 1 / jnp.sqrt(mean_slope)
    # The inner condition keeps the derivative of the root finite where it is 0.
    positive = bias_variance > 0
    sigma_b = jnp.where(positive, jnp.sqrt(jnp.where(positive, bias_variance, 1.0)), 0.0)
    slope = phi.variance_slope(q) / mean_slope
    resolved = jnp.isfinite(sigma_w) & jnp.isfinite(bias_variance) & jnp.isfinite(slope)
    status = jnp.where(
        jnp.isinf(mean_slope) | (resolved & (bias_variance < 0)),
        Status.NO_SOLUTION,
        jnp.where(resolved, Status.OK, Status.NOT_CONVERGED),
    )
    return _masked(CriticalPoint(q, sigma_w, sigma_b, slope, status))


def _masked(point: CriticalPoint) -> CriticalPoint:
    ok = point.status == Status.OK
    numbers = (point.q, point.sigma_w, point.sigma_b, point.slope)
    return CriticalPoint(
        *(jnp.where(ok, x, jnp.nan) for x in numbers), status=point.status.astype(jnp.int8)
    )


@elementwise(sigma_b=NON_NEGATIVE)
def edge_of_chaos(phi: Activation, sigma_b: ScalarLike) -> CriticalPoint:
    """Return the critical network with biases of standard deviation `sigma_b` >= 0.

    Arguments broadcast. Where several exist, it is the one of smallest q. For an activation
    that is scale-invariant every q is fixed at σb = 0, and q = 1 stands for them; where the
    edge starts at q = 0 (σb = 0, tanh), q is 0. The status is NO_SOLUTION where no edge
    exists at this σb, NOT_CONVERGED where the search met an unresolved expectation.
    Differentiable by the implicit function theorem for σb > 0.
    """
    sigma_b = jnp.asarray(sigma_b)
    wanted = jnp.square(sigma_b)

    def excess(t: Array) -> Array:
        q = jnp.exp(t)
        return (phi.edge_deficit(q) / phi.slope_moment(q, 2) - wanted) / q

    # q* = σw² E φ² + σb² is at least σb²: below, the excess is negative.
    start = jnp.log(jnp.where(wanted > 0, wanted, SMALLEST))
    steps = jnp.ceil((np.log(LARGEST) - start) / GRID_STEP)
    bracket, crosses, blind = scan(excess, start, GRID_STEP, steps)
    t = close_bracket(excess, bracket)
    t = implicit(t, *jax.jvp(excess, (t,), (jnp.ones_like(t),)))

    invariant = (jax.lax.map(phi.edge_deficit, jnp.asarray(LEVELS)) == 0).all()
    everywhere = (wanted == 0) & invariant
    from_zero = (wanted == 0) & ~invariant & (excess(start) >= 0)
    crosses = crosses & ~everywhere & ~from_zero
    q = jnp.where(everywhere, 1.0, jnp.where(crosses, jnp.exp(t), FAINTEST))
    point = _candidate(phi, q)

    exists = everywhere | from_zero | crosses
    # A jump of φ makes χ infinite: no σw is small enough.
    jumps = jnp.isinf(phi.slope_moment(jnp.ones(()), 2))
    absent = jnp.where(blind & ~jumps, Status.NOT_CONVERGED, Status.NO_SOLUTION)
    return _masked(
        CriticalPoint(
            q=jnp.where(from_zero, 0.0, q),
            sigma_w=point.sigma_w,
            sigma_b=sigma_b,
            slope=point.slope,
            status=jnp.where(exists, point.status, absent),
        )
    )
