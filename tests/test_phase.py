"""Phase diagrams: the dataset agrees with the theory, and the drawing with the dataset."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from typer.testing import CliRunner

import meanfield as mf
from meanfield.activations import activations
from meanfield.cli import app
from meanfield.errors import MeanFieldError
from meanfield.phase import with_edge
from meanfield.plots.diagram import draw_diagram
from meanfield.plots.phase import label_contours

TANH = mf.activation("tanh")
SIGMA_W, SIGMA_B = np.array([0.8, 1.3, 2.5, 4.0]), np.array([0.0, 0.3])


@pytest.fixture(scope="module")
def diagram():
    return mf.phase_diagram(TANH, SIGMA_W, SIGMA_B)


def test_the_dataset_is_the_theory(diagram):
    layer = mf.Dense(TANH, SIGMA_W[:, None], SIGMA_B)
    state, depth = mf.steady_state(layer), mf.depth_scales(layer)
    limit = mf.correlation_fixed_point(layer)
    ok = np.asarray(state.status) == mf.Status.OK
    assert diagram.sizes == {"sigma_w": 4, "sigma_b": 2}
    for name, values in {
        "q": state.q,
        "slope": state.slope,
        "chi": state.chi,
        "epsilon": limit.epsilon,
        "xi_q": depth.xi_q,
        "xi_c": depth.xi_c,
        "xi_grad": depth.xi_grad,
    }.items():
        expected = np.where(ok, values, np.nan)
        assert diagram[name].values == pytest.approx(expected, rel=1e-12, nan_ok=True), name
        assert diagram[name].attrs["symbol"]
        assert diagram[name].attrs["long_name"]
    assert (diagram["status"].values == np.asarray(state.status)).all()
    # Poole et al. 2016, σb = 0.3.
    at = diagram.sel(sigma_b=0.3)
    assert at["q"].values[1:] == pytest.approx([0.6070467919093, 4.0791238752822, 12.604149497844])
    assert 1 - at["epsilon"].values[1:] == pytest.approx([1, 0.122103747306, 0.029695921580])


@pytest.mark.parametrize(
    ("sigma_w", "sigma_b"), [([2.0, 1.0], [0.1]), ([1.0], [-0.1]), ([], [0.1]), ([np.nan], [0.1])]
)
def test_illegal_axes(sigma_w, sigma_b):
    with pytest.raises(mf.MeanFieldError, match="sigma_"):
        mf.phase_diagram(TANH, sigma_w, sigma_b)


def lines(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def legend(fig):
    return [text.get_text() for text in fig.legends[0].get_texts()]


def test_the_drawing_shows_the_edge(diagram):
    fig = draw_diagram(with_edge(diagram, TANH))
    shown = lines(fig.axes[0])
    sigma_w, sigma_b = shown["edge of chaos"].get_data()
    exists = np.isfinite(sigma_w)
    place = np.interp(0.3, np.asarray(sigma_b)[exists], np.asarray(sigma_w)[exists])
    assert place == pytest.approx(1.395583975155, rel=1e-3)
    assert "edge of chaos, unstable" not in shown
    assert "variance vanishes" in legend(fig)


def test_the_unstable_stretch_is_dashed():
    phi = mf.activation("gelu")
    data = with_edge(mf.phase_diagram(phi, [1.0, 2.0], [0.1, 0.6]), phi)
    fig = draw_diagram(data)
    shown = lines(fig.axes[0])
    _, stable = shown["edge of chaos"].get_data()
    _, unstable = shown["edge of chaos, unstable"].get_data()
    assert np.nanmax(unstable) < 0.42
    assert np.nanmin(stable) > 0.39
    assert shown["edge of chaos, unstable"].is_dashed()
    assert "variance diverges from $q_0=1$" in legend(fig)


@pytest.mark.parametrize("method", ["quadrature", "table"])
def test_a_diagram_says_what_diverges_though_no_large_variance_is_resolved(method):
    snake = mf.from_callable(lambda x: x + jnp.sin(x) ** 2)
    status = mf.phase_diagram(snake, [0.75, 1.0, 1.5], [0.0, 0.5], method=method)["status"].values
    assert status[1:].tolist() == [[mf.Status.DIVERGES] * 2] * 2
    assert status[0].tolist() == [mf.Status.VANISHES, mf.Status.OK]


def test_steep_oscillations_are_answered_at_small_weights():
    waves = mf.from_callable(lambda x: jnp.sin(30 * x))
    diagram = mf.phase_diagram(waves, [0.01, 0.055, 0.1], [0.0, 0.05])
    # E sin² = (1 - e^{-1800 q})/2, of which 1/30² is σw² on the edge at q = 0.
    ok = diagram.isel(sigma_b=1)
    q = ok["sigma_w"] ** 2 * (1 - np.exp(-1800 * ok["q"])) / 2 + 0.05**2
    assert ok["q"].values == pytest.approx(q.values, rel=1e-10)
    assert (diagram["status"].values == [[6, 1], [1, 1], [1, 1]]).all()


def test_an_edge_of_one_point_and_none():
    relu = mf.activation("relu")
    data = with_edge(mf.phase_diagram(relu, [1.0, 2.0], [0.0, 0.5]), relu)
    assert "edge of chaos: one point" in lines(draw_diagram(data).axes[0])
    softplus = mf.activation("softplus")
    data = with_edge(mf.phase_diagram(softplus, [0.5, 1.0], [0.0, 0.5]), softplus)
    assert not any("edge" in label for label in lines(draw_diagram(data).axes[0]))
    with pytest.raises(mf.MeanFieldError, match="edge_sigma_w"):
        draw_diagram(data.drop_vars("edge_sigma_w"))


def run(*args):
    return CliRunner().invoke(app, ["phase", *args])


def test_the_command(tmp_path):
    plot, store = tmp_path / "tanh.png", tmp_path / "tanh.zarr"
    result = run(
        *("tanh", "--sigma-w", "0.8:2:3", "--sigma-b", "0.1:0.3:2", "--json"),
        *("--plot", str(plot), "--data", str(store)),
    )
    assert result.exit_code == 0, result.output
    record = json.loads(result.output)
    assert record["points"] == record["OK"] == record["ordered"] + record["chaotic"] == 6
    assert plot.stat().st_size > 1e4
    assert xr.open_zarr(store, consolidated=False)["q"].shape == (3, 2)


@pytest.mark.parametrize(("name", "sigma_w"), [("tanh", "0.5:3:81"), ("linear", "0.5:1.125:81")])
def test_the_axis_of_weights_ends_where_variances_no_longer_settle(name, sigma_w):
    # A linear network with σw = 1 and σb = 0 keeps every variance.
    record = json.loads(run(name, "--sigma-b", "0:1:2", "--json").output)
    assert record["sigma_w"] == sigma_w
    assert record["points"] == 162


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--sigma-w", "2:1:5"], "--sigma-w '2:1:5'"),
        (["--sigma-w", "1:2"], "--sigma-w '1:2'"),
        (["--sigma-b", "-1:2:3"], "--sigma-b"),
        (["--sigma-b", "a:2:3"], "--sigma-b"),
        (["--plot", "x.gif"], "x.gif"),
        (["--plot", "nowhere/x.png"], "nowhere"),
        (["--plot", "x.png", "--sigma-w", "1"], "two values"),
        (["--data", "x.nc"], "x.nc"),
        (["--sigma-w", "0:1:10000", "--sigma-b", "0:1:10000"], "points"),
        (["--keep", "0"], "keep"),
    ],
)
def test_mistakes_are_named(args, named):
    result = run("tanh", *args)
    assert isinstance(result.exception, mf.MeanFieldError)
    assert named in str(result.exception)


def test_dropout_moves_the_line():
    data = with_edge(mf.phase_diagram(TANH, [1.0, 1.5], [0.1, 0.3], keep=0.8), TANH, 0.8)
    at = data.isel(edge_q=200)
    layer = mf.Dense(TANH, float(at["edge_sigma_w"]), float(at["edge_sigma_b"]), keep=0.8)
    state = mf.steady_state(layer, float(at["edge_q"]))
    assert state.chi == pytest.approx(1, rel=1e-12)
    assert state.q == pytest.approx(float(at["edge_q"]), rel=1e-12)
    assert r"$\chi_1=1$" in lines(draw_diagram(data).axes[0])


def test_what_a_diagram_refuses():
    swish = mf.activation("swish", beta=np.array([0.5, 2.0]))
    for wrong in (
        lambda: mf.phase_diagram(swish, [1.0], [0.1]),
        lambda: mf.phase_diagram(TANH, [1.0], [0.1], keep=np.array([0.5, 0.9])),
        lambda: mf.phase_diagram(TANH, [1.0], [0.1], q0=-1.0),
        lambda: draw_diagram(with_edge(mf.phase_diagram(TANH, [1.5], [0.2]), TANH)),
    ):
        with pytest.raises(mf.MeanFieldError):
            wrong()


@pytest.mark.parametrize("name", sorted(activations))
def test_both_methods_agree(name):
    phi = mf.activation(name)
    axes = np.linspace(0.6, 2.6, 6), np.array([0.0, 0.05, 0.4, 1.0])
    direct = mf.phase_diagram(phi, *axes, method="quadrature")
    ours = mf.phase_diagram(phi, *axes, method="table")
    np.testing.assert_array_equal(ours["status"], direct["status"])
    for variable, tolerance in {"q": 1e-10, "chi": 1e-10, "moment_ratio": 1e-10}.items():
        np.testing.assert_allclose(ours[variable], direct[variable], rtol=tolerance)
    np.testing.assert_allclose(ours["slope"], direct["slope"], rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(ours["epsilon"], direct["epsilon"], rtol=1e-9)
    for variable in ("xi_q", "xi_c", "xi_grad"):
        np.testing.assert_allclose(ours[variable], direct[variable], rtol=1e-7)


def test_large_grids_are_read_off_a_table(monkeypatch):
    """A grid of 40 000 networks, with a slice of which a small one agrees."""
    phi = mf.activation("erf")
    axes = np.linspace(0.5, 4.0, 200), np.linspace(0.0, 1.0, 200)
    large = mf.phase_diagram(phi, *axes)
    small = mf.phase_diagram(phi, axes[0][::40], axes[1][::40], method="quadrature")
    for name in ("q", "chi", "status"):
        np.testing.assert_allclose(large[name][::40, ::40], small[name], rtol=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "method = 'magic' is not legal"),
        ({"method": "table", "keep": 0.9}, "a table knows no dropout, keep = 0.9"),
        ({"method": "table", "q0": -1.0}, "q0 = -1.0 is not legal"),
    ],
)
def test_methods_that_are_refused(options, message):
    with pytest.raises(MeanFieldError, match=message):
        mf.phase_diagram(mf.activation("tanh"), [1.0, 2.0], [0.1], **options)


def test_labels_of_neighbouring_contours_keep_clear_of_each_other():
    fig = Figure()
    ax = fig.subplots()
    x, y = np.linspace(0, 1, 21), np.linspace(0, 1, 21)
    levels = [0.5, 0.52, 0.54]
    lines = ax.contour(x, y, x + 0 * y[:, None], levels=levels)
    label_contours(ax, lines, {level: f"{level:g}" for level in levels})
    places = [np.array(text.get_position()) for text in ax.texts]
    assert len(places) == 3
    for i, one in enumerate(places):
        assert all(np.hypot(*(one - other)) > 0.08 for other in places[:i])


def test_what_has_no_answer_is_a_region():
    """A diagram of which most diverges does not hide its colours under marks."""
    phi = mf.activation("linear")
    data = with_edge(mf.phase_diagram(phi, [0.5, 0.8, 1.2, 2.0], [0.2, 0.5, 1.0]), phi)
    fig = draw_diagram(data)
    assert all(line.get_marker() in ("None", "o") for line in fig.axes[0].get_lines())
    assert "variance diverges from $q_0=1$" in legend(fig)
    assert any(
        region.hatches != [None] for region in fig.axes[0].collections if hasattr(region, "hatches")
    )
