"""Named numbers that a sweep can report of one network at its steady state.

An observable is a function of a `Point` with a symbol and a long name; the record feeds the
dataset's attributes, the axis labels of figures and the command line's list.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.activations.base import Activation
from meanfield.depth import DepthScales, scales
from meanfield.errors import Status
from meanfield.fixedpoint import CorrelationFixedPoint, SteadyState, limit_correlation
from meanfield.layers import Dense
from meanfield.registry import Registry
from meanfield.typing import Array

# Correlations at which a map is compared with the identity: cos of this many even angles.
ANGLES = 17


class Point:
    """One network at its steady state; what several observables need is computed once."""

    def __init__(self, layer: Dense, state: SteadyState) -> None:
        self.layer = layer
        self.state = state
        # A dummy where there is no steady state; the engine masks what is read from it.
        self.q = jnp.where(state.status == Status.OK, state.q, 1.0)

    @property
    def phi(self) -> Activation:
        return self.layer.phi

    @functools.cached_property
    def correlation(self) -> CorrelationFixedPoint:
        return limit_correlation(self.layer, self.state)

    @functools.cached_property
    def depth_scales(self) -> DepthScales:
        return scales(self.state, self.correlation)

    @functools.cached_property
    def deviations(self) -> Array:
        """|R(ρ) - ρ| at ρ = cos θ for even angles from 0 to π."""
        epsilon = jnp.asarray(2 * np.sin(np.linspace(0, np.pi, ANGLES) / 2) ** 2)

        def deviation(e: Array) -> Array:
            return jnp.abs(self.layer.decorrelation(self.q, e) - e)

        return jax.lax.map(deviation, epsilon)


@dataclasses.dataclass(frozen=True)
class Observable:
    """A named number: how it is computed and how it is labelled."""

    name: str
    symbol: str
    long_name: str
    function: Callable[[Point], Array]
    parameters: tuple[str, ...] = ()
    """Parameters that an activation must have for the observable to exist."""


observables: Registry[Observable] = Registry("observable")


def observable(
    symbol: str, long_name: str, parameters: tuple[str, ...] = ()
) -> Callable[[Callable[[Point], Array]], Observable]:
    """Return a decorator that registers a function under its own name."""

    def decorator(function: Callable[[Point], Array]) -> Observable:
        name = function.__name__
        record = Observable(name, symbol, long_name, function, parameters)
        return observables.register(name)(record)

    return decorator


@observable("μ₂/μ₁²", "ratio of the moments E φ'⁴ and (E φ'²)²")
def moment_ratio(point: Point) -> Array:
    """Return E φ'⁴/(E φ'²)² at the fixed variance."""
    phi, q = point.phi, point.q
    return phi.slope_moment(q, 4) / phi.slope_moment(q, 2) ** 2


@observable("max |R(ρ) - ρ|, ρ ≥ 0", "largest change of a correlation in [0, 1] by one layer")
def max_deviation(point: Point) -> Array:
    """Return the maximum of |R(ρ) - ρ| over sampled ρ in [0, 1]."""
    return point.deviations[: ANGLES // 2 + 1].max()


@observable("max |R(ρ) - ρ|", "largest change of a correlation in [-1, 1] by one layer")
def max_deviation_full(point: Point) -> Array:
    """Return the maximum of |R(ρ) - ρ| over sampled ρ in [-1, 1]."""
    return point.deviations.max()


@observable("a/√q*", "half-width of the linear region in standard deviations", ("a",))
def linear_width(point: Point) -> Array:
    """Return a/√q* for an activation that is linear on [-a, a]."""
    return point.phi.a / jnp.sqrt(point.q)  # pyright: ignore[reportAttributeAccessIssue]


@observable("R(0)", "correlation that follows correlation 0")
def correlation_at_zero(point: Point) -> Array:
    """Return R(0)."""
    return 1.0 - point.layer.decorrelation(point.q, jnp.ones(()))


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
