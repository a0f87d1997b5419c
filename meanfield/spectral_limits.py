"""To which law do the singular values of an ever deeper network converge?

With orthogonal weights, L layers whose squared slopes X have a relative variance Var X/(E X)² =
σ²/L keep E λ = 1 and Var λ = σ² as L grows, and the squared singular values λ converge to a law
that depends on σ² alone, in two classes [1]. With M = E λ/(ζ - λ) and u = M/(1 + M):

    Bernoulli   X is 0 with a small probability, else constant    ζ = e^{σ²u}/u           (1)
    smooth      X concentrates around its mean                     ζ = (1 + M)/M · e^{σ²M}  (2)

On the real axis, where λρ(λ) = -Im M/π, both have closed forms. For (1), 0 < ϕ < π,

    λ = σ² (sin ϕ/ϕ) e^{ϕ cot ϕ},    u = (ϕ/σ²)(cot ϕ - i),
    πP(> λ) = ϕ + (1 - σ²) arg(1 - u),                                                    (3)

up to λ = eσ², and an atom of mass 1 - σ² at λ = e^{σ²} if σ² < 1. For (2), which is the law of free
multiplicative Brownian motion, M = u - iv - 1/2 with u² = 1/4 - v² + v cot(σ²v),

    πP(> λ) = arg M̄ - σ²v (u + 1/2),                                                      (4)

between the edges where v = 0, u = ±√(1/4 + 1/σ²). It is symmetric: λρ is the same at e^{-σ²}/λ.
(3) and (4) are the imaginary part of the logarithmic potential, which integrates in closed form.
ϕ and v are found by bisection; two steps of Newton's method in the complex plane then sharpen
the solution and carry its derivatives.

Which class, if any, is a matter of how X deviates from its mean where it does so [1]: of Y = X - 1,
E X = 1, weighted by Y². In the limit q -> 0 of the variance q that the layers see,

    Bernoulli   E Y³/E Y² -> -1: as Y >= -1, this means Y = -1 wherever it counts
    smooth      E Y⁴/E Y² -> 0

(E Y³/E Y² -> 0 is weaker: slopes that jump up on one side and down on the other have it too).

References
----------
[1] J. Pennington, S. Schoenholz, S. Ganguli, The emergence of spectral universality in deep
    networks, AISTATS 2018, arXiv:1802.09979.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._elementwise import POSITIVE
from meanfield._struct import static, struct
from meanfield.activations.base import Activation, ActivationLike, single_activation
from meanfield.activations.sampling import sampled
from meanfield.arguments import legal_number, untraced
from meanfield.errors import MeanFieldError
from meanfield.layers import S1, Ensemble
from meanfield.line import density
from meanfield.panels import gauss, places
from meanfield.sampled import Sampled
from meanfield.typing import Array, ScalarLike

# Bisections that find ϕ or v to rounding.
BISECTIONS = 56
# Steps of Newton's method: they carry up to three derivatives.
POLISH = 2
# Variances q at which the law of slopes is looked at, and how many of them make a decade.
DECADE = 6
VARIANCES = np.geomspace(1e20, 1e-40, 60 * DECADE + 1)
# A rule's outermost node and its steps, in standard deviations; nodes on each step, those of a rule
# that checks it, and what the two may differ by.
OUTERMOST, STEP, SIZES = 38.0, 0.5, (32, 24)
AGREEMENT = 1e-6
# φ'(0±) is read here. Slopes there that differ by less than this, relatively, are equal.
NEAR_ZERO, SAME = 1e-100, 1e-12
# Squared slopes that differ from that at 0 by less than this are equal to it.
ROUNDING = 1e-15
# A relative variance of X below the first is rounding, unless X is the same for all |z| < CORE;
# then the tails have it, exactly, and it may be as small as the second.
RESOLVED, FAINT = 1e-16, 1e-240
CORE = 2.0
# What only tails deviate by is seen from here on.
SEEN = 1e-9
# What tends to 0 is below the first, and falls to that part of itself or less over a decade of q,
# unless it is below the third.
CLOSE, FALL, NOTHING = 0.02, 0.8, 1e-9


@struct
class SpectralLimit:
    """A limiting law of squared singular values λ with E λ = 1, Var λ = `variance`.

    Fields have the shape S of the variance; methods take any array x and return an array of shape
    S + x.shape. They can be jitted, and differentiated in x and in the variance inside the support.
    All is NaN where a traced variance is not a finite number > 0.
    """

    variance: Array
    log_lambda_min: Array
    """The logarithm of the smallest λ: -inf for 0."""
    log_lambda_max: Array
    """The logarithm of the largest λ, an atom included."""
    log_edge: Array
    """The logarithm of the upper end of the continuous part."""
    log_atom: Array
    """The logarithm of the λ that has an atom, NaN if there is none."""
    atom_mass: Array
    law: Callable[[Array, Array], tuple[Array, Array]] = static()
    """(variance, log λ) -> (λρ(λ), P(> λ)) inside the continuous part."""

    @property
    def lambda_min(self) -> Array:
        """The smallest squared singular value."""
        return jnp.exp(self.log_lambda_min)

    @property
    def lambda_max(self) -> Array:
        """The largest squared singular value, an atom included."""
        return jnp.exp(self.log_lambda_max)

    @property
    def s_max(self) -> Array:
        """The largest singular value."""
        return jnp.exp(self.log_lambda_max / 2)

    def density(self, x: ScalarLike) -> Array:
        """Return the density of the continuous part at λ = x; 0 for x <= 0."""
        return _read(self, x, 1.0)[0]

    def singular_density(self, s: ScalarLike) -> Array:
        """Return the density of the continuous part of singular values at s; 0 for s <= 0."""
        return _read(self, s, 2.0)[0]

    def cdf(self, x: ScalarLike) -> Array:
        """Return P(λ <= x), the atom included."""
        return _read(self, x, 1.0)[1]


@jax.jit
def _read(limit: SpectralLimit, x: ScalarLike, power: ScalarLike) -> tuple[Array, Array]:
    """Return the density of x and P(λ <= x^power) where λ is x^power; both are 0 for x <= 0."""
    x = jnp.asarray(x, dtype=float)
    safe = jnp.where(x <= 0, 1.0, x)
    log_x = power * jnp.log(safe)

    def widened(field: Array) -> Array:
        return field.reshape(field.shape + (1,) * log_x.ndim)

    low, high = widened(limit.log_lambda_min), widened(limit.log_edge)
    inside = (log_x > low) & (log_x < high)
    middle = jnp.where(jnp.isinf(low), high - 1.0, (low + high) / 2)
    density, above = limit.law(widened(limit.variance), jnp.where(inside, log_x, middle))
    atom = jnp.where(log_x < widened(limit.log_atom), widened(limit.atom_mass), 0.0)
    outside = jnp.where(log_x <= low, 1.0, atom)
    unknown = jnp.isnan(widened(limit.variance)) | jnp.isnan(log_x)
    density = jnp.where(unknown, jnp.nan, jnp.where(inside, density, 0.0))
    above = jnp.where(unknown, jnp.nan, jnp.where(inside, above, outside))
    return (
        jnp.where(x <= 0, 0.0, power * density / safe),
        jnp.where(x <= 0, 0.0, 1.0 - above),
    )


def _bisect(height: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """Return where a falling function has its zero; a constant for differentiation."""

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = (low + high) / 2
        up = height(middle) > 0
        return jnp.where(up, middle, low), jnp.where(up, high, middle)

    low, high = jax.lax.fori_loop(0, BISECTIONS, halve, (low, high))
    return jax.lax.stop_gradient((low + high) / 2)


def _polish(
    residual: Callable[[Array, Array], tuple[Array, Array]],
    slope: Callable[[Array], Array],
    w: Array,
) -> Array:
    """Return w after Newton's steps towards a zero in the upper half plane.

    `residual` takes and returns real and imaginary parts. A step that would be longer than the
    distance from the real axis is not made: so close to an edge it is rounding.
    """
    for _ in range(POLISH):
        fall = slope(w)
        flat = fall == 0
        step = jax.lax.complex(*residual(w.real, w.imag)) / jnp.where(flat, 1.0, fall)
        w = w - jnp.where(flat | (jnp.hypot(step.real, step.imag) > w.imag / 2), 0.0, step)
    return w


def _bernoulli(variance: Array, log_x: Array) -> tuple[Array, Array]:
    def log_lambda(angle: Array) -> Array:
        return jnp.log(variance * jnp.sinc(angle / np.pi)) + angle / jnp.tan(angle)

    def residual(real: Array, imaginary: Array) -> tuple[Array, Array]:
        size = jnp.log(jnp.hypot(real, imaginary))
        turned = variance * imaginary - jnp.arctan2(imaginary, real)
        return variance * real - size - log_x, turned

    low = jnp.zeros(jnp.broadcast_shapes(variance.shape, log_x.shape))
    angle = _bisect(lambda a: log_lambda(a) - log_x, low, jnp.full_like(low, np.pi))
    start = angle / jax.lax.stop_gradient(variance)
    u = jax.lax.complex(start / jnp.tan(angle), start)
    u = _polish(residual, lambda u: variance - 1 / u, u)
    real, imaginary = u.real, u.imag
    density = imaginary / (jnp.square(1 - real) + jnp.square(imaginary)) / np.pi
    angle = variance * imaginary
    return density, (angle + (1 - variance) * jnp.arctan2(imaginary, 1 - real)) / np.pi


def _smooth(variance: Array, log_x: Array) -> tuple[Array, Array]:
    def square(v: Array) -> Array:
        return 0.25 - v**2 + v / jnp.tan(variance * v)

    def log_lambda(u: Array, v: Array) -> Array:
        nearby = jnp.square(u - 0.5) + jnp.square(v)
        return jnp.log1p(2 * u / nearby) / 2 + variance * (u - 0.5)

    def residual(u: Array, v: Array) -> tuple[Array, Array]:
        turned = variance * v - jnp.arctan2(v, jnp.square(u) + jnp.square(v) - 0.25)
        return log_lambda(u, v) - mirrored, turned

    shape = jnp.broadcast_shapes(variance.shape, log_x.shape)
    largest = _bisect(square, jnp.zeros_like(variance), np.pi / variance)
    # The upper half, u > 0, has the lower one as its mirror image.
    upper = log_x >= -variance / 2
    mirrored = jnp.where(upper, log_x, -variance - log_x)
    v = _bisect(
        lambda v: log_lambda(jnp.sqrt(jnp.maximum(square(v), 0.0)), v) - mirrored,
        jnp.zeros(shape),
        jnp.broadcast_to(largest, shape),
    )
    u = jax.lax.stop_gradient(jnp.sqrt(jnp.maximum(square(v), 0.0)))
    w = _polish(residual, lambda w: variance - 1 / (jnp.square(w) - 0.25), jax.lax.complex(u, v))
    u, v = jnp.where(upper, w.real, -w.real), w.imag
    return v / np.pi, (jnp.arctan2(v, u - 0.5) - variance * v * (u + 0.5)) / np.pi


def _checked(variance: ScalarLike) -> Array:
    value = jnp.asarray(legal_number("variance", variance, POSITIVE), dtype=float)
    return jnp.where(jnp.isfinite(value) & (value > 0), value, jnp.nan)


def bernoulli_limit(variance: ScalarLike) -> SpectralLimit:
    """Return the limit (1) for a variance σ² > 0 of λ: hard tanh and the like."""
    variance = _checked(variance)
    edge = 1 + jnp.log(variance)
    mass = jnp.maximum(1 - variance, 0.0)
    atom = jnp.where(mass > 0, variance, jnp.nan)
    zero = jnp.where(jnp.isnan(variance), jnp.nan, -jnp.inf)
    return SpectralLimit(variance, zero, jnp.fmax(edge, atom), edge, atom, mass, _bernoulli)


def smooth_limit(variance: ScalarLike) -> SpectralLimit:
    """Return the limit (2) for a variance σ² > 0 of λ: smooth φ as q -> 0."""
    variance = _checked(variance)
    u = jnp.sqrt(0.25 + 1 / variance)
    # log (u + 1/2)/(u - 1/2) = 2 arsinh(σ/2)
    half = 2 * jnp.arcsinh(jnp.sqrt(variance) / 2)
    # u - 1/2 = 1/(σ² (u + 1/2))
    low, high = -half - variance * (u + 0.5), half + 1 / (u + 0.5)
    return SpectralLimit(
        variance, low, high, high, jnp.full_like(high, jnp.nan), jnp.zeros_like(high), _smooth
    )


class _Deviation(NamedTuple):
    """Of Y = X/E X - 1, X = φ'²: E Y², E Y³/E Y², E Y⁴/E Y², and the largest |Y| for |z| < CORE."""

    variance: np.ndarray
    skewness: np.ndarray
    spread: np.ndarray
    core: np.ndarray


