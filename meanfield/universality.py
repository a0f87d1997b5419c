"""To which universality class does an activation belong?

A network is critical for one input when V'(q) = 1 and χ1 = 1 at a fixed point: neither its length
nor the distance to a neighbour is lost. Where activations have such points sorts them [1]:

    scale-invariant   φ(tx) = t φ(x): σb = 0, and every q is fixed (ReLU, |x|, x)
    K* = 0            φ(0) = 0, and at the critical σw the variance dies out like a power of
                      the depth: the point is q = 0 (tanh, sin, ELU)
    half-stable       q = 0 repels; V'(q) = 1 further along the edge, at K* > 0, which attracts
                      from one side (GELU, swish, mish)
    none              no such point (sigmoid), only a q = 0 that repels (TanhExp), or no edge at
                      all (softplus, S-ReLU)

An edge of chaos may exist without such a point: there χ1 = 1 but V' < 1. It does not exist where
q E φ'² < E φ² for every q. Of φ >= 0 with φ >= x φ' (convex smoothings of ReLU) this is a theorem:
E φ² >= E u φφ' = q (E φ'² + E φφ'') > q E φ'².

References
----------
[1] D. Roberts, S. Yaida, B. Hanin, The principles of deep learning theory, 2022,
    arXiv:2106.10165.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from meanfield._elementwise import elementwise
from meanfield._struct import on_host
from meanfield.activations.base import Activation, ActivationLike, single_activation
from meanfield.arguments import untraced
from meanfield.criticality import (
    CURVE_GRID,
    STEADY,
    CriticalPoint,
    critical_point,
    edge_curve,
    is_scale_invariant,
)
from meanfield.errors import Status
from meanfield.rates import convergence_rate
from meanfield.typing import Array, ScalarLike

# φ and xφ' are compared at these points and their negatives.
SAMPLES = np.geomspace(1e-4, 1e3, 141)
ROUNDING = 1e-12
NOWHERE = (np.nan, np.nan, np.nan)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What kind of activation φ is.

    `universality` is the class. `q`, `sigma_w`, `sigma_b` name its critical point: K* and the
    network that has it (q = 1 stands for all of a scale-invariant φ), NaN if there is none.
    `edge` says whether an edge of chaos exists at all, `why` explains. `smooth` says whether φ' is
    continuous, so that correlations on the edge converge like 1/l, not 1/l². `stable` says whether
    V attracts all along the edge; None without an edge, and where V' = 1 on all of it.
    """

    universality: str
    q: float
    sigma_w: float
    sigma_b: float
    edge: bool
    why: str
    smooth: bool
    stable: bool | None


@untraced
def classify(phi: ActivationLike) -> Verdict:
    """Return the universality class of an activation, and what its edge of chaos is like.

    Parameters must be numbers. The edge is searched for variances from 1e-8 to 1e8.
    """
    phi = single_activation(phi)
    smooth = not any(float(jump) for jump in (*phi.jumps(), *phi.slope_jumps()))
    points = on_host(critical_point(phi, np.exp(CURVE_GRID)))
    exists = np.asarray(points.status) == Status.OK
    if not exists.any():
        return Verdict("none", *NOWHERE, False, _why_no_edge(phi, points), smooth, None)
    slopes = np.asarray(points.slope)[exists]
    stable = bool((slopes <= 1 + STEADY).all())
    if is_scale_invariant(phi):
        sigma_w = float(points.sigma_w[0])
        why = f"every variance is fixed, and critical at σw = {sigma_w:.12g}, σb = 0"
        return Verdict("scale-invariant", 1.0, sigma_w, 0.0, True, why, smooth, None)
    if (np.abs(slopes - 1) <= STEADY).all():
        logs = CURVE_GRID[exists]
        point = on_host(critical_point(phi, np.exp(logs[np.abs(logs).argmin()])))
        q, sigma_w, sigma_b = (float(x) for x in (point.q, point.sigma_w, point.sigma_b))
        why = (
            f"V'(q) = 1 all along the edge; q = {q:.12g}, σw = {sigma_w:.12g}, σb = {sigma_b:.12g}"
        )
        why += " is one of its points"
        return Verdict("half-stable", q, sigma_w, sigma_b, True, why, smooth, stable)
    line = edge_curve(phi)
    if line.ends.q.size and line.ends.q[0] == 0 and _vanishes(phi, float(line.ends.sigma_w[0])):
        sigma_w = float(line.ends.sigma_w[0])
        decay = convergence_rate(phi, 0.0)
        law = decay.law if decay.status == Status.OK else "q falls more slowly than any power"
        why = f"the edge starts at σw = {sigma_w:.12g}, σb = 0, where {law}"
        return Verdict("K* = 0", 0.0, sigma_w, 0.0, True, why, smooth, stable)
    if line.half_stable.q.size:
        point = line.half_stable
        q, sigma_w, sigma_b = (float(x[0]) for x in (point.q, point.sigma_w, point.sigma_b))
        why = f"V'(q) = 1 at K* = {q:.12g}, σw = {sigma_w:.12g}, σb = {sigma_b:.12g}"
        if not stable:
            why += "; towards smaller q the edge is unstable"
        return Verdict("half-stable", q, sigma_w, sigma_b, True, why, smooth, stable)
    side = "below" if stable else "above"
    first = np.exp(CURVE_GRID[exists.argmax()])
    ends = ", ".join(f"q = {float(q):.12g}" for q in line.ends.q)
    if line.ends.q.size and line.ends.q[0] == 0:
        ends += f", σw = {float(line.ends.sigma_w[0]):.12g}: critical, but small variances grow"
    where = f"it reaches σb = 0 at {ends}" if ends else f"it is found from q = {first:.3g}"
    why = f"V' stays {side} 1 along the edge; {where}"
    return Verdict("none", *NOWHERE, True, why, smooth, stable)


def _vanishes(phi: Activation, sigma_w: float) -> bool:
    """Return whether small variances fall at the start of the edge, σb = 0."""
    q = np.exp(CURVE_GRID)
    growth = sigma_w**2 * on_host(_second_moment(phi, q)) / q - 1
    visible = growth[np.abs(growth) > STEADY]
    return bool(visible.size and visible[0] < 0)


@elementwise(host=True)
def _second_moment(phi: Activation, q: ScalarLike) -> Array:
    return phi.second_moment(q)


def _why_no_edge(phi: Activation, points: CriticalPoint) -> str:
    if float(phi.slope_moment(1.0, 2)) == 0:
        return "φ is constant"
    if any(float(jump) for jump in phi.jumps()):
        return "φ jumps, so that χ1 is infinite"
    if (points.status == Status.NOT_CONVERGED).any():
        return "no edge was found, but some of the expectations are unresolved"
    x = jnp.asarray(np.concatenate([-SAMPLES[::-1], SAMPLES]))
    values, tangent = np.asarray(phi(x)), np.asarray(x * phi.slope(x))
    if (values >= 0).all() and (tangent <= values + ROUNDING * np.abs(tangent)).all():
        return "φ >= 0 and φ >= xφ', so that q E φ'² < E φ² for every q"
    return "q E φ'² < E φ² for every q"
