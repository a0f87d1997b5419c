"""Networks on disk while they are trained, one file each, in a folder beside their store.

A file is written aside and renamed, so that it is whole or not there. It holds the weights after
an epoch and all scores until then: what comes next does not depend on when it was written.
"""

import contextlib
import dataclasses
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from meanfield.errors import MeanFieldError
from meanfield.training.network import Weights

# What reading a file that was damaged may raise.
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
FIELDS = tuple(field.name for field in dataclasses.fields(Weights))
KEPT = ("loss", "accuracy", "gradients")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A network after an epoch: its weights, its scores by epoch from 0, and its first gradients.

    The latter by layer; of none where they are not kept.
    """

    weights: Weights
    loss: np.ndarray
    accuracy: np.ndarray
    gradients: np.ndarray

    @property
    def epoch(self) -> int:
        """How many epochs it has been trained for."""
        return len(self.loss) - 1


def save(store: Path, number: int, checkpoint: Checkpoint) -> None:
    """Write the checkpoint of a network. Raises `MeanFieldError` where that is not possible."""
    place = _place(store, number)
    aside = place.with_suffix(".partial")
    arrays: dict[str, Any] = {name: getattr(checkpoint.weights, name) for name in FIELDS}
    arrays |= {name: getattr(checkpoint, name) for name in KEPT}
    try:
        place.parent.mkdir(exist_ok=True)
        with aside.open("wb") as file:
            np.savez(file, **arrays)
        aside.replace(place)
    except OSError as error:
        raise MeanFieldError(f"{place} cannot be written: {error.strerror or error}") from error


def read(store: Path, number: int) -> Checkpoint | None:
    """Return the checkpoint of network `number`, None where none can be read."""
    try:
        with _place(store, number).open("rb") as file, np.load(file) as found:
            weights = Weights(*(found[name] for name in FIELDS))
            return Checkpoint(weights, *(found[name] for name in KEPT))
    except UNREADABLE:
        return None


def remove(store: Path, number: int) -> None:
    """Delete the checkpoint of a network, if there is one, and the folder once it is empty."""
    place = _place(store, number)
    for file in (place, place.with_suffix(".partial")):
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        place.parent.rmdir()


def clear(store: Path) -> None:
    """Delete all checkpoints of a store."""
    shutil.rmtree(folder(store), ignore_errors=True)


def folder(store: Path) -> Path:
    """Return where the checkpoints of a store are."""
    return store.with_name(f".{store.name}.checkpoints")


def _place(store: Path, number: int) -> Path:
    return folder(store) / f"{number}.npz"
