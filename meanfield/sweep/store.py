"""Datasets on disk: a Zarr store that is written chunk by chunk and can be resumed.

One task owns one chunk of every variable, and writes `status` last: a chunk without a file of
`status` has not been finished, whatever else of it is on disk. Chunks are not compressed and carry
a checksum. So all files of a variable are of one size, and one that is missing or was cut short is
seen without reading it. A power cut may leave files of the right size that hold nothing: those that
were written last are read. Other damage is found by the checksum of whoever reads it. Nothing in a
store depends on when it was written: a rerun is byte-identical.
"""

import dataclasses
import json
import math
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
import zarr
import zarr.errors
from zarr.codecs import Crc32cCodec

from meanfield.errors import MeanFieldError, MeanFieldWarning, Status

if TYPE_CHECKING:
    import xarray as xr

FORMAT = "meanfield-sweep"
# What reading a store that is none, or was damaged, may raise.
UNREADABLE = (OSError, ValueError, KeyError, json.JSONDecodeError, zarr.errors.BaseZarrError)
SPEC_KEY = "spec"
VERSIONS_KEY = "versions"
COORDS_KEY = "coordinate_names"
VARIABLES_KEY = "variable_names"
# A list of values that is longer is not spelt out in a message.
LONGEST = 60
# Bytes of a checksum.
CHECKSUM = 4
# Seconds within which the operating system brings files to the disk.
UNSAFE = 120
# Beside the chunks of `status`: what the chunks that failed said.
FAILURES = "failures"


def status_attributes() -> dict[str, Any]:
    """Return the CF attributes of a status variable."""
    return {
        "symbol": "status",
        "long_name": "outcome of the computation",
        "units": "1",
        "flag_values": [int(status) for status in Status],
        "flag_meanings": " ".join(status.name.lower() for status in Status),
    }


