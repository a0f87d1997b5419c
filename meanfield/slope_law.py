"""The law of a unit's squared slope, and its transforms in the complex plane.

What a layer does to the lengths of gradients is decided by the law of

    X = B φ'(√q z)² / (p E φ'²),        z ~ N(0, 1),    B ~ Bernoulli(p),    E X = 1,

p the probability with which dropout keeps a unit. It has atoms where φ is linear (and at 0 where
it is constant, or a unit is dropped), and a continuous part where it is curved. Free
probability asks for its moment transform and its logarithmic potential,

    M(Ω) = E X/(Ω - X),        E log(Ω - X),

at Ω = r e^{iθ} above the real axis, often so close to it that the integrand nearly has a pole
where X(z) = r. The line is therefore cut into pieces on which X is monotone (at the kinks of φ and
where φ' or φ'' vanishes), and each piece is integrated in the variable u of

    z = z0 + δ sinh u,                                                                 (1)

z0 the place where X(z) comes closest to Ω and δ the distance of the pole from the axis: in u the
pole is at ±iπ/2 wherever Ω is, and Gauss-Legendre quadrature converges geometrically [1].

References
----------
[1] P. R. Johnston, D. Elliott, A sinh transformation for evaluating nearly singular boundary
    element integrals, Int. J. Numer. Methods Eng. 62 (2005) 564-578.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr

from meanfield._struct import static, struct
from meanfield.activations.base import Activation, derivative
from meanfield.activations.piecewise_linear import PiecewiseLinear
from meanfield.gaussian import normal_density
from meanfield.quadrature import panel
from meanfield.typing import Array, ScalarLike

# What lies further out than this has probability 1e-15.
REACH = 8.0
# Nodes of the rule (1) on a piece, and of the coarser one that checks it.
SIZE, CHECK_SIZE = 64, 48
# A piece is tabulated at this many points, graded towards its ends by exp(-TABLE_GRADING).
TABLE_SIZE, TABLE_GRADING = 129, 20.0
# Pieces of the line keep off their ends by this part of them.
INSET = 1e-14
# Values of φ' and φ'' below this part of the largest one are rounding.
ROUNDING = 1e-12
# X is the same all over a piece, or on two pieces, if it varies by less than this part of E X.
FLAT = 1e-12
# X with a logarithm below this counts as 0: φ' is known to 1e-16 of its largest value. Logarithms
# end at the second, within double precision.
FAINT, FAINTEST = -40.0, -690.0
# |M| from which on 1 + M is computed from it.
LARGE = 2.0
# Steps that find where X(z) = r in a cell of the table.
STEPS = 9
NARROWEST, WIDEST = 1e-13, 4.0
# Bisections that find a zero of φ' or φ'' to rounding.
BISECTIONS = 55


@struct
class SlopeLaw:
    """The law of X: atoms, and K pieces of the line on which X is monotone and not constant."""

    phi: Activation
    q: Array
    scale: Array
    """p E φ'²: what φ'² is divided by."""
    keep: Array
    values: Array
    """The places of the atoms, not all different."""
    masses: Array
    ends: Array
    """Where pieces begin and end, of shape (K, 2)."""
    live: Array
    """1 for a piece that counts, 0 for one that is constant or empty."""
    z: Array
    """Points on the pieces, in the order of ascending X; shape (K, TABLE_SIZE)."""
    log_x: Array
    """log X there."""
    faint: Array
    """P(0 < X < exp(FAINT)), in the mass of the last atom, which is at 0."""
    resolved: Array
    discrete: bool = static()

    @property
    def zero_mass(self) -> Array:
        """P(X = 0)."""
        return jnp.where(self.values == 0, self.masses, 0.0).sum() - self.faint

    @property
    def heaviest(self) -> tuple[Array, Array]:
        """The place and mass of the heaviest atom that is not at 0."""
        same = jnp.abs(self.values[:, None] - self.values) <= FLAT * self.values
        together = jnp.where(same, self.masses, 0.0).sum(axis=1)
        together = jnp.where(self.values > 0, together, 0.0)
        best = together.argmax()
        return self.values[best], together[best]

    @property
    def ranges(self) -> tuple[Array, Array]:
        """The intervals of log X that make up the support; empty ones are (inf, -inf)."""
        atoms = jnp.where((self.masses > 0) & (self.values > 0), self.values, jnp.nan)
        low = jnp.concatenate([jnp.log(atoms), self.log_x[:, 0]])
        high = jnp.concatenate([jnp.log(atoms), self.log_x[:, -1]])
        counts = ~jnp.isnan(low) & jnp.concatenate([atoms > 0, self.live > 0])
        return jnp.where(counts, low, jnp.inf), jnp.where(counts, high, -jnp.inf)

    @property
    def span(self) -> tuple[Array, Array]:
        """The ends of the support of log X, without an atom at 0."""
        low, high = self.ranges
        return low.min(), high.max()

    def x(self, z: Array) -> Array:
        """Return X at z, of a unit that is kept."""
        return jnp.square(self.phi.slope(jnp.sqrt(self.q) * z)) / self.scale


def turning_points(phi: Activation, q: ScalarLike) -> Array:
    """Return how many zeros φ' and φ'' have between the cuts, within reach of variance q."""
    return _turns(phi, jnp.asarray(q, dtype=float), _cuts(phi, q))[2].sum()


