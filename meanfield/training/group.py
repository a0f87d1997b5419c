"""A few networks that are trained together, as one array of weights.

They have one activation, but for its numbers, and one depth. A network whose loss or logits are not
finite, or whose loss is far above that of guessing, has diverged: it is not trained on, and has no
scores from there.
"""

import math
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from meanfield.activations import Activation
from meanfield.errors import Status
from meanfield.training.checkpoint import Checkpoint
from meanfield.training.data import CLASSES
from meanfield.training.descent import Samples, Score, descend, gradients, score
from meanfield.training.grid import Network, TrainingGrid
from meanfield.training.network import PRECISION, Scales, Weights, draw

# A loss so many times that of guessing does not come back.
DIVERGED = 100 * math.log(CLASSES)


class Group:
    """Networks in training, all after one epoch: -1 where they are not drawn yet."""

    def __init__(
        self, grid: TrainingGrid, networks: list[Network], start: Sequence[Checkpoint] = ()
    ) -> None:
        self.grid, self.networks = grid, networks
        # The networks whose weights are held, in their order; those that have not diverged; and
        # those of which nobody has asked how they ended.
        self._held, self._alive = list(range(len(networks))), set(range(len(networks)))
        self._going = set(self._alive)
        shape = (len(networks), grid.spec.epochs + 1)
        self._loss, self._accuracy = np.full(shape, np.nan), np.full(shape, np.nan)
        # By layer, where they are kept; NaN beyond the last one.
        layers = grid.layers if grid.spec.gradients else 0
        self._gradients = np.full((len(networks), layers), np.nan)
        self._weights: Weights | None = None
        self.epoch = -1
        if start:
            self.epoch = start[0].epoch
            self._loss[:, : self.epoch + 1] = [one.loss for one in start]
            self._accuracy[:, : self.epoch + 1] = [one.accuracy for one in start]
            self._gradients[:] = [one.gradients for one in start]
            self._weights = _stacked([one.weights for one in start])

    @property
    def finished(self) -> bool:
        """Whether no network is left to be trained."""
        return self.epoch == self.grid.spec.epochs or not self._alive

    @property
    def program(self) -> Hashable:
        """What is to be compiled for the next step, unless it is already."""
        first = self.networks[self._held[0]]
        return *self.grid.program(first), len(self._held), self._weights is not None

    def advance(self, samples: Samples) -> None:
        """Draw the networks, or train them for an epoch, on the device where the samples are."""
        # Without it, some accelerators multiply float32 matrices to three digits.
        precise = jax.default_matmul_precision("float32")
        with jax.default_device(samples.train_inputs.device), precise:
            self._record(self._scores(samples))

    def _scores(self, samples: Samples) -> Score:
        spec, held = self.grid.spec, [self.networks[row] for row in self._held]
        self.epoch += 1
        phi = _numbers(_stacked([self.grid.activation(n, self.epoch) for n in held]))
        scales = Scales(*np.asarray([self.grid.scales(n) for n in held], PRECISION).T)
        seeds = np.asarray([network.seed for network in held])
        device = samples.train_inputs.device
        if self._weights is None:
            inputs, like = samples.train_inputs.shape[1], held[0]
            drawn = draw(seeds, scales, inputs, spec.width, like.depth, CLASSES, like.ensemble)
            # For weights that are bound to a device nothing is compiled anew in the next epoch.
            self._weights = jax.device_put(drawn, device)
            if spec.gradients:
                sizes = gradients(phi, self._weights, scales.inputs, samples, spec.batch)
                self._gradients[:, : like.depth] = np.asarray(sizes)
            return score(phi, self._weights, scales.inputs, samples, spec.batch)
        weights = jax.device_put(self._weights, device)
        epoch, rate = np.asarray(self.epoch), np.asarray(spec.learning_rate, PRECISION)
        self._weights, found = descend(
            phi, weights, scales.inputs, seeds, epoch, samples, rate, spec.batch
        )
        return found

    def _record(self, found: Score) -> None:
        loss, accuracy = np.asarray(found.loss, float), np.asarray(found.accuracy, float)
        lives = np.isfinite(loss) & np.isfinite(accuracy) & (loss < DIVERGED)
        self._alive &= {row for row, lives_on in zip(self._held, lives, strict=True) if lives_on}
        rows, places = self._living()
        self._loss[rows, self.epoch] = loss[places]
        self._accuracy[rows, self.epoch] = accuracy[places]
        if self.finished:
            self._weights = None
        # Each number of networks is compiled for: it only ever halves.
        elif 2 * len(rows) <= len(self._held):
            self._held = rows
            self._weights = jax.tree.map(lambda leaf: leaf[np.array(places)], self._weights)

    def _living(self) -> tuple[list[int], list[int]]:
        """Return which networks have not diverged, and their places among those held."""
        places = [place for place, row in enumerate(self._held) if row in self._alive]
        return [self._held[place] for place in places], places

    def behind(self) -> dict[Network, int]:
        """Return for how many epochs each network has still to be trained."""
        left = self.grid.spec.epochs - self.epoch
        return {network: left * (row in self._alive) for row, network in enumerate(self.networks)}

    def ended(self) -> Iterator[tuple[Network, dict[str, np.ndarray]]]:
        """Yield scores and status, by epoch, of networks that have ended since this was asked."""
        for row in sorted(self._going if self.finished else self._going - self._alive):
            self._going.remove(row)
            lost = np.isnan(self._loss[row])
            status = np.where(lost, Status.TRAINING_DIVERGES, Status.OK).astype("int8")
            scores = {"loss": self._loss[row], "accuracy": self._accuracy[row], "status": status}
            kept = {"gradient": self._gradients[row]} if self.grid.spec.gradients else {}
            yield self.networks[row], scores | kept

    def checkpoints(self) -> Iterator[tuple[Network, Checkpoint]]:
        """Yield the networks that are trained on, as they are now."""
        upto = self.epoch + 1
        weights = jax.tree.map(np.asarray, self._weights)
        for row, place in zip(*self._living(), strict=True):
            own = jax.tree.map(lambda leaf, place=place: leaf[place], weights)
            yield (
                self.networks[row],
                Checkpoint(
                    own,
                    self._loss[row, :upto],
                    self._accuracy[row, :upto],
                    self._gradients[row],
                ),
            )


def _stacked(records: list[Any]) -> Any:
    """Return one record of arrays for many of numbers or arrays."""
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *records)


def _numbers(phi: Activation) -> Activation:
    """Return an activation with its numbers in the precision of training."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, PRECISION), phi)
