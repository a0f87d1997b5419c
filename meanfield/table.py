"""An activation whose Gaussian statistics are read off Chebyshev series: see `meanfield.tabulate`.

Over log q, cell by cell: E φ, E φ² and that of the even part of φ, dE φ²/dq, E φ'² and E φ'⁴; and
the bias variance on the edge of chaos,

    σb²(q) = (q E φ'² - E φ²) / E φ'² = q exp(-λ/q) e(q),

with λ = x²/2 where φ is homogeneous up to a kink at |x|. Over (log q, θ), with c = cos θ, the
deficit of the correlation map,

    G(q, θ) = E φ'(u)² - E (φ(u1) - φ(u2))²/(2q(1 - c)) = θ^m exp(-κ/q) g(q, θ),

with m = 1 if φ' jumps, else m = 2, and κ = x²/2 if φ' is constant up to a kink at |x|, else κ = 0.
In θ, not in c, g is smooth at c = 1, kinks or not. E (φ'(u1) - φ'(u2))²/2 is
G + tan(θ/2) dG/dθ. If φ jumps, E φ'² is infinite and left out of G: then m = -1, and κ is that of
a φ that is constant.

Activations that differ in scale alone, φ(x) = h φ1(x/w), share the table of φ1.
"""

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._struct import Whole, struct
from meanfield.activations.base import Activation
from meanfield.chebyshev import locate, series, series_and_slope
from meanfield.separation import Segments, of_segments, of_smooth
from meanfield.typing import Array, ScalarLike

Numbers = Array | np.ndarray

# Ends of the cells of log q, for one Gaussian, closer where moments of most φ change their course,
# and for pairs.
FAR = np.linspace(np.log(1e-10), np.log(1e16), 61)
WIDE = np.sort(np.append(FAR, (FAR[17:29] + FAR[18:30]) / 2))
PAIRS = np.linspace(np.log(1e-6), np.log(1e4), 24)
# Cells of θ for 0 <= c <= 1, which halve towards 0, where layers of width 1/√q are; and for all c.
ACUTE = np.append(0.0, np.pi / 2 * 2.0 ** -np.arange(7, -1, -1))
ALL_ANGLES = np.concatenate([ACUTE, np.pi - ACUTE[-2::-1]])


@struct
class Pairs(Whole):
    """G = θ^m exp(-κ/q) g(q, θ), NaN where it is not certified."""

    g: Numbers
    """Coefficients, after the cells `PAIRS` and those of θ, of shape (23, n, 16, 16)."""
    rate: Numbers
    """κ."""
    power: Numbers
    """m."""
    angles: Numbers

    def acute(self) -> "Pairs":
        """Return those of correlations from 0 to 1: the same kernels serve all tables."""
        return Pairs(self.g[:, : ACUTE.size - 1], self.rate, self.power, ACUTE)

    @property
    def jumps(self) -> Array:
        """Whether φ jumps: E φ'² is then infinite, and not in G."""
        return jnp.asarray(self.power) < 0

    def read(self, theta: Array, g: Array, growth: Array) -> tuple[Array, Array]:
        """Return exp(κ/q) G and θ dG/dθ likewise, from g and θ dg/dθ."""
        scale = theta**self.power
        return scale * g, scale * (self.power * g + growth)

    def gaps(self, q: ScalarLike, theta: ScalarLike) -> tuple[Array, Array]:
        """Return G and G + tan(θ/2) dG/dθ at a variance q and an angle θ, scalars.

        The second is NaN beyond π/2, where it would be lost in the error of G.
        """
        q, theta = jnp.asarray(q, dtype=float), jnp.asarray(theta, dtype=float)
        cell, x = locate(jnp.asarray(PAIRS), jnp.log(q))
        angle, y = locate(jnp.asarray(self.angles), theta)
        width = jnp.diff(jnp.asarray(self.angles))[angle]

        g, slope = series_and_slope(series(jnp.asarray(self.g)[cell, angle].T, x), y)
        values = self.read(theta, g, theta * slope * 2 / width)
        deficit, growth = (jnp.exp(-jnp.asarray(self.rate) / q) * value for value in values)
        # tan(θ/2)/θ is 1/2 at 0.
        ratio = jnp.where(theta > 0, jnp.tan(theta / 2) / jnp.where(theta > 0, theta, 1.0), 0.5)
        unknown = (q < np.exp(PAIRS[0])) | (q > np.exp(PAIRS[-1])) | (theta < 0)
        unknown = unknown | (theta > self.angles[-1])
        gap = jnp.where(unknown | (theta > ACUTE[-1]), jnp.nan, deficit + ratio * growth)
        return jnp.where(unknown, jnp.nan, deficit), gap

    @property
    def range(self) -> tuple[float, float]:
        """The least and the largest variance of which pairs are known, NaN if of none."""
        used = np.flatnonzero(np.isfinite(np.asarray(self.g)).all(axis=(1, 2, 3)))
        if not used.size:
            return np.nan, np.nan
        return float(np.exp(PAIRS[used[0]])), float(np.exp(PAIRS[used[-1] + 1]))


