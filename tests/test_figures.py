"""Every figure draws what its dataset holds, names what it lacks, and saves the same bytes."""

import functools
from pathlib import Path

import numpy as np
import pytest
import test_classic_figures as classic
import test_custom_activation_figure as custom
import test_rate_figures as rates
import test_spectrum_figures as spectra
import test_tutorial_figures as tutorial
import xarray as xr
from matplotlib.figure import Figure

from meanfield import plots
from meanfield.errors import MeanFieldError, Status

RHO = np.linspace(0, 1, 6)
FAMILIES = ["shtanh", "ssin", "sexp", "ssaw"]


def maps() -> xr.Dataset:
    q, rho, scale = np.linspace(0, 2, 5), np.linspace(-1, 1, 5), np.array([[1.0], [0.5], [0.6]])
    return xr.Dataset(
        {
            "length_map": (("activation", "q"), 0.1 + scale * q),
            "length_bias_variance": ("activation", [0.1, 0.1, 0.0]),
            "q_star": ("activation", [np.nan, 0.2, 0.0]),
            "correlation_map": (("activation", "rho"), 1 - scale * (1 - rho)),
            "correlation_bias_variance": ("activation", [0.0, 0.1, 0.1]),
        },
        coords={"activation": ["relu", "tanh", "elu"], "q": q, "rho": rho},
    )


def phase_data() -> xr.Dataset:
    weight, bias, q = np.linspace(0.5, 3, 9), np.linspace(1e-4, 0.25, 8), np.linspace(0.01, 7, 6)
    # The edge of chaos of this toy is σw² = 1 + 2 σb².
    limit = np.minimum(1.0, (1 + 2 * bias) / weight[:, None])
    edge_bias = np.linspace(0, 0.5, 6)
    return xr.Dataset(
        {
            "correlation_map": (("phase", "rho"), 0.4 + 0.6 * RHO - [[0.0], [0.2], [0.4]]),
            "phase_weight_variance": ("phase", [0.6, 1.2, 2.4]),
            "phase_chi": ("phase", [0.6, 1.0, 1.4]),
            "phase_limit": ("phase", [1.0, 1.0, 0.3]),
            "correlation_limit": (("weight_variance", "bias_variance"), limit),
            "edge_weight_variance": (
                ("activation", "edge_q"),
                1 + 2 * edge_bias + np.zeros((3, 1)),
            ),
            "edge_bias_variance": (("activation", "edge_q"), edge_bias + np.zeros((3, 1))),
        },
        coords={
            "phase": ["ordered", "critical", "chaotic"],
            "rho": RHO,
            "weight_variance": weight,
            "bias_variance": bias,
            "activation": ["tanh", "hard_tanh", "elu"],
            "edge_q": q,
        },
    )


def shapes() -> xr.Dataset:
    a, x = np.array([1.0, 2.0, 4.0]), np.linspace(-8, 8, 9)
    phi = np.clip(x, -a[:, None], a[:, None]) + np.zeros((4, 1, 1))
    return xr.Dataset(
        {"phi": (("activation", "a", "x"), phi)},
        coords={"activation": FAMILIES, "a": a, "x": x},
    )


def sweep() -> xr.Dataset:
    a, bias = np.arange(1.0, 11.0), np.array([1e-2, 1e-1, 1.0])
    value = 1 / a[:, None] ** 2 * bias * np.arange(1, 5)[:, None, None]
    dims = ("activation", "a", "bias_variance")
    return xr.Dataset(
        {
            "linear_width": (dims, 2 + value),
            "max_deviation": (dims, value),
            "moment_ratio": (dims, 1 + value),
        },
        coords={"activation": FAMILIES, "a": a, "bias_variance": bias},
    )


def linear_region() -> xr.Dataset:
    a, x, rho = np.array([1.0, 2.0]), np.linspace(-8, 8, 9), np.linspace(-1, 1, 5)
    return xr.Dataset(
        {
            "phi": (("a", "x"), np.clip(x, -a[:, None], a[:, None])),
            "correlation_map": (("a", "rho"), rho + 0.1 * (1 - rho) / a[:, None]),
            "q_star": ("a", a),
            "bias_variance": 0.1,
        },
        coords={"a": a, "x": x, "rho": rho},
    )


