"""How to initialise a deep network with a given activation.

At initialisation a network of depth L and activation φ can be trained if

    gradients keep their size:            χ1^L = 1, on the edge of chaos,
    variances keep theirs:                |V'(q)| ≤ 1,
    inputs stay apart:                    correlation 0 at the input is at most 0.9 at the output,
    the Jacobian acts alike on all:       L (μ2/μ1² - 1) ≤ 1 for orthogonal weights,

with μ_k = E φ'(√q z)^(2k): m2/m1² = 1 + L (μ2/μ1² - 1) is how its squared singular values spread
[1], and 0.9 is what [2] allows rectifiers. Along the edge both numbers fall with q, hence with σb:
narrow Gaussians see a straight line. What is recommended is the largest q at which they hold, the
least linear network that can be trained; where the fourth cannot be had, of the first three the
network whose Jacobian spreads least.

How wide must a linear region be? Stretching φ, a φ(x/a), takes the edge at (q, σb) to (a²q, aσb)
and changes nothing else. So at a given σb a network of depth L needs

    a ≥ σb / σb°(L),        σb°(L) what is recommended for a = 1,

and every activation has its own curve σb°(L). The theorem of [1] bounds it for scaled-bounded φ.

References
----------
[1] M. Murray, V. Abrol, J. Tanner, Activation function design for deep networks: linearity and
    effective initialisation, arXiv:2105.07741 (2021).
[2] G. Zhang, A. Botev, J. Martens, Deep learning without shortcuts: shaping the kernel with
    tailored rectifiers, ICLR 2022, arXiv:2203.08120.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from meanfield._elementwise import NON_NEGATIVE
from meanfield._struct import on_host
from meanfield.activations import Activation, LeakyRelu, Relu, activation, centre, mollify
from meanfield.activations.base import ActivationLike, single_activation
from meanfield.activations.custom import Custom
from meanfield.activations.sampling import sampled
from meanfield.activations.steps import steps
from meanfield.arguments import count, single, untraced
from meanfield.assessment import (
    CORRELATION,
    DIGITS,
    SPREAD,
    Assessment,
    assess,
)
from meanfield.criticality import (
    STEADY,
    CriticalPoint,
    critical_point,
    edge_of_chaos,
    is_scale_invariant,
)
from meanfield.errors import MeanFieldError, Status
from meanfield.jacobian import slope_kurtosis
from meanfield.layers import Dense
from meanfield.shaping import tat, width_of
from meanfield.universality import classify

# Variances q along the edge, in units of φ's squared width; refined between two of these.
GRID = np.geomspace(1e-8, 1e4, 241)
# Spreads within this factor are alike.
ALIKE = 1.1
# Values of a free parameter: its default times powers of this, so many each way.
STEP, STEPS = 2.0**0.25, 48
BISECTIONS = 20
# What a layer counts that merged inputs are not followed through.
LEFT = 1e-3
# Jumps of a φ, not constant in between, that is averaged: each makes that dearer.
FEW_JUMPS = 2
# The curvature of shaped activations: with it L (μ2/μ1² - 1) is about 1.
CURVATURE = 0.25


@dataclasses.dataclass(frozen=True)
class Cure:
    """A change of the activation, in `words`, and what becomes of the network."""

    words: str
    assessment: Assessment


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """What to do: the network of `best`, or where it cannot be trained one of the `cures`.

    `best` is None where φ has no edge of chaos, `why` says so in words. `parameter` is the value
    of the free parameter, if one was asked for. `stretch` is the factor a of the linear region,
    a φ(x/a), that the given σb needs; None where none was given, or φ has no such network.
    """

    best: Assessment | None
    why: str
    cures: tuple[Cure, ...]
    parameter: float | None
    stretch: float | None

    @property
    def choice(self) -> Assessment | None:
        """The network to use: `best` if it can be trained, else the first cure that can."""
        if self.best is not None and self.best.trainable:
            return self.best
        cured = [cure.assessment for cure in self.cures if cure.assessment.trainable]
        return cured[0] if cured else self.best


@untraced
def recommend(
    phi: ActivationLike,
    depth: int,
    width: int | None = None,
    sigma_b: float | None = None,
    free: str | None = None,
    report: Callable[[Recommendation], None] | None = None,
) -> Recommendation:
    """Return how to initialise a network of `depth` layers with activation φ.

    Parameters
    ----------
    phi : one activation of numbers.
    depth : the number of layers, >= 1.
    width : units in a layer, for the spread of finite networks.
    sigma_b : the standard deviation of biases; by default it is chosen too.
    free : the name of a parameter of φ to choose: the value nearest to that of φ, in steps of a
        quarter of an octave, with which the network can be trained, and its Jacobian acts alike on
        all directions if some value gives that.
    report : called with the recommendation before cures are looked for, if any are.

    Raises `MeanFieldError` for what is not legal. Takes seconds: spectra are computed.
    """
    phi = single_activation(phi)
    depth = count("depth", depth, 1)
    width, sigma_b = checked_options(phi, width, sigma_b, free)
    value = None
    if free is not None:
        phi, value = _freed(phi, free, depth, sigma_b)
    point, stretch = chosen_network(phi, depth, sigma_b), _stretch(phi, depth, sigma_b)
    best = None if point is None else assess(_dense(phi, point), depth, float(point.q), width)
    why = "" if best is not None else why_not(phi, sigma_b)
    found = Recommendation(best, why, (), value, stretch)
    if best is not None and best.trainable:
        return found
    if report:
        report(found)
    return dataclasses.replace(found, cures=tuple(_cures(phi, depth, width, sigma_b)))


def checked_options(
    phi: Activation, width: int | None, sigma_b: float | None, free: str | None
) -> tuple[int | None, float | None]:
    """Return a width and a σb. Raises what `recommend` does for these, whatever the depth is."""
    width = None if width is None else count("width", width, 1)
    sigma_b = None if sigma_b is None else single("sigma_b", sigma_b, NON_NEGATIVE)
    legal = type(phi).parameters()
    if free is not None and free not in legal:
        takes = ", ".join(legal) or "none"
        raise MeanFieldError(f"free = {free!r} is not legal; the parameters of φ are: {takes}")
    return width, sigma_b


def critical_bias(phi: ActivationLike, depth: int) -> float:
    """Return σb°(L), that of the largest q whose network is trainable and isometric.

    NaN where there is none. A network with a φ(x/a) needs a linear region of a ≥ σb/σb°.
    """
    phi = single_activation(phi)
    depth = count("depth", depth, 1)
    found = _widest(phi, depth, isometric=True)
    return math.nan if found is None else float(found.sigma_b)


def own_network(phi: Activation) -> CriticalPoint:
    """Return the critical network for no depth in particular: that of φ's own width.

    Its q is the squared width of φ; where V' > 1 there, or no network is critical, the q nearest to
    it, of a grid, at which V does not drive variances away. Where it does so all along the edge,
    the nearest q. The status is not OK where φ has no edge of chaos: `why_not` says why.
    """
    single_activation(phi)
    width = width_of(phi) ** 2
    own = on_host(critical_point(phi, width))
    if int(own.status) == Status.OK and bool(_is_stable(own)):
        return own
    points = on_host(critical_point(phi, GRID * width))
    exists = np.asarray(points.status) == Status.OK
    if not exists.any():
        return own
    stable = exists & _is_stable(points)
    away = np.where(stable if stable.any() else exists, np.abs(np.log(GRID)), np.inf)
    return jax.tree.map(lambda x: x[np.argmin(away)], points)


def _dense(phi: Activation, point: CriticalPoint) -> Dense:
    return Dense(phi, float(point.sigma_w), float(point.sigma_b))


def chosen_network(phi: Activation, depth: int, sigma_b: float | None) -> CriticalPoint | None:
    """Return the critical network that `recommend` takes for a depth, at σb if it is given.

    None where there is none with q > 0.
    """
    phi = single_activation(phi)
    depth = count("depth", depth, 1)
    if sigma_b is None:
        return _widest(phi, depth, True) or _widest(phi, depth, False) or _any(phi)
    point = on_host(edge_of_chaos(phi, sigma_b))
    return point if int(point.status) == Status.OK and float(point.q) > 0 else None


def _stretch(phi: Activation, depth: int, sigma_b: float | None) -> float | None:
    """Return the stretch of φ that a given σb needs."""
    own = math.nan if sigma_b is None else critical_bias(phi, depth)
    return None if sigma_b is None or not own > 0 else sigma_b / own


def _any(phi: Activation) -> CriticalPoint | None:
    """Return a critical network that cannot be trained so deep: one that is stable, if any is."""
    point = on_host(edge_of_chaos(phi, 0.0))
    if int(point.status) == Status.OK and float(point.q) > 0 and _is_stable(point):
        return point
    points = on_host(critical_point(phi, GRID * width_of(phi) ** 2))
    exists = np.asarray(points.status) == Status.OK
    places = np.flatnonzero(exists & _is_stable(points))
    if not places.size:
        places = np.flatnonzero(exists)
    slopes = np.asarray(points.slope)[places]
    if slopes.size and np.ptp(slopes) <= STEADY * np.abs(slopes).max():
        # All variances are alike: that of φ's own width stands for them.
        return on_host(critical_point(phi, width_of(phi) ** 2))
    return jax.tree.map(lambda x: x[places[0]], points) if places.size else None


def _is_stable(point: CriticalPoint) -> np.ndarray:
    return np.abs(np.asarray(point.slope)) <= 1 + STEADY


def _widest(phi: Activation, depth: int, isometric: bool) -> CriticalPoint | None:
    """Return the critical network of the largest q that can be trained, or None.

    The variances that can are taken to be those from some q on downwards, as far as a grid sees.
    """

    def spread(t: float) -> float:
        return depth * float(slope_kurtosis(phi, math.exp(t)) - 1) - SPREAD

    def close(t: float) -> float:
        """Return what correlation 0 becomes too much."""
        return _excess(phi, on_host(critical_point(phi, math.exp(t))), depth)

    if bool(is_scale_invariant(phi)):
        held = close(0.0) <= 0 and (not isometric or spread(0.0) <= 0)
        return on_host(edge_of_chaos(phi, 0.0)) if held else None
    grid = GRID * width_of(phi) ** 2
    points = on_host(critical_point(phi, grid))
    good = (np.asarray(points.status) == Status.OK) & _is_stable(points)
    excess = np.asarray(on_host(slope_kurtosis(phi, grid))) - 1
    if isometric:
        good &= depth * excess <= SPREAD
    places = np.flatnonzero(good)
    logs: list[float] = np.log(grid).tolist()
    if not places.size:
        return None
    # The last place that keeps inputs apart, most often the last of all.
    low, high = -1, places.size - 1
    if close(logs[places[high]]) <= 0:
        low, high = high, high + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if close(logs[places[middle]]) <= 0 else (low, middle)
    if low < 0:
        return None
    if not isometric:
        held = places[: low + 1]
        # Where the spread hardly changes, as at large q, the smallest q.
        place = held[np.argmax(excess[held] <= ALIKE * excess[held].min())]
        return jax.tree.map(lambda x: x[place], points)
    place = places[low]
    if place + 1 == grid.size:
        return jax.tree.map(lambda x: x[place], points)

    def too_much(t: float) -> float:
        point = on_host(critical_point(phi, math.exp(t)))
        if int(point.status) != Status.OK:
            return 1.0
        return max(spread(t), abs(float(point.slope)) - 1 - STEADY)

    top = _last(too_much, logs[place], logs[place + 1])
    if close(top) > 0:
        top = _last(close, logs[place], top)
    return on_host(critical_point(phi, math.exp(top)))


def _last(excess: Callable[[float], float], low: float, high: float) -> float:
    """Return the largest t from `low`, where it holds, to `high` at which there is no excess."""
    if excess(high) <= 0:
        return high
    root = optimize.brentq(excess, low, high, xtol=DIGITS)
    # On this side of it.
    return max(low, root - 4 * DIGITS)


def _excess(phi: Activation, point: CriticalPoint, depth: int) -> float:
    """Return by how much correlation 0 becomes more than is allowed, negative if it does not.

    Correlations grow from 0 on. Those that are too much are not followed to the end, where they
    are close to 1: each layer that is left counts a little instead.
    """
    layer, q = _dense(phi, point), float(point.q)
    epsilon, left = 1.0, depth
    while left and epsilon >= 1 - CORRELATION:
        epsilon, left = float(layer.decorrelation(q, epsilon)), left - 1
    return 1 - CORRELATION - epsilon + LEFT * left


def _freed(
    phi: Activation, free: str, depth: int, sigma_b: float | None
) -> tuple[Activation, float]:
    """Return φ with a value of its free parameter, and that value."""
    start, check = float(getattr(phi, free)), type(phi).parameters()[free][2]

    def at(value: float) -> Activation:
        return dataclasses.replace(phi, **{free: value})  # pyright: ignore[reportArgumentType]

    def holds(value: float, isometric: bool) -> bool:
        if sigma_b is None:
            return _widest(at(value), depth, isometric) is not None
        point = on_host(edge_of_chaos(at(value), sigma_b))
        if int(point.status) != Status.OK or not float(point.q) > 0 or not _is_stable(point):
            return False
        if isometric and depth * float(slope_kurtosis(at(value), float(point.q)) - 1) > SPREAD:
            return False
        return _excess(at(value), point, depth) <= 0

    powers = sorted(range(-STEPS, STEPS + 1), key=lambda k: (abs(k), -k))
    values = [start * STEP**k for k in powers] if start else [k / STEPS for k in range(STEPS)]
    values = [value for value in values if np.isfinite(value) and check(value)]
    for isometric in (True, False):
        for value in values:
            if holds(value, isometric):
                chosen = _bisected(lambda v, i=isometric: holds(v, i), value, values, start)
                return at(chosen), chosen
    return phi, start


def _bisected(
    holds: Callable[[float], bool], value: float, values: list[float], start: float
) -> float:
    """Return the value nearest to `start` that holds, from the one of the list that does on."""
    between = [v for v in values if min(start, value) <= v <= max(start, value) and v != value]
    if not between:
        return value
    fails = min(between, key=lambda v: abs(v - value))
    for _ in range(BISECTIONS):
        middle = (fails + value) / 2
        fails, value = (fails, middle) if holds(middle) else (middle, value)
    return value


def why_not(phi: Activation, sigma_b: float | None) -> str:
    """Return in words why no network with activation φ, and this σb if any, is critical."""
    verdict = classify(phi)
    if not verdict.edge:
        return f"there is no edge of chaos: {verdict.why}"
    if sigma_b is None:
        return f"the edge of chaos has no q > 0: {verdict.why}"
    return f"the edge of chaos has no q > 0 at sigma_b = {sigma_b:g}"


def _cures(phi: Activation, depth: int, width: int | None, sigma_b: float | None) -> Iterator[Cure]:
    """Yield changes of φ with which the network can be trained, the least one first."""
    for words, other in _changes(phi):
        point = chosen_network(other, depth, sigma_b)
        if point is not None:
            found = assess(_dense(other, point), depth, float(point.q), width)
            if found.trainable:
                yield Cure(words, found)
    shaped = tat(phi, depth, curvature=CURVATURE)
    if shaped.status != Status.OK:
        return
    layer = Dense(shaped.activation, 1.0, 0.0)
    if isinstance(phi, LeakyRelu | Relu):
        slope = _slope_of(shaped.activation)
        words = f"give it the slope {slope:.6g} where x < 0 (tailored rectifier)"
        bent = activation("leaky_relu", negative_slope=slope)
        # The factor of a homogeneous φ is as good in its weights.
        layer = Dense(bent, shaped.output_scale, 0.0)
    else:
        signed = [
            f"{'-' if x < 0 else '+'} {abs(x):.9g}"
            for x in (shaped.input_shift, shaped.output_shift)
        ]
        words = (
            f"shape it: {shaped.output_scale:.9g} (φ({shaped.input_scale:.9g} x {signed[0]}) "
            f"{signed[1]}) (tailored transformation)"
        )
    yield Cure(words, assess(layer, depth, 1.0, width))


def _slope_of(phi: Activation) -> float:
    """Return the slope of a tailored rectifier below 0, that above being 1."""
    minus, plus = (float(phi(jnp.asarray(x))) for x in (-1.0, 1.0))
    return -minus / plus


def _changes(phi: Activation) -> Iterator[tuple[str, Activation]]:
    jumps = sampled(phi).rough.jump
    if (jumps != 0).any():
        stepped = isinstance(phi, Custom) and steps(phi) is not None
        if stepped or (jumps != 0).sum() <= FEW_JUMPS:
            yield 'round it off: mollify(φ, "epanechnikov", 1)', mollify(phi, "epanechnikov")
        return
    offset = float(phi(jnp.zeros(())))
    if offset:
        yield f"centre it: φ(x) - {offset:.12g}", centre(phi)
