"""Figures after Poole 2016, Schoenholz 2017 and Xiao 2018: their numbers, and their drawings.

The reference values were computed with composite Gauss-Legendre rules, and spot-checked with
mpmath at 30 digits.
"""

import numpy as np
import pytest
import xarray as xr

import meanfield as mf
from meanfield import plots
from meanfield.plots import poole2016 as poole_plots
from meanfield.plots import schoenholz2017 as schoenholz_plots
from meanfield.plots import xiao2018 as xiao_plots
from meanfield.studies import poole2016, schoenholz2017
from meanfield.sweep.spec import SweepSpec

TANH = mf.activation("tanh")

# tanh, σb = 0.3, σw = 1.3, 2.5, 4.
Q_STAR = [0.6070467919093, 4.0791238752822, 12.604149497844]
CHI = [0.9398074286822, 1.5852247650060, 2.3672610355459]
SLOPE = [0.473515869865, 0.233922045583, 0.130082102326]
CHI2 = [0.543472018641, 1.196041291424, 1.857176041411]
LIMIT = [1, 0.122103747306, 0.029695921580]
LIMIT_SLOPE = [0.939807428682, 0.822229172724, 0.759743605012]
CURVATURE_LIMIT = [np.inf, 3.8677098243, 1.7213799492]  # κ̄²
# ḡ, κ̄² and the length of the Gauss map after ten layers, to the digits printed.
AFTER_TEN = {
    "metric": [0.32629536, 408.76658, 69658.648],
    "curvature": [27.863341, 3.8315599, 1.7210828],
    "gauss_length": [3.0152411, 39.575417, 346.2489],
}

# tanh, σb² = 0.05: σw², q*, c*, χ1, ξ_q, ξ_c.
DEPTHS = np.array(
    [
        [1.3, 0.3153164775, 1, 0.8801635099, 1.78523663, 7.83406927],
        [1.5, 0.4180372005, 1, 0.9386362682, 1.68282839, 15.79099403],
        [1.7, 0.5330756279, 1, 0.9867408090, 1.55825401, 74.91827050],
        [1.76, 0.5694628399, 1, 0.9997964242, 1.52167117, 4911.675],
        [1.8, 0.5941321720, 0.9504105464, 1.0082231444, 1.49788379, 125.78409386],
        [2.0, 0.7217618727, 0.7440824195, 1.0476659996, 1.38797575, 25.21341479],
        [2.5, 1.0639583774, 0.4468042323, 1.1335156987, 1.17987292, 11.79559752],
        [4.0, 2.1954939280, 0.1650649620, 1.3424024144, 0.87329337, 6.98027353],
    ]
)
# The same with σw² = 1.76 and dropout: keep, q*, c*, ξ_c.
DROPOUT = np.array(
    [
        [0.99, 0.5803879243, 0.7663402382, 14.477940],
        [0.98, 0.5916005246, 0.6747248167, 10.504352],
        [0.95, 0.6270568699, 0.5098324497, 6.774595],
        [0.90, 0.6928365048, 0.3567367420, 4.666683],
        [0.80, 0.8552818432, 0.2008214166, 2.943774],
    ]
)
CRITICAL = 1.760954639607, 0.570047881641


@pytest.fixture(scope="module")
def lengths() -> xr.Dataset:
    return poole2016.length_maps(points=16, depth=12, size=(3, 3))


@pytest.fixture(scope="module")
def correlations() -> xr.Dataset:
    return poole2016.correlation_maps(points=6, depth=40, size=(3, 3), edge_points=7)


@pytest.fixture(scope="module")
def curvature() -> xr.Dataset:
    return poole2016.curvature(depth=40)


@pytest.fixture(scope="module")
def phases() -> xr.Dataset:
    return schoenholz2017.phases(size=(8, 6), edge_points=7)


@pytest.fixture(scope="module")
def scales() -> xr.Dataset:
    return schoenholz2017.scales(bias_variances=(0.05, 0.3), points=5)


@pytest.fixture(scope="module")
def dropout() -> xr.Dataset:
    return schoenholz2017.dropout(points=4)


