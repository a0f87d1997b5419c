"""An activation: a function that knows where it is not smooth, and its Gaussian statistics.

An activation φ is a record of its parameters. It evaluates itself and its slope, and names its
kinks: the points where φ or one of its first derivatives jumps.

With u = √q z, z ~ N(0, 1), and pairs u1, u2 of correlation c = 1 - ε:

    second_moment(q)            E φ(u)²
    mean(q)                     E φ(u)
    even_moment(q)              E ((φ(u) + φ(-u))/2)²
    slope_moment(q, p)          E φ'(u)^p
    variance_slope(q)           dE φ(u)²/dq
    edge_deficit(q)             q E φ'² - E φ²
    covariance(q1, q2, ε)       E φ(u1) φ(u2)
    slope_covariance(q1, q2, ε) E φ'(u1) φ'(u2)
    curvature_covariance(q1, q2, ε) E φ''(u1) φ''(u2)
    decorrelation(q, ε)         E (φ(u1) - φ(u2))² / (2qε)
    distance(q, ε)              E (φ(u1) - φ(u2))² / (2q)
    slope_gap(q, ε)             E φ'(u)² - E φ'(u1) φ'(u2)
    deficit(q, ε)               E φ'(u)² - decorrelation(q, ε)
    separation(q1, q2, ε, s, t) E (s φ(u1) - t φ(u2))² / 2
    mean_curvature(q)           E φ''(u)
    curvature_moment(q)         E φ''(u)²

The host computes them from samples of φ (`meanfield.activations.sampling`): numbers at once,
traced ones when the kernel runs (`meanfield.activations.called`). The variance slope and the mean
curvature are the distributional ones: the Dirac masses that φ'' has at kinks are in them. Where φ
jumps, moments of φ' are infinite; where φ' jumps, that of φ'' is. All results are differentiable in
parameters, in variances, and in the correlation, at c = ±1 too.
"""

import abc
import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._elementwise import by_host, on_host_alone
from meanfield._struct import Hosted, OnHost, struct
from meanfield.activations.called import called, is_callable
from meanfield.arguments import Domain, keep_legal, number
from meanfield.errors import MeanFieldError
from meanfield.gaussian import ROUNDING, limit, measured_jumps
from meanfield.typing import Array, ScalarLike

# A jump of φ' below this (times 1 + |φ'|) is rounding.
SLOPE_ROUNDING = 1e-9


class Pointwise(NamedTuple):
    """φ of vectors of numbers, without a compiler: x ↦ (φ, φ'), φ'', and whether φ' is exact."""

    values: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    curvature: Callable[[np.ndarray], np.ndarray]
    exact: bool


def parameter(default: float, legal: str, check: Callable[[Any], Any]) -> Any:
    """Declare a parameter of a class of activations: its default, and its domain.

    The domain is in words, `legal`, which complete "it must be ...", and a test of values, `check`.
    """
    return dataclasses.field(default=default, metadata={"legal": legal, "check": check})


def positive(default: float) -> Any:
    """Declare a parameter that must be positive."""
    return parameter(default, "> 0", lambda value: value > 0)


