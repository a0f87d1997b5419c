"""An activation: a function that knows where it is not smooth, and its Gaussian statistics.

An activation φ is a record of its parameters. It evaluates itself and its slope, and names
its kinks: the points where φ or one of its first derivatives jumps. From these three the
base class computes every expectation that mean-field theory is built from, to rounding; a
subclass with a closed form overrides the method.

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

The variance slope and the mean curvature are the distributional ones: the Dirac masses that
φ'' has at kinks are in them. Where φ jumps, moments of φ' are infinite; where φ' jumps, that
of φ'' is. Parameters may be traced: one compiled kernel serves every value, and all results are
differentiable in them, and in the correlation at c = ±1 too (`meanfield.price`).
"""

import abc
import dataclasses
import functools
import itertools
import operator
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._elementwise import by_host, on_host_alone
from meanfield._struct import Hosted, OnHost, concrete, require_number, struct
from meanfield.activations.called import called, is_callable
from meanfield.activations.pair_rules import (
    by_price,
    covariance_rate,
    decorrelation_rate,
    deficit_rate,
    distance_rate,
    separation_rate,
    slope_covariance_rate,
    slope_gap_rate,
)
from meanfield.errors import MeanFieldError, require
from meanfield.gaussian import (
    LINE_SIZE,
    ROUNDING,
    TINY,
    LineRule,
    Pair,
    from_masses,
    limit,
    line_rule,
    measured_jumps,
    normal_density,
    pair_sums,
    plackett,
)
from meanfield.typing import Array, ScalarLike

# Below this separation of u1 and u2, their quotient is the mean slope between them, by
# Gauss-Legendre quadrature: subtraction would lose the digits that it keeps.
CLOSE = 1e-3
# The part of E φ² that E (φ(u1) - φ(u2))²/2 may be without being rounded to less than 12 digits.
ROUNDED = 1e-8
# A jump of φ' below this (times 1 + |φ'|) is rounding.
SLOPE_ROUNDING = 1e-9
# Where qε is below this, and ε below 1, `deficit` is integrated, not subtracted.
SMALL_DEFICIT = 1e-2
# Below it the estimate of the error of `slope_gap` is above the error by this and more.
LENIENCE = 30.0
# Nodes per piece where φ oscillates, below and above the variance WIDE; they resolve
# sin(u)^4 up to q = 100 and 2e4.
CALM_SIZE, WIDE_SIZE = 513, 6145
WIDE = 50.0
LEGENDRE_NODES, LEGENDRE_WEIGHTS = np.polynomial.legendre.leggauss(4)
# Resolve 2x g(εx²) on [0, 1], g(ε) = slope_gap(q, ε), for qε below SMALL_DEFICIT.
GAP_NODES, GAP_WEIGHTS = np.polynomial.legendre.leggauss(8)


# What an activation can be asked for, as functions of numbers that broadcast.
STATISTICS = (
    "mean",
    "second_moment",
    "even_moment",
    "slope_moment",
    "variance_slope",
    "edge_deficit",
    "covariance",
    "slope_covariance",
    "decorrelation",
    "distance",
    "slope_gap",
    "deficit",
    "separation",
    "curvature_covariance",
    "mean_curvature",
    "curvature_moment",
    "smooth_curvature_moment",
)


