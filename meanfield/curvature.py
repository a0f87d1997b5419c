"""How does a network bend a curve of inputs?

A circle of inputs at the fixed variance q, with velocity v and acceleration a along it, has the
extrinsic metric g = v·v and the curvature κ² = (a·a)/(v·v)² - (v·a)²/(v·v)³. Divided by the
width N they pass through a layer as [1]

    ḡ' = χ1 ḡ,        κ̄²' = 3 χ2/χ1² + κ̄²/χ1,        χ2 = σw² E φ''²,

from ḡ = q and κ̄² = 1/q (κ̄² = N κ²). Length grows by √χ1; the length of the Gauss map,
L = √(κ̄² ḡ) in units of the circle's 2π, grows in the chaotic phase like χ1^{l/2} and stays finite
in the ordered one. A kinked φ bends at a point, and has χ2 = ∞.

References
----------
[1] B. Poole et al., Exponential expressivity in deep neural networks through transient
    chaos, NeurIPS 2016, arXiv:1606.05340.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._elementwise import POSITIVE, elementwise
from meanfield._struct import struct
from meanfield.arguments import count
from meanfield.errors import MeanFieldError, Status
from meanfield.fixedpoint import steady_state
from meanfield.layers import Dense
from meanfield.typing import Array, ScalarLike


@struct
class Curvature:
    """What becomes of a circle of inputs, layer by layer along the last axis.

    `metric` is ḡ, `curvature` κ̄² and `gauss_length` the length of the Gauss map over 2π. `chi2`
    is χ2, and `limit` what κ̄² tends to (inf in the ordered phase and on the edge).
    """

    metric: Array
    curvature: Array
    gauss_length: Array
    chi2: Array
    limit: Array
    status: Array


def curvature_propagation(layer: Dense, depth: int, q0: ScalarLike = 1.0) -> Curvature:
    """Return metric and curvature of a circle of inputs at the steady state that q0 reaches.

    The layer's parameters and q0 broadcast; the per-layer fields have an axis of length
    depth + 1 more, the inputs first. Curvatures of kinked φ are inf. Under dropout all inputs
    share a mask. The status is that of `steady_state`, or NONFINITE where χ1 is 0 or infinite,
    NOT_CONVERGED where χ2 is unresolved.
    """
    if not isinstance(layer, Dense):
        raise MeanFieldError(f"layer = {layer!r} is not legal; it must be a Dense layer")
    return _propagate(layer, q0, count("depth", depth, 0))


def _followed(layer: Any, q0: np.ndarray, depth: int) -> Curvature:
    """Return `_propagate` of numbers."""
    state = steady_state(layer, q0)
    chi2 = layer.sigma_w**2 / layer.keep * layer.phi.curvature_moment(state.q)
    bad = np.where(np.isnan(chi2), Status.NOT_CONVERGED, Status.NONFINITE)
    sound = np.isfinite(state.chi) & (state.chi > 0) & ~np.isnan(chi2)
    status = np.where((state.status == Status.OK) & ~sound, bad, state.status).astype(np.int8)
    known = status == Status.OK
    chi, chi2, q = (np.where(known, x, np.nan) for x in (state.chi, chi2, state.q))
    bent = [(q, 1 / q)]
    for _ in range(depth):
        metric, curvature = bent[-1]
        bent.append((chi * metric, 3 * chi2 / chi**2 + curvature / chi))
    metric, curvature = (np.stack(part, axis=1) for part in zip(*bent, strict=True))
    limit = np.where(chi > 1, 3 * chi2 / (chi * (chi - 1)), np.inf)
    limit = np.where(known, limit, np.nan)
    numbers = metric, curvature, np.sqrt(curvature * metric), chi2, limit, status
    return Curvature(*numbers)  # pyright: ignore[reportArgumentType]


@elementwise("depth", host=_followed, q0=POSITIVE)
def _propagate(layer: Dense, q0: ScalarLike, depth: int) -> Curvature:
    state = steady_state(layer, q0)
    chi = state.chi
    chi2 = jnp.square(layer.sigma_w) / layer.keep * layer.phi.curvature_moment(state.q)
    bad = jnp.where(jnp.isnan(chi2), Status.NOT_CONVERGED, Status.NONFINITE)
    sound = jnp.isfinite(chi) & (chi > 0) & ~jnp.isnan(chi2)
    status = jnp.where((state.status == Status.OK) & ~sound, bad, state.status).astype(jnp.int8)
    known = status == Status.OK
    chi, chi2, q = (jnp.where(known, x, jnp.nan) for x in (chi, chi2, state.q))

    def step(bent: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        metric, curvature = bent
        after = chi * metric, 3 * chi2 / chi**2 + curvature / chi
        return after, after

    first = q, 1 / q
    _, rest = jax.lax.scan(step, first, length=depth)
    metric, curvature = (jnp.concatenate([x[None], xs]) for x, xs in zip(first, rest, strict=True))
    limit = jnp.where(chi > 1, 3 * chi2 / (chi * (chi - 1)), jnp.inf)
    limit = jnp.where(known, limit, jnp.nan)
    return Curvature(metric, curvature, jnp.sqrt(curvature * metric), chi2, limit, status)
