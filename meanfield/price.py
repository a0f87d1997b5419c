"""How do expectations over a pair of Gaussians change with its correlation?

By Price's theorem, for centred Gaussians u1, u2 of variances q1, q2 and correlation 1 - ε [1],

    d/dε E f(u1) g(u2) = -√(q1 q2) E f'(u1) g'(u2),

with the Dirac masses of f' and g' in the expectation. Unlike the derivative of a quadrature in
u1 - u2 ~ √ε, the right-hand side is regular as ε → 0 and ε → 2: there it is an expectation over
one Gaussian, and infinite where masses meet. `statistic` makes it the derivative of a function,
in forward and in reverse mode and to any order.

References
----------
[1] R. Price, A useful theorem for nonlinear devices having Gaussian inputs, IRE Trans. Inf.
    Theory 4 (1958) 69-72.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from meanfield._elementwise import SLACK
from meanfield.typing import Array, ScalarLike

# Its square is infinite.
HUGE = 1e200


def legal_epsilon(epsilon: ScalarLike) -> Array:
    """Return 1 - correlation without the rounding that leads out of [0, 2], NaN further out.

    At the ends of [0, 2] too its derivative is one.
    """
    epsilon = jnp.asarray(epsilon, dtype=float)
    beyond = jax.lax.stop_gradient(jnp.clip(epsilon, 0.0, 2.0) - epsilon)
    return jnp.where(jnp.abs(beyond) <= SLACK, epsilon + beyond, jnp.nan)


def product(slope: Array, tangent: Array) -> Array:
    """Return slope × tangent, linear in the tangent and 0 where it is 0, however large the slope.

    A direction in which nothing moves does not feel an infinite slope.
    """
    infinite = jnp.isinf(slope)
    return (
        jnp.where(infinite, jnp.sign(slope) * HUGE, slope)
        * tangent
        * jnp.where(infinite, HUGE, 1.0)
    )


Function = Callable[[Any, Array], Array]


def statistic(function: Function, rule: Function, arguments: Any, epsilon: Array) -> Array:
    """Return function(arguments, epsilon), whose derivative in epsilon is rule(...), a number.

    Both may be differentiated in all arguments. Of these derivatives the ones in epsilon are those
    of the rule, in whatever order and mode they are asked for.
    """

    def vector(f: Function) -> Function:
        return lambda arguments, epsilon: jnp.reshape(f(arguments, epsilon), 1)

    return _vector(vector(function), vector(rule), arguments, epsilon)[0]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _vector(function: Function, _rule: Function, arguments: Any, epsilon: Array) -> Array:
    return function(arguments, epsilon)


def _derivative(
    function: Function, rule: Function, primals: Any, tangents: Any
) -> tuple[Array, Array]:
    (arguments, epsilon), (steps, turn) = primals, tangents
    steps = jax.tree.leaves(steps, is_leaf=_is_zero)
    moving = [i for i, step in enumerate(steps) if not _is_zero(step)]
    if moving:
        # Coefficients, and not what they make of the steps: these are linear in reverse mode, where
        # rules are forgotten.
        f, r = (functools.partial(_with_slopes, f, moving) for f in (function, rule))
        both = _vector(f, r, arguments, epsilon)
        step = jnp.concatenate([jnp.ravel(steps[i]) for i in moving])
        both = both.reshape(-1, step.size + 1)
        value, change = both[:, 0], both[:, 1:] @ step
    else:
        value = _vector(function, rule, arguments, epsilon)
        change = jnp.zeros_like(value)
    if not _is_zero(turn):
        change += product(rule(arguments, epsilon), turn)
    return value, change


_vector.defjvp(_derivative, symbolic_zeros=True)


def _with_slopes(function: Function, moving: list[int], arguments: Any, epsilon: Array) -> Array:
    """Return the values of a function, each followed by its derivatives where arguments move."""
    leaves, tree = jax.tree.flatten(arguments)

    def at(moved: list[Any]) -> Array:
        new = dict(zip(moving, moved, strict=True))
        return function(tree.unflatten([new.get(i, x) for i, x in enumerate(leaves)]), epsilon)

    value, pull = jax.vjp(at, [jnp.asarray(leaves[i], dtype=float) for i in moving])
    if value.size == 1:
        rows = [jnp.reshape(x, (1, -1)) for x in pull(jnp.ones(1))[0]]
    else:
        rows = [x.reshape(value.size, -1) for x in jax.vmap(pull)(jnp.eye(value.size))[0]]
    return jnp.concatenate([value[:, None], *rows], axis=1).ravel()


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, SymbolicZero)
