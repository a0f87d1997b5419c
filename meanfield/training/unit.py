"""A few networks that are trained together, as one array of weights.

They have one activation, but for its numbers, and one depth. A network whose loss is not finite,
or far above that of guessing, has diverged: it is not trained on, and has no scores from there.
"""

import math
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.activations import Activation
from meanfield.errors import Status
from meanfield.training.checkpoint import Checkpoint
from meanfield.training.descent import Batches, Score, descend, score
from meanfield.training.grid import Network, TrainingGrid
from meanfield.training.network import PRECISION, Scales, Weights, draw

# A loss so many times that of guessing does not come back.
DIVERGED = 100


class Unit:
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
        self._weights: Weights | None = None
        self.epoch = -1
        if start:
            self.epoch = start[0].epoch
            self._loss[:, : self.epoch + 1] = [one.loss for one in start]
            self._accuracy[:, : self.epoch + 1] = [one.accuracy for one in start]
            self._weights = jax.tree.map(jnp.asarray, _stacked([one.weights for one in start]))

    @property
    def finished(self) -> bool:
        """Whether no network is left to be trained."""
        return self.epoch == self.grid.spec.epochs or not self._alive

    @property
    def kernel(self) -> Hashable:
        """What the kernel is compiled for that is to run next."""
        first = self.networks[self._held[0]]
        drawn = self._weights is not None
        return first.activation, first.depth, first.ensemble, len(self._held), drawn

    def advance(self, images: Batches) -> None:
        """Draw the networks, or train them for an epoch, on the device where the images are."""
        with jax.default_device(images.train_inputs.device):
            self._record(self._scores(images), images.classes)

    def _scores(self, images: Batches) -> Score:
        spec, held = self.grid.spec, [self.networks[row] for row in self._held]
        self.epoch += 1
        phi = _numbers(_stacked([self.grid.activation(n, self.epoch) for n in held]))
        scales = Scales(*jnp.asarray([self.grid.scales(n) for n in held], PRECISION).T)
        seeds = jnp.asarray([network.seed for network in held])
        if self._weights is None:
            self._weights = draw(
                seeds,
                scales,
                images.train_inputs.shape[1],
                spec.width,
                held[0].depth,
                images.classes,
                held[0].ensemble,
            )
            return score(phi, self._weights, scales, images, spec.batch)
        rate = jnp.asarray(spec.learning_rate, PRECISION)
        self._weights, found = descend(
            phi, self._weights, scales, seeds, jnp.asarray(self.epoch), images, rate, spec.batch
        )
        return found

    def _record(self, found: Score, classes: int) -> None:
        loss, accuracy = np.asarray(found.loss, float), np.asarray(found.accuracy, float)
        lives = np.isfinite(loss) & (loss < DIVERGED * math.log(classes))
        self._alive &= {row for row, lives_on in zip(self._held, lives, strict=True) if lives_on}
        rows, places = self._living()
        self._loss[rows, self.epoch] = loss[places]
        self._accuracy[rows, self.epoch] = accuracy[places]
        # Each number of networks is compiled for: it only ever halves.
        if 2 * len(rows) <= len(self._held):
            self._held = rows
            self._weights = jax.tree.map(lambda leaf: leaf[np.array(places, int)], self._weights)

    def _living(self) -> tuple[list[int], list[int]]:
        """Return which networks have not diverged, and their places among those held."""
        places = [place for place, row in enumerate(self._held) if row in self._alive]
        return [self._held[place] for place in places], places

    @property
    def diverged(self) -> int:
        """How many networks have diverged."""
        return len(self.networks) - len(self._alive)

    def behind(self) -> dict[Network, int]:
        """Return for how many epochs each network has still to be trained."""
        left = self.grid.spec.epochs - self.epoch
        return {network: left * (row in self._alive) for row, network in enumerate(self.networks)}

    def ended(self) -> Iterator[tuple[Network, dict[str, np.ndarray]]]:
        """Yield scores and status, by epoch, of networks that have ended since this was asked."""
        for row in sorted(self._going if self.finished else self._going - self._alive):
            self._going.remove(row)
            lost = np.isnan(self._loss[row])
            yield (
                self.networks[row],
                {
                    "loss": self._loss[row],
                    "accuracy": self._accuracy[row],
                    "status": np.where(lost, Status.TRAINING_DIVERGES, Status.OK).astype("int8"),
                },
            )

    def checkpoints(self) -> list[tuple[Network, Checkpoint]]:
        """Return the networks that are trained on, as they are now."""
        upto = self.epoch + 1
        weights = jax.tree.map(np.asarray, self._weights)
        return [
            (
                self.networks[row],
                Checkpoint(
                    jax.tree.map(lambda leaf, place=place: leaf[place], weights),
                    self._loss[row, :upto],
                    self._accuracy[row, :upto],
                ),
            )
            for row, place in zip(*self._living(), strict=True)
        ]


def _stacked(records: list[Any]) -> Any:
    """Return one record of arrays for many of numbers or arrays."""
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *records)


def _numbers(phi: Activation) -> Activation:
    """Return an activation with its numbers in the precision of training."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, PRECISION), phi)
