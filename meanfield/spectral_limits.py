"""To which law do the singular values of an ever deeper network converge?

With orthogonal weights, L layers whose squared slopes X have a relative variance Var X/(E X)² =
σ²/L keep E λ = 1 and Var λ = σ² as L grows, and the squared singular values λ converge to a law
that depends on σ² alone, in two classes [1]. With M = E λ/(ζ - λ) and u = M/(1 + M):

    Bernoulli   X is 0 with a small probability, else constant    ζ = e^{σ²u}/u           (1)
    smooth      X concentrates around its mean                     ζ = (1 + M)/M · e^{σ²M}  (2)

On the real axis, where λρ(λ) = -Im M/π, both have closed forms. For (1), 0 < ϕ < π,

    λ = σ² (sin ϕ/ϕ) e^{ϕ cot ϕ},    u = (ϕ/σ²)(cot ϕ - i),
    πP(> λ) = ϕ + (1 - σ²) arg(1 - ū),                                                    (3)

up to λ = eσ², and an atom of mass 1 - σ² at λ = e^{σ²} if σ² < 1. For (2), which is the law of free
multiplicative Brownian motion, M = u - iv - 1/2 with u² = 1/4 - v² + v cot(σ²v),

    πP(> λ) = arg M̄ - σ²v (u + 1/2),                                                      (4)

between the edges where v = 0, u = ±√(1/4 + 1/σ²). It is symmetric: λρ is the same at e^{-σ²}/λ.
(3) and (4) are the imaginary part of the logarithmic potential, which integrates in closed form.

References
----------
[1] J. Pennington, S. Schoenholz, S. Ganguli, The emergence of spectral universality in deep
    networks, AISTATS 2018, arXiv:1802.09979.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._struct import POSITIVE, concrete, elementwise, require_number, static, struct
from meanfield.activations.base import Activation, require_single
from meanfield.errors import MeanFieldError, require
from meanfield.layers import S1, Ensemble
from meanfield.typing import Array, ScalarLike

# Bisections that find ϕ or v to rounding.
BISECTIONS = 56
# Variances q at which the law of slopes is looked at; a relative variance of X that is at least the
# first is resolved, one that is at most the second is small.
VARIANCES = np.geomspace(1.0, 1e-10, 81)
RESOLVED, SMALL = 1e-8, 1e-3
# A skewness ratio this close to that of a class is in the class.
CLOSE = 0.02


@struct
class SpectralLimit:
    """A limiting law of squared singular values λ with E λ = 1, Var λ = `variance`.

    Fields have the shape S of the variance; methods take any array x and return an array of shape
    S + x.shape. They can be jitted and differentiated in x inside the support.
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
        x = jnp.asarray(x, dtype=float)
        safe = jnp.where(x > 0, x, 1.0)
        return jnp.where(x > 0, self._read(jnp.log(safe))[0] / safe, 0.0)

    def singular_density(self, s: ScalarLike) -> Array:
        """Return the density of the continuous part of singular values at s; 0 for s <= 0."""
        s = jnp.asarray(s, dtype=float)
        return 2 * s * self.density(jnp.where(s > 0, s, 0.0) ** 2)

    def cdf(self, x: ScalarLike) -> Array:
        """Return P(λ <= x), the atom included."""
        x = jnp.asarray(x, dtype=float)
        safe = jnp.where(x > 0, x, 1.0)
        return jnp.where(x > 0, 1.0 - self._read(jnp.log(safe))[1], 0.0)

    def _read(self, log_x: Array) -> tuple[Array, Array]:
        """Return λρ(λ) and P(> λ) everywhere."""

        def widened(field: Array) -> Array:
            return field.reshape(field.shape + (1,) * log_x.ndim)

        low, high = widened(self.log_lambda_min), widened(self.log_edge)
        inside = (log_x > low) & (log_x < high)
        middle = jnp.where(jnp.isinf(low), high - 1.0, (low + high) / 2)
        density, above = self.law(widened(self.variance), jnp.where(inside, log_x, middle))
        atom = jnp.where(log_x < widened(self.log_atom), widened(self.atom_mass), 0.0)
        outside = jnp.where(log_x <= low, 1.0, atom)
        return jnp.where(inside, density, 0.0), jnp.where(inside, above, outside)


