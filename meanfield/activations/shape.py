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
from typing import Literal

import jax
import numpy as np

from meanfield._struct import concrete
from meanfield.activations.base import Activation
from meanfield.activations.sampling import derivatives
from meanfield.errors import MeanFieldError, require

Interval = tuple[float, float]
Growth = Literal["bounded", "sublinear", "linear", "superlinear"]

# Samples: an even grid, and around 0 and each kink one graded like SMALLEST·sinh.
EVEN = np.linspace(-50.0, 50.0, 40_001)
SMALLEST, LARGEST, GRADED = 1e-6, 1e8, 6_000
# A cell is halved this often: to rounding, and to 1e-24 at 0.
BISECTIONS = 60
# The derivatives that are compared at a kink.
ORDERS = 4
# One-sided limits are extrapolated from this distance (times max(1, |kink|)).
BESIDE = 1e-11
# Jumps below this fraction of the values near by are noise.
NOISE = 1e-9
# Equal to rounding; a tie of two extrema; settled at infinity.
ROUNDING, TIE, SETTLED = 4 * float(np.finfo(float).eps), 1e-13, 1e-12
# Out to here φ and φ' must be finite numbers, and out to FAR they are followed if they are.
NEAR, FAR = 100.0, 1e100
# Of a function that oscillates for ever the first maxima are in here, if they do not rise.
CALM = 1e4


