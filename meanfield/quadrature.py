"""Double-exponential rules on a half line and on a finite panel.

Both are trapezoidal sums in a variable t after a change of variables whose derivative
decays doubly exponentially at every end where the integrand stops abruptly [1]:

    half line   x(t) = L log(1 + exp(p)),     p = t - exp(-(t + T)),
    panel       x(t) = 1 / (1 + exp(-p)),     p = t + 2 exp(-T) sinh(t).

Towards an end the nodes are spaced evenly in log x down to the scale exp(-T), so that a
feature of that width at an end is seen together with the whole: T, the *grading*, is the
logarithm of the ratio of the two. Away from its end the half-line rule has evenly spaced
nodes, which suits a Gaussian weight.

For an integrand that is analytic between the ends, a rule of step h is in error by
exp(-C/h): halving the step squares the error. Every rule can therefore be thinned to its
every second node (step 2h) and to every fourth (4h), and what these sums miss says how far
the full one is to be trusted; see `Sums`.

References
----------
[1] H. Takahasi and M. Mori, Double exponential formulas for numerical integration, Publ.
    RIMS Kyoto Univ. 9 (1974) 721-741.
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from meanfield._struct import struct
from meanfield.errors import MeanFieldError
from meanfield.typing import Array, ScalarLike

# Where the half-line rule passes from logarithmic to even spacing.
KNEE = 2.0
# The half-line rule ends here: exp(-z²/2) is 3e-56, and a summand that is still visible
# there betrays an expectation that is infinite or beyond the rule's reach.
REACH = 16.0
# exp(-exp(3.5)) = 4e-15 of the finest scale is left out at a graded end.
TAIL = 3.5
# Gradings run from 0 to one below this: features down to exp(-23) = 1e-10 of the whole.
GRADINGS = 24
# An estimated error above this fraction of the scale means "unresolved".
TOLERANCE = 3e-9


@struct
class Rule:
    """Nodes and weights, padded with weightless nodes to a multiple of four.

    The number of true nodes is 4m + 1, so that the mirror image of a rule thins to the mirror
    images of its thinned rules.
    """

    nodes: Array
    weights: Array


def half_line(grading: ScalarLike, size: int) -> Rule:
    """Return a rule of `size` = 4m + 1 nodes on (0, `REACH`), graded towards 0."""
    return _graded(_half_line_table(size), grading)


def panel(grading: ScalarLike, size: int) -> Rule:
    """Return a rule of `size` = 4m + 1 nodes on (0, 1), graded towards both ends."""
    return _graded(_panel_table(size), grading)


def _graded(table: tuple[np.ndarray, np.ndarray], grading: ScalarLike) -> Rule:
    # Gradings are whole numbers, so that rules are looked up and not computed: looking up
    # costs nothing, neither when compiling nor when running.
    row = jnp.clip(jnp.ceil(grading), 0, GRADINGS - 1).astype(int)
    nodes, weights = (jnp.asarray(values)[row] for values in table)
    return Rule(nodes, weights)


@functools.cache
def _half_line_table(size: int) -> tuple[np.ndarray, np.ndarray]:
    def rule(grading: int) -> tuple[np.ndarray, np.ndarray]:
        t, step = _steps(-grading - TAIL, REACH / KNEE, size)
        decay = np.exp(-(t + grading))
        p = t - decay
        return KNEE * np.logaddexp(0.0, p), step * KNEE * _logistic(p) * (1 + decay)

    return _table(rule)


@functools.cache
def _panel_table(size: int) -> tuple[np.ndarray, np.ndarray]:
    def rule(grading: int) -> tuple[np.ndarray, np.ndarray]:
        t, step = _steps(-grading - TAIL, grading + TAIL, size)
        flatness = 2 * np.exp(-grading)
        p = t + flatness * np.sinh(t)
        weights = step * _logistic(p) * _logistic(-p) * (1 + flatness * np.cosh(t))
        return _logistic(p), weights

    return _table(rule)


def _logistic(p: np.ndarray) -> np.ndarray:
    decay = np.exp(-np.abs(p))
    return np.where(p >= 0, 1.0, decay) / (1 + decay)


def _steps(start: float, stop: float, size: int) -> tuple[np.ndarray, float]:
    if size % 4 != 1:
        raise MeanFieldError(f"size = {size} is not legal; it must be 4m + 1")
    step = (stop - start) / (size - 1)
    return start + step * np.arange(size), step


def _table(
    rule: Callable[[int], tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    rows = [np.pad(rule(grading), ((0, 0), (0, 3))) for grading in range(GRADINGS)]
    nodes, weights = np.stack(rows, axis=1)
    return nodes, weights


@struct
class Sums:
    """An integral by a rule of step h, and how far its thinned rules are from it."""

    value: Array
    half: Array
    """The largest deviation of a rule of step 2h, over all ways to thin."""
    quarter: Array
    """The same for the rules of step 4h."""

    def certified(self, scale: ScalarLike) -> Array:
        """Return the value, or NaN where its error may exceed `TOLERANCE` × `scale`.

        With δ and Δ the deviations at 2h and 4h, the error is estimated as δ·min(1, δ/Δ). For
        analytic integrands, where halving the step squares the error (δ = Δ²), the error
        itself is about δ², far below. Where an unseen kink makes the sums converge like a power
        of h, both deviations rarely are small at once.
        """
        ratio = self.half / jnp.where(self.quarter > 0, self.quarter, 1.0)
        error = self.half * jnp.minimum(1.0, ratio)
        return jnp.where(error <= TOLERANCE * scale, self.value, jnp.nan)


def line_sums(summands: Array) -> Sums:
    """Add up the summands f(x_i)·w_i of concatenated rules."""
    s = summands.reshape(-1, 4).sum(axis=0)
    even, odd = s[0] + s[2], s[1] + s[3]
    value = even + odd
    return Sums(value, jnp.abs(even - odd), _spread([4 * s[i] for i in range(4)], value))


def plane_sums(summands: Array) -> Sums:
    """Add up a product rule, given as (outer node, inner node modulo 4) partial sums."""
    s = summands.reshape(-1, 4, 4).sum(axis=0)
    halves = [
        4 * (s[i, j] + s[i + 2, j] + s[i, j + 2] + s[i + 2, j + 2]) for i in (0, 1) for j in (0, 1)
    ]
    value = functools.reduce(jnp.add, halves) / 4
    quarters = [16 * s[i, j] for i in range(4) for j in range(4)]
    return Sums(value, _spread(halves, value), _spread(quarters, value))


def _spread(sums: list[Array], value: Array) -> Array:
    # Scalar by scalar, which compiles into one kernel with its surroundings.
    return functools.reduce(jnp.maximum, [jnp.abs(s - value) for s in sums])
