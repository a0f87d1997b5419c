"""Free products: how the squared singular values of a product of random matrices are distributed.

For a product of free factors, factor j a random matrix with E WWᵀ = 1 (Gaussian, g = 1, or
orthogonal, g = 0) times a diagonal one with squares X_j of mean 1, M = E λ/(ζ - λ) the moment
transform of its squared singular values λ. There are Ω_j(ζ) with E X_j/(Ω_j - X_j) = M and [1]

    ζ = (1 + M)/M · Π_j [ (1 + M)^g · M/(1 + M) · Ω_j ]^n_j,                              (1)

n_j the multiplicity of the factor. Just above the positive real axis

    λ ρ(λ) = -Im M/π,                                                                   (2)
    P(> λ) = ( -arg M + Σ_j n_j [ E arg(Ω_j - X_j) + arg M + g Im M ] )/π,              (3)

(3) because the logarithmic potential of λ, whose derivative in log ζ is 1 + M, integrates in closed
form along (1). So the distribution function is as exact as the density.

**Solution.** On the negative axis everything in (1) is real and monotone, and its solution unique.
From there it is followed along the half circle ζ = λ e^{iα} from α = π to α = 0 by Newton's method
in log Ω: there is no branch point on the way. Every λ is solved by itself; a guess, from solutions
nearby, saves the way if Newton's method converges from it.

**Edges** of the spectrum are where log ζ is stationary for real Ω outside the support of X.

References
----------
[1] J. Pennington, S. Schoenholz, S. Ganguli, Resurrecting the sigmoid in deep learning
    through dynamical isometry, NeurIPS 2017, arXiv:1711.04735.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr

from meanfield._struct import static, struct
from meanfield.gaussian import normal_density
from meanfield.slope_law import (
    CHECK_RULE,
    FLAT,
    RULE,
    SlopeLaw,
    log_below,
    log_slopes,
    preimages,
    transforms,
)
from meanfield.typing import Array

# Newton's steps at α = π; angles between π and the width of the spectrum; those in units of it, and
# steps at α = 0, two of them for what (1) to (3) are at the solution by two rules. A guess needs
# fewer.
START_STEPS, LAST_STEPS, NEAR_STEPS = 5, 8, 6
APPROACH = 10
WIDEST_ANGLE, NARROWEST_WIDTH = 2.2, 1e-12
TURN = (*np.geomspace(1.0, 0.005, 10), *np.geomspace(1e-3, 5e-8, 7), *np.zeros(LAST_STEPS))
STEPS = START_STEPS + APPROACH + len(TURN)
# A Newton step in log Ω is no longer than this.
LONGEST = 1.5
# A solution has a residual of log ζ below this part of the spectrum's width, or a last step in
# log Ω below that part of θ, and two rules differ by no more than the third.
RESIDUAL, STILL, DISAGREEMENT = 1e-8, 1e-7, 1e-6
# Below this part of |M| its imaginary part is rounding.
REAL = 3e-12
# log|Ω| on the negative axis is tabulated here.
LOG_RADII = 6.0 * np.sinh(np.linspace(-4.6, 2.6, 240))
# X is one number if that has this mass.
ALL = 1 - 1e-12
# Bisections for edges, in the logarithm of the distance from the support of X.
BISECTIONS, NEAREST, FARTHEST = 60, -27.0, 6.0
# Gaps inside the spectrum that are looked for; how: at so many points, so often.
GAPS = 2
GAP_POINTS, GAP_ROUNDS = 65, 10
# The support of X is followed by a gap of this size in log Ω.
BEYOND = 400.0
# The slope of log ζ in log Ω is known to this, over the distance of log Ω from the support.
SLOPE_ROUNDING = 1e-13
TINY = 1e-300
# Points that are solved for at once.
BATCH = 60


@struct
class Factors:
    """Layers of one kind: arrays of laws, multiplicities and gains; `gaussian` weights or not."""

    law: SlopeLaw
    count: Array
    log_chi: Array
    powers: Array
    """E X^k, k = 1 ... 8."""
    gaussian: bool = static()


def gather(factors: tuple[Factors, ...], read: Callable[..., Any], *arrays: Array) -> Any:
    """Return read(law, ...) of every layer, in one array."""
    results, start = [], 0
    for kind in factors:
        stop = start + kind.count.shape[0]
        results.append(jax.vmap(read)(kind.law, *(a[start:stop] for a in arrays)))
        start = stop
    return jax.tree.map(lambda *x: jnp.concatenate(x), *results)


@struct
class Stack:
    """What (1) asks of the layers: laws, multiplicities, and which of these are Gaussian."""

    factors: tuple[Factors, ...]
    count: Array
    """Multiplicities n_j."""
    gaussian: Array
    """n_j where weights are Gaussian, else 0."""

    @classmethod
    def of(cls, factors: tuple[Factors, ...]) -> "Stack":
        count = jnp.concatenate([kind.count for kind in factors])
        gaussian = jnp.concatenate([kind.count * kind.gaussian for kind in factors])
        return cls(factors, count, gaussian)

    @property
    def total(self) -> Array:
        """The number of layers."""
        return self.count.sum()

    @property
    def width(self) -> Array:
        """The standard deviation of λ (E λ = 1), or 1 if that is more."""
        variance = jnp.concatenate([kind.powers[:, 1] - 1 for kind in self.factors])
        width = jnp.sqrt((self.count * jnp.maximum(variance, 0.0) + self.gaussian).sum())
        return jnp.clip(width, NARROWEST_WIDTH, 1.0)

    @property
    def path(self) -> Array:
        """Angles α through which a solution is followed."""
        widest = WIDEST_ANGLE * self.width
        ratio = jnp.log(widest / WIDEST_ANGLE) / APPROACH
        approach = WIDEST_ANGLE * jnp.exp(ratio * jnp.arange(APPROACH))
        return jnp.concatenate([np.full(START_STEPS, np.pi), approach, widest * np.asarray(TURN)])

    @property
    def uniform(self) -> bool:
        """Whether all layers are equal."""
        return self.count.shape[0] == 1

    @property
    def law(self) -> SlopeLaw:
        """The law of the first layer."""
        return jax.tree.map(lambda x: x[0], self.factors[0].law)

    @property
    def is_law(self) -> Array:
        """Whether λ is a squared slope itself: one layer with orthogonal weights, or many of one
        slope.
        """
        constant = gather(self.factors, lambda law: law.heaviest[1]).min() >= ALL
        return ((self.total == 1) | constant) & (self.gaussian.sum() == 0)


@struct
class Solution:
    """What is known at λ: λρ(λ), P(> λ), whether they are resolved, and log Ω of every layer."""

    log_density: Array
    above: Array
    resolved: Array
    log_r: Array
    theta: Array

    @classmethod
    def unknown(cls, targets: Array, layers: int) -> "Solution":
        """Return what is known before anything is solved: nothing."""
        nothing = jnp.full_like(targets, jnp.nan)
        omega = jnp.full((*targets.shape, layers), jnp.nan)
        return cls(nothing, nothing, jnp.zeros(targets.shape, bool), omega, omega)


@struct
class State:
    """Ω of every layer, what (1) to (3) are read from, the residual of (1) and the last step.

    These are of the Ω before the step.
    """

    log_r: Array
    theta: Array
    m: Array
    argument: Array
    angle: Array
    error: Array
    step: Array

    @classmethod
    def at(cls, log_r: Array, theta: Array) -> "State":
        """Return the state of an Ω at which nothing is known."""
        zero = jnp.zeros(())
        return cls(log_r, theta, zero + 0j, zero, zero, zero, jnp.zeros_like(log_r))


def _newton(stack: Stack, state: State, target: Array, rule: Array, last: Array) -> State:
    """Return the state after a step towards log ζ = target, with its angle if it is the last."""
    log_r, theta = state.log_r, state.theta
    at = gather(stack.factors, lambda law, r, t: transforms(law, r, t, rule, last), log_r, theta)
    ratio = at.log_ratio
    m, argument = at.m[0], log_below(at.m[0]).imag
    value = (stack.count * (log_r + 1j * theta)).sum() + (stack.total - 1) * ratio[0]
    value = value + stack.gaussian.sum() * log_below(at.one_plus_m[0])
    residual, apart = target - value, ratio[0] - ratio
    pull = stack.count / at.log_slope
    stiffness = pull.sum() + stack.total - 1 + m * stack.gaussian.sum()
    step = ((residual - (pull * apart).sum()) / stiffness + apart) / at.log_slope
    size = jnp.maximum(jnp.abs(step), TINY)
    step = jnp.where(jnp.isfinite(step), step * jnp.minimum(1.0, LONGEST / size), 0.0)
    # (3) without its first term.
    angle = (stack.count * (at.angle + argument)).sum() + stack.gaussian.sum() * m.imag
    error = jnp.abs(residual) + jnp.abs(apart).sum()
    theta = jnp.clip(theta + step.imag, 0.0, np.pi)
    return State(log_r + step.real, theta, m, argument, angle, error, jnp.abs(step))


def tabulate(stack: Stack) -> tuple[Array, Array]:
    """Return log|Ω| of every layer along the negative axis, and log|ζ| there."""
    layers = stack.count.shape[0]

    def at(x: Array) -> tuple[Array, Array]:
        radii, angles = jnp.full(layers, x), jnp.full(layers, np.pi)
        here = gather(stack.factors, lambda law, r, t: transforms(law, r, t), radii, angles)
        return here.log_ratio.real, log_below(here.one_plus_m).real

    ratio, log_rest = jax.lax.map(at, jnp.asarray(LOG_RADII), batch_size=16)
    # The layer with the largest atom at 0 has the narrowest range of M.
    first = gather(stack.factors, lambda law: law.zero_mass).argmax()
    shared, log_rest = ratio[:, first], log_rest[:, first]
    places = jax.vmap(lambda r: jnp.interp(-shared, -r, LOG_RADII), in_axes=1, out_axes=1)(ratio)
    places = places.at[:, first].set(LOG_RADII)
    value = (stack.count * places).sum(axis=1) + (stack.total - 1) * shared
    return places, value + stack.gaussian.sum() * log_rest


def _follow(stack: Stack, first: State, targets: Array, begin: Array) -> Solution:
    """Return the solutions at log λ = targets, from states on the path's step `begin` on."""
    path = stack.path

    def step(i: Array, pair: tuple[State, State]) -> tuple[State, State]:
        check, last = i == STEPS - 1, i >= STEPS - 2
        rule = jnp.where(check, CHECK_RULE, RULE)
        angle = path[i]
        one = jax.vmap(lambda s, t: _newton(stack, s, t + 1j * angle, rule, last))
        return pair[1], one(pair[1], targets)

    end, check = jax.lax.fori_loop(begin, STEPS, step, (first, first))
    size = jnp.maximum(1.0, jnp.abs(end.m))
    agree = jnp.abs(end.m - check.m) <= DISAGREEMENT * size
    density = jnp.maximum(-end.m.imag, 0.0)
    density = jnp.where(density <= REAL * size, 0.0, density) / np.pi
    above = jnp.clip((end.angle - end.argument) / np.pi, 0.0, 1.0)
    # Close to an edge the step is compared with θ, which vanishes there.
    still = (end.step <= STILL * end.theta).all(axis=-1)
    solved = still | (end.error <= RESIDUAL * stack.width * (1 + stack.total / 1e3))
    return Solution(density, above, solved & agree, end.log_r, end.theta)