@dataclasses.dataclass(frozen=True)
class Kink:
    """A point where φ is not analytic; jumps are right limit minus left limit, noise is 0."""

    at: float
    jump: float
    slope_jump: float


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
    pieces = _pieces(phi)
    left = _tails(phi, pieces[0], -1.0)
    right = _tails(phi, pieces[-1], 1.0)
    kinks = tuple(_kink(before, after) for before, after in itertools.pairwise(pieces))
    minimum, maximum = _extrema(phi, pieces, kinks, (left[0], right[0]), 0)
    descent, ascent = _extrema(phi, pieces, kinks, (left[1], right[1]), 1)
    steepest = _steepest(descent, ascent)
    growth = (left[0].growth, right[0].growth)
    lines = [piece.line for piece in pieces]
    return Shape(
        kinks=kinks,
        smoothness=_smoothness(pieces),
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
    return _probability(_zero_set(_pieces(phi)), mean, variance)


def saturated_fraction(
    phi: Activation, mean: float | np.ndarray, variance: float | np.ndarray
) -> float | np.ndarray:
    """Return P(φ'(u) = 0), u ~ N(mean, variance): the fraction of units that pass no gradient.

    `mean` and `variance` > 0 broadcast. Only where φ' is exactly 0 a unit counts: tanh never
    saturates in this sense, hard tanh does.
    """
    return _probability(_flat_set(_pieces(phi)), mean, variance)


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


@dataclasses.dataclass(frozen=True)
class _Line:
    intercept: float
    slope: float


@dataclasses.dataclass(frozen=True)
class _End:
    """An end of a piece: the limits of φ, φ', ... from inside, and their size near by."""

    limits: np.ndarray
    typical: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Piece:
    """φ between two kinks: samples of φ, φ' and φ'', the limits at its ends, its line if any.

    `start` and `stop` are None at ±inf; `scales` are the sizes of φ, φ' and φ'' near 0, the
    same for all pieces.
    """

    low: float
    high: float
    x: np.ndarray
    values: np.ndarray
    start: _End | None
    stop: _End | None
    scales: np.ndarray
    line: _Line | None

    @property
    def ends(self) -> list[tuple[float, _End]]:
        """Return the finite ends."""
        both = ((self.low, self.start), (self.high, self.stop))
        return [(at, end) for at, end in both if end is not None]


def _derivatives(phi: Activation, x: np.ndarray, order: int) -> np.ndarray:
    """Return φ and its derivatives up to `order` at x, stacked along a new first axis."""
    rows = np.stack(derivatives(phi, x.ravel(), order)).reshape(-1, *x.shape)
    # Far out, what overflows on the way to a derivative says nothing.
    lost = np.isinf(rows[1:]) & np.isfinite(rows[0]) & (np.abs(x) > NEAR)
    rows[1:][lost] = np.nan
    return rows


@np.errstate(over="ignore", invalid="ignore")
def _pieces(phi: Activation) -> list[_Piece]:
    """Return φ cut at its kinks, neighbouring pieces on the same line joined."""
    for leaf in jax.tree.leaves(phi):
        if not concrete(leaf) or np.ndim(leaf):
            raise MeanFieldError(
                f"parameter {leaf!r} of phi is not legal; the shape of an activation is asked "
                "for one concrete value of each parameter"
            )
    kinks: list[float] = []
    for kink in sorted(float(k) + 0.0 for k in phi.kinks()):
        # Equal but for rounding: one kink.
        if not kinks or kink - kinks[-1] > 10 * BESIDE * max(1.0, abs(kink)):
            kinks.append(kink)
    centres = {0.0, *kinks, *(float(c) for c in phi.cuts())}
    graded = SMALLEST * np.sinh(np.linspace(0.0, np.arcsinh(LARGEST / SMALLEST), GRADED))[1:]
    bounds = [-math.inf, *kinks, math.inf]
    inner = [np.linspace(a, b, 257) for a, b in itertools.pairwise(kinks)]
    grid = np.unique(
        np.concatenate([EVEN, *inner, *(c + s * graded for c in centres for s in (-1, 1))])
    )
    for kink in kinks:
        grid = grid[np.abs(grid - kink) > 2 * BESIDE * max(1.0, abs(kink))]
    values = _derivatives(phi, grid, 2)
    _require_finite(grid, values)
    scales = np.array([_size(grid, row) for row in values])
    ends = _ends(phi, kinks)
    pieces: list[_Piece] = []
    for (low, high), start, stop in zip(
        itertools.pairwise(bounds),
        (None, *(right for _, right in ends)),
        (*(left for left, _ in ends), None),
        strict=True,
    ):
        inside = (grid > low) & (grid < high)
        x, own = grid[inside], values[:, inside]
        line = _line(x, own, centres, float(scales[1]))
        piece = _Piece(low, high, x, own, start, stop, scales, line)
        if pieces and _same_line(pieces[-1], piece):
            last = pieces.pop()
            x, own = np.concatenate([last.x, x]), np.concatenate([last.values, own], axis=1)
            piece = _Piece(last.low, high, x, own, last.start, stop, scales, last.line)
        pieces.append(piece)
    return pieces


def _require_finite(x: np.ndarray, values: np.ndarray) -> None:
    """Refuse a φ that is no number near 0; where it overflows it is only large."""
    wrong = np.isnan(values[:2]).any(axis=0) & (np.abs(x) <= NEAR)
    wrong &= ~_beyond_overflow(x, values[0])
    if wrong.any():
        at = x[wrong][np.argmin(np.abs(x[wrong]))]
        raise MeanFieldError(f"phi is not legal; it must be finite, and near x = {at:.6g} is not")


def _beyond_overflow(x: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return where |x| is beyond, or at, the first x of that sign with infinite φ."""
    infinite = np.isinf(value)
    above = x[infinite & (x > 0)].min(initial=math.inf)
    below = x[infinite & (x < 0)].max(initial=-math.inf)
    return (x >= above) | (x <= below)


def _size(x: np.ndarray, f: np.ndarray) -> float:
    """Return the size of f within 1 of 0, farther out if it vanishes there."""
    finite = np.isfinite(f)
    sizes = (np.abs(f[finite & (np.abs(x) <= r)]).max(initial=0.0) for r in (1.0, 10.0, math.inf))
    return float(next((size for size in sizes if size), 0.0))


def _ends(phi: Activation, kinks: list[float]) -> list[tuple[_End, _End]]:
    """Return, for each kink, the limits from the left and from the right."""
    if not kinks:
        return []
    k = np.array(kinks)
    gaps = np.diff(k, prepend=-math.inf, append=math.inf)
    widths = np.stack([gaps[:-1], gaps[1:]], axis=1)
    unit = np.maximum(1.0, np.abs(k))[:, None]
    step = np.minimum(BESIDE * unit, widths / 10)[..., None] * np.array([1.0, 2.0])
    wide = np.minimum(unit, widths)[..., None] * 2.0 ** -np.arange(1.0, 11.0)
    away = np.concatenate([step, wide, 0.0 * step[..., :1]], axis=2)
    f = _derivatives(phi, k[:, None, None] + np.array([-1.0, 1.0])[:, None] * away, ORDERS)
    near, next_, typical = f[..., 0], f[..., 1], np.abs(f[..., 2:-1]).max(axis=-1)
    # A limit that does not exist, as of the slope of √|x|, is seen to grow towards the kink.
    diverges = (np.abs(near) > 1.001 * np.abs(next_)) & (np.abs(near) > 1e-6 * typical)
    limits = np.where(diverges, np.copysign(math.inf, near), 2 * near - next_)
    # There φ is continuous, if it is, by its value, and not by extrapolation.
    cusp = diverges[1] & (np.abs(f[0, ..., -1] - near[0]) <= 1e-3 * typical[0])
    limits[0] = np.where(cusp, f[0, ..., -1], limits[0])
    return [
        (_End(limits[:, i, 0], typical[:, i, 0]), _End(limits[:, i, 1], typical[:, i, 1]))
        for i in range(len(k))
    ]


def _line(x: np.ndarray, values: np.ndarray, centres: set[float], scale: float) -> _Line | None:
    """Return the line that φ is on a piece; slopes and intercepts that are rounding are 0."""
    # Far out a line that is the difference of two curves loses its digits.
    near = np.min([np.abs(x - c) for c in centres], axis=0) < 1e3
    x, value, slope = x[near], values[0, near], values[1, near]
    b = float(slope[len(slope) // 2])
    if not np.all(np.abs(slope - b) <= SETTLED * abs(b)):
        return None
    b = 0.0 if abs(b) <= ROUNDING * scale else b
    first = np.argmin(np.abs(x))
    at, start = float(x[first]), float(value[first])
    a = start - b * at
    rounding = ROUNDING * (abs(start) + abs(b * at) + scale * abs(at))
    return _Line(0.0 if abs(a) <= rounding else a, b)


def _same_line(before: _Piece, after: _Piece) -> bool:
    one, two = before.line, after.line
    if one is None or two is None or abs(one.slope - two.slope) > SETTLED * abs(one.slope):
        return False
    size = abs(one.intercept) + abs(two.intercept)
    return abs(one.intercept - two.intercept) <= SETTLED * size


def _jump(before: _Piece, after: _Piece, order: int) -> float:
    """Return the jump of a derivative of φ between two pieces, 0 if it is noise."""
    assert before.stop is not None
    assert after.start is not None
    left, right = float(before.stop.limits[order]), float(after.start.limits[order])
    if left == right:
        return 0.0
    size = max(abs(left), abs(right), before.stop.typical[order], after.start.typical[order])
    jump = right - left
    return 0.0 if np.isfinite(size) and abs(jump) <= NOISE * size else jump


def _kink(before: _Piece, after: _Piece) -> Kink:
    return Kink(before.high, _jump(before, after, 0), _jump(before, after, 1))


def _smoothness(pieces: list[_Piece]) -> float:
    def of(before: _Piece, after: _Piece) -> int:
        assert before.stop is not None
        finite = np.isfinite(before.stop.limits)
        broken = (n for n in range(ORDERS + 1) if _jump(before, after, n) or not finite[n])
        return next(broken, ORDERS + 1) - 1

    return min(itertools.starmap(of, itertools.pairwise(pieces)), default=math.inf)


@dataclasses.dataclass(frozen=True)
class _Extremum:
    """An infimum or supremum, or a candidate for one, and where it is."""

    value: float
    at: float | Interval

    @property
    def rank(self) -> tuple[int, float, float]:
        """Return what is named first: an interval, a point, infinity; then what is near 0."""
        if isinstance(self.at, tuple):
            return 0, max(self.at[0], -self.at[1], 0.0), -self.at[1]
        return (2 if math.isinf(self.at) else 1), abs(self.at), -self.at

    def __neg__(self) -> "_Extremum":
        return _Extremum(0.0 - self.value, self.at)


@dataclasses.dataclass(frozen=True)
class _Tail:
    """φ or φ' towards ±inf: how it grows, what it tends to, and its least and largest sample.

    It is settled unless it is bounded and has no limit.
    """

    growth: Growth | None
    limits: tuple[_Extremum, ...]
    least: float
    largest: float

    @property
    def settled(self) -> bool:
        return self.growth != "bounded" or bool(self.limits)


def _tails(phi: Activation, piece: _Piece, side: float) -> tuple[_Tail, _Tail]:
    """Return the tails of φ and φ' on one side."""
    at = side * math.inf
    if piece.line is not None:
        a, b = piece.line.intercept, piece.line.slope
        end = a if b == 0 else b * at
        value = _Tail("linear" if b else "bounded", (_Extremum(end, at),), end, end)
        return value, _Tail("bounded", (_Extremum(b, at),), b, b)
    x = np.geomspace(10.0, FAR, 4001)
    f = _derivatives(phi, side * x, 2)
    slopes = _tail(x, f[1], at, piece.scales[1])
    # Of terms that cancel, as in softplus(x) - relu(x), rounding is left, which grows like x.
    noise = ROUNDING * float(piece.scales[1])
    before, after = (np.abs(f[0] / x)[part].max() for part in _parts(x))
    if 0.1 * before < after <= noise:
        calm = x <= max(2 * NEAR, SETTLED * float(piece.scales[0]) / noise)
        x, f = x[calm], np.where(np.abs(f) <= noise * x, 0.0, f)[:, calm]
    return _tail(x, f[0], at, piece.scales[0]), slopes


def _tail(x: np.ndarray, f: np.ndarray, at: float, scale: float) -> _Tail:
    finite = np.isfinite(f)
    count = len(f) if finite.all() else int(np.argmin(finite))
    if count == 0 or x[count - 1] < NEAR:
        if np.isinf(f[count]):
            value = float(f[count])
            return _Tail("superlinear", (_Extremum(value, at),), value, value)
        return _Tail(None, (), -math.inf, math.inf)
    x, f = x[:count], f[:count]
    early, late = (f[part] for part in _parts(x))
    growth = _growth(x, f)
    limits: list[_Extremum] = []
    if growth != "bounded":
        if late.max() > max(1.01 * early.max(), 0.0):
            limits.append(_Extremum(math.inf, at))
        if late.min() < min(1.01 * early.min(), 0.0):
            limits.append(_Extremum(-math.inf, at))
    elif np.ptp(late) <= SETTLED * scale:
        end = float(late[-1])
        limits.append(_Extremum(0.0 if abs(end) <= ROUNDING * scale else end, at))
    return _Tail(growth, tuple(limits), float(f.min()), float(f.max()))


def _parts(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle and the end of a range, between which growth is seen."""
    return (x >= x[-1] ** 0.4) & (x <= x[-1] ** 0.5), x >= x[-1] ** 0.9


def _growth(x: np.ndarray, f: np.ndarray) -> Growth:
    """Return how the envelope of f grows."""
    early, late = _parts(x)
    size = np.abs(f)
    if size[late].max() <= 1.01 * size[early].max():
        return "bounded"
    before, after = (size / x)[early].max(), (size / x)[late].max()
    if after > 1.01 * before:
        return "superlinear"
    return "linear" if after >= 0.99 * before else "sublinear"


def _extrema(
    phi: Activation,
    pieces: list[_Piece],
    kinks: tuple[Kink, ...],
    tails: tuple[_Tail, _Tail],
    order: int,
) -> tuple[_Extremum | None, _Extremum | None]:
    """Return the infimum and the supremum of φ (order 0) or φ' (order 1)."""
    found = [limit for tail in tails for limit in tail.limits]
    for piece in pieces:
        found += _candidates(phi, piece, order)
    if order == 1:
        found += [_Extremum(math.copysign(math.inf, k.jump), k.at) for k in kinks if k.jump]
    samples, scale = _samples(pieces, order), float(pieces[0].scales[order])
    x = np.concatenate([piece.x for piece in pieces])
    # What the rounding of x itself does to φ.
    rounding = ROUNDING * np.abs(x) * float(pieces[0].scales[1]) if order == 0 else 0.0
    least = min(np.nanmin(samples + rounding), *(tail.least for tail in tails))
    largest = max(np.nanmax(samples - rounding), *(tail.largest for tail in tails))
    settled = all(tail.settled for tail in tails)
    low = _supremum([-candidate for candidate in found], -least, scale, settled)
    high = _supremum(found, largest, scale, settled)
    return (None if low is None else -low), high


def _supremum(
    found: list[_Extremum], largest: float, scale: float, settled: bool
) -> _Extremum | None:
    """Return the supremum, or None if it is not sure.

    It is not if a sample exceeds all candidates, nor if φ oscillates for ever and its maxima
    still rise far out.
    """
    top = max((candidate.value for candidate in found), default=-math.inf)
    size = max(scale, abs(top))
    if largest > top and not largest <= top + NOISE * size:
        return None
    ties = [e for e in found if e.value == top or top - e.value <= TIE * size < math.inf]
    first = min(ties, key=lambda candidate: candidate.rank)
    rises = not settled and not isinstance(first.at, tuple) and abs(first.at) > CALM
    return None if rises and math.isfinite(first.value) else first


def _candidates(phi: Activation, piece: _Piece, order: int) -> list[_Extremum]:
    """Return the extrema of φ or φ' on a piece, but for the limits at infinity."""
    if piece.line is not None and (order == 1 or piece.line.slope == 0):
        value = piece.line.slope if order == 1 else piece.line.intercept
        return [_Extremum(value, (piece.low, piece.high))]
    found = [_Extremum(float(end.limits[order]), at) for at, end in piece.ends]
    return found if piece.line is not None else found + _stationary(phi, piece, order)


def _stationary(phi: Activation, piece: _Piece, order: int) -> list[_Extremum]:
    """Return the maxima and minima of φ or φ' inside a piece, where its derivative is 0."""
    derivative = piece.values[order + 1]
    known = np.isfinite(derivative) & (derivative != 0)
    x, sign = piece.x[known], np.sign(derivative[known])
    cells = np.flatnonzero(sign[1:] != sign[:-1])
    left, right, before = x[cells], x[cells + 1], sign[cells]
    for _ in range(BISECTIONS):
        if not len(cells):
            return []
        middle = left + (right - left) / 2
        now = np.sign(_derivatives(phi, middle, 2)[order + 1])
        left = np.where(now * before >= 0, middle, left)
        right = np.where(now * before <= 0, middle, right)
    root = left + (right - left) / 2
    # Where f has settled to rounding its derivative changes sign at random: a maximum is one
    # only if f is visibly lower on both sides.
    away = 0.2 * (1.0 + np.abs(root))
    f = _derivatives(phi, np.stack([root, root - away, root + away]), 2)[order]
    above = f[0] - f[1:]
    visible = np.abs(above).min(axis=0) > SETTLED * piece.scales[order]
    visible &= above[0] * above[1] > 0
    return [
        _Extremum(float(v), float(r)) for v, r in zip(f[0, visible], root[visible], strict=True)
    ]


def _steepest(low: _Extremum | None, high: _Extremum | None) -> _Extremum | None:
    """Return the supremum of |φ'| from the extrema of φ'."""
    if low is None or high is None:
        return None
    return high if high.value >= -low.value * (1 - TIE) else -low


def _samples(pieces: list[_Piece], order: int) -> np.ndarray:
    return np.concatenate([piece.values[order] for piece in pieces])


def _mirrored(phi: Activation, pieces: list[_Piece], sign: float) -> bool:
    """Return whether φ(-x) = sign·φ(x)."""
    x = np.concatenate([piece.x for piece in pieces])
    value, mirrored = _samples(pieces, 0), sign * _derivatives(phi, -x, 2)[0]
    finite = np.isfinite(value), np.isfinite(mirrored)
    both = finite[0] & finite[1]
    x, value, mirrored, slope = (f[both] for f in (x, value, mirrored, _samples(pieces, 1)))
    scales = pieces[0].scales
    # The second term is what the rounding of x itself does.
    rounding = SETTLED * (np.abs(value) + np.abs(mirrored) + float(scales[0]))
    rounding += ROUNDING * np.abs(x) * np.fmax(np.abs(slope), float(scales[1]))
    return bool((finite[0] == finite[1]).all() and (np.abs(value - mirrored) <= rounding).all())


def _convex(pieces: list[_Piece], kinks: tuple[Kink, ...]) -> bool:
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


def _monotone(pieces: list[_Piece], low: _Extremum | None, high: _Extremum | None) -> bool | None:
    rounding = TIE * float(pieces[0].scales[1])
    if low is not None and high is not None:
        return low.value >= -rounding or high.value <= rounding
    slope = _samples(pieces, 1)
    return False if bool((slope < -rounding).any() and (slope > rounding).any()) else None


def _non_negative(pieces: list[_Piece], low: _Extremum | None) -> bool | None:
    rounding = TIE * float(pieces[0].scales[0])
    if low is not None:
        return low.value >= -rounding
    return False if bool((_samples(pieces, 0) < -rounding).any()) else None


def _bounded(
    pieces: list[_Piece],
    growth: tuple[Growth | None, Growth | None],
    low: _Extremum | None,
    high: _Extremum | None,
) -> bool | None:
    # A pole is at a kink.
    if any(found is not None and math.isinf(found.value) for found in (low, high)):
        return False
    if None in growth:
        return None
    if growth != ("bounded", "bounded"):
        return False
    return True if bool(np.isfinite(_samples(pieces, 0)).all()) else None


def _zero_set(pieces: list[_Piece]) -> tuple[Interval, ...]:
    return tuple((p.low, p.high) for p in pieces if p.line == _Line(0.0, 0.0))


def _flat_set(pieces: list[_Piece]) -> tuple[Interval, ...]:
    return tuple((p.low, p.high) for p in pieces if p.line is not None and p.line.slope == 0)
