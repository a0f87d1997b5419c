"""Two inputs through the layers of a network, one after another.

A pair is followed by itself, layer by layer, or by the table of its activation. Pairs of one
variance pass a layer together (`meanfield.rollout_batch`). Those of unequal variances go one by
one until both variances are fixed, and together from there on.
"""

import dataclasses
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._elementwise import PIECE, POSITIVE, elementwise, namespace
from meanfield._struct import concrete, flattened, pick, struct
from meanfield.activations.sampling import sampled
from meanfield.arguments import count
from meanfield.errors import Status, require
from meanfield.hermite import series
from meanfield.layers import Covariance, Dense, Layer, covariance_numbers
from meanfield.method import PAYS, Method, completed, in_parallel, size_of, uses_table
from meanfield.rollout_batch import FIXED, is_fixed, roll, room
from meanfield.separation import segments
from meanfield.table import Tabulated
from meanfield.tabulation import tabulate
from meanfield.typing import Array, ScalarLike

# Pairs that are rolled out by one kernel, if they are few and if they are many.
SHORT, LONG = 16, 512
# Layers of a pair that cost what a network does, if a Hermite series serves them.
SERVED = 64
# Layers that pairs of unequal variances pass between two looks at whether these are fixed.
SPAN = 64
# Variances that agree to so many digits have become one.
DIGITS = 11


@struct
class Rollout(Covariance):
    """Two inputs layer by layer along the last axis, and a `status` for each layer.

    It is OK; VANISHES from where a variance is 0, so that correlations mean nothing; NONFINITE from
    where one overflows; NOT_CONVERGED where an expectation is not resolved.
    """

    status: Array

    @classmethod
    def along(cls, path: Covariance) -> "Rollout":
        """Return the pairs of a path and what became of them."""
        q1, q2, epsilon = path.q1, path.q2, path.epsilon
        xp = namespace(q1, q2, epsilon)
        overflows = xp.cumsum(xp.isinf(q1) | xp.isinf(q2), axis=-1) > 0
        fades = (q1 == 0) | (q2 == 0)
        lost = xp.isnan(q1) | xp.isnan(q2) | xp.isnan(epsilon)
        status = xp.where(lost, Status.NOT_CONVERGED, Status.OK)
        status = xp.where(fades, Status.VANISHES, status)
        status = xp.where(overflows, Status.NONFINITE, status)
        return cls(q1, q2, epsilon, status.astype(np.int8))


