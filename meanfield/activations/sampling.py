"""Activations of numbers, on the host: their statistics need no compiler.

An activation is sampled once (`meanfield.sampled`). Those that differ in scale alone,
φ(x) = h φ1(x/w), share the samples of φ1.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from meanfield import panels, plane, unequal
from meanfield._elementwise import answered, either
from meanfield._once import once
from meanfield._struct import OnHost, pick
from meanfield.activations.base import Activation, Pointwise
from meanfield.activations.base import derivative as along
from meanfield.activations.numpy_rules import by_numpy
from meanfield.chebyshev import derivative
from meanfield.sampled import Sampled

# Points that φ is evaluated at by one call.
LENGTH = 4096


def _values(phi: Activation, x: jax.Array) -> tuple[jax.Array, ...]:
    return phi(x), phi.slope(x)


def _curvature(phi: Activation, x: jax.Array) -> tuple[jax.Array, ...]:
    return (phi.curvature(x),)


def _jet(order: int, phi: Activation, x: jax.Array) -> tuple[jax.Array, ...]:
    rows, f = [phi(x)], phi.slope
    for _ in range(order):
        rows.append(f(x))
        f = along(f)
    return tuple(rows)


class _ByBlocks:
    """Functions of φ at vectors of any length, by calls with vectors of one length."""

    def __init__(self, function: Any, phi: Activation):
        self.function, self.phi = function, phi

    @once
    def kernel(self) -> Callable[[np.ndarray], Any]:
        """The function by NumPy; compiled where it has operations that NumPy has not."""
        function = functools.partial(self.function, self.phi)
        by = by_numpy(function, (LENGTH,))
        return by or functools.partial(_compiled(self.function), self.phi)

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        blocks = np.ones((max(1, -(-x.size // LENGTH)), LENGTH))
        blocks.ravel()[: x.size] = x
        with jax.ensure_compile_time_eval():
            columns = zip(*(self.kernel(block) for block in blocks), strict=True)
        return tuple(np.concatenate([np.asarray(v) for v in c])[: x.size] for c in columns)


@functools.lru_cache(maxsize=64)
def _jets(tree: Any, leaves: tuple[float, ...], order: int) -> _ByBlocks:
    return _ByBlocks(functools.partial(_jet, order), _of_numbers(tree, leaves))


def derivatives(phi: Activation, x: np.ndarray, order: int) -> list[np.ndarray]:
    """Return φ and its derivatives up to an order at a vector, almost everywhere."""
    if phi.on_numbers() is None:
        return list(_jets(*_key(phi), order)(x))
    values, *slopes = _slopes(*_key(phi), order)
    return [*values(x), *(slope(x) for slope in slopes)][: order + 1]


@functools.lru_cache(maxsize=64)
def _slopes(tree: Any, leaves: tuple[float, ...], order: int) -> list[Callable[..., Any]]:
    """Return (φ, φ') and the derivatives from φ'' on, each from the one before."""
    known = pointwise(_of_numbers(tree, leaves))
    found: list[Callable[..., Any]] = [known.values, known.curvature]
    while len(found) < order:
        found.append(panels.derivative(found[-1]))
    return found


@functools.cache
def _compiled(function: Any) -> Any:
    return jax.jit(function)


def sampled(phi: Activation) -> Sampled:
    """Return the samples of an activation of numbers: one object for equal activations."""
    return _sampled(*_key(phi))


def _key(phi: Activation) -> tuple[Any, tuple[float, ...]]:
    leaves, tree = jax.tree.flatten(phi)
    return tree, tuple(float(np.asarray(leaf)) for leaf in leaves)


def _of_numbers(tree: Any, leaves: tuple[float, ...]) -> Activation:
    return jax.tree.unflatten(tree, [np.float64(leaf) for leaf in leaves])


@functools.lru_cache(maxsize=256)
def _sampled(tree: Any, leaves: tuple[float, ...]) -> Sampled:
    phi = _of_numbers(tree, leaves)
    with jax.ensure_compile_time_eval():
        known = tuple(float(np.asarray(k)) for k in phi.known())
    values, curvature, exact = pointwise(phi)
    return Sampled(values, curvature, known, exact)


def pointwise(phi: Activation) -> Pointwise:
    """Return an activation as a function of numbers."""
    known = phi.on_numbers()
    if known is not None:
        return known
    curvature = _ByBlocks(_curvature, phi)
    return Pointwise(
        _ByBlocks(_values, phi),  # pyright: ignore[reportArgumentType]
        lambda x: curvature(x)[0],
        True,
    )


# Statistics of pairs: what `meanfield.plane` calls them, and whether they are of φ or of φ'.
PAIRS = {
    "covariance": ("product", True),
    "slope_covariance": ("slope_product", False),
    "decorrelation": ("apart", False),
    "slope_gap": ("gap", False),
    "deficit": ("deficit", False),
}


class Numeric(OnHost):
    """An activation whose statistics are computed on the host, of vectors of variances.

    φ(x) = height·φ1(x/width), where φ1 has been sampled; width and height are numbers or vectors
    like the variances. The statistics are those of `Activation`.
    """

    def __init__(self, one: Sampled, width: Any, height: Any, phi: Any):
        self.one, self.width, self.height, self.phi = one, width, height, phi
        self.steepness = height / width

    def pick(self, places: Any) -> "Numeric":
        """Return the activations at some places of the vectors."""
        width, height = (x[places] if np.ndim(x) else x for x in (self.width, self.height))
        return Numeric(self.one, width, height, pick(self.phi, places))

    def _unit(self, q: Any) -> np.ndarray:
        return np.atleast_1d(np.asarray(q, dtype=float) / self.width**2)

    def mean(self, q: Any) -> np.ndarray:
        return self.height * self.one.mean(self._unit(q))

    def second_moment(self, q: Any) -> np.ndarray:
        return self.height**2 * self.one.second_moment(self._unit(q))

    def even_moment(self, q: Any) -> np.ndarray:
        return self.height**2 * self.one.even_moment(self._unit(q))

    def slope_moment(self, q: Any, power: int) -> np.ndarray:
        return self.steepness**power * self.one.slope_moment(self._unit(q), power)

    def product_moment(self, q: Any, power: int) -> np.ndarray:
        """Return E φ^p φ'^(4-p), p = 2 or 4."""
        found = self.one.product_moment(self._unit(q), power)
        return self.height**power * self.steepness ** (4 - power) * found

    def variance_slope(self, q: Any) -> np.ndarray:
        return self.steepness**2 * self.one.variance_slope(self._unit(q))

    def edge_deficit(self, q: Any) -> np.ndarray:
        return self.height**2 * self.one.edge_deficit(self._unit(q))

    def edge_bias(self, q: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return σb² = edge_deficit(q)/E φ'² and its derivative."""
        value, slope = self.one.edge_bias(self._unit(q))
        return self.width**2 * value, slope

    def mean_curvature(self, q: Any) -> np.ndarray:
        return self.steepness / self.width * self.one.mean_curvature(self._unit(q))

    def curvature_moment(self, q: Any) -> np.ndarray:
        return (self.steepness / self.width) ** 2 * self.one.curvature_moment(self._unit(q))

    def smooth_curvature_moment(self, q: Any) -> np.ndarray:
        moment = self.one.smooth_curvature_moment(self._unit(q))
        return (self.steepness / self.width) ** 2 * moment

    def moment_rate(self, q: Any, column: str, order: int) -> np.ndarray:
        """Return d^n/dq^n of the expectation of a column of `Sampled`."""
        rate = self.one.moment_rate(self._unit(q), column, order)
        if column.startswith("slope"):
            height = self.steepness ** int(column.removeprefix("slope"))
        elif column == "curve2":
            height = (self.steepness / self.width) ** 2
        else:
            height = self.height if column == "mean" else self.height**2
        return height / self.width ** (2 * order) * rate

    def edge_rate(self, q: Any) -> np.ndarray:
        """Return d(q E φ'² - E φ²)/dq."""
        bias, slope = self.edge_bias(q)
        return slope * self.slope_moment(q, 2) + bias * self.moment_rate(q, "slope2", 1)

    @property
    def kinks(self) -> list[np.ndarray]:
        """The rough points of φ, and by how much φ' jumps there."""
        return [at * self.width for at in self.one.rough.at]

    @property
    def slope_jumps(self) -> list[np.ndarray]:
        return [bend * self.steepness for bend in self.one.rough.bend]

    @property
    def limits(self) -> tuple[np.ndarray, ...]:
        """φ and its first three derivatives at 0, from above and from below."""
        values = self.one.limits
        one = np.ones(np.broadcast_shapes(np.shape(self.width), np.shape(self.height), (1,)))
        return tuple(v[:, None] * (self.height / self.width**k * one) for k, v in enumerate(values))

    def _equal(self, q: Any, epsilon: Any) -> plane.Equal:
        unit = self._unit(q)
        unit, epsilon = np.broadcast_arrays(unit, np.asarray(epsilon, dtype=float))
        return plane.equal(self.one, unit, epsilon)

    def decorrelation(self, q: Any, epsilon: Any) -> np.ndarray:
        return self.steepness**2 * self._equal(q, epsilon).apart

    def distance(self, q: Any, epsilon: Any) -> np.ndarray:
        epsilon = np.asarray(epsilon, dtype=float)
        return np.where(epsilon == 0, 0.0, epsilon * self.decorrelation(q, epsilon))

    def slope_gap(self, q: Any, epsilon: Any) -> np.ndarray:
        return self.steepness**2 * self._equal(q, epsilon).gap

    def deficit(self, q: Any, epsilon: Any) -> np.ndarray:
        return self.steepness**2 * self._equal(q, epsilon).deficit

    def _unequal(self, q1: Any, q2: Any, epsilon: Any, s: Any, t: Any) -> unequal.Unequal:
        q1, q2 = np.asarray(q1, dtype=float), np.asarray(q2, dtype=float)
        numbers = (self._unit(q1), self._unit(q2), epsilon, s, t, (q1 - q2) / self.width**2)
        return unequal.unequal(
            self.one, *np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in numbers))
        )

    def _unequal_rates(self, q1: Any, q2: Any, epsilon: Any) -> unequal.Rates:
        numbers = (self._unit(q1), self._unit(q2), np.asarray(epsilon, dtype=float))
        return unequal.unequal_rates(self.one, *np.broadcast_arrays(*numbers))

    def covariance(self, q1: Any, q2: Any, epsilon: Any) -> np.ndarray:
        return self.height**2 * either(
            np.asarray(q1 == q2),
            lambda: self._equal(q1, epsilon).product,
            lambda: self._unequal(q1, q2, epsilon, 1.0, 1.0).product,
        )

    def slope_covariance(self, q1: Any, q2: Any, epsilon: Any) -> np.ndarray:
        return self.steepness**2 * either(
            np.asarray(q1 == q2),
            lambda: self._equal(q1, epsilon).slope_product,
            lambda: self._unequal(q1, q2, epsilon, 1.0, 1.0).slope_product,
        )

    def curvature_covariance(self, q1: Any, q2: Any, epsilon: Any) -> np.ndarray:
        return (self.steepness / self.width) ** 2 * either(
            np.asarray(q1 == q2),
            lambda: self._equal(q1, epsilon).bend_product,
            lambda: self._unequal_rates(q1, q2, epsilon).bend_product,
        )

    def pair_rate(self, q: Any, epsilon: Any, name: str) -> np.ndarray:
        """Return the derivative by q of a statistic of pairs of equal variances."""
        unit, epsilon = np.broadcast_arrays(self._unit(q), np.asarray(epsilon, dtype=float))
        field, height = PAIRS[name]
        rate = getattr(plane.equal_rates(self.one, unit, epsilon), field)
        return (self.height if height else self.steepness) ** 2 / self.width**2 * rate

    def unequal_rate(self, q1: Any, q2: Any, epsilon: Any, name: str, place: int) -> np.ndarray:
        """Return the derivative of a covariance by q1 (place 0) or q2."""
        field, height = PAIRS[name]
        field = f"{'rate' if height else 'slope_rate'}{place + 1}"
        rate = getattr(self._unequal_rates(q1, q2, epsilon), field)
        return (self.height if height else self.steepness) ** 2 / self.width**2 * rate

    def log_slope(self, *numbers: Any) -> np.ndarray:
        """Return the derivative of a statistic by the logarithm of one of its numbers.

        The last three arguments are its name, what is fixed of it, and the place of the number.
        """
        *given, name, fixed, place = numbers
        rows = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in given))

        def at(chosen: np.ndarray, logs: np.ndarray) -> np.ndarray:
            moved = [np.repeat(row[chosen], logs.shape[1]) for row in rows]
            moved[place] = moved[place] * np.exp(logs.ravel())
            phi = self.pick(np.repeat(chosen, logs.shape[1]))
            return getattr(phi, name)(*moved, *fixed).reshape(logs.shape)

        return derivative(at, lambda _, logs: np.ones(logs.shape, bool), np.zeros(rows[0].size))

    def parameter_rate(self, *numbers: Any) -> np.ndarray:
        """Return the derivative of a statistic by a parameter of φ.

        The last four arguments are the statistic's name, what is fixed of it, the number of the
        parameter, and the order of the derivative.
        """
        *given, name, fixed, leaf, order = numbers
        leaves, tree = jax.tree.flatten(self.phi)
        rows = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (*leaves, *given)))
        both = jax.tree.structure((self.phi, tuple(given)))

        def records(chosen: np.ndarray, moved: np.ndarray) -> list[np.ndarray]:
            new = [np.repeat(row[chosen], moved.shape[1]) for row in rows]
            new[leaf] = moved.ravel()
            return new

        def at(chosen: np.ndarray, moved: np.ndarray) -> np.ndarray:
            def statistic(phi: Any, numbers: Any) -> Any:
                return getattr(phi, name)(*numbers, *fixed)

            return answered(statistic, 0.0, both, records(chosen, moved)).reshape(moved.shape)

        def legal(chosen: np.ndarray, moved: np.ndarray) -> np.ndarray:
            phi = tree.unflatten(records(chosen, moved)[: len(leaves)])
            return np.broadcast_to(phi.legal(), moved.size).reshape(moved.shape)

        return derivative(at, legal, np.array(rows[leaf]), order)

    def separation(self, q1: Any, q2: Any, epsilon: Any, s: Any, t: Any) -> np.ndarray:
        return self.height**2 * self._unequal(q1, q2, epsilon, s, t).separation
