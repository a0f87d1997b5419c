"""The shape of an activation: what can be said of φ itself, without a network.

How steep is φ, how low does it dip, where is it linear, what fraction of units does it switch
off? Between two neighbouring kinks φ is analytic, and that turns these questions about a
continuum into questions about finitely many numbers:

* By the identity theorem an analytic function that is linear (or 0) on some interval is so on
  the whole piece between two kinks. Thus the sets where φ or φ' is exactly 0 are unions of
  pieces; that x Φ(x) underflows to 0 below -38 does not make the GELU vanish there.
* The supremum of φ over a piece is at a root of φ', at an end of the piece or, if the piece is
  unbounded, it is the limit there; that of φ' likewise with φ''.

Roots are isolated by sampling each piece on grids that are even out to 50 and graded, from
1e-9 to 1e8, around 0, the kinks and `cuts`; then they are bisected to rounding. One-sided
limits at a kink are extrapolated from 1e-11 beside it. At infinity φ is followed out to
|x| = 1e100, or to where it overflows: its growth is read from the middle and the end of that
range, and a limit is accepted when φ has settled to 1e-12. At last every sample is held
against the supremum that was found. One that lies above it means that φ was not understood,
and the answer is None rather than a number.

Equalities are decided to rounding (about 1e-12): a tail that is linear in double precision, as
that of tanh(x) + max(x - 50, 0) above 50, counts as linear. A kink that φ does not declare is
not seen: max(x, 0)³ made from a callable passes for smooth unless its kink is given. Nor is a
C^∞ joint, as where a ReLU mollified with a bump begins to equal x: its supremum of φ' is right,
but placed at infinity.
"""

import dataclasses
import itertools
import math

import numpy as np

from meanfield.activations.base import Activation
from meanfield.activations.extrema import Extremum, extrema, samples_of, steepest_of, tails
from meanfield.activations.pieces import (
    ROUNDING,
    SETTLED,
    TIE,
    Growth,
    Interval,
    Kink,
    Line,
    Piece,
    derivatives_of,
    kink_between,
    pieces_of,
    smoothness,
)
from meanfield.errors import require


@dataclasses.dataclass(frozen=True)
class Shape:
    """What `shape` finds; numbers are right to about 1e-12 of the size of φ (or φ') near 0.

    The `_at` of an extremum is where it is attained or approached: a point, an interval (low,
    high) where φ (or φ') is constant, or ±inf if it is only a limit there. Of several such
    places an interval is named before a point, a point before infinity, and the one closest
    to 0, if there are two the positive one. A kink is a place too, whichever side attains the
    extremum. What cannot be decided is None.
    """

    kinks: tuple[Kink, ...]
    """Ascending; a declared kink where the same line goes on is left out."""
    smoothness: float
    """The largest k such that φ is in C^k: -1 where φ jumps, 0 where φ' jumps, inf without
    kinks. Derivatives are compared up to order 4: the answer 4 means at least 4."""
    lipschitz: float | None
    """sup |φ'|, the smallest Lipschitz constant; inf where φ jumps."""
    lipschitz_at: float | Interval | None
    """Of an ascent and a descent that are equally steep, the ascent."""
    slope_minimum: float | None
    """inf φ'; -inf where φ jumps down."""
    slope_minimum_at: float | Interval | None
    minimum: float | None
    """inf φ, -inf where φ is unbounded below."""
    minimum_at: float | Interval | None
    maximum: float | None
    """sup φ, inf where φ is unbounded above."""
    maximum_at: float | Interval | None
    growth: tuple[Growth | None, Growth | None]
    """How |φ| grows towards -inf and towards inf."""
    bounded: bool | None
    linear_region: Interval | None
    """The largest interval around 0 where φ(x) = φ(0) + φ'(0) x; None if there is none, also
    where 0 is a kink, since φ'(0) has no meaning there."""
    odd: bool
    even: bool
    convex: bool
    monotone: bool | None
    """Whether φ is non-decreasing or non-increasing."""
    non_negative: bool | None
    homogeneous: bool
    """Whether φ(t x) = t φ(x) for every t > 0 (positively homogeneous, as ReLU is)."""
    zero_set: tuple[Interval, ...]
    """The open intervals where φ is exactly 0; isolated zeros are not listed."""
    flat_set: tuple[Interval, ...]
    """The open intervals where φ' is exactly 0."""


# A φ that overflows far out is no fault.
@np.errstate(over="ignore", invalid="ignore")
def shape(phi: Activation) -> Shape:
    """Return what can be said of φ itself: steepness, extrema, growth, symmetry, linear pieces.

    The parameters of φ must be concrete scalars. An answer takes a fraction of a second, most
    of it spent in compiling φ.

    Raises
    ------
    MeanFieldError : a parameter is traced or an array, or φ or φ' is not a finite number
        somewhere within |x| ≤ 100 where it does not overflow.

    >>> shape(activation("relu")).lipschitz_at
    (0.0, inf)
    """
    pieces = pieces_of(phi)
    left = tails(phi, pieces[0], -1.0)
    right = tails(phi, pieces[-1], 1.0)
    kinks = tuple(kink_between(before, after) for before, after in itertools.pairwise(pieces))
    minimum, maximum = extrema(phi, pieces, kinks, (left[0], right[0]), 0)
    descent, ascent = extrema(phi, pieces, kinks, (left[1], right[1]), 1)
    steepest = steepest_of(descent, ascent)
    growth = (left[0].growth, right[0].growth)
    lines = [piece.line for piece in pieces]
    return Shape(
        kinks=kinks,
        smoothness=smoothness(pieces),
        lipschitz=steepest and steepest.value,
        lipschitz_at=steepest and steepest.at,
        slope_minimum=descent and descent.value,
        slope_minimum_at=descent and descent.at,
        minimum=minimum and minimum.value,
        minimum_at=minimum and minimum.at,
        maximum=maximum and maximum.value,
        maximum_at=maximum and maximum.at,
        growth=growth,
        bounded=_bounded(pieces, growth, minimum, maximum),
        linear_region=next(
            ((p.low, p.high) for p in pieces if p.line is not None and p.low < 0 < p.high), None
        ),
        odd=_mirrored(phi, pieces, -1.0),
        even=_mirrored(phi, pieces, 1.0),
        convex=_convex(pieces, kinks),
        monotone=_monotone(pieces, descent, ascent),
        non_negative=_non_negative(pieces, minimum),
        homogeneous=all(line is not None and line.intercept == 0 for line in lines)
        and all(kink.at == 0 for kink in kinks),
        zero_set=_zero_set(pieces),
        flat_set=_flat_set(pieces),
    )


