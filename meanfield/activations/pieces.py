"""An activation as analytic pieces: between kinks, from -∞ to ∞, with its limits at their ends."""

import dataclasses
import itertools
import math
from typing import Literal

import jax
import numpy as np

from meanfield._struct import concrete
from meanfield.activations.base import Activation
from meanfield.activations.sampling import derivatives
from meanfield.errors import MeanFieldError

Interval = tuple[float, float]
Growth = Literal["bounded", "sublinear", "linear", "superlinear"]
# Samples: an even grid, and around 0 and each kink one graded like SMALLEST·sinh.
EVEN = np.linspace(-50.0, 50.0, 40_001)
SMALLEST, LARGEST, GRADED = 1e-6, 1e8, 6_000
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


@dataclasses.dataclass(frozen=True)
class Kink:
    """A point where φ is not analytic; jumps are right limit minus left limit, noise is 0."""

    at: float
    jump: float
    slope_jump: float


@dataclasses.dataclass(frozen=True)
class Line:
    """intercept + slope x."""

    intercept: float
    slope: float


@dataclasses.dataclass(frozen=True)
class End:
    """An end of a piece: the limits of φ, φ', ... from inside, and their size near by."""

    limits: np.ndarray
    typical: np.ndarray


@dataclasses.dataclass(frozen=True)
class Piece:
    """φ between two kinks: samples of φ, φ' and φ'', the limits at its ends, its line if any.

    `start` and `stop` are None at ±inf; `scales` are the sizes of φ, φ' and φ'' near 0, the
    same for all pieces.
    """

    low: float
    high: float
    x: np.ndarray
    values: np.ndarray
    start: End | None
    stop: End | None
    scales: np.ndarray
    line: Line | None

    @property
    def ends(self) -> list[tuple[float, End]]:
        """Return the finite ends."""
        both = ((self.low, self.start), (self.high, self.stop))
        return [(at, end) for at, end in both if end is not None]


def derivatives_of(phi: Activation, x: np.ndarray, order: int) -> np.ndarray:
    """Return φ and its derivatives up to `order` at x, stacked along a new first axis."""
    rows = np.stack(derivatives(phi, x.ravel(), order)).reshape(-1, *x.shape)
    # Far out, what overflows on the way to a derivative says nothing.
    lost = np.isinf(rows[1:]) & np.isfinite(rows[0]) & (np.abs(x) > NEAR)
    rows[1:][lost] = np.nan
    return rows


@np.errstate(over="ignore", invalid="ignore")
def pieces_of(phi: Activation) -> list[Piece]:
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
    values = derivatives_of(phi, grid, 2)
    _require_finite(grid, values)
    scales = np.array([size_of(grid, row) for row in values])
    ends = _ends(phi, kinks)
    pieces: list[Piece] = []
    for (low, high), start, stop in zip(
        itertools.pairwise(bounds),
        (None, *(right for _, right in ends)),
        (*(left for left, _ in ends), None),
        strict=True,
    ):
        inside = (grid > low) & (grid < high)
        x, own = grid[inside], values[:, inside]
        line = _line(x, own, centres, float(scales[1]))
        piece = Piece(low, high, x, own, start, stop, scales, line)
        if pieces and same_line(pieces[-1], piece):
            last = pieces.pop()
            x, own = np.concatenate([last.x, x]), np.concatenate([last.values, own], axis=1)
            piece = Piece(last.low, high, x, own, last.start, stop, scales, last.line)
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


def size_of(x: np.ndarray, f: np.ndarray) -> float:
    """Return the size of f within 1 of 0, farther out if it vanishes there."""
    finite = np.isfinite(f)
    sizes = (np.abs(f[finite & (np.abs(x) <= r)]).max(initial=0.0) for r in (1.0, 10.0, math.inf))
    return float(next((size for size in sizes if size), 0.0))


def _ends(phi: Activation, kinks: list[float]) -> list[tuple[End, End]]:
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
    f = derivatives_of(phi, k[:, None, None] + np.array([-1.0, 1.0])[:, None] * away, ORDERS)
    near, next_, typical = f[..., 0], f[..., 1], np.abs(f[..., 2:-1]).max(axis=-1)
    # A limit that does not exist, as of the slope of √|x|, is seen to grow towards the kink.
    diverges = (np.abs(near) > 1.001 * np.abs(next_)) & (np.abs(near) > 1e-6 * typical)
    limits = np.where(diverges, np.copysign(math.inf, near), 2 * near - next_)
    # There φ is continuous, if it is, by its value, and not by extrapolation.
    cusp = diverges[1] & (np.abs(f[0, ..., -1] - near[0]) <= 1e-3 * typical[0])
    limits[0] = np.where(cusp, f[0, ..., -1], limits[0])
    return [
        (End(limits[:, i, 0], typical[:, i, 0]), End(limits[:, i, 1], typical[:, i, 1]))
        for i in range(len(k))
    ]


def _line(x: np.ndarray, values: np.ndarray, centres: set[float], scale: float) -> Line | None:
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
    return Line(0.0 if abs(a) <= rounding else a, b)


def same_line(before: Piece, after: Piece) -> bool:
    one, two = before.line, after.line
    if one is None or two is None or abs(one.slope - two.slope) > SETTLED * abs(one.slope):
        return False
    size = abs(one.intercept) + abs(two.intercept)
    return abs(one.intercept - two.intercept) <= SETTLED * size


def jump_between(before: Piece, after: Piece, order: int) -> float:
    """Return the jump of a derivative of φ between two pieces, 0 if it is noise."""
    assert before.stop is not None
    assert after.start is not None
    left, right = float(before.stop.limits[order]), float(after.start.limits[order])
    if left == right:
        return 0.0
    size = max(abs(left), abs(right), before.stop.typical[order], after.start.typical[order])
    jump = right - left
    return 0.0 if np.isfinite(size) and abs(jump) <= NOISE * size else jump


def kink_between(before: Piece, after: Piece) -> Kink:
    return Kink(before.high, jump_between(before, after, 0), jump_between(before, after, 1))


def smoothness(pieces: list[Piece]) -> float:
    def of(before: Piece, after: Piece) -> int:
        assert before.stop is not None
        finite = np.isfinite(before.stop.limits)
        broken = (n for n in range(ORDERS + 1) if jump_between(before, after, n) or not finite[n])
        return next(broken, ORDERS + 1) - 1

    return min(itertools.starmap(of, itertools.pairwise(pieces)), default=math.inf)


def parts_of(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle and the end of a range, between which growth is seen."""
    return (x >= x[-1] ** 0.4) & (x <= x[-1] ** 0.5), x >= x[-1] ** 0.9