def construction() -> xr.Dataset:
    x = np.linspace(0.1, 3, 7)
    numbers = {"y": 0.25, "delta": 1.3, "beta": 0.9, "nu": 0.7}
    return xr.Dataset(
        {"g": ("x", 1 / x), "h": ("x", 1.2 - 0.3 * x), "tangent": ("x", 0.9 - x / 2), **numbers},
        coords={"x": x},
    )


def depth() -> xr.Dataset:
    layer, q, start = np.arange(31), np.array([0.1, 1.0]), np.array([0.01, 0.6])
    path = 1 - (1 - start[:, None]) / (1 + q[:, None, None] * layer)
    return xr.Dataset(
        {"correlation": (("activation", "q", "initial_correlation", "layer"), [path, path])},
        coords={
            "activation": ["relu", "tanh"],
            "q": q,
            "initial_correlation": start,
            "layer": layer,
        },
    )


def diagram() -> xr.Dataset:
    weight, bias = np.linspace(0.5, 4, 8), np.linspace(0, 0.5, 7)
    chi = weight / (1 + 3 * bias[:, None])
    status = np.full(chi.shape, Status.OK, dtype=np.int8)
    status[0, weight < 1] = Status.VANISHES
    status[2, 3] = Status.NOT_CONVERGED
    ok = status == Status.OK
    dims = ("bias_variance", "weight_variance")
    numbers = {"chi": chi, "q": weight + bias[:, None], "correlation_limit": np.minimum(1, 1 / chi)}
    return xr.Dataset(
        {k: (dims, np.where(ok, v, np.nan)) for k, v in numbers.items()}
        | {"status": (dims, status)},
        coords={"bias_variance": bias, "weight_variance": weight},
    )


def needed_region() -> xr.Dataset:
    depth = np.array([10, 100, 1000])
    return xr.Dataset(
        {
            "region": (("activation", "depth"), np.array([[3.0], [2.0]]) * depth**0.5),
            "promised": ("depth", depth**1.5),
        },
        coords={"activation": ["shtanh", "tanh"], "depth": depth},
    )


def heat_maps() -> xr.Dataset:
    a, bias, epoch = np.array([1.0, 2.0, 4.0]), np.array([1e-2, 1.0]), np.arange(17)
    accuracy = (0.1 + 0.05 * epoch) * np.ones((2, 3, 2, 2, 1))
    accuracy[1, 2, 0, 1, 5:] = np.nan
    return xr.Dataset(
        {"accuracy": (("ensemble", "a", "bias_variance", "seed", "epoch"), accuracy)},
        coords={"a": a, "bias_variance": bias, "epoch": epoch},
    )


def decreasing() -> xr.Dataset:
    a, bias, epoch = np.array([2.0, 10.0]), np.array([1e-2, 1.0]), np.arange(6)
    accuracy = 0.1 + 0.1 * epoch / a[:, None, None, None] + np.zeros((2, 1, 2, 3, 1))
    return xr.Dataset(
        {"accuracy": (("protocol", "a", "bias_variance", "seed", "epoch"), accuracy)},
        coords={
            "protocol": ["fixed", "scheduled"],
            "a": a,
            "bias_variance": bias,
            "epoch": epoch,
        },
    )


def trainable_depth() -> xr.Dataset:
    weight, depth, epoch = np.linspace(1, 4, 5), np.array([10, 20, 40]), np.arange(4)
    accuracy = np.linspace(0, 1, 60).reshape(5, 3, 4)
    accuracy[4, 2, 3] = np.nan
    return xr.Dataset(
        {"accuracy": (("weight_variance", "depth", "epoch"), accuracy)},
        coords={
            "weight_variance": weight,
            "depth": depth,
            "epoch": epoch,
            "xi_c": ("weight_variance", np.array([3.0, 20.0, np.inf, 8.0, 3.0])),
        },
    )


