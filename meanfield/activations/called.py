"""Statistics of traced numbers: a kernel asks the host for them when it runs.

So kernels never hold φ. What is traced may be variances, correlations and parameters of φ. With
respect to ε and to variances derivatives are other statistics, and so are called too: Price's
theorem (`meanfield.activations.pair_rules`), and for one Gaussian, with u = √q z,

    d^n/dq^n E f(u),      column f of `meanfield.sampled`.

What remains, parameters of φ above all, is left to the derivative of the method that evaluates φ
in the kernel (`meanfield.activations.base`).
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

Method = Callable[..., Array]

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
    method: Method, phi: Any, numbers: tuple[ScalarLike, ...], fixed: tuple[Any, ...]
) -> Array:
    """Return method(phi, *numbers, *fixed) by a call of the host.

    The numbers may be traced, what is fixed belongs to the question.
    """
    name = method.__name__
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
    return _question(method, tree, fixed, shared)(leaves, values)


@functools.lru_cache(maxsize=1024)
def _question(method: Method, tree: Any, fixed: tuple[Any, ...], shared: bool) -> Any:
    """Return a function of leaves of φ and of numbers, all of one shape, which asks the host."""
    name = method.__name__

    def on_host(phi: Any, numbers: Any) -> Any:
        return getattr(phi, name)(*_all(numbers, shared), *fixed)

    @jax.custom_jvp
    def question(leaves: list[Array], numbers: list[Array]) -> Array:
        return asked(on_host, 0.0, jax.tree.unflatten(tree, leaves), numbers)

    def derivative(primals: Any, tangents: Any) -> tuple[Array, Array]:
        (leaves, numbers), (turns, steps) = primals, tangents
        phi = jax.tree.unflatten(tree, leaves)
        value = question(leaves, numbers)
        change = jnp.zeros_like(value)
        left = []
        for place, step in enumerate(steps):
            if _is_zero(step):
                continue
            rate = _rate(name, place + (shared and place > 0), shared)
            if rate is None:
                left.append(place)
            else:
                change += product(rate(phi, *_all(numbers, shared), *fixed), step)
        moving = [i for i, turn in enumerate(turns) if not _is_zero(turn)]
        if left or moving:

            def evaluated(moved: list[Array], others: list[Array]) -> Array:
                new = list(leaves)
                for i, x in zip(moving, moved, strict=True):
                    new[i] = x
                all_ = list(numbers)
                for i, x in zip(left, others, strict=True):
                    all_[i] = x
                return _each(method, tree, fixed, shared)(new, all_)

            where = [leaves[i] for i in moving], [numbers[i] for i in left]
            which = [turns[i] for i in moving], [steps[i] for i in left]
            change += jax.jvp(evaluated, where, which)[1]
        return value, change

    question.defjvp(derivative, symbolic_zeros=True)
    return question


def _each(method: Method, tree: Any, fixed: Any, shared: bool) -> Any:
    """Return a method that evaluates φ in the kernel, of arrays of one shape."""

    def one(leaves: list[Array], numbers: list[Array]) -> Array:
        return method(jax.tree.unflatten(tree, leaves), *_all(numbers, shared), *fixed)

    def every(leaves: list[Array], numbers: list[Array]) -> Array:
        shape = numbers[0].shape
        flat = jax.tree.map(lambda x: x.ravel(), (leaves, numbers))
        return one(leaves, numbers) if shape == () else jax.vmap(one)(*flat).reshape(shape)

    return every


def _all(numbers: Any, shared: bool) -> list[Any]:
    return [numbers[0], *numbers] if shared else list(numbers)


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, SymbolicZero)


# Derivatives ----------------------------------------------------------------------------------

# Of what a statistic of one Gaussian is the expectation, the how manieth derivative of it, and
# times what.
MOMENTS = {
    "mean": ("mean", 0, 1.0),
    "mean_curvature": ("mean", 1, 2.0),
    "second_moment": ("second", 0, 1.0),
    "variance_slope": ("second", 1, 1.0),
    "even_moment": ("even", 0, 1.0),
    "curvature_moment": ("curve2", 0, 1.0),
    "smooth_curvature_moment": ("curve2", 0, 1.0),
}
# How a kernel that holds φ evaluates them.
EVALUATED = {
    "mean": ("mean", 0),
    "second": ("variance_slope", 1),
    "even": ("even_moment", 0),
    "curve2": ("smooth_curvature_moment", 0),
}


def moment_rate(phi: Any, q: Array, column: str, order: int) -> Array:
    """Return the derivative of some order of the expectation of a column by q."""
    fixed: tuple[int, ...] = ()
    if column.startswith("slope"):
        name, known, fixed = "slope_moment", 0, (int(column.removeprefix("slope")),)
    else:
        name, known = EVALUATED[column]
    f = functools.partial(_evaluated, phi, name)
    for _ in range(order - known):
        f = functools.partial(_by, f, 0)
    return f(q, *fixed)


def edge_rate(phi: Any, q: Array) -> Array:
    """Return d(q E φ'² - E φ²)/dq."""
    return _by(functools.partial(_evaluated, phi, "edge_deficit"), 0, q)


def pair_rate(phi: Any, q: Array, epsilon: Array, name: str) -> Array:
    """Return the derivative by q of a statistic of pairs of equal variances."""

    def f(q: Array, epsilon: Array) -> Array:
        return _evaluated(phi, name, *([q] * EPSILON[name]), epsilon)

    return _by(f, 0, q, epsilon)


def unequal_rate(phi: Any, q1: Array, q2: Array, epsilon: Array, name: str, place: int) -> Array:
    """Return the derivative of a covariance by q1 (place 0) or q2 (place 1)."""
    return _by(functools.partial(_evaluated, phi, name), place, q1, q2, epsilon)


def _evaluated(phi: Any, name: str, *numbers: Any) -> Array:
    """Return a statistic by evaluating φ in the kernel."""
    return getattr(type(phi), name).__wrapped__(phi, *numbers)


def _by(f: Callable[..., Array], place: int, *numbers: Any) -> Array:
    """Return the derivative of a function of numbers in one of them."""

    def moved(x: Array) -> Array:
        return f(*numbers[:place], x, *numbers[place + 1 :])

    x = jnp.asarray(numbers[place], dtype=float)
    return jax.jvp(moved, (x,), (jnp.ones_like(x),))[1]


def log_slope(phi: Any, *numbers: Any) -> Array:
    """Return the derivative of a statistic by the logarithm of one of its numbers.

    The last three arguments are its name, what is fixed of it, and the place of the number.
    """
    *given, name, fixed, place = numbers
    if name in HERE:
        f = functools.partial(HERE[name], phi)
    else:
        f = functools.partial(_evaluated, phi, name)
    return given[place] * _by(lambda *x: f(*x, *fixed), place, *given)


HERE = {f.__name__: f for f in (moment_rate, edge_rate, pair_rate, unequal_rate, log_slope)}


def _rate(name: str, place: int, shared: bool) -> Callable[..., Array] | None:
    """Return the derivative of a statistic in one of its numbers, where it is a statistic.

    It is a function of φ, of the numbers, and of what is fixed.
    """
    if EPSILON.get(name) == place:
        return getattr(pair_rules, f"{name}_rate", None)
    if name in MOMENTS:
        column, order, factor = MOMENTS[name]
        return lambda phi, q: factor * called(moment_rate, phi, (q,), (column, order + 1))
    if name == "slope_moment":
        return lambda phi, q, power: called(moment_rate, phi, (q,), (f"slope{power}", 1))
    if name == "moment_rate":
        return lambda phi, q, column, order: called(moment_rate, phi, (q,), (column, order + 1))
    if name == "edge_deficit":
        return lambda phi, q: called(edge_rate, phi, (q,), ())
    if name == "edge_rate":
        return _edge_bend
    if name in ("covariance", "slope_covariance"):
        if shared:
            return lambda phi, q, _, epsilon: called(pair_rate, phi, (q, epsilon), (name,))
        return lambda phi, *numbers: called(unequal_rate, phi, numbers, (name, place))
    if name in ("decorrelation", "slope_gap", "deficit"):
        return lambda phi, q, epsilon: called(pair_rate, phi, (q, epsilon), (name,))
    if name == "distance":
        return lambda phi, q, epsilon: (
            epsilon * called(pair_rate, phi, (q, epsilon), ("decorrelation",))
        )
    if name == "separation":
        return (_by_q1, _by_q2, None, _by_s, _by_t)[place]
    if name in ("pair_rate", "unequal_rate") and place == (1 if name == "pair_rate" else 2):
        return _by_price_and_q
    if name in ("pair_rate", "unequal_rate", "curvature_covariance"):
        return functools.partial(_by_any, name, place, shared)
    return None


def _by_any(name: str, place: int, shared: bool, phi: Any, *arguments: Any) -> Array:
    """Return the derivative of a statistic by a positive number in which it is analytic."""
    count = sum(not isinstance(x, str | int) for x in arguments)
    numbers, fixed = arguments[:count], arguments[count:]
    if shared:
        # Both variances are the same number.
        return sum(called(log_slope, phi, numbers, (name, fixed, i)) / numbers[i] for i in range(2))  # pyright: ignore[reportReturnType]
    return called(log_slope, phi, numbers, (name, fixed, place)) / numbers[place]


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
    rate = called(unequal_rate, phi, (q1, q2, epsilon), ("covariance", 0))
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


def _edge_bend(phi: Any, q: Array) -> Array:
    """Return d²(q E φ'² - E φ²)/dq²."""
    slope, bend, second = (
        called(moment_rate, phi, (q,), of) for of in (("slope2", 1), ("slope2", 2), ("second", 2))
    )
    return 2 * slope + q * bend - second
