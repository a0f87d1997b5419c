"""The first two moments of the squared singular values of a deep network's Jacobian.

Where every layer sees the variance q, with layer mean χ and relative variance v [1],

    m1 = χ^L,        m2 = m1² (1 + L v),        variance m2 - m1² = L v m1².

For a dense layer v = μ2/μ1² - 1 - s1 with μ_k = E φ'(√q z)^(2k), and s1 = -1 for Gaussian, 0 for
orthogonal weights: eqs (12) and (13) of [2].

References
----------
[1] J. Pennington, S. Schoenholz, S. Ganguli, The emergence of spectral universality in deep
    networks, AISTATS 2018, arXiv:1802.09979.
[2] M. Murray, V. Abrol, J. Tanner, Activation function design for deep networks:
    linearity and effective initialisation, arXiv:2105.07741 (2021).
"""

import jax
import numpy as np

from meanfield._elementwise import NOT_NEGATIVE, POSITIVE, elementwise, namespace
from meanfield._struct import struct
from meanfield.activations.base import Activation
from meanfield.errors import Status
from meanfield.layers import Layer, Moments
from meanfield.typing import Array, ScalarLike

# A relative variance below this is rounding: orthogonal weights and a slope of one size.
ROUNDING = 1e-14
DEPTH = (
    lambda depth: (depth == 0) | ((depth >= 1) & (depth < np.inf)),
    "0 or a finite number >= 1",
)


@struct
class JacobianMoments:
    """Moments of the squared singular values, and their logarithms for deep networks."""

    m1: Array
    m2: Array
    variance: Array
    log_m1: Array
    log_m2: Array
    log_variance: Array
    status: Array


@elementwise(host=True, q=POSITIVE, depth=DEPTH)
def jacobian_moments(layer: Layer, q: ScalarLike, depth: ScalarLike) -> JacobianMoments:
    """Return the moments for `depth` repetitions of a layer at fixed variance q > 0.

    Arguments broadcast; the depth is at least 1, or 0, which is the identity. Where m1 or m2
    leaves double precision its logarithm still holds. The status is NONFINITE where φ jumps,
    NOT_CONVERGED where an expectation is unresolved.
    """
    xp = namespace(q, depth)
    moments = layer.moments(q)
    # Of no layer the moments are those of the identity, whatever a layer's are.
    none = xp.asarray(depth) == 0
    moments = jax.tree.map(lambda x, y: xp.where(none, x, y), Moments(1.0, 0.0), moments)  # pyright: ignore[reportArgumentType]
    log_m1 = depth * xp.log(moments.mean)
    spread = moments.relative_variance
    spread = depth * xp.where(xp.abs(spread) < ROUNDING, 0.0, spread)
    log_m2 = 2 * log_m1 + xp.log1p(spread)
    log_variance = 2 * log_m1 + xp.log(spread)
    known = xp.isfinite(moments.mean) & xp.isfinite(moments.relative_variance)
    infinite = xp.isinf(moments.mean) | xp.isinf(moments.relative_variance)
    bad = xp.where(infinite, Status.NONFINITE, Status.NOT_CONVERGED)
    values = (xp.exp(x) for x in (log_m1, log_m2, log_variance))
    fields = (xp.where(known, x, xp.nan) for x in (*values, log_m1, log_m2, log_variance))
    return JacobianMoments(*fields, status=xp.where(known, Status.OK, bad).astype(np.int8))


@elementwise(host=True, q=NOT_NEGATIVE)
def slope_kurtosis(phi: Activation, q: ScalarLike) -> Array:
    """Return μ2/μ1² = E φ'⁴/(E φ'²)² of pre-activations of variance q > 0; they broadcast."""
    return phi.slope_moment(q, 4) / phi.slope_moment(q, 2) ** 2
