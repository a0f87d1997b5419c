"""Mollified activations: an activation averaged over a kernel of a given radius.

    (φ * K_r)(x) = ∫ φ(x - u) K_r(u) du,        K_r(u) = K(u/r)/r,        ∫ K = 1,

with one of the even kernels

    bump            K(t) = A exp(-1/(1 - t²))     on |t| < 1,     C^∞,
    epanechnikov    K(t) = (3/4)(1 - t²)          on |t| < 1,     C⁰,
    gaussian        K(t) = exp(-t²/2)/√(2π)       on R,           analytic.

**Piecewise-linear φ** have a closed form. With F and R the first and second antiderivative of
K, and φ' jumping by Δ_i at d_i from the slope s_0 of the leftmost piece,

    (φ * K_r)'(x) = s_0 + Σ_i Δ_i F(t_i),        t_i = (x - d_i)/r,                        (1)
    (φ * K_r)(x)  = φ(x) + r Σ_i Δ_i R(-|t_i|).                                            (2)

F and R are polynomials for the Epanechnikov kernel and elementary in Φ for the Gaussian one. For
the bump, F/(A exp(-1/w) w²) and R/(A exp(-1/w) w⁴), w = 1 - t², vary slowly on [-1, 0] and are
tabulated once as Chebyshev series. The kernels are even: F(t) = 1 - F(-t), R(t) = t + R(-t).
`scale`, `shift`, `centre` and sums of activations pass the average on to what they are made of.

**Steps**: a callable that is constant between jumps is averaged in closed form too
(`meanfield.activations.steps`).

**Any other φ** is averaged by a double-exponential rule in t = u/r, cut where x - r t is a kink of
φ, or 0; an average that the rule does not resolve is NaN. With J_i the jumps of φ,

    (φ * K_r)'(x) = (φ' * K_r)(x) + Σ_i (J_i/r) K(t_i).                                    (3)

The classical example is S-ReLU [1], the ReLU averaged over the Epanechnikov kernel, `srelu` in
the registry. Some facts that are easily misremembered:

- S-ReLU is C² and not C³: φ''' jumps at ±r. Compact support does not preclude C^∞, as the
  bump shows.
- The sharp Lipschitz constant never grows: Lip(φ * K) ≤ Lip(φ). For ReLU it is 1 at every radius;
  what falls with the radius is the constant of φ', Δ K(0)/r.
- A mollified ReLU has no edge of chaos. It is convex and not negative, so that its tangent
  meets the axis below 0, u φ' - φ ≤ 0, and Stein's lemma gives
  q E φ'² - E φ² = E[φ (u φ' - φ)] - q E[φ φ''] < 0: the bias variance would be negative.
  Subtracting φ(0) (`centre`) gives it one.

References
----------
[1] S-ReLU, Mathematics 14 (2026) 72.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._struct import static, struct
from meanfield.activations.base import (
    Activation,
    ActivationLike,
    Sum,
    as_activation,
    derivative,
    merge,
    positive,
)
from meanfield.activations.combinators import Affine
from meanfield.activations.custom import Custom
from meanfield.activations.mollifiers import KERNELS, Kernel
from meanfield.activations.piecewise_linear import PiecewiseLinear
from meanfield.activations.steps import Steps, steps
from meanfield.errors import MeanFieldError
from meanfield.quadrature import panel
from meanfield.typing import Array, ScalarLike

# An average is trusted if the rule of twice the step agrees to this: its own error is then about
# the square.
RESOLVED = 1e-6
# In tails, what is below this fraction of typical values is rounding.
ROUNDING = 1e-13
# A derivative jumps if its one-sided limits differ by this fraction; derivatives beyond the
# order HIGHEST are not looked at.
JUMP = 1e-7
HIGHEST = 6
# The difference of φ * K and φ is scanned to this distance beyond the outermost kink.
SCANNED, SCAN_SIZE = 50.0, 40_001
# Local maxima within this fraction of the largest are refined, by this many bisections.
CONTENDERS, BISECTIONS = 1e-2, 60


@struct
class SupError:
    """The largest |φ * K - φ| and a point `at` which it is attained, or approached."""

    error: float
    at: float


@struct
class Mollified(Activation):
    """φ * K_radius; the kernel is part of the structure, φ and the radius are numbers."""

    continuous = True

    phi: Activation
    kernel: str = static(default="bump")
    radius: ScalarLike = positive(1.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "phi", as_activation(self.phi))
        if not isinstance(self.kernel, str) or self.kernel not in KERNELS:
            names = ", ".join(KERNELS)
            raise MeanFieldError(
                f"kernel = {self.kernel!r} is not legal; it must be one of {names}"
            )
        super().__post_init__()

    def __call__(self, x: Array) -> Array:
        return _mollified(self.phi, KERNELS[self.kernel], self.radius, jnp.asarray(x, dtype=float))

    def slope(self, x: Array) -> Array:
        """Return (φ * K)'(x); its own derivative is φ'' * K with the jumps of φ' in it."""
        x = jnp.asarray(x, dtype=float)
        return _mollified_slope(self.phi, KERNELS[self.kernel], self.radius, x)

    def kinks(self) -> tuple[ScalarLike, ...]:
        """Return d_i ± radius for the Epanechnikov kernel; other kernels leave no kink."""
        return () if math.isinf(KERNELS[self.kernel].gain) else self._layers()

    def cuts(self) -> tuple[ScalarLike, ...]:
        """Return the ends of the layers around kinks, and where a smooth φ varies away from 0."""
        cuts = self.phi.cuts()
        return merge(self._layers(), cuts if len(cuts) > len(self.phi.kinks()) else ())

    def _layers(self) -> tuple[ScalarLike, ...]:
        width = KERNELS[self.kernel].layer * self.radius
        return merge(tuple(d + side * width for d in self.phi.kinks() for side in (-1, 1)))

    @property
    def smoothness(self) -> float:
        """The largest k for which φ * K is C^k; inf if it is C^∞.

        A kernel of class C^∞ gives inf. The Epanechnikov kernel adds two to the order of the
        first derivative of φ that jumps and C^k is one below: 1 for a step, 2 for ReLU. The order
        is measured, up to 6; parameters must be concrete.
        """
        gain = KERNELS[self.kernel].gain
        return gain if math.isinf(gain) else _first_jump(self.phi) + gain - 1

    def sup_error(self) -> SupError:
        """Return sup |φ * K - φ| over R and where it is attained.

        For ReLU it is r E|t|/2 at the kink: 3r/16, 0.16722699885498766 r and r/√(2π) for the
        Epanechnikov, bump and Gaussian kernels. For a piecewise-linear φ the difference is r Σ Δ_i
        R(-|t_i|), free of cancellation; for any other it is scanned out to 50 beyond the kinks,
        and is inf if it still grows there. Maxima between the points of the scan are found by
        bisection. At a jump of φ both one-sided values count. Parameters must be concrete.
        """
        kinks = sorted(float(d) for d in self.phi.kinks())
        if isinstance(self.phi, PiecewiseLinear) and not kinks:
            return SupError(0.0, 0.0)
        found = [(abs(float(_difference(self, jnp.asarray(d)))), d) for d in kinks]
        if not self.phi.continuous:
            found = [
                (abs(float(self(jnp.asarray(d)) - self.phi.limit(self.phi, d, side))), d)
                for d in kinks
                for side in (-1, 1)
            ]

        layers = isinstance(self.phi, PiecewiseLinear)
        beyond = KERNELS[self.kernel].reach * float(self.radius) + (0.0 if layers else SCANNED)
        x = np.linspace(min([0.0, *kinks]) - beyond, max([0.0, *kinks]) + beyond, SCAN_SIZE)
        size = np.abs(_difference(self, jnp.asarray(x)))
        best = size.max()
        middle = np.abs(x) <= np.abs(x).max() / 2
        if max(size[0], size[-1]) == best > (1 + CONTENDERS) * size[middle].max():
            return SupError(math.inf, math.copysign(math.inf, x[size.argmax()]))

        inner = 1 + np.flatnonzero((size[1:-1] >= size[:-2]) & (size[1:-1] >= size[2:]))
        inner = inner[size[inner] >= (1 - CONTENDERS) * best]
        polished = self._stationary(x[inner - 1], x[inner + 1])
        errors = np.abs(_difference(self, jnp.asarray(polished)))
        found += zip(errors.tolist(), polished.tolist(), strict=True)
        # A kink that ties with a point beside it is what is meant.
        largest = max(error for error, _ in found)
        error, at = next(pair for pair in found if pair[0] >= largest * (1 - 1e-13))
        return SupError(error, at)

    def _stationary(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Return where (φ * K - φ)' changes sign in each interval, the middle where it does not."""

        def sign(x: np.ndarray) -> np.ndarray:
            return np.sign(_difference_slope(self, jnp.asarray(x)))

        start, middle = sign(low), (low + high) / 2
        crosses = start != sign(high)
        for _ in range(BISECTIONS):
            centre = (low + high) / 2
            before = sign(centre) == start
            low, high = np.where(before, centre, low), np.where(before, high, centre)
        return np.where(crosses, (low + high) / 2, middle)


