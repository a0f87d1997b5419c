"""The command `meanfield spectrum`: what it prints, draws and refuses."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import meanfield as mf
from meanfield import cli
from meanfield.errors import MeanFieldError
from meanfield.plots.spectrum import draw_spectrum
from meanfield.studies.spectrum import spectrum_data

runner = CliRunner()


def run(*args):
    return runner.invoke(cli.app, ["spectrum", *map(str, args)], catch_exceptions=True)


def record(*args):
    result = run(*args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_weights_are_critical_and_the_variance_is_fixed_by_default():
    found = record("hard_tanh", "--sigma-b", 0.2, "--depth", 3, "--ensemble", "orthogonal")
    phi = mf.activation("hard_tanh")
    point = mf.edge_of_chaos(phi, 0.2)
    assert found["sigma_w"] == pytest.approx(float(point.sigma_w), rel=1e-12)
    assert found["q"] == pytest.approx(float(point.q), rel=1e-10)
    assert found["mean"] == pytest.approx(1.0, rel=1e-10)
    p = float(phi.slope_moment(point.q, 2))
    assert found["s_max"] == pytest.approx(p**-1.5, rel=1e-9)
    assert found["s_min"] == 0
    (zero, low), (top, high) = found["atoms"]
    assert (zero, top) == (0, pytest.approx(found["s_max"]))
    assert (low, high) == (pytest.approx(1 - p), pytest.approx(1 - 3 * (1 - p)))
    assert found["quantiles"][-1] == [0.9, pytest.approx(found["s_max"], rel=1e-6)]
    assert found["status"] == "OK"


def test_relu_has_the_published_moments():
    found = record("relu", "--depth", 8, "--q", 1)
    assert found["moment_ratios"] == pytest.approx([17, 417, 12001], rel=1e-10)
    assert found["s_max"] == pytest.approx(43.5489788863**0.5, rel=1e-10)
    table = run("relu", "--depth", 8, "--q", 1)
    assert "s = 0: 0.5" in table.stdout
    assert "17, 417, 12001" in table.stdout


def test_what_has_no_spectrum_says_so(tmp_path):
    plot = tmp_path / "none.png"
    found = record("relu", "--sigma-w", 0, "--sigma-b", 1, "--plot", plot)
    assert found["status"] == "NO_SOLUTION"
    assert found["s_max"] is None
    assert not plot.exists()


def test_a_drawing(tmp_path):
    plot = tmp_path / "spectrum.png"
    found = record("hard_tanh", "--sigma-b", 0.2, "--depth", 2, "--plot", plot)
    assert found["plot"] == str(plot)
    assert plot.stat().st_size > 10_000


def test_a_dataset_is_labelled_and_draws():
    layer = mf.Dense(mf.activation("hard_tanh"), 1.1, 0.2, "orthogonal")
    dataset = spectrum_data(mf.check(mf.jacobian_spectrum(layer, 0.4, 3.0)), points=100)
    for name in dataset.variables:
        assert {"symbol", "long_name", "units"} <= set(dataset[name].attrs)
    log_s, density = dataset["log_s"].values, dataset["log_density"].values
    inside = np.isfinite(density)
    mass = np.trapezoid(density[inside], log_s[inside]) + dataset["atom_mass"].values.sum()
    assert mass == pytest.approx(1.0, abs=2e-3)
    draw_spectrum(dataset).draw_without_rendering()
    with pytest.raises(MeanFieldError, match="log_density"):
        draw_spectrum(dataset.drop_vars("log_density"))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("tanh", "--sigma-b", 0.1, "--depth", 0), "depth"),
        (("tanh", "--sigma-b", 0.1, "--ensemble", "unitary"), "unitary"),
        (("tanh", "--q", -1), "q = -1"),
        (("softplus",), "--sigma-w must be given"),
        (("relu", "--sigma-w", 3), "--q must be given"),
        (("tanh", "--plot", "x.gif"), ".png"),
        (("tanhh",), "tanhh"),
    ],
)
def test_mistakes_are_named(args, message):
    result = run(*args)
    assert isinstance(result.exception, MeanFieldError)
    assert message in str(result.exception)
