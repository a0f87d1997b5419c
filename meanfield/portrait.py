"""Where does every variance go? All fixed points of the variance map, and their basins.

V(q) can have none, one or several fixed points: GELU has three at σw² = 1.995, σb² = 0.15. Between
two neighbours V(q) - q has one sign, and says which of them attracts. Zero and infinity are the
outermost neighbours: the variance may vanish or diverge. A tangency, where V touches the
diagonal, attracts from one side only; on the edge of chaos it is a half-stable network [1].

The map is surveyed on a grid in log q, and log(V/q) is solved for every root, double ones
included (`meanfield.rootfind.all_roots`). What the survey finds is then put in order.

References
----------
[1] D. Roberts, S. Yaida, B. Hanin, The principles of deep learning theory, 2022,
    arXiv:2106.10165.
"""

import dataclasses
import math
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from scipy.ndimage import binary_closing

from meanfield._elementwise import elementwise
from meanfield._struct import elements, on_host, struct
from meanfield.arguments import untraced
from meanfield.errors import Status
from meanfield.fixedpoint import FAINTEST, ROUNDING, runs_away
from meanfield.layers import Layer
from meanfield.rootfind import Root, all_roots
from meanfield.typing import Array, ScalarLike

# Fixed points are looked for on this grid in log q.
GRID = np.linspace(np.log(1e-18), np.log(1e12), 553)
# Unresolved stretches this many points apart are one.
JOIN = 32
# Whether variances run away is seen at so many of the largest variances that are resolved.
LAST = 16
# A basin's orbits may leave it by this fraction: rounding.
SLACK = 1e-9


@struct
class FixedPoints:
    """Every fixed point of a variance map, ascending along the last axis.

    A variance that stays finite and positive has status OK. q = 0 has status VANISHES, and
    q = inf, where variances grow for ever, DIVERGES (NONFINITE where V overflows). `stable` says
    whether V attracts from both sides, `basin_low` and `basin_high` from where. A stretch of
    variances in which V is unresolved has q NaN and status NOT_CONVERGED; its basin is the
    stretch. If it has no upper end, the basin of q = inf ends where it begins.
    """

    q: Array
    slope: Array
    chi: Array
    stable: Array
    basin_low: Array
    basin_high: Array
    status: Array


@untraced
def fixed_points(layer: Layer) -> FixedPoints:
    """Return every fixed point of the variance map, 0 and infinity included, with its basin.

    Parameters of the layer broadcast; the fields have one axis more than they. It is as long as
    the longest list; shorter ones end in NaN, with status NO_SOLUTION.

    Finite points are found between 1e-18 and 1e12. A tangency is not `stable`, and its basin
    ends at q. Where V is the identity to rounding on an interval, one entry of slope 1 stands
    for it, at q = 1 or at the end nearest to 1, and its basin is the interval; but where V tends
    to the identity as q vanishes or grows, what it does before rounding hides it counts. Where
    V falls and orbits may leave the interval between two neighbours, or cycle in it, the basin
    is NaN.

    For layers of numbers, not inside `jax.jit`; `steady_state` is the differentiable one.
    """
    networks, shape = elements(layer)
    portraits = [list(_portrait(_survey(network))) for network in networks]
    longest = max(map(len, portraits), default=0)
    rows = [[*p, *[Entry()] * (longest - len(p))] for p in portraits]
    columns = {
        field.name: np.array([[getattr(e, field.name) for e in row] for row in rows])
        for field in dataclasses.fields(Entry)
    }
    columns["status"] = columns["status"].astype(np.int8)
    return FixedPoints(**{k: jnp.asarray(v.reshape(*shape, longest)) for k, v in columns.items()})


@dataclasses.dataclass(frozen=True)
class Entry:
    """One fixed point; the default is the one that does not exist."""

    q: float = math.nan
    slope: float = math.nan
    chi: float = math.nan
    stable: bool = False
    basin_low: float = math.nan
    basin_high: float = math.nan
    status: int = Status.NO_SOLUTION


@elementwise(host=True)
def _look(layer: Layer, q: ScalarLike) -> tuple[Array, Array, Array]:
    """Return V(q), V'(q) and χ1."""
    return layer.variance(q), layer.variance_slope(q), layer.moments(q).mean


