"""What does a deep network do at initialisation, and what does its width change?

With χ1 and V' of its layers at a variance q that they keep, and μ_k = E φ'(√q z)^(2k), a network of
depth L multiplies squared gradients by χ1^L, its Jacobian's squared singular values have
m2/m1² = 1 + L (μ2/μ1² - 1 - s1) with s1 = -1 for Gaussian, 0 for orthogonal weights [1], and
correlations go through L correlation maps. It can be trained if

    |log χ1^L| ≤ log 10,    |V'(q)| ≤ 1,    correlation 0 becomes at most 0.9 [2],

and acts alike on all directions if L (μ2/μ1² - 1) ≤ 1 besides: where it does not, a few directions
take most of a gradient's step, and the others hardly learn.

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
import warnings
from typing import Any, NamedTuple

import numpy as np

from meanfield._elementwise import by_host
from meanfield.arguments import count, untraced
from meanfield.criticality import STEADY
from meanfield.errors import MeanFieldError, MeanFieldWarning
from meanfield.init import Initializer, biases, input_scale, weights
from meanfield.integrations import initialise
from meanfield.jacobian import jacobian_moments, slope_kurtosis
from meanfield.layers import Dense, Ensemble
from meanfield.propagation import rollout
from meanfield.spectrum import largest_singular_value

ENSEMBLES: tuple[Ensemble, ...] = ("gaussian", "orthogonal")
# Correlations of inputs whose fate is told.
CORRELATIONS = tuple(i / 10 for i in range(10))
# What correlation 0 may become, and L (μ2/μ1² - 1) be; limits are met to so many digits.
CORRELATION, SPREAD = 0.9, 1.0
DIGITS = 1e-10
# Gradients may change by this factor in the whole network.
GRADIENT = 10.0
# The exponential of more overflows.
LARGEST = 709.0


class Initializers(NamedTuple):
    """Of the first layer's weights, of the other layers' weights, and of all biases."""

    first: Initializer
    weights: Initializer
    biases: Initializer


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

    def init_(self, model: Any, *keys: Any, **options: Any) -> Any:
        """Initialise a model of PyTorch, Keras or Flax in place with this network's numbers.

        The model's first layer brings inputs of second moment `second_moment`, by default 1, to q.
        Of Equinox a new model is returned; Flax and Equinox take a key of JAX behind the model. See
        `meanfield.integrations.torch.init_` for the models that are legal, and the options. Warns
        of a network that is not `trainable`.
        """
        self._warn()
        layer = self.layer
        numbers = {
            "activation": layer.phi,
            "sigma_w": float(layer.sigma_w),
            "sigma_b": float(layer.sigma_b),
            "q": self.q,
            "distribution": layer.ensemble,
        }
        return initialise(model, *keys, **numbers | options)

    def initializers(self, second_moment: float = 1.0) -> Initializers:
        """Return functions of (key, shape, dtype), as `jax.nn.initializers` has them.

        The first layer's weights bring inputs of a second moment |x|²/N to the variance q.
        """
        self._warn()
        layer = self.layer
        first = input_scale(self.q, float(layer.sigma_b), second_moment)
        return Initializers(
            weights(first, layer.ensemble),
            weights(float(layer.sigma_w), layer.ensemble),
            biases(float(layer.sigma_b)),
        )

    def _warn(self) -> None:
        if not self.trainable:
            warnings.warn(
                f"this network trains slowly: {'; '.join(self.faults)}; the `choice` of a "
                "recommendation is a cured one, if there is a cure",
                MeanFieldWarning,
                stacklevel=3,
            )

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
        """What holds and what does not: four criteria, with their numbers."""
        spread = self.spread_orthogonal
        alike = "alike" if self.isometric else "unequally, so that few of them take most of a step"
        sign = "<=" if self.isometric else ">"
        return (
            *(f"{what}: {number}" for what, number, _ in self._criteria()),
            f"the Jacobian scales directions {alike}: m2/m1² = 1 + L (μ2/μ1² - 1) = {spread:.4g} "
            f"{sign} {1 + SPREAD:g} with orthogonal, {self.spread_gaussian:.4g} with Gaussian "
            "weights",
        )

    @property
    def faults(self) -> tuple[str, ...]:
        """Which of the first three criteria fail, with their numbers: none if it is trainable."""
        return tuple(f"{what} ({number})" for what, number, holds in self._criteria() if not holds)

    def _criteria(self) -> tuple[tuple[str, str, bool], ...]:
        """Return of the first three criteria what happens, by which number, whether it is good."""
        total, c = f"χ1^L = {self.gradient:.4g}", 1 - self.decorrelation[0]
        if self.critical:
            gradients = "gradients keep their size", total
        elif self.gradient > 1:
            gradients = "gradients explode", f"{total} > {GRADIENT:g}"
        else:
            gradients = "gradients vanish", f"{total} < {1 / GRADIENT:g}"
        if self.stable:
            held = "attracts" if abs(self.slope) < 1 - STEADY else "neither attracts nor repels"
            lengths = f"V {held} at q = {self.q:.6g}", f"V' = {self.slope:.4g}"
        else:
            lengths = f"V repels at q = {self.q:.6g}", f"|V'| = {abs(self.slope):.4g} > 1"
        becomes = f"correlation 0 becomes {c:.4g}"
        if self.distinguishes:
            inputs = "inputs stay apart", f"{becomes} <= {CORRELATION:g}"
        else:
            inputs = "inputs merge", f"{becomes} > {CORRELATION:g}"
        return (
            (gradients[0], gradients[1], self.critical),
            (lengths[0], lengths[1], self.stable),
            (inputs[0], inputs[1], self.distinguishes),
        )


@untraced
def assess(layer: Dense, depth: int, q: float, width: int | None = None) -> Assessment:
    """Return what `depth` repetitions of a layer do at initialisation, for a variance q > 0.

    It should be a variance that the layer keeps. The recommended ensemble is orthogonal where it
    halves m2/m1².
    """
    depth = count("depth", depth, 1)
    width = None if width is None else count("width", width, 1)
    if width is not None and layer.keep != 1:
        raise MeanFieldError(f"width = {width} is not legal with dropout; its spread is not known")
    seen = {
        ensemble: jacobian_moments(dataclasses.replace(layer, ensemble=ensemble), q, depth)
        for ensemble in ENSEMBLES
    }
    spreads = {name: _exp(float(one.log_m2 - 2 * one.log_m1)) for name, one in seen.items()}
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
        gradient=_exp(float(seen["gaussian"].log_m1)),
        decorrelation=tuple(np.asarray(pairs.epsilon)[:, -1].tolist()),
        spread_gaussian=spreads["gaussian"],
        spread_orthogonal=spreads["orthogonal"],
        largest=largest,
        width=width,
        width_spread=None if width is None else _width_spread(layer, q, depth, width),
    )


def _exp(x: float) -> float:
    """Return exp(x), inf where it overflows."""
    return math.inf if x >= LARGEST else math.exp(x)


def _width_spread(layer: Dense, q: float, depth: int, width: int) -> float:
    """Return the relative standard deviation of the squared gradient of networks of a width."""
    below = np.arange(depth)[::-1]
    variance = _unit_variance(layer, q, below.astype(float))
    weights = 2 * (float(slope_kurtosis(layer.phi, q)) - (layer.ensemble == "orthogonal"))
    total = (depth * weights + float(variance.sum())) / width
    return total if math.isnan(total) else math.sqrt(max(0.0, _exp(total) - 1))


def _unit_variance(layer: Dense, q: float, below: np.ndarray) -> np.ndarray:
    """Return the units' part of v_l where `below` layers follow.

    It is Var[φ'²/E φ'² + r φ²]; orthogonal weights take off half the square of its part in z² - 1.
    """

    def moments(phi: Any, q: np.ndarray) -> tuple[np.ndarray, ...]:
        return (
            phi.slope_moment(q, 2),
            phi.slope_moment(q, 4),
            phi.moment_rate(q, "slope2", 1),
            phi.second_moment(q),
            phi.variance_slope(q),
            phi.product_moment(q, 2),
            phi.product_moment(q, 4),
        )

    found = (float(x) for x in by_host(moments, layer.phi, q))
    mean, fourth, tangent, second, growth, cross, square = found
    slope = float(layer.sigma_w) ** 2 * growth
    away = abs(slope - 1) > STEADY
    runs = (1 - slope**below) / (1 - slope) if away else below
    r = tangent / mean * float(layer.sigma_w) ** 2 * runs
    own, both, bent = fourth / mean**2 - 1, cross / mean - second, square - second**2
    variance = own + 2 * r * both + r**2 * bent
    if layer.ensemble == "gaussian":
        return variance
    turned = 2 * q * (1 - float(layer.sigma_b) ** 2 / q) * (tangent / mean + r * growth)
    return variance - turned**2 / 2
