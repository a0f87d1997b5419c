"""The studies against reference numbers (mpmath, 25 digits and more), and into their figures."""

import numpy as np
import pytest
import xarray as xr

from meanfield import plots
from meanfield.errors import MeanFieldError
from meanfield.studies import murray2021


@pytest.fixture(scope="module")
def maps() -> xr.Dataset:
    return murray2021.length_and_correlation_maps(points=21)


@pytest.fixture(scope="module")
def phases() -> xr.Dataset:
    return murray2021.phases(points=11, edge_points=21, size=7)


@pytest.fixture(scope="module")
def shapes() -> xr.Dataset:
    return murray2021.scaled_bounded_activations(points=17)


@pytest.fixture(scope="module")
def linear_region() -> xr.Dataset:
    return murray2021.linear_region_and_correlation(a=(1.0, 2.0), points=5)


@pytest.fixture(scope="module")
def construction() -> xr.Dataset:
    return murray2021.lower_bound_construction(points=31)


@pytest.fixture(scope="module")
def depth() -> xr.Dataset:
    return murray2021.correlation_by_depth(names=("relu", "tanh"), depth=10)


STUDIES = {
    "maps": "murray2021-1",
    "phases": "murray2021-2",
    "shapes": "murray2021-3",
    "linear_region": "murray2021-6",
    "construction": "murray2021-9",
    "depth": "murray2021-depth",
}


@pytest.mark.parametrize("fixture", STUDIES)
def test_dataset_is_labelled_and_draws(fixture, request):
    dataset = request.getfixturevalue(fixture)
    for variable in dataset.variables.values():
        assert {"symbol", "long_name", "units"} <= set(variable.attrs)
        assert variable.attrs["units"] == "dimensionless"
    record = plots.figures[STUDIES[fixture]]
    assert set(record.needs) <= set(dataset.variables)
    assert record.data is not None
    plots.draw(record.name, dataset)


def test_registered_data_computes():
    record = plots.figures["murray2021-3"]
    assert record.data is not None
    assert record.data(points=9).sizes["x"] == 9


def test_maps_have_the_published_fixed_points(maps):
    tanh = maps.sel(activation="tanh")
    assert float(tanh["q_star"]) == pytest.approx(0.805799181913487407, rel=1e-12)
    assert float(tanh["length_weight_variance"]) == pytest.approx(1.98607264113586421, rel=1e-12)
    assert float(tanh["correlation_map"].sel(rho=0)) == pytest.approx(
        0.124100399013232366, rel=1e-12
    )
    assert float(maps["q_star"].sel(activation="elu")) == 0
    assert np.isnan(maps["q_star"].sel(activation="relu"))


def test_relu_is_critical_at_weight_variance_two(maps):
    relu = maps.sel(activation="relu")
    assert float(relu["length_weight_variance"]) == pytest.approx(2, rel=1e-14)
    np.testing.assert_allclose(relu["length_map"], maps["q"] + 0.1, rtol=1e-13)
    assert float(relu["correlation_map"].sel(rho=0)) == pytest.approx(1 / np.pi, rel=1e-12)


def test_elu_maps(maps):
    elu = maps.sel(activation="elu")
    assert float(elu["correlation_weight_variance"]) == pytest.approx(1.60674355794424678, 1e-12)
    assert float(elu["correlation_map"].sel(rho=0)) == pytest.approx(0.110697147792333476, 1e-12)
    # V'(0) = 1: the edge without biases is σw = 1.
    assert float(elu["length_weight_variance"]) == pytest.approx(1, rel=1e-12)


def test_correlation_maps_end_in_one(maps):
    np.testing.assert_allclose(maps["correlation_map"].sel(rho=1), 1, rtol=1e-14)


def test_hard_tanh_phases(phases):
    critical, chaotic = phases.sel(phase="critical"), phases.sel(phase="chaotic")
    assert float(critical["phase_weight_variance"]) == pytest.approx(1.26340593238613947, 1e-12)
    assert float(critical["correlation_map"].sel(rho=0)) == pytest.approx(
        0.158188935488287763, rel=1e-12
    )
    assert float(critical["phase_chi"]) == pytest.approx(1, abs=1e-12)
    assert float(chaotic["phase_limit"]) == pytest.approx(0.337464, abs=5e-7)
    np.testing.assert_array_equal(phases["phase_limit"].sel(phase=["ordered", "critical"]), 1)


