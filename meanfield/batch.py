"""Where do signals settle in many networks of one activation? Read off its table, all at once.

From the start q0 the variance moves in the direction of V(q) - q. A walk over a grid of log q finds
the cell in which it stops, a safeguarded Newton iteration q* in it. With
D = E (φ(u1) - φ(u2))²/(2qε) the correlation map is ε' = σw² D ε at q*: correlations stop at the
angle θ = arccos c for which

    G(q*, θ) = E φ'(u)² - 1/σw²,      C'(c*) = 1 - σw² tan(θ/2) dG/dθ,

G being what the table holds. All networks take the same steps, so that a step is one vector
operation. What the table or the steps do not settle is not `sure`: `meanfield.fixedpoint` answers
there.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._struct import struct
from meanfield.chebyshev import locate, series, series_and_slope
from meanfield.errors import Status
from meanfield.fixedpoint import ON_EDGE
from meanfield.pair_table import PAIR_TOLERANCE
from meanfield.table import ACUTE, PAIRS, WIDE, Table, Tabulated
from meanfield.typing import Array, ScalarLike

# Bytes that a network takes: mostly the series of θ, gathered and summed.
EACH = 8192
# Points of the walk in a cell of the table.
POINTS = 4
# Layers that a variance goes before it is asked whether it draws nearer to q*.
LAYERS = 8
# Newton steps that bring a bracket of that size to rounding.
STEPS = 8
# Nothing is sure where V' is this close to 1, or V(q) - q this small at q0 or where it turns.
MARGIN = 3e-5
ROUNDING = 1e-12
# V runs away by its slopes at so many of the largest variances that are known. If these differ by
# more than this factor V may overflow.
LAST, EVEN = 16, 1.1
# V(q)/q at the least q of the table is to be so far below 1 for the variance to vanish.
CLEARLY = 1e-3
# So much of E φ'² is lost where 1/σw² is subtracted from it.
LEFT = 1e-14
# The last Newton step in log q or log θ may be this large.
LAST_STEP = 1e-9
# θ is looked for from here on.
SMALLEST_ANGLE = 1e-16


@struct
class Settled:
    """What `meanfield.fixedpoint` says of networks, and E φ'⁴/(E φ'²)²; `sure` if it is known.

    `epsilon` is 1 - c*. Numbers are NaN where the status is not OK.
    """

    q: Array
    slope: Array
    chi: Array
    moment_ratio: Array
    epsilon: Array
    correlation_slope: Array
    status: Array
    sure: Array


def settle(phi: Tabulated, sigma_w: Array, sigma_b: Array, q0: ScalarLike) -> Settled:
    """Return where dense networks without dropout settle, for vectors of σw and σb.

    They start at the variance q0, a scalar.
    """
    acute = dataclasses.replace(phi.table, pairs=phi.table.pairs.acute())
    return _settle(dataclasses.replace(phi, table=acute).bare(), sigma_w, sigma_b, q0)


@jax.jit
def _settle(phi: Tabulated, sigma_w: Array, sigma_b: Array, q0: ScalarLike) -> Settled:
    table, unit = phi.table, jnp.square(phi.width)
    # With q in units of width², they are networks of φ1.
    weights, biases = jnp.square(sigma_w * phi.steepness), jnp.square(sigma_b) / unit
    start = jnp.asarray(q0 / unit)
    stop = _walk(table, weights, biases, start)
    log_q, closed = _variance(table, stop, weights, biases)
    reached = jax.lax.cond(
        stop.monotone.all(),
        lambda: stop.monotone,
        lambda: stop.monotone | _attracts(table, weights, biases, start, jnp.exp(log_q)),
    )
    cell, x = locate(jnp.asarray(WIDE), log_q)
    variance_slope, mean, fourth = (
        series(part[cell], x)
        for part in (table.variance_slope, table.slope_moment, table.fourth_slope_moment)
    )
    slope, chi = weights * variance_slope, weights * mean
    chaotic = chi > 1 + ON_EDGE
    epsilon, steepness, limited = _limit(table, log_q, mean, weights)

    values = {
        "q": unit * jnp.exp(log_q),
        "slope": slope,
        "chi": chi,
        "moment_ratio": fourth / mean**2,
        "epsilon": jnp.where(chaotic, epsilon, 0.0),
        "correlation_slope": jnp.where(chaotic, 1 - weights * steepness, chi),
    }
    finite = {name: jnp.isfinite(value) for name, value in values.items()}
    # If φ jumps, moments of φ' are infinite.
    infinite = jnp.isinf(chi) & table.pairs.jumps
    known = (finite["chi"] & finite["moment_ratio"]) | infinite
    for name in ("q", "slope", "epsilon", "correlation_slope"):
        known &= finite[name]
    settled = closed & known & (jnp.abs(slope) < 1 - MARGIN) & (limited | ~chaotic)
    ok = stop.status == Status.OK
    return Settled(
        **{name: jnp.where(ok, value, jnp.nan) for name, value in values.items()},
        status=stop.status,
        sure=stop.sure & reached & (settled | ~ok),
    )


@struct
class Stop:
    """Logarithms of variances between which V(q) - q passes through 0; a status."""

    low: Array
    high: Array
    status: Array
    monotone: Array
    """Whether V does not fall on the way: then the variance cannot jump past a fixed point."""
    sure: Array


@struct
class Way:
    """The grid of log q from q0 on, up or down, with E φ² and its slope; NaN beyond the end."""

    log_q: Array
    second_moment: Array
    slope: Array


def _grid() -> np.ndarray:
    """Return the values of log q on which networks walk."""
    inner = np.linspace(WIDE[:-1], WIDE[1:], POINTS, endpoint=False, axis=1).ravel()
    return np.append(inner, WIDE[-1])


def _ways(table: Table, q0: Array) -> tuple[Way, Way]:
    grid = jnp.asarray(_grid())
    first = jnp.searchsorted(grid, jnp.log(q0), side="right")
    count = jnp.arange(grid.size + 1)

    def way(index: Array) -> Way:
        inside = (index >= 0) & (index < grid.size)
        log_q = jnp.where(inside, grid[jnp.clip(index, 0, grid.size - 1)], jnp.nan)
        known = (q0 >= np.exp(WIDE[0])) & (q0 <= np.exp(WIDE[-1]))
        log_q = log_q.at[0].set(jnp.where(known, jnp.log(q0), jnp.nan))
        cell, x = locate(jnp.asarray(WIDE), log_q)
        read = (series(part[cell], x) for part in (table.second_moment, table.variance_slope))
        return Way(log_q, *read)

    return way(first - 1 + count), way(first - count)


@struct
class Walk:
    """How far the variances have come: a point of the way, and what was met before it."""

    index: Array
    drive: Array
    """V(q) - q in the direction of the walk: positive until the variance has stopped."""
    tilt: Array
    """V'(q) - 1."""
    going: Array
    before: Array
    after: Array
    """Between which points of log q it stopped."""
    turns: Array
    """In how many cells V(q) - q turned round without passing through 0 at their ends."""
    turn_start: Array
    turn_end: Array
    """The first of these cells."""
    known: Array