def _product(
    stack: Stack, start: tuple[Array, Array], targets: Array, guess: tuple[Array, Array]
) -> Solution:
    """Return the solutions at log λ = targets for a product of layers."""
    log_r = jax.vmap(lambda p: jnp.interp(targets, start[1], p), 1, 1)(start[0])
    # A guess is tried first, the path from the negative axis next.
    guessed = ~jnp.isnan(guess[0]).any()

    def goes_on(state: tuple[Array, Solution]) -> Array:
        return (state[0] < 2) & ~state[1].resolved.all()

    def attempt(state: tuple[Array, Solution]) -> tuple[Array, Solution]:
        near = state[0] == 0
        begin = jnp.where(near, STEPS - NEAR_STEPS, 0)
        log_omega = (jnp.where(near, g, s) for g, s in zip(guess, (log_r, np.pi), strict=True))
        first = jax.vmap(State.at)(*log_omega)
        return state[0] + 1, _follow(stack, first, targets, begin)

    nothing = Solution.unknown(targets, stack.count.shape[0])
    return jax.lax.while_loop(goes_on, attempt, (jnp.where(guessed, 0, 1), nothing))[1]


def _itself(stack: Stack, target: Array) -> Solution:
    """Return the law of X itself at log x = target: one layer with orthogonal weights."""
    law = stack.law
    omega = target[None], jnp.zeros(1)
    places = jnp.log(jnp.maximum(law.values, TINY))
    above = jnp.where(places > target, law.masses, 0.0).sum()
    if law.discrete:
        return Solution(jnp.zeros(()), above, jnp.ones((), bool), *omega)
    z = preimages(law, target)
    inside = (target > law.log_x[:, 0]) & (target < law.log_x[:, -1]) & (law.live > 0)
    steep = log_slopes(law, z)[0]
    density = jnp.where(inside, normal_density(z) / jnp.where(inside, steep, 1.0), 0.0).sum()
    higher = jnp.abs(ndtr(law.z[:, -1]) - ndtr(z)) * law.live
    above = above + law.keep * higher.sum()
    return Solution(law.keep * density, above, jnp.ones((), bool), *omega)


