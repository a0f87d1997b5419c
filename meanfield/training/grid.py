"""The networks of a training: where each lies on its grid, and what theory says of it.

A store has one chunk for each network: what it did before the first epoch and after every one.
"""

import dataclasses
import itertools
import math
from typing import Any

import numpy as np

from meanfield.activations import Activation
from meanfield.errors import Status
from meanfield.sweep.grid import Grid, attributes
from meanfield.sweep.store import Layout
from meanfield.training.spec import Ensemble, Protocol, TrainingSpec

SCORES = {
    "loss": ("loss", "mean cross entropy of the training set"),
    "accuracy": ("accuracy", "part of the test set that is classified rightly"),
}
# What theory says of a network, beside its axes.
THEORY = ("q", "sigma_w", "sigma_b", "xi_c")
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
        self.points, self.known = self._solved()

    def _solved(self) -> tuple[list[Values], list[Values]]:
        """Return, by activation, the points of the axes and what theory says of them."""
        points, known = [], []
        for index in range(len(self.spec.activations)):
            whole = [slice(0, len(self.spec.values(name))) for name in self._theory.axes]
            lead = [slice(index, index + 1)] if self._theory.has_activation_dim else []
            at = self._theory.points(index, (*lead, *whole))
            found = self._theory.evaluate((*lead, *whole))
            points.append(at)
            known.append(at | {name: value.ravel() for name, value in found.items()})
        for values in known:
            for deviation, variance in (
                ("sigma_w", "weight_variance"),
                ("sigma_b", "bias_variance"),
            ):
                if variance in values:
                    values[deviation] = np.sqrt(values[variance])
        return points, known

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
        """Return σw, σb, and the factor s of `meanfield.training.network` of a network."""
        values = self.known[network.activation]
        q, sigma_w, sigma_b = (
            float(values[name][network.point]) for name in ("q", "sigma_w", "sigma_b")
        )
        return sigma_w, sigma_b, math.sqrt(max(q - sigma_b**2, 0.0)) / sigma_w

    def activation(self, network: Network, epoch: int) -> Activation:
        """Return the activation of a network in an epoch, from 1; in epoch 0 nothing has moved."""
        spec = self.spec.activations[network.activation]
        params = {
            name: float(values[network.point])
            for name, values in self.points[network.activation].items()
            if name in spec.parameters()
        }
        if network.protocol == "scheduled" and epoch > 0:
            for name, ramp in self.spec.schedule.items():
                params[name] = float(ramp.values(params[name], self.spec.epochs)[epoch - 1])
        return spec.make(**params)

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
        described = self._theory.variables()
        for name in THEORY:
            if name in described:
                values = np.array([known[name] for known in self.known])
                coords[name] = (
                    self._theory.dims,
                    values.reshape(self._theory.shape),
                    described[name],
                )
        epochs = np.arange(self.spec.epochs + 1)
        coords["epoch"] = (("epoch",), epochs, attributes("epoch", "epochs of training"))
        return coords
