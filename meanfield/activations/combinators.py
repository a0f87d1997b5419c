"""Activations made from activations; kinks follow.

Sums are written with operators: `0.5 * phi1 + 2.0 * phi2`.
"""

import jax.numpy as jnp
import numpy as np

from meanfield._struct import struct
from meanfield.activations.base import (
    Activation,
    ActivationLike,
    Pointwise,
    Sum,
    as_activation,
    parameter,
)
from meanfield.arguments import legal_number
from meanfield.typing import Array, ScalarLike


@struct
class Affine(Activation):
    """gain·φ(rate·(x - centre)) + offset."""

    phi: Activation
    rate: ScalarLike = parameter(1.0, "not 0", lambda value: value != 0)
    centre: ScalarLike = parameter(0.0, "a finite number", lambda value: abs(value) < np.inf)
    gain: ScalarLike = parameter(1.0, "a finite number", lambda value: abs(value) < np.inf)
    offset: ScalarLike = parameter(0.0, "a finite number", lambda value: abs(value) < np.inf)

    def __post_init__(self) -> None:
        object.__setattr__(self, "phi", as_activation(self.phi))
        super().__post_init__()

    @property
    def continuous(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether φ is known to be continuous."""
        return self.phi.continuous

    def jumps(self) -> tuple[Array, ...]:
        return tuple(jnp.sign(self.rate) * jump * self.gain for jump in self.phi.jumps())

    def slope_jumps(self) -> tuple[Array, ...]:
        return tuple(jnp.abs(self.rate) * jump * self.gain for jump in self.phi.slope_jumps())

    def standard(self) -> tuple[Activation, ScalarLike, ScalarLike]:
        shifts = np.any(np.asarray(self.centre) != 0) or np.any(np.asarray(self.offset) != 0)
        if shifts or np.any(np.asarray(self.rate) < 0):
            return super().standard()
        one, width, height = self.phi.standard()
        return one, width / jnp.asarray(self.rate), height * jnp.asarray(self.gain)

    def __call__(self, x: Array) -> Array:
        return jnp.asarray(
            self.gain * self.phi(jnp.asarray(self.rate * (x - self.centre))) + self.offset
        )

    def on_numbers(self) -> Pointwise | None:
        inner = self.phi.on_numbers()
        if inner is None:
            return None
        rate, centre, gain, offset = (
            float(np.asarray(x)) for x in (self.rate, self.centre, self.gain, self.offset)
        )

        def values(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            value, slope = inner.values(rate * (x - centre))
            return gain * value + offset, gain * rate * slope

        def curvature(x: np.ndarray) -> np.ndarray:
            return gain * rate**2 * inner.curvature(rate * (x - centre))

        return Pointwise(values, curvature, inner.exact)

    def kinks(self) -> tuple[ScalarLike, ...]:
        return self._moved(self.phi.kinks())

    def cuts(self) -> tuple[ScalarLike, ...]:
        moved = not (isinstance(self.centre, float | int) and self.centre == 0)
        origin = (self.centre,) if moved else ()
        return self._moved(self.phi.cuts()) or origin

    def _moved(self, points: tuple[ScalarLike, ...]) -> tuple[ScalarLike, ...]:
        return tuple(x / self.rate + self.centre for x in points)


def scale(phi: ActivationLike, output: ScalarLike = 1.0, input: ScalarLike = 1.0) -> Activation:
    """Return x ↦ output·φ(input·x); `input` must not be 0."""
    return _affine(as_activation(phi), rate=("input", input), gain=("output", output))


def shift(phi: ActivationLike, input: ScalarLike = 0.0, output: ScalarLike = 0.0) -> Activation:
    """Return x ↦ φ(x - input) + output."""
    return _affine(as_activation(phi), centre=("input", input), offset=("output", output))


def _affine(phi: Activation, **given: tuple[str, ScalarLike]) -> Affine:
    """Return an activation of fields that a user knows by other names."""
    domains = Affine.domains()
    numbers = {key: legal_number(*named, domains[key]) for key, named in given.items()}
    return Affine(phi, **numbers)


def centre(phi: ActivationLike) -> Activation:
    """Return x ↦ φ(x) - φ(0), which vanishes at 0.

    φ(0) must be finite; where φ jumps at 0, it is what φ returns there.
    """
    phi = as_activation(phi)
    return Affine(phi, offset=-phi(jnp.zeros(())))


__all__ = ["Affine", "Sum", "centre", "scale", "shift"]