DATASETS = {
    "linear-region": needed_region,
    "murray2021-7": heat_maps,
    "murray2021-8": decreasing,
    "schoenholz2017-5": trainable_depth,
    "murray2021-1": maps,
    "murray2021-2": phase_data,
    "murray2021-3": shapes,
    "murray2021-4": sweep,
    "murray2021-5": sweep,
    "murray2021-6": linear_region,
    "murray2021-9": construction,
    "murray2021-depth": depth,
    "tanh-phase": diagram,
}
DATASETS |= (
    classic.DATASETS | rates.DATASETS | spectra.DATASETS | tutorial.DATASETS | custom.DATASETS
)
# Lines in each panel, colour bars left out.
LINES = {
    "linear-region": [3],
    "murray2021-1": [5, 4],
    "murray2021-2": [5, 1, 3, 3],
    "murray2021-3": [5] * 4,
    "murray2021-4": [8],
    "murray2021-5": [6, 6],
    "murray2021-6": [2, 3, 4],
    "murray2021-7": [0] * 6,
    "murray2021-8": [3, 3],
    "schoenholz2017-5": [1],
    "murray2021-9": [8],
    "murray2021-depth": [3] * 4,
    "tanh-phase": [1, 1],
}
LINES |= classic.LINES | rates.LINES | spectra.LINES | tutorial.LINES | custom.LINES
# Variables whose every row is a line; of the sweep, those at bias variance 0.1.
CURVES = {
    "linear-region": ["region", "promised"],
    "murray2021-1": ["length_map", "correlation_map"],
    "murray2021-2": ["correlation_map", "edge_bias_variance"],
    "murray2021-3": ["phi"],
    "murray2021-4": ["linear_width"],
    "murray2021-5": ["max_deviation"],
    "murray2021-6": ["phi", "correlation_map"],
    "murray2021-7": [],
    "murray2021-8": [],
    "schoenholz2017-5": [],
    "murray2021-9": ["g", "h", "tangent"],
    "murray2021-depth": ["correlation"],
    "tanh-phase": [],
}
CURVES |= (
    classic.CURVES
    | {name: [] for name in rates.DATASETS}
    | spectra.CURVES
    | tutorial.CURVES
    | custom.CURVES
)
# The limits of x and y, where they are the dataset's: panel, coordinate of x, of y.
LIMITS = {
    "murray2021-1": [(0, "q", None), (1, "rho", "rho")],
    "murray2021-2": [(0, "rho", "rho"), (1, "weight_variance", "bias_variance")],
    "murray2021-3": [(i, "x", None) for i in range(4)],
    "murray2021-6": [(0, "x", None), (1, "rho", "rho"), (2, "rho", None)],
    "tanh-phase": [(i, "weight_variance", "bias_variance") for i in range(2)],
}
NAMES = sorted(plots.figures)