@dataclasses.dataclass(frozen=True)
class _Survey:
    """What is known of one layer: on the grid, at the roots, and at q = 0."""

    growth: np.ndarray
    """log V(q) - log q on the grid, 0 where that is rounding."""
    tilt: np.ndarray
    """Its slope in log q."""
    once: np.ndarray
    """V(q)."""
    twice: np.ndarray
    """V(V(q))."""
    roots: list[tuple[Root, float, float]]
    """The roots, with V' and χ1 there."""
    at_zero: float
    """V(0)."""
    faint: tuple[float, float]
    """V' and χ1 as q vanishes."""
    chi_at_one: float


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def _survey(layer: Layer) -> _Survey:
    def growth(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return log(V/q) at log q = t, and its derivative."""
        q = np.exp(t)
        variance, slope, _ = on_host(_look(layer, q))
        return np.log(variance) - t, q * slope / variance - 1

    values, tilt = growth(GRID)
    # V(V(q)): where V vanishes or overflows, so does what follows.
    inner = np.clip(values + GRID, -600.0, 600.0)
    roots = all_roots(growth, GRID, ROUNDING)
    places = [math.exp(root.at) for root in roots]
    variances, slopes, chis = on_host(_look(layer, np.array([0.0, FAINTEST, 1.0, *places])))
    linear = [(float(slope), float(chi)) for slope, chi in zip(slopes, chis, strict=True)]
    return _Survey(
        growth=np.where(np.abs(values) <= ROUNDING, 0.0, values),
        tilt=tilt,
        once=np.exp(values + GRID),
        twice=np.exp(growth(inner)[0] + inner),
        roots=[(root, *at) for root, at in zip(roots, linear[3:], strict=True)],
        at_zero=float(variances[0]),
        faint=linear[1],
        chi_at_one=linear[2][1],
    )


@dataclasses.dataclass(frozen=True)
class _Landmark:
    """Where V - q may change its sign: a root, or an interval of zeros or of NaN."""

    low: float
    high: float
    entry: Entry
    turns: bool = True
    """Whether V - q has opposite signs on its two sides."""


def _portrait(survey: _Survey) -> Iterator[Entry]:
    """Yield the entries of one network in ascending order."""
    q = np.exp(GRID)
    growth = _without_rounding_at_ends(survey.growth)
    intervals = list(_intervals(survey, growth, q))
    roots = _roots(survey, [(mark.low, mark.high) for mark in intervals], q)
    landmarks = sorted([*intervals, *roots], key=lambda mark: mark.low)
    signs = _signs(landmarks, growth, q)
    lows = [0.0, *(mark.high for mark in landmarks)]
    highs = [*(mark.low for mark in landmarks), math.inf]

    if survey.at_zero == 0:
        slope, chi = survey.faint
        high = highs[0] if signs[0] < 0 else 0.0
        yield Entry(0.0, slope, chi, high > 0, 0.0, high, Status.VANISHES)
    elif signs[0] < 0:
        # V(0) > 0 and V < q on the first points: a fixed point lies below the grid.
        yield Entry(basin_low=0.0, basin_high=highs[0], status=Status.NOT_CONVERGED)
    for i, mark in enumerate(landmarks):
        if mark.low < mark.high:
            yield mark.entry
            continue
        q_star = mark.entry.q
        low = lows[i] if signs[i] > 0 else q_star
        high = highs[i + 1] if signs[i + 1] < 0 else q_star
        attracts = signs[i] > 0 > signs[i + 1] and mark.entry.slope >= -1
        if not _holds(survey, q, q_star, low, high):
            low = high = math.nan
        yield dataclasses.replace(mark.entry, stable=attracts, basin_low=low, basin_high=high)
    if signs[-1] > 0 and lows[-1] < math.inf:
        status = Status.NONFINITE if np.isinf(survey.once[-1]) else Status.DIVERGES
        yield Entry(math.inf, stable=True, basin_low=lows[-1], basin_high=math.inf, status=status)
    elif lows[-1] == math.inf and np.isnan(survey.growth[-1]) and signs[-2] > 0:
        # The largest variances are not resolved: V may leave the diagonal before them.
        known = np.flatnonzero((q > lows[-2]) & (q < highs[-2]))[-LAST:]
        if runs_away(survey.growth[known], survey.tilt[known]):
            yield Entry(math.inf, math.nan, math.nan, True, lows[-2], highs[-2], Status.DIVERGES)


def _without_rounding_at_ends(growth: np.ndarray) -> np.ndarray:
    """Return log(V/q) with zeros at the grid's ends replaced by their nearest other value."""
    other = np.flatnonzero(growth != 0)
    if not other.size:
        return growth
    nearest = np.clip(np.arange(growth.size), other[0], other[-1])
    return growth[nearest]


def _intervals(survey: _Survey, growth: np.ndarray, q: np.ndarray) -> Iterator[_Landmark]:
    """Yield the intervals on which V is the identity, or unresolved."""
    for first, last in _runs(growth == 0):
        if last > first:
            low, high = _reach(first, last, q)
            at = float(np.clip(1.0, low, high))
            entry = Entry(at, 1.0, survey.chi_at_one, False, low, high, Status.OK)
            yield _Landmark(low, high, entry)
    for first, last in _runs(binary_closing(np.isnan(growth), np.ones(JOIN)) | np.isnan(growth)):
        low, high = _reach(first, last, q)
        entry = Entry(basin_low=low, basin_high=high, status=Status.NOT_CONVERGED)
        yield _Landmark(low, high, entry)


def _runs(there: np.ndarray) -> np.ndarray:
    """Return the first and last indices of every run of True, one row per run."""
    steps = np.flatnonzero(np.diff(np.concatenate([[False], there, [False]]).astype(int)))
    return steps.reshape(-1, 2) - np.array([0, 1])


def _reach(first: int, last: int, q: np.ndarray) -> tuple[float, float]:
    """Return the interval of variances that a run on the grid stands for."""
    low = 0.0 if first == 0 else float(q[first])
    return low, math.inf if last == q.size - 1 else float(q[last])


def _roots(
    survey: _Survey, intervals: list[tuple[float, float]], q: np.ndarray
) -> Iterator[_Landmark]:
    """Yield the roots of V - q outside the intervals, those made of rounding excepted."""
    zeros = [run for run in _runs(survey.growth == 0) if run[1] > run[0]]
    blurred = [(q[max(i - 1, 0)], q[min(j + 1, q.size - 1)]) for i, j in zeros] + intervals
    for root, slope, chi in survey.roots:
        at = math.exp(root.at)
        if not any(low <= at <= high for low, high in blurred):
            yield _Landmark(at, at, Entry(at, slope, chi, status=Status.OK), turns=not root.double)


def _signs(landmarks: list[_Landmark], growth: np.ndarray, q: np.ndarray) -> list[float]:
    """Return the sign of V - q before, between and after the landmarks; 0 where nothing tells."""
    edges = [0.0, *(x for mark in landmarks for x in (mark.low, mark.high)), math.inf]
    signs: list[float] = []
    for i, (low, high) in enumerate(zip(edges[::2], edges[1::2], strict=True)):
        between = growth[(q > low) & (q < high)]
        between = np.sign(between[np.isfinite(between) | np.isinf(between)])
        if between.size:
            signs.append(float(between[between.size // 2]))
        elif i and signs[-1]:
            signs.append(-signs[-1] if landmarks[i - 1].turns else signs[-1])
        else:
            signs.append(0.0)
    return signs


def _holds(survey: _Survey, q: np.ndarray, q_star: float, low: float, high: float) -> bool:
    """Return whether orbits that start in (low, high) stay there and end at q_star.

    For an increasing V they do. Else V must not leave the interval, and V∘V must move every
    point of the grid towards q_star, so that there is no cycle.
    """
    inside = (q > low) & (q < high)
    once, twice, at = survey.once[inside], survey.twice[inside], q[inside]
    stays = (once >= low * (1 - SLACK)) & (once <= high * (1 + SLACK))
    away = np.abs(at / q_star - 1) > SLACK
    moves = np.sign(twice - at) == np.sign(q_star - at)
    nears = np.abs(twice - at) <= SLACK * at
    return bool((stays & (moves | nears | ~away)).all())