def mollify(phi: ActivationLike, kernel: str = "bump", radius: ScalarLike = 1.0) -> Mollified:
    """Return φ * K_radius.

    Parameters
    ----------
    phi : any activation; its kinks and jumps are those that it declares.
    kernel : "bump", "epanechnikov" or "gaussian". The first two vanish beyond the radius, of the
        third it is the standard deviation.
    radius : > 0; may be traced, and results are differentiable in it.

    Raises
    ------
    MeanFieldError : `phi` is not an activation, the kernel is unknown or the radius not positive.

    Notes
    -----
    Gaussian statistics hold to 1e-12 for radii from 0.01; below, a decorrelation loses digits
    where √(qε) is near the radius (1e-10 at 1e-3). A smooth φ averaged over a compact kernel of
    many times its own width varies where no rule is cut, about ±radius, and is NaN where that
    matters.

    >>> phi = mollify(activation("relu"), "epanechnikov", radius=2.0)
    >>> float(phi(jnp.zeros(()))), phi.smoothness, phi.sup_error().error
    (0.375, 2.0, 0.375)
    """
    return Mollified(as_activation(phi), kernel, radius)


def _mollified(phi: Activation, kernel: Kernel, radius: ScalarLike, x: Array) -> Array:
    if isinstance(phi, Sum):
        pairs = zip(phi.weights, phi.terms, strict=True)
        return jnp.asarray(sum(w * _mollified(term, kernel, radius, x) for w, term in pairs))
    if isinstance(phi, Affine):
        inner = jnp.abs(jnp.asarray(phi.rate)) * radius
        y = _mollified(phi.phi, kernel, inner, jnp.asarray(phi.rate * (x - phi.centre)))
        return jnp.asarray(phi.gain * y + phi.offset)
    if isinstance(phi, PiecewiseLinear):
        return _closed(phi, kernel, radius, x)
    found = _steps(phi)
    if found is not None:
        return found.mollified(kernel, radius, x)
    return _average(phi, phi, kernel, radius, x)


