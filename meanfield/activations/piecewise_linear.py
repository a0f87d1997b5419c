"""Continuous, piecewise linear activations: they are straight between kinks."""

import itertools

import jax.numpy as jnp

from meanfield.activations.base import Activation
from meanfield.typing import Array


class PiecewiseLinear(Activation):
    """A continuous, piecewise linear φ. Its kinks ascend."""

    continuous = True

    def slope_jumps(self) -> tuple[Array, ...]:
        kinks = [jnp.asarray(k, dtype=float) for k in self.kinks()]
        if not kinks:
            return ()
        inner = [(low + high) / 2 for low, high in itertools.pairwise(kinks)]
        slopes = [self.slope(x) for x in (kinks[0] - 1.0, *inner, kinks[-1] + 1.0)]
        return tuple(after - before for before, after in itertools.pairwise(slopes))