@dataclasses.dataclass(frozen=True)
class Layout:
    """What is in a store: coordinates as (dims, values, attributes), variables' attributes.

    `last` has the name and length of the last dimension of variables where it is another one than
    that of `dims`; a chunk holds all of either.
    """

    coords: Mapping[str, tuple[tuple[str, ...], np.ndarray, dict[str, Any]]]
    variables: Mapping[str, dict[str, Any]]
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    last: Mapping[str, tuple[str, int]] = dataclasses.field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """What the finished store takes on disk."""
        return self._cells("status") + sum(8 * self._cells(name) for name in self.variables)

    def _cells(self, name: str) -> int:
        _, shape, chunks = self.of(name)
        return math.prod(-(-n // c) * c for n, c in zip(shape, chunks, strict=True))

    def of(self, name: str) -> tuple[tuple[str, ...], tuple[int, ...], tuple[int, ...]]:
        """Return the dimensions, the shape and the chunks of a variable."""
        if name not in self.last:
            return self.dims, self.shape, self.chunks
        dim, length = self.last[name]
        return (*self.dims[:-1], dim), (*self.shape[:-1], length), (*self.chunks[:-1], length)


class Store:
    """A sweep, or a training, on disk. Its chunks are numbered row by row."""

    def __init__(self, path: Path, mode: str) -> None:
        self.path = path
        self.root = _open_group(path, mode)
        try:
            names: Any = self.root.attrs[VARIABLES_KEY]
            # A chunk of NaN is stored too: what has no file is not there.
            with zarr.config.set({"array.write_empty_chunks": True}):
                self.arrays = {str(name): _array(self.root, str(name)) for name in names}
        except UNREADABLE as error:
            raise MeanFieldError(f"{path} is damaged; --overwrite starts it anew") from error
        # An attribute that xarray gives whatever it writes.
        if any("_FillValue" in array.attrs for array in self.arrays.values()):
            raise _copied(path)
        status = self.arrays["status"]
        self.shape, self.chunks = status.shape, status.chunks
        self.counts = tuple(-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True))

    @property
    def sizes(self) -> np.ndarray:
        """How many points each chunk has, by its number."""
        sizes = np.ones((), int)
        for n, c, count in zip(self.shape, self.chunks, self.counts, strict=True):
            along = np.minimum(c, n - c * np.arange(count))
            sizes = np.multiply.outer(sizes, along)
        return sizes.ravel()

    @property
    def variables(self) -> list[str]:
        """The names of what is stored beside `status`."""
        return [name for name in self.arrays if name != "status"]

    def region(self, number: int, name: str = "status") -> tuple[slice, ...]:
        """Return where a chunk of a variable lies."""
        place, array = (
            np.unravel_index(number, self.counts) if self.counts else (),
            self.arrays[name],
        )
        return tuple(
            slice(int(i) * c, min(int(i) * c + c, n))
            for i, c, n in zip(place, array.chunks, array.shape, strict=True)
        )

    def finished(self, mend: bool = False) -> np.ndarray:
        """Return, by number, which chunks are there in every variable: files of the right size.

        With `mend`, what a killed writer left of a file is deleted, and so are those of the files
        written last that are not what their checksums say.
        """
        whole = np.ones(math.prod(self.counts), bool)
        for name, array in self.arrays.items():
            length = math.prod(array.chunks) * array.dtype.itemsize + CHECKSUM
            there, times = np.zeros(whole.size, bool), np.full(whole.size, -np.inf)
            for file, number in _files(self.path / name / "c", self.counts):
                if number is not None:
                    seen = file.stat()
                    there[number], times[number] = seen.st_size == length, seen.st_mtime
                elif mend and file.name.endswith(".partial"):
                    Path(file.path).unlink(missing_ok=True)
            if mend:
                for number in np.flatnonzero(there & (times > times.max() - UNSAFE)):
                    file = self._file(name, int(number))
                    there[number] = _is_sound(file)
                    if not there[number]:
                        file.unlink()
            whole &= there
        return whole

    def _file(self, name: str, number: int) -> Path:
        place = np.unravel_index(number, self.counts) if self.counts else ()
        return self.path.joinpath(name, "c", *map(str, place))

    def write(self, number: int, values: Mapping[str, np.ndarray]) -> None:
        """Write one chunk of every variable, status last.

        Raises `MeanFieldError` where that is not possible.
        """
        try:
            for name in self.variables:
                self.arrays[name][self.region(number, name)] = values[name]
            if not (values["status"] == Status.FAILED).any():
                self._failure(number).unlink(missing_ok=True)
            self.arrays["status"][self.region(number)] = values["status"]
        except OSError as error:
            raise MeanFieldError(
                f"{self.path} cannot be written: {error.strerror or error}; what is there is kept, "
                "and the same command goes on from there"
            ) from error

    def fail(self, number: int, message: str) -> None:
        """Record that a chunk has no answer, and why: its points are NaN, their status FAILED."""
        file = self._failure(number)
        try:
            file.parent.mkdir(exist_ok=True)
            file.write_text(message, encoding="utf-8")
        except OSError as error:
            raise MeanFieldError(f"{file} cannot be written: {error.strerror}") from error
        values = {name: np.full(self._length(number, name), np.nan) for name in self.variables}
        status = np.full(self._length(number, "status"), Status.FAILED, "int8")
        self.write(number, values | {"status": status})

    def _length(self, number: int, name: str) -> tuple[int, ...]:
        return tuple(part.stop - part.start for part in self.region(number, name))

    def failures(self) -> dict[int, str]:
        """Return the messages of the chunks that failed, by their numbers in order."""
        files = (self.path / "status" / FAILURES).glob("*.txt")
        numbers = sorted(int(file.stem) for file in files)
        return {n: self._failure(n).read_text(encoding="utf-8") for n in numbers}

    def _failure(self, number: int) -> Path:
        return self.path / "status" / FAILURES / f"{number}.txt"

    def forget(self, numbers: Iterable[int]) -> None:
        """Make chunks pending again."""
        for number in numbers:
            self._failure(number).unlink(missing_ok=True)
            self._file("status", number).unlink(missing_ok=True)
        place = self.path / "status" / FAILURES
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()

    def tally(self) -> dict[Status, int]:
        """Return how many points have which status; those of chunks that are not whole are pending.

        Raises `MeanFieldError` where a status is none.
        """
        counts = np.zeros(max(Status) + 1, int)
        cells = math.prod(self.chunks)
        for number in np.flatnonzero(self.finished()):
            file = self._file("status", int(number))
            codes = np.frombuffer(file.read_bytes(), "int8")[:cells].reshape(self.chunks)
            inside = tuple(slice(0, part.stop - part.start) for part in self.region(int(number)))
            if codes.min() < 0 or codes.max() > max(Status):
                raise MeanFieldError(f"{file} is damaged; delete it and run the same command again")
            counts += np.bincount(codes[inside].ravel(), minlength=counts.size)
        counts[Status.PENDING] = math.prod(self.shape) - counts[1:].sum()
        return {code: int(counts[code]) for code in Status if counts[code]}

    def times(self) -> np.ndarray:
        """Return when chunks were finished, in seconds, ascending."""
        files = _files(self.path / "status" / "c", self.counts)
        return np.sort([file.stat().st_mtime for file, number in files if number is not None])


def _array(root: zarr.Group, name: str) -> zarr.Array:
    array = root[name]
    assert isinstance(array, zarr.Array)
    return array


def _is_sound(file: Path) -> bool:
    """Return whether a chunk is what its checksum says."""
    content = file.read_bytes()
    return google_crc32c.value(content[:-CHECKSUM]) == int.from_bytes(content[-CHECKSUM:], "little")


class _File:
    """What `os.scandir` says of a file, of the one file of a store without dimensions."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = str(path), path.name
        self.stat = path.stat


def _files(folder: Path, counts: tuple[int, ...]) -> Iterator[tuple[Any, int | None]]:
    """Yield the files of chunks and the numbers of these, None for what is no chunk."""
    if not counts:
        if folder.is_file():
            yield _File(folder), 0
        return
    steps = [math.prod(counts[axis + 1 :]) for axis in range(len(counts))]

    def walk(folder: str, axis: int, before: int) -> Iterator[tuple[Any, int | None]]:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.isdecimal():
                    yield entry, None
                    continue
                number = before + int(entry.name) * steps[axis]
                if axis + 1 < len(counts):
                    yield from walk(entry.path, axis + 1, number)
                else:
                    yield entry, number

    if folder.is_dir():
        yield from walk(str(folder), 0, 0)


def require_room(path: Path, layout: Layout) -> None:
    """Raise `MeanFieldError` where the disk has no room for a store in place of what is there."""
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    free = shutil.disk_usage(folder).free
    free += sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    if layout.bytes > free:
        raise MeanFieldError(
            f"{path} would take {layout.bytes / 1e9:.3g} GB, and there are {free / 1e9:.3g} GB"
        )


def create_store(path: Path, layout: Layout, attrs: dict[str, Any]) -> Store:
    """Create a store of float64 variables and an int8 `status`, all of them pending.

    Raises `MeanFieldError` where the path cannot be written.
    """
    order = [*layout.variables, "status"]
    kinds = dict.fromkeys(layout.variables, ("float64", float("nan"))) | {"status": ("int8", 0)}
    described = {**layout.variables, "status": status_attributes()}
    attrs = {**attrs, COORDS_KEY: list(layout.coords), VARIABLES_KEY: order}
    # Built aside and renamed: a store that exists is complete in its structure.
    building = path.with_name(f"{path.name}.building")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        root = zarr.open_group(building, mode="w", zarr_format=3, attributes=attrs)
        for name, (dims, values, described_as) in layout.coords.items():
            array = root.create_array(
                name,
                shape=values.shape,
                dtype=values.dtype,
                chunks=values.shape,
                dimension_names=dims,
                attributes=described_as,
            )
            array[...] = values
        for name, (dtype, fill_value) in kinds.items():
            dims, shape, chunks = layout.of(name)
            root.create_array(
                name,
                shape=shape,
                dtype=dtype,
                chunks=chunks,
                compressors=[Crc32cCodec()],
                fill_value=fill_value,
                dimension_names=dims,
                attributes=described[name],
            )
        building.rename(path)
    except OSError as error:
        shutil.rmtree(building, ignore_errors=True)
        raise MeanFieldError(f"{path} cannot be written: {error.strerror or error}") from error
    return Store(path, "r+")


def resume_store(path: Path, spec: str, versions: str) -> Store:
    """Open an existing store to go on with it; it must be of the same config by the same versions.

    Raises `MeanFieldError` where it does not, with what differs.
    """
    store = Store(path, "r+")
    for key, now, what in (
        (SPEC_KEY, spec, "is of another config"),
        (VERSIONS_KEY, versions, "was computed with other versions"),
    ):
        changes = _changes(str(store.root.attrs.get(key, "{}")), now)
        if changes:
            raise MeanFieldError(
                f"{path} {what}: {'; '.join(changes)}. It is kept: give the config another name or "
                "choose another directory (--out, out=), or start anew in its place (--overwrite, "
                "overwrite=True)"
            )
    if not os.access(path, os.W_OK):
        raise MeanFieldError(f"{path} cannot be written: it is read-only")
    return store


def _changes(before: str, now: str) -> list[str]:
    """Return how two JSON objects differ, key by key."""

    def flat(value: Any, key: str = "") -> dict[str, Any]:
        if not isinstance(value, dict):
            return {key: value}
        return {k: v for name in value for k, v in flat(value[name], f"{key}.{name}").items()}

    old, new = (
        {key.removeprefix("."): value for key, value in flat(json.loads(text)).items()}
        for text in (before, now)
    )
    return [
        f"{key} was {_shown(old.get(key))}, is {_shown(new.get(key))}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]


def _shown(value: Any) -> str:
    """Return a value of JSON, of a long list what is at its ends."""
    text = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, list) or len(text) <= LONGEST:
        return text
    first, *_, last = (json.dumps(one, ensure_ascii=False) for one in value)
    return f"{len(value)} values from {first} to {last}"


def remove_store(path: Path) -> None:
    """Delete a store. Raises `MeanFieldError` if it is none, or may not be deleted."""
    _open_group(path, "r")
    # Renamed first: half a store is not met under its name.
    try:
        path.rename(path.with_name(f"{path.name}.removed"))
    except OSError as error:
        raise MeanFieldError(f"{path} cannot be deleted: {error.strerror}") from error
    clear_aside(path)


def clear_aside(path: Path) -> None:
    """Delete what killed processes left of a store that they made or deleted."""
    for kind in ("building", "removed"):
        shutil.rmtree(path.with_name(f"{path.name}.{kind}"), ignore_errors=True)


def open_results(path: str | Path) -> "xr.Dataset":
    """Return the dataset of a sweep or training, of any size, whose values are read when looked at.

    The attribute `unfinished` counts the points not computed yet; where there are any, a
    `MeanFieldWarning` says so. Raises `MeanFieldError` where the path holds none.
    """
    # Whoever computes does without it: it is slow to import.
    import xarray as xr

    path = Path(path)
    store = Store(path, "r")
    try:
        dataset = xr.open_zarr(path, consolidated=False, chunks=None)
        order, coords = dataset.attrs.pop(VARIABLES_KEY), dataset.attrs.pop(COORDS_KEY)
        dataset = dataset.set_coords(coords)[order]
    except UNREADABLE as error:
        raise MeanFieldError(f"{path} is damaged; --overwrite starts it anew") from error
    pending = int(store.sizes[~store.finished()].sum())
    dataset.attrs["unfinished"] = pending
    if pending:
        warnings.warn(
            f"{path} is unfinished: {pending} of {math.prod(store.shape)} points are missing; "
            "the same command again finishes it",
            MeanFieldWarning,
            stacklevel=2,
        )
    return dataset


def _copied(path: Path) -> MeanFieldError:
    return MeanFieldError(
        f"{path} is a copy that xarray wrote of a dataset: xarray.open_zarr reads it. "
        "Meanfield reads and goes on with the store that was copied"
    )


def _is_store(root: zarr.Group) -> bool:
    """Return whether a group has the variables' order and the files that `create_store` gives."""
    codecs = _array(root, "status").compressors
    return VARIABLES_KEY in root.attrs and codecs == (Crc32cCodec(),)


def _open_group(path: Path, mode: Any) -> zarr.Group:
    if not path.exists():
        raise MeanFieldError(f"{path} does not exist; give that of a sweep's or training's .zarr")
    try:
        root = zarr.open_group(path, mode=mode)
        ours = root.attrs.get("format") == FORMAT and "status" in root
    except UNREADABLE as error:
        raise MeanFieldError(f"{path} is no dataset of meanfield") from error
    if ours and not _is_store(root):
        raise _copied(path)
    if ours:
        return root
    raise MeanFieldError(f"{path} is no dataset of meanfield")
