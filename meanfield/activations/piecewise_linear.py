"""Continuous, piecewise linear activations: their correlation maps need one dimension only.

By Price's theorem the second derivative of E φ(u1)φ(u2) with respect to the covariance is a sum of
bivariate normal densities at pairs of kinks, weighted with the jumps of φ'; integrated once and
twice (`meanfield.gaussian.plackett`) it gives E φ'φ' and the correlation map, exactly as ε → 0.
"""

import itertools

import jax
import jax.numpy as jnp

from meanfield.activations.base import Activation
from meanfield.typing import Array, ScalarLike


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

    def slope_covariance(self, q1: ScalarLike, q2: ScalarLike, epsilon: ScalarLike) -> Array:
        def closed() -> Array:
            return self.slope_moment(q1, 2) - self._plackett(q1, epsilon)[0]

        def general() -> Array:
            return super(PiecewiseLinear, self).slope_covariance(q1, q2, epsilon)

        if q1 is q2:
            return closed()
        return jax.lax.cond(jnp.asarray(q1) == q2, closed, general)

    def decorrelation(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        return self.slope_moment(q, 2) - self._plackett(q, epsilon)[1]

    def slope_gap(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        return self._plackett(q, epsilon)[0]

    def deficit(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        return self._plackett(q, epsilon)[1]
