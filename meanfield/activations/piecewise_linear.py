"""Continuous, piecewise linear activations: their correlation maps need one dimension only.

By Price's theorem the second derivative of F(c) = E φ(u1)φ(u2) with respect to the covariance is a
sum of bivariate normal densities at pairs of kinks, weighted with the jumps of φ'; integrated once
and twice (`meanfield.gaussian.plackett`) it gives E φ'φ' and the correlation map, exactly as ε → 0.
Of unequal variances,

    E (s φ(u1) - t φ(u2))² = E (s φ(√q1 z) - t φ(√q2 z))² + 2st (F(1) - F(1 - ε)),

where φ is straight between kinks, so that neither term need be a difference of large numbers.
"""

import itertools

import jax
import jax.numpy as jnp

from meanfield.activations.base import Activation
from meanfield.activations.pair_rules import (
    by_price,
    decorrelation_rate,
    deficit_rate,
    separation_rate,
    slope_covariance_rate,
    slope_gap_rate,
)
from meanfield.gaussian import TINY, LineRule, from_masses, is_zero, line_rule, plackett
from meanfield.typing import Array, ScalarLike

# What adds up to F(1) - F(c) is known to ROUNDING, a result to LOST or not so.
ROUNDING = 1e-16
LOST = 5e-10


class PiecewiseLinear(Activation):
    """A continuous, piecewise linear φ: its correlation map is a one-dimensional integral.

    Its kinks ascend.
    """

    continuous = True

    def slope_jumps(self) -> tuple[Array, ...]:
        kinks = [jnp.asarray(k, dtype=float) for k in self.kinks()]
        if not kinks:
            return ()
        inner = [(low + high) / 2 for low, high in itertools.pairwise(kinks)]
        slopes = [self.slope(x) for x in (kinks[0] - 1.0, *inner, kinks[-1] + 1.0)]
        return tuple(after - before for before, after in itertools.pairwise(slopes))

    @by_price(slope_covariance_rate)
    def slope_covariance(self, q1: ScalarLike, q2: ScalarLike, epsilon: ScalarLike) -> Array:
        rule, u1, u2 = self._identical(q1, q2)
        return rule.mean(self.slope(u1) * self.slope(u2)) - self._plackett(q1, q2, epsilon)[0]

    def curvature_covariance(self, q1: ScalarLike, q2: ScalarLike, epsilon: ScalarLike) -> Array:
        kinks, jumps = self.kinks(), self.slope_jumps()
        return from_masses(jnp.zeros_like, jnp.zeros_like, jumps, jumps, q1, q2, epsilon, kinks, ())

    @by_price(separation_rate)
    def separation(
        self, q1: ScalarLike, q2: ScalarLike, epsilon: ScalarLike, s: ScalarLike, t: ScalarLike
    ) -> Array:
        """Return E (s φ(u1) - t φ(u2))² / 2, relatively accurate however small it is.

        Where variances are so large that F(1) - F(1 - ε) is rounding, in two dimensions.
        """
        if all(map(is_zero, self.kinks())):
            return self._homogeneous_separation(q1, q2, epsilon, s, t)
        epsilon, jumps = jnp.asarray(epsilon, dtype=float), self.slope_jumps()
        r1, r2 = (jnp.sqrt(jnp.maximum(q, TINY)) for q in (q1, q2))
        rule, u1, u2 = self._identical(q1, q2)
        slopes = self.slope(u1) * self.slope(u2)
        _, lack = plackett(self.kinks(), jumps, q1, q2, epsilon)
        gain = (s * r1) * (t * r2) * epsilon
        start = rule.mean(jnp.square(self._difference(rule.z, q1, q2, s, t))) / 2

        # The lack is certified to a part of the result, not of itself.
        rest = start + gain * (rule.mean(slopes) - lack.value)
        scale = (rest + TINY) / (jnp.abs(gain) + TINY)
        value = start + gain * (rule.mean(slopes) - lack.certified(scale))
        reach = sum(jnp.abs(jnp.asarray(k)) for k in self.kinks()) * (1 / r1 + 1 / r2)
        most = sum(jump**2 for jump in jumps)
        parts = rule.sum(jnp.abs(slopes)) + most * jnp.minimum(jnp.sqrt(epsilon / 2), reach)
        return jax.lax.cond(
            jnp.isfinite(value) & (ROUNDING * parts <= LOST * scale),
            lambda: value,
            lambda: super(PiecewiseLinear, self).separation(q1, q2, epsilon, s, t),
        )

    def _homogeneous_separation(
        self, q1: ScalarLike, q2: ScalarLike, epsilon: ScalarLike, s: ScalarLike, t: ScalarLike
    ) -> Array:
        """Return `separation` of kinks at 0 alone: φ(√q z) = φ(0) + √q h(z)."""
        start = self(jnp.zeros(()))
        first, second = jnp.sqrt(q1) * s, jnp.sqrt(q2) * t
        mean = self.mean(1.0) - start
        second_moment = self.second_moment(1.0) - start * (2 * mean + start)
        shift, apart = (jnp.asarray(s) - t) * start, first - second
        identical = (jnp.square(shift) + 2 * shift * apart * mean) / 2
        identical += jnp.square(apart) * second_moment / 2
        return identical + first * second * epsilon * self.decorrelation(1.0, epsilon)

    def _identical(self, q1: ScalarLike, q2: ScalarLike) -> tuple[LineRule, Array, Array]:
        """Return the rule for E F(u1, u2) at c = 1, and its nodes u1 = √q1 z and u2 = √q2 z."""
        rule = line_rule(q1, self.kinks(), even=self.odd, other=None if q1 is q2 else q2)
        u1, u2 = (jnp.sqrt(jnp.asarray(q, dtype=float)) * rule.z for q in (q1, q2))
        return rule, u1, u2

    def _difference(
        self, z: Array, q1: ScalarLike, q2: ScalarLike, s: ScalarLike, t: ScalarLike
    ) -> Array:
        """Return s φ(√q1 z) - t φ(√q2 z), free of cancellation where s ≈ t and q1 ≈ q2.

        On one piece of φ, m x + b, it is m (s√q1 - t√q2) z + (s - t) b.
        """
        r1, r2 = (jnp.sqrt(jnp.maximum(q, TINY)) for q in (q1, q2))
        apart, less = (jnp.asarray(q1) - q2) / (r1 + r2), jnp.asarray(s) - t
        close = jnp.abs(apart) < (r1 + r2) / 4
        stretch = jnp.where(close, s * apart + less * r2, s * r1 - t * r2)
        u1, u2 = r1 * z, r2 * z
        one_piece = jnp.ones_like(z, dtype=bool)
        for kink in self.kinks():
            one_piece = one_piece & (jnp.sign(u1 - kink) * jnp.sign(u2 - kink) > 0)
        slope, value = self.slope(u2), self(u2)
        straight = slope * stretch * z + less * (value - slope * u2)
        return jnp.where(one_piece, straight, s * self(u1) - t * value)

    @by_price(decorrelation_rate)
    def decorrelation(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        return self.slope_moment(q, 2) - self._plackett(q, q, epsilon)[1]

    @by_price(slope_gap_rate)
    def slope_gap(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        return self._plackett(q, q, epsilon)[0]

    @by_price(deficit_rate)
    def deficit(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        return self._plackett(q, q, epsilon)[1]
