"""Named numbers that a sweep can report of one network at its steady state.

An observable is a function of a `Point` with a symbol and a long name; the record feeds the
dataset's attributes, the axis labels of figures and the command line's list.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._elementwise import namespace
from meanfield._once import once
from meanfield._struct import OnHost, pick
from meanfield.activations.base import Activation
from meanfield.depth import DepthScales, scales
from meanfield.errors import Status
from meanfield.fixedpoint import ON_EDGE, CorrelationFixedPoint, SteadyState, limit_correlation
from meanfield.jacobian import slope_kurtosis
from meanfield.layers import Dense
from meanfield.registry import Registry
from meanfield.table import Tabulated
from meanfield.tabulation import Part
from meanfield.typing import Array

# Correlations at which a map is compared with the identity: cos of this many even angles.
ANGLES = 17


class Point:
    """One network at its steady state; what several observables need is computed once.

    The limit of correlations is found if it is not given. `critical` says that χ1 is 1 by
    construction, so that no more than that needs to be compiled.
    """

    def __init__(
        self,
        layer: Dense,
        state: SteadyState,
        limit: CorrelationFixedPoint | None = None,
        critical: bool = False,
    ) -> None:
        self.layer = layer
        self.state = state
        self.limit = limit
        self.critical = critical
        # A dummy where there is no steady state; the engine masks what is read from it.
        self.xp = namespace(state.q)
        self.q = self.xp.where(state.status == Status.OK, state.q, 1.0)

    @property
    def phi(self) -> Activation:
        return self.layer.phi

    @once
    def correlation(self) -> CorrelationFixedPoint:
        return limit_correlation(self.layer, self.state) if self.limit is None else self.limit

    @once
    def depth_scales(self) -> DepthScales:
        return scales(self.state, self.correlation)

    def deviation(self, end: Array, angles: int) -> Array:
        """Return max |R(ρ) - ρ| over ρ from 1 down to an end at which R(ρ) - ρ is `end`.

        As R' ≤ χ1 everywhere, R(ρ) - ρ ≥ 0 does not fall towards the end where χ1 ≤ 1. In the
        chaotic phase its maximum is that over the first `angles` samples.
        """
        if self.critical:
            return end
        return self.xp.where(self._ordered, end, self._deviations[:angles].max(axis=0))

    @property
    def _ordered(self) -> Array:
        return self.state.chi <= 1 + ON_EDGE

    @once
    def _deviations(self) -> Array:
        """|R(ρ) - ρ| at ρ = cos θ for even angles from 0 to π, in the chaotic phase."""
        angles = 2 * np.sin(np.linspace(0, np.pi, ANGLES) / 2) ** 2
        if self.xp is np:
            found = np.zeros((ANGLES, self.q.size))
            at = np.flatnonzero(~self._ordered)
            part, q = pick(self.layer, at), self.q[at]
            for row, e in zip(found, angles, strict=True):
                row[at] = np.abs(part.decorrelation(q, np.full(q.shape, e)) - e) if at.size else 0
            return found  # pyright: ignore[reportReturnType]
        epsilon = jnp.asarray(angles)

        def deviation(e: Array) -> Array:
            return jnp.abs(self.layer.decorrelation(self.q, e) - e)

        return jax.lax.cond(
            self._ordered,
            lambda: jnp.zeros_like(epsilon),
            lambda: jax.lax.map(deviation, epsilon),
        )


@dataclasses.dataclass(frozen=True)
class Observable:
    """A named number: how it is computed and how it is labelled."""

    name: str
    symbol: str
    long_name: str
    function: Callable[[Point], Array]
    parameters: tuple[str, ...] = ()
    """Parameters that an activation must have for the observable to exist."""
    parts: tuple[Part, ...] = ()
    """What it reads off a table beside moments and the limit of correlations."""


observables: Registry[Observable] = Registry("observable")


def observable(
    symbol: str,
    long_name: str,
    parameters: tuple[str, ...] = (),
    parts: tuple[Part, ...] = (),
) -> Callable[[Callable[[Point], Array]], Observable]:
    """Return a decorator that registers a function under its own name."""

    def decorator(function: Callable[[Point], Array]) -> Observable:
        name = function.__name__
        record = Observable(name, symbol, long_name, function, parameters, parts)
        return observables.register(name)(record)

    return decorator


@observable("μ₂/μ₁²", "ratio of the moments E φ'⁴ and (E φ'²)²")
def moment_ratio(point: Point) -> Array:
    """Return E φ'⁴/(E φ'²)² at the fixed variance."""
    return slope_kurtosis(point.phi, point.q)


@observable(
    "max |R(ρ) - ρ|, ρ ≥ 0",
    "largest change of a correlation in [0, 1] by one layer",
    parts=("means",),
)
def max_deviation(point: Point) -> Array:
    """Return the maximum of |R(ρ) - ρ| over ρ in [0, 1], over sampled ρ in the chaotic phase."""
    return point.deviation(correlation_at_zero.function(point), ANGLES // 2 + 1)


@observable(
    "max |R(ρ) - ρ|",
    "largest change of a correlation in [-1, 1] by one layer",
    parts=("means", "obtuse"),
)
def max_deviation_full(point: Point) -> Array:
    """Return the maximum of |R(ρ) - ρ| over ρ in [-1, 1], over sampled ρ in the chaotic phase.

    R(-1) + 1 is twice what follows if φ is replaced by its even part.
    """
    end = 2 * _after(point, point.phi.even_moment(point.q))
    return point.deviation(end, ANGLES)


@observable("a/√q*", "half-width of the linear region in standard deviations", ("a",))
def linear_width(point: Point) -> Array:
    """Return a/√q* for an activation that is linear on [-a, a]."""
    phi = point.phi.phi if isinstance(point.phi, Tabulated | OnHost) else point.phi
    return phi.a / point.q**0.5  # pyright: ignore[reportAttributeAccessIssue]


@observable("R(0)", "correlation that follows correlation 0", parts=("means",))
def correlation_at_zero(point: Point) -> Array:
    """Return R(0)."""
    return _after(point, point.phi.mean(point.q) ** 2)


def _after(point: Point, moment: Array) -> Array:
    """Return the correlation that follows where E φ(u1) φ(u2) is a given moment."""
    layer = point.layer
    return (layer.sigma_w**2 * moment + layer.sigma_b**2) / point.q


@observable("c*", "limit of correlations in deep layers")
def correlation_limit(point: Point) -> Array:
    """Return the stable fixed point of the correlation map."""
    return point.correlation.c


@observable("1 - c*", "distance of the limit of correlations from 1")
def decorrelation_limit(point: Point) -> Array:
    """Return 1 - c*, relatively accurate."""
    return point.correlation.epsilon


@observable("C'(c*)", "slope of the correlation map at its limit")
def correlation_limit_slope(point: Point) -> Array:
    """Return the slope of the correlation map at c*."""
    return point.correlation.slope


@observable("ξ_q", "depth scale of variances")
def xi_q(point: Point) -> Array:
    """Return -1/log |V'(q*)|."""
    return point.depth_scales.xi_q


@observable("ξ_c", "depth scale of correlations")
def xi_c(point: Point) -> Array:
    """Return -1/log C'(c*), inf on the edge."""
    return point.depth_scales.xi_c


@observable("ξ_∇", "depth scale of gradients, negative where they explode")
def xi_grad(point: Point) -> Array:
    """Return -1/log χ1, inf on the edge."""
    return point.depth_scales.xi_grad


@observable("v", "relative variance of squared singular values per layer")
def jacobian_relative_variance(point: Point) -> Array:
    """Return μ2/μ1² - 1 - s1, which depth multiplies."""
    return point.layer.moments(point.q).relative_variance
