"""Layers in the infinite-width limit: one description, several readings.

A dense layer h = W φ(·) + b with random weights and biases sends the covariance of
pre-activations of two inputs to

    q_i' = σw² E φ(u_i)² + σb²,        q12' = σw² E φ(u1) φ(u2) + σb²,

and the squared singular values of its Jacobian have mean χ = σw² E φ'(u)² and relative
variance E φ'⁴/(E φ'²)² - 1 - s1, where s1 = -1 for Gaussian and 0 for orthogonal weights
[1, 2]. In a composition means multiply and relative variances add.

A pair of inputs travels as (q1, q2, ε) with ε = 1 - c, so that nothing is lost as
correlations approach one:

    ε' = ½ E (h1/√q1' - h2/√q2')²,

a mean of squares, which for q1 = q2 = q is σw² (q/q') ε E(φ(u1) - φ(u2))²/(2qε).

Dropout keeps each unit with probability p, drawn anew for every input, and divides by p: then

    q_i' = (σw²/p) E φ(u_i)² + σb²,    q12' unchanged,    χ = (σw²/p) E φ'(u)²,

so that an input seen twice comes out as two, of ε' = σw² (1/p - 1) E φ²/q' [3]. The mask and φ'
multiply the same unit: the relative variance becomes E φ'⁴/(p (E φ'²)²) - 1 - s1.

References
----------
[1] B. Poole et al., Exponential expressivity in deep neural networks through transient
    chaos, NeurIPS 2016, arXiv:1606.05340.
[2] J. Pennington, S. Schoenholz, S. Ganguli, The emergence of spectral universality in deep
    networks, AISTATS 2018, arXiv:1802.09979.
[3] S. Schoenholz et al., Deep information propagation, ICLR 2017, arXiv:1611.01232.
"""

import abc
import functools
import operator
from typing import Any, Literal, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._elementwise import (
    DECORRELATION,
    NON_NEGATIVE,
    NOT_NEGATIVE,
    SLACK,
    either,
    elementwise,
    namespace,
)
from meanfield._struct import concrete, static, struct
from meanfield.activations.base import Activation, as_activation
from meanfield.arguments import Domain, count, illegal, keep_legal, number
from meanfield.errors import MeanFieldError, require
from meanfield.price import legal_epsilon
from meanfield.typing import Array, ScalarLike

Ensemble = Literal["gaussian", "orthogonal"]
# Two variances are taken for equal where log(q1/q2)² is this part of ε.
ALIKE = 1e-11
# Where products and sums start, of NumPy's numbers and JAX's alike.
ONE: Any = 1.0
ZERO: Any = 0.0
S1 = {"gaussian": -1.0, "orthogonal": 0.0}
PROBABILITY: Domain = (lambda x: (x > 0) & (x <= 1), "a probability in (0, 1]")
# The numbers of a dense layer.
DENSE = {"sigma_w": NON_NEGATIVE, "sigma_b": NON_NEGATIVE, "keep": PROBABILITY}


def _legal(epsilon: Any) -> Any:
    """Return ε where it is legal up to rounding."""
    if namespace(epsilon) is np:
        return np.clip(epsilon, 0.0, 2.0)
    return legal_epsilon(epsilon)


@struct
class Covariance:
    """Two inputs' variances q1, q2 and `epsilon` = 1 - correlation, in [0, 2]."""

    q1: ScalarLike
    q2: ScalarLike
    epsilon: ScalarLike

    def __post_init__(self) -> None:
        for name in ("q1", "q2", "epsilon"):
            object.__setattr__(self, name, number(name, getattr(self, name)))

    def legal(self) -> Any:
        """Return whether no variance is negative, and the correlation is one."""
        positive = NOT_NEGATIVE[0](self.q1) & NOT_NEGATIVE[0](self.q2)
        return positive & DECORRELATION[0](self.epsilon)

    @classmethod
    def of(cls, q1: ScalarLike, q2: ScalarLike, q12: ScalarLike) -> "Covariance":
        """Return the covariance with off-diagonal entry q12, |q12| ≤ √(q1 q2)."""
        xp = namespace(q1, q2, q12)
        root = xp.sqrt(xp.asarray(q1, dtype=float)) * xp.sqrt(xp.asarray(q2, dtype=float))
        gap = (root - q12) / xp.where(root > 0, root, 1.0)
        return cls(q1, q2, _legal(gap))

    @property
    def c(self) -> Array:
        """The correlation."""
        return 1.0 - self.epsilon  # pyright: ignore[reportReturnType]

    @property
    def q12(self) -> Array:
        """The covariance."""
        xp = namespace(self.q1, self.q2)
        return xp.sqrt(self.q1) * xp.sqrt(self.q2) * self.c


