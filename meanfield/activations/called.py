"""Statistics of traced numbers: a kernel asks the host for them when it runs.

So kernels never hold φ. What is traced may be variances, correlations and parameters of φ. Their
derivatives are other statistics, and so are called too: in ε by Price's theorem
(`meanfield.activations.pair_rules`); in the variance of one Gaussian, with u = √q z,

    d^n/dq^n E f(u),      column f of `meanfield.sampled`;

in a parameter of φ, and what remains, by a series in it (`meanfield.chebyshev`).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from meanfield._elementwise import asked
from meanfield._struct import Whole
from meanfield.activations import pair_rules
from meanfield.price import legal_epsilon, product
from meanfield.typing import Array, ScalarLike

# The place of ε among the numbers of statistics of pairs.
EPSILON = {
    "covariance": 2,
    "slope_covariance": 2,
    "curvature_covariance": 2,
    "separation": 2,
    "decorrelation": 1,
    "distance": 1,
    "slope_gap": 1,
    "deficit": 1,
}


def is_callable(phi: Any) -> bool:
    """Return whether an activation is one of numbers, traced or not, which the host can sample."""
    leaves = jax.tree.leaves(phi, is_leaf=lambda x: isinstance(x, Whole))
    return not any(isinstance(leaf, Whole) for leaf in leaves)


def called(
    name: str, phi: Any, numbers: tuple[ScalarLike, ...], fixed: tuple[Any, ...] = ()
) -> Array:
    """Return phi.name(*numbers, *fixed) by a call of the host.

    The numbers and the parameters of φ may be traced, what is fixed belongs to the question.
    """
    # One variance stands for two where they are the same number.
    shared = EPSILON.get(name) == 2 and numbers[0] is numbers[1]
    if shared:
        numbers = numbers[1:]
    values = [jnp.asarray(x, dtype=float) for x in numbers]
    if name in EPSILON:
        place = EPSILON[name] - shared
        values[place] = legal_epsilon(values[place])
    leaves, tree = jax.tree.flatten(phi)
    leaves = [jnp.asarray(x, dtype=float) for x in leaves]
    shape = jnp.broadcast_shapes(*map(jnp.shape, [*leaves, *values]))
    # All of one shape, so that what vmap puts before them lines up.
    leaves, values = ([jnp.broadcast_to(x, shape) for x in part] for part in (leaves, values))
    return _question(name, tree, fixed, shared)(leaves, values)


@functools.lru_cache(maxsize=1024)
def _question(name: str, tree: Any, fixed: tuple[Any, ...], shared: bool) -> Any:
    """Return a function of leaves of φ and of numbers, all of one shape, which asks the host."""

    def on_host(phi: Any, numbers: Any) -> Any:
        return getattr(phi, name)(*_all(numbers, shared), *fixed)

    @jax.custom_jvp
    def question(leaves: list[Array], numbers: list[Array]) -> Array:
        return asked(on_host, 0.0, jax.tree.unflatten(tree, leaves), numbers)

    def derivative(primals: Any, tangents: Any) -> tuple[Array, Array]:
        (leaves, numbers), (turns, steps) = primals, tangents
        phi, all_ = jax.tree.unflatten(tree, leaves), _all(numbers, shared)
        value = question(leaves, numbers)
        change = jnp.zeros_like(value)
        for place, step in enumerate(steps):
            if not _is_zero(step):
                rate = _rate(name, place + (shared and place > 0), shared)
                change += product(rate(phi, *all_, *fixed), step)
        for leaf, turn in enumerate(turns):
            if not _is_zero(turn):
                again = name == "parameter_rate" and fixed[2] == leaf
                what = (*fixed[:3], fixed[3] + 1) if again else (name, fixed, leaf, 1)
                change += product(called("parameter_rate", phi, tuple(all_), what), turn)
        return value, change

    question.defjvp(derivative, symbolic_zeros=True)
    return question


def _all(numbers: Any, shared: bool) -> list[Any]:
    return [numbers[0], *numbers] if shared else list(numbers)


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, SymbolicZero)


# Derivatives ----------------------------------------------------------------------------------

# A statistic of one Gaussian is a factor times a derivative in q of the expectation of a function:
# the function's name, the order of the derivative, and the factor.
MOMENTS = {
    "mean": ("mean", 0, 1.0),
    "mean_curvature": ("mean", 1, 2.0),
    "second_moment": ("second", 0, 1.0),
    "variance_slope": ("second", 1, 1.0),
    "even_moment": ("even", 0, 1.0),
    "smooth_curvature_moment": ("curve2", 0, 1.0),
}


def _by(f: Callable[..., Array], place: int, *numbers: Any) -> Array:
    """Return the derivative of a function of numbers in one of them."""

    def moved(x: Array) -> Array:
        return f(*numbers[:place], x, *numbers[place + 1 :])

    x = jnp.asarray(numbers[place], dtype=float)
    return jax.jvp(moved, (x,), (jnp.ones_like(x),))[1]


def _rate(name: str, place: int, shared: bool) -> Callable[..., Array]:
    """Return the derivative of a statistic in one of its numbers, of statistics where it can be.

    It is a function of φ, of the numbers, and of what is fixed.
    """
    if EPSILON.get(name) == place and hasattr(pair_rules, f"{name}_rate"):
        return getattr(pair_rules, f"{name}_rate")
    if name in MOMENTS:
        column, order, factor = MOMENTS[name]
        return lambda phi, q: factor * called("moment_rate", phi, (q,), (column, order + 1))
    if name == "slope_moment":
        return lambda phi, q, power: called("moment_rate", phi, (q,), (f"slope{power}", 1))
    if name == "moment_rate":
        return lambda phi, q, column, order: called("moment_rate", phi, (q,), (column, order + 1))
    if name == "curvature_moment":
        return _where_finite
    if name == "edge_deficit":
        return lambda phi, q: called("edge_rate", phi, (q,))
    if name == "edge_rate":
        return _edge_bend
    if name in ("covariance", "slope_covariance"):
        if shared:
            return lambda phi, q, _, epsilon: called("pair_rate", phi, (q, epsilon), (name,))
        return lambda phi, *numbers: called("unequal_rate", phi, numbers, (name, place))
    if name in ("decorrelation", "slope_gap", "deficit"):
        return lambda phi, q, epsilon: called("pair_rate", phi, (q, epsilon), (name,))
    if name == "distance":
        return lambda phi, q, epsilon: (
            epsilon * called("pair_rate", phi, (q, epsilon), ("decorrelation",))
        )
    if name == "separation":
        return (_by_q1, _by_q2, None, _by_s, _by_t)[place]  # pyright: ignore[reportReturnType]
    if name in ("pair_rate", "unequal_rate") and place == (1 if name == "pair_rate" else 2):
        return _by_price_and_q
    if name == "parameter_rate":
        return functools.partial(_by_parameter, place)
    return functools.partial(_by_any, name, place, shared)


def _by_parameter(place: int, phi: Any, *arguments: Any) -> Array:
    """Return the derivative by a number of one by a parameter: that of the former by the latter."""
    *numbers, name, fixed, leaf, order = arguments
    leaves, tree = jax.tree.flatten(phi)
    rate = _rate(name, place, False)

    def moved(x: Array) -> Array:
        return rate(tree.unflatten([*leaves[:leaf], x, *leaves[leaf + 1 :]]), *numbers, *fixed)

    derivative: Callable[..., Array] = moved
    for _ in range(order):
        derivative = functools.partial(_by, derivative, 0)
    return derivative(leaves[leaf])


def _by_any(name: str, place: int, shared: bool, phi: Any, *arguments: Any) -> Array:
    """Return the derivative of a statistic by a positive number in which it is analytic."""
    count = sum(not isinstance(x, str | int | tuple) for x in arguments)
    numbers, fixed = arguments[:count], arguments[count:]
    if shared and place < EPSILON[name]:
        # Both variances are the same number.
        parts = [called("log_slope", phi, numbers, (name, fixed, i)) / numbers[i] for i in range(2)]
        return parts[0] + parts[1]
    return called("log_slope", phi, numbers, (name, fixed, place)) / numbers[place]


def _by_price_and_q(phi: Any, *arguments: Any) -> Array:
    """Return the derivative by ε of one by a variance: that of Price's rule by the variance."""
    if isinstance(arguments[-1], str):
        *numbers, name = arguments
        q, epsilon = numbers
        rule = getattr(pair_rules, f"{name}_rate")
        return _by(lambda q: rule(phi, *([q] * EPSILON[name]), epsilon), 0, q)
    *numbers, name, place = arguments
    rule = getattr(pair_rules, f"{name}_rate")
    return _by(lambda *x: rule(phi, *x), place, *numbers)


