"""A φ that is constant between its jumps J_i at x_i, averaged over a kernel of distribution F.

(φ * K_r)(x) = φ(-∞) + Σ_i J_i F((x - x_i)/r),    (φ * K_r)'(x) = Σ_i (J_i/r) K((x - x_i)/r).
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from meanfield.activations.custom import REACH, Custom
from meanfield.activations.mollifiers import Kernel
from meanfield.activations.sampling import sampled
from meanfield.panels import places
from meanfield.typing import Array, ScalarLike

# A φ with more steps, such as floor(x), has them everywhere.
MOST = 64
# Differences of this part of the largest value are rounding.
ROUNDING = 1e-12


class Steps(NamedTuple):
    """φ(-∞), the places of jumps, and their heights."""

    start: float
    at: np.ndarray
    jumps: np.ndarray

    def mollified(self, kernel: Kernel, radius: ScalarLike, x: Array) -> Array:
        """Return φ * K_r at x of any shape, K's small half on both sides of a jump."""
        t = (x[..., None] - self.at) / radius
        right = t > 0
        small = kernel.distribution(jnp.where(right, -t, t))
        return self.start + jnp.sum(self.jumps * jnp.where(right, 1.0 - small, small), axis=-1)

    def mollified_slope(self, kernel: Kernel, radius: ScalarLike, x: Array) -> Array:
        """Return (φ * K_r)' at x of any shape."""
        t = (x[..., None] - self.at) / radius
        return jnp.sum(self.jumps * kernel.density(t), axis=-1) / radius


def steps(phi: Custom) -> Steps | None:
    """Return a callable as steps, None if it varies between jumps or has more than `MOST`."""
    samples = sampled(phi)
    edges = samples.upto(REACH).edges
    at, jumps = samples.rough.at, samples.rough.jump
    if at.size > MOST or not (jumps != 0).any():
        return None
    values = samples.values(places(edges[:-1], edges[1:]).ravel())[0].reshape(edges.size - 1, -1)
    if (np.ptp(values, axis=1) > ROUNDING * np.abs(values).max()).any():
        return None
    return Steps(float(values[0, 0]), at, jumps)