def derivative(f: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Return f' of an elementwise f, almost everywhere."""
    return lambda x: jax.jvp(f, (x,), (jnp.ones_like(x),))[1]


class Activation(Hosted):
    """A function R → R, analytic between finitely many kinks."""

    name: ClassVar[str] = ""
    formula: ClassVar[str] = ""
    source: ClassVar[str] = ""
    continuous: ClassVar[bool] = False
    """Whether φ is known to be continuous; else its jumps at kinks are measured."""
    odd: ClassVar[bool] = False
    """Whether φ is known to be odd; its kinks then ascend."""

    def __post_init__(self) -> None:
        keep_legal(self, self.domains())

    @classmethod
    def parameters(cls) -> dict[str, tuple[Any, str, Callable[[Any], Any]]]:
        """Return, by name, each parameter's default, its domain in words and the test of it."""
        fields = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
        return {
            f.name: (f.default, f.metadata["legal"], f.metadata["check"])
            for f in fields
            if "legal" in f.metadata
        }

    @classmethod
    def domains(cls) -> dict[str, Domain]:
        """Return, by name, each parameter's domain, without what is not finite."""

        def finite(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
            return lambda value: np.isfinite(value) & check(value)

        return {
            name: (finite(check), legal) for name, (_, legal, check) in cls.parameters().items()
        }

    def legal(self) -> Any:
        """Return whether the parameters are in their domains, those of activations within too."""
        tests = [check(getattr(self, name)) for name, (*_, check) in self.parameters().items()]
        for f in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, f.name)
            parts = value if isinstance(value, tuple) else (value,)
            tests += [part.legal() for part in parts if isinstance(part, Activation)]
        return functools.reduce(operator.and_, tests, True)

    @abc.abstractmethod
    def __call__(self, x: Array) -> Array:
        """Return φ(x), elementwise."""

    def slope(self, x: Array) -> Array:
        """Return φ'(x) almost everywhere; its value at a kink has no meaning."""
        return derivative(self)(jnp.asarray(x, dtype=float))

    def curvature(self, x: Array) -> Array:
        """Return φ''(x) almost everywhere."""
        return derivative(self.slope)(jnp.asarray(x, dtype=float))

    def kinks(self) -> tuple[ScalarLike, ...]:
        """Return the points where φ or a derivative of it jumps."""
        return ()

    def cuts(self) -> tuple[ScalarLike, ...]:
        """Return the kinks, and where a smooth φ varies away from 0."""
        return self.kinks()

    def on_numbers(self) -> Pointwise | None:
        """Return φ of numbers where JAX cannot trace it."""
        return None

    def known(self) -> tuple[ScalarLike, ...]:
        """Return points where φ may be rough, or varies away from 0."""
        return (*self.kinks(), *self.cuts())

    def standard(self) -> tuple["Activation", ScalarLike, ScalarLike]:
        """Return φ1, width and height with φ(x) = height·φ1(x/width): φ1 stands for a family."""
        return self, 1.0, 1.0

    def on_host(self, width: ScalarLike, height: ScalarLike, own: Any) -> OnHost:
        """Return the activation height·φ(x/width) for the host: this one is sampled."""
        from meanfield.activations.sampling import Numeric, sampled

        return Numeric(sampled(self), width, height, own)

    def jumps(self) -> tuple[Array, ...]:
        """Return the jump of φ at each kink: 0 where φ is continuous, else measured."""
        if self.continuous:
            return tuple(jnp.zeros(()) for _ in self.kinks())
        return self._measured(self, ROUNDING)

    def slope_jumps(self) -> tuple[Array, ...]:
        """Return the jump of φ' at each kink, measured; 0 where only a later derivative jumps."""
        return self._measured(self.slope, SLOPE_ROUNDING)

    def _measured(self, f: Callable[[Array], Array], rounding: float) -> tuple[Array, ...]:
        """Return the jump of f at each kink; of kinks that coincide, the first has it."""
        return measured_jumps(f, self.kinks(), rounding)

    def limit(
        self, f: Callable[[Array], Array], kink: ScalarLike, side: int, reach: float = 1.0
    ) -> Array:
        """Return the limit of f at a point from one side (-1 or 1), extrapolated.

        `reach` scales the distance from which it is.
        """
        return limit(f, kink, side, self.kinks(), reach)

    def _statistic(self, name: str, *numbers: ScalarLike, fixed: tuple[Any, ...] = ()) -> Array:
        """Return a statistic of that name, which the host computes."""
        if not is_callable(self):
            return getattr(self.plain(), name)(*numbers, *fixed)
        if on_host_alone((self, numbers)):
            return by_host(lambda phi, *x: getattr(phi, name)(*x, *fixed), self, *numbers)
        return called(name, self, numbers, fixed)

    def mean(self, q: ScalarLike) -> Array:
        """Return E φ(u)."""
        return self._statistic("mean", q)

    def second_moment(self, q: ScalarLike) -> Array:
        """Return E φ(u)²."""
        return self._statistic("second_moment", q)

    def even_moment(self, q: ScalarLike) -> Array:
        """Return E ((φ(u) + φ(-u))/2)²; E φ(u) φ(-u) is twice it less E φ²."""
        return self._statistic("even_moment", q)

    def slope_moment(self, q: ScalarLike, power: int) -> Array:
        """Return E φ'(u)^power; inf if φ jumps."""
        return self._statistic("slope_moment", q, fixed=(power,))

    def variance_slope(self, q: ScalarLike) -> Array:
        """Return dE φ(u)²/dq for q > 0, Dirac masses of φ' and φ'' included."""
        return self._statistic("variance_slope", q)

    def edge_deficit(self, q: ScalarLike) -> Array:
        """Return q E φ'² - E φ², relatively accurate as q → 0."""
        return self._statistic("edge_deficit", q)

    def covariance(self, q1: ScalarLike, q2: ScalarLike, epsilon: ScalarLike) -> Array:
        """Return E φ(u1) φ(u2)."""
        return self._statistic("covariance", q1, q2, epsilon)

    def slope_covariance(self, q1: ScalarLike, q2: ScalarLike, epsilon: ScalarLike) -> Array:
        """Return E φ'(u1) φ'(u2), infinite where jumps of φ meet."""
        return self._statistic("slope_covariance", q1, q2, epsilon)

    def curvature_covariance(self, q1: ScalarLike, q2: ScalarLike, epsilon: ScalarLike) -> Array:
        """Return E φ''(u1) φ''(u2), infinite where kinks meet."""
        return self._statistic("curvature_covariance", q1, q2, epsilon)

    def separation(
        self, q1: ScalarLike, q2: ScalarLike, epsilon: ScalarLike, s: ScalarLike, t: ScalarLike
    ) -> Array:
        """Return E (s φ(u1) - t φ(u2))² / 2."""
        return self._statistic("separation", q1, q2, epsilon, s, t)

    def distance(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        """Return E (φ(u1) - φ(u2))² / (2q), which is ε times `decorrelation`."""
        return self._statistic("distance", q, epsilon)

    def decorrelation(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        """Return E (φ(u1) - φ(u2))² / (2qε), relatively accurate however small ε is.

        As ε → 0 it tends to E φ'².
        """
        return self._statistic("decorrelation", q, epsilon)

    def slope_gap(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        """Return E φ'(u)² - E φ'(u1) φ'(u2) = E (φ'(u1) - φ'(u2))²/2, free of cancellation."""
        return self._statistic("slope_gap", q, epsilon)

    def deficit(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        """Return E φ'(u)² - `decorrelation`(q, ε), relatively accurate; inf if φ jumps.

        By Price's theorem it is the mean of `slope_gap` over [0, ε].
        """
        return self._statistic("deficit", q, epsilon)

    def mean_curvature(self, q: ScalarLike) -> Array:
        """Return E φ''(u), the Dirac masses of kinks and jumps included."""
        return self._statistic("mean_curvature", q)

    def curvature_moment(self, q: ScalarLike) -> Array:
        """Return E φ''(u)²; inf if φ or φ' jumps."""
        return self._statistic("curvature_moment", q)

    def smooth_curvature_moment(self, q: ScalarLike) -> Array:
        """Return E φ''(u)² without the Dirac masses of kinks and jumps."""
        return self._statistic("smooth_curvature_moment", q)

    def __mul__(self, factor: ScalarLike) -> "Activation":
        return Sum((factor,), (self,))

    __rmul__ = __mul__

    def __neg__(self) -> "Activation":
        return -1.0 * self

    def __add__(self, other: "Activation") -> "Activation":
        return Sum((1.0, 1.0), (self, other))

    def __sub__(self, other: "Activation") -> "Activation":
        return self + -other


# What stands for an activation wherever one is wanted.
ActivationLike = Activation | type[Activation] | str | Callable[[Any], Any]


def pointwise(phi: Activation) -> Pointwise:
    """Return an activation of numbers as it is evaluated without being traced."""
    from meanfield.activations.sampling import pointwise as found

    return found(phi)


def as_activation(phi: ActivationLike, name: str = "phi") -> Activation:
    """Return an activation: what is one, is named, or can be evaluated.

    Raises `MeanFieldError` for what is not an `Activation`, its class, a name, FILE.py:NAME,
    torch:NAME, a callable of JAX, NumPy or PyTorch, or a module of `torch.nn`.
    """
    if isinstance(phi, OnHost):
        return phi  # pyright: ignore[reportReturnType]
    if isinstance(phi, Activation):
        if "__dataclass_fields__" not in vars(type(phi)):
            kind = type(phi).__name__
            raise MeanFieldError(
                f"{name} of class {kind} is not legal; write @mf.register_activation(name, "
                f"formula=..., source=...) above class {kind}"
            )
        return phi
    if isinstance(phi, str) or callable(phi):
        from meanfield.activations.named import made

        return made(phi)
    raise MeanFieldError(
        f"{name} = {phi!r} is not legal; it must be an Activation, the name of one, or a callable"
    )


def single_activation(phi: ActivationLike) -> Activation:
    """Return one activation, as `as_activation` does.

    Raises `MeanFieldError` where a parameter is not a single number.
    """
    phi = as_activation(phi)
    shapes = {jnp.shape(leaf) for leaf in jax.tree.leaves(phi)} - {()}
    if shapes:
        raise MeanFieldError(
            f"phi with parameters of shape {shapes.pop()} is not legal; its parameters must be "
            "single numbers here"
        )
    return phi


@struct
class Sum(Activation):
    """Σ_i w_i φ_i(x)."""

    weights: tuple[ScalarLike, ...]
    terms: tuple[Activation, ...]

    def __post_init__(self) -> None:
        weights = tuple(number("weight", weight) for weight in self.weights)
        object.__setattr__(self, "weights", weights)
        terms = tuple(as_activation(term, "term") for term in self.terms)
        object.__setattr__(self, "terms", terms)

    @property
    def continuous(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether all terms are known to be continuous."""
        return all(phi.continuous or not phi.kinks() for phi in self.terms)

    def standard(self) -> tuple[Activation, ScalarLike, ScalarLike]:
        if len(self.terms) != 1:
            return super().standard()
        (term,), (weight,) = self.terms, self.weights
        one, width, height = term.standard()
        return one, width, height * jnp.asarray(weight)

    def __call__(self, x: Array) -> Array:
        terms = [w * phi(x) for w, phi in zip(self.weights, self.terms, strict=True)]
        return jnp.asarray(functools.reduce(operator.add, terms))

    def on_numbers(self) -> Pointwise | None:
        parts = [phi.on_numbers() for phi in self.terms]
        if not any(parts):
            return None
        found = [pointwise(phi) for phi in self.terms]
        weights = [float(np.asarray(w)) for w in self.weights]

        def values(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            sides = zip(*(part.values(x) for part in found), strict=True)
            value, slope = (
                sum(w * f for w, f in zip(weights, side, strict=True)) for side in sides
            )
            return value, slope  # pyright: ignore[reportReturnType]

        def curvature(x: np.ndarray) -> np.ndarray:
            return sum(w * part.curvature(x) for w, part in zip(weights, found, strict=True))  # pyright: ignore[reportReturnType]

        return Pointwise(values, curvature, all(part.exact for part in found))

    def kinks(self) -> tuple[ScalarLike, ...]:
        return merge(*(phi.kinks() for phi in self.terms))

    def cuts(self) -> tuple[ScalarLike, ...]:
        return merge(*(phi.cuts() for phi in self.terms))


def merge(*kinks: tuple[ScalarLike, ...]) -> tuple[ScalarLike, ...]:
    """Return the union of kinks; only those known to be equal numbers are joined."""
    known: dict[float, None] = {}
    traced: list[ScalarLike] = []
    for kink in (k for group in kinks for k in group):
        if isinstance(kink, int | float):
            known[float(kink)] = None
        else:
            traced.append(kink)
    return (*known, *traced)
