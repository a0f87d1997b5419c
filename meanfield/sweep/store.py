"""Datasets on disk: a Zarr store that is written chunk by chunk and can be resumed.

One task owns one chunk of every variable, and writes `status` last. A chunk whose status is
0 (PENDING) has not been finished, whatever else of it is on disk; that array alone says what
is left to do. Nothing in a store depends on when it was written: a rerun is byte-identical.
"""

import json
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
SPEC_KEY = "spec"


def status_attributes() -> dict[str, Any]:
    """Return the CF attributes of a status variable."""
    return {
        "symbol": "status",
        "long_name": "outcome of the computation",
        "units": "1",
        "flag_values": [int(status) for status in Status],
        "flag_meanings": " ".join(status.name.lower() for status in Status),
    }


def create_store(
    path: Path,
    coords: Mapping[str, tuple[tuple[str, ...], np.ndarray, dict[str, Any]]],
    variables: Mapping[str, dict[str, Any]],
    dims: tuple[str, ...],
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    attrs: dict[str, Any],
) -> zarr.Group:
    """Create an empty store: float64 `variables` and an int8 `status` over `dims`.

    `coords` maps names to (dims, values, attributes). Raises `MeanFieldError` where the path
    cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        root = zarr.open_group(path, mode="w-", zarr_format=3, attributes=attrs)
        for name, (coord_dims, values, coord_attrs) in coords.items():
            array = root.create_array(
                name,
                shape=values.shape,
                chunks=values.shape or "auto",
                dtype=values.dtype,
                dimension_names=coord_dims,
                attributes=coord_attrs,
            )
            array[...] = values
        for name, variable_attrs in variables.items():
            root.create_array(
                name,
                shape=shape,
                chunks=chunks,
                dtype="float64",
                fill_value=float("nan"),
                dimension_names=dims,
                attributes=variable_attrs,
            )
        root.create_array(
            "status",
            shape=shape,
            chunks=chunks,
            dtype="int8",
            fill_value=0,
            dimension_names=dims,
            attributes=status_attributes(),
        )
    except OSError as error:
        raise MeanFieldError(f"{path} cannot be written: {error.strerror or error}") from error
    return root


def resume_store(path: Path, spec: str) -> zarr.Group:
    """Open an existing store to go on with it; it must hold the same sweep.

    Raises `MeanFieldError` where it does not.
    """
    root = _open_group(path, "r+")
    if root.attrs.get(SPEC_KEY) != spec:
        raise MeanFieldError(
            f"{path} holds another sweep; remove it, or choose another directory with --out"
        )
    for orphan in path.rglob("*.partial"):
        orphan.unlink(missing_ok=True)
    return root


def write_chunk(
    root: zarr.Group, region: tuple[slice, ...], values: Mapping[str, np.ndarray]
) -> None:
    """Write one chunk of every variable, status last."""
    for name in (*(n for n in values if n != "status"), "status"):
        root[name][region] = values[name]  # pyright: ignore[reportIndexIssue]


def open_results(path: str | Path) -> xr.Dataset:
    """Return the dataset of a sweep, loaded into memory.

    The attribute `unfinished` counts the points not computed yet; where there are any, a
    `MeanFieldWarning` says so. Raises `MeanFieldError` where the path holds no sweep.
    """
    path = Path(path)
    root = _open_group(path, "r")
    if root.attrs.get("format") != FORMAT:
        raise MeanFieldError(f"{path} is no dataset of meanfield")
    dataset = xr.open_zarr(path, consolidated=False, chunks=None).load()
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
        return zarr.open_group(path, mode=mode, zarr_format=3)
    except (OSError, ValueError, KeyError, json.JSONDecodeError, zarr.errors.BaseZarrError) as error:
        raise MeanFieldError(f"{path} is no dataset of meanfield") from error
