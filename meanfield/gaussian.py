"""Expectations over one and over two correlated Gaussian variables.

    E f(u),          u = √q z,
    E F(u1, u2),     u1 = √q1 (α z1 + β z2),    u2 = √q2 (α z1 - β z2),

with z, z1, z2 independent and standard normal, α = √((1 + c)/2) and β = √((1 - c)/2), so
that u1 and u2 have correlation c. In these coordinates c → 1 is the regular limit β → 0,
and u1 - u2 = 2√q β z2 (equal variances) carries no cancellation.

**One dimension.** The line is cut at 0 and at the kinks x_k/√q of f. The pieces between are
integrated by double-exponential rules (`meanfield.quadrature`) whose grading resolves the
two scales of the problem at once: 1, that of the Gaussian, and 1/√q, that of f.

**Two dimensions.** A kink of F in u1 or u2 is a line α z1 ± β z2 = x_k. For each z1 the inner
integral over z2 ≥ 0 (folded: F at z2 plus F at -z2) is cut where it meets these lines, at
|x_k - α z1|/β. What is left depends on z1 smoothly except where two lines cross, at
z1 = (x_j + x_k)/(2α), and changes within β of the lines z2 = 0; the outer integral is cut and
graded there. Kinks may be traced numbers: cuts move, shapes do not, and derivatives with
respect to kinks, variances and correlation come out right, jumps included.

**Honesty.** Every sum is checked against its own thinned versions. An expectation that the
rule does not resolve is NaN, one that overflows is inf.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._elementwise import CORRELATION, NON_NEGATIVE
from meanfield._struct import static, struct
from meanfield.arguments import legal_number, listed, number
from meanfield.errors import MeanFieldError
from meanfield.price import legal_epsilon, statistic
from meanfield.quadrature import Sums, half_line, line_sums, panel, plane_sums
from meanfield.typing import Array, ScalarLike

Function = Callable[[Array], Array]
Kinks = Sequence[ScalarLike]

# A cut beyond this is moved here. On the line, where tails are integrated to relative accuracy,
# what is out there has probability below 1e-282; in the plane it has 2e-17.
LINE_CLIP = 36.0
PLANE_CLIP = 8.5
# Nodes per piece. 257 leave 1e-15 in every functional of tanh up to q = 1e6; 121 x 121 leave
# 1e-14 in pair expectations, 1e-12 in those of discontinuous functions.
LINE_SIZE = 257
PLANE_SIZE = 121
# A line expectation is trusted if the rule of twice the step agrees to this: its own error is
# then about the square. Of undeclared kinks about one in 10⁴ passes by chance.
LINE_TOLERANCE = 1e-9
# An expectation of |f| below this is 0 for every purpose, resolved or not.
NOTHING = 1e-250
# Without kinks there are few pieces, and the outer rule can afford more nodes.
SMOOTH_EXTRA = 24
# Outer grading follows the layer of width β around a kink down to this width, unless all
# kinks are further out than REMOTE, where their probability is below 1e-13.
FINEST_LAYER = 2e-5
REMOTE = 7.5
# Stands in for 0 in denominators; its square root and reciprocal are normal numbers.
TINY = 1e-280
# One-sided limits at a kink are extrapolated from this distance (times max(1, |kink|)).
NEAR = 1e-5
# Kinks closer than this (times max(1, |kink|)) are one.
SAME_KINK = 1e-12
# Nor further than this part of the way to the next kink.
CLOSER = 1e-4
# A jump of a function below this (times 1 + its size) is rounding.
ROUNDING = 1e-10


def normal_density(z: Array) -> Array:
    """Return the standard normal density."""
    return jnp.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)


@struct
class LineRule:
    """Nodes z and weights of an expectation over one standard normal variable."""

    z: Array
    weights: Array
    ends: tuple[int, int] = static()
    """The places of the two outermost nodes."""

    def sum(self, values: Array) -> Array:
        """Return the expectation of the function with these values, uncertified."""
        return jnp.where(self.weights > 0, values * self.weights, 0.0).sum()

    def mean(self, values: Array) -> Array:
        """Return the expectation of the function with these values at the nodes.

        It is inf where a value overflows, and NaN where the thinned rules disagree or the
        summands have not died out at the ends of the rule.
        """
        summands = jnp.where(self.weights > 0, values, 0.0) * self.weights
        scale = jnp.abs(summands).sum()
        ends = jnp.abs(summands[self.ends[0]]) + jnp.abs(summands[self.ends[1]])
        sums = line_sums(summands)
        resolved = (sums.half <= LINE_TOLERANCE * scale) & (ends <= 1e-13 * scale)
        resolved = resolved | (scale <= NOTHING)
        mean = jnp.where(resolved, sums.value, jnp.nan)
        return jnp.where(jnp.isinf(scale), jnp.inf, mean)


def line_rule(
    q: ScalarLike,
    kinks: Kinks = (),
    size: int = LINE_SIZE,
    other: ScalarLike | None = None,
) -> LineRule:
    """Return the rule for E f(√q z) with f analytic between `kinks`.

    With an `other` variance it is the rule for E F(√q z, √other z), of these kinks in both.
    """
    _require_scalar("q", q)
    root = jnp.sqrt(jnp.asarray(q, dtype=float))
    roots = [root] if other is None else [root, jnp.sqrt(jnp.asarray(other, dtype=float))]
    largest = functools.reduce(jnp.maximum, roots, jnp.ones(()))
    grading = jax.lax.stop_gradient(jnp.log(largest))
    lines = [[jnp.asarray(k / _positive(r)) for r in roots] for k in _nonzero(kinks)]
    # Lines that meet share their derivative.
    cuts = [
        functools.reduce(f, line)
        for line in lines
        for f in (jnp.minimum, jnp.maximum)[: len(roots)]
    ]
    z, weights = _cut_line(cuts, grading, size, LINE_CLIP)
    return LineRule(z, weights * normal_density(z), ends=(size - 1, 2 * size + 2))


def expect(f: Function, q: ScalarLike, kinks: Kinks = (), size: int = LINE_SIZE) -> Array:
    """Return E f(√q z), z ~ N(0, 1).

    Parameters
    ----------
    f : an elementwise function, analytic between its kinks.
    q : the variance, a scalar >= 0; `jax.vmap` over it for more.
    kinks : where f or one of its derivatives jumps, in any order.
    size : nodes between two kinks (4m + 1); more for a function that oscillates.

    Returns
    -------
    A scalar: NaN where the rule does not resolve f, inf where f overflows. Differentiable
    in q, in the kinks and in what f closes over.
    """
    kinks, q = listed("kinks", kinks), _variance("q", q)
    rule = line_rule(q, kinks, size)
    return rule.mean(f(jnp.sqrt(jnp.asarray(q, dtype=float)) * rule.z))


def expect_pair(
    f: Function,
    g: Function,
    q1: ScalarLike,
    q2: ScalarLike,
    c: ScalarLike,
    kinks: Kinks = (),
    size: int = PLANE_SIZE,
) -> Array:
    """Return E f(u1) g(u2) for centred Gaussians of variances q1, q2 and correlation c.

    Parameters
    ----------
    f, g : elementwise functions, analytic between the kinks.
    q1, q2 : scalars >= 0.
    c : a scalar in [-1, 1].
    kinks : where f, g or one of their derivatives jumps, in any order.
    size : nodes between two kinks in either direction (4m + 1).

    Returns
    -------
    A scalar: NaN where the rule does not resolve f or g. Differentiable like `expect`, and in c
    from -1 to 1; at c = ±1 the derivative is infinite where jumps of f and g meet.
    """
    kinks, c = listed("kinks", kinks), legal_number("c", c, CORRELATION)
    q1, q2 = _variance("q1", q1), _variance("q2", q2)
    # What the functions close over may be differentiated too: it becomes an argument.
    (f, f_closed), (g, g_closed) = (jax.closure_convert(h, jnp.zeros(())) for h in (f, g))
    pair = _PairOf(f, g, size)
    numbers = [jnp.asarray(q, dtype=float) for q in (q1, q2)]
    arguments = (*numbers, tuple(kinks), tuple(f_closed), tuple(g_closed))
    # A kink that is known to be 0 stays so.
    zeros = tuple(map(is_zero, kinks))
    epsilon = legal_epsilon(1.0 - jnp.asarray(c, dtype=float))
    return statistic(
        functools.partial(_pair_mean, pair, zeros),
        functools.partial(_pair_rate, pair, zeros),
        arguments,
        epsilon,
    )


@dataclasses.dataclass(frozen=True)
class _PairOf:
    """Two functions of a scalar and of what they close over, and the size of a rule."""

    f: Callable[..., Array]
    g: Callable[..., Array]
    size: int

    def of(self, arguments: Any) -> tuple[Function, Function]:
        """Return the two as elementwise functions of arrays."""
        *_, f_closed, g_closed = arguments
        return _elementwise(self.f, f_closed), _elementwise(self.g, g_closed)

    def slopes(self) -> "_PairOf":
        """Return the derivatives of both, almost everywhere."""

        def slope(function: Callable[..., Array]) -> Callable[..., Array]:
            return lambda x, *closed: jax.jvp(
                lambda x: function(x, *closed), (x,), (jnp.ones_like(x),)
            )[1]

        return _PairOf(slope(self.f), slope(self.g), self.size)


def _elementwise(function: Callable[..., Array], closed: tuple[Array, ...]) -> Function:
    def elementwise(x: Array) -> Array:
        flat = jax.vmap(lambda x: function(x, *closed))(x.reshape(-1))
        return flat.reshape(x.shape)

    return elementwise


def _kinks(zeros: tuple[bool, ...], kinks: Kinks) -> Kinks:
    return [0.0 if known else kink for kink, known in zip(kinks, zeros, strict=True)]


def _pair_rate(pair: _PairOf, zeros: tuple[bool, ...], arguments: Any, epsilon: Array) -> Array:
    """Return the derivative of `_pair_mean` in epsilon."""
    q1, q2, kinks, *_ = arguments
    kinks = _kinks(zeros, kinks)
    slopes = pair.slopes()
    f_jumps, g_jumps = (measured_jumps(h, kinks) for h in pair.of(arguments))
    between = from_masses(*slopes.of(arguments), f_jumps, g_jumps, q1, q2, epsilon, kinks, kinks)
    smooth = statistic(
        functools.partial(_pair_mean, slopes, zeros),
        functools.partial(_pair_rate, slopes, zeros),
        arguments,
        epsilon,
    )
    return -jnp.sqrt(q1) * jnp.sqrt(q2) * (smooth + between)


def _pair_mean(pair: _PairOf, zeros: tuple[bool, ...], arguments: Any, epsilon: Array) -> Array:
    """Return E f(u1) g(u2)."""
    q1, q2, kinks, *_ = arguments
    kinks, size = _kinks(zeros, kinks), pair.size
    f, g = pair.of(arguments)
    line = max(size, LINE_SIZE)
    own = expect(lambda x: f(x) ** 2, q1, kinks, line)
    scale = jnp.sqrt(own * expect(lambda x: g(x) ** 2, q2, kinks, line))
    sums = pair_sums(lambda p: f(p.u1) * g(p.u2), q1, q2, epsilon, kinks, size=size)
    return sums.certified(scale)


@struct
class Pair:
    """Nodes of a pair of correlated variables, in the notation of the module."""

    u1: Array
    u2: Array
    difference: Array
    """u1 - u2 without cancellation."""
    z2: Array


def pair_sums(
    function: Callable[[Pair], Array],
    q1: ScalarLike,
    q2: ScalarLike,
    epsilon: ScalarLike,
    kinks: Kinks = (),
    size: int = PLANE_SIZE,
) -> Sums:
    """Return E F(u1, u2) at correlation 1 - epsilon, by three step sizes."""
    _require_scalar("q1", q1)
    _require_scalar("q2", q2)
    r1, r2 = (jnp.sqrt(jnp.asarray(q, dtype=float)) for q in (q1, q2))
    root = jnp.maximum(r1, r2)
    alpha = jnp.sqrt(jnp.maximum(1.0 - epsilon / 2, 0.0) + TINY)
    beta = jnp.sqrt(jnp.maximum(epsilon / 2, 0.0) + TINY)

    lines1, lines2 = ([(k, jnp.asarray(k / _positive(r))) for k in kinks] for r in (r1, r2))
    crossings = [
        (x1 + x2) / (2 * alpha)
        for k1, x1 in lines1
        for k2, x2 in lines2
        if not (is_zero(k1) and is_zero(k2))
    ]
    layers = [x / alpha for k, x in (*lines1, *lines2) if not is_zero(k)]
    finest = jnp.minimum(1.0, 1 / _positive(root))
    if kinks:
        nearest = functools.reduce(jnp.minimum, [jnp.abs(x) for _, x in (*lines1, *lines2)])
        layer = jnp.where(nearest < REMOTE, jnp.maximum(beta, FINEST_LAYER), 1.0)
        finest = jnp.minimum(finest, layer)
    outer_size = size if kinks else size + SMOOTH_EXTRA
    z1, w1 = _cut_line(
        [*layers, *crossings], jax.lax.stop_gradient(-jnp.log(finest)), outer_size, PLANE_CLIP
    )
    w1 = w1 * normal_density(z1)
    centre = alpha * z1

    # Without kinks, the inner integral is still cut where u1 or u2 passes through 0.
    inner = [*lines1, *(line for line in lines2 if not is_zero(line[0]))]
    cuts = [jnp.minimum(jnp.abs(x - centre) / beta, PLANE_CLIP) for _, x in inner or [(0.0, 0.0)]]
    cuts = jnp.sort(jnp.stack(cuts, axis=-1), axis=-1)
    grading = jax.lax.stop_gradient(jnp.log(jnp.maximum(1.0, beta * root)))

    def summands(z2: Array, w2: Array, y: Array) -> Array:
        def side(sign: float) -> Array:
            d = sign * beta * z2
            difference = (r1 - r2) * y + (r1 + r2) * d
            return function(Pair(r1 * (y + d), r2 * (y - d), difference, z2))

        values = (side(1.0) + side(-1.0)) * (w2 * normal_density(z2))
        return values.reshape(z1.shape[0], -1, 4).sum(axis=1)

    between, beyond = panel(grading, size), half_line(grading, size)
    starts = jnp.concatenate([jnp.zeros_like(cuts[:, :1]), cuts[:, :-1]], axis=-1)[..., None]
    lengths = cuts[..., None] - starts
    total = summands(
        starts + lengths * between.nodes, lengths * between.weights, centre[:, None, None]
    ) + summands(cuts[:, -1:] + beyond.nodes, beyond.weights, centre[:, None])
    return plane_sums(total * w1[:, None])


def limit(f: Function, kink: ScalarLike, side: int, kinks: Kinks = (), reach: float = 1.0) -> Array:
    """Return the limit of f at a kink from one side (-1 or 1), extrapolated.

    `kinks` are those of f, near which no value is taken; `reach` scales the distance from which
    the limit is extrapolated.
    """
    k = jnp.asarray(kink, dtype=float)
    step = NEAR * jnp.maximum(1.0, jnp.abs(k))
    for other in kinks:
        gap = jnp.abs(jnp.asarray(other) - k)
        step = jnp.minimum(step, jnp.where(coincide(k, other), step, gap * CLOSER))
    step = side * reach * step
    return 3 * f(k + step) - 3 * f(k + 2 * step) + f(k + 3 * step)


def measured_jumps(f: Function, kinks: Kinks, rounding: float = ROUNDING) -> tuple[Array, ...]:
    """Return the jump of f at each kink; of kinks that coincide, the first has it."""
    jumps = []
    for i, kink in enumerate(kinks):
        left, right = (limit(f, kink, side, kinks) for side in (-1, 1))
        closer = limit(f, kink, 1, kinks, 0.5) - limit(f, kink, -1, kinks, 0.5)
        # What falls with the distance is a steep stretch, and no jump.
        real = jnp.abs(closer) > jnp.abs(right - left) / 2
        seen = jnp.abs(closer) > rounding * (1 + jnp.abs(left))
        for earlier in kinks[:i]:
            seen = seen & ~coincide(kink, earlier)
        jumps.append(jnp.where(real & seen, closer, 0.0))
    return tuple(jumps)


def coincide(kink: ScalarLike, other: ScalarLike) -> Array:
    """Return whether two kinks are one, computed in two ways."""
    k = jnp.asarray(kink, dtype=float)
    return jnp.abs(jnp.asarray(other) - k) <= SAME_KINK * jnp.maximum(1.0, jnp.abs(k))


def from_masses(
    f: Function,
    g: Function,
    f_masses: Sequence[ScalarLike],
    g_masses: Sequence[ScalarLike],
    q1: ScalarLike,
    q2: ScalarLike,
    epsilon: ScalarLike,
    kinks: Kinks,
    cuts: Kinks,
) -> Array:
    """Return what Dirac masses of two functions at `kinks` add to E f(u1) g(u2).

    f and g are analytic between the `cuts`. Where u2 is a function of u1, at c = ±1, two masses
    that meet make the sum infinite.
    """
    epsilon = jnp.asarray(epsilon, dtype=float)
    c, rest = 1.0 - epsilon, epsilon * (2.0 - epsilon)
    total, meeting = jnp.zeros(()), jnp.zeros(())
    # The other variable's masses are counted with those of the first.
    for here, there, masses, other, other_masses in (
        (q1, q2, f_masses, g, g_masses),
        (q2, q1, g_masses, f, ()),
    ):
        r1, r2 = (jnp.sqrt(_positive(jnp.asarray(q, dtype=float))) for q in (here, there))
        for kink, mass in zip(kinks, masses, strict=True):
            # Given u1 = kink, u2 is Gaussian of this mean and variance.
            mean, spread = c * kink * r2 / r1, r2 * jnp.sqrt(_positive(rest))
            rule = line_rule(jnp.square(spread), tuple(cut - mean for cut in cuts))
            smooth = rule.mean(other(mean + spread * rule.z))
            weight = mass * normal_density(jnp.asarray(kink / r1)) / r1
            total += jnp.where(mass == 0, 0.0, weight * smooth)
            for place, second in zip(kinks, other_masses, strict=False):
                density = normal_density(jnp.asarray((place - mean) / spread)) / spread
                met = (rest <= TINY) & coincide(place, mean)
                total += jnp.where(met, 0.0, weight * second * density)
                meeting += jnp.where(met, weight * second, 0.0)
    return jnp.where(meeting == 0, total, meeting * jnp.inf)


def _cut_line(cuts: list[Array], grading: Array, size: int, clip: float) -> tuple[Array, Array]:
    """Return nodes and weights on the real line, cut at 0 and at `cuts` up to ±clip."""
    edges = jnp.sort(jnp.clip(jnp.stack([jnp.zeros_like(grading), *cuts]), -clip, clip))
    outer = half_line(grading, size)
    nodes = [edges[0] - outer.nodes, edges[-1] + outer.nodes]
    weights = [outer.weights, outer.weights]
    if cuts:
        inner = panel(grading, size)
        lengths = jnp.diff(edges)[:, None]
        nodes.append((edges[:-1, None] + lengths * inner.nodes).ravel())
        weights.append((lengths * inner.weights).ravel())
    return jnp.concatenate(nodes), jnp.concatenate(weights)


def _require_scalar(name: str, q: ScalarLike) -> None:
    if jnp.ndim(q) != 0:
        raise MeanFieldError(f"{name} of shape {jnp.shape(q)} is not legal; it must be a scalar")


def is_zero(kink: ScalarLike) -> bool:
    """Return whether a kink is known, when compiling, to be 0."""
    return isinstance(kink, int | float) and kink == 0


def _nonzero(kinks: Kinks) -> list[ScalarLike]:
    """Return the kinks that are not known to be 0, where every rule is cut anyway."""
    return [k for k in kinks if not is_zero(k)]


def _positive(x: Array) -> Array:
    return jnp.maximum(x, TINY)


def _variance(name: str, q: ScalarLike) -> ScalarLike:
    q = number(name, q)
    _require_scalar(name, q)
    return legal_number(name, q, (NON_NEGATIVE[0], "a finite variance >= 0"))
