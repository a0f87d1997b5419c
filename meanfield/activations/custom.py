"""Any callable as an activation, its kinks given or found.

A quadrature rule that does not know of a kink converges like h² and never reaches rounding,
so kinks are searched for: φ, φ' and φ'' are sampled on a fine grid; in a smooth cell the
increment is the mean of its neighbours' up to O(h³), and a cell that deviates is cut again
and again. A jump stays whole in one part as the cell shrinks to rounding; a smooth feature,
however steep, spreads evenly over the parts in the end.
"""

import warnings
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._struct import static, struct
from meanfield.activations.base import Activation, derivative
from meanfield.errors import MeanFieldError, MeanFieldWarning
from meanfield.typing import Array, ScalarLike

# The grid: even cells of this width out to NEAR, then growing ones out to FAR.
CELL = 2.9e-4
NEAR = 12.0
FAR = 1e4
# A cell is suspicious when its increment deviates by this fraction of the local values.
SUSPICION = 1e-8
# Every round cuts each suspicious cell into this many; after ROUNDS it is at rounding.
PARTS = 32
ROUNDS = 7
# More suspicious cells, or more kinks, than this are not taken for an answer.
MANY_CELLS = 5000
MANY_KINKS = 12
# Variances at which the rules are compared with a plain sum over the even grid.
CHECKED = (0.05, 0.5, 2.0)
# A smooth feature narrower than this is not resolved by the rules either.
NARROW = 1e-4


@struct
class Custom(Activation):
    """A callable with its kinks."""

    function: Callable[[Array], Array] = static()
    locations: tuple[ScalarLike, ...] = ()
    label: str = static(default="custom")

    def __call__(self, x: Array) -> Array:
        return self.function(x)

    def kinks(self) -> tuple[ScalarLike, ...]:
        return self.locations


def from_callable(
    function: Callable[[Array], Array],
    kinks: Sequence[ScalarLike] | None = None,
    label: str | None = None,
) -> Activation:
    """Return an activation that evaluates `function`.

    Parameters
    ----------
    function : elementwise, written with jax.numpy.
    kinks : where φ, φ' or φ'' jumps. None: they are found. Given ones are kept, and a jump
        that they leave out is warned of.
    label : a name for messages and tables; by default the function's own.

    Raises
    ------
    MeanFieldError : the function is not elementwise or JAX cannot trace it, or a kink is not
        a finite number.

    Warns
    -----
    MeanFieldWarning : the search is not sure, or given kinks leave out a jump.
    """
    name = label or getattr(function, "__name__", "custom")
    _check_callable(function, name)
    given = None
    if kinks is not None:
        given = tuple(sorted(float(k) for k in kinks))
        if not np.all(np.isfinite(given)):
            raise MeanFieldError(f"kinks = {given} is not legal; it must be finite numbers")
        if len(given) > MANY_KINKS:
            raise MeanFieldError(f"{len(given)} kinks are not legal; at most {MANY_KINKS} are")
    found, doubts = find_kinks(function)
    doubts += _missed(Custom(function, found if given is None else given, name))
    if given is None:
        for doubt in doubts:
            warnings.warn(f"kinks of {name}: {doubt}; give them: kinks=(...)", MeanFieldWarning, 2)
        return Custom(function, found, name)
    idle = [g for g in given if not any(abs(k - g) <= 1e-6 * max(1, abs(k)) for k in found)]
    if idle:
        doubts.append(f"nothing is seen to jump at {idle}")
    missing = [k for k in found if not any(abs(k - g) <= 1e-6 * max(1, abs(k)) for g in given)]
    if missing:
        doubts.append(f"it also has kinks at {missing}, which kinks={given} leaves out")
    for doubt in doubts:
        warnings.warn(f"kinks of {name}: {doubt}", MeanFieldWarning, stacklevel=2)
    return Custom(function, given, name)


def _check_callable(function: Callable[[Array], Array], name: str) -> None:
    if not callable(function):
        raise MeanFieldError(f"function = {function!r} is not legal; it must be callable")
    probe = jnp.linspace(-1.3, 1.7, 6).reshape(2, 3)
    try:
        value, slope = jax.jvp(function, (probe,), (jnp.ones_like(probe),))
    except Exception as error:  # a user's function may raise anything
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise MeanFieldError(
            f"{name} is not legal; it must be a differentiable elementwise function written "
            f"with jax.numpy ({reason})"
        ) from error
    if isinstance(value, jax.Array) and jnp.isnan(value).any():
        raise MeanFieldError(
            f"{name} is not legal; it must be a number everywhere, but is NaN at "
            f"x = {probe[jnp.isnan(value)][0]:.3g}"
        )
    elementwise = isinstance(value, jax.Array) and value.shape == probe.shape
    elementwise = elementwise and all(
        jnp.allclose(function(x.reshape(1, 1)), y, rtol=1e-12, atol=1e-300, equal_nan=True)
        for x, y in zip(probe.ravel(), value.ravel(), strict=True)
    )
    if not elementwise:
        raise MeanFieldError(
            f"{name} is not legal; it must be elementwise: act on each number by itself"
        )
    if not jnp.issubdtype(jnp.result_type(slope), jnp.floating):
        raise MeanFieldError(
            f"{name} is not legal; it must be elementwise and return floating-point numbers"
        )


