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

A network of finite width N differs from these numbers. Its squared gradient is to first order
log-normal, of variance Σ_l v_l/N,

    v_l = 2 (μ2/μ1² - s) + Var F - s A²/2,        A = (1 - σb²/q) E (z² - 1) F,
    F = φ'²/μ1 + g σw² φ² (1 - V'^(L-l))/(1 - V'),        g = d log μ1/dq,

with s = 0 for Gaussian and 1 for orthogonal weights. The first term is the weights' part. The rest
is that of the units, whose variances run on into the layers that follow; orthogonal weights turn
signals on a sphere, so that the sum of squares does not fluctuate. For ReLU and Gaussian weights
it is 5 L/N, as in [3].

References
----------
[1] M. Murray, V. Abrol, J. Tanner, Activation function design for deep networks: linearity and
    effective initialisation, arXiv:2105.07741 (2021).
[2] G. Zhang, A. Botev, J. Martens, Deep learning without shortcuts: shaping the kernel with
    tailored rectifiers, ICLR 2022, arXiv:2203.08120.
[3] B. Hanin, M. Nica, Products of many large random matrices and gradients in deep neural
    networks, Communications in Mathematical Physics 376 (2020), arXiv:1812.05994.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from meanfield._elementwise import elementwise
from meanfield._struct import on_host
from meanfield.activations import Activation, LeakyRelu, Relu, activation, centre, mollify
from meanfield.activations.base import WIDE_SIZE, require_single
from meanfield.criticality import (
    STEADY,
    CriticalPoint,
    critical_point,
    edge_of_chaos,
    is_scale_invariant,
)
from meanfield.errors import MeanFieldError, Status
from meanfield.gaussian import LINE_SIZE, line_rule
from meanfield.jacobian import jacobian_moments
from meanfield.layers import Dense, Ensemble
from meanfield.propagation import rollout
from meanfield.shaping import tat, width_of
from meanfield.spectrum import largest_singular_value
from meanfield.typing import Array, ScalarLike
from meanfield.universality import classify

ENSEMBLES: tuple[Ensemble, ...] = ("gaussian", "orthogonal")

# Correlations of inputs whose fate is told.
CORRELATIONS = tuple(i / 10 for i in range(10))
# What correlation 0 may become, and L (μ2/μ1² - 1) be.
CORRELATION, SPREAD = 0.9, 1.0
# Gradients may change by this factor in the whole network.
GRADIENT = 10.0
# Variances q along the edge, in units of φ's squared width; refined between two of these.
GRID = np.geomspace(1e-8, 1e4, 241)
DIGITS = 1e-10
# Spreads within this factor are alike.
ALIKE = 1.1
# Values of a free parameter: its default times powers of this, so many each way.
STEP, STEPS = 2.0**0.25, 48
BISECTIONS = 20
# The exponential of more overflows.
LARGEST = 709.0
# The curvature of shaped activations: with it L (μ2/μ1² - 1) is about 1.
CURVATURE = 0.25


@dataclasses.dataclass(frozen=True)
class Assessment:
    """A network of `depth` times a `layer` at initialisation, its variance fixed at `q`.

    The layer's ensemble is the one to use. `gradient` is χ1^L; `decorrelation` is 1 - c at the
    output for inputs of correlations 0, 0.1, ..., 0.9; `spread_gaussian` and `spread_orthogonal`
    are m2/m1² of the squared singular values of the Jacobian, `largest` is its largest singular
    value; `width_spread`, for a width N, is the relative standard deviation of squared gradients.
    """

    layer: Dense
    q: float
    depth: int
    chi: float
    slope: float
    gradient: float
    decorrelation: tuple[float, ...]
    spread_gaussian: float
    spread_orthogonal: float
    largest: float
    width: int | None
    width_spread: float | None

    @property
    def critical(self) -> bool:
        """Whether gradients keep their size."""
        return abs(math.log(self.gradient)) <= math.log(GRADIENT) if self.gradient > 0 else False

    @property
    def stable(self) -> bool:
        """Whether V does not drive variances from q."""
        return abs(self.slope) <= 1 + STEADY

    @property
    def distinguishes(self) -> bool:
        """Whether inputs stay apart."""
        return self.decorrelation[0] >= (1 - CORRELATION) * (1 - DIGITS)

    @property
    def isometric(self) -> bool:
        """Whether the Jacobian acts alike on all directions, with orthogonal weights."""
        return self.spread_orthogonal <= 1 + SPREAD * (1 + DIGITS)

    @property
    def trainable(self) -> bool:
        """Whether the first three conditions hold."""
        return self.critical and self.stable and self.distinguishes

    @property
    def reasons(self) -> tuple[str, ...]:
        """What holds and what does not, in words with numbers."""
        c = 1 - self.decorrelation[0]
        kept = "keep their size" if self.critical else "do not keep their size"
        held = "attracts" if abs(self.slope) < 1 - STEADY else "neither attracts nor repels"
        held = held if self.stable else "repels"
        apart = "stay apart" if self.distinguishes else "can hardly be told apart"
        alike = "alike" if self.isometric else "unequally"
        return (
            f"gradients {kept}: χ1^L = {self.gradient:.4g}",
            f"V {held} at q = {self.q:.6g}: V' = {self.slope:.4g}",
            f"inputs {apart}: correlation 0 becomes {c:.4g}",
            f"the Jacobian scales directions {alike}: m2/m1² = {self.spread_orthogonal:.4g} with "
            f"orthogonal, {self.spread_gaussian:.4g} with Gaussian weights",
        )


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


def recommend(
    phi: Activation,
    depth: int,
    width: int | None = None,
    sigma_b: float | None = None,
    free: str | None = None,
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

    Raises `MeanFieldError` for what is not legal. Takes seconds: spectra are computed.
    """
    require_single(phi)
    _require_count("depth", depth)
    if width is not None:
        _require_count("width", width)
    value = None
    if free is not None:
        phi, value = _freed(phi, free, depth, sigma_b)
    point, stretch = _choose(phi, depth, sigma_b)
    best = None if point is None else assess(_dense(phi, point), depth, float(point.q), width)
    why = "" if best is not None else _why_not(phi, sigma_b)
    cures: tuple[Cure, ...] = ()
    if best is None or not best.trainable:
        cures = tuple(_cures(phi, depth, width, sigma_b))
    return Recommendation(best, why, cures, value, stretch)


def critical_bias(phi: Activation, depth: int) -> float:
    """Return σb°(L), that of the largest q whose network is trainable and isometric.

    NaN where there is none. A network with a φ(x/a) needs a linear region of a ≥ σb/σb°.
    """
    require_single(phi)
    _require_count("depth", depth)
    found = _widest(phi, depth, isometric=True)
    return math.nan if found is None else float(found.sigma_b)


def assess(layer: Dense, depth: int, q: float, width: int | None = None) -> Assessment:
    """Return what `depth` repetitions of a layer do at initialisation, for a variance q > 0.

    It should be a variance that the layer keeps. The recommended ensemble is orthogonal where it
    halves m2/m1².
    """
    _require_count("depth", depth)
    if width is not None and layer.keep != 1:
        raise MeanFieldError(f"width = {width} is not legal with dropout; its spread is not known")
    spreads = {}
    for ensemble in ENSEMBLES:
        moments = jacobian_moments(dataclasses.replace(layer, ensemble=ensemble), q, depth)
        spreads[ensemble] = _exp(float(moments.log_m2 - 2 * moments.log_m1))
    better = 2 * spreads["orthogonal"] <= spreads["gaussian"]
    layer = dataclasses.replace(layer, ensemble="orthogonal" if better else "gaussian")
    chi, slope = float(layer.moments(q).mean), float(layer.variance_slope(q))
    largest = float(largest_singular_value(layer, q, float(depth)))
    pairs = rollout(layer, q, q, q * np.asarray(CORRELATIONS), depth)
    return Assessment(
        layer=layer,
        q=q,
        depth=depth,
        chi=chi,
        slope=slope,
        gradient=_exp(depth * math.log(chi)) if chi > 0 else chi,
        decorrelation=tuple(np.asarray(pairs.epsilon)[:, -1].tolist()),
        spread_gaussian=spreads["gaussian"],
        spread_orthogonal=spreads["orthogonal"],
        largest=largest,
        width=width,
        width_spread=None if width is None else _width_spread(layer, q, depth, width),
    )


def _exp(x: float) -> float:
    """Return exp(x), inf where it overflows."""
    return math.exp(x) if x < LARGEST else math.inf


def _require_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise MeanFieldError(f"{name} = {value!r} is not legal; it must be an integer >= 1")


def _dense(phi: Activation, point: CriticalPoint) -> Dense:
    return Dense(phi, float(point.sigma_w), float(point.sigma_b))


def _choose(
    phi: Activation, depth: int, sigma_b: float | None
) -> tuple[CriticalPoint | None, float | None]:
    """Return the critical network to use, and the stretch that a given σb needs."""
    if sigma_b is None:
        return _widest(phi, depth, True) or _widest(phi, depth, False) or _any(phi), None
    point = on_host(edge_of_chaos(phi, sigma_b))
    own = critical_bias(phi, depth)
    stretch = sigma_b / own if own > 0 else None
    good = int(point.status) == Status.OK and float(point.q) > 0
    return (point if good else None), stretch


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
    return jax.tree.map(lambda x: x[places[0]], points) if places.size else None


def _is_stable(point: CriticalPoint) -> np.ndarray:
    return np.abs(np.asarray(point.slope)) <= 1 + STEADY


def _widest(phi: Activation, depth: int, isometric: bool) -> CriticalPoint | None:
    """Return the critical network of the largest q that can be trained, or None.

    The variances that can are taken to be those from some q on downwards, as far as a grid sees.
    """

    def spread(t: float) -> float:
        return depth * float(_excess(phi, math.exp(t))) - SPREAD

    def close(t: float) -> float:
        """Return what correlation 0 becomes too much."""
        point = on_host(critical_point(phi, math.exp(t)))
        return 1 - CORRELATION - _apart(phi, point, depth)

    if bool(is_scale_invariant(phi)):
        held = close(0.0) <= 0 and (not isometric or spread(0.0) <= 0)
        return on_host(edge_of_chaos(phi, 0.0)) if held else None
    grid = GRID * width_of(phi) ** 2
    points = on_host(critical_point(phi, grid))
    good = (np.asarray(points.status) == Status.OK) & _is_stable(points)
    excess = np.asarray(on_host(_excess(phi, grid)))
    if isometric:
        good &= depth * excess <= SPREAD
    places = np.flatnonzero(good)
    logs: list[float] = np.log(grid).tolist()
    if not places.size or close(logs[places[0]]) > 0:
        return None
    # The last place that keeps inputs apart: of these the first does.
    low, high = 0, places.size
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if close(logs[places[middle]]) <= 0 else (low, middle)
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
    root = cast(float, optimize.brentq(excess, low, high, xtol=DIGITS))
    # On this side of it.
    return max(low, root - 4 * DIGITS)


def _apart(phi: Activation, point: CriticalPoint, depth: int) -> float:
    """Return what 1 - c is at the output for inputs of correlation 0."""
    q = float(point.q)
    return float(np.asarray(rollout(_dense(phi, point), q, q, 0.0, depth).epsilon)[-1])


@elementwise()
def _excess(phi: Activation, q: ScalarLike) -> Array:
    """Return μ2/μ1² - 1."""
    return phi.slope_moment(q, 4) / jnp.square(phi.slope_moment(q, 2)) - 1


def _freed(
    phi: Activation, free: str, depth: int, sigma_b: float | None
) -> tuple[Activation, float]:
    """Return φ with a value of its free parameter, and that value."""
    legal = type(phi).parameters()
    if free not in legal:
        takes = ", ".join(legal) or "none"
        raise MeanFieldError(f"free = {free!r} is not legal; the parameters of φ are: {takes}")
    start, check = float(getattr(phi, free)), legal[free][2]

    def at(value: float) -> Activation:
        return dataclasses.replace(phi, **{free: value})  # pyright: ignore[reportArgumentType]

    def holds(value: float, isometric: bool) -> bool:
        if sigma_b is None:
            return _widest(at(value), depth, isometric) is not None
        point = on_host(edge_of_chaos(at(value), sigma_b))
        if int(point.status) != Status.OK or not float(point.q) > 0 or not _is_stable(point):
            return False
        if isometric and depth * float(_excess(at(value), float(point.q))) > SPREAD:
            return False
        return _apart(at(value), point, depth) >= 1 - CORRELATION

    steps = sorted(range(-STEPS, STEPS + 1), key=lambda k: (abs(k), -k))
    values = [start * STEP**k for k in steps] if start else [k / STEPS for k in range(STEPS)]
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


def _why_not(phi: Activation, sigma_b: float | None) -> str:
    verdict = classify(phi)
    if not verdict.edge:
        return f"there is no edge of chaos: {verdict.why}"
    if sigma_b is None:
        return f"the edge of chaos has no q > 0: {verdict.why}"
    return f"the edge of chaos has no q > 0 at sigma_b = {sigma_b:g}"


def _cures(phi: Activation, depth: int, width: int | None, sigma_b: float | None) -> Iterator[Cure]:
    """Yield changes of φ with which the network can be trained, the least one first."""
    for words, other in _changes(phi):
        point, _ = _choose(other, depth, sigma_b)
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
    if any(float(jump) for jump in phi.jumps()):
        yield "round it off: mollify(φ)", mollify(phi)
        return
    offset = float(phi(jnp.zeros(())))
    if offset:
        yield f"centre it: φ(x) - {offset:.12g}", centre(phi)


def _width_spread(layer: Dense, q: float, depth: int, width: int) -> float:
    """Return the relative standard deviation of the squared gradient of networks of a width."""
    below = np.arange(depth)[::-1]
    variance = on_host(_unit_variance(layer, q, below.astype(float)))
    weights = 2 * (1 + float(_excess(layer.phi, q)) - (layer.ensemble == "orthogonal"))
    total = (depth * weights + float(variance.sum())) / width
    return total if math.isnan(total) else math.sqrt(max(0.0, _exp(total) - 1))


@elementwise()
def _unit_variance(layer: Dense, q: ScalarLike, below: ScalarLike) -> Array:
    """Return the units' part of v_l where `below` layers follow."""
    phi, gain = layer.phi, jnp.square(layer.sigma_w)

    def mean_slope(q: Array) -> Array:
        return phi.slope_moment(q, 2)

    q = jnp.asarray(q, float)
    mean, tangent = jax.jvp(mean_slope, (q,), (jnp.ones_like(q),))
    slope = gain * phi.variance_slope(q)
    away = jnp.abs(slope - 1) > STEADY
    rest = jnp.where(away, 1 - slope, 1.0)
    runs = jnp.where(away, (1 - slope**below) / rest, below)
    response = tangent / mean * gain * runs
    size = WIDE_SIZE if phi.oscillates else LINE_SIZE
    rule = line_rule(q, phi.cuts(), size)
    u = jnp.sqrt(q) * rule.z
    values = jnp.square(phi.slope(u)) / mean + response * jnp.square(phi(u))
    variance = rule.mean(jnp.square(values)) - jnp.square(rule.mean(values))
    if layer.ensemble == "gaussian":
        return variance
    turned = (1 - jnp.square(layer.sigma_b) / q) * rule.mean((rule.z**2 - 1) * values)
    return variance - jnp.square(turned) / 2
