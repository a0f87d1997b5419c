"""What does a function do where it is rough: its jumps, those of its slope, and its singularities.

Limits from either side are extrapolated, f(0+) ≈ 3 f(h) - 3 f(2h) + f(3h), from two distances h. A
jump does not shrink with h, what is steep does; φ' ~ |x - t|^p has the same p at both.
"""

from typing import NamedTuple

import numpy as np

from meanfield.panels import Values

# Distances from a rough point from which limits are read off, as parts of its place.
CLOSE, CLOSER = 2.0**-26, 2.0**-36
# Rough points that are closer than this part of their place are looked at as if they were not.
APART = 2.0**-12
# What moves φ by this part is no rounding.
VISIBLE = 1e-12
# A jump of φ below this part of 1 + |φ| is rounding; one that is real does not shrink with the
# distance.
JUMP, SLOPE_JUMP, SHRINKS = 1e-10, 1e-9, 0.75


class Rough(NamedTuple):
    """The points where φ is rough, and what φ does there."""

    at: np.ndarray
    jump: np.ndarray
    """By how much φ jumps."""
    middle: np.ndarray
    """The mean of φ's limits."""
    steep: np.ndarray
    """The mean of the limits of φ'."""
    bend: np.ndarray
    """By how much φ' jumps, where its limits exist; else 0."""
    power: np.ndarray
    """φ' grows like this power of the distance."""


def rough_at(at: np.ndarray, values: Values) -> Rough:
    """Return what φ does at its rough points, ascending."""
    reach = np.where(at == 0, 1.0, np.abs(at))
    gaps = np.diff(np.concatenate([[-np.inf], at, [np.inf]]))
    # Next to its neighbours, but not closer than places are told apart.
    reach = np.maximum(np.minimum(gaps[:-1], gaps[1:]).clip(max=reach), APART * np.abs(at))

    def limits(part: float) -> tuple[np.ndarray, np.ndarray]:
        x = at + np.array([[-3.0], [-2.0], [-1.0], [1.0], [2.0], [3.0]]) * part * reach
        with np.errstate(all="ignore"):
            phi, slope = (v.reshape(x.shape) for v in values(x.ravel()))
        weights = np.array([[1, -3, 3, 0, 0, 0], [0, 0, 0, 3, -3, 1]])
        return weights @ phi, weights @ slope

    (phi, slope), (phi_closer, slope_closer) = limits(CLOSE), limits(CLOSER)
    with np.errstate(all="ignore"):
        step = np.log2(CLOSER / CLOSE)
        power = np.log2(np.abs(slope_closer) / np.abs(slope)) / step
        # A slope that would not move φ visibly over the distance is rounding.
        seen = np.abs(slope_closer) * CLOSER * reach > VISIBLE * (1 + np.abs(phi_closer))
        power = np.where(np.isfinite(power) & seen, power, 0.0).min(axis=0, initial=0.0)
        power = np.where(power < -1e-3, power, 0.0)

    def real(far: np.ndarray, near: np.ndarray, rounding: float) -> np.ndarray:
        jump, before = near[1] - near[0], far[1] - far[0]
        seen = np.abs(jump) > rounding * (1 + np.abs(near).min(axis=0))
        return np.where(seen & (np.abs(jump) > SHRINKS * np.abs(before)), jump, 0.0)

    jump = real(phi, phi_closer, JUMP)
    bend = np.where(power < 0, 0.0, real(slope, slope_closer, SLOPE_JUMP))
    return Rough(at, jump, phi_closer.mean(axis=0), slope_closer.mean(axis=0), bend, power)