def test_limits_leave_one_beyond_the_edge(phases):
    limits = phases["correlation_limit"]
    # At σb² = 1e-4 the edge is at σw² = 1.0012 (x_S = 3.23659908).
    lowest = limits.isel(bias_variance=0)
    np.testing.assert_array_equal(lowest.where(lowest["weight_variance"] < 1, drop=True), 1)
    assert (lowest.where(lowest["weight_variance"] > 1.01, drop=True) < 1).all()
    assert np.isfinite(limits).all()


def test_grid_may_be_given(phases):
    grid = phases[["correlation_limit"]].transpose("bias_variance", "weight_variance")
    again = murray2021.phases(points=11, edge_points=21, grid=grid)
    xr.testing.assert_identical(again, phases)
    with pytest.raises(MeanFieldError, match="correlation_limit"):
        murray2021.phases(grid=xr.Dataset())


def test_edges_satisfy_their_closed_form(phases):
    """Hard tanh is shtanh with a = 1: σw² = 1/erf(1/√(2q))."""
    from scipy.special import erf

    weights = phases["edge_weight_variance"].sel(activation="hard_tanh")
    np.testing.assert_allclose(weights, 1 / erf(1 / np.sqrt(2 * phases["edge_q"])), rtol=1e-12)
    assert (np.diff(phases["edge_bias_variance"], axis=1) >= 0).all()


def test_scaled_bounded_shapes(shapes):
    a = shapes["a"]
    inside = abs(shapes["x"]) <= a
    np.testing.assert_array_equal(
        shapes["phi"].where(inside).stack(z=("a", "x")).dropna("z").isel(activation=0),
        shapes["x"].where(inside).stack(z=("a", "x")).dropna("z"),
    )
    assert (abs(shapes["phi"]) <= a).all()
    assert float(shapes["phi"].sel(activation="ssaw", a=2, x=3)) == 1
    assert float(shapes["phi"].sel(activation="sexp", a=1, x=-3)) == pytest.approx(-np.exp(-2))
    assert float(shapes["phi"].sel(activation="ssin", a=1, x=4)) == pytest.approx(np.cos(3))


def test_linear_region(linear_region):
    one = linear_region.sel(a=1)
    assert float(one["q_star"]) == pytest.approx(0.63215546454830246, rel=1e-12)
    maps = one["correlation_map"]
    references = {-0.5: -0.243154736137687108, 0: 0.158188935488287763, 0.5: 0.559532607114262635}
    for rho, value in references.items():
        assert float(maps.sel(rho=rho)) == pytest.approx(value, rel=1e-11)
    # On [-1, 1] the distance from the identity is largest at -1, where it is 2σb²/q*.
    distance = linear_region["correlation_map"] - linear_region["rho"]
    largest = 2 * linear_region["bias_variance"] / linear_region["q_star"]
    np.testing.assert_allclose(distance.max("rho"), largest, rtol=1e-12)
    assert float(largest.sel(a=1)) == pytest.approx(0.316377870976575526, rel=1e-12)


def test_lower_bound_construction(construction):
    assert float(construction["delta"]) == pytest.approx(1.32561449118, rel=1e-11)
    assert float(construction["beta"]) == pytest.approx(0.939313444807, rel=1e-11)
    assert float(construction["nu"]) == pytest.approx(0.675948452556, rel=1e-11)
    # The tangent lies below g, which is convex, and touches it at Δ.
    assert (construction["g"] >= construction["tangent"]).all()
    below = construction["x"] < float(construction["nu"])
    assert (construction["g"] > construction["h"]).where(below, True).all()


def test_relu_correlations_by_depth(depth):
    path = depth["correlation"].sel(activation="relu")
    # ReLU is scale-invariant: the same at every q.
    np.testing.assert_allclose(path, path.isel(q=[0] * 4).values, rtol=1e-12)
    c = depth["initial_correlation"].values
    for layer in range(11):
        np.testing.assert_allclose(path.isel(q=0, layer=layer), c, rtol=1e-12)
        c = (np.sqrt(1 - c**2) + c * (np.pi - np.arccos(c))) / np.pi


def test_tanh_correlations_by_depth(depth):
    tanh = depth.sel(activation="tanh", q=0.2)
    assert float(tanh["weight_variance"]) == pytest.approx(1.1516998861216844**2, rel=1e-12)
    assert float(tanh["bias_variance"]) == pytest.approx(0.0691099029663101544**2, rel=1e-10)
    path = tanh["correlation"]
    np.testing.assert_allclose(path.isel(layer=0), [0.01, 0.6], rtol=1e-14)
    assert (path.diff("layer") > 0).all()
