"""How fast do correlations converge on the edge of chaos?

Not exponentially: on the edge 1 - c falls like a power of the depth l, and the power is that of
the smoothness of φ. With ε = 1 - c and u = √q z at the fixed variance q [1],

    smooth    ε' = ε - ε²/β + ...,       ε ~ β/l,     β = 2 E φ'²/(q E φ''²),
    kinked    ε' = ε - s ε^{3/2} + ...,  ε ~ K/l²,    K = 4/s²,

        s = (√2/3π) σw² Σ_k Δ_k² exp(-x_k²/2q),       σw² = 1/E φ'²,

where φ' jumps by Δ_k at x_k: the kinks contribute the square root to 1 - C'(1 - ε). ReLU has
K = 9π²/2. However small a kink is, it rules in the end: 1/l gives way to 1/l² at a depth of about
K/β, with φ'' in β taken between the kinks.

Where the edge starts at q = 0 (tanh, ELU at σb = 0) it is the variance that dies out slowly,
and correlations freeze. With φ(x) = s x + k x²/2 + t x³/6 on either side of 0 [2],

    smooth    V = q (1 - a q + ...),     q ~ 1/(a l),        a = -(t/s + 3k²/4s²),
    kinked    V = q (1 - d √q + ...),    q ~ 4/(d² l²),      d = -√(2/π) (s₊k₊ - s₋k₋)/mean s².

tanh has a = 2; ELU, whose φ'' jumps by -1 at 0, has d = √(2/π) and q ~ 2π/l².

References
----------
[1] S. Hayou, A. Doucet, J. Rousseau, On the impact of the activation function on deep neural
    networks training, ICML 2019, arXiv:1902.06853. The kink law for kinks anywhere is derived here.
[2] D. Roberts, S. Yaida, B. Hanin, The principles of deep learning theory, 2022,
    arXiv:2106.10165 (smooth φ). The kinked law is derived here.
"""

import enum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._elementwise import NON_NEGATIVE, either, elementwise, namespace
from meanfield._struct import struct
from meanfield.activations.base import Activation, ActivationLike, as_activation, derivative
from meanfield.criticality import critical_point
from meanfield.errors import Status
from meanfield.typing import Array, ScalarLike

# A coefficient below this is rounding.
ROUNDING = 1e-9


class Regime(enum.IntEnum):
    """What rules convergence on the edge."""

    SMOOTH = 1
    """1 - c ~ constant/l."""
    KINKED = 2
    """1 - c ~ constant/l²."""
    VANISHING = 3
    """q ~ constant/l."""
    VANISHING_KINKED = 4
    """q ~ constant/l²."""


@struct
class ConvergenceRate:
    """A power law: 1 - c (or q, where the variance vanishes) ~ `constant`/l^`exponent`.

    `crossover` is the depth at which 1/l gives way to 1/l²: inf for smooth φ, 0 for a
    piecewise-linear one. `regime` holds codes of `Regime`.
    """

    exponent: Array
    constant: Array
    crossover: Array
    regime: Array
    status: Array

    @property
    def law(self) -> str:
        """The law of a scalar rate in words."""
        if int(self.status) != Status.OK:
            return "none"
        name = "1 - c" if int(self.regime) in (Regime.SMOOTH, Regime.KINKED) else "q"
        power = "l" if float(self.exponent) == 1 else "l²"
        return f"{name} ~ {float(self.constant):.10g}/{power}"


def _rates(phi: Any, q: np.ndarray) -> ConvergenceRate:
    """Return `convergence_rate` of numbers."""
    found = either(
        q > 0,
        lambda: _on_the_edge(phi, np.where(q > 0, q, 1.0)),
        lambda: _from_sides(np, *phi.limits),
    )
    ok = found.status == Status.OK
    numbers = (found.exponent, found.constant, found.crossover)
    exponent, constant, crossover = (np.where(ok, x, np.nan) for x in numbers)
    regime, status = (np.asarray(x).astype(np.int8) for x in (found.regime, found.status))
    return ConvergenceRate(exponent, constant, crossover, regime, status)  # pyright: ignore[reportArgumentType]


