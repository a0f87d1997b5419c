"""Where do variances and correlations settle, in one network or in many?

One network is solved by itself (`meanfield.fixedpoint`), many of one activation are read off its
table (`meanfield.batch`), and what that does not know is solved by itself.
"""

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._elementwise import POSITIVE
from meanfield._struct import concrete, flattened, pick
from meanfield.arguments import legal_number
from meanfield.batch import EACH, Settled, settle
from meanfield.devices import chunk
from meanfield.fixedpoint import (
    CorrelationFixedPoint,
    SteadyState,
    limit_correlation,
    steady_state,
)
from meanfield.layers import Dense, Layer
from meanfield.method import Method, completed, in_pieces, size_of, uses_table
from meanfield.table import Tabulated
from meanfield.tabulation import distinct, joined, tabulate
from meanfield.typing import Array, ScalarLike

Limits = tuple[SteadyState, CorrelationFixedPoint]


def correlation_fixed_point(
    layer: Layer, q0: ScalarLike = 1.0, method: Method = "auto"
) -> CorrelationFixedPoint:
    """Return the stable fixed point of the correlation map at the steady state of q0.

    On the edge and in the ordered phase it is c = 1. The status is that of the steady state,
    or NOT_CONVERGED. Differentiable where c < 1. The `method` is that of `limits`.
    """
    return limits(layer, q0, method)[1]


def limits(layer: Layer, q0: ScalarLike = 1.0, method: Method = "auto") -> Limits:
    """Return where the variance that starts at q0 > 0, and then correlations, settle.

    All arguments broadcast. The `method` is "quadrature", some milliseconds a network; "table",
    microseconds each for dense networks without dropout and one q0, after the table of their
    activation has been made; or "auto", which takes the table for 256 networks and more of one
    activation, unless they are traced. Both agree to 1e-10 in q, and to 1e-9 in 1 - c.
    """
    q0 = legal_number("q0", q0, POSITIVE)
    numbers = (q0, *jax.tree.leaves(layer))
    if uses_table(method, size_of(*numbers), lambda: _obstacle(layer, q0, method)):
        return _read(cast(Dense, layer), q0)
    state = steady_state(layer, q0)
    return state, limit_correlation(layer, state)


def _obstacle(layer: Layer, q0: ScalarLike, method: Method) -> str:
    """Return why networks cannot be read off a table, or do not pay to be, if so."""
    if not isinstance(layer, Dense) or isinstance(layer.phi, Tabulated):
        return "the layer is not a Dense one of an activation"
    if not concrete(q0, *jax.tree.leaves(layer)):
        return "parameters are traced"
    if np.ndim(q0):
        return "q0 is not a single number"
    if np.any(np.asarray(layer.keep) != 1):
        return f"a table knows no dropout, keep = {layer.keep}"
    flat, shape = flattened(layer)
    kinds = distinct(flat.phi, int(np.prod(shape)))
    if method == "auto" and not uses_table("auto", int(np.prod(shape)) // len(kinds), str):
        return "too few networks share a table"
    return ""


def _read(layer: Dense, q0: ScalarLike) -> Limits:
    flat, shape = flattened(layer)
    kinds = distinct(flat.phi, int(np.prod(shape)))
    parts = [
        read_limits(tabulate(kind.one, ("moments", "acute")), pick(flat, kind.places), q0)
        for kind in kinds
    ]
    return jax.tree.map(lambda x: jnp.asarray(x).reshape(shape), joined(kinds, parts))


def read_limits(phi: Tabulated, layer: Dense, q0: ScalarLike) -> Limits:
    """Return where networks of one activation settle, vectors, by its table if that knows."""

    def settled(networks: tuple[Array, Array]) -> Settled:
        return settle(phi, *networks, q0)

    def solve(layer: Dense) -> Limits:
        state = steady_state(layer, q0)
        return state, limit_correlation(layer, state)

    networks = layer.sigma_w, layer.sigma_b
    found = in_pieces(settled, networks, chunk(np.size(layer.sigma_w), EACH))
    state = SteadyState(found.q, found.slope, found.chi, found.status)
    limit = CorrelationFixedPoint(
        1.0 - found.epsilon, found.epsilon, found.correlation_slope, found.status
    )
    return completed((state, limit), found.sure, solve, layer)
