"""The networks of a training: where each lies on its grid, and what theory says of it.

A store has one chunk for each network: what it did before the first epoch and after every one.
"""

import dataclasses
import itertools
from typing import Any

import numpy as np

from meanfield.activations import Activation
from meanfield.errors import Status
from meanfield.sweep.config import BIAS_AXES, WEIGHT_AXES
from meanfield.sweep.grid import attributes
from meanfield.sweep.store import Layout
from meanfield.training.network import TORCH, Drawing
from meanfield.training.spec import Protocol, TrainingSpec
from meanfield.training.starts import INPUTS, deviation, starts

SCORES = {
    "loss": ("loss", "mean cross entropy of an epoch's batches, of all images before the first"),
    "accuracy": ("accuracy", "part of the test set that is classified rightly"),
}
GRADIENT = {
    "gradient": (
        "|∂ℓ/∂h|",
        "gradient of the loss in the pre-activations of a layer, before training, root mean square "
        "of images",
    )
}


@dataclasses.dataclass(frozen=True)
class Network:
    """One network to be trained; `number` is that of its chunk, `point` its place on the axes."""

    number: int
    activation: int
    point: int
    depth: int
    ensemble: Drawing
    protocol: Protocol
    seed: int


class TrainingGrid:
    """What a training computes."""

    def __init__(self, spec: TrainingSpec) -> None:
        self.spec = spec
        self.starts = starts(spec)
        self.known = self.starts.known
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
        self.dims = (*self.starts.dims, *self._lists, "epoch")
        lengths = [len(self.kinds[name][2]) for name in self._lists]
        self.shape = (*self.starts.shape, *lengths, spec.epochs + 1)

    @property
    def networks(self) -> list[Network]:
        """All networks, in the order of their chunks."""
        points = range(len(self.known[0]["status"]))
        kinds = (range(len(self.known)), points, *(values for *_, values in self.kinds.values()))
        places: Any = enumerate(itertools.product(*kinds))
        drawn = [Network(number, *place) for number, place in places]
        return [
            dataclasses.replace(network, ensemble=TORCH)
            if self.starts.named(network.point) == TORCH
            else network
            for network in drawn
        ]

    def program(self, network: Network) -> tuple[Any, ...]:
        """Return what networks that share their programs have in common."""
        # Those of names differ in φ by more than numbers.
        kind = self.starts.named(network.point) or ""
        return network.depth, network.activation, network.ensemble, kind

    def status(self, network: Network) -> Status:
        """Return whether theory knows how a network is initialised."""
        return Status(int(self.known[network.activation]["status"][network.point]))

    def scales(self, network: Network) -> tuple[float, float, float]:
        """Return σw, σb, and s of `meanfield.training.network` of a network."""
        known = self.known[network.activation]
        values = (deviation(known, *WEIGHT_AXES), deviation(known, *BIAS_AXES), known[INPUTS])
        sigma_w, sigma_b, factor = (float(value[network.point]) for value in values)
        return sigma_w, sigma_b, factor

    def activation(self, network: Network, epoch: int) -> Activation:
        """Return the activation of a network in an epoch, from 1; in epoch 0 nothing has moved."""
        known, moved = self.known[network.activation], {}
        if network.protocol == "scheduled" and epoch > 0:
            for name, ramp in self.spec.schedule.items():
                start = float(known[name][network.point])
                moved[name] = float(ramp.values(start, self.spec.epochs)[epoch - 1])
        return self.starts.activation(network.activation, network.point, moved)

    @property
    def layout(self) -> Layout:
        """What its store holds."""
        chunks = (*(1 for _ in self.shape[:-1]), self.shape[-1])
        kept = SCORES | (GRADIENT if self.spec.gradients else {})
        variables = {name: attributes(*words) for name, words in kept.items()}
        last = {name: ("layer", self.layers) for name in GRADIENT if name in kept}
        return Layout(self._coords(), variables, self.dims, self.shape, chunks, last)

    @property
    def layers(self) -> int:
        """The number of layers of the deepest network."""
        return max(self.spec.depths)

    def _coords(self) -> dict[str, Any]:
        coords = self.starts.coords()
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
        for name, words in self.starts.described.items():
            if name not in coords:
                values = np.array([known[name] for known in self.known])
                dims, shape = self.starts.dims, self.starts.shape
                coords[name] = dims, values.reshape(shape), attributes(*words)
        epochs = np.arange(self.spec.epochs + 1)
        coords["epoch"] = (("epoch",), epochs, attributes("epoch", "epochs of training"))
        if self.spec.gradients:
            layers = np.arange(1, self.layers + 1)
            coords["layer"] = (("layer",), layers, attributes("l", "hidden layer"))
        return coords