def solve(
    stack: Stack,
    start: tuple[Array, Array],
    targets: Array,
    single: bool,
    guess: tuple[Array, Array] | None = None,
) -> Solution:
    """Return the solutions at a vector of log λ; `start` is that of `tabulate`.

    `single` allows for a law itself: a single layer with orthogonal weights. A guess is of log|Ω|
    and arg Ω, of shape (points, layers); NaN where there is none.
    """
    count, layers = targets.shape[0], stack.count.shape[0]
    if guess is None:
        nothing = jnp.full((count, layers), jnp.nan)
        guess = (nothing, nothing)
    if count == 0:
        return Solution.unknown(targets, layers)
    size = min(BATCH, count)

    def in_batches(x: Array) -> Array:
        # The last batch is filled up with its last point.
        index = jnp.minimum(jnp.arange(-(-count // size) * size), count - 1)
        return x[index].reshape(-1, size, *x.shape[1:])

    def product() -> Solution:
        batches = jax.tree.map(in_batches, (targets, guess))
        found = jax.lax.map(lambda batch: _product(stack, start, *batch), batches)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], found)

    def itself() -> Solution:
        return jax.lax.map(lambda t: _itself(stack, t), targets, batch_size=size)

    return jax.lax.cond(stack.is_law, itself, product) if single else product()


def _stationary(stack: Stack, log_r: Array) -> tuple[Array, Array, Array]:
    """Return log ζ, its slope in log Ω, and M, for real Ω outside the support of X."""
    at = gather(stack.factors, lambda law, r, t: transforms(law, r, t), log_r, 0 * log_r)
    ratio, m = at.log_ratio.real[0], at.m.real[0]
    gaussian = stack.gaussian.sum()
    value = (stack.count * log_r).sum() + (stack.total - 1) * ratio
    value = value + gaussian * log_below(at.one_plus_m[0]).real
    slope = (stack.count / at.log_slope.real).sum() + stack.total - 1 + m * gaussian
    return value, slope * at.log_slope.real[0], m


def gap_ends(stack: Stack, begin: Array, size: Array, side: Array) -> Array:
    """Return the log λ between which log ζ rises while log Ω of equal layers crosses a gap.

    The gap, from `begin` on, is one in the support of X; what is returned is one in that of λ,
    or NaNs. `side` is 1 where M > 0, and -1 where M < -1: only there is λ > 0 for real Ω, with
    Gaussian weights only in the first case.
    """
    legal = (side > 0) | (stack.gaussian.sum() == 0)

    def refine(_: int, state: tuple[Array, Array]) -> tuple[Array, Array]:
        brackets = state[0]
        low, high = brackets[:, :1], brackets[:, 1:]
        logits = low + (high - low) * jnp.linspace(0, 1, GAP_POINTS)
        places = begin + size * jax.nn.sigmoid(logits)
        values, slopes, m = jax.vmap(jax.vmap(lambda v: _stationary(stack, v[None])))(places)
        # The closer an end of the gap, the less is known of the slope.
        unsure = SLOPE_ROUNDING / jnp.minimum(jax.nn.sigmoid(logits), jax.nn.sigmoid(-logits))
        rises = slopes * size > unsure * stack.total
        rises = rises & legal & jnp.where(side > 0, m > 0, m < -1)
        first = rises[0].argmax()
        last = GAP_POINTS - 1 - rises[1, ::-1].argmax()
        index = jnp.array(
            [
                [jnp.maximum(first - 1, 0), first],
                [last, jnp.minimum(last + 1, GAP_POINTS - 1)],
            ]
        )
        ends = jnp.where(rises.any(), jnp.stack([values[0, first], values[1, last]]), jnp.nan)
        return jnp.take_along_axis(logits, index, axis=1), ends

    whole = jnp.full((2, 2), NEAREST).at[:, 1].set(-NEAREST)
    _, ends = jax.lax.fori_loop(0, GAP_ROUNDS, refine, (whole, jnp.full(2, jnp.nan)))
    return jnp.where(size > FLAT, ends, jnp.nan)


def find_gaps(stack: Stack) -> Array:
    """Return the gaps in the support of log λ for equal layers, NaN-padded, the outer ones last.

    The last two are the gap below the smallest X that is not 0 and the one above the largest.
    """
    law = stack.law
    low, high = law.ranges
    order = jnp.argsort(low)
    low, reached = low[order], jax.lax.cummax(high[order])
    width = jnp.where(jnp.isfinite(low[1:]), low[1:] - reached[:-1], 0.0)
    missing = max(0, GAPS - width.shape[0])
    width, begin = jnp.pad(width, (0, missing)), jnp.pad(reached[:-1], (0, missing))
    widest = jnp.argsort(-width)[:GAPS]
    begin = jnp.concatenate([begin[widest], jnp.stack([low[0] - BEYOND, reached[-1]])])
    width = jnp.append(width[widest], jnp.full(2, BEYOND))
    direct = jnp.where((width > FLAT)[:, None], jnp.stack([begin, begin + width], axis=-1), jnp.nan)
    inner = np.repeat(np.arange(GAPS), 2)
    order = np.append(inner, [GAPS, GAPS + 1])
    sides = jnp.append(jnp.tile(jnp.array([1.0, -1.0]), GAPS), jnp.array([-1.0, 1.0]))
    found = jax.lax.map(lambda gap: gap_ends(stack, *gap), (begin[order], width[order], sides))
    # For the law itself, each gap once.
    twice = jnp.append(jnp.tile(jnp.array([False, True]), GAPS), jnp.array([False, False]))
    direct = jnp.where(twice[:, None], jnp.nan, direct[order])
    return jnp.where(stack.is_law, direct, found)


def edge_of_stack(stack: Stack, ends: Array, side: float) -> Array:
    """Return log λ at the edge where Ω lies beyond `ends`, log x of every one of unlike layers."""

    def logs(log_r: Array) -> Array:
        at = gather(stack.factors, lambda law, r, t: transforms(law, r, t), log_r, 0 * log_r)
        return at.log_ratio.real

    def place(distance: Array) -> Array:
        first = ends[0] + side * jnp.exp(distance)
        shared = logs(ends.at[0].set(first))[0]

        def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = bracket
            middle = (low + high) / 2
            # |log(M/(1 + M))| grows with the distance.
            near = jnp.abs(logs(ends + side * jnp.exp(middle))) < jnp.abs(shared)
            return jnp.where(near, middle, low), jnp.where(near, high, middle)

        bracket = (jnp.full_like(ends, NEAREST), jnp.full_like(ends, FARTHEST))
        low, high = jax.lax.fori_loop(0, BISECTIONS, halve, bracket)
        return (ends + side * jnp.exp((low + high) / 2)).at[0].set(first)

    def halve(_: int, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        low, high = state[:2]
        middle = (low + high) / 2
        value, slope = _stationary(stack, place(middle))[:2]
        far = slope > 0
        return jnp.where(far, low, middle), jnp.where(far, middle, high), value

    start = (jnp.asarray(NEAREST), jnp.asarray(FARTHEST), jnp.zeros(()))
    return jax.lax.fori_loop(0, BISECTIONS, halve, start)[2]


def support_of(low: Array, high: Array, gaps: Array) -> Array:
    """Return the bands of log λ that gaps leave of an interval, NaN-padded; (bands, 2)."""
    # NaN sorts last, behind the upper end.
    ends = jnp.sort(jnp.concatenate([low[None], gaps.ravel(), high[None]]))
    bands = ends.reshape(-1, 2)
    return jnp.where((bands[:, 1] > bands[:, 0])[:, None], bands, jnp.nan)


def smooth_bands(stack: Stack, low: Array, high: Array, gaps: Array) -> Array:
    """Return the intervals of log λ on which the density is smooth, NaN-padded; (bands, 2)."""
    bands, law = support_of(low, high, gaps), stack.law
    if not stack.uniform or law.discrete:
        return bands
    # The law itself is singular where a piece ends.
    breaks = jnp.sort(jnp.where(law.live[:, None] > 0, law.log_x[:, [0, -1]], jnp.nan).ravel())
    own = jnp.stack([breaks[:-1], breaks[1:]], axis=-1)
    size = max(bands.shape[0], own.shape[0])
    bands, own = (
        jnp.pad(x, ((0, size - x.shape[0]), (0, 0)), constant_values=jnp.nan) for x in (bands, own)
    )
    return jnp.where(stack.is_law, own, bands)
