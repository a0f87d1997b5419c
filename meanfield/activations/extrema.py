"""The least and the largest value of φ or φ', where they are, and whether they are reached."""

import dataclasses
import math

import numpy as np

from meanfield.activations.base import Activation
from meanfield.activations.pieces import (
    FAR,
    NEAR,
    NOISE,
    ROUNDING,
    SETTLED,
    TIE,
    Growth,
    Interval,
    Kink,
    Piece,
    derivatives_of,
    parts_of,
)

# A cell is halved this often: to rounding, and to 1e-24 at 0.
BISECTIONS = 60
# Of a function that oscillates for ever the first maxima are in here, if they do not rise.
CALM = 1e4


@dataclasses.dataclass(frozen=True)
class Extremum:
    """An infimum or supremum, or a candidate for one, and where it is."""

    value: float
    at: float | Interval

    @property
    def rank(self) -> tuple[int, float, float]:
        """Return what is named first: an interval, a point, infinity; then what is near 0."""
        if isinstance(self.at, tuple):
            return 0, max(self.at[0], -self.at[1], 0.0), -self.at[1]
        return (2 if math.isinf(self.at) else 1), abs(self.at), -self.at

    def __neg__(self) -> "Extremum":
        return Extremum(0.0 - self.value, self.at)


@dataclasses.dataclass(frozen=True)
class Tail:
    """φ or φ' towards ±inf: how it grows, what it tends to, and its least and largest sample.

    It is settled unless it is bounded and has no limit.
    """

    growth: Growth | None
    limits: tuple[Extremum, ...]
    least: float
    largest: float

    @property
    def settled(self) -> bool:
        return self.growth != "bounded" or bool(self.limits)


def tails(phi: Activation, piece: Piece, side: float) -> tuple[Tail, Tail]:
    """Return the tails of φ and φ' on one side."""
    at = side * math.inf
    if piece.line is not None:
        a, b = piece.line.intercept, piece.line.slope
        end = a if b == 0 else b * at
        value = Tail("linear" if b else "bounded", (Extremum(end, at),), end, end)
        return value, Tail("bounded", (Extremum(b, at),), b, b)
    x = np.geomspace(10.0, FAR, 4001)
    f = derivatives_of(phi, side * x, 2)
    slopes = _tail(x, f[1], at, piece.scales[1])
    # Of terms that cancel, as in softplus(x) - relu(x), rounding is left, which grows like x.
    noise = ROUNDING * float(piece.scales[1])
    before, after = (np.abs(f[0] / x)[part].max() for part in parts_of(x))
    if 0.1 * before < after <= noise:
        calm = x <= max(2 * NEAR, SETTLED * float(piece.scales[0]) / noise)
        x, f = x[calm], np.where(np.abs(f) <= noise * x, 0.0, f)[:, calm]
    return _tail(x, f[0], at, piece.scales[0]), slopes


def _tail(x: np.ndarray, f: np.ndarray, at: float, scale: float) -> Tail:
    finite = np.isfinite(f)
    count = len(f) if finite.all() else int(np.argmin(finite))
    if count == 0 or x[count - 1] < NEAR:
        if np.isinf(f[count]):
            value = float(f[count])
            return Tail("superlinear", (Extremum(value, at),), value, value)
        return Tail(None, (), -math.inf, math.inf)
    x, f = x[:count], f[:count]
    early, late = (f[part] for part in parts_of(x))
    growth = _growth(x, f)
    limits: list[Extremum] = []
    if growth != "bounded":
        if late.max() > max(1.01 * early.max(), 0.0):
            limits.append(Extremum(math.inf, at))
        if late.min() < min(1.01 * early.min(), 0.0):
            limits.append(Extremum(-math.inf, at))
    elif np.ptp(late) <= SETTLED * scale:
        end = float(late[-1])
        limits.append(Extremum(0.0 if abs(end) <= ROUNDING * scale else end, at))
    return Tail(growth, tuple(limits), float(f.min()), float(f.max()))


def _growth(x: np.ndarray, f: np.ndarray) -> Growth:
    """Return how the envelope of f grows."""
    early, late = parts_of(x)
    size = np.abs(f)
    if size[late].max() <= 1.01 * size[early].max():
        return "bounded"
    before, after = (size / x)[early].max(), (size / x)[late].max()
    if after > 1.01 * before:
        return "superlinear"
    return "linear" if after >= 0.99 * before else "sublinear"


def extrema(
    phi: Activation,
    pieces: list[Piece],
    kinks: tuple[Kink, ...],
    tails: tuple[Tail, Tail],
    order: int,
) -> tuple[Extremum | None, Extremum | None]:
    """Return the infimum and the supremum of φ (order 0) or φ' (order 1)."""
    found = [limit for tail in tails for limit in tail.limits]
    for piece in pieces:
        found += _candidates(phi, piece, order)
    if order == 1:
        found += [Extremum(math.copysign(math.inf, k.jump), k.at) for k in kinks if k.jump]
    samples, scale = samples_of(pieces, order), float(pieces[0].scales[order])
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
    found: list[Extremum], largest: float, scale: float, settled: bool
) -> Extremum | None:
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


def _candidates(phi: Activation, piece: Piece, order: int) -> list[Extremum]:
    """Return the extrema of φ or φ' on a piece, but for the limits at infinity."""
    if piece.line is not None and (order == 1 or piece.line.slope == 0):
        value = piece.line.slope if order == 1 else piece.line.intercept
        return [Extremum(value, (piece.low, piece.high))]
    found = [Extremum(float(end.limits[order]), at) for at, end in piece.ends]
    return found if piece.line is not None else found + _stationary(phi, piece, order)


def _stationary(phi: Activation, piece: Piece, order: int) -> list[Extremum]:
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
        now = np.sign(derivatives_of(phi, middle, 2)[order + 1])
        left = np.where(now * before >= 0, middle, left)
        right = np.where(now * before <= 0, middle, right)
    root = left + (right - left) / 2
    # Where f has settled to rounding its derivative changes sign at random: a maximum is one
    # only if f is visibly lower on both sides.
    away = 0.2 * (1.0 + np.abs(root))
    f = derivatives_of(phi, np.stack([root, root - away, root + away]), 2)[order]
    above = f[0] - f[1:]
    visible = np.abs(above).min(axis=0) > SETTLED * piece.scales[order]
    visible &= above[0] * above[1] > 0
    return [Extremum(float(v), float(r)) for v, r in zip(f[0, visible], root[visible], strict=True)]


def steepest_of(low: Extremum | None, high: Extremum | None) -> Extremum | None:
    """Return the supremum of |φ'| from the extrema of φ'."""
    if low is None or high is None:
        return None
    return high if high.value >= -low.value * (1 - TIE) else -low


def samples_of(pieces: list[Piece], order: int) -> np.ndarray:
    return np.concatenate([piece.values[order] for piece in pieces])
