"""Is an activation scaled-bounded? Definition 2.1 of [1], property by property.

φ is scaled-bounded if there are a, k > 0 such that

    1. φ is continuous;
    2. φ is odd;
    3. φ(x) = k x on [-a, a], and |φ(x)| ≤ a k everywhere;
    4. φ is twice differentiable but for finitely many points, with |φ'| ≤ k.

The check samples φ densely from |x| = 10⁻¹² to 10¹⁵, within every piece between two kinks and
beside the kinks; a is the end of the linear stretch, which is a kink. It is inf for a φ that is
linear everywhere, and therefore unbounded.

References
----------
[1] M. Murray, V. Abrol, J. Tanner, Activation function design for deep networks:
    linearity and effective initialisation, arXiv:2105.07741 (2021).
"""

import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np

from meanfield.activations.base import Activation, ActivationLike, as_activation
from meanfield.activations.custom import MANY_KINKS
from meanfield.activations.sampling import sampled
from meanfield.arguments import untraced

# Equalities are judged to this fraction of the values compared.
EQUAL = 1e-9
# φ has to be finite up to FAR; beyond, what overflows is not judged.
FAR = 1e4
CLOSEST, FARTHEST = 1e-12, 1e15
# Samples on either side of 0 that are even in log |x|, near 0, and in a piece between two kinks.
GRADED, EVEN, INNER = 400_001, 100_001, 2001


@dataclasses.dataclass(frozen=True)
class ScaledBounded:
    """The outcome, property by property; `a` and `k` are NaN where φ is not linear at 0."""

    a: float
    k: float
    continuous: bool
    odd: bool
    linear: bool
    bounded: bool
    slope_bounded: bool
    twice_differentiable: bool

    @property
    def failures(self) -> tuple[str, ...]:
        """Return what fails, in the words of the definition."""
        words = {
            "continuous": "φ is continuous",
            "odd": "φ is odd",
            "linear": "φ(x) = k x on some [-a, a], a > 0",
            "bounded": "|φ(x)| ≤ a k everywhere",
            "slope_bounded": "|φ'(x)| ≤ k but for finitely many points",
            "twice_differentiable": "φ is twice differentiable but for finitely many points",
        }
        return tuple(text for name, text in words.items() if not getattr(self, name))

    def __bool__(self) -> bool:
        return not self.failures


@untraced
def is_scaled_bounded(phi: ActivationLike) -> ScaledBounded:
    """Return whether φ is scaled-bounded, its a and k, and which properties fail.

    The parameters of φ must be concrete scalars. The result is true or false as a condition.
    """
    phi = as_activation(phi)
    kinks = np.array(sorted(float(k) for k in phi.kinks()))
    x = _samples(kinks)
    value, slope = np.asarray(phi(jnp.asarray(x))), np.asarray(phi.slope(jnp.asarray(x)))
    mirrored = np.asarray(phi(jnp.asarray(-x)))
    size = np.abs(value) + np.abs(mirrored)

    # k is the slope at 0, averaged over its one-sided limits: at 0 itself there may be a kink.
    k = float(sum(phi.limit(phi.slope, 0.0, side) for side in (-1, 1)) / 2)
    near = np.abs(x) <= FAR
    continuous = all(float(jump) == 0 for jump in phi.jumps())
    continuous = continuous and bool(np.isfinite(value[near]).all())
    judged = near | ~(np.isnan(value) | np.isnan(mirrored) | np.isnan(slope))
    value, mirrored, slope, size = (y[judged] for y in (value, mirrored, slope, size))
    odd = bool(np.all(np.abs(value + mirrored) <= EQUAL * size + 1e-300))
    a = _linear_reach(phi, k, kinks) if k > 0 else 0.0
    linear = a > 0
    panels = sampled(phi).near
    return ScaledBounded(
        a=a if linear else float("nan"),
        k=k if linear else float("nan"),
        continuous=continuous,
        odd=odd,
        linear=linear,
        bounded=linear
        and bool(np.isfinite(a))
        and bool(np.all(np.abs(value) <= a * k * (1 + EQUAL))),
        slope_bounded=k > 0 and bool(np.all(np.abs(slope) <= k * (1 + EQUAL))),
        twice_differentiable=panels.rough.size <= MANY_KINKS and not any(panels.ends),
    )


def _samples(kinks: np.ndarray) -> np.ndarray:
    even = np.linspace(0.0, 50.0, EVEN)
    graded = np.geomspace(CLOSEST, FARTHEST, GRADED)
    beside = np.concatenate([kinks * (1 - 1e-9), kinks * (1 + 1e-9)])
    pieces = [np.linspace(*piece, INNER)[1:-1] for piece in itertools.pairwise(kinks)]
    x = np.concatenate([-even, even, -graded, graded, beside, *pieces])
    return np.sort(x[(x != 0) & ~np.isin(x, kinks)])


def _linear_reach(phi: Activation, k: float, kinks: np.ndarray) -> float:
    """Return the largest a with φ(x) = k x on [-a, a], 0 if there is none and inf if all are."""

    def holds(a: float) -> bool:
        x = np.linspace(-a, a, 2001)
        return bool(np.all(np.abs(np.asarray(phi(jnp.asarray(x))) - k * x) <= 1e-12 * k * a))

    # A linear stretch that is not all of R ends at a kink.
    ends = sorted({abs(kink) for kink in kinks if kink != 0}, reverse=True)
    if holds(10 * max([FAR, *ends])):
        return float("inf")
    return next((a for a in ends if holds(a)), 0.0)
