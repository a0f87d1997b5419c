"""Functions on intervals as Chebyshev series, cell by cell.

On a cell [a, b], with x = -1 at a and 1 at b, f(x) = Σ_k c_k T_k(x). The c_k follow from the values
at the roots of T_n; how small the last of them are says how well n terms do [1].

References
----------
[1] L. N. Trefethen, Approximation theory and approximation practice, SIAM 2013.
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from meanfield.typing import Array

# Terms of a series.
TERMS = 16
# So many of the last terms tell the error.
TAIL = 2
# Half the stretches on which a derivative is sought, as parts of max(|x|, 1).
STRETCHES = (0.1, 0.02, 0.004, 8e-4)
# Values that a derivative takes, each of which may be dear.
FEW = 10
# The part of the largest coefficient that the last ones are where no shorter stretch is tried, and
# that by which a series may miss a value that it does not use.
CERTAIN, MISSED = 1e-13, 1e-11
# The errors that first and later derivatives may have: as a part of f, and of themselves.
ERRORS = {1: (1e-10, 1e-9), 2: (1e-8, 1e-7)}
# Gauss-Legendre nodes for integrals of series times smooth weights.
LEGENDRE = 24


@functools.cache
def roots(terms: int = TERMS) -> np.ndarray:
    """Return the roots of T_n, ascending."""
    return -np.cos(np.pi * (np.arange(terms) + 0.5) / terms)


def nodes(edges: np.ndarray) -> np.ndarray:
    """Return the nodes of cells between ascending edges, shape (cells, TERMS)."""
    low, width = edges[:-1, None], np.diff(edges)[:, None]
    return low + width * (1 + roots()) / 2


@functools.cache
def transform(terms: int = TERMS) -> np.ndarray:
    """Return the matrix from values at the roots to coefficients."""
    matrix = np.cos(np.outer(np.arange(terms), np.arccos(roots(terms)))) * 2 / terms
    matrix[0] /= 2
    return matrix


def interpolation(x: np.ndarray) -> np.ndarray:
    """Return the matrix from values at the roots to those of the series at x in [-1, 1]."""
    return np.polynomial.chebyshev.chebvander(np.clip(x, -1, 1), TERMS - 1) @ transform()


def locate(edges: Array, x: Array) -> tuple[Array, Array]:
    """Return the cell that holds x, and where x is in it, from -1 to 1."""
    cell = jnp.clip(jnp.searchsorted(edges, x, side="right") - 1, 0, edges.size - 2)
    low, high = edges[cell], edges[cell + 1]
    return cell, (2 * x - low - high) / (high - low)


def series(coefficients: Array, x: Array) -> Array:
    """Return Σ_k c_k T_k(x), the c_k along the last axis."""
    return series_and_slope(coefficients, x)[0]


def series_and_slope(coefficients: Array, x: Array) -> tuple[Array, Array]:
    """Return the sum of a series and its derivative by x, by Clenshaw's recurrence."""
    after, last, slope_after, slope_last = (jnp.zeros_like(x) for _ in range(4))
    for k in range(TERMS - 1, 0, -1):
        slope_after, slope_last = slope_last, 2 * x * slope_last + 2 * last - slope_after
        after, last = last, coefficients[..., k] + 2 * x * last - after
    return coefficients[..., 0] + x * last - after, last + x * slope_last - slope_after


def derivative(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray],
    legal: Callable[[np.ndarray, np.ndarray], np.ndarray],
    x: np.ndarray,
    order: int = 1,
) -> np.ndarray:
    """Return d^n f/dx^n of functions that are analytic in x, at the numbers x.

    function(places, moved) returns the values of those at some places where x is moved, shape
    (places, moves), and legal(places, moved) whether x may be so: where it may not on both sides,
    the derivative is one-sided. It is NaN where the last coefficients of series on short stretches
    still count, or series miss f(x), and from the eighth on.
    """
    if order > FEW - 1 - TAIL:
        return np.full(x.size, np.nan)
    # T_k and its derivative in the middle of a stretch, at its start and at its end.
    at, terms = np.array([0.0, -1.0, 1.0]), np.eye(FEW)
    values = np.polynomial.chebyshev.chebval(at, terms).T
    slopes = np.polynomial.chebyshev.chebval(at, np.polynomial.chebyshev.chebder(terms, order)).T
    steepest = np.abs(slopes[:, -TAIL:]).max(axis=1)
    of_f, of_itself = ERRORS[min(order, 2)]
    ends = np.array([[-1.0, 1.0], [0.0, 2.0], [-2.0, 0.0]])
    found, doubt, left = np.full(x.size, np.nan), np.full(x.size, np.inf), np.arange(x.size)
    for stretch in STRETCHES:
        half = stretch * np.maximum(np.abs(x[left]), 1.0)
        within = [legal(left, x[left, None] + half[:, None] * end).all(axis=1) for end in ends]
        side = np.argmax(within, axis=0)
        centre = (x[left] - half * at[side])[:, None]
        moved = np.append(centre + half[:, None] * roots(FEW), x[left, None], axis=1)
        known = function(left, moved)
        coefficients = known[:, :-1] @ transform(FEW).T
        largest = np.abs(coefficients).max(axis=1)
        tail = np.abs(coefficients[:, -TAIL:]).max(axis=1)
        miss = np.abs((coefficients * values[side]).sum(axis=1) - known[:, -1])
        rate = (coefficients * slopes[side]).sum(axis=1) / half**order
        error = tail * steepest[side] / half**order
        sound = np.any(within, axis=0) & (miss <= MISSED * largest)
        sound &= error <= of_f * largest + of_itself * np.abs(rate)
        better = sound & (error < doubt[left])
        found[left[better]], doubt[left[better]] = rate[better], error[better]
        left = left[~(sound & (tail <= CERTAIN * largest))]
        if not left.size:
            break
    return found


def running_integral(edges: np.ndarray, weight: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the matrix from values of f at all nodes to ∫ f(t) weight(t) dt from the first edge.

    The integral is that to the same nodes, without cancellation where f and the weight have none.
    """
    x, w = np.polynomial.legendre.leggauss(LEGENDRE)
    cells = edges.size - 1
    matrix = np.zeros((cells, TERMS, cells, TERMS))
    whole = np.zeros((cells, TERMS))

    def rows(cell: int, stop: np.ndarray) -> np.ndarray:
        """Return the row for the integral from the edge of a cell to each `stop` in [-1, 1]."""
        half = (edges[cell + 1] - edges[cell]) / 2
        places = -1 + (stop[:, None] + 1) * (x + 1) / 2
        t = edges[cell] + half * (places + 1)
        scaled = weight(t) * w * half * (stop[:, None] + 1) / 2
        return np.einsum("sx,sxk->sk", scaled, interpolation(places))

    for cell in range(cells):
        matrix[cell, :, :cell] = whole[:cell]
        matrix[cell, :, cell] = rows(cell, roots())
        whole[cell] = rows(cell, np.ones(1))[0]
    return matrix.reshape(cells * TERMS, cells * TERMS)
