"""Where do variances and correlations settle, and are they stable there?

A variance q* is fixed when V(q*) = q*; it attracts when |V'(q*)| < 1. Iterating V from q0
ends at the nearest fixed point on the side to which V moves it. That point is found on a
logarithmic grid and polished, not iterated to: near criticality iteration takes 10⁵ steps.
(`meanfield.portrait` has all fixed points at once.)

At q*, c = 1 is a fixed point of the correlation map of slope χ1 [1]. If χ1 ≤ 1 it is the limit
of all correlations; if χ1 > 1, the limit is the root of log(ε'/ε) = 0 in (0, 1]. Near the edge
both χ1 - 1 and ε* are small, and log(ε'/ε) = (χ1 - 1) - (what ε takes off) is computed from
these two terms, so that ε* keeps its digits: what is lost is the rounding of χ1 alone. With
dropout c = 1 is not fixed, and the limit lies below it whatever χ1 is [2].

References
----------
[1] B. Poole et al., Exponential expressivity in deep neural networks through transient
    chaos, NeurIPS 2016, arXiv:1606.05340.
[2] S. Schoenholz et al., Deep information propagation, ICLR 2017, arXiv:1611.01232.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._elementwise import POSITIVE, asked, elementwise
from meanfield._struct import pick, struct
from meanfield.errors import Status
from meanfield.gaussian import TINY
from meanfield.layers import Layer
from meanfield.rootfind import close_brackets, implicit, scan_all
from meanfield.typing import Array, ScalarLike

# Variances are looked for on this grid in log q, away from the start: 28 decades.
GRID_STEP = 0.25
GRID_SIZE = 256
# The limits of slopes as q vanishes are read off here.
FAINTEST = 1e-20
# Plain iterations before the direction is read off: they leave transients of maps that are
# not monotone.
WARM_UP = 60
# Variances are followed down and up to here.
SMALLEST, LARGEST = 1e-43, 1e20
# Variances that have left this range are not iterated on.
CALM = (1e-12, 1e8)
# Newton's method for log ε: most steps, and the last one's size.
NEWTON_STEPS, SETTLED = 100, 4e-15
# A relative change below this is rounding: the variance is fixed as it is.
ROUNDING = 1e-13
# V' this close to 1 is 1.
STEADY = 1e-9
# From a variance at which V is the identity to rounding, V is looked at upwards in these steps of
# log q.
LOOK_STEP, LOOK_STEPS = 2.0, 64
# A correlation slope this close to 1 is 1: on the edge, c = 1 is the limit.
ON_EDGE = 1e-12
# 1 - c* is looked for from 1 downwards in these steps of its logarithm.
EPSILON_STEP = 2.0
EPSILON_STEPS = 35


@struct
class SteadyState:
    """A fixed variance `q`, the `slope` V'(q), `chi` = χ1, and a status."""

    q: Array
    slope: Array
    chi: Array
    status: Array