def _deviations(phi: Activation, variances: np.ndarray) -> _Deviation:
    """Return how squared slopes deviate from their mean, NaN where that is unresolved."""
    one, width, _ = phi.standard()
    one, unit = sampled(one), variances / float(np.asarray(width)) ** 2
    resolved = np.isfinite(one.slope_moment(unit, 8))
    with np.errstate(all="ignore"):
        fine, coarse = (
            np.array([_deviation(one, q, size) for q in unit.tolist()]) for size in SIZES
        )
        resolved &= (np.abs(fine - coarse) <= AGREEMENT * np.abs(fine))[:, :1].all(axis=1)
    return _Deviation(*np.where(resolved[:, None], fine, np.nan).T)


def _deviation(one: Sampled, q: float, size: int) -> tuple[float, ...]:
    """Return the same at one variance, by rules of a size.

    X less its value next to 0 is integrated, between panels' ends and in steps that the density
    is smooth on: so probabilities of 1e-240 are not lost.
    """
    cuts = one.edges / np.sqrt(q)
    even = np.arange(-OUTERMOST, OUTERMOST + STEP, STEP)
    edges = np.union1d(even, cuts[np.abs(cuts) < OUTERMOST])
    z = places(edges[:-1], edges[1:], size)
    weights = np.diff(edges)[:, None] / 2 * gauss(size)[1] * density(z, 1.0)
    x = np.square(one.values(np.sqrt(q) * z.ravel())[1]).reshape(z.shape)
    still = float(one.values(np.array([NEAR_ZERO]))[1][0]) ** 2
    apart = np.where(np.abs(x - still) <= ROUNDING * still, 0.0, x - still) / (x * weights).sum()
    y = apart - (apart * weights).sum()
    variance, third, fourth = ((y**power * weights).sum() for power in (2, 3, 4))
    core = np.where(np.abs(z) < CORE, np.abs(apart), 0.0).max()
    if core == 0 < np.abs(apart).max() < SEEN:
        # What tails alone have is not seen in so few digits.
        return (np.nan,) * 4
    return variance, third / variance, fourth / variance, core