def _numbers_on_host(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a statistic that the host computes, for numbers without a compiler."""
    name = method.__name__

    @functools.wraps(method)
    def statistic(self: "Activation", q: Any, *others: Any, **named: Any) -> Any:
        others = (*others, *named.values())
        if not on_host_alone((self, q, others)):
            if not is_callable(self):
                return method(self, q, *others)
            fixed = others if name == "slope_moment" else ()
            return called(method, self, (q, *others[len(fixed) :]), fixed)
        if name == "slope_moment":
            return by_host(lambda phi, q: phi.slope_moment(q, others[0]), self, q)
        return by_host(lambda phi, *numbers: getattr(phi, name)(*numbers), self, q, *others)

    return statistic


class Pointwise(NamedTuple):
    """φ of vectors of numbers, without a compiler: x ↦ (φ, φ'), φ'', and whether φ' is exact."""

    values: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    curvature: Callable[[np.ndarray], np.ndarray]
    exact: bool


def parameter(default: float, legal: str, check: Callable[[Any], Any]) -> Any:
    """Declare an activation's parameter: its default and its domain, in words and as a test."""
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
    oscillates: ClassVar[bool] = False
    """Whether φ oscillates for ever: wide Gaussians then take many more nodes."""

    def __init_subclass__(cls) -> None:
        for name in STATISTICS:
            if name in vars(cls):
                setattr(cls, name, _numbers_on_host(vars(cls)[name]))

    def __post_init__(self) -> None:
        for name, (_, legal, check) in self.parameters().items():
            value = getattr(self, name)
            require_number(name, value)
            if concrete(value):
                array = np.asarray(value, dtype=float)
                require(np.isfinite(array) & check(array), name, value, legal)

    @classmethod
    def parameters(cls) -> dict[str, tuple[Any, str, Callable[[Any], Any]]]:
        """Return, by name, each parameter's default, its domain in words and the test of it."""
        fields = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
        return {
            f.name: (f.default, f.metadata["legal"], f.metadata["check"])
            for f in fields
            if "legal" in f.metadata
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
        """Return where rules are cut: at kinks, and where a smooth φ varies away from 0."""
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

    def _over_line(
        self,
        q: ScalarLike,
        read: Callable[[LineRule, Array], Array],
        mirrored: bool = False,
    ) -> Array:
        """Return read(rule, u), u = √q z at the rule's nodes, with a rule fine enough for φ.

        What is read is even if φ is odd. `mirrored` says that φ(-u) is read too.
        """
        cuts = self.cuts()
        if mirrored:
            cuts = (*cuts, *(-jnp.asarray(cut, dtype=float) for cut in cuts))

        def at(size: int) -> Array:
            rule = line_rule(q, cuts, size, even=self.odd)
            return read(rule, jnp.sqrt(jnp.asarray(q, dtype=float)) * rule.z)

        if not self.oscillates:
            return at(LINE_SIZE)
        return jax.lax.cond(jnp.asarray(q) < WIDE, lambda: at(CALM_SIZE), lambda: at(WIDE_SIZE))

    def _unless_jumping(self, value: Array) -> Array:
        """Return `value`, or inf if φ jumps: then φ' has a Dirac mass."""
        for jump in self.jumps():
            value = jnp.where(jump == 0, value, jnp.inf)
        return value

    def mean(self, q: ScalarLike) -> Array:
        """Return E φ(u)."""
        if self.odd:
            return jnp.zeros_like(q, dtype=float)
        return self._over_line(q, lambda rule, u: rule.mean(self(u)))

    def second_moment(self, q: ScalarLike) -> Array:
        """Return E φ(u)²."""
        return self._over_line(q, lambda rule, u: rule.mean(self(u) ** 2))

    def even_moment(self, q: ScalarLike) -> Array:
        """Return E ((φ(u) + φ(-u))/2)²; E φ(u) φ(-u) is twice it less E φ²."""
        if self.odd:
            return jnp.zeros_like(q, dtype=float)

        def read(rule: LineRule, u: Array) -> Array:
            return rule.mean(jnp.square((self(u) + self(-u)) / 2))

        return self._over_line(q, read, mirrored=True)

    def slope_moment(self, q: ScalarLike, power: int) -> Array:
        """Return E φ'(u)^power; inf if φ jumps."""
        moment = self._over_line(q, lambda rule, u: rule.mean(self.slope(u) ** power))
        return self._unless_jumping(moment)

    def variance_slope(self, q: ScalarLike) -> Array:
        """Return dE φ(u)²/dq for q > 0, Dirac masses of φ' and φ'' included.

        By Stein's lemma this is E[z φ φ']/√q and also E[(z² - 1) φ²]/(2q). The second loses
        digits where φ is nearly constant over the Gaussian, the first where φ saturates.
        """
        q = jnp.maximum(jnp.asarray(q, dtype=float), TINY)
        root = jnp.sqrt(q)
        # E z = 0: what is subtracted changes nothing but the rounding at small q.
        still = self(jnp.zeros_like(root)) * self.slope(jnp.zeros_like(root))

        def narrow(rule: LineRule, u: Array) -> Array:
            return rule.mean(rule.z * (self(u) * self.slope(u) - still) / root)

        def wide(rule: LineRule, u: Array) -> Array:
            return rule.mean((rule.z**2 - 1) * self(u) ** 2) / (2 * q)

        masses = jnp.zeros_like(q)
        for kink, jump in zip(self.kinks(), self.jumps(), strict=True):
            middle = (self.limit(self, kink, 1) + self.limit(self, kink, -1)) / 2
            z = jnp.asarray(kink / root)
            masses += jump * middle * z * normal_density(z) / q
        return jax.lax.cond(
            q > 1,
            lambda: self._over_line(q, wide),
            lambda: self._over_line(q, narrow) + masses,
        )

    def edge_deficit(self, q: ScalarLike) -> Array:
        """Return q E φ'² - E φ², relatively accurate as q → 0 and exactly 0 where it is rounding.

        Subtracting from φ its mean and its linear part (E φ') u leaves a remainder r with
        q E φ'² - E φ² = q E r'² - E r² - (E φ)², free of the large terms that cancel.
        """

        def deficit(rule: LineRule, u: Array) -> Array:
            values, slopes = self(u), self.slope(u)
            mean = jnp.zeros(()) if self.odd else rule.mean(values)
            linear = rule.mean(slopes)
            remainder, bend = values - mean - linear * u, slopes - linear
            up, down = q * rule.sum(bend**2), rule.sum(remainder**2) + mean**2
            rounding = 1e-13 * (up + down) + 1e-28 * q * linear**2
            value = jnp.where(jnp.abs(up - down) <= rounding, 0.0, up - down)
            # What certifies φ and φ' certifies r, which at small q is rounding beside them.
            resolved = jnp.isfinite(rule.mean(values**2) + rule.mean(slopes**2))
            return jnp.where(resolved, value, jnp.nan)

        return self._unless_jumping(self._over_line(q, deficit))

    @by_price(covariance_rate)
    def covariance(self, q1: ScalarLike, q2: ScalarLike, epsilon: ScalarLike) -> Array:
        """Return E φ(u1) φ(u2)."""
        scale = jnp.sqrt(self.second_moment(q1) * self.second_moment(q2))
        sums = pair_sums(lambda p: self(p.u1) * self(p.u2), q1, q2, epsilon, self.cuts())
        return sums.certified(scale)

    @by_price(slope_covariance_rate)
    def slope_covariance(self, q1: ScalarLike, q2: ScalarLike, epsilon: ScalarLike) -> Array:
        """Return E φ'(u1) φ'(u2), the Dirac masses of jumps included: inf at ε = 0 if φ jumps."""
        smooth = self._product(self.slope, self._smooth_slope_moment, q1, q2, epsilon)
        if self.continuous or not self.kinks():
            return smooth
        return smooth + self._between_jumps(q1, q2, epsilon)

    def curvature_covariance(self, q1: ScalarLike, q2: ScalarLike, epsilon: ScalarLike) -> Array:
        """Return E φ''(u1) φ''(u2), the Dirac masses of kinks and jumps included.

        It is infinite where masses meet: at ε = 0 if φ' jumps, at ε = 2 if it does at ±x.
        """
        value = self._product(self.curvature, self.smooth_curvature_moment, q1, q2, epsilon)
        if not self.kinks():
            return value
        kinks, cuts, bends = self.kinks(), self.cuts(), self.slope_jumps()
        f = self.curvature
        value += from_masses(f, f, bends, bends, q1, q2, epsilon, kinks, cuts)
        if self.continuous:
            return value
        # The derivatives of Dirac masses that φ'' has where φ jumps are left to Price's theorem.
        jumps = self.jumps()
        jumping = functools.reduce(operator.or_, [jump != 0 for jump in jumps])
        epsilon = jnp.where(jumping, jnp.asarray(epsilon, dtype=float), 1.0)
        root = jnp.sqrt(jnp.asarray(q1, dtype=float)) * jnp.sqrt(jnp.asarray(q2, dtype=float))
        between, rate = jax.jvp(
            lambda epsilon: self._between_jumps(q1, q2, epsilon),
            (epsilon,),
            (jnp.ones_like(epsilon),),
        )
        rate = jnp.where(jnp.isinf(between), between * jnp.sign(1.0 - epsilon), -rate / root)
        return jnp.where(jumping, value + rate, value)

    def _product(
        self,
        f: Callable[[Array], Array],
        moment: Callable[[ScalarLike], Array],
        q1: ScalarLike,
        q2: ScalarLike,
        epsilon: ScalarLike,
    ) -> Array:
        """Return E f(u1) f(u2) of a function without masses, given its second moment E f(u)²."""
        sums = pair_sums(lambda p: f(p.u1) * f(p.u2), q1, q2, epsilon, self.cuts())
        return sums.certified(jnp.sqrt(moment(q1) * moment(q2)))

    def _smooth_slope_moment(self, q: ScalarLike) -> Array:
        """Return E φ'² without the Dirac masses of jumps."""
        return self._over_line(q, lambda rule, u: rule.mean(self.slope(u) ** 2))

    def _between_jumps(self, q1: ScalarLike, q2: ScalarLike, epsilon: ScalarLike) -> Array:
        """Return what the Dirac masses of φ' add to E φ'(u1) φ'(u2)."""
        f, jumps = self.slope, self.jumps()
        return from_masses(f, f, jumps, jumps, q1, q2, epsilon, self.kinks(), self.cuts())

    @by_price(separation_rate)
    def separation(
        self, q1: ScalarLike, q2: ScalarLike, epsilon: ScalarLike, s: ScalarLike, t: ScalarLike
    ) -> Array:
        """Return E (s φ(u1) - t φ(u2))² / 2."""
        close = self._is_close(q1, q2, epsilon, CLOSE)

        def integrand(pair: Pair) -> Array:
            return jnp.square(self._apart(pair, s, t, close, self._mean_slope)) / 2

        scale = jnp.square(s) * self.second_moment(q1) + jnp.square(t) * self.second_moment(q2)
        return pair_sums(integrand, q1, q2, epsilon, self.cuts()).certified(scale)

    @by_price(distance_rate)
    def distance(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        """Return E (φ(u1) - φ(u2))² / (2q), which is ε times `decorrelation`."""
        return jnp.asarray(epsilon) * self.decorrelation(q, epsilon)

    @by_price(decorrelation_rate)
    def decorrelation(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        """Return E (φ(u1) - φ(u2))² / (2qε), relatively accurate however small ε is.

        With D the divided difference (φ(u1) - φ(u2))/(u1 - u2), this is E[z2² D²]. As ε → 0
        it tends to E φ'².
        """
        epsilon = jnp.maximum(jnp.asarray(epsilon, dtype=float), TINY)
        return jax.lax.cond(
            self._is_close(q, q, epsilon, CLOSE),
            lambda: self._decorrelation(q, epsilon, self._mean_slope),
            lambda: self._decorrelation(q, epsilon, self._quotient),
        )

    def _decorrelation(
        self, q: ScalarLike, epsilon: ScalarLike, quotient: Callable[[Pair], Array]
    ) -> Array:
        """Return `decorrelation` by one of the ways to compute D."""

        def integrand(pair: Pair) -> Array:
            return (pair.z2 * quotient(pair)) ** 2

        sums = pair_sums(integrand, q, q, epsilon, self.cuts(), symmetric=True)
        limit = self.slope_moment(q, 2)
        return sums.certified(jnp.where(jnp.isinf(limit), jnp.abs(sums.value), limit))

    @by_price(slope_gap_rate)
    def slope_gap(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        """Return E φ'(u)² - E φ'(u1) φ'(u2) = E (φ'(u1) - φ'(u2))²/2, free of cancellation."""
        jumping, _ = self._plackett(q, q, epsilon)
        return self._unless_jumping(jumping + self._smooth_gap(q, epsilon, jumping, LENIENCE))

    def _plackett(self, q1: ScalarLike, q2: ScalarLike, epsilon: ScalarLike) -> tuple[Array, Array]:
        """Return what the jumps of φ' alone add to `slope_gap` and to `deficit`."""
        if not self.kinks():
            return jnp.zeros(()), jnp.zeros(())
        jumps = self.slope_jumps()
        gap, lack = plackett(self.kinks(), jumps, q1, q2, epsilon)
        bound = sum(jump**2 for jump in jumps)
        return gap.certified(bound), lack.certified(bound)

    def _smooth_gap(
        self, q: ScalarLike, epsilon: ScalarLike, jumping: Array, lenience: ScalarLike
    ) -> Array:
        """Return what `slope_gap` has beyond `jumping`, certified in `lenience` times their scale.

        With φ' the sum of a step function H and a continuous g, it is E Δg (Δg + 2ΔH)/2, Δ for
        the difference between u1 and u2: smaller by √ε than what H alone contributes.
        """

        def integrand(pair: Pair) -> Array:
            slopes = self.slope(pair.u1) - self.slope(pair.u2)
            steps = jnp.zeros_like(slopes)
            for kink, bend in zip(self.kinks(), self.slope_jumps(), strict=True):
                above = (pair.u1 > kink).astype(float) - (pair.u2 > kink).astype(float)
                steps += bend * above
            return (slopes - steps) * (slopes + steps) / 2

        sums = pair_sums(integrand, q, q, epsilon, self.cuts(), symmetric=True)
        return sums.certified(lenience * (jnp.abs(sums.value) + jumping))

    @by_price(deficit_rate)
    def deficit(self, q: ScalarLike, epsilon: ScalarLike) -> Array:
        """Return E φ'(u)² - `decorrelation`(q, ε), relatively accurate for ε down to 1e-10.

        By Price's theorem it is the mean of `slope_gap` over [0, ε]. Where it is small it is
        computed so: exactly for the jumps of φ', down to any ε, and by a rule for the rest, in a
        variable in which kinks are analytic too, ε x². It is inf if φ jumps.
        """
        epsilon = jnp.asarray(epsilon, dtype=float)

        def integrated() -> Array:
            def rest(x: Array) -> Array:
                part = epsilon * x**2
                jumping, _ = self._plackett(q, q, part)
                # The smaller x is, the less it weighs.
                return self._smooth_gap(q, part, jumping, LENIENCE / x)

            x = jnp.asarray((1 + GAP_NODES) / 2)
            smooth = (jnp.asarray(GAP_WEIGHTS) * x * jax.lax.map(rest, x)).sum()
            return self._plackett(q, q, epsilon)[1] + smooth

        def subtracted() -> Array:
            # u1 and u2 are not close here, which spares the other way to compute D.
            if type(self).decorrelation is Activation.decorrelation:
                apart = self._decorrelation(q, epsilon, self._quotient)
            else:
                apart = self.decorrelation(q, epsilon)
            return self.slope_moment(q, 2) - apart

        small = (epsilon * q < SMALL_DEFICIT) & (epsilon <= 1.0)
        return self._unless_jumping(jax.lax.cond(small, integrated, subtracted))

    def mean_curvature(self, q: ScalarLike) -> Array:
        """Return E φ''(u), the Dirac masses of kinks and jumps included."""
        if self.odd:
            return jnp.zeros_like(q, dtype=float)
        root = jnp.sqrt(jnp.maximum(jnp.asarray(q, dtype=float), TINY))
        total = self._over_line(q, lambda rule, u: rule.mean(self.curvature(u)))
        for kink, jump, bend in zip(self.kinks(), self.jumps(), self.slope_jumps(), strict=True):
            z = jnp.asarray(kink / root)
            total += (bend / root + jump * z / root**2) * normal_density(z)
        return total

    def curvature_moment(self, q: ScalarLike) -> Array:
        """Return E φ''(u)²; inf if φ or φ' jumps."""
        value = self.smooth_curvature_moment(q)
        for bend in self.slope_jumps():
            value = jnp.where(bend == 0, value, jnp.inf)
        return self._unless_jumping(value)

    def smooth_curvature_moment(self, q: ScalarLike) -> Array:
        """Return E φ''(u)² without the Dirac masses of kinks and jumps."""
        return self._over_line(q, lambda rule, u: rule.mean(self.curvature(u) ** 2))

    def _is_close(
        self, q1: ScalarLike, q2: ScalarLike, epsilon: ScalarLike, distance: float
    ) -> Array:
        """Return whether φ has one slope, or nearly so, between u1 and u2.

        With p = √(ε/2) + |log(q1/q2)|/2 they are some √q p apart: that, and p, are to be less than
        a distance. A larger p is legal where φ(u1) - φ(u2) would be rounded.
        """
        q, part = jnp.maximum(q1, q2), jnp.sqrt(jnp.asarray(epsilon, dtype=float) / 2)
        if q1 is not q2:
            part += jnp.abs(jnp.log(jnp.asarray(q1, dtype=float) / q2)) / 2
        apart = jnp.sqrt(q) * part
        rounded = jnp.square(apart) * self.slope_moment(q, 2) <= ROUNDED * self.second_moment(q)
        return (apart < distance) & ((part < distance) | rounded)

    def _apart(
        self,
        pair: Pair,
        s: ScalarLike,
        t: ScalarLike,
        close: Array,
        mean_slope: Callable[[Pair], Array],
    ) -> Array:
        """Return s φ(u1) - t φ(u2), without cancellation where they are close."""
        s, t = jnp.asarray(s, dtype=float), jnp.asarray(t, dtype=float)

        def together(pair: Pair) -> Array:
            return s * mean_slope(pair) * pair.difference + (s - t) * self(pair.u2)

        def one_by_one(pair: Pair) -> Array:
            return s * self(pair.u1) - t * self(pair.u2)

        return jax.lax.cond(close, together, one_by_one, pair)

    def _quotient(self, pair: Pair) -> Array:
        apart = pair.difference
        return (self(pair.u1) - self(pair.u2)) / jnp.where(apart == 0, 1.0, apart)

    def _mean_slope(self, pair: Pair) -> Array:
        """Return the divided difference of φ as the mean of φ' between u1 and u2, jumps added."""
        apart = jnp.where(pair.difference == 0, 1.0, pair.difference)
        cuts = [jnp.zeros_like(apart), jnp.ones_like(apart)]
        inner = [jnp.clip((k - pair.u2) / apart, 0.0, 1.0) for k in self.kinks()]
        if inner:
            ordered = jnp.sort(jnp.stack(inner, axis=-1), axis=-1)
            cuts[1:1] = [ordered[..., i] for i in range(len(inner))]
        mean = jnp.zeros_like(apart)
        for start, stop in itertools.pairwise(cuts):
            for node, weight in zip(LEGENDRE_NODES, LEGENDRE_WEIGHTS, strict=True):
                at = start + (stop - start) * (1 + node) / 2
                mean += (stop - start) * weight / 2 * self.slope(pair.u2 + at * apart)
        for kink, jump in zip(self.kinks(), self.jumps(), strict=True):
            between = (pair.u1 < kink) != (pair.u2 < kink)
            mean += jnp.where(between, jump / jnp.abs(apart), 0.0)
        return mean

    def __mul__(self, factor: ScalarLike) -> "Activation":
        return Sum((factor,), (self,))

    __rmul__ = __mul__

    def __neg__(self) -> "Activation":
        return -1.0 * self

    def __add__(self, other: "Activation") -> "Activation":
        return Sum((1.0, 1.0), (self, other))

    def __sub__(self, other: "Activation") -> "Activation":
        return self + -other


for _name in STATISTICS:
    setattr(Activation, _name, _numbers_on_host(vars(Activation)[_name]))


def pointwise(phi: Activation) -> Pointwise:
    """Return an activation of numbers as it is evaluated without being traced."""
    from meanfield.activations.sampling import pointwise as found

    return found(phi)


def require_activation(name: str, phi: Any) -> None:
    """Raise `MeanFieldError` unless phi is an activation."""
    if not isinstance(phi, Activation):
        raise MeanFieldError(
            f"{name} = {phi!r} is not legal; it must be an Activation: "
            "activation(name) or from_callable(function)"
        )


def require_single(phi: Activation) -> None:
    """Raise `MeanFieldError` unless phi is one activation: its parameters are single numbers."""
    require_activation("phi", phi)
    shapes = {jnp.shape(leaf) for leaf in jax.tree.leaves(phi)} - {()}
    if shapes:
        raise MeanFieldError(
            f"phi with parameters of shape {shapes.pop()} is not legal; its parameters must be "
            "single numbers here"
        )


@struct
class Sum(Activation):
    """Σ_i w_i φ_i(x)."""

    weights: tuple[ScalarLike, ...]
    terms: tuple[Activation, ...]

    def __post_init__(self) -> None:
        for weight in self.weights:
            require_number("weight", weight)
        for term in self.terms:
            require_activation("term", term)

    @property
    def continuous(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether all terms are known to be continuous."""
        return all(phi.continuous or not phi.kinks() for phi in self.terms)

    @property
    def oscillates(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether a term oscillates for ever."""
        return any(phi.oscillates for phi in self.terms)

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