def _walk(table: Table, weights: Array, biases: Array, q0: Array) -> Stop:
    up, down = _ways(table, q0)
    rising = weights * up.second_moment[0] + biases > q0
    sign = jnp.where(rising, 1.0, -1.0)

    def at(index: Array) -> tuple[Array, Array, Array]:
        """Return log q, drive and tilt at a point of the way."""
        log_q, second_moment, slope = (
            jnp.where(rising, one[index], other[index])
            for one, other in zip(jax.tree.leaves(up), jax.tree.leaves(down), strict=True)
        )
        drive = sign * (weights * second_moment + biases - jnp.exp(log_q))
        return log_q, drive, weights * slope - 1

    def advance(walk: Walk) -> Walk:
        here, _, _ = at(walk.index)
        there, drive, tilt = at(walk.index + 1)
        away = runs_away & (walk.index + 1 >= end)
        ended = jnp.isnan(there) | away
        stops = walk.going & (drive <= 0)
        turns = walk.going & (walk.drive > 0) & (drive > 0) & (walk.tilt < 0) & (tilt > 0)
        first = turns & (walk.turns == 0)
        return Walk(
            index=walk.index + 1,
            drive=drive,
            tilt=tilt,
            going=walk.going & ~stops & ~ended,
            before=jnp.where(stops, here, walk.before),
            after=jnp.where(stops, there, walk.after),
            turns=walk.turns + turns,
            turn_start=jnp.where(first, here, walk.turn_start),
            turn_end=jnp.where(first, there, walk.turn_end),
            known=walk.known & (~walk.going | ended | jnp.isfinite(drive)),
        )

    # V runs away if it exceeds q as far as it is known, and V' is clearly above 1 at the end.
    end, least, greatest = _end(up)
    runs_away = rising & (weights * least > 1 + MARGIN) & (greatest <= EVEN * least) & (end >= LAST)
    start, drive, tilt = at(jnp.zeros((), int))
    nowhere = jnp.full_like(weights, jnp.nan)
    walk = Walk(
        index=jnp.zeros((), int),
        drive=drive,
        tilt=tilt,
        going=jnp.ones_like(rising),
        before=nowhere,
        after=nowhere,
        turns=jnp.zeros_like(weights, int),
        turn_start=nowhere,
        turn_end=nowhere,
        known=drive > ROUNDING * jnp.exp(start),
    )
    walk = jax.lax.while_loop(
        lambda walk: walk.going.any() & (walk.index < up.log_q.size - 1), advance, walk
    )

    # It may have stopped in a cell in which V(q) - q turned round.
    low, high = (pick(walk.turn_start, walk.turn_end) for pick in (jnp.minimum, jnp.maximum))
    least = _turning_point(table, low, high, weights)
    cell, x = locate(jnp.asarray(WIDE), least)
    height = weights * series(table.second_moment[cell], x) + biases - jnp.exp(least)
    height = sign * height / jnp.exp(least)
    turned = walk.turns > 0
    dips = turned & (height < 0)
    before = jnp.where(dips, walk.turn_start, walk.before)
    after = jnp.where(dips, least, walk.after)
    found = jnp.isfinite(after)
    clear = ~turned | ((walk.turns == 1) & (jnp.abs(height) > ROUNDING))
    end = jnp.where(dips, walk.turn_end, walk.after)
    monotone = jnp.where(rising, _rises(up, end), _rises(down, end))
    # V(q) may yet pass q below the grid, unless it is well below it.
    least_q = np.exp(WIDE[0])
    left = weights * series(table.second_moment[0], -jnp.ones(())) / least_q
    fades = (biases == 0) & (left < 1 - CLEARLY)
    absent = jnp.where(rising, Status.DIVERGES, Status.VANISHES)
    return Stop(
        low=jnp.minimum(before, after),
        high=jnp.maximum(before, after),
        status=jnp.where(found, Status.OK, absent).astype(jnp.int8),
        monotone=monotone,
        sure=walk.known & clear & (found | rising | fades),
    )