@dataclasses.dataclass(frozen=True)
class SpectralClass:
    """The class of limits a family of networks belongs to as q -> 0.

    `name` is "bernoulli", "smooth" or "none", and `why` says by what that was decided, or why it
    could not be. `variance`, `skewness` and `spread` are E Y², E Y³/E Y² and E Y⁴/E Y² of
    Y = φ'²/E φ'² - 1 at variance `q`, the smallest at which they are resolved; NaN if none is.
    """

    name: str
    why: str
    q: float
    variance: float
    skewness: float
    spread: float


@untraced
def universality_class(phi: ActivationLike, ensemble: Ensemble = "orthogonal") -> SpectralClass:
    """Return the class of limiting spectra of deep networks with activation φ as q -> 0.

    It is told from φ' alone, at variances q from 1e20 down to 1e-40: quantities that must vanish
    have to be small at the smallest q at which they are resolved, and to fall on the way there.
    What does not pass is in no class. Parameters must be numbers.
    """
    phi = single_activation(phi)
    if ensemble not in S1:
        raise MeanFieldError(
            f"ensemble = {ensemble!r} is not legal; it must be 'gaussian' or 'orthogonal'"
        )
    nowhere = (np.nan,) * 4
    if sampled(phi).diverges(2):
        return SpectralClass("none", "φ jumps: E φ'² is infinite", *nowhere)
    law = _deviations(phi, VARIANCES)
    with np.errstate(invalid="ignore"):
        floor = np.where(law.core == 0, FAINT, RESOLVED)
        resolved = (law.variance >= floor) & np.isfinite(law.skewness) & np.isfinite(law.spread)
    there = np.flatnonzero(resolved)
    if not there.size:
        if (law.variance == 0).all():
            why = "all squared slopes are equal: with orthogonal weights so are singular values"
            return SpectralClass("none", why, float(VARIANCES[-1]), 0.0, np.nan, np.nan)
        return SpectralClass("none", "the law of φ'² is not resolved at any q", *nowhere)
    last = there[-1]
    values = (float(x[last]) for x in (VARIANCES, law.variance, law.skewness, law.spread))
    q, variance, skewness, spread = measured = tuple(values)

    def none(why: str) -> SpectralClass:
        return SpectralClass("none", why, *measured)

    if ensemble == "gaussian":
        return none(
            "each layer of Gaussian weights adds at least 1 to Var λ/(E λ)²: s_max grows like √L"
        )
    right, left = sampled(phi).values(np.array([NEAR_ZERO, -NEAR_ZERO]))[1] ** 2
    if abs(right - left) > SAME * max(right, left):
        return none(f"φ'² jumps at 0, from {left:.6g} to {right:.6g}")
    if right <= NEAR_ZERO:
        return none("φ'(0) = 0: the relative variance of φ'² does not vanish as q -> 0")
    earlier = there[there <= last - DECADE]
    if not earlier.size:
        return none(f"only around q = {q:.3g} is the law of φ'² resolved: no limit can be seen")

    def vanishes(x: np.ndarray) -> bool:
        now, before = abs(x[last]), abs(x[earlier[-1]])
        return bool(now <= NOTHING or (now <= CLOSE and now <= FALL * before))

    if not vanishes(law.variance):
        below = "" if last == len(VARIANCES) - 1 else ", and is not resolved below"
        return none(f"the relative variance of φ'² is still {variance:.3g} at q = {q:.3g}{below}")
    if vanishes(law.skewness + 1):
        why = "φ'² is constant except where it is about 0, with a vanishing probability"
        return SpectralClass("bernoulli", why, *measured)
    if vanishes(law.spread):
        return SpectralClass("smooth", "φ'² concentrates around its mean", *measured)
    return none(
        f"Y = φ'²/E φ'² - 1 has E Y³/E Y² = {skewness:.3g}, E Y⁴/E Y² = {spread:.3g} at "
        f"q = {q:.3g}: "
        "neither tends to -1, 1 nor to 0, 0"
    )
