"""The networks of a training: where each lies on its grid, and what theory says of it.

A store has one chunk for each network: what it did before the first epoch and after every one.
"""

import dataclasses
import itertools
from typing import Any

import numpy as np

from meanfield.activations import Activation
from meanfield.depth import depth_scales
from meanfield.errors import Status
from meanfield.layers import Dense
from meanfield.sweep.config import BIAS_AXES, WEIGHT_AXES
from meanfield.sweep.grid import STATE, Grid, attributes
from meanfield.sweep.points import activation_of
from meanfield.sweep.store import Layout
from meanfield.training.spec import Ensemble, Protocol, TrainingSpec

SCORES = {
    "loss": ("loss", "mean cross entropy of an epoch's batches, of all images before the first"),
    "accuracy": ("accuracy", "part of the test set that is classified rightly"),
}
DEPTH = {"xi_c": ("ξ_c", "depth scale of correlations")}
# The factor s of `meanfield.training.network`.
INPUTS = "inputs"
Values = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Network:
    """One network to be trained; `number` is that of its chunk, `point` its place on the axes."""

    number: int
    activation: int
    point: int
    depth: int
    ensemble: Ensemble
    protocol: Protocol
    seed: int


class TrainingGrid:
    """What a training computes."""

    def __init__(self, spec: TrainingSpec) -> None:
        self.spec = spec
        self._theory = Grid(spec.theory)
        self.kinds = {
            "depth": ("L", "number of hidden layers", spec.depths),
            "ensemble": ("ensemble", "distribution of the weights", spec.ensembles),
            "protocol": ("protocol", "what becomes of parameters", spec.protocols),
            "seed": ("seed", "number of the random numbers", tuple(range(spec.seeds))),
        }
        # As of axes: what is one value, not a list, has no dimension.
        single = {
            "depth": not isinstance(spec.depth, tuple),
            "ensemble": not isinstance(spec.ensemble, tuple),
            "protocol": not spec.schedule,
        }
        self._lists = [name for name in self.kinds if not single.get(name, False)]
        self.dims = (*self._theory.dims, *self._lists, "epoch")
        lengths = [len(self.kinds[name][2]) for name in self._lists]
        self.shape = (*self._theory.shape, *lengths, spec.epochs + 1)
        self.known = [self._solved(index) for index in range(len(spec.activations))]

    def _solved(self, index: int) -> Values:
        """Return the points of the axes of an activation, and what theory says of them."""
        whole = [slice(0, len(self.spec.values(name))) for name in self._theory.axes]
        lead = [slice(index, index + 1)] if self._theory.has_activation_dim else []
        points = self._theory.points(index, (*lead, *whole))
        found = self._theory.evaluate((*lead, *whole))
        known = points | {name: value.ravel() for name, value in found.items()}
        good = np.flatnonzero(known["status"] == Status.OK)
        at = {name: value[good] for name, value in points.items()}
        phi = activation_of(self._theory.spec, index, at)
        for name in (INPUTS, *DEPTH):
            known[name] = np.full(known["status"].shape, np.nan)
        # (q* - σb²)/σw² would cancel where biases are all there is.
        known[INPUTS][good] = np.sqrt(Dense(phi, 1.0, 0.0).variance(known["q"][good]))
        known["status"][known[INPUTS] == 0] = Status.NO_SOLUTION
        if not self.spec.on:
            sigma_w, sigma_b = _deviation(known, *WEIGHT_AXES), _deviation(known, *BIAS_AXES)
            known["xi_c"][good] = depth_scales(Dense(phi, sigma_w[good], sigma_b[good])).xi_c
        return known

    @property
    def networks(self) -> list[Network]:
        """All networks, in the order of their chunks."""
        points = range(len(self.known[0]["status"]))
        kinds = (range(len(self.known)), points, *(values for *_, values in self.kinds.values()))
        places: Any = enumerate(itertools.product(*kinds))
        return [Network(number, *place) for number, place in places]

    def status(self, network: Network) -> Status:
        """Return whether theory knows how a network is initialised."""
        return Status(int(self.known[network.activation]["status"][network.point]))

    def scales(self, network: Network) -> tuple[float, float, float]:
        """Return σw, σb, and s of `meanfield.training.network` of a network."""
        known = self.known[network.activation]
        values = (_deviation(known, *WEIGHT_AXES), _deviation(known, *BIAS_AXES), known[INPUTS])
        sigma_w, sigma_b, factor = (float(value[network.point]) for value in values)
        return sigma_w, sigma_b, factor

    def activation(self, network: Network, epoch: int) -> Activation:
        """Return the activation of a network in an epoch, from 1; in epoch 0 nothing has moved."""
        known = self.known[network.activation]
        params = {name: float(values[network.point]) for name, values in known.items()}
        if network.protocol == "scheduled" and epoch > 0:
            for name, ramp in self.spec.schedule.items():
                params[name] = float(ramp.values(params[name], self.spec.epochs)[epoch - 1])
        return activation_of(self._theory.spec, network.activation, params)

    @property
    def layout(self) -> Layout:
        """What its store holds."""
        chunks = (*(1 for _ in self.shape[:-1]), self.shape[-1])
        variables = {name: attributes(*words) for name, words in SCORES.items()}
        return Layout(self._coords(), variables, self.dims, self.shape, chunks)

    def _coords(self) -> dict[str, Any]:
        coords = self._theory.coords()
        for name, (symbol, words, values) in self.kinds.items():
            array = np.array(values)
            if array.dtype.kind == "U":
                array = array.astype(np.dtypes.StringDType())
            listed = name in self._lists
            coords[name] = (
                (name,) if listed else (),
                array if listed else array.reshape(()),
                attributes(symbol, words),
            )
        described = {name: STATE[name] for name in ("q", "sigma_w", "sigma_b")}
        described |= {} if self.spec.on else DEPTH
        for name, words in described.items():
            if name not in coords:
                values = np.array([known[name] for known in self.known])
                dims, shape = self._theory.dims, self._theory.shape
                coords[name] = dims, values.reshape(shape), attributes(*words)
        epochs = np.arange(self.spec.epochs + 1)
        coords["epoch"] = (("epoch",), epochs, attributes("epoch", "epochs of training"))
        return coords


def _deviation(values: Values, deviation: str, variance: str) -> np.ndarray:
    return np.sqrt(values[variance]) if variance in values else values[deviation]
