"""The figure of random networks shows what its dataset holds, and the dataset the comparison."""

import numpy as np
import pytest
import xarray as xr

import meanfield as mf
from meanfield.plots.simulation import LOOKS, draw_simulation
from meanfield.studies.simulation import simulation_data

QUANTITIES = list(LOOKS)


def data(layers=4, quantities=QUANTITIES, growth=1.0) -> xr.Dataset:
    layer = np.arange(layers)
    theory = growth**layer * np.arange(1.0, len(quantities) + 1)[:, None]
    z = np.where(layer == 0, np.nan, np.linspace(-3, 3, layers) + 0 * theory)
    dims = ("quantity", "layer")
    values = {"theory": theory, "mean": theory + 0.1 * z, "error": 0.1 + 0 * theory, "z": z}
    return xr.Dataset(
        {name: (dims, np.nan_to_num(v) if name == "mean" else v) for name, v in values.items()},
        coords={"quantity": quantities, "layer": layer, "width": ("layer", layer + 10)},
        attrs={"networks": 7},
    )


def panels(fig):
    return [ax for ax in fig.axes if ax.axison]


def drawn(ax):
    return [np.asarray(line.get_ydata(), float) for ax in [ax] for line in ax.lines]


def test_every_quantity_is_drawn():
    dataset = data()
    axes = panels(draw_simulation(dataset))
    assert len(axes) == 5
    shown = [y for ax in axes for y in drawn(ax)]
    for name in ("theory", "mean", "z"):
        for row in dataset[name].values:
            assert any(np.array_equal(row, y, equal_nan=True) for y in shown), name
    for ax in axes:
        assert ax.get_xlabel()
        assert ax.get_ylabel()


def test_nothing_is_clipped():
    fig = draw_simulation(data())
    fig.draw_without_rendering()
    box, (width, height) = fig.get_tightbbox(), fig.get_size_inches()
    assert min(box.x0, box.y0) > -0.02
    assert box.x1 < width + 0.02
    assert box.y1 < height + 0.02


def test_panels_without_quantities_are_left_out():
    axes = panels(draw_simulation(data(quantities=["q1", "q2", "c", "gradient"])))
    assert [ax.get_title(loc="left")[:3] for ax in axes] == ["(a)", "(b)", "(c)", "(d)"]


def test_wide_ranges_are_logarithmic_and_far_scores_are_shown():
    axes = panels(draw_simulation(data(growth=0.1)))
    assert [ax.get_yscale() for ax in axes] == ["log"] * 4 + ["linear"]
    assert panels(draw_simulation(data()))[0].get_yscale() == "linear"
    dataset = data()
    dataset["z"][2, 2] = -9.0
    assert panels(draw_simulation(dataset))[-1].get_ylim()[0] < -9


def test_points_of_deep_networks_are_thinned_out_and_lines_are_not():
    ax = panels(draw_simulation(data(layers=101)))[1]
    lengths = sorted({y.size for y in drawn(ax)})
    assert lengths[-1] == 101
    assert lengths[0] <= 20


def test_the_title_says_what_it_is():
    assert draw_simulation(data()).get_suptitle() == "7 random networks of widths 10 to 13"
    dataset = data().assign_attrs(activation="tanh").assign_coords(width=("layer", [5] * 4))
    assert draw_simulation(dataset).get_suptitle() == "tanh: 7 random networks of width 5"


@pytest.mark.parametrize("name", ["theory", "mean", "error", "z", "width"])
def test_what_is_missing_is_named(name):
    with pytest.raises(mf.MeanFieldError, match=rf"\b{name}\b.*lacks"):
        draw_simulation(data().drop_vars(name))


@pytest.mark.parametrize(
    ("widths", "known"), [((5, 5, 5), QUANTITIES), ((5, 4, 5), QUANTITIES[:5])]
)
def test_the_dataset_is_the_comparison(widths, known):
    found = mf.simulate(mf.Dense(mf.activation("tanh"), 1.5, 0.2), widths, 1.0, networks=3)
    comparison = mf.compare_with_theory(found)
    dataset = simulation_data(found, comparison)
    assert dataset["quantity"].values.tolist() == known
    assert tuple(dataset["width"].values) == widths
    assert dataset.attrs["networks"] == 3
    for row in comparison.rows:
        at = dataset.sel(quantity=row.quantity, layer=row.layer)
        for name in ("theory", "mean", "error", "z"):
            np.testing.assert_equal(float(at[name]), getattr(row, name))
            assert dataset[name].attrs["long_name"]
    draw_simulation(dataset)
