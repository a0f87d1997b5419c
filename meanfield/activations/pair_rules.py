"""Derivatives of the Gaussian statistics of a pair in 1 - c, by Price's theorem.

`by_price` makes a method's derivative with respect to ε a rule (`meanfield.price`); derivatives
with respect to everything else are those of the method. The rules are made from methods that
have rules, so that there are derivatives of any order.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from meanfield.price import legal_epsilon, statistic
from meanfield.typing import Array, ScalarLike

F = TypeVar("F", bound=Callable[..., Any])

Rule = Callable[..., Array]


def by_price(rule: Rule) -> Callable[[F], F]:
    """Give a method of an activation, φ.method(..., epsilon, ...), a derivative in `epsilon`.

    `rule` has the arguments of the method and returns the derivative.
    """

    def decorate(method: F) -> F:
        signature = inspect.signature(method)
        names = list(signature.parameters)[1:]

        @functools.wraps(method)
        def wrapper(phi: Any, *args: ScalarLike, **kwargs: ScalarLike) -> Array:
            numbers = dict(zip(names, signature.bind(phi, *args, **kwargs).args[1:], strict=True))
            # One variance stands for two where they are the same number: methods look at that.
            if "q2" in numbers and numbers["q1"] is numbers["q2"]:
                del numbers["q2"]
            numbers = {name: jnp.asarray(x, dtype=float) for name, x in numbers.items()}
            numbers["epsilon"] = legal_epsilon(numbers["epsilon"])
            f, g = functools.partial(_call, method), functools.partial(_call, rule)

            def at(numbers: dict[str, Array]) -> Array:
                others = {name: x for name, x in numbers.items() if name != "epsilon"}
                return statistic(f, g, (phi, others), numbers["epsilon"])

            shape = jnp.broadcast_shapes(*(x.shape for x in numbers.values()))
            if shape == ():
                return at(numbers)
            flat = {name: jnp.broadcast_to(x, shape).ravel() for name, x in numbers.items()}
            return jax.vmap(at)(flat).reshape(shape)

        return wrapper  # pyright: ignore[reportReturnType]

    return decorate


def _call(function: Callable[..., Array], arguments: Any, epsilon: Array) -> Array:
    phi, others = arguments
    numbers = {**others, "epsilon": epsilon}
    names = list(inspect.signature(function).parameters)[1:]
    return function(phi, *(numbers[name if name in numbers else "q1"] for name in names))


# Rules ---------------------------------------------------------------------------------------


def covariance_rate(phi: Any, q1: Array, q2: Array, epsilon: Array) -> Array:
    return -_root(q1, q2) * phi.slope_covariance(q1, q2, epsilon)


def slope_covariance_rate(phi: Any, q1: Array, q2: Array, epsilon: Array) -> Array:
    return -_root(q1, q2) * phi.curvature_covariance(q1, q2, epsilon)


def separation_rate(phi: Any, q1: Array, q2: Array, epsilon: Array, s: Array, t: Array) -> Array:
    return s * t * _root(q1, q2) * phi.slope_covariance(q1, q2, epsilon)


def distance_rate(phi: Any, q: Array, epsilon: Array) -> Array:
    return phi.slope_covariance(q, q, epsilon)


def slope_gap_rate(phi: Any, q: Array, epsilon: Array) -> Array:
    return q * phi.curvature_covariance(q, q, epsilon)


def deficit_rate(phi: Any, q: Array, epsilon: Array) -> Array:
    """Return how a mean over [0, ε] changes: what is averaged, less the mean, by ε."""

    def inside() -> Array:
        return (phi.slope_gap(q, epsilon) - phi.deficit(q, epsilon)) / epsilon

    return jax.lax.cond(epsilon > 0, inside, lambda: q * phi.curvature_moment(q) / 2)


def decorrelation_rate(phi: Any, q: Array, epsilon: Array) -> Array:
    if phi.continuous or not phi.kinks():
        return -deficit_rate(phi, q, epsilon)

    def jumping() -> Array:
        apart = phi.slope_covariance(q, q, epsilon) - phi.decorrelation(q, epsilon)
        return jnp.where(epsilon > 0, apart / epsilon, -jnp.inf)

    finite = jnp.isfinite(phi.slope_moment(q, 2))
    return jax.lax.cond(finite, lambda: -deficit_rate(phi, q, epsilon), jumping)


def _root(q1: Array, q2: Array) -> Array:
    return q1 if q1 is q2 else jnp.sqrt(q1) * jnp.sqrt(q2)