@pytest.fixture(scope="module")
def edge(tmp_path_factory) -> xr.Dataset:
    return mf.open_results(mf.run_sweep(mf.load_config("xiao2018"), tmp_path_factory.mktemp("x")))


STUDIES = {
    "lengths": "poole2016-1",
    "correlations": "poole2016-2",
    "curvature": "poole2016-4",
    "phases": "schoenholz2017-1",
    "scales": "schoenholz2017-2",
    "dropout": "schoenholz2017-dropout",
    "edge": "xiao2018",
}


@pytest.mark.parametrize("fixture", STUDIES)
def test_dataset_is_labelled_and_draws(fixture, request):
    dataset = request.getfixturevalue(fixture)
    record = plots.figures[STUDIES[fixture]]
    assert set(record.needs) <= set(dataset.variables)
    for need in record.needs:
        assert {"symbol", "long_name", "units"} <= set(dataset[need].attrs)
    plots.draw(record.name, dataset).draw_without_rendering()


@pytest.mark.parametrize("name", ["poole2016", "schoenholz2017", "xiao2018"])
def test_config_names_its_figures(name):
    spec = mf.load_config(name)
    assert isinstance(spec, SweepSpec)
    known = {*spec.axes, *spec.observables, "q", "sigma_w", "sigma_b", "slope", "chi"}
    for figure in spec.figures:
        record = plots.figures[figure]
        assert figure.startswith(name)
        assert record.data is not None or set(record.needs) <= known


def test_registered_data_computes():
    for name, size in (("poole2016-4", {"depth": 40}), ("schoenholz2017-dropout", {"points": 4})):
        record = plots.figures[name]
        assert record.data is not None
        assert set(record.needs) <= set(record.data(**size).variables)


# Poole et al. 2016


def test_fixed_points_of_the_length_maps(lengths, correlations):
    np.testing.assert_allclose(lengths["q_star"], Q_STAR, rtol=1e-12)
    np.testing.assert_allclose(correlations["chi"], CHI, rtol=1e-12)
    state = mf.steady_state(mf.Dense(TANH, np.array(poole2016.SIGMA_W), poole2016.SIGMA_B))
    np.testing.assert_allclose(state.slope, SLOPE, rtol=1e-11)


def test_length_maps_and_dynamics(lengths):
    # V is increasing, with V(0) = σb², and its iterates close in on q* from either side.
    np.testing.assert_allclose(lengths["length_map"].sel(q=0), 0.09, rtol=1e-14)
    assert (lengths["length_map"].diff("q") > 0).all()
    path, q_star = lengths["variance"], lengths["q_star"]
    np.testing.assert_array_equal(path.isel(layer=0), [poole2016.VARIANCES] * 3)
    np.testing.assert_allclose(
        path.sel(sigma_w=2.5, initial_variance=15).isel(layer=1),
        lengths["length_map"].sel(sigma_w=2.5, q=15),
        rtol=1e-14,
    )
    assert (abs(path - q_star).diff("layer") < 0).all()
    # Linearly, by V'(q*) a layer: the slowest is 0.4735 at σw = 1.3.
    np.testing.assert_allclose(path.isel(layer=-1), q_star.values[:, None] * np.ones(3), rtol=1e-3)


def test_surface_of_the_fixed_variance(lengths):
    surface = lengths["surface_q_star"]
    assert float(surface.sel(surface_sigma_w=1, surface_sigma_b=0)) == 0
    assert (surface.diff("surface_sigma_w") > 0).all()
    assert (surface.diff("surface_sigma_b") > 0).all()


def test_limits_of_correlations(correlations):
    np.testing.assert_allclose(correlations["correlation_limit"], LIMIT, rtol=1e-10)
    np.testing.assert_allclose(correlations["correlation_limit_slope"], LIMIT_SLOPE, rtol=1e-11)
    maps = correlations["correlation_map"]
    np.testing.assert_allclose(maps.sel(c=1), 1, rtol=1e-14)
    # The map is convex, and below the identity just under 1 where χ1 > 1.
    assert (maps.diff("c", 2) > 0).all()
    np.testing.assert_array_equal(maps.isel(c=-2) < correlations["c"][-2], [False, True, True])


