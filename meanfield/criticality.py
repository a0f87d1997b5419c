"""The edge of chaos: where the correlation map has slope one at c = 1.

A dense layer with activation φ sends the variance q of its pre-activations to

    V(q) = σw² E φ(√q z)² + σb²,

and its correlation map has, at c = 1, the slope χ(q) = σw² E φ'(√q z)². The network is critical
when V(q) = q and χ(q) = 1 [1, 2]. Both conditions are linear in (σw², σb²), so every variance
q names exactly one candidate,

    σw²(q) = 1 / E φ'²,        σb²(q) = (q E φ'² - E φ²) / E φ'².                    (*)

`critical_point` evaluates (*); `edge_of_chaos` inverts its second half for the smallest q, and
`edge_branches` for all of them. There is no fixed-point iteration, so the edge is as accurate as
expectations are. `edge_curve` follows (*) along q: where the edge begins and turns back in σb, and
where V'(q) passes 1. Beyond such a half-stable point V repels from the edge: that of GELU is
unstable below σb = 0.416 [3].

For a scale-invariant φ (ReLU, |x|, x) the second half of (*) vanishes identically: the edge is
one point, σb = 0, and every variance is fixed there.

References
----------
[1] B. Poole et al., Exponential expressivity in deep neural networks through transient
    chaos, NeurIPS 2016, arXiv:1606.05340.
[2] S. Schoenholz et al., Deep information propagation, ICLR 2017, arXiv:1611.01232.
[3] D. Roberts, S. Yaida, B. Hanin, The principles of deep learning theory, 2022,
    arXiv:2106.10165.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._elementwise import NON_NEGATIVE, POSITIVE, asked, elementwise, namespace
from meanfield._struct import concrete, elements, flattened, on_host, struct
from meanfield.activations.base import Activation, ActivationLike, as_activation, single_activation
from meanfield.arguments import legal_number, number, untraced
from meanfield.edge_batch import edges
from meanfield.errors import MeanFieldError, Status
from meanfield.method import Method, completed, size_of, uses_table
from meanfield.rootfind import (
    all_roots,
    close_brackets,
    implicit,
    scan_all,
    sign_changes,
)
from meanfield.tabulation import families
from meanfield.typing import Array, ScalarLike

# Critical variances are looked for on this grid in log q, from σb² upwards; where σb = 0,
# from SMALLEST.
SMALLEST, LARGEST = 1e-10, 1e16
GRID_STEP = 0.2
# Points of that grid where all branches are looked for, and the grid of `edge_curve`.
BRANCH_GRID_SIZE = 232
CURVE_GRID = np.linspace(np.log(1e-8), np.log(1e8), 369)
# A double root is where the excess or a slope touches 0 to this: rounding.
ROUNDING = 1e-13
# What is smaller than this along the curve is rounding, and so is V' this close to 1.
VISIBLE = 1e-9
STEADY = 1e-9
# Where σb = 0, what is below this fraction of q is rounding.
FAINT = 1e-16
# The limit as q vanishes is read off here.
FAINTEST = 1e-30
# A table of the edge pays for so many networks that share it.
PER_TABLE = 32
# φ' vanishes at 0 if E φ'² falls by this as q falls from SMALLEST to FAINTEST.
VANISHING = 1e-3
# φ is scale-invariant if q E φ'² = E φ² at all of these.
LEVELS = (1e-6, 1.0, 1e6)


@struct
class CriticalPoint:
    """A critical network: variance `q`, its standard deviations, `slope` V'(q), a status."""

    q: Array
    sigma_w: Array
    sigma_b: Array
    slope: Array
    status: Array


def critical_point(phi: ActivationLike, q: ScalarLike) -> CriticalPoint:
    """Return the critical network whose fixed-point variance is q > 0.

    Arguments broadcast. The status is NO_SOLUTION where (*) asks for a negative bias variance
    or φ jumps, NOT_CONVERGED where an expectation is unresolved. Differentiable.
    """
    return _critical_point(as_activation(phi), q)


@elementwise(host=True, q=POSITIVE)
def _critical_point(phi: Activation, q: ScalarLike) -> CriticalPoint:
    return _candidate(phi, q)


def _candidate(phi: Activation, q: Any) -> CriticalPoint:
    xp = namespace(q)
    mean_slope = phi.slope_moment(q, 2)
    bias_variance = phi.edge_deficit(q) / mean_slope
    sigma_w = 1 / xp.sqrt(mean_slope)
    # The inner condition keeps the derivative of the root finite where it is 0.
    positive = bias_variance > 0
    sigma_b = xp.where(positive, xp.sqrt(xp.where(positive, bias_variance, 1.0)), 0.0)
    slope = phi.variance_slope(q) / mean_slope
    resolved = xp.isfinite(sigma_w) & xp.isfinite(bias_variance) & xp.isfinite(slope)
    status = xp.where(
        xp.isinf(mean_slope) | (mean_slope == 0) | (resolved & (bias_variance < 0)),
        Status.NO_SOLUTION,
        xp.where(resolved, Status.OK, Status.NOT_CONVERGED),
    )
    return _masked(CriticalPoint(q, sigma_w, sigma_b, slope, status))


