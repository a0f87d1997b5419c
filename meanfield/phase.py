"""The phase diagram of an activation: its networks over σw and σb [1, 2].

References
----------
[1] B. Poole et al., Exponential expressivity in deep neural networks through transient
    chaos, NeurIPS 2016, arXiv:1606.05340.
[2] S. Schoenholz et al., Deep information propagation, ICLR 2017, arXiv:1611.01232.
"""

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.typing import ArrayLike

from meanfield._struct import NON_NEGATIVE, POSITIVE, elementwise
from meanfield.activations.base import Activation, require_single
from meanfield.criticality import edge_curve
from meanfield.errors import MeanFieldError, Status, require
from meanfield.fixedpoint import steady_state
from meanfield.layers import Dense
from meanfield.observables import Point, observables
from meanfield.sweep.engine import STATE, attributes
from meanfield.sweep.store import status_attributes
from meanfield.typing import Array

# Pieces of a grid per processor.
PIECES = 4
# The edge beside a diagram: variances from, to, and how many.
EDGE = (1e-4, 1e4, 401)
VARIABLES = {
    **{name: STATE[name] for name in ("q", "slope", "chi")},
    "epsilon": ("1 - c*", "distance of the limit of correlations from 1"),
    **{
        name: (observables[name].symbol, observables[name].long_name)
        for name in ("xi_q", "xi_c", "xi_grad", "moment_ratio")
    },
}


def phase_diagram(
    phi: Activation, sigma_w: ArrayLike, sigma_b: ArrayLike, keep: float = 1.0, q0: float = 1.0
) -> xr.Dataset:
    """Return what becomes of signals and gradients over a grid of σw and σb.

    Parameters
    ----------
    phi : an activation whose parameters are numbers.
    sigma_w, sigma_b : one-dimensional arrays of standard deviations, ascending.
    keep : the probability with which dropout keeps a unit.
    q0 : the variance that the first layer receives.

    Returns
    -------
    A dataset with dimensions sigma_w and sigma_b: q, slope = V'(q), chi, epsilon = 1 - c*, the
    depth scales xi_q, xi_c and xi_grad, moment_ratio = E φ'⁴/(E φ'²)² and status. Numbers are NaN
    where the status is not OK. All processors work on it.
    """
    require_single(phi)
    if np.ndim(keep) or np.ndim(q0):
        raise MeanFieldError("keep and q0 must be single numbers here")
    axes = {"sigma_w": _axis("sigma_w", sigma_w), "sigma_b": _axis("sigma_b", sigma_b)}
    mesh = np.meshgrid(*axes.values(), indexing="ij")
    size, workers = mesh[0].size, os.cpu_count() or 1
    count = PIECES * workers
    length = -(-size // count)
    # Equal pieces, the last one padded, so that one compiled kernel serves them all.
    places = np.arange(count * length) % size
    flat = [values.ravel() for values in mesh]
    pieces = [Dense(phi, flat[0][p], flat[1][p], keep=keep) for p in places.reshape(count, -1)]
    # The first piece compiles, before any thread starts: XLA must not write one kernel into the
    # compilation cache while another runs.
    first = jax.block_until_ready(_numbers(pieces[0], q0))
    with ThreadPoolExecutor(workers) as pool:
        rest = pool.map(lambda piece: jax.block_until_ready(_numbers(piece, q0)), pieces[1:])
        results = [first, *rest]
    values = {
        name: np.concatenate([np.asarray(r[name]) for r in results])[:size].reshape(mesh[0].shape)
        for name in results[0]
    }
    dims = tuple(axes)
    data = {name: (dims, values[name], attributes(*labels)) for name, labels in VARIABLES.items()}
    data["status"] = (dims, values["status"], status_attributes())
    coords = {name: (name, axis, attributes(*STATE[name])) for name, axis in axes.items()}
    attrs = {
        "title": f"Phase diagram of {type(phi).__name__}",
        "keep": float(keep),
        "q0": float(q0),
    }
    return xr.Dataset(data, coords, attrs)


@elementwise(q0=POSITIVE)
def _numbers(layer: Dense, q0: float) -> dict[str, Array]:
    point = Point(layer, steady_state(layer, q0))
    state, limit, depths = point.state, point.correlation, point.depth_scales
    ratio = observables["moment_ratio"].function(point)
    values = {
        "q": state.q,
        "slope": state.slope,
        "chi": state.chi,
        "epsilon": limit.epsilon,
        "xi_q": depths.xi_q,
        "xi_c": depths.xi_c,
        "xi_grad": depths.xi_grad,
        "moment_ratio": ratio,
    }
    ok = limit.status == Status.OK
    return {k: jnp.where(ok, v, np.nan) for k, v in values.items()} | {"status": limit.status}


def _axis(name: str, values: ArrayLike) -> np.ndarray:
    axis = np.atleast_1d(np.asarray(values, dtype=float))
    require(NON_NEGATIVE[0](axis), name, axis, NON_NEGATIVE[1])
    if axis.ndim > 1 or axis.size == 0 or (np.diff(axis) <= 0).any():
        raise MeanFieldError(f"{name} = {values} is not legal; it must be an ascending list")
    return axis


def with_edge(diagram: xr.Dataset, phi: Activation, keep: float = 1.0) -> xr.Dataset:
    """Return a phase diagram with the curve χ1 = 1 of its activation beside it.

    It is a curve over its variance, the dimension `edge_q`: edge_sigma_w, edge_sigma_b,
    edge_slope = V'(q), NaN where there is none. Dropout, of which V and χ1 know the weight
    variance over `keep` alone, moves it to smaller weights.
    """
    line = edge_curve(phi, np.geomspace(*EDGE)).curve
    line = dataclasses.replace(line, sigma_w=line.sigma_w * np.sqrt(keep))
    labels = {
        "edge_sigma_w": ("σ_w", "standard deviation of weights on the edge of chaos"),
        "edge_sigma_b": ("σ_b", "standard deviation of biases on the edge of chaos"),
        "edge_slope": ("V'(q)", "slope of the variance map on the edge of chaos"),
    }
    data = {
        name: ("edge_q", np.asarray(getattr(line, name.removeprefix("edge_"))), attributes(*label))
        for name, label in labels.items()
    }
    attrs = attributes("q", "variance on the edge of chaos")
    return diagram.assign(data).assign_coords(edge_q=("edge_q", np.geomspace(*EDGE), attrs))
