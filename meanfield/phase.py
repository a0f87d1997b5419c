"""The phase diagram of an activation: its networks over σw and σb [1, 2].

References
----------
[1] B. Poole et al., Exponential expressivity in deep neural networks through transient
    chaos, NeurIPS 2016, arXiv:1606.05340.
[2] S. Schoenholz et al., Deep information propagation, ICLR 2017, arXiv:1611.01232.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.typing import ArrayLike

from meanfield._elementwise import NON_NEGATIVE, POSITIVE, elementwise, namespace
from meanfield.activations.base import Activation, ActivationLike, single_activation
from meanfield.arguments import illegal, number, single, untraced
from meanfield.batch import EACH, Settled, settle
from meanfield.criticality import edge_curve
from meanfield.depth import scale
from meanfield.devices import chunk, count, threads
from meanfield.errors import Status, require
from meanfield.fixedpoint import steady_state
from meanfield.layers import PROBABILITY, Dense
from meanfield.method import Method, completed, in_parallel, uses_table
from meanfield.observables import Point, observables
from meanfield.sweep.grid import STATE, attributes
from meanfield.sweep.store import status_attributes
from meanfield.tabulation import tabulate
from meanfield.typing import Array

# Pieces of a grid per processor, of networks that are solved by themselves.
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


@untraced
def phase_diagram(
    phi: ActivationLike,
    sigma_w: ArrayLike,
    sigma_b: ArrayLike,
    keep: float = 1.0,
    q0: float = 1.0,
    method: Method = "auto",
) -> xr.Dataset:
    """Return what becomes of signals and gradients over a grid of σw and σb.

    Parameters
    ----------
    phi : an activation whose parameters are numbers.
    sigma_w, sigma_b : one-dimensional arrays of standard deviations, ascending.
    keep : the probability with which dropout keeps a unit.
    q0 : the variance that the first layer receives.
    method : "quadrature" solves every network by itself, some milliseconds each. "table" makes a
        table of the activation first (`meanfield.tabulate`) and reads all networks off it, a few
        microseconds each; what it does not settle is solved by itself.
        Both agree to 1e-10 in q and chi and to 1e-9 in epsilon. "auto" takes the table where
        there is one, for networks without dropout, and the grid has 256 points or more.

    Returns
    -------
    A dataset with dimensions sigma_w and sigma_b: q, slope = V'(q), chi, epsilon = 1 - c*, the
    depth scales xi_q, xi_c and xi_grad, moment_ratio = E φ'⁴/(E φ'²)² and status. Numbers are NaN
    where the status is not OK. All processors work on it.
    """
    phi = single_activation(phi)
    keep, q0 = single("keep", keep, PROBABILITY), single("q0", q0, POSITIVE)
    axes = {"sigma_w": _axis("sigma_w", sigma_w), "sigma_b": _axis("sigma_b", sigma_b)}
    mesh = np.meshgrid(*axes.values(), indexing="ij")
    flat = [values.ravel() for values in mesh]
    if uses_table(method, flat[0].size, lambda: _obstacle(keep)):
        found = _look_up(phi, flat[0], flat[1], q0)
    else:
        layer = Dense(phi, flat[0], flat[1], keep=keep)
        length = -(-flat[0].size // (PIECES * threads() * count()))
        found = in_parallel(lambda layer: _numbers(layer, q0), layer, length)
    values = {name: part.reshape(mesh[0].shape) for name, part in found.items()}
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


def _obstacle(keep: float) -> str:
    """Return why there can be no table, if so."""
    return "" if keep == 1 else f"a table knows no dropout, keep = {keep}"


def _look_up(
    phi: Activation, sigma_w: np.ndarray, sigma_b: np.ndarray, q0: float
) -> dict[str, np.ndarray]:
    """Return the numbers of networks without dropout by the table of their activation."""
    tabulated = tabulate(phi, ("moments", "acute"))

    layer = Dense(phi, sigma_w, sigma_b)

    def numbers(networks: tuple[Any, Any]) -> dict[str, Array]:
        return _read(settle(tabulated, *networks, q0))

    values = in_parallel(numbers, (sigma_w, sigma_b), chunk(sigma_w.size, EACH))
    sure = values.pop("sure")
    return completed(values, sure, lambda layer: _numbers(layer, q0), layer)


@jax.jit
def _read(settled: Settled) -> dict[str, Array]:
    return {
        **{name: getattr(settled, name) for name in ("q", "slope", "chi", "epsilon")},
        "xi_q": scale(jnp.abs(settled.slope)),
        "xi_c": scale(settled.correlation_slope),
        "xi_grad": scale(settled.chi),
        **{name: getattr(settled, name) for name in ("moment_ratio", "status", "sure")},
    }


@elementwise(host=True, q0=POSITIVE)
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
    xp = namespace(state.q)
    return {k: xp.where(ok, v, np.nan) for k, v in values.items()} | {"status": limit.status}


def _axis(name: str, values: ArrayLike) -> np.ndarray:
    axis = np.atleast_1d(np.asarray(number(name, values), dtype=float))
    require(NON_NEGATIVE[0](axis), name, axis, NON_NEGATIVE[1])
    if axis.ndim > 1 or axis.size == 0 or (np.diff(axis) <= 0).any():
        raise illegal(name, values, "an ascending list")
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