def _masked(point: CriticalPoint) -> CriticalPoint:
    xp = namespace(point.q)
    ok = point.status == Status.OK
    numbers = (point.q, point.sigma_w, point.sigma_b, point.slope)
    return CriticalPoint(
        *(xp.where(ok, x, xp.nan) for x in numbers), status=point.status.astype(np.int8)
    )


def _excess(t: Array, arguments: tuple[Activation, Array]) -> Array:
    """Return what σb²(q) has above the one that is wanted, relative to q = exp(t)."""
    phi, wanted = arguments
    q = jnp.exp(t)
    return (phi.edge_deficit(q) / phi.slope_moment(q, 2) - wanted) / q


def edge_of_chaos(
    phi: ActivationLike, sigma_b: ScalarLike, method: Method = "auto"
) -> CriticalPoint:
    """Return the critical network with biases of standard deviation `sigma_b` >= 0.

    Arguments broadcast. Where several exist, it is the one of smallest q. Two of them whose q
    differ by less than a fifth may be overlooked; `edge_branches` finds these too. For an
    activation that is scale-invariant every q is fixed at σb = 0, and q = 1 stands for them;
    where the edge starts at q = 0 (σb = 0, tanh), q is 0. The status is NO_SOLUTION where no edge
    exists at this σb, NOT_CONVERGED where the search met an unresolved expectation or σb > 3e6.
    Differentiable by the implicit function theorem for σb > 0.

    The `method` is "quadrature", milliseconds a network; "table", which reads q off a table of φ
    (`meanfield.tabulate`), microseconds each, and solves by itself what is not settled so; or
    "auto", which takes the table for 256 networks and more of one φ, unless they are traced. Both
    agree to 1e-10.
    """
    phi = as_activation(phi)
    sigma_b = legal_number("sigma_b", sigma_b, NON_NEGATIVE)
    numbers = (sigma_b, *jax.tree.leaves(phi))
    size = size_of(*numbers)

    def obstacle() -> str:
        if not concrete(*numbers):
            return "parameters are traced"
        few = method == "auto" and size < PER_TABLE * len(
            families(flattened((phi, sigma_b))[0][0], size)[0]
        )
        return "too few networks share a table" if few else ""

    if not uses_table(method, size, obstacle):
        return _edge_of_chaos(phi, sigma_b)
    return _read_edge(phi, np.asarray(sigma_b, dtype=float))


def _read_edge(phi: Activation, sigma_b: np.ndarray) -> CriticalPoint:
    """Return the edge by a table where that settles it."""
    (phi, sigma_b), shape = flattened((phi, sigma_b))
    certain = (sigma_b > 0) & (sigma_b**2 <= LARGEST / 1e3)
    found = edges(phi, np.where(certain, sigma_b, 1.0))
    q, slope, status = (jnp.asarray(x) for x in (found.q, found.slope, found.status))
    point = _masked(CriticalPoint(q, 1 / jnp.sqrt(found.mean), jnp.asarray(sigma_b), slope, status))
    sure = np.asarray(found.sure) & certain
    point = completed(point, sure, lambda record: _edge_of_chaos(*record), (phi, sigma_b))
    return jax.tree.map(lambda x: jnp.asarray(x).reshape(shape), point)


