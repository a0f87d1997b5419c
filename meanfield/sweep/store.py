"""Datasets on disk: a Zarr store that is written chunk by chunk and can be resumed.

One task owns one chunk of every variable, and writes `status` last. A chunk whose status is
0 (PENDING) has not been finished, whatever else of it is on disk; that array alone says what
is left to do. Nothing in a store depends on when it was written: a rerun is byte-identical.
"""

import dataclasses
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
import zarr.errors

from meanfield.errors import MeanFieldError, MeanFieldWarning, Status

FORMAT = "meanfield-sweep"
# What reading a store that is none, or was damaged, may raise.
UNREADABLE = (OSError, ValueError, KeyError, json.JSONDecodeError, zarr.errors.BaseZarrError)
SPEC_KEY = "spec"
VERSIONS_KEY = "versions"
COORDS_KEY = "coordinate_names"
VARIABLES_KEY = "variable_names"


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
    """What is in a store: coordinates as (dims, values, attributes), variables' attributes."""

    coords: Mapping[str, tuple[tuple[str, ...], np.ndarray, dict[str, Any]]]
    variables: Mapping[str, dict[str, Any]]
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]


def create_store(path: Path, layout: Layout, attrs: dict[str, Any]) -> zarr.Group:
    """Create a store of float64 variables and an int8 `status`, all of them pending.

    Raises `MeanFieldError` where the path cannot be written.
    """
    order = [*layout.variables, "status"]
    kinds = dict.fromkeys(layout.variables, ("float64", float("nan"))) | {"status": ("int8", 0)}
    described = {**layout.variables, "status": status_attributes()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        attrs = {**attrs, COORDS_KEY: list(layout.coords), VARIABLES_KEY: order}
        # Built aside and renamed: a store that exists is complete in its structure.
        building = path.with_name(f"{path.name}.{os.getpid()}.building")
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
            root.create_array(
                name,
                shape=layout.shape,
                dtype=dtype,
                chunks=layout.chunks,
                fill_value=fill_value,
                dimension_names=layout.dims,
                attributes=described[name],
            )
        building.rename(path)
    except OSError as error:
        raise MeanFieldError(f"{path} cannot be written: {error.strerror or error}") from error
    return zarr.open_group(path, mode="r+", zarr_format=3)


def resume_store(path: Path, spec: str, versions: str) -> zarr.Group:
    """Open an existing store to go on with it; it must hold the same sweep by the same versions.

    Raises `MeanFieldError` where it does not.
    """
    root = _open_group(path, "r+")
    if root.attrs.get(SPEC_KEY) != spec:
        raise MeanFieldError(
            f"{path} holds another sweep; remove it, or choose another directory with --out"
        )
    if root.attrs.get(VERSIONS_KEY) != versions:
        raise MeanFieldError(
            f"{path} was computed with other versions, {root.attrs.get(VERSIONS_KEY)}; "
            "remove it, or choose another directory with --out"
        )
    for orphan in path.rglob("*.partial"):
        orphan.unlink(missing_ok=True)
    return root


def array_of(root: zarr.Group, name: str) -> zarr.Array:
    """Return the array `name` of a store."""
    array = root[name]
    assert isinstance(array, zarr.Array)
    return array


def write_chunk(
    root: zarr.Group, region: tuple[slice, ...], values: Mapping[str, np.ndarray]
) -> None:
    """Write one chunk of every variable, status last."""
    for name in (*(n for n in values if n != "status"), "status"):
        array_of(root, name)[region] = values[name]


def open_results(path: str | Path) -> xr.Dataset:
    """Return the dataset of a sweep, loaded into memory.

    The attribute `unfinished` counts the points not computed yet; where there are any, a
    `MeanFieldWarning` says so. Raises `MeanFieldError` where the path holds no sweep.
    """
    path = Path(path)
    _open_group(path, "r")
    try:
        dataset = xr.open_zarr(path, consolidated=False, chunks=None).load()
        order, coords = dataset.attrs.pop(VARIABLES_KEY), dataset.attrs.pop(COORDS_KEY)
        dataset = dataset.set_coords(coords)[order]
    except UNREADABLE as error:
        raise MeanFieldError(f"{path} is damaged; remove it and run the sweep again") from error
    pending = int((dataset["status"] == Status.PENDING).sum())
    dataset.attrs["unfinished"] = pending
    if pending:
        warnings.warn(
            f"{path} is unfinished: {pending} of {dataset['status'].size} points are missing; "
            "run the sweep again to finish it",
            MeanFieldWarning,
            stacklevel=2,
        )
    return dataset


def _open_group(path: Path, mode: Any) -> zarr.Group:
    if not path.exists():
        raise MeanFieldError(f"{path} does not exist; give the path of a sweep's .zarr directory")
    try:
        root = zarr.open_group(path, mode=mode, zarr_format=3)
        if root.attrs.get("format") == FORMAT and "status" in root:
            return root
    except UNREADABLE as error:
        raise MeanFieldError(f"{path} is no dataset of meanfield") from error
    raise MeanFieldError(f"{path} is no dataset of meanfield")
