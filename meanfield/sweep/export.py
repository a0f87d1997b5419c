"""A sweep as one file that other programs read.

netCDF keeps everything. CSV and Parquet hold one row for each point: its coordinates, its
variables, and its status by name; CSV says in a first line, a comment, what the columns are.
"""

import importlib.util
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from meanfield.errors import MeanFieldError, Status, unknown_name
from meanfield.sweep.grid import chunk_shape
from meanfield.sweep.store import open_results

if TYPE_CHECKING:
    import xarray as xr

# Rows that are held at a time.
ROWS = 1 << 18


def export_results(store: str | Path, kind: str, out: str | Path | None = None) -> Path:
    """Write the dataset of a sweep as "netcdf", "csv" or "parquet", and return the file's path.

    The file is STORE with another suffix by default; it appears once it is complete. What is held
    in memory does not grow with the store.

    Raises
    ------
    MeanFieldError : no such kind; a library is missing; no store; the file exists or cannot be
        written.
    """
    if kind not in KINDS:
        raise unknown_name("kind of file", kind, KINDS)
    suffix, needs, write = KINDS[kind]
    missing = [name for name in needs if importlib.util.find_spec(name) is None]
    if missing:
        raise MeanFieldError(
            f"--to {kind} needs {' and '.join(missing)}: pip install {' '.join(missing)}"
        )
    dataset = open_results(store)
    place = Path(store)
    # The folder in which one is has no name of its own.
    place = place if place.name else place.absolute()
    path = place.with_suffix(suffix) if out is None else Path(out)
    if path.exists():
        raise MeanFieldError(f"{path} exists; remove it, or choose another file with --out")
    building = path.with_name(f".{path.name}.{os.getpid()}.building")
    try:
        write(dataset, building)
        building.rename(path)
    except OSError as error:
        raise MeanFieldError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        building.unlink(missing_ok=True)
    return path


def _write_netcdf(dataset: "xr.Dataset", path: Path) -> None:
    labels = [name for name in dataset.coords if dataset[name].dtype.kind not in "fiu"]
    plain = dataset.assign_coords({name: dataset[name].astype(object) for name in labels})
    import h5netcdf

    with h5netcdf.File(path, "w") as file:
        file.dimensions = dict(dataset.sizes)
        for name, value in dataset.attrs.items():
            file.attrs[name] = value
        # Those with a dimension of their name are found without being named.
        beside = [str(name) for name in dataset.coords if name not in dataset.sizes]
        if beside:
            file.attrs["coordinates"] = " ".join(beside)
        for name, array in plain.variables.items():
            _copy(file, str(name), array)


def _copy(file: Any, name: str, array: "xr.Variable") -> None:
    text = array.dtype.kind == "O"
    kind = np.dtypes.StringDType() if text else array.dtype
    if text:
        import h5py

        kind = h5py.string_dtype()
    target = file.create_variable(name, array.dims, kind)
    for key, value in array.attrs.items():
        target.attrs[key] = np.asarray(value, "int8") if key == "flag_values" else value
    for block in _blocks(array.shape):
        target[block or ...] = array[block].values


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Yield, in order, blocks of an array with so many cells at most."""
    steps = chunk_shape(shape, ROWS)
    yield from itertools.product(
        *(
            [slice(start, start + step) for start in range(0, n, step)]
            for n, step in zip(shape, steps, strict=True)
        )
    )


def _frames(dataset: "xr.Dataset") -> Iterator[Any]:
    """Yield tables of the points, in order."""
    names = [status.name.lower() for status in Status]
    dims = list(dataset.sizes)
    shape = tuple(dataset.sizes.values())
    for block in _blocks(shape):
        part = dataset.isel(dict(zip(dims, block, strict=True))).load()
        frame = (
            part.to_dataframe(dim_order=dims).reset_index()
            if dims
            else part.expand_dims("point").to_dataframe().reset_index(drop=True)
        )
        frame["status"] = [names[code] for code in frame["status"]]
        beside = [name for name in dataset.coords if name not in dims]
        yield frame[[*dims, *beside, *dataset.data_vars]]


def _write_csv(dataset: "xr.Dataset", path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        words = [
            f"{name}: {dataset[name].attrs.get('long_name', name)}"
            for name in (*dataset.coords, *dataset.data_vars)
        ]
        file.write(f"# {'; '.join(words)}\n")
        for number, frame in enumerate(_frames(dataset)):
            frame.to_csv(file, index=False, header=number == 0)


def _write_parquet(dataset: "xr.Dataset", path: Path) -> None:
    import pyarrow  # pyright: ignore[reportMissingImports]
    import pyarrow.parquet  # pyright: ignore[reportMissingImports]

    tables = (pyarrow.Table.from_pandas(frame, preserve_index=False) for frame in _frames(dataset))
    first = next(tables)
    labels = {
        str(name): str(dataset[name].attrs.get("long_name", name)) for name in first.column_names
    }
    schema = first.schema.with_metadata(labels)
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(table.cast(schema))


KINDS: dict[str, tuple[str, tuple[str, ...], Callable[["xr.Dataset", Path], None]]] = {
    "netcdf": (".nc", ("h5netcdf", "h5py"), _write_netcdf),
    "csv": (".csv", (), _write_csv),
    "parquet": (".parquet", ("pyarrow",), _write_parquet),
}
