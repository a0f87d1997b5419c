"""Steps rounded off: a φ that is constant between its jumps J_i at x_i, averaged over a kernel.

    (φ * K_r)(x) = φ(-∞) + Σ_i J_i C((x - x_i)/r),    C(t) = 1/2 + (3t - t³)/4 on [-1, 1],

K being Epanechnikov's kernel. It is what `mollify(φ, "epanechnikov", r)` computes by a rule.
"""

import jax.numpy as jnp
import numpy as np

from meanfield.activations.base import Activation
from meanfield.activations.custom import REACH, from_callable
from meanfield.activations.sampling import sampled
from meanfield.panels import places
from meanfield.typing import Array

# A φ with more steps, such as floor(x), has them everywhere.
MOST = 64
# Differences of this part of the largest value are rounding.
ROUNDING = 1e-12


def rounded(phi: Activation, radius: float = 1.0) -> Activation | None:
    """Return φ * K_r, or None if φ varies between its jumps or has more than `MOST` of them."""
    samples = sampled(phi)
    panels = samples.upto(REACH)
    at, jump = samples.rough.at, samples.rough.jump
    if at.size > MOST or not (jump != 0).any():
        return None
    values = samples.values(places(panels.edges[:-1], panels.edges[1:]).ravel())[0]
    levels = values.reshape(panels.edges.size - 1, -1)
    if (np.ptp(levels, axis=1) > ROUNDING * np.abs(levels).max()).any():
        return None
    start = float(levels[0, 0])

    def smooth(x: Array) -> Array:
        t = jnp.clip((x[..., None] - at) / radius, -1.0, 1.0)
        return start + jnp.sum(jump * (2 + 3 * t - t**3) / 4, axis=-1)

    return from_callable(smooth, label="rounded")