def _end(way: Way) -> tuple[Array, Array, Array]:
    """Return from which point of a way on nothing is known, and the extreme slopes before it."""
    count = jnp.arange(way.log_q.size)
    end = jnp.max(jnp.where(jnp.isnan(way.second_moment), 0, count + 1))
    before = (count < end) & (count >= end - LAST)
    least, greatest = (
        best(jnp.where(before, way.slope, worst))
        for best, worst in ((jnp.min, jnp.inf), (jnp.max, -jnp.inf))
    )
    return end, least, greatest


def _rises(way: Way, end: Array) -> Array:
    """Return whether V' >= 0 at all points of a way up to its ends, all of it if they are NaN."""
    falls = way.slope < 0
    first = jnp.abs(way.log_q[jnp.argmax(falls)] - way.log_q[0])
    return ~falls.any() | (jnp.abs(end - way.log_q[0]) < first)


def _attracts(table: Table, weights: Array, biases: Array, q0: Array, q: Array) -> Array:
    """Return whether a fixed point q attracts what comes from q0, as far as is seen.

    After some layers V maps each variance that is not further from q than they have come to one
    that is nearer. It is looked at on the grid.
    """

    def after(variance: Array) -> Array:
        cell, x = locate(jnp.asarray(WIDE), jnp.log(variance))
        moment = series(table.second_moment[cell], x)
        known = (variance >= np.exp(WIDE[0])) & (variance <= np.exp(WIDE[-1]))
        return jnp.where(known, weights * moment + biases, jnp.nan)

    come = jax.lax.fori_loop(0, LAYERS, lambda _, v: after(v), jnp.full_like(q, q0))
    reach = jnp.abs(come - q)
    variances = jnp.exp(jnp.asarray(_grid()))

    def look(i: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        nearer, least = state
        there, distance = after(variances[i]), jnp.abs(variances[i] - q)
        within = (distance <= reach) & (distance > ROUNDING * q)
        nearer &= ~within | (jnp.abs(there - q) < distance)
        return nearer, jnp.where(within, jnp.minimum(least, there), least)

    next_reach = jnp.abs(after(come) - q)
    first = ((next_reach < reach) | (reach <= ROUNDING * q), q)
    nearer, least = jax.lax.fori_loop(0, variances.size, look, first)
    return nearer & (q + reach <= np.exp(WIDE[-1])) & (least >= np.exp(WIDE[0]))


def newton(
    step: Callable[[Array], tuple[Array, Array]], low: Array, high: Array
) -> tuple[Array, Array]:
    """Return the root of a function that rises through 0 between low and high, and its last step.

    `step` returns value and slope.
    """

    def advance(_: int, state: tuple[Array, ...]) -> tuple[Array, ...]:
        low, high, at = state[:3]
        value, slope = step(at)
        low, high = jnp.where(value < 0, at, low), jnp.where(value < 0, high, at)
        proposed = at - value / slope
        proposed = jnp.clip(jnp.where(slope > 0, proposed, (low + high) / 2), low, high)
        return low, high, proposed, jnp.abs(proposed - at)

    middle = (low + high) / 2
    _, _, at, last = jax.lax.fori_loop(0, STEPS, advance, (low, high, middle, high - low))
    return at, last


def _in_cell(edges: np.ndarray, low: Array, high: Array) -> tuple[Array, Array, Array]:
    """Return the cell that holds an interval, its middle, and half its width."""
    cell, _ = locate(jnp.asarray(edges), (low + high) / 2)
    ends = jnp.asarray(edges)[cell], jnp.asarray(edges)[cell + 1]
    return cell, (ends[0] + ends[1]) / 2, (ends[1] - ends[0]) / 2


def _turning_point(table: Table, low: Array, high: Array, weights: Array) -> Array:
    """Return where V' = 1 between two points of the grid."""
    cell, middle, half = _in_cell(WIDE, low, high)
    coefficients = table.variance_slope[cell]
    sign = jnp.sign(weights * series(coefficients, (high - middle) / half) - 1)

    def step(log_q: Array) -> tuple[Array, Array]:
        value, slope = series_and_slope(coefficients, (log_q - middle) / half)
        return sign * (weights * value - 1), sign * weights * slope / half

    return newton(step, low, high)[0]


def _variance(table: Table, stop: Stop, weights: Array, biases: Array) -> tuple[Array, Array]:
    """Return log q* and whether it has been found to rounding."""
    cell, middle, half = _in_cell(WIDE, stop.low, stop.high)
    coefficients = table.second_moment[cell]

    def step(log_q: Array) -> tuple[Array, Array]:
        value, slope = series_and_slope(coefficients, (log_q - middle) / half)
        q = jnp.exp(log_q)
        return q - weights * value - biases, q - weights * slope / half

    log_q, last = newton(step, stop.low, stop.high)
    return log_q, last <= LAST_STEP


def _limit(table: Table, log_q: Array, mean: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Return ε and tan(θ/2) dG/dθ where G = E φ'² - 1/σw², and whether they are known."""
    pairs, acute = table.pairs, ACUTE.size - 1
    # If φ jumps, E φ'² is not in G, which is negative then.
    sign = jnp.where(pairs.jumps, -1.0, 1.0)
    finite = jnp.where(pairs.jumps, 0.0, mean)
    wanted = finite - 1 / weights
    cell, x = locate(jnp.asarray(PAIRS), log_q)
    # All by exp(κ/q).
    decay = pairs.rate * jnp.exp(-log_q)
    scaled = wanted * jnp.exp(decay)
    at_ends = series(pairs.g[:, :acute].sum(axis=-1)[cell], x[:, None])
    ends, _ = pairs.read(jnp.asarray(ACUTE[1:]), at_ends, jnp.zeros_like(at_ends))
    angle = (ends < scaled[:, None]).sum(axis=1)
    beyond = angle == ends.shape[1]
    # c* is not negative: where G(π/2) is `wanted` but for its error, c* is 0.
    error = PAIR_TOLERANCE * jnp.abs(ends[:, -1]) + LEFT * finite * jnp.exp(decay)
    none = beyond & (scaled - ends[:, -1] <= error)
    angle = jnp.minimum(angle, ends.shape[1] - 1)
    line = series(jnp.swapaxes(pairs.g[cell, angle], 1, 2), x[:, None])
    low, high = jnp.asarray(ACUTE)[angle], jnp.asarray(ACUTE)[angle + 1]
    target = jnp.log(jnp.where(sign * wanted > 0, sign * wanted, 1.0)) + decay

    def read(theta: Array) -> tuple[Array, Array]:
        """Return exp(κ/q) G and θ dG/dθ likewise."""
        g, slope = series_and_slope(line, (2 * theta - low - high) / (high - low))
        return pairs.read(theta, g, theta * slope * 2 / (high - low))

    def step(log_theta: Array) -> tuple[Array, Array]:
        deficit, growth = read(jnp.exp(log_theta))
        return sign * (jnp.log(sign * deficit) - target), sign * growth / deficit

    log_theta, last = newton(step, jnp.log(jnp.maximum(low, SMALLEST_ANGLE)), jnp.log(high))
    theta = jnp.where(none, np.pi / 2, jnp.exp(log_theta))
    growth = jnp.exp(-decay) * read(theta)[1] / theta
    inside = (log_q >= PAIRS[0]) & (log_q <= PAIRS[-1])
    known = inside & (none | (~beyond & (last <= LAST_STEP)))
    return 2 * jnp.sin(theta / 2) ** 2, jnp.tan(theta / 2) * growth, known