def _bisect(height: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """Return where a falling function has its zero."""

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = (low + high) / 2
        up = height(middle) > 0
        return jnp.where(up, middle, low), jnp.where(up, high, middle)

    low, high = jax.lax.fori_loop(0, BISECTIONS, halve, (low, high))
    return (low + high) / 2


def _bernoulli(variance: Array, log_x: Array) -> tuple[Array, Array]:
    def log_lambda(angle: Array) -> Array:
        return jnp.log(variance * jnp.sinc(angle / np.pi)) + angle / jnp.tan(angle)

    low = jnp.zeros(jnp.broadcast_shapes(variance.shape, log_x.shape))
    angle = _bisect(lambda a: log_lambda(a) - log_x, low, jnp.full_like(low, np.pi))
    real, imaginary = angle / jnp.tan(angle) / variance, angle / variance
    density = imaginary / (jnp.square(1 - real) + jnp.square(imaginary)) / np.pi
    return density, (angle + (1 - variance) * jnp.arctan2(imaginary, 1 - real)) / np.pi


def _smooth(variance: Array, log_x: Array) -> tuple[Array, Array]:
    def square(v: Array) -> Array:
        return 0.25 - v**2 + v / jnp.tan(variance * v)

    def log_lambda(u: Array, v: Array) -> Array:
        nearby = jnp.square(u - 0.5) + jnp.square(v)
        return jnp.log1p(2 * u / nearby) / 2 + variance * (u - 0.5)

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
    u = jnp.sqrt(jnp.maximum(square(v), 0.0))
    u = jnp.where(upper, u, -u)
    return v / np.pi, (jnp.arctan2(v, u - 0.5) - variance * v * (u + 0.5)) / np.pi


def _checked(variance: ScalarLike) -> Array:
    require_number("variance", variance)
    value = jnp.asarray(variance, dtype=float)
    if concrete(variance):
        require(POSITIVE[0](np.asarray(value)), "variance", variance, POSITIVE[1])
    return value


def bernoulli_limit(variance: ScalarLike) -> SpectralLimit:
    """Return the limit (1) for a variance σ² > 0 of λ: hard tanh and the like."""
    variance = _checked(variance)
    edge = 1 + jnp.log(variance)
    mass = jnp.maximum(1 - variance, 0.0)
    atom = jnp.where(mass > 0, variance, jnp.nan)
    zero = jnp.full_like(variance, -jnp.inf)
    return SpectralLimit(variance, zero, jnp.fmax(edge, atom), edge, atom, mass, _bernoulli)


def smooth_limit(variance: ScalarLike) -> SpectralLimit:
    """Return the limit (2) for a variance σ² > 0 of λ: smooth φ as q -> 0."""
    variance = _checked(variance)
    u = jnp.sqrt(0.25 + 1 / variance)
    # log (u + 1/2)/(u - 1/2) = 2 arsinh(σ/2)
    half = 2 * jnp.arcsinh(jnp.sqrt(variance) / 2)
    low, high = -half - variance * (u + 0.5), half + variance * (u - 0.5)
    return SpectralLimit(
        variance, low, high, high, jnp.full_like(high, jnp.nan), jnp.zeros_like(high), _smooth
    )


@elementwise()
def _slope_moments(phi: Activation, q: ScalarLike) -> Array:
    """Return E φ'², E φ'⁴ and E φ'⁶."""
    return jnp.stack([phi.slope_moment(q, power) for power in (2, 4, 6)])


@dataclasses.dataclass(frozen=True)
class SpectralClass:
    """The class of limits a family of networks belongs to as q -> 0.

    `name` is "bernoulli", "smooth" or "none". `variance` and `skewness` are Var X̃ and
    E (X̃ - 1)³/Var X̃ of the squared slopes X̃ = φ'²/E φ'² at variance `q`, by which it was decided.
    """

    name: str
    why: str
    q: float
    variance: float
    skewness: float


def universality_class(phi: Activation, ensemble: Ensemble = "orthogonal") -> SpectralClass:
    """Return the class of limiting spectra of deep networks with activation φ as q -> 0.

    It is told from the law of squared slopes at the smallest q at which that is resolved:
    E (X̃ - 1)³/Var X̃ tends to -1 in the Bernoulli class and to 0 in the smooth one [1].
    Parameters must be numbers.
    """
    require_single(phi)
    if ensemble not in S1:
        raise MeanFieldError(
            f"ensemble = {ensemble!r} is not legal; it must be 'gaussian' or 'orthogonal'"
        )
    two, four, six = np.asarray(_slope_moments(phi, VARIANCES)).T
    with np.errstate(all="ignore"):
        variance = four / two**2 - 1
        third = six / two**3 - 3 * four / two**2 + 2
    if not np.isfinite(variance).any():
        return SpectralClass("none", "φ jumps: E φ'² is infinite", np.nan, np.nan, np.nan)
    if np.nanmax(variance) < RESOLVED:
        why = "all slopes are equal: with orthogonal weights so are all singular values"
        return SpectralClass("none", why, float(VARIANCES[-1]), 0.0, np.nan)
    last = np.flatnonzero(variance >= RESOLVED)[-1]
    measured = (float(VARIANCES[last]), float(variance[last]), float(third[last] / variance[last]))
    skewness = measured[2]
    if ensemble == "gaussian":
        why = "each layer of Gaussian weights adds at least 1 to Var λ/(E λ)²: s_max grows like √L"
        return SpectralClass("none", why, *measured)
    if variance[last] > SMALL:
        why = "the relative variance of φ'² does not vanish as q -> 0: φ' jumps at 0"
        return SpectralClass("none", why, *measured)
    if abs(skewness + 1) <= CLOSE:
        return SpectralClass("bernoulli", "φ' is constant where it is not 0", *measured)
    if abs(skewness) <= CLOSE:
        return SpectralClass("smooth", "φ'² concentrates around its mean", *measured)
    why = f"E (X̃ - 1)³/Var X̃ is {skewness:.3g} at q = {measured[0]:.3g}, close to neither -1 nor 0"
    return SpectralClass("none", why, *measured)