def _settled(layer: Layer, q0: np.ndarray) -> SteadyState:
    """Return `steady_state` of numbers."""
    warm, after = q0, q0
    going = np.ones(q0.shape, dtype=bool)
    for _ in range(WARM_UP + 1):
        warm, after = np.where(going, after, warm), np.where(going, layer.variance(after), after)
        going &= (after > CALM[0]) & (after < CALM[1]) & (np.abs(after - warm) > 0)
        if not going.any():
            break
    escaped = ~(np.isfinite(after) & (after > 0))
    still = ~escaped & (np.abs(after - warm) <= ROUNDING * warm)
    lost = np.isnan(after)
    rising = np.where(lost | np.isinf(after), True, after > warm)
    start = np.log(np.where(escaped, q0, warm))

    def excess(places: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        part, q = pick(layer, places, t.shape[1]), np.exp(t).ravel()
        variance = part.variance(q)
        value = np.log(variance) - t.ravel()
        tilt = q * part.variance_slope(q) / variance - 1
        return value.reshape(t.shape), tilt.reshape(t.shape)

    def tendency(places: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # Where V is the identity to rounding, it has not turned round yet.
        value, tilt = excess(places, t)
        sign = np.where(rising[places, None], TINY, -TINY)
        return np.where(np.abs(value) <= ROUNDING, sign, value), tilt

    # Without biases V may leave the identity by less than rounding: the drift is read further up.
    nothing = layer.variance(np.zeros_like(q0)) == 0
    drifts = still & nothing & (np.abs(1 - layer.variance_slope(warm)) < STEADY)
    drift = np.zeros(q0.shape)
    for i in range(1, LOOK_STEPS + 1):
        at = np.flatnonzero(drifts & (np.abs(drift) <= ROUNDING))
        at = at[start[at] + LOOK_STEP * i < np.log(LARGEST)]
        if not at.size:
            break
        value = excess(at, start[at, None] + LOOK_STEP * i)[0][:, 0]
        drift[at] = np.where(np.isfinite(value), value, 0.0)
    drifts &= np.abs(drift) > ROUNDING
    still, rising = still & ~drifts, np.where(drifts, drift > 0, rising)

    step = np.where(rising, GRID_STEP, -GRID_STEP)
    end = np.where(rising, np.log(LARGEST), np.log(SMALLEST))
    count = np.where(still, -1, np.minimum(np.floor((end - start) / step), GRID_SIZE))
    seen = scan_all(tendency, start, step, count, ROUNDING)
    root = close_brackets(
        lambda places, t: excess(places, t[:, None])[0][:, 0],
        *(np.where(seen.found, x, 0.0) for x in seen[:4]),
    )
    crosses, blind = seen.found, seen.blind
    # What is found beyond a stretch that is not resolved need not be the first.
    crosses &= ~blind
    found = still | crosses
    fades = ~found & ~rising & ~blind & nothing
    q = np.where(still, warm, np.where(crosses, np.exp(root), FAINTEST))
    # One step of Newton's method takes what rounding of the logarithm left.
    slope = layer.variance_slope(q)
    moved = np.where(crosses & (np.abs(1 - slope) > 1e-3), (layer.variance(q) - q) / (1 - slope), 0)
    q = np.where(np.abs(moved) < 1e-12 * q, q + moved, q)
    slope, chi = layer.variance_slope(q), layer.moments(q).mean
    q = np.where(fades, 0.0, q)

    # Where φ jumps, χ1 is infinite and yet known.
    resolved = np.isfinite(q) & np.isfinite(slope) & ~np.isnan(chi)
    settles = resolved & (np.abs(slope) <= 1 + STEADY)
    grows = rising & ~seen.gap & runs_away(seen.last, seen.last_slopes)
    endless = np.isinf(seen.last).any(axis=1) & rising
    absent = np.where(
        endless,
        Status.NONFINITE,
        np.where((blind | lost) & ~grows | ~rising, Status.NOT_CONVERGED, Status.DIVERGES),
    )
    status = np.where(
        fades & resolved,
        Status.VANISHES,
        np.where(found, np.where(settles, Status.OK, Status.NOT_CONVERGED), absent),
    )
    known = (status == Status.OK) | (status == Status.VANISHES)
    q, slope, chi = (np.where(known, x, np.nan) for x in (q, slope, chi))
    return SteadyState(q, slope, chi, status.astype(np.int8))  # pyright: ignore[reportArgumentType]


def runs_away(growth: np.ndarray, tilt: np.ndarray) -> np.ndarray:
    """Return whether V leaves the diagonal for good, by the last variances at which it is known.

    Rows hold log(V/q) at these and its slopes in log q, NaN where V is unknown. V(q) is to exceed
    q there, by more than rounding, and V' is to be at least 1, so that the distance does not
    shrink.
    """
    known = np.isfinite(growth)
    slope = np.expm1(growth + np.log1p(tilt))
    away = (growth > ROUNDING) & (slope >= -ROUNDING)
    return np.asarray(known.any(axis=-1) & (away | ~known).all(axis=-1))


@elementwise(host=_settled, q0=POSITIVE)
def steady_state(layer: Layer, q0: ScalarLike = 1.0) -> SteadyState:
    """Return the fixed point of the variance that an input of variance q0 > 0 reaches.

    All arguments broadcast. χ1 is inf where φ jumps. The status is OK; VANISHES where the
    variance decays to zero (then q = 0 and the rest is the limit there); DIVERGES where it
    grows for ever: V exceeds q up to the largest variance at which it is resolved, and if that
    is not the largest of all, V' is at least 1 there; NONFINITE where V overflows; NOT_CONVERGED
    where V is unresolved or the iteration does not settle. Differentiable by the implicit function
    theorem.
    """
    found = asked(_settled, SteadyState(0.0, 0.0, 0.0, np.int8(0)), layer, q0)  # pyright: ignore[reportArgumentType]
    fades = found.status == Status.VANISHES
    known = fades | (found.status == Status.OK)
    # Where V' is 1 to rounding every variance is fixed: none moves with the parameters.
    q = jnp.where(fades, FAINTEST, jnp.where(known, found.q, 1.0))
    q = implicit(_growth, q, layer, slope=_gap, flat=STEADY)
    slope, chi = layer.variance_slope(q), layer.moments(q).mean
    q = jnp.where(fades, 0.0, q)
    q, slope, chi = (jnp.where(known, x, jnp.nan) for x in (q, slope, chi))
    return SteadyState(q, slope, chi, found.status)


def _growth(q: Array, layer: Layer) -> Array:
    return q - layer.variance(q)


def _gap(q: Array, layer: Layer) -> Array:
    return 1 - layer.variance_slope(q)


@struct
class CorrelationFixedPoint:
    """The limit `c` = 1 - `epsilon` of correlations, the map's `slope` there, a status."""

    c: Array
    epsilon: Array
    slope: Array
    status: Array


def _log_growth(t: Array, arguments: tuple[Layer, Array]) -> Array:
    layer, q = arguments
    return layer.growth(q, jnp.exp(t))


def _limit(layer: Layer, state: SteadyState) -> CorrelationFixedPoint:
    """Return `limit_correlation` of numbers."""
    ok = state.status == Status.OK
    chaotic = ok & ((state.chi > 1 + ON_EDGE) | layer.separates())
    q = np.where(ok, state.q, 1.0)
    epsilon, slope = np.zeros(q.shape), np.array(state.chi, dtype=float)
    at = np.flatnonzero(chaotic)
    if at.size:
        part = pick(layer, at)
        t = _log_epsilons(
            part, q[at], np.log(slope[at]), np.broadcast_to(layer.separates(), q.shape)[at]
        )
        epsilon[at] = np.exp(t)
        slope[at] = part.correlation_slope(q[at], epsilon[at])
    lost = ok & ~(np.isfinite(epsilon) & np.isfinite(slope))
    status = np.where(lost, Status.NOT_CONVERGED, state.status).astype(np.int8)
    epsilon, slope = (np.where(status == Status.OK, x, np.nan) for x in (epsilon, slope))
    return CorrelationFixedPoint(1.0 - epsilon, epsilon, slope, status)  # pyright: ignore[reportArgumentType]


def _log_epsilons(
    layer: Any, q: np.ndarray, log_chi: np.ndarray, separates: np.ndarray
) -> np.ndarray:
    """Return the roots of log(ε'/ε) in log ε.

    Without dropout what ε takes off log χ1, log χ1 - log(ε'/ε), is nearly a power of ε: its
    logarithm is solved for, by Newton's method within a bracket.
    """

    def growth(places: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        part, at, epsilon = pick(layer, places), q[places], np.exp(t)
        value = part.growth(at, epsilon)
        return value, part.correlation_slope(at, epsilon) / np.exp(value) - 1

    def scanned(places: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = [growth(places, column)[0] for column in t.T]
        return np.stack(values, axis=1), np.full(t.shape, np.nan)

    found = np.full(q.shape, np.nan)
    simple = ~separates & np.isfinite(log_chi)
    at = np.flatnonzero(~simple)
    if at.size:
        place, step = np.full(at.size, 1e-6), np.full(at.size, -EPSILON_STEP)
        seen = scan_all(
            lambda p, t: scanned(at[p], t), place, step, np.full(at.size, EPSILON_STEPS)
        )
        closed = close_brackets(lambda p, t: growth(at[p], t)[0], *seen[:4])
        found[at] = np.where(seen.found, closed, np.nan)
    at = np.flatnonzero(simple)
    low, high = np.full(q.shape, -np.inf), np.full(q.shape, np.log(2.0))
    t = np.full(q.shape, -0.7)
    for _ in range(NEWTON_STEPS):
        if not at.size:
            break
        value, tilt = growth(at, t[at])
        here = t[at]
        low[at] = np.where(value > 0, here, low[at])
        high[at] = np.where(value < 0, here, high[at])
        taken = log_chi[at] - value
        move = -np.log(taken / log_chi[at]) * taken / -tilt
        after = here + move
        inside = (after > low[at]) & (after < high[at])
        middle = np.where(np.isfinite(low[at]), (low[at] + high[at]) / 2, here - EPSILON_STEP)
        # A step of rounding may leave the bracket, and is the last one all the same.
        settled = (np.abs(move) <= SETTLED * np.maximum(1, np.abs(here))) | (value == 0)
        after = np.where(settled, here, np.where(inside, after, middle))
        t[at] = after
        lost = np.isnan(value)
        found[at[settled & ~lost]] = after[settled & ~lost]
        at = at[~settled & ~lost]
    return found


@elementwise(host=_limit)
def limit_correlation(layer: Layer, state: SteadyState) -> CorrelationFixedPoint:
    """Return the limit of correlations at a steady state that is known.

    ε'/ε falls from χ1 at ε = 0 to at most 1 at ε = 1, since C(0) >= 0.
    """
    like = CorrelationFixedPoint(0.0, 0.0, 0.0, np.int8(0))  # pyright: ignore[reportArgumentType]
    settled = state.status == Status.OK
    # A state that is none has no numbers, but a status.
    numbers = (jnp.where(settled, x, 1.0) for x in (state.q, state.slope, state.chi))
    found = asked(_limit, like, layer, SteadyState(*numbers, status=state.status))
    known = found.status == Status.OK

    def below_one() -> tuple[Array, Array]:
        q = jnp.asarray(state.q, dtype=float)
        t = implicit(_log_growth, jnp.log(found.epsilon), (layer, q))
        return jnp.exp(t), layer.correlation_slope(q, jnp.exp(t))

    def at_one() -> tuple[Array, Array]:
        return jnp.zeros(()), jnp.asarray(state.chi, dtype=float)

    epsilon, slope = jax.lax.cond(known & (found.epsilon > 0), below_one, at_one)
    epsilon, slope = (jnp.where(known, x, jnp.nan) for x in (epsilon, slope))
    return CorrelationFixedPoint(1.0 - epsilon, epsilon, slope, found.status)
