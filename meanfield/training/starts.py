"""How the networks of a training begin: where axes say, or as initialisations are called.

torch           weights and biases uniform on ±1/√N_in in every layer, the default of PyTorch's
                `Linear`: σw² = 1/3, σb² = 1/(3 N_in)
edge_of_chaos   σw and σb on the edge of chaos, those that `meanfield recommend` chooses for the
                depth
shaped          φ shaped for the depth, with σw = 1 and σb = 0: the cure of `meanfield recommend`
                (`meanfield.shaping.tat`)
"""

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from meanfield._struct import on_host
from meanfield.activations import Activation
from meanfield.depth import depth_scales
from meanfield.errors import Status
from meanfield.fixedpoint import steady_state
from meanfield.layers import Dense
from meanfield.recommendation import CURVATURE, chosen_network
from meanfield.shaping import tat
from meanfield.sweep.config import BIAS_AXES, WEIGHT_AXES
from meanfield.sweep.grid import STATE, Grid, attributes
from meanfield.sweep.points import activation_of
from meanfield.training.network import TORCH, TORCH_VARIANCE
from meanfield.training.spec import Initialisation, TrainingSpec

# The factor s of `meanfield.training.network`.
INPUTS = "inputs"
DEPTH = {"xi_c": ("ξ_c", "depth scale of correlations")}
Values = dict[str, np.ndarray]


class Starts(Protocol):
    """The points at which networks begin, each activation's in a row."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    known: list[Values]
    """By activation, vectors over its points: q, σ's, s, the status, and what `described` names."""
    described: dict[str, tuple[str, str]]
    """Symbol and words of what a dataset says of the points."""

    def coords(self) -> dict[str, Any]:
        """Return (dims, values, attributes) of the coordinates that tell points apart."""
        ...

    def activation(self, index: int, point: int, moved: Mapping[str, float]) -> Activation:
        """Return an activation at a point, some of its parameters moved."""
        ...

    def named(self, point: int) -> str | None:
        """Return what the initialisation of a point is called, None where axes say what it is."""
        ...


def starts(spec: TrainingSpec) -> Starts:
    """Return the points at which the networks of a training begin."""
    return ByName(spec) if spec.initialisations else OnAxes(spec)


class OnAxes:
    """The points of the axes."""

    def __init__(self, spec: TrainingSpec) -> None:
        self._grid = Grid(spec.theory)
        self.dims, self.shape = self._grid.dims, self._grid.shape
        self.described = {name: STATE[name] for name in ("q", "sigma_w", "sigma_b")}
        self.described |= {} if spec.on else DEPTH
        self.known = [self._solved(index) for index in range(len(spec.activations))]

    def _solved(self, index: int) -> Values:
        """Return the points of the axes of an activation, and what theory says of them."""
        whole = [slice(0, len(self._grid.spec.values(name))) for name in self._grid.axes]
        lead = [slice(index, index + 1)] if self._grid.has_activation_dim else []
        points = self._grid.points(index, (*lead, *whole))
        found = self._grid.evaluate((*lead, *whole))
        known = points | {name: value.ravel() for name, value in found.items()}
        good = np.flatnonzero(known["status"] == Status.OK)
        at = {name: value[good] for name, value in points.items()}
        phi = activation_of(self._grid.spec, index, at)
        for name in (INPUTS, *DEPTH):
            known[name] = np.full(known["status"].shape, np.nan)
        known[INPUTS][good] = _scale(phi, known["q"][good])
        known["status"][known[INPUTS] == 0] = Status.NO_SOLUTION
        if "xi_c" in self.described:
            sigma_w, sigma_b = deviation(known, *WEIGHT_AXES), deviation(known, *BIAS_AXES)
            known["xi_c"][good] = depth_scales(Dense(phi, sigma_w[good], sigma_b[good])).xi_c
        return known

    def coords(self) -> dict[str, Any]:
        return self._grid.coords()

    def activation(self, index: int, point: int, moved: Mapping[str, float]) -> Activation:
        params = {name: float(values[point]) for name, values in self.known[index].items()}
        return activation_of(self._grid.spec, index, {**params, **moved})

    def named(self, point: int) -> str | None:  # noqa: ARG002
        return None