def _by_q1(phi: Any, q1: Array, q2: Array, epsilon: Array, s: Array, t: Array) -> Array:
    rate = called("unequal_rate", phi, (q1, q2, epsilon), ("covariance", 0))
    return s * (s * phi.variance_slope(q1) / 2 - t * rate)


def _by_q2(phi: Any, q1: Array, q2: Array, epsilon: Array, s: Array, t: Array) -> Array:
    return _by_q1(phi, q2, q1, epsilon, t, s)


def _by_s(phi: Any, q1: Array, q2: Array, epsilon: Array, s: Array, t: Array) -> Array:
    """Return E (s φ(u1) - t φ(u2)) φ(u1), of terms that are small where it is."""
    first, second = phi.second_moment(q1), phi.second_moment(q2)
    apart = phi.separation(q1, q2, epsilon, jnp.ones_like(s), jnp.ones_like(s))
    return (s - t) * first + t * ((first - second) / 2 + apart)


def _by_t(phi: Any, q1: Array, q2: Array, epsilon: Array, s: Array, t: Array) -> Array:
    return _by_s(phi, q2, q1, epsilon, t, s)


def _where_finite(phi: Any, q: Array) -> Array:
    """Return dE φ''²/dq, NaN where that is infinite."""
    finite = jnp.isfinite(phi.curvature_moment(q))
    return jnp.where(finite, called("moment_rate", phi, (q,), ("curve2", 1)), jnp.nan)


def _edge_bend(phi: Any, q: Array) -> Array:
    """Return d²(q E φ'² - E φ²)/dq²."""
    slope, bend, second = (
        called("moment_rate", phi, (q,), of) for of in (("slope2", 1), ("slope2", 2), ("second", 2))
    )
    return 2 * slope + q * bend - second