def test_correlations_reach_their_limits(correlations):
    path, limit = correlations["correlation"], correlations["correlation_limit"]
    starts = correlations["initial_correlation"].values
    np.testing.assert_allclose(path.isel(layer=0), [starts] * 3, rtol=1e-14)
    gap = abs(path - limit)
    assert (gap.diff("layer") < 0).all()
    # By C'(c*) a layer in the end.
    ratio = (gap.isel(layer=-1) / gap.isel(layer=-2)).mean("initial_correlation")
    np.testing.assert_allclose(ratio, LIMIT_SLOPE, rtol=5e-3)


def test_surfaces_of_order_and_chaos(correlations):
    limit, chi = correlations["surface_correlation_limit"], correlations["surface_chi"]
    assert np.isfinite(chi).all()
    # Without biases the variance vanishes at σw = 1, where χ1 = 1.
    corner = {"surface_sigma_w": 1, "surface_sigma_b": 0}
    assert float(chi.sel(corner)) == 1
    assert np.isnan(limit.sel(corner))
    # Elsewhere correlations go to 1 exactly where χ1 < 1; without biases they go to 0.
    np.testing.assert_array_equal((limit == 1).where(limit.notnull(), True), chi <= 1)
    chaotic = limit.sel(surface_sigma_b=0).where(chi.sel(surface_sigma_b=0) > 1, drop=True)
    np.testing.assert_allclose(chaotic, 0, atol=1e-12)


def test_edge_of_the_surfaces(correlations):
    layers = mf.Dense(
        TANH, correlations["edge_sigma_w"].values, correlations["edge_sigma_b"].values
    )
    np.testing.assert_allclose(layers.moments(correlations["edge_q"].values).mean, 1, rtol=1e-13)
    np.testing.assert_allclose(
        layers.variance(correlations["edge_q"].values), correlations["edge_q"], rtol=1e-12
    )
    # It crosses the surfaces from the corner to the upper side.
    assert float(correlations["edge_sigma_b"][0]) < 1e-2
    assert float(correlations["edge_sigma_b"][-1]) > 4


def test_curvature(curvature):
    np.testing.assert_allclose(curvature["chi2"], CHI2, rtol=1e-11)
    np.testing.assert_allclose(curvature["curvature_limit"] ** 2, CURVATURE_LIMIT, rtol=5e-11)
    start = curvature.isel(layer=0)
    np.testing.assert_allclose(start["metric"], Q_STAR, rtol=1e-12)
    np.testing.assert_allclose(start["curvature"], 1 / np.sqrt(Q_STAR), rtol=1e-12)
    np.testing.assert_allclose(start["gauss_length"], 1, rtol=1e-14)
    ten = curvature.sel(layer=10)
    np.testing.assert_allclose(ten["metric"], AFTER_TEN["metric"], rtol=2e-8)
    np.testing.assert_allclose(ten["curvature"] ** 2, AFTER_TEN["curvature"], rtol=3e-8)
    np.testing.assert_allclose(ten["gauss_length"], AFTER_TEN["gauss_length"], rtol=2e-7)
    chaotic = curvature.sel(sigma_w=[2.5, 4.0], layer=40)
    np.testing.assert_allclose(chaotic["curvature"], chaotic["curvature_limit"], rtol=1e-7)


# Schoenholz et al. 2017


def test_depth_scales():
    """Without dropout and with it."""
    weights = np.append(DEPTHS[:, 0], np.full(len(DROPOUT), 1.76))
    keep = np.append(np.ones(len(DEPTHS)), DROPOUT[:, 0])
    layers = mf.Dense(TANH, np.sqrt(weights), np.sqrt(0.05), keep=keep)
    state, limit = mf.steady_state(layers), mf.correlation_fixed_point(layers)
    scales = mf.depth_scales(layers)
    columns = (state.q, limit.c, state.chi, scales.xi_q, scales.xi_c)
    digits = (1e-10, 1e-10, 1e-10, 5e-9, 1e-9)
    for values, expected, atol in zip(columns, DEPTHS[:, 1:].T, digits, strict=True):
        # ξ_c is printed to eight decimals, but for 4911.675.
        near_edge = np.abs(expected - 4911.675) < 1
        np.testing.assert_allclose(
            np.where(near_edge, expected, values[:8]), expected, rtol=1e-9, atol=6 * atol
        )
    assert float(scales.xi_c[3]) == pytest.approx(4911.675, abs=6e-4)
    np.testing.assert_allclose(state.q[8:], DROPOUT[:, 1], rtol=1e-9)
    np.testing.assert_allclose(limit.c[8:], DROPOUT[:, 2], rtol=1e-9)
    np.testing.assert_allclose(scales.xi_c[8:], DROPOUT[:, 3], atol=6e-7)


