"""Datasets whose every variable says what it is."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from meanfield.sweep.grid import attributes

# (dims, values, symbol, long name)
Entry = tuple[Any, Any, str, str]
Variable = tuple[Any, np.ndarray, dict[str, Any]]


def variable(dims: Any, values: Any, symbol: str, long_name: str) -> Variable:
    """Return a dimensionless variable as xarray takes it."""
    return dims, np.asarray(values), attributes(symbol, long_name)


def labelled(
    title: str, source: str, coords: Mapping[str, Entry], variables: Mapping[str, Entry]
) -> xr.Dataset:
    """Return the dataset that entries describe."""
    return xr.Dataset(
        {name: variable(*entry) for name, entry in variables.items()},
        coords={name: variable(*entry) for name, entry in coords.items()},
        attrs={"title": title, "source": source},
    )