@functools.cache
def drawn(name: str) -> Figure:
    """Return the drawing of a figure that tests share."""
    return plots.draw(name, DATASETS[name]())


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A function that saves the drawing of a figure, once, and returns the paths."""
    folder = tmp_path_factory.mktemp("saved")
    return functools.cache(lambda name: plots.save(drawn(name), folder, name))


def panels(fig: Figure) -> list:
    """Return the axes that are neither colour bars nor for atoms."""
    return [ax for ax in fig.axes if ax.get_label() not in ("<colorbar>", "<atoms>")]


def test_every_figure_has_a_dataset_here():
    assert set(DATASETS) == set(plots.figures) == set(LINES) == set(CURVES)


@pytest.mark.parametrize("name", NAMES)
def test_needs_are_exactly_what_is_shown(name):
    dataset, record = DATASETS[name](), plots.figures[name]
    if record.dataset != "murray2021":  # two figures share this sweep
        assert set(record.needs) == set(dataset.variables)
    assert record.name == name
    assert record.title
    assert "arXiv" in record.source


@pytest.mark.parametrize("name", NAMES)
def test_draws_the_dataset(name):
    dataset = DATASETS[name]()
    axes = panels(drawn(name))
    assert [len(ax.lines) for ax in axes] == LINES[name]
    lines = [np.asarray(line.get_ydata(), float) for ax in axes for line in ax.lines]
    for variable in CURVES[name]:
        values = dataset[variable]
        if name in ("murray2021-4", "murray2021-5"):
            values = values.sel(bias_variance=0.1)
        for row in values.values.reshape(-1, values.shape[-1]):
            assert any(np.array_equal(row, line, equal_nan=True) for line in lines), variable
    for panel, x, y in LIMITS.get(name, []):
        for coordinate, limits in ((x, axes[panel].get_xlim()), (y, axes[panel].get_ylim())):
            if coordinate is not None:
                ends = dataset[coordinate].values[[0, -1]]
                np.testing.assert_allclose(limits, ends, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_axes_are_labelled(name):
    fig = drawn(name)
    for ax in fig.axes:
        if ax not in panels(fig):
            assert ax.get_ylabel()
            continue
        spec = ax.get_subplotspec()
        assert ax.get_xlabel() or not spec.is_last_row()
        assert ax.get_ylabel() or not spec.is_first_col()
        shared = ax.get_shared_y_axes().get_siblings(ax)
        assert ax.get_ylabel() or len(shared) > 1


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_clipped(name, saved):
    saved(name)
    fig = drawn(name)
    box = fig.get_tightbbox()
    width, height = fig.get_size_inches()
    assert box.x0 > -0.02
    assert box.y0 > -0.02
    assert box.x1 < width + 0.02
    assert box.y1 < height + 0.02


@pytest.mark.parametrize("name", NAMES)
def test_missing_variable_is_named(name):
    dataset = DATASETS[name]()
    for need in plots.figures[name].needs:
        with pytest.raises(MeanFieldError, match=rf"\b{need}\b.*lacks"):
            plots.draw(name, dataset.drop_vars(need))
        with pytest.raises(MeanFieldError, match=rf"\b{need}\b.*lacks"):
            plots.figures[name].draw(dataset.drop_vars(need))


@pytest.mark.parametrize("name", NAMES)
def test_saved_bytes_are_the_same(name, saved, tmp_path):
    paths = saved(name)
    assert [path.name for path in paths] == [f"{name}.pdf", f"{name}.png"]
    pdf, png = (path.read_bytes() for path in paths)
    again = plots.save(plots.draw(name, DATASETS[name]()), tmp_path, name)
    assert [pdf, png] == [path.read_bytes() for path in again]
    assert pdf.startswith(b"%PDF")
    assert png.startswith(b"\x89PNG")
    assert b"CreationDate" not in pdf


def test_saving_one_drawing_twice_gives_the_same_bytes(tmp_path):
    drawing = plots.draw("murray2021-9", construction())
    first = [path.read_bytes() for path in plots.save(drawing, tmp_path, "x")]
    assert first == [path.read_bytes() for path in plots.save(drawing, tmp_path, "x")]


def test_sweep_without_the_paper_bias_variance_is_refused():
    with pytest.raises(MeanFieldError, match="bias_variance"):
        plots.draw("murray2021-4", sweep().sel(bias_variance=[1e-2, 1.0]))


def test_sweep_may_miss_points_and_families():
    dataset = sweep().sel(activation=["ssaw", "shtanh"])
    dataset["max_deviation"][0, 3] = np.nan
    dataset["moment_ratio"][0, :] = 1.0
    assert len(panels(plots.draw("murray2021-5", dataset))[0].lines) == 4


def test_phase_diagram_without_an_edge():
    dataset = diagram().sel(weight_variance=slice(3, None))
    dataset["chi"] = dataset["chi"].fillna(2.0) + 1
    assert len(panels(plots.draw("tanh-phase", dataset))) == 2


def test_unknown_figure_suggests():
    with pytest.raises(MeanFieldError, match="murray2021-1"):
        plots.draw("murray-1", maps())


def test_drawing_leaves_matplotlib_alone():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    plots.draw("murray2021-1", maps())
    assert dict(mpl.rcParams) == before


def test_the_gallery_shows_every_figure():
    folder = Path(__file__).parent.parent / "figures"
    gallery = (folder / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"`meanfield figure {name}`" in gallery
        assert f"({name}.png)" in gallery
        assert {path.suffix for path in folder.glob(f"{name}.*")} == {".pdf", ".png"}


def test_of_a_long_axis_every_so_manieth_point_is_drawn(monkeypatch):
    """What is left out is not looked at: a store of any size can be drawn."""
    monkeypatch.setattr(plots.base, "MOST", 3)
    x = np.arange(7)
    dataset = needed_region().isel(depth=0, drop=True).expand_dims(depth=10 ** (1 + x / 3))
    fig = plots.draw("linear-region", dataset.transpose("activation", "depth"))
    line, *_ = panels(fig)[0].get_lines()
    np.testing.assert_allclose(line.get_xdata(), 10 ** (1 + x[::3] / 3))


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_heat_maps_say_what_diverged_and_frame_the_best():
    dataset = heat_maps()
    axes = panels(plots.draw("murray2021-7", dataset))
    assert [ax.get_title("left") for ax in axes[:3]] == ["1 epoch", "4 epochs", "16 epochs"]
    # The first map has nothing to choose between; the last one has lost a network.
    assert texts(axes[0]) == ["15.0"] * 6
    assert texts(axes[5]) == ["90.0", "90.0", "×", "90.0", "90.0", "90.0"]
    assert len(axes[5].patches) == 2


def test_the_best_linear_region_of_each_bias_is_framed():
    dataset = heat_maps().isel(ensemble=0)
    dataset["accuracy"] = dataset["accuracy"] * 0 + (
        1 - 0.1 * np.abs(np.log2(dataset["a"]) - 2 * (dataset["bias_variance"] > 0.1))
    )
    ax = panels(plots.draw("murray2021-7", dataset))[0]
    assert [patch.get_xy() for patch in ax.patches] == [(-0.5, -0.5), (1.5, 0.5)]


def test_curves_of_trainings_are_means_over_seeds():
    dataset = decreasing()
    for ax, bias in zip(panels(plots.draw("murray2021-8", dataset)), (1e-2, 1.0), strict=True):
        mean = 100 * (1 - dataset["accuracy"].mean("seed").sel(bias_variance=bias))
        drawn = [line.get_ydata() for line in ax.lines]
        for a, line in zip(dataset["a"].values, drawn[:2], strict=True):
            np.testing.assert_allclose(line, mean.sel(a=a, protocol="fixed"))
        np.testing.assert_allclose(drawn[2], mean.sel(a=10, protocol="scheduled"))


def test_the_trainable_depth_is_six_depth_scales():
    dataset = trainable_depth()
    (ax,) = panels(plots.draw("schoenholz2017-5", dataset))
    drawn = np.asarray(ax.lines[0].get_ydata())
    np.testing.assert_allclose(drawn[[0, 4]], [18, 18])
    assert drawn.max() > ax.get_ylim()[1]


def test_what_a_figure_of_trainings_cannot_show_is_told():
    two = xr.concat([decreasing(), decreasing()], xr.IndexVariable("depth", [2, 3]))
    with pytest.raises(MeanFieldError, match=r"shows one depth, and there are 2; select one"):
        plots.draw("murray2021-8", two)
    one = two.isel(depth=[0]).sel(bias_variance=1.0)
    (ax,) = panels(plots.draw("murray2021-8", one))
    assert len(ax.lines) == 3


def test_more_linear_regions_than_line_styles():
    dataset = decreasing().sel(a=[2.0] * 9).assign_coords(a=np.arange(9.0))
    assert [len(ax.lines) for ax in panels(plots.draw("murray2021-8", dataset))] == [10, 10]