def _mollified_slope(phi: Activation, kernel: Kernel, radius: ScalarLike, x: Array) -> Array:
    if isinstance(phi, Sum):
        pairs = zip(phi.weights, phi.terms, strict=True)
        return jnp.asarray(sum(w * _mollified_slope(term, kernel, radius, x) for w, term in pairs))
    if isinstance(phi, Affine):
        inner = jnp.abs(jnp.asarray(phi.rate)) * radius
        y = _mollified_slope(phi.phi, kernel, inner, jnp.asarray(phi.rate * (x - phi.centre)))
        return jnp.asarray(phi.gain * phi.rate * y)
    if isinstance(phi, PiecewiseLinear):
        return _closed_slope(phi, kernel, radius, x)
    found = _steps(phi)
    if found is not None:
        return found.mollified_slope(kernel, radius, x)
    slope = _average(phi.slope, phi, kernel, radius, x)
    if not phi.continuous:
        for kink, jump in zip(phi.kinks(), phi.jumps(), strict=True):
            slope += jump * kernel.density((x - kink) / radius) / radius
    return slope


def _steps(phi: Activation) -> Steps | None:
    return steps(phi) if isinstance(phi, Custom) else None


def _closed(phi: PiecewiseLinear, kernel: Kernel, radius: ScalarLike, x: Array) -> Array:
    """Return (2), written piece by piece so that nothing cancels and no derivative is one-sided.

    The piece of slope s between d and e contributes s r (R(t_d) - R(t_e)), a number between 0
    and s (e - d).
    """
    if not phi.kinks():
        return phi(x)
    first, slopes = _outline(phi)
    small, up, down = [], [], []
    for kink in phi.kinks():
        t = (x - kink) / radius
        right = t > 0
        r = radius * kernel.ramp(jnp.where(right, -t, t))
        small.append((right, r))
        up.append(jnp.where(right, (x - kink) + r, r))
        down.append(jnp.where(right, r, r - (x - kink)))
    value = first - slopes[0] * down[0]
    for i, (d, e) in enumerate(zip(phi.kinks()[:-1], phi.kinks()[1:], strict=True)):
        right, r = small[i + 1]
        value += slopes[i + 1] * jnp.where(right, (e - d) + (small[i][1] - r), up[i] - up[i + 1])
    return value + slopes[-1] * up[-1]