def convergence_rate(phi: ActivationLike, q: ScalarLike) -> ConvergenceRate:
    """Return the law by which correlations converge to 1 on the edge at variance q.

    At q = 0 it is the law by which the variance vanishes, for σb = 0 and the critical σw. Arguments
    broadcast. The status is that of `critical_point`; NO_SOLUTION also where nothing converges
    (linear φ; at q = 0, φ that is scale-invariant or lets the variance grow).
    """
    return _convergence_rate(as_activation(phi), q)


@elementwise(host=_rates, q=NON_NEGATIVE)
def _convergence_rate(phi: Activation, q: ScalarLike) -> ConvergenceRate:
    rate = jax.lax.cond(
        jnp.asarray(q) > 0, lambda: _correlations(phi, jnp.asarray(q)), lambda: _variances(phi)
    )
    ok = rate.status == Status.OK
    exponent, constant, crossover = (
        jnp.where(ok, x, jnp.nan) for x in (rate.exponent, rate.constant, rate.crossover)
    )
    regime, status = (x.astype(jnp.int8) for x in (rate.regime, rate.status))
    return ConvergenceRate(exponent, constant, crossover, regime, status)


def _correlations(phi: Activation, q: Array) -> ConvergenceRate:
    return _of_kinks(phi, q, phi.kinks(), phi.slope_jumps())


def _on_the_edge(phi: Any, q: np.ndarray) -> ConvergenceRate:
    return _of_kinks(phi, q, phi.kinks, phi.slope_jumps)


def _of_kinks(phi: Any, q: Any, kinks: Any, bends: Any) -> ConvergenceRate:
    xp = namespace(q)
    point = critical_point(phi, q)
    weight_variance = point.sigma_w**2
    density = xp.zeros_like(q)
    for kink, bend in zip(kinks, bends, strict=True):
        density += bend**2 * xp.exp(-(kink**2) / (2 * q))
    s = np.sqrt(2) / (3 * np.pi) * weight_variance * density
    bend = weight_variance * q * phi.smooth_curvature_moment(q)
    is_kinked = density > 0
    # A constant that does not count has no derivative that could be lost.
    smooth = 2 / xp.where(bend == 0, 1.0, bend)
    kinked = 4 / xp.where(is_kinked, s, 1.0) ** 2
    status = xp.where(
        (point.status == Status.OK) & ~is_kinked & (bend <= ROUNDING**2),
        Status.NO_SOLUTION,
        point.status,
    ).astype(int)
    return ConvergenceRate(
        exponent=xp.where(is_kinked, 2.0, 1.0),
        constant=xp.where(is_kinked, kinked, smooth),
        crossover=xp.where(is_kinked, kinked * bend / 2, xp.inf),
        regime=xp.where(is_kinked, Regime.KINKED, Regime.SMOOTH),
        status=status,
    )


def _variances(phi: Activation) -> ConvergenceRate:
    def sides(f: Any) -> Array:
        return jnp.stack([phi.limit(f, 0.0, side) for side in (1, -1)])

    functions = (phi, phi.slope, phi.curvature, derivative(phi.curvature))
    return _from_sides(jnp, *map(sides, functions))


def _from_sides(xp: Any, values: Any, s: Any, k: Any, t: Any) -> ConvergenceRate:
    """Return the law from the limits of φ and its derivatives at 0, from above and from below."""
    mean = (s**2).mean(axis=0)
    d = -np.sqrt(2 / np.pi) * (s[0] * k[0] - s[1] * k[1]) / mean
    a = -(0.75 * k**2 + s * t).mean(axis=0) / mean
    is_kinked = abs(d) > ROUNDING
    starts = (abs(values) <= ROUNDING).all(axis=0) & (mean > ROUNDING)
    vanishes = starts & xp.where(is_kinked, d > 0, a > ROUNDING)
    crossover = xp.where(is_kinked, xp.where(a > ROUNDING, 4 * a / d**2, 0.0), xp.inf)
    return ConvergenceRate(
        exponent=xp.where(is_kinked, 2.0, 1.0),
        constant=xp.where(is_kinked, 4 / d**2, 1 / a),
        crossover=crossover,
        regime=xp.where(is_kinked, Regime.VANISHING_KINKED, Regime.VANISHING),
        status=xp.where(vanishes, Status.OK, Status.NO_SOLUTION),
    )
