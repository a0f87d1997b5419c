"""Figures after Pennington 2017 and 2018: their numbers, and the toy datasets they draw."""

import numpy as np
import pytest
import xarray as xr

import meanfield as mf
from meanfield import plots
from meanfield.studies import pennington2017, pennington2018


def densities() -> xr.Dataset:
    network, depth = [", ".join(names) for names in pennington2017.NETWORKS], [2, 8]
    bins, log_s = np.linspace(-5, 2, 8), np.linspace(-6, 1, 40)
    shape = (4, 2)
    dims = ("network", "depth")
    grid = log_s + np.arange(8).reshape(*shape, 1) / 10
    atoms = np.full(shape, np.nan)
    atoms[2] = 0.9, 0.7
    return xr.Dataset(
        {
            "log_s": ((*dims, "point"), grid),
            "density": ((*dims, "point"), np.exp(-(grid**2)) + 0.1),
            "seen": ((*dims, "bin"), np.exp(-(bins**2)) + np.zeros((*shape, 1))),
            "atom_log_s": (dims, atoms / 10),
            "atom_mass": (dims, atoms),
        },
        coords={"network": network, "depth": depth, "bin": bins},
    )


def largest() -> xr.Dataset:
    depth, q = 2.0 ** np.arange(4), np.geomspace(0.01, 1, 5)
    slope = 1 + np.arange(6).reshape(3, 2, 1)
    dims = ("activation", "ensemble")
    return xr.Dataset(
        {
            "s_max": ((*dims, "depth"), slope * depth),
            "s_max_of_q": ((*dims, "q"), 1 + slope * q),
        },
        coords={
            "activation": ["relu", "hard_tanh", "erf"],
            "ensemble": ["gaussian", "orthogonal"],
            "depth": depth,
            "q": q,
        },
        attrs={"variance": 0.2, "depth": 64.0},
    )


def ratio() -> xr.Dataset:
    bias = np.geomspace(1e-6, 1, 5)
    excess = bias * np.array([[1.0], [2.0]])
    return xr.Dataset(
        {"moment_ratio": (("activation", "bias_variance"), 1 + excess)},
        coords={"activation": ["tanh", "hard_tanh"], "bias_variance": bias},
    )


def limits() -> xr.Dataset:
    s = np.linspace(0.05, 1.5, 20)
    dims = ("activation", "variance")
    square = np.ones((2, 2, 1))
    return xr.Dataset(
        {
            "limit_s": ((*dims, "point"), s * square),
            "limit": ((*dims, "point"), (2 - s) * square),
            "s": ((*dims, "depth", "point"), s * np.ones((2, 2, 2, 1))),
            "density": (
                (*dims, "depth", "point"),
                (2 - s) * np.arange(1, 9).reshape(2, 2, 2, 1) / 8,
            ),
            "atom_s": (dims, [[1.6, np.nan], [np.nan, np.nan]]),
            "atom_mass": (dims, [[0.75, 0.0], [0.0, 0.0]]),
        },
        coords={"activation": ["hard_tanh", "erf"], "variance": [0.25, 4.0], "depth": [8.0, 64.0]},
    )


def widths() -> xr.Dataset:
    width = np.array([10, 20, 40])
    deviation = np.array([[1.0], [0.3], [4.0]]) / width
    return xr.Dataset(
        {
            "deviation": (("quantity", "width"), deviation),
            "error": (("quantity", "width"), deviation / 5),
        },
        coords={"quantity": ["q1", "c", "m2"], "width": width},
        attrs={"depth": 8},
    )


DATASETS = {
    "pennington2017-densities": densities,
    "pennington2017-largest": largest,
    "pennington2018-ratio": ratio,
    "pennington2018-limits": limits,
    "pennington2018-widths": widths,
}
LINES = {
    "pennington2017-densities": [4] * 4,
    "pennington2017-largest": [6, 6],
    "pennington2018-ratio": [2],
    "pennington2018-limits": [3] * 4,
    "pennington2018-widths": [10],
}
CURVES = {
    "pennington2017-densities": ["density", "seen"],
    "pennington2017-largest": ["s_max", "s_max_of_q"],
    "pennington2018-ratio": [],
    "pennington2018-limits": ["limit", "density"],
    "pennington2018-widths": ["deviation"],
}


@pytest.mark.parametrize("name", ["pennington2017", "pennington2018"])
def test_config_names_its_figures(name):
    spec = mf.load_config(name)
    assert all(figure.startswith(name) for figure in spec.figures)
    assert {*spec.figures} == {figure for figure in DATASETS if figure.startswith(name)}