def inactive_fraction(
    phi: Activation, mean: float | np.ndarray, variance: float | np.ndarray
) -> float | np.ndarray:
    """Return P(φ(u) = 0), u ~ N(mean, variance): the expected fraction of silent units.

    `mean` and `variance` > 0 broadcast. For ReLU this is Φ(-mean/√variance).
    """
    return _probability(_zero_set(pieces_of(phi)), mean, variance)


def saturated_fraction(
    phi: Activation, mean: float | np.ndarray, variance: float | np.ndarray
) -> float | np.ndarray:
    """Return P(φ'(u) = 0), u ~ N(mean, variance): the fraction of units that pass no gradient.

    `mean` and `variance` > 0 broadcast. Only where φ' is exactly 0 a unit counts: tanh never
    saturates in this sense, hard tanh does.
    """
    return _probability(_flat_set(pieces_of(phi)), mean, variance)


def _probability(
    intervals: tuple[Interval, ...], mean: float | np.ndarray, variance: float | np.ndarray
) -> float | np.ndarray:
    # A fifth of a second to import, and most questions do not need it.
    from scipy.special import ndtr

    mean, variance = np.asarray(mean, dtype=float), np.asarray(variance, dtype=float)
    require(np.isfinite(mean), "mean", mean, "a finite number")
    require(np.isfinite(variance) & (variance > 0), "variance", variance, "a finite number > 0")
    total = np.zeros(np.broadcast_shapes(mean.shape, variance.shape))
    for low, high in intervals:
        below, above = (low - mean) / np.sqrt(variance), (high - mean) / np.sqrt(variance)
        # On the upper side complements are small, and their difference keeps its digits.
        total = total + np.where(below > 0, ndtr(-below) - ndtr(-above), ndtr(above) - ndtr(below))
    return total if total.ndim else float(total)


def _mirrored(phi: Activation, pieces: list[Piece], sign: float) -> bool:
    """Return whether φ(-x) = sign·φ(x)."""
    x = np.concatenate([piece.x for piece in pieces])
    value, mirrored = samples_of(pieces, 0), sign * derivatives_of(phi, -x, 2)[0]
    finite = np.isfinite(value), np.isfinite(mirrored)
    both = finite[0] & finite[1]
    x, value, mirrored, slope = (f[both] for f in (x, value, mirrored, samples_of(pieces, 1)))
    scales = pieces[0].scales
    # The second term is what the rounding of x itself does.
    rounding = SETTLED * (np.abs(value) + np.abs(mirrored) + float(scales[0]))
    rounding += ROUNDING * np.abs(x) * np.fmax(np.abs(slope), float(scales[1]))
    return bool((finite[0] == finite[1]).all() and (np.abs(value - mirrored) <= rounding).all())


def _convex(pieces: list[Piece], kinks: tuple[Kink, ...]) -> bool:
    if any(kink.jump or kink.slope_jump < 0 for kink in kinks):
        return False
    for piece in pieces:
        value, slope, bend = np.abs(piece.values[0]), np.abs(piece.values[1]), piece.values[2]
        size = np.abs(piece.x)
        # φ'' is made of terms as large as φ' at least.
        rounding = TIE * (value + slope * size) / np.maximum(1.0, size**2) + ROUNDING * slope
        if piece.line is None and bool((bend < -rounding).any()):
            return False
    return True


def _monotone(pieces: list[Piece], low: Extremum | None, high: Extremum | None) -> bool | None:
    rounding = TIE * float(pieces[0].scales[1])
    if low is not None and high is not None:
        return low.value >= -rounding or high.value <= rounding
    slope = samples_of(pieces, 1)
    return False if bool((slope < -rounding).any() and (slope > rounding).any()) else None


def _non_negative(pieces: list[Piece], low: Extremum | None) -> bool | None:
    rounding = TIE * float(pieces[0].scales[0])
    if low is not None:
        return low.value >= -rounding
    return False if bool((samples_of(pieces, 0) < -rounding).any()) else None


def _bounded(
    pieces: list[Piece],
    growth: tuple[Growth | None, Growth | None],
    low: Extremum | None,
    high: Extremum | None,
) -> bool | None:
    # A pole is at a kink.
    if any(found is not None and math.isinf(found.value) for found in (low, high)):
        return False
    if None in growth:
        return None
    if growth != ("bounded", "bounded"):
        return False
    return True if bool(np.isfinite(samples_of(pieces, 0)).all()) else None


def _zero_set(pieces: list[Piece]) -> tuple[Interval, ...]:
    return tuple((p.low, p.high) for p in pieces if p.line == Line(0.0, 0.0))


def _flat_set(pieces: list[Piece]) -> tuple[Interval, ...]:
    return tuple((p.low, p.high) for p in pieces if p.line is not None and p.line.slope == 0)