@struct
class Table(Whole):
    """Coefficients of the series. NaN where nothing is certified, or nothing was asked for.

    Those of one Gaussian have the shape (72, 16), after the cells `WIDE`.
    """

    second_moment: Numbers
    variance_slope: Numbers
    slope_moment: Numbers
    fourth_slope_moment: Numbers
    edge_bias: Numbers
    """That of e, certified where `edge_certified`, of shape (72,), and else rough."""
    edge_certified: Numbers
    mean: Numbers
    even_moment: Numbers
    edge_rate: Numbers
    """λ."""
    pairs: Pairs
    error: Numbers
    """The largest relative error that was found in what is certified, over its tolerance."""

    def read(self, statistic: Numbers, q: ScalarLike) -> Array:
        """Return a statistic of one Gaussian at the variance q, of any shape."""
        q = jnp.asarray(q, dtype=float)
        cell, x = locate(jnp.asarray(WIDE), jnp.log(q))
        inside = (q >= np.exp(WIDE[0])) & (q <= np.exp(WIDE[-1]))
        return jnp.where(inside, series(jnp.asarray(statistic)[cell], x), jnp.nan)


@struct
class Nameless(Activation):
    """An activation of which nothing is known but whether it is odd, a number."""

    is_odd: Numbers

    @property
    def odd(self) -> Numbers:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether φ is known to be odd."""
        return self.is_odd

    def __call__(self, x: Array) -> Array:
        return jnp.full_like(x, jnp.nan)


@struct
class Tabulated(Activation):
    """φ(x) = height·φ1(x/width), its statistics read off the table of φ1.

    They are NaN where the table has nothing certified; variances may then be arrays for those of
    one Gaussian. What a table does not hold is asked of φ.
    """

    phi: Activation
    table: Table
    width: ScalarLike = 1.0
    height: ScalarLike = 1.0
    segments: Segments | None = None
    """φ itself, where it is straight between kinks: for pairs of unequal variances."""

    @property
    def continuous(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether φ is known to be continuous."""
        return self.phi.continuous

    @property
    def odd(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether φ is known to be odd."""
        return self.phi.odd

    def __call__(self, x: Array) -> Array:
        return self.phi(x)

    def slope(self, x: Array) -> Array:
        return self.phi.slope(x)

    def kinks(self) -> tuple[ScalarLike, ...]:
        return self.phi.kinks()

    def cuts(self) -> tuple[ScalarLike, ...]:
        return self.phi.cuts()

    def jumps(self) -> tuple[Array, ...]:
        return tuple(jnp.zeros(()) for _ in self.kinks())

    def slope_jumps(self) -> tuple[Array, ...]:
        return self.phi.slope_jumps()

    def plain(self) -> Activation:
        return self.phi

    def bare(self) -> "Tabulated":
        """Return it for kernels that read the table alone: one of them serves all activations."""
        width, height = (np.asarray(x, dtype=float) for x in (self.width, self.height))
        return Tabulated(Nameless(np.asarray(self.odd)), self.table, width, height, self.segments)

    @property
    def steepness(self) -> Array:
        """height/width, by which φ' is larger than φ1'."""
        return jnp.asarray(self.height) / self.width

    def _unit(self, q: ScalarLike) -> Array:
        return jnp.asarray(jnp.asarray(q) / jnp.square(self.width))

    def mean(self, q: ScalarLike) -> Array:
        return jnp.asarray(self.height) * self.table.read(self.table.mean, self._unit(q))

    def second_moment(self, q: ScalarLike) -> Array:
        return jnp.square(self.height) * self.table.read(self.table.second_moment, self._unit(q))

    def even_moment(self, q: ScalarLike) -> Array:
        return jnp.square(self.height) * self.table.read(self.table.even_moment, self._unit(q))

    def slope_moment(self, q: ScalarLike, power: int) -> Array:
        parts = {2: self.table.slope_moment, 4: self.table.fourth_slope_moment}
        if power not in parts:
            return self.phi.slope_moment(q, power)
        return self.steepness**power * self.table.read(parts[power], self._unit(q))

    def variance_slope(self, q: ScalarLike) -> Array:
        value = self.table.read(self.table.variance_slope, self._unit(q))
        return jnp.square(self.steepness) * value

    def edge_deficit(self, q: ScalarLike) -> Array:
        unit = self._unit(q)
        cell, _ = locate(jnp.asarray(WIDE), jnp.log(unit))
        certified = jnp.where(jnp.asarray(self.table.edge_certified)[cell], 1.0, jnp.nan)
        scale = jnp.square(self.width) * unit * jnp.exp(-self.table.edge_rate / unit)
        bias = certified * scale * self.table.read(self.table.edge_bias, unit)
        return bias * self.slope_moment(q, 2)

    def _gaps(self, q: ScalarLike, epsilon: ScalarLike) -> tuple[Array, Array]:
        theta = 2 * jnp.arcsin(jnp.sqrt(jnp.asarray(epsilon) / 2))
        deficit, gap = self.table.pairs.gaps(self._unit(q), theta)
        return jnp.square(self.steepness) * deficit, jnp.square(self.steepness) * gap

    def _unless_jumping(self, value: Array) -> Array:
        return jnp.where(self.table.pairs.jumps, jnp.inf, value)

    def deficit(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        return self._unless_jumping(self._gaps(q, epsilon)[0])

    def slope_gap(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        return self._unless_jumping(self._gaps(q, epsilon)[1])

    def _finite_slope_moment(self, q: ScalarLike) -> Array:
        """Return E φ'², or 0 where it is not in what the table of pairs holds."""
        return jnp.where(self.table.pairs.jumps, 0.0, self.slope_moment(q, 2))

    def decorrelation(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        return self._finite_slope_moment(q) - self._gaps(q, epsilon)[0]

    def distance(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        return jnp.asarray(epsilon) * self.decorrelation(q, epsilon)

    def slope_covariance(self, q1: ScalarLike, q2: ScalarLike, epsilon: ScalarLike) -> Array:
        if q1 is q2:
            return self._finite_slope_moment(q1) - self._gaps(q1, epsilon)[1]
        return self.phi.slope_covariance(q1, q2, epsilon)

    def separation(
        self, q1: ScalarLike, q2: ScalarLike, epsilon: ScalarLike, s: ScalarLike, t: ScalarLike
    ) -> Array:
        """Return E (s φ(u1) - t φ(u2))² / 2, smooth φ and straight ones by rules of their own."""
        numbers = q1, q2, epsilon, s, t
        if self.segments is not None:
            return of_segments(self.segments, *numbers)
        if self.cuts():
            return self.phi.separation(*numbers)
        largest = jnp.maximum(jnp.asarray(q1, dtype=float), q2)
        sizes = self.second_moment(largest), self.slope_moment(largest, 2)
        value = of_smooth(self, self.slope, sizes, *numbers)
        return jax.lax.cond(
            jnp.isfinite(value), lambda: value, lambda: self.phi.separation(*numbers)
        )