@pytest.mark.slow
def test_densities_are_those_of_random_networks():
    dataset = pennington2017.densities(depths=(2, 8), points=200, width=60, networks=12)
    assert set(plots.figures["pennington2017-densities"].needs) <= set(dataset.variables)
    step = float(dataset["bin"].diff("bin").mean())
    for network in dataset["network"]:
        for depth in dataset["depth"]:
            one = dataset.sel(network=network, depth=depth)
            bins = one["bin"].values
            inside = (bins > -2) & (bins < float(one["log_s"].max()) - step)
            expected = np.interp(bins[inside], one["log_s"], np.nan_to_num(one["density"]))
            seen = one["seen"].values[inside]
            # Counts of eigenvalues vary less than independent ones would.
            error = np.sqrt(expected / (60 * 12 * step)) + 0.05 * expected
            assert (np.abs(seen - expected) < 4 * error).mean() > 0.9
    place, mass = (dataset[name].sel(network="hard_tanh, orthogonal") for name in ATOM)
    p = 1 - float(mf.activation("hard_tanh").slope_moment(0.2, 2))
    np.testing.assert_allclose(mass, 1 - np.array([2, 8]) * p, rtol=1e-9)
    np.testing.assert_allclose(place, -np.array([2, 8]) * np.log1p(-p) / 2, rtol=1e-9)


ATOM = ("atom_log_s", "atom_mass")


def test_the_largest_singular_values():
    """ReLU at L = 2, 8: the published λ_max; hard tanh with orthogonal weights: its atom."""
    dataset = pennington2017.largest(depths=(2.0, 8.0), variances=(0.01, 0.2), depth=8.0)
    assert set(plots.figures["pennington2017-largest"].needs) <= set(dataset.variables)
    relu = dataset["s_max"].sel(activation="relu").values ** 2
    np.testing.assert_allclose(relu[0], [11.0901699437, 43.5489788863], rtol=1e-9)
    np.testing.assert_allclose(relu[1], [4.0, 20.3719975763], rtol=1e-9)
    p = float(mf.activation("hard_tanh").slope_moment(0.2, 2))
    hard = dataset["s_max"].sel(activation="hard_tanh", ensemble="orthogonal")
    np.testing.assert_allclose(hard, [p**-1.0, p**-4.0], rtol=1e-9)
    np.testing.assert_allclose(
        dataset["s_max_of_q"].sel(q=0.2), dataset["s_max"].sel(depth=8), rtol=1e-9
    )


def test_limits_are_approached():
    dataset = pennington2018.limits(depths=(64.0, 512.0), points=60)
    assert set(plots.figures["pennington2018-limits"].needs) <= set(dataset.variables)
    for name, limit_of in pennington2018.CLASSES:
        for variance in dataset["variance"].values:
            one = dataset.sel(activation=name, variance=variance)
            limit = limit_of(float(variance))
            apart = []
            for depth in dataset["depth"]:
                deep = one.sel(depth=depth)
                middle = deep["s"] < 0.8 * float(one["limit_s"].max())
                middle &= deep["s"] > 1.3 * float(one["limit_s"].min()) + 0.1
                gap = np.abs(deep["density"].values - limit.singular_density(deep["s"].values))
                apart.append(gap[middle.values])
            assert apart[1].max() < 0.75 * apart[0].max()


@pytest.mark.parametrize("relative_variance", [1e-6, 1e-3, 0.1])
@pytest.mark.parametrize("name", ["hard_tanh", "erf"])
def test_variance_of_a_given_spread(name, relative_variance):
    q = pennington2018.variance_for(name, relative_variance)
    phi = mf.activation(name)
    two, four = (float(phi.slope_moment(q, power)) for power in (2, 4))
    assert four / two**2 - 1 == pytest.approx(relative_variance, rel=1e-8)


@pytest.mark.slow
def test_wider_networks_deviate_less():
    dataset = pennington2018.widths(sizes=(10, 40), part=0.2)
    assert set(plots.figures["pennington2018-widths"].needs) <= set(dataset.variables)
    deviation, error = dataset["deviation"].values, dataset["error"].values
    assert deviation[0, 0] > 4 * error[0, 0]
    # Four times the width: a quarter of it, or less while terms of higher order count.
    assert (deviation[:, 1] < deviation[:, 0] / 4 + 4 * error[:, 1]).all()