def find_kinks(function: Callable[[Array], Array]) -> tuple[tuple[float, ...], list[str]]:
    """Return where φ, φ' or φ'' jumps, and what the search is not sure of."""
    found: list[float] = []
    doubts: list[str] = []
    for f in _derivatives(function):
        new, narrow, many = _find_jumps(f)
        for kink in new:
            if not any(abs(kink - known) <= 1e-9 * max(1, abs(kink)) for known in found):
                found.append(kink)
        if many:
            doubts.append("it varies faster than the search can follow")
        if narrow:
            doubts.append(f"it is smooth but varies within {NARROW:g} near x = {narrow[0]:.6g}")
    if len(found) > MANY_KINKS:
        doubts.append(f"{len(found)} jumps were seen, more than the {MANY_KINKS} that are kept")
        found = sorted(found, key=abs)[:MANY_KINKS]
    return tuple(sorted(found)), list(dict.fromkeys(doubts))


def _missed(phi: Activation) -> list[str]:
    """Return in words whether the rules disagree with a plain sum over the search grid."""
    grid = _grid()
    grid = jnp.asarray(grid[np.abs(grid) < NEAR])
    for q in CHECKED:
        weights = CELL * jnp.exp(-(grid**2) / (2 * q)) / np.sqrt(2 * np.pi * q)
        moments = {
            "E φ²": (phi.second_moment(q), phi(grid) ** 2),
            "E φ'²": (phi.slope_moment(q, 2), phi.slope(grid) ** 2),
        }
        for label, (certified, squares) in moments.items():
            value, plain = float(certified), float((squares * weights).sum())
            if np.isfinite(value) and not abs(value - plain) <= 1e-2 * abs(value) + 1e-12:
                return [
                    f"the rules miss a feature of it: {label} at q = {q:g} is {value:.6g}, "
                    f"but a plain sum gives {plain:.6g}"
                ]
    return []


def _derivatives(function: Callable[[Array], Array]) -> list[Callable[[np.ndarray], np.ndarray]]:
    def sampled(f: Callable[[Array], Array]) -> Callable[[np.ndarray], np.ndarray]:
        compiled = jax.jit(f)
        return lambda x: np.asarray(compiled(jnp.asarray(x)))

    first = derivative(function)
    return [sampled(f) for f in (function, first, derivative(first))]


def _find_jumps(f: Callable[[np.ndarray], np.ndarray]) -> tuple[list[float], list[float], bool]:
    """Return the jumps of f, its smooth but narrow features, and whether there are too many."""
    grid = _grid()
    values = f(grid)
    near = np.isfinite(values) & (np.abs(grid) < NEAR)
    typical = np.abs(values[near]).max(initial=0.0)
    with np.errstate(invalid="ignore"):
        steps = np.diff(values)
        expected = (steps[:-2] + steps[2:]) / 2
        local = np.maximum(np.maximum(np.abs(values[1:-2]), np.abs(values[2:-1])), typical)
        deviant = np.abs(steps[1:-1] - expected) > SUSPICION * local
    cells = 1 + np.flatnonzero(deviant)
    many = bool(np.count_nonzero(np.abs(grid[cells]) < NEAR) > MANY_CELLS)
    left, right = grid[cells], grid[cells + 1]
    narrow: list[float] = []
    for _ in range(ROUNDS):
        if not len(left):
            break
        cuts = left[:, None] + (right - left)[:, None] * np.linspace(0, 1, PARTS + 1)
        cuts[:, -1] = right
        values = f(cuts.ravel()).reshape(cuts.shape)
        # What a part moves more than its siblings: a jump keeps all of it in one part, a
        # smooth function spreads it evenly.
        steps = np.diff(values, axis=1)
        excess = np.abs(steps - np.median(steps, axis=1, keepdims=True))
        floor = 1e-2 * SUSPICION * np.maximum(np.abs(values).max(axis=1), typical)
        keep = (excess > excess.sum(axis=1, keepdims=True) / 8) & (excess > floor[:, None])
        steep = np.abs(values[:, -1] - values[:, 0]) > 1e-3 * typical
        narrow += list(left[~keep.any(axis=1) & steep & (right - left < NARROW / PARTS)])
        rows, columns = np.nonzero(keep)
        rows, columns = rows[: 2 * MANY_CELLS], columns[: 2 * MANY_CELLS]
        left, right = cuts[rows, columns], cuts[rows, columns + 1]
    jumps = [_simplest(float(a), float(b)) for a, b in zip(left, right, strict=True)]
    return jumps, narrow, many


def _grid() -> np.ndarray:
    even = np.arange(0.37 * CELL, NEAR, CELL)
    growing = NEAR * np.exp(np.linspace(0.0, np.log(FAR / NEAR), 2000))[1:]
    half = np.concatenate([even, growing])
    return np.concatenate([-half[::-1] - 0.19 * CELL, half])


def _simplest(left: float, right: float) -> float:
    """Return the number of fewest decimals within rounding of [left, right]."""
    slack = 1e-13 * max(1.0, abs(left))
    middle = (left + right) / 2
    for digits in range(16):
        candidate = round(middle, digits)
        if left - slack <= candidate <= right + slack:
            return candidate + 0.0
    return middle