def _closed_slope(phi: PiecewiseLinear, kernel: Kernel, radius: ScalarLike, x: Array) -> Array:
    """Return (1)."""
    if not phi.kinks():
        return phi.slope(x)
    _, slopes = _outline(phi)
    value = jnp.broadcast_to(slopes[0], x.shape)
    for kink, jump in zip(phi.kinks(), phi.slope_jumps(), strict=True):
        t = (x - kink) / radius
        right = t > 0
        small = kernel.distribution(jnp.where(right, -t, t))
        value += jump * jnp.where(right, 1.0 - small, small)
    return value


def _outline(phi: PiecewiseLinear) -> tuple[Array, list[Array]]:
    """Return the value of φ at its first kink and the slopes of its pieces."""
    left = jnp.asarray(phi.kinks()[0], dtype=float) - 1.0
    slopes = [phi.slope(left)]
    for jump in phi.slope_jumps():
        slopes.append(slopes[-1] + jump)
    return phi(left) + slopes[0], slopes


@jax.jit
def _difference(smooth: Mollified, x: Array) -> Array:
    """Return φ * K - φ, by (2) where φ is piecewise linear."""
    phi = smooth.phi
    if not isinstance(phi, PiecewiseLinear):
        return smooth(x) - phi(x)
    ramp, radius = KERNELS[smooth.kernel].ramp, smooth.radius
    value = jnp.zeros_like(x)
    for kink, jump in zip(phi.kinks(), phi.slope_jumps(), strict=True):
        value += jump * radius * ramp(-jnp.abs((x - kink) / radius))
    return value


@jax.jit
def _difference_slope(smooth: Mollified, x: Array) -> Array:
    return smooth.slope(x) - smooth.phi.slope(x)


def _average(
    f: Callable[[Array], Array], phi: Activation, kernel: Kernel, radius: ScalarLike, x: Array
) -> Array:
    """Return ∫ f(x - r t) K(t) dt, NaN where it is not resolved; f has the kinks of φ.

    Where 0 is in the window the rule is graded towards it: φ varies over 1 there, however large
    the radius.
    """
    reach = kernel.reach
    points = jnp.sort(jnp.stack([jnp.asarray(d, dtype=float) for d in merge((0.0,), phi.cuts())]))
    cuts = [jnp.clip((x - d) / radius, -reach, reach) for d in points[::-1]]
    low, high = jnp.full_like(x, -reach), jnp.full_like(x, reach)
    if reach > 1:
        # The peak of a kernel that is narrower than its reach goes to its place among the cuts.
        # A cut that is there keeps its derivative.
        cuts = [
            jnp.where(right <= 0, right, jnp.maximum(left, 0.0))
            for left, right in pairwise([low, *cuts, high])
        ]
    edges = jnp.stack([low, *cuts, high])
    grading = jnp.log(jnp.maximum(1.0, reach * jnp.asarray(radius, dtype=float)))
    rule = panel(jax.lax.stop_gradient(grading), kernel.size)
    starts, lengths = edges[:-1], jnp.diff(edges, axis=0)

    def summand(node: Array, weight: Array) -> Array:
        t = starts + lengths * node
        return lengths * weight * kernel.density(t) * f(x - radius * t)

    def add(sums: tuple[Array, ...], pair: tuple[Array, Array]) -> tuple[tuple[Array, ...], None]:
        nodes, weights = pair
        first, second = summand(nodes[0], weights[0]), summand(nodes[1], weights[1])
        even, odd, size = sums
        return (even + first, odd + second, size + jnp.abs(first)), None

    # Node by node: the nodes of all x together are never held in memory.
    pairs = rule.nodes.reshape(-1, 2), rule.weights.reshape(-1, 2)
    sums, _ = jax.lax.scan(add, (jnp.zeros_like(starts),) * 3, pairs)
    even, odd, size = (s.sum(axis=0) for s in sums)
    typical = jnp.abs(f(jnp.asarray([-1.0, 0.0, 1.0]))).max()
    resolved = jnp.abs(even - odd) <= RESOLVED * 2 * size + ROUNDING * typical
    return jnp.where(resolved, even + odd, jnp.nan)


def _first_jump(phi: Activation) -> float:
    """Return the order of the first derivative of φ that jumps, inf if none does."""
    if not phi.kinks():
        return math.inf
    f = phi.__call__
    for order in range(HIGHEST + 1):
        if order:
            f = phi.slope if order == 1 else derivative(f)
        for kink in phi.kinks():
            left, right = (float(phi.limit(f, kink, side)) for side in (-1, 1))
            if abs(right - left) > JUMP * (1 + abs(left) + abs(right)):
                return order
    return math.inf