def slope_law(phi: Activation, q: ScalarLike, keep: ScalarLike, turns: int) -> SlopeLaw:
    """Return the law of X for a scalar q > 0.

    `turns` is how many zeros of φ' and φ'' there is room for; if there are more, or if E φ'² is
    not resolved, the law is not `resolved`.
    """
    q, keep = jnp.asarray(q, dtype=float), jnp.asarray(keep, dtype=float)
    scale = keep * phi.slope_moment(q, 2)
    resolved = jnp.isfinite(scale) & (scale > 0)
    safe = jnp.where(resolved, scale, 1.0)
    cuts = _cuts(phi, q)
    if isinstance(phi, PiecewiseLinear):
        middle = (cuts[1:] + cuts[:-1]) / 2
        values = jnp.square(phi.slope(jnp.sqrt(q) * middle)) / safe
        masses = ndtr(cuts[1:]) - ndtr(cuts[:-1])
        empty, table = jnp.zeros((0, 2)), jnp.zeros((0, TABLE_SIZE))
        law = (empty, empty[:, 0], table, table)
    else:
        z_grid, which, where = _turns(phi, q, cuts)
        extra = _find_turns(phi, q, z_grid, where, turns, which)
        resolved = resolved & (where.sum() <= turns)
        edges = jnp.sort(jnp.concatenate([cuts, extra]))
        # At a cut φ' may jump: pieces end a rounding error before it.
        inset = INSET * jnp.abs(edges) + 1e-30
        ends = jnp.stack([edges[:-1] + inset[:-1], edges[1:] - inset[1:]], axis=-1)
        z, x = _table(phi, q, safe, ends)
        live = (ends[:, 1] > ends[:, 0]) & (x.max(axis=1) - x.min(axis=1) > FLAT)
        values = x[:, TABLE_SIZE // 2]
        masses = jnp.where(live, 0.0, ndtr(edges[1:]) - ndtr(edges[:-1]))
        law = (ends, live.astype(float), z, _log(x))
    values = jnp.append(jnp.where(masses > 0, values, 0.0), 0.0)
    masses = jnp.append(keep * masses, 1 - keep)
    discrete = isinstance(phi, PiecewiseLinear)
    whole = SlopeLaw(phi, q, safe, keep, values, masses, *law, jnp.zeros(()), resolved, discrete)
    return whole if discrete else _without_faint(whole)


def _table(phi: Activation, q: Array, scale: Array, ends: Array) -> tuple[Array, Array]:
    """Return points z on pieces and X there, in the order of ascending X."""
    nodes = panel(TABLE_GRADING, TABLE_SIZE).nodes[:TABLE_SIZE]
    z = ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * nodes
    z = jnp.clip(z, ends[:, :1], ends[:, 1:])
    x = jnp.square(phi.slope(jnp.sqrt(q) * z)) / scale
    falls = (x[:, 0] > x[:, -1])[:, None]
    z, x = (jnp.where(falls, v[:, ::-1], v) for v in (z, x))
    return z, x


def _log(x: Array) -> Array:
    """Return logarithms of X on pieces, ascending."""
    return jax.lax.cummax(jnp.log(jnp.maximum(x, np.exp(FAINTEST))), axis=1)


def _without_faint(law: SlopeLaw) -> SlopeLaw:
    """Return the law with X below exp(FAINT) taken for 0."""
    dim = preimages(law, jnp.asarray(FAINT))
    cut = (law.log_x[:, 0] < FAINT) & (law.live > 0)
    lost = law.keep * jnp.where(cut, jnp.abs(ndtr(dim) - ndtr(law.z[:, 0])), 0.0).sum()
    rises = law.z[:, 0] < law.z[:, -1]
    low = jnp.where(cut & rises, dim, law.ends[:, 0])
    high = jnp.where(cut & ~rises, dim, law.ends[:, 1])
    ends = jnp.stack([low, high], axis=-1)
    z, x = _table(law.phi, law.q, law.scale, ends)
    live = jnp.where(high > low, law.live, 0.0)
    masses = law.masses.at[-1].add(lost)
    return replace(law, masses=masses, ends=ends, live=live, z=z, log_x=_log(x), faint=lost)


def _cuts(phi: Activation, q: ScalarLike) -> Array:
    """Return where z is cut whatever X does there, from -REACH to REACH."""
    root = jnp.sqrt(jnp.asarray(q, dtype=float))
    places = [jnp.asarray(c / root) for c in phi.cuts()]
    if not isinstance(phi, PiecewiseLinear):
        places.append(jnp.zeros(()))
    ends = [jnp.full((), -REACH), *places, jnp.full((), REACH)]
    return jnp.sort(jnp.clip(jnp.stack(ends), -REACH, REACH))


def _turns(phi: Activation, q: Array, cuts: Array) -> tuple[Array, Array, Array]:
    """Return a grid, φ' and φ'' on it, and the cells in which either changes its sign.

    The arrays are of shapes (pieces, nodes), (2, pieces, nodes) and (2, pieces, nodes - 2): a cell
    is two steps wide, so that a zero at its middle node is not missed.
    """
    root = jnp.sqrt(q)
    rule = panel(jnp.log(jnp.maximum(1.0, 2 * REACH * root)), TABLE_SIZE)
    z = cuts[:-1, None] + jnp.diff(cuts)[:, None] * rule.nodes[1 : TABLE_SIZE - 1]
    values = jnp.stack([phi.slope(root * z), phi.curvature(root * z)])
    size = jnp.abs(values).max(axis=(1, 2), keepdims=True)
    signs = jnp.where(jnp.abs(values) > ROUNDING * size, jnp.sign(values), 0.0)
    first, middle, last = signs[..., :-2], signs[..., 1:-1], signs[..., 2:]
    wide = (z[:, 2:] - z[:, :-2]) > ROUNDING
    return z, values, wide & ((first * middle < 0) | ((middle == 0) & (first * last < 0)))


def _find_turns(
    phi: Activation, q: Array, z: Array, cells: Array, turns: int, values: Array
) -> Array:
    """Return the zeros of φ' and φ'' in the marked cells; REACH where there are fewer."""
    which, piece, node = jnp.nonzero(cells, size=turns, fill_value=-1)
    low, high = z[piece, node], z[piece, node + 2]
    sign = jnp.sign(values[which, piece, node])

    def value(at: Array) -> Array:
        u = jnp.sqrt(q) * at
        return jnp.where(which == 0, phi.slope(u), phi.curvature(u))

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = (low + high) / 2
        before = value(middle) * sign > 0
        return jnp.where(before, middle, low), jnp.where(before, high, middle)

    low, high = jax.lax.fori_loop(0, BISECTIONS, halve, (low, high))
    return jnp.where(which < 0, REACH, (low + high) / 2)


def _legendre(size: int) -> np.ndarray:
    nodes, weights = np.polynomial.legendre.leggauss(size)
    return np.pad(np.stack([(nodes + 1) / 2, weights / 2]), ((0, 0), (0, SIZE - size)))


# Nodes and weights on (0, 1): a rule, and a coarser one of the same shape that checks it.
RULE, CHECK_RULE = _legendre(SIZE), _legendre(CHECK_SIZE)


def preimages(law: SlopeLaw, log_r: Array) -> Array:
    """Return where X(z) = r on every piece, or the end that comes closest; shape (K,)."""
    below = (law.log_x < log_r).sum(axis=1)
    index = jnp.clip(below - 1, 0, TABLE_SIZE - 2)[:, None]
    a, b = (jnp.take_along_axis(law.z, index + i, axis=1)[:, 0] for i in (0, 1))
    r_inverse = jnp.exp(-log_r)

    def height(z: Array) -> Array:
        # Of one sign with X - r, close to linear, and finite where X vanishes.
        return jnp.log1p(law.x(z) * r_inverse) - np.log(2.0)

    def step(_: int, state: tuple[Array, ...]) -> tuple[Array, ...]:
        a, b, fa, fb = state
        gap = fb - fa
        c = b - fb * (b - a) / jnp.where(gap == 0, 1.0, gap)
        fc = height(c)
        # The end that is kept twice counts half: Illinois.
        crosses = (fc < 0) != (fb < 0)
        return jnp.where(crosses, b, a), c, jnp.where(crosses, fb, fa / 2), fc

    _, root, _, _ = jax.lax.fori_loop(0, STEPS, step, (a, b, height(a), height(b)))
    root = jnp.clip(root, jnp.minimum(a, b), jnp.maximum(a, b))
    root = jnp.where(below == 0, law.z[:, 0], root)
    return jnp.where(below == TABLE_SIZE, law.z[:, -1], root)


def log_slopes(law: SlopeLaw, z: Array) -> tuple[Array, Array]:
    """Return |d log X/dz| and |d² log X/dz²|."""
    root = jnp.sqrt(law.q)
    slope = law.phi.slope(root * z)
    slope = jnp.where(slope == 0, 1e-300, slope)
    first = root * law.phi.curvature(root * z) / slope
    second = law.q * derivative(law.phi.curvature)(root * z) / slope
    return jnp.abs(2 * first), jnp.abs(2 * (second - first**2))


def _nodes(
    law: SlopeLaw, log_r: Array, theta: Array, rule: Array | np.ndarray
) -> tuple[Array, Array]:
    """Return values of X and their probabilities, fit for an integrand in Ω - X."""
    if law.discrete:
        return law.values, law.masses
    nodes, weights = rule
    z0 = preimages(law, log_r)
    first, second = log_slopes(law, z0)
    log_x = jnp.log(jnp.maximum(law.x(z0), np.exp(FAINTEST)))
    apart = jnp.hypot(log_r - log_x, theta)
    # |first| δ + |second| δ²/2 = apart
    delta = 2 * apart / (first + jnp.sqrt(first**2 + 2 * second * apart) + 1e-300)
    delta = jnp.clip(delta, NARROWEST, WIDEST)
    low, high = law.ends[:, 0], law.ends[:, 1]
    start, stop = -jnp.arcsinh((z0 - low) / delta), jnp.arcsinh((high - z0) / delta)
    u = start[:, None] + (stop - start)[:, None] * nodes
    grown = jnp.exp(u)
    shrunk = 1 / grown
    z = z0[:, None] + delta[:, None] * (grown - shrunk) / 2
    z = jnp.clip(z, low[:, None], high[:, None])
    width = law.live * law.keep * delta * (stop - start)
    masses = width[:, None] * weights * (grown + shrunk) / 2 * normal_density(z)
    values = jnp.concatenate([law.values, law.x(z).ravel()])
    return values, jnp.concatenate([law.masses, masses.ravel()])


@struct
class Transforms:
    """M = E X/(Ω - X) and what goes with it; complex, but for the angle."""

    m: Array
    one_plus_m: Array
    log_slope: Array
    """d/dlog Ω of log(M/(1 + M))."""
    angle: Array
    """E arg(Ω - X)."""

    @property
    def log_ratio(self) -> Array:
        """log(M/(1 + M)), continuous above the real axis, where both arguments are in [-π, 0]."""
        apart = log_below(self.m) - log_below(self.one_plus_m)
        # Where X varies little, M is large, and 1/M is what counts.
        large = jnp.abs(self.m) > LARGE
        w = 1 / jnp.where(large, self.m, LARGE)
        size = jnp.log1p(2 * w.real + w.real**2 + w.imag**2) / 2
        return jnp.where(large, -size - 1j * jnp.arctan2(w.imag, 1 + w.real), apart)


def transforms(
    law: SlopeLaw,
    log_r: Array,
    theta: Array,
    rule: Array | np.ndarray = RULE,
    angle: Array | bool = False,
) -> Transforms:
    """Return the transforms at Ω = exp(log_r + iθ), 0 <= θ <= π, by `RULE` or `CHECK_RULE`.

    The angle costs as much as the rest: it is 0 unless asked for.
    """
    # Sums would each compute the nodes anew without the barrier.
    values, masses = jax.lax.optimization_barrier(_nodes(law, log_r, theta, rule))
    ratio = values * jnp.exp(-log_r)
    sine, cosine = jnp.sin(theta), jnp.cos(theta)
    apart = jnp.square(1 - ratio) + 4 * ratio * jnp.square(jnp.sin(theta / 2))
    inverse = 1 / jnp.maximum(apart, 1e-280)
    real = ratio * (cosine - ratio) * inverse
    imaginary = -ratio * sine * inverse
    other = (1 - ratio * cosine) * inverse
    m = (masses * real).sum() + 1j * (masses * imaginary).sum()
    one_plus_m = (masses * other).sum() + 1j * (masses * imaginary).sum()
    one_plus_m = jnp.where(jnp.abs(m) > LARGE, 1 + m, one_plus_m)
    # d M/d log Ω = -E XΩ/(Ω - X)², the product of the two summands.
    slope = (
        -(masses * (real * other - imaginary**2)).sum()
        - 1j * (masses * imaginary * (real + other)).sum()
    )
    mean_angle = jax.lax.cond(
        angle, lambda: (masses * jnp.arctan2(sine, cosine - ratio)).sum(), lambda: jnp.zeros(())
    )
    return Transforms(m, one_plus_m, slope / (m * one_plus_m), mean_angle)


def log_below(w: Array) -> Array:
    """Return log w for w on or below the real axis, its argument in [-π, 0]."""
    size = jnp.log(jnp.maximum(jnp.hypot(w.real, w.imag), 1e-300))
    return size + 1j * jnp.arctan2(-jnp.abs(w.imag), w.real)
