"""The tutorial's figures: what their data say, in theory and of random networks."""

import functools

import numpy as np
import pytest
import xarray as xr

import meanfield as mf
from meanfield import plots
from meanfield.studies import tutorial

SMALL = {"points": 5, "depth": 6, "width": 100, "networks": 10}
NAMES = ("variance", "correlation", "gradients")


@functools.cache
def data(name: str) -> xr.Dataset:
    return getattr(tutorial, name)(**SMALL)


DATASETS = {f"tutorial-{name}": functools.partial(data, name) for name in NAMES}
# Lines in each panel: an error bar's points are one.
LINES = {"tutorial-variance": [5, 5], "tutorial-correlation": [7, 12], "tutorial-gradients": [6, 5]}
CURVES = {
    "tutorial-variance": ["length_map", "variance"],
    "tutorial-correlation": ["correlation_map", "correlation"],
    "tutorial-gradients": ["gradient", "chi_curve"],
}


@pytest.mark.parametrize("name", NAMES)
def test_dataset_is_labelled_and_that_of_its_figure(name):
    for variable in data(name).variables.values():
        assert {"symbol", "long_name", "units"} <= set(variable.attrs)
    record = plots.figures[f"tutorial-{name}"]
    assert set(record.needs) == set(data(name).variables)
    assert record.title == data(name).attrs["title"]


def test_the_phases_are_what_they_are_called():
    chi = data("gradients")["chi"].values
    assert chi[0] < 1 < chi[2]
    assert chi[1] == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(data("correlation")["correlation_limit"][:2], 1, atol=1e-12)
    assert 0 < data("correlation")["correlation_limit"][2] < 1


def test_paths_follow_their_maps():
    layer = mf.Dense(mf.activation("tanh"), tutorial.SETTLING, tutorial.SIGMA_B)
    path = data("variance")["variance"].values
    np.testing.assert_allclose(path[:, 1:], layer.variance(path[:, :-1]), rtol=1e-12)
    gradient = data("gradients")["gradient"].values
    chi = data("gradients")["chi"].values[:, None]
    np.testing.assert_allclose(gradient[:, :-1], chi * gradient[:, 1:], rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_random_networks_stand_beside_their_own_theory(name):
    """Rows of networks that were mixed up would be off by far more than finite width explains."""
    dataset, what = data(name), name.removesuffix("s")
    theory, mean, error = (dataset[what + part].values for part in ("", "_mean", "_error"))
    width = 0.1 * np.abs(theory) + 0.03
    assert (np.abs(mean - theory) < 6 * error + width).all()