def test_scales_diverge_at_the_edge(scales):
    weight, q_star = CRITICAL
    at = scales.sel(bias_variance=0.05)
    assert float(at["critical_weight_variance"]) == pytest.approx(weight, abs=1e-12)
    edge = mf.edge_of_chaos(TANH, np.sqrt(0.05))
    assert float(edge.q) == pytest.approx(q_star, abs=1e-12)
    assert (scales["weight_variance"].diff("point") > 0).all()
    np.testing.assert_allclose(scales["weight_variance"].isel(point=[0, -1]), [[1, 4]] * 2)
    # The critical network is in the middle; ξ_q is finite there.
    middle = scales.isel(point=scales.sizes["point"] // 2)
    assert (middle["xi_c"] > 1e8).all()
    assert np.isfinite(scales["xi_q"]).all()
    # On both sides ξ_c ≈ 1/|χ1 - 1|: the same 1e-4 away from it.
    beside = at["xi_c"].isel(point=[4, 6])
    np.testing.assert_allclose(beside[0], beside[1], rtol=1e-3)
    assert float(beside[0]) > 1e4


def test_dropout_bounds_the_depth_scale(dropout):
    headline = dropout["xi_c"].sel(weight_variance=1.76)
    assert float(headline.sel(keep=1)) == pytest.approx(4911.675, abs=6e-4)
    np.testing.assert_allclose(headline.sel(keep=DROPOUT[:, 0]), DROPOUT[:, 3], atol=6e-7)
    dropped = dropout["xi_c"].sel(keep=DROPOUT[:, 0])
    assert (dropped < 15).all()
    assert (dropout["xi_c"].diff("keep") < 0).all()


def test_phases(phases):
    chi, xi = phases["chi"], phases["xi_c"]
    assert (xi > 0).all()
    # Without biases and with σw² < 1 it is the limit for small ones.
    np.testing.assert_allclose(xi.isel(weight_variance=0, bias_variance=0), -1 / np.log(0.5))
    # In the ordered phase it is -1/log χ1.
    ordered = chi < 1 - 1e-12
    np.testing.assert_allclose((-1 / np.log(chi)).where(ordered), xi.where(ordered), rtol=1e-12)
    assert (phases["edge_weight_variance"].diff("edge_q") > 0).all()


# Xiao et al. 2018


def test_published_critical_network(edge):
    weight, bias = xiao_plots.PUBLISHED
    at = edge.sel(bias_variance=bias)
    assert float(at["sigma_w"]) ** 2 == pytest.approx(weight, abs=1e-11)
    assert float(at["q"]) == pytest.approx(0.0259209482, abs=6e-11)
    point = mf.critical_point(TANH, float(at["q"]))
    assert float(point.sigma_b) ** 2 == pytest.approx(bias, rel=1e-9)


def test_edge_leaves_the_corner_like_a_cube(edge):
    excess = edge["sigma_w"] ** 2 - 1
    ratio = edge["bias_variance"] / (excess**3 / 6)
    assert abs(ratio[0] - 1) < 1e-3
    assert abs(2 * edge["q"] / excess - 1)[0] < 1e-3


# The drawings, of toys that hold exactly what is shown


def surface_axes(n=4) -> dict[str, np.ndarray]:
    return {"surface_sigma_w": np.linspace(1, 5, n), "surface_sigma_b": np.linspace(0, 4, n)}


def toy_lengths() -> xr.Dataset:
    axes, q, layer = surface_axes(), np.linspace(0, 15, 4), np.arange(5)
    gain, starts = np.array([0.1, 0.5, 0.8]), np.array([1.0, 15.0])
    path = starts[:, None] * gain[:, None, None] ** layer
    surface = axes["surface_sigma_w"][:, None] * 4 + axes["surface_sigma_b"]
    return xr.Dataset(
        {
            "sigma_b": 0.3,
            "length_map": (("sigma_w", "q"), 1 + gain[:, None] * q),
            "q_star": ("sigma_w", 1 / (1 - gain)),
            "variance": (("sigma_w", "initial_variance", "layer"), path),
            "surface_q_star": (tuple(axes), surface),
        },
        coords={
            "sigma_w": [1.3, 2.5, 4.0],
            "q": q,
            "initial_variance": starts,
            "layer": layer,
            **axes,
        },
    )


def toy_correlations() -> xr.Dataset:
    axes, c, layer = surface_axes(6), np.linspace(0, 1, 4), np.arange(5)
    decay, starts = np.array([0.9, 0.7, 0.5]), np.array([0.2, 0.8])
    path = starts[:, None] * decay[:, None, None] ** layer
    # The edge of this toy is σw = 1 + σb/2.
    chi = axes["surface_sigma_w"][:, None] / (1 + axes["surface_sigma_b"] / 2)
    edge = np.linspace(0, 5, 6)
    return xr.Dataset(
        {
            "sigma_b": 0.3,
            "correlation_map": (("sigma_w", "c"), 0.1 + decay[:, None] * c),
            "correlation_limit": ("sigma_w", 0.1 / (1 - decay)),
            "correlation": (("sigma_w", "initial_correlation", "layer"), path),
            "surface_correlation_limit": (tuple(axes), np.minimum(1, 1 / chi)),
            "surface_chi": (tuple(axes), chi),
            "edge_sigma_w": ("edge_q", 1 + edge / 2),
            "edge_sigma_b": ("edge_q", edge),
        },
        coords={
            "sigma_w": [1.3, 2.5, 4.0],
            "c": c,
            "initial_correlation": starts,
            "layer": layer,
            **axes,
        },
    )


def toy_curvature() -> xr.Dataset:
    layer, chi = np.arange(6), np.array([0.9, 1.5, 2.4])
    metric = chi[:, None] ** layer
    return xr.Dataset(
        {
            "sigma_b": 0.3,
            "curvature": (("sigma_w", "layer"), 1 + 1 / metric),
            "curvature_limit": ("sigma_w", [np.inf, 1.0, 1.0]),
            "metric": (("sigma_w", "layer"), metric),
            "gauss_length": (("sigma_w", "layer"), 1 + metric),
        },
        coords={"sigma_w": [1.3, 2.5, 4.0], "layer": layer},
    )


def toy_phases() -> xr.Dataset:
    weight, bias = np.linspace(0.5, 4, 9), np.linspace(0, 0.5, 7)
    # The edge of this toy is σw² = 1 + 3 σb².
    chi = weight[:, None] / (1 + 3 * bias)
    edge = np.linspace(0, 1, 5)
    with np.errstate(divide="ignore"):
        xi = 1 / np.abs(np.log(chi))
    plane = ("weight_variance", "bias_variance")
    return xr.Dataset(
        {
            "chi": (plane, chi),
            "xi_c": (plane, xi),
            "edge_weight_variance": ("edge_q", 1 + 3 * edge),
            "edge_bias_variance": ("edge_q", edge),
        },
        coords={"weight_variance": weight, "bias_variance": bias},
    )


def toy_scales() -> xr.Dataset:
    bias = np.array([0.01, 0.05, 0.3])
    critical = 1 + 3 * bias
    weight = np.linspace([1.0] * 3, [4.0] * 3, 8, axis=-1)
    curve = ("bias_variance", "point")
    return xr.Dataset(
        {
            "weight_variance": (curve, weight),
            "xi_q": (curve, 2 / weight + bias[:, None]),
            "xi_c": (curve, 10 / np.abs(weight - critical[:, None])),
            "critical_weight_variance": ("bias_variance", critical),
        },
        coords={"bias_variance": bias},
    )


def toy_dropout() -> xr.Dataset:
    keep, weight = np.array([1.0, 0.9, 0.8]), np.linspace(1, 4, 6)
    return xr.Dataset(
        {
            "bias_variance": 0.05,
            "xi_c": (("keep", "weight_variance"), 9 * keep[:, None] / weight),
            "critical_weight_variance": 1.76,
        },
        coords={"keep": keep, "weight_variance": weight},
    )


def toy_edge() -> xr.Dataset:
    bias = np.geomspace(1e-9, 1, 6)
    sigma_w = np.sqrt(1 + np.cbrt(6 * bias))
    return xr.Dataset(
        {"sigma_w": ("bias_variance", sigma_w), "q": ("bias_variance", (sigma_w**2 - 1) / 2)},
        coords={"bias_variance": bias},
    )


DATASETS = {
    "poole2016-1": toy_lengths,
    "poole2016-2": toy_correlations,
    "poole2016-4": toy_curvature,
    "schoenholz2017-1": toy_phases,
    "schoenholz2017-2": toy_scales,
    "schoenholz2017-dropout": toy_dropout,
    "xiao2018": toy_edge,
}
# Lines in each panel, colour bars left out.
LINES = {
    "poole2016-1": [7, 9, 0],
    "poole2016-2": [7, 9, 1, 1],
    "poole2016-4": [5, 3, 3],
    "schoenholz2017-1": [1],
    "schoenholz2017-2": [6, 6, 2],
    "schoenholz2017-dropout": [4],
    "xiao2018": [3, 2],
}
# Variables whose every row is a line.
CURVES = {
    "poole2016-1": ["length_map", "variance"],
    "poole2016-2": ["correlation_map", "correlation", "edge_sigma_b"],
    "poole2016-4": ["curvature", "metric", "gauss_length"],
    "schoenholz2017-1": ["edge_bias_variance"],
    "schoenholz2017-2": ["xi_q", "xi_c"],
    "schoenholz2017-dropout": ["xi_c"],
    "xiao2018": ["q"],
}


def panels(fig) -> list:
    """Return the axes that are not colour bars."""
    return [ax for ax in fig.axes if ax.get_label() != "<colorbar>"]


@pytest.mark.parametrize("name", DATASETS)
def test_draws_the_dataset(name):
    dataset, record = DATASETS[name](), plots.figures[name]
    assert set(record.needs) == set(dataset.variables)
    assert "arXiv" in record.source
    axes = panels(plots.draw(name, dataset))
    assert [len(ax.lines) for ax in axes] == LINES[name]
    drawn = [np.asarray(line.get_ydata(), float) for ax in axes for line in ax.lines]
    for variable in CURVES[name]:
        values = dataset[variable].values
        for row in values.reshape(-1, values.shape[-1]):
            assert any(np.array_equal(row, line, equal_nan=True) for line in drawn), variable


@pytest.mark.parametrize("name", DATASETS)
def test_labels_are_complete_and_unclipped(name):
    fig = plots.draw(name, DATASETS[name]())
    fig.draw_without_rendering()
    for ax in fig.axes:
        assert ax.get_ylabel()
    for ax in panels(fig):
        assert ax.get_xlabel()
    box = fig.get_tightbbox()
    width, height = fig.get_size_inches()
    assert min(box.x0, box.y0) > -0.02
    assert box.x1 < width + 0.02
    assert box.y1 < height + 0.02


def test_divergence_leaves_the_panel(scales):
    """ξ_c is infinite on the edge, and its curves leave the panel on either side of it."""
    middle = panels(plots.draw("schoenholz2017-2", scales))[1]
    assert middle.get_yscale() == "log"
    assert middle.get_ylim()[1] == schoenholz_plots.HIGHEST
    marked = {float(np.asarray(line.get_xdata())[0]) for line in middle.lines}
    assert marked >= set(scales["critical_weight_variance"].values)


def test_networks_have_colours_of_their_own():
    assert len(set(poole_plots.COLORS)) >= len(poole2016.SIGMA_W)