def _edges(phi: Any, sigma_b: np.ndarray) -> CriticalPoint:
    """Return `_edge_of_chaos` of numbers."""
    wanted = sigma_b**2

    def excess(places: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        part, q = phi.pick(np.repeat(places, t.shape[1])), np.exp(t).ravel()
        bias, _ = part.edge_bias(q)
        over = (bias - np.repeat(wanted[places], t.shape[1])) / q
        return over.reshape(t.shape), np.full(t.shape, np.nan)

    # q* = σw² E φ² + σb² is at least σb²: below, the excess is negative.
    start = np.log(np.where(wanted > 0, wanted, SMALLEST))
    count = np.ceil((np.log(LARGEST) - start) / GRID_STEP)
    jumps = np.isinf(phi.slope_moment(np.ones_like(sigma_b), 2))
    everywhere, from_zero = _at_zero(phi, wanted)
    settled = jumps | everywhere | from_zero
    step = np.full(wanted.shape, GRID_STEP)
    seen = scan_all(excess, start, step, np.where(settled, -1, count))
    t = close_brackets(
        lambda places, t: excess(places, t[:, None])[0][:, 0],
        *(np.where(seen.found, x, 0.0) for x in seen[:4]),
    )
    # What is found beyond a stretch that is not resolved need not be the smallest.
    crosses = seen.found & ~seen.blind
    q = np.where(everywhere, 1.0, np.where(crosses, np.exp(t), FAINTEST))
    point = _candidate(phi, q)
    exists = everywhere | from_zero | crosses
    beyond = wanted > LARGEST / 1e3
    absent = np.where((seen.blind | beyond) & ~jumps, Status.NOT_CONVERGED, Status.NO_SOLUTION)
    return _masked(
        CriticalPoint(
            q=np.where(from_zero, 0.0, q),  # pyright: ignore[reportArgumentType]
            sigma_w=point.sigma_w,
            sigma_b=sigma_b,  # pyright: ignore[reportArgumentType]
            slope=point.slope,
            status=np.where(exists, point.status, absent),  # pyright: ignore[reportArgumentType]
        )
    )


def _at_zero(phi: Any, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return whether, at σb = 0, every variance is critical, and whether the edge starts at 0.

    It does not start there where φ' vanishes at 0: σw would be infinite.
    """
    ones = np.ones_like(wanted)
    invariant = _invariant(phi, ones)
    least, slope = phi.slope_moment(SMALLEST * ones, 2), phi.slope_moment(FAINTEST * ones, 2)
    starts = phi.edge_deficit(SMALLEST * ones) >= -FAINT * SMALLEST * least
    starts &= slope > VANISHING * least
    return (wanted == 0) & invariant, (wanted == 0) & ~invariant & starts


def _invariant(phi: Any, ones: np.ndarray) -> np.ndarray:
    invariant = np.ones(ones.shape, dtype=bool)
    for level in LEVELS:
        q = level * ones
        invariant &= (phi.edge_deficit(q) == 0) & (phi.slope_moment(q, 2) > 0)
    return invariant


def _is_invariant(phi: Any) -> np.ndarray:
    return _invariant(phi, np.ones(1))


@elementwise(host=_is_invariant)
def is_scale_invariant(phi: Activation) -> Array:
    """Return whether φ(tx) = t φ(x) for t > 0, as far as q E φ'² = E φ² > 0 shows it."""
    return asked(_is_invariant, np.bool_(False), phi)


@elementwise(host=_edges, sigma_b=NON_NEGATIVE)
def _edge_of_chaos(phi: Activation, sigma_b: ScalarLike) -> CriticalPoint:
    found = asked(_edges, CriticalPoint(0.0, 0.0, 0.0, 0.0, np.int8(0)), phi, sigma_b)  # pyright: ignore[reportArgumentType]
    known, from_zero = found.status == Status.OK, found.q == 0
    sigma_b = jnp.asarray(sigma_b, dtype=float)
    t = jnp.log(jnp.where(known & ~from_zero, found.q, FAINTEST))
    # Where every variance is critical, none moves with the parameters.
    t = implicit(_excess, t, (phi, jnp.square(sigma_b)), flat=ROUNDING)
    point = _candidate(phi, jnp.exp(t))
    numbers = (jnp.where(from_zero, 0.0, point.q), point.sigma_w, sigma_b, point.slope)
    return CriticalPoint(
        *(jnp.where(known, x, jnp.nan) for x in numbers),  # pyright: ignore[reportArgumentType]
        status=found.status,
    )


@untraced
def edge_branches(phi: ActivationLike, sigma_b: ScalarLike) -> CriticalPoint:
    """Return every critical network with biases of standard deviation `sigma_b` >= 0.

    Arguments broadcast; the fields have one axis more than they, in ascending q, as long as the
    longest list of branches. Shorter lists end in NaN with status NO_SOLUTION; the only entry of
    a list without branches has the status of `edge_of_chaos`. Where two branches meet, the point
    is listed once. q = 0 and q = 1 stand for what they do in `edge_of_chaos`. Variances up to 1e16
    are searched; stretches with unresolved expectations are passed over. For activations of
    numbers, not inside `jax.jit`; `edge_of_chaos` is the differentiable one.
    """
    phi = as_activation(phi)
    sigma_b = np.asarray(legal_number("sigma_b", sigma_b, NON_NEGATIVE), dtype=float)
    pairs, shape = elements((phi, sigma_b))
    lists = [_branches(*pair) for pair in pairs]
    longest = max(points.q.size for points in lists)

    def padded(values: np.ndarray) -> np.ndarray:
        none = Status.NO_SOLUTION if values.dtype == np.int8 else np.nan
        return np.pad(values, (0, longest - values.size), constant_values=none)

    rows = [jax.tree.map(padded, points) for points in lists]
    # To place an array compiles nothing.
    return jax.tree.map(lambda *xs: jax.device_put(np.stack(xs).reshape(*shape, longest)), *rows)


def _branches(phi: Activation, sigma_b: ScalarLike) -> CriticalPoint:
    wanted = float(np.asarray(sigma_b)) ** 2

    def excess(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        line, q = on_host(_along(phi, t)), np.exp(t)
        excess = (line.bias_variance - wanted) / q
        return excess, line.bias_slope - excess

    first = on_host(edge_of_chaos(phi, sigma_b))
    start = np.log(wanted if wanted > 0 else SMALLEST)
    roots = all_roots(excess, np.linspace(start, np.log(LARGEST), BRANCH_GRID_SIZE), ROUNDING)
    q = [math.exp(root.at) for root in roots]
    if first.status != Status.OK and not q:
        return jax.tree.map(lambda x: x[None], first)
    if first.q in (0.0, 1.0) and wanted == 0:
        # Such a q stands for a limit or for all; near it there is rounding.
        aside = [np.abs(excess(np.log(x) + np.array([-0.3, 0.3]))[0]).max() for x in q]
        seen = [x for x, size in zip(q, aside, strict=True) if size > FAINT]
        q = [] if first.q == 1 else seen
    elif q and first.status == Status.OK:
        # One of them is `first`.
        q.remove(min(q, key=lambda x: abs(np.log(x / float(first.q)))))
    rest = on_host(critical_point(phi, np.asarray(q)))
    rest = dataclasses.replace(rest, sigma_b=np.full(len(q), float(np.asarray(sigma_b))))
    points = jax.tree.map(lambda x, xs: np.concatenate([x[None], xs]), first, rest)
    # Two branches that are close may lie before the first, or where it saw none.
    points = jax.tree.map(lambda x: x[int(first.status != Status.OK) :], points)
    return jax.tree.map(lambda x: x[np.argsort(points.q)], points)


@struct
class _Line:
    """The edge along q: σb²(q), its derivative, and V'(q) - 1."""

    bias_variance: Array
    bias_slope: Array
    instability: Array


def _line(phi: Any, t: np.ndarray) -> _Line:
    """Return `_along` of numbers."""
    q = np.exp(t)
    value, slope = phi.edge_bias(q)
    return _Line(value, slope, phi.variance_slope(q) / phi.slope_moment(q, 2) - 1)


@elementwise(host=_line)
def _along(phi: Activation, t: ScalarLike) -> _Line:
    def bias_variance(q: Array) -> Array:
        return phi.edge_deficit(q) / phi.slope_moment(q, 2)

    q = jnp.exp(jnp.asarray(t))
    value, slope = jax.jvp(bias_variance, (q,), (jnp.ones_like(q),))
    return _Line(value, slope, phi.variance_slope(q) / phi.slope_moment(q, 2) - 1)


@struct
class EdgeCurve:
    """The edge of chaos as a curve over the variance, and its marked points.

    `curve` holds the critical point of each variance asked for, and `stable` whether V attracts
    there. The marked points are ascending in q and may be none: the `ends`, where σb = 0; the
    `folds`, where σb has an extremum along the curve, so that branches meet; the `half_stable`
    points, where V'(q) = 1.
    """

    curve: CriticalPoint
    stable: Array
    ends: CriticalPoint
    folds: CriticalPoint
    half_stable: CriticalPoint


@untraced
def edge_curve(phi: ActivationLike, q: ScalarLike | None = None) -> EdgeCurve:
    """Return the edge of chaos at the variances `q` > 0, by default 161 from 1e-4 to 1e4.

    Marked points are looked for from 1e-8 to 1e8, whatever `q` is. For one activation with
    parameters that are numbers; not for use inside `jax.jit`. Where (*) has no solution, the
    status of that point says so.
    """
    phi = single_activation(phi)
    grid = np.geomspace(1e-4, 1e4, 161) if q is None else np.atleast_1d(number("q", q))
    if grid.ndim > 1:
        raise MeanFieldError(
            f"q of shape {grid.shape} is not legal; it must be a list of variances"
        )
    curve = on_host(critical_point(phi, grid))
    stable = (curve.status == Status.OK) & (np.abs(curve.slope) < 1 - STEADY)
    line = on_host(_along(phi, CURVE_GRID))

    def turns(name: str) -> CriticalPoint:
        def marked(t: np.ndarray) -> np.ndarray:
            return getattr(on_host(_along(phi, t)), name)

        roots = sign_changes(marked, CURVE_GRID, getattr(line, name), VISIBLE)
        return _existing(on_host(critical_point(phi, np.exp(roots))))

    ends = _existing(on_host(edge_branches(phi, 0.0)))
    return EdgeCurve(curve, stable, ends, turns("bias_slope"), turns("instability"))


def _existing(points: CriticalPoint) -> CriticalPoint:
    return jax.tree.map(lambda x: x[points.status == Status.OK], points)
