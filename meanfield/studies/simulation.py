"""Random networks beside the theory, as a dataset: what `meanfield.plots.simulation` draws."""

import numpy as np
import xarray as xr

from meanfield.ensemble import Comparison, Simulation
from meanfield.studies.labels import variable
from meanfield.sweep.grid import attributes

VARIABLES = {
    "theory": ("theory", "value in the limit of infinite widths"),
    "mean": ("mean", "mean over random networks"),
    "error": ("error", "standard error of the mean over random networks"),
    "z": ("z", "difference of mean and theory in standard errors"),
}
DIMS = ("quantity", "layer")


def simulation_data(simulation: Simulation, comparison: Comparison) -> xr.Dataset:
    """Return a comparison over quantities and layers, NaN where it has no row."""
    quantities = list(dict.fromkeys(row.quantity for row in comparison.rows))
    layers = range(len(simulation.widths))
    rows = {(row.quantity, row.layer): row for row in comparison.rows}

    def table(name: str) -> list[list[float]]:
        return [
            [getattr(rows.get((quantity, layer)), name, np.nan) for layer in layers]
            for quantity in quantities
        ]

    data = {name: variable(DIMS, table(name), *label) for name, label in VARIABLES.items()}
    coords = {
        "quantity": ("quantity", quantities),
        "layer": ("layer", list(layers), attributes("l", "layer")),
        "width": ("layer", list(simulation.widths), attributes("N_l", "width of the layer")),
    }
    attrs = {"title": "Random networks beside theory", "networks": simulation.networks}
    return xr.Dataset(data, coords, attrs)