@struct
class Moments:
    """Mean and relative variance of the squared singular values of a Jacobian."""

    mean: Array
    relative_variance: Array


class Layer(abc.ABC):
    """A map of Gaussian pre-activations to Gaussian pre-activations."""

    @abc.abstractmethod
    def legal(self) -> Any:
        """Return whether all parameters are in their domains."""

    @abc.abstractmethod
    def variance(self, q: ScalarLike) -> Array:
        """Return the variance V(q) that follows q."""

    @abc.abstractmethod
    def variance_slope(self, q: ScalarLike) -> Array:
        """Return V'(q)."""

    @abc.abstractmethod
    def propagate(self, pair: Covariance) -> Covariance:
        """Return the covariance that follows `pair`."""

    @abc.abstractmethod
    def decorrelation(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        """Return the ε' that follows two inputs of variance q and correlation 1 - epsilon."""

    @abc.abstractmethod
    def growth(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        """Return log(ε'/ε): where ε' is close to ε, without the cancellation in ε' - ε."""

    @abc.abstractmethod
    def separates(self) -> Any:
        """Return whether an input seen twice comes out as two, as it does under dropout."""

    @abc.abstractmethod
    def correlation_slope(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        """Return dc'/dc for two inputs of variance q and correlation 1 - epsilon."""

    @abc.abstractmethod
    def moments(self, q: ScalarLike) -> Moments:
        """Return the moments of the Jacobian for an input of variance q."""

    def covariance(self, q1: ScalarLike, q2: ScalarLike, q12: ScalarLike) -> Array:
        """Return the off-diagonal covariance that follows q12, |q12| ≤ √(q1 q2)."""
        return _covariance(self, *covariance_numbers(q1, q2, q12))

    def __rshift__(self, after: "Layer") -> "Layer":
        before = self.layers if isinstance(self, Serial) else (self,)
        return Serial((*before, after))

    def _no_arithmetic(self, other: Any) -> NoReturn:
        raise MeanFieldError(
            f"layer with {other!r} is not legal; layers are no numbers: "
            "a >> b puts b after a, and Repeat(a, n) repeats a"
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __matmul__ = _no_arithmetic


@elementwise(host=True)
def _covariance(layer: Layer, q1: ScalarLike, q2: ScalarLike, q12: ScalarLike) -> Array:
    return layer.propagate(Covariance.of(q1, q2, q12)).q12


def covariance_numbers(
    q1: ScalarLike, q2: ScalarLike, q12: ScalarLike
) -> tuple[ScalarLike, ScalarLike, ScalarLike]:
    """Return numbers. Raises `MeanFieldError` unless they are variances and their covariance."""
    q1, q2, q12 = number("q1", q1), number("q2", q2), number("q12", q12)
    if concrete(q1, q2, q12):
        v1, v2 = np.asarray(q1, dtype=float), np.asarray(q2, dtype=float)
        for name, q in (("q1", v1), ("q2", v2)):
            require(NON_NEGATIVE[0](q), name, q, "a finite variance >= 0")
        legal = np.abs(np.asarray(q12)) <= np.sqrt(v1) * np.sqrt(v2) * (1 + SLACK)
        require(legal, "q12", q12, "at most √(q1·q2) in size")
    return q1, q2, q12


@struct
class Dense(Layer):
    """A dense layer; `sigma_w`²/N and `sigma_b`² are the variances of weights and biases.

    `keep` is the probability with which dropout, before the weights, keeps a unit.
    """

    phi: Activation
    sigma_w: ScalarLike
    sigma_b: ScalarLike = 0.0
    ensemble: Ensemble = static(default="gaussian")
    keep: ScalarLike = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "phi", as_activation(self.phi))
        if self.ensemble not in S1:
            raise MeanFieldError(
                f"ensemble = {self.ensemble!r} is not legal; it must be 'gaussian' or 'orthogonal'"
            )
        keep_legal(self, DENSE)

    def legal(self) -> Any:
        tests = [check(getattr(self, name)) for name, (check, _) in DENSE.items()]
        return functools.reduce(operator.and_, tests, self.phi.legal())

    @property
    def _weight(self) -> Any:
        """σw², which NumPy or JAX computes."""
        return self.sigma_w**2

    @elementwise(host=True, q=NOT_NEGATIVE)
    def variance(self, q: ScalarLike) -> Array:
        return self._weight / self.keep * self.phi.second_moment(q) + self.sigma_b**2

    @elementwise(host=True, q=NOT_NEGATIVE)
    def variance_slope(self, q: ScalarLike) -> Array:
        return self._weight / self.keep * self.phi.variance_slope(q)

    @elementwise(host=True, q=NOT_NEGATIVE, epsilon=DECORRELATION)
    def correlation_slope(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        gain = self._weight * q / self.variance(q)
        return gain * self.phi.slope_covariance(q, q, _legal(epsilon))

    @elementwise(host=True, q=NOT_NEGATIVE, epsilon=DECORRELATION)
    def decorrelation(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        epsilon, variance = _legal(epsilon), self.variance(q)
        gain = self._weight * q / variance
        return gain * self.phi.distance(q, epsilon) + self._noise(q) / variance

    def _noise(self, q: ScalarLike) -> Array:
        """Return the covariance that dropout takes off a variance, exactly 0 without it."""
        return self._weight * (1 / self.keep - 1) * self.phi.second_moment(q)

    @elementwise(host=True, q=NOT_NEGATIVE, epsilon=DECORRELATION)
    def growth(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        xp = namespace(q, epsilon)
        epsilon, variance = _legal(epsilon), self.variance(q)
        gain, noise = self._weight * q / variance, self._noise(q) / variance
        limit = gain * self.phi.slope_moment(q, 2)

        def finite() -> Array:
            return xp.log1p(limit - 1 - gain * self.phi.deficit(q, epsilon) + noise / epsilon)

        def jumping() -> Array:
            return xp.log(gain * self.phi.decorrelation(q, epsilon) + noise / epsilon)

        return either(xp.isfinite(limit), finite, jumping)

    def separates(self) -> Any:
        return self.keep < 1

    @elementwise(host=True)
    def propagate(self, pair: Covariance) -> Covariance:
        xp = namespace(pair.q1, pair.q2, pair.epsilon)
        pair = Covariance(pair.q1, pair.q2, _legal(pair.epsilon))
        v1, v2 = self.variance(pair.q1), self.variance(pair.q2)

        def unequal() -> Array:
            s1, s2 = 1 / xp.sqrt(v1), 1 / xp.sqrt(v2)
            apart = self.phi.separation(pair.q1, pair.q2, pair.epsilon, s1, s2)
            shifted = (self.sigma_b * (s1 - s2)) ** 2 / 2
            noise = (self._noise(pair.q1) / v1 + self._noise(pair.q2) / v2) / 2
            return self._weight * apart + shifted + noise

        # ε' is even in log(q1/q2): where that is small, its square is left out.
        ratio = pair.q1 / pair.q2
        alike = (pair.q1 == pair.q2) | (xp.log(ratio) ** 2 <= ALIKE * pair.epsilon)
        q = pair.q1 / 2 + pair.q2 / 2
        epsilon = either(alike, lambda: self.decorrelation(q, pair.epsilon), unequal)
        return Covariance(v1, v2, epsilon)

    @elementwise(host=True, q=NOT_NEGATIVE)
    def moments(self, q: ScalarLike) -> Moments:
        mu1, mu2 = self.phi.slope_moment(q, 2), self.phi.slope_moment(q, 4)
        ratio = mu2 / (self.keep * mu1**2)
        return Moments(self._weight / self.keep * mu1, ratio - 1 - S1[self.ensemble])


@struct
class Serial(Layer):
    """Layers one after another, the first one first."""

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.layers, list | tuple):
            raise illegal("layers", self.layers, "a tuple of layers")
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise MeanFieldError(f"layer {layer!r} is not legal; it must be a Layer")
        object.__setattr__(self, "layers", tuple(self.layers))

    def legal(self) -> Any:
        return functools.reduce(operator.and_, (layer.legal() for layer in self.layers), True)

    @elementwise(host=True, q=NOT_NEGATIVE)
    def variance(self, q: Any) -> Array:
        for layer in self.layers:
            q = layer.variance(q)
        return q

    @elementwise(host=True, q=NOT_NEGATIVE)
    def variance_slope(self, q: Any) -> Array:
        slope = ONE
        for layer in self.layers:
            slope, q = slope * layer.variance_slope(q), layer.variance(q)
        return slope

    @elementwise(host=True)
    def propagate(self, pair: Covariance) -> Covariance:
        for layer in self.layers:
            pair = layer.propagate(pair)
        return pair

    @elementwise(host=True, q=NOT_NEGATIVE, epsilon=DECORRELATION)
    def decorrelation(self, q: Any, epsilon: Any) -> Array:
        for layer in self.layers:
            q, epsilon = layer.variance(q), layer.decorrelation(q, epsilon)
        return epsilon

    @elementwise(host=True, q=NOT_NEGATIVE, epsilon=DECORRELATION)
    def growth(self, q: Any, epsilon: Any) -> Array:
        xp, total = namespace(q, epsilon), ZERO
        for layer in self.layers:
            step = layer.growth(q, epsilon)
            total, q, epsilon = total + step, layer.variance(q), epsilon * xp.exp(step)
        return total

    def separates(self) -> Any:
        return functools.reduce(operator.or_, (layer.separates() for layer in self.layers))

    @elementwise(host=True, q=NOT_NEGATIVE, epsilon=DECORRELATION)
    def correlation_slope(self, q: Any, epsilon: Any) -> Array:
        slope = ONE
        for layer in self.layers:
            slope = slope * layer.correlation_slope(q, epsilon)
            q, epsilon = layer.variance(q), layer.decorrelation(q, epsilon)
        return slope

    @elementwise(host=True, q=NOT_NEGATIVE)
    def moments(self, q: Any) -> Moments:
        mean, relative_variance = ONE, ZERO
        for layer in self.layers:
            next_ = layer.moments(q)
            mean = mean * next_.mean
            relative_variance = relative_variance + next_.relative_variance
            q = layer.variance(q)
        return Moments(mean, relative_variance)


@struct
class Repeat(Layer):
    """The same layer `times` times, compiled once."""

    layer: Layer
    times: int = static()

    def __post_init__(self) -> None:
        if not isinstance(self.layer, Layer):
            raise MeanFieldError(f"layer {self.layer!r} is not legal; it must be a Layer")
        object.__setattr__(self, "times", count("times", self.times, 0))

    def legal(self) -> Any:
        return self.layer.legal()

    def _fold(self, step: Any, state: Any) -> Any:
        if namespace(*jax.tree.leaves(state)) is np:
            for _ in range(self.times):
                state = step(state)
            return state
        state = jax.tree.map(lambda x: jnp.asarray(x, dtype=float), state)
        return jax.lax.scan(lambda s, _: (step(s), None), state, length=self.times)[0]

    @elementwise(host=True, q=NOT_NEGATIVE)
    def variance(self, q: ScalarLike) -> Array:
        return self._fold(self.layer.variance, q)

    @elementwise(host=True, q=NOT_NEGATIVE)
    def variance_slope(self, q: ScalarLike) -> Array:
        def step(state: tuple[Array, Array]) -> tuple[Array, Array]:
            slope, q = state
            return slope * self.layer.variance_slope(q), self.layer.variance(q)

        return self._fold(step, (1.0, q))[0]

    @elementwise(host=True)
    def propagate(self, pair: Covariance) -> Covariance:
        return self._fold(self.layer.propagate, pair)

    @elementwise(host=True, q=NOT_NEGATIVE, epsilon=DECORRELATION)
    def decorrelation(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        def step(state: tuple[Array, Array]) -> tuple[Array, Array]:
            q, epsilon = state
            return self.layer.variance(q), self.layer.decorrelation(q, epsilon)

        return self._fold(step, (q, epsilon))[1]

    @elementwise(host=True, q=NOT_NEGATIVE, epsilon=DECORRELATION)
    def growth(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        xp = namespace(q, epsilon)

        def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            total, q, epsilon = state
            growth = self.layer.growth(q, epsilon)
            return total + growth, self.layer.variance(q), epsilon * xp.exp(growth)

        return self._fold(step, (0.0, q, epsilon))[0]

    def separates(self) -> Any:
        return self.layer.separates() & (self.times > 0)

    @elementwise(host=True, q=NOT_NEGATIVE, epsilon=DECORRELATION)
    def correlation_slope(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            slope, q, epsilon = state
            slope = slope * self.layer.correlation_slope(q, epsilon)
            return slope, self.layer.variance(q), self.layer.decorrelation(q, epsilon)

        return self._fold(step, (1.0, q, epsilon))[0]

    @elementwise(host=True, q=NOT_NEGATIVE)
    def moments(self, q: ScalarLike) -> Moments:
        def step(state: tuple[Moments, Array]) -> tuple[Moments, Array]:
            total, q = state
            next_ = self.layer.moments(q)
            total = Moments(
                total.mean * next_.mean, total.relative_variance + next_.relative_variance
            )
            return total, self.layer.variance(q)

        return self._fold(step, (Moments(ONE, ZERO), q))[0]