class ByName:
    """One point for each initialisation."""

    def __init__(self, spec: TrainingSpec) -> None:
        self._names = spec.initialisations
        columns = (
            ("activation", "φ", "activation function", [one.label for one in spec.activations]),
            ("initialisation", "initialisation", "how networks begin", self._names),
        )
        # As of axes: what is one value, not a list, has no dimension.
        listed = (len(spec.activations) > 1, isinstance(spec.initialisation, tuple))
        self.dims = tuple(name for (name, *_), many in zip(columns, listed, strict=True) if many)
        self._coords: dict[str, Any] = {}
        for (name, symbol, words, texts), many in zip(columns, listed, strict=True):
            array = np.array(texts, np.dtypes.StringDType())
            array = array if many else array.reshape(())
            self._coords[name] = ((name,) * many, array, attributes(symbol, words))
        self.shape = tuple(len(self._coords[name][1]) for name in self.dims)
        self.described = {name: STATE[name] for name in ("q", "sigma_w", "sigma_b", "chi")}
        given = [one.make(**one.params) for one in spec.activations]
        found = [[_begin(phi, name, spec) for name in self._names] for phi in given]
        self._activations = [[phi for phi, _ in row] for row in found]
        self.known = [
            {name: np.array([values[name] for _, values in row]) for name in row[0][1]}
            for row in found
        ]

    def coords(self) -> dict[str, Any]:
        return dict(self._coords)

    def activation(self, index: int, point: int, moved: Mapping[str, float]) -> Activation:  # noqa: ARG002
        return self._activations[index][point]

    def named(self, point: int) -> str | None:
        return self._names[point]


def _begin(
    phi: Activation, name: Initialisation, spec: TrainingSpec
) -> tuple[Activation, dict[str, Any]]:
    """Return the activation with which a network begins, and what theory says of it there."""
    depth, status, q = spec.depths[0], Status.OK, math.nan
    sigma_w = sigma_b = scale = math.nan
    if name == TORCH:
        sigma_w, sigma_b, scale = TORCH_VARIANCE**0.5, (TORCH_VARIANCE / spec.width) ** 0.5, 1.0
        # Where its variances settle nowhere, PyTorch begins all the same.
        state = on_host(steady_state(Dense(phi, sigma_w, sigma_b)))
        q = float(state.q) if state.status == Status.OK else math.nan
    elif name == "shaped":
        shaped = tat(phi, depth, curvature=CURVATURE)
        status = shaped.status
        if status == Status.OK:
            phi, sigma_w, sigma_b, q = shaped.activation, 1.0, 0.0, 1.0
    else:
        point = chosen_network(phi, depth, None)
        status = Status.NO_SOLUTION if point is None else Status.OK
        if point is not None:
            sigma_w, sigma_b, q = float(point.sigma_w), float(point.sigma_b), float(point.q)
    settled = math.isfinite(q)
    if settled and name != TORCH:
        scale = float(_scale(phi, q))
        status = status if scale > 0 else Status.NO_SOLUTION
    chi = sigma_w**2 * float(phi.slope_moment(q, 2)) if settled else math.nan
    numbers = {"q": q, "sigma_w": sigma_w, "sigma_b": sigma_b, "chi": chi, INPUTS: scale}
    return phi, numbers | {"status": np.int8(status)}


def _scale(phi: Activation, q: Any) -> np.ndarray:
    """Return s of networks that begin at q; (q* - σb²)/σw² would cancel where biases are all."""
    return np.sqrt(np.asarray(Dense(phi, 1.0, 0.0).variance(q)))


def deviation(values: Values, deviation: str, variance: str) -> np.ndarray:
    """Return σw, or σb, of points that have it or its square."""
    return np.sqrt(values[variance]) if variance in values else values[deviation]