def rollout(
    layer: Layer,
    q1: ScalarLike,
    q2: ScalarLike,
    q12: ScalarLike,
    depth: int,
    method: Method = "auto",
) -> Rollout:
    """Return the covariances of two inputs through `depth` repetitions of a layer.

    Parameters
    ----------
    layer : what is repeated.
    q1, q2, q12 : the covariance of the two inputs; q1, q2 > 0, |q12| ≤ √(q1 q2). Arguments
        broadcast, parameters of the layer included.
    depth : an integer >= 0.
    method : "quadrature", milliseconds for a pair and a layer; "table", which makes a table of the
        activation of one dense layer without dropout (`meanfield.tabulate`) and reads pairs off it,
        50 nanoseconds each where variances are fixed; or "auto", which takes the table for 256
        layers of pairs and more (16384 where φ is smooth), unless they are traced. What the table
        does not know is computed for each pair by itself. Both agree to 1e-9 a layer.

    Returns
    -------
    A `Rollout`: a `Covariance` of arrays whose last axis has length depth + 1, the inputs first,
    with a status. Its `epsilon` = 1 - c is relatively accurate at every depth.

    Raises `MeanFieldError` for what is not legal.
    """
    depth = count("depth", depth, 0)
    numbers = q1, q2, q12 = covariance_numbers(q1, q2, q12)
    size = size_of(*numbers) * depth
    worth = SERVED if PAYS <= size < PAYS * SERVED and _is_served(layer, *numbers) else 1
    if uses_table(method, -(-size // worth), lambda: _obstacle(layer, *numbers)):
        return _read(cast(Dense, layer), q1, q2, q12, depth)
    return _rollout(layer, q1, q2, q12, depth)


def _obstacle(layer: Layer, *numbers: ScalarLike) -> str:
    """Return why pairs cannot be read off a table, if so."""
    if not isinstance(layer, Dense):
        return "the layer is not a Dense one"
    leaves = jax.tree.leaves(layer)
    if not concrete(*leaves, *numbers):
        return "parameters are traced"
    if any(map(np.ndim, leaves)):
        return "the layer is not a single one"
    return "" if layer.keep == 1 else f"a table knows no dropout, keep = {layer.keep}"


def _is_served(layer: Layer, q1: ScalarLike, q2: ScalarLike, q12: ScalarLike) -> bool:
    """Return whether the Hermite series of φ has ended at the one variance of all pairs."""
    if _obstacle(layer, q1, q2, q12):
        return False
    variances = np.unique([*np.ravel(q1), *np.ravel(q2)])
    if variances.size > 1 or not POSITIVE[0](variances).all():
        return False
    own = series(sampled(cast(Dense, layer).phi), float(variances[0]))
    return own is not None and own.ended


def _read(layer: Dense, q1: ScalarLike, q2: ScalarLike, q12: ScalarLike, depth: int) -> Rollout:
    """Return the covariances of pairs by a table where that knows them."""
    (q1, q2, q12), shape = flattened((q1, q2, q12))
    q1, q2, q12 = (np.asarray(x) for x in (q1, q2, q12))
    require(POSITIVE[0](q1), "q1", q1, POSITIVE[1])
    require(POSITIVE[0](q2), "q2", q2, POSITIVE[1])
    equal = q1 == q2
    # Pairs of one variance know what an odd φ makes of -c.
    acute = layer.phi.odd and equal.all()
    phi = tabulate(layer.phi, ("moments", "acute" if acute else "obtuse"))
    tabulated = dataclasses.replace(layer, phi=phi)
    start = Covariance(q1, q2, np.asarray(Covariance.of(q1, q2, q12).epsilon))
    found = _unknown(start, depth)

    for q in np.unique(q1[equal]):
        places = np.flatnonzero(equal & (q1 == q))
        _fill(found, places, _together(tabulated, float(q), pick(start, places), depth))
    straight = segments(sampled(layer.phi)) if not equal.all() else None
    if straight is not None:
        tabulated = dataclasses.replace(
            layer, phi=dataclasses.replace(phi.bare(), segments=straight)
        )
    # Pairs of unequal variances take less by table if φ is smooth or straight between kinks.
    places = np.flatnonzero(~equal & (straight is not None or not layer.phi.cuts()))
    if places.size:
        _fill(found, places, _one_by_one(tabulated, pick(start, places), depth))

    def solve(numbers: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Covariance:
        rolled = _rollout(layer, *numbers, depth)
        return Covariance(rolled.q1, rolled.q2, rolled.epsilon)

    known = np.asarray(np.isfinite(found.epsilon).all(axis=1))
    found = completed(found, known, solve, (q1, q2, q12))
    rolled = Rollout.along(jax.tree.map(np.asarray, found))
    return jax.tree.map(lambda x: jnp.asarray(x).reshape(*shape, depth + 1), rolled)


def _unknown(start: Covariance, depth: int) -> Covariance:
    return jax.tree.map(lambda x: np.full((x.size, depth + 1), np.nan), start)


def _fill(found: Covariance, places: np.ndarray, part: Covariance, start: int = 0) -> None:
    """Write the paths of some pairs, from a layer on, into those of all."""
    for whole, values in zip(jax.tree.leaves(found), jax.tree.leaves(part), strict=True):
        stop = min(start + values.shape[1], whole.shape[1])
        whole[places, start:stop] = values[:, : stop - start]


def _together(layer: Dense, q: float, start: Covariance, depth: int) -> Covariance:
    """Return the paths of pairs that have all the variance q."""
    phi = cast(Tabulated, layer.phi).bare()
    fixed = bool(is_fixed(phi, layer.sigma_w, layer.sigma_b, q))

    def part(epsilon: Array) -> tuple[np.ndarray, np.ndarray]:
        line, pairs = roll(phi, layer.sigma_w, layer.sigma_b, q, epsilon, depth, fixed)
        return np.broadcast_to(line, pairs.shape), pairs

    length = LONG if np.size(start.epsilon) > SHORT else SHORT
    key = (roll, room(depth), fixed, length, jax.tree.structure(phi))
    variances, path = in_parallel(part, start.epsilon, length, key)
    return Covariance(variances, variances, path)


def _one_by_one(layer: Dense, start: Covariance, depth: int) -> Covariance:
    """Return the paths of pairs of unequal variances.

    What the table does not know on the way is NaN from there on.
    """
    found, left, done = _unknown(start, depth), np.arange(np.size(start.epsilon)), 0
    while done < depth and left.size:
        span = min(depth - done, SPAN)
        path = in_parallel(lambda pair, span=span: _stretch(layer, pair, span), start, PIECE)
        path = jax.tree.map(lambda x, span=span: x[:, : span + 1], path)
        _fill(found, left, path, done)
        start, done = jax.tree.map(lambda x: x[:, -1], path), done + span
        if done >= depth:
            break
        fixed = _are_fixed(layer, start)
        ends = np.where(fixed, np.round(np.log(start.q1), DIGITS), np.nan)
        for end in np.unique(ends[fixed]):
            part = pick(start, ends == end)
            q = float(np.asarray(part.q1)[0])
            _fill(found, left[ends == end], _together(layer, q, part, depth - done), done)
        go_on = ~fixed & np.isfinite(start.epsilon)
        start, left = pick(start, go_on), left[go_on]
    return found


def _are_fixed(layer: Dense, pair: Covariance) -> np.ndarray:
    phi = cast(Tabulated, layer.phi)
    fixed = np.asarray(is_fixed(phi.bare(), layer.sigma_w, layer.sigma_b, pair.q1))
    return fixed & (np.abs(pair.q1 - pair.q2) <= FIXED * pair.q1)


@elementwise("depth", host=True, q1=POSITIVE, q2=POSITIVE)
def _rollout(layer: Layer, q1: ScalarLike, q2: ScalarLike, q12: ScalarLike, depth: int) -> Rollout:
    return Rollout.along(_path(layer, Covariance.of(q1, q2, q12), depth))


def _steps(layer: Layer, start: Covariance, depth: int) -> Covariance:
    """Return `_path` of numbers."""
    pairs = [start]
    for _ in range(depth):
        pairs.append(layer.propagate(pairs[-1]))
    shape = np.shape(start.q1 + start.q2 + start.epsilon)
    return jax.tree.map(lambda *xs: np.stack([np.broadcast_to(x, shape) for x in xs], 1), *pairs)


@elementwise("depth", host=_steps)
def _path(layer: Layer, start: Covariance, depth: int) -> Covariance:
    def step(pair: Covariance, _: None) -> tuple[Covariance, Covariance]:
        next_ = layer.propagate(pair)
        return next_, next_

    _, path = jax.lax.scan(step, start, length=depth)
    return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start, path)


@elementwise()
def _stretch(layer: Layer, start: Covariance, layers: ScalarLike) -> Covariance:
    """Return the path of a pair through at most `SPAN` layers: one kernel serves all depths."""
    path = jax.tree.map(lambda x: jnp.zeros(SPAN + 1).at[0].set(x), start)

    def step(passed: Array, path: Covariance) -> Covariance:
        next_ = layer.propagate(jax.tree.map(lambda x: x[passed], path))
        return jax.tree.map(lambda whole, x: whole.at[passed + 1].set(x), path, next_)

    return jax.lax.fori_loop(0, jnp.asarray(layers, dtype=int), step, path)
