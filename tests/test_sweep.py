"""Sweeps: configs are checked in full, stores resume, reruns are byte-identical."""

import hashlib
import json
import warnings

import numpy as np
import pytest
import xarray as xr
import zarr

import meanfield as mf
from meanfield.errors import MeanFieldError, MeanFieldWarning, Status
from meanfield.sweep import config_names, engine
from meanfield.sweep.spec import SweepSpec
from meanfield.sweep.store import Store

SMALL = """
title = "small"
activations = ["shtanh", "ssaw"]
on = "edge_of_chaos"
observables = ["moment_ratio", "linear_width", "max_deviation"]
[axes]
a = [1, 2]
bias_variance = { start = 0.01, stop = 1, num = 3, spacing = "log" }
"""


def write(tmp_path, text, name="small"):
    path = tmp_path / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def digest(path):
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return {str(p.relative_to(path)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    base = tmp_path_factory.mktemp("sweep")
    spec = mf.load_config(write(base, SMALL))
    calls = []
    path = mf.run_sweep(spec, base / "one", lambda p: calls.append((p.done, p.total)))
    return base, spec, path, calls


def test_dataset_is_labelled(small):
    dataset = mf.open_results(small[2])
    assert dataset["q"].dims == ("activation", "a", "bias_variance")
    assert list(dataset["activation"].values) == ["shtanh", "ssaw"]
    for name in (*dataset.data_vars, *dataset.coords):
        assert dataset[name].attrs["symbol"], name
        assert dataset[name].attrs["long_name"], name
        assert dataset[name].attrs["units"], name
    flags = dict(
        zip(
            dataset["status"].attrs["flag_meanings"].split(),
            dataset["status"].attrs["flag_values"],
            strict=True,
        )
    )
    assert flags["ok"] == Status.OK
    assert flags["pending"] == 0
    assert json.loads(dataset.attrs["versions"])["jax"]
    assert SweepSpec.model_validate_json(dataset.attrs["spec"]) == small[1]
    assert dataset.attrs["unfinished"] == 0


def test_values_are_those_of_the_python_api(small):
    dataset = mf.open_results(small[2])
    assert np.all(dataset["status"] == Status.OK)
    point = mf.edge_of_chaos(mf.activation("ssaw", a=2.0), 0.1)
    row = dataset.sel(activation="ssaw", a=2.0).isel(bias_variance=0)
    assert float(row["q"]) == pytest.approx(float(point.q), rel=1e-13)
    assert float(row["sigma_w"]) == pytest.approx(float(point.sigma_w), rel=1e-13)
    np.testing.assert_allclose(row["chi"], 1, rtol=1e-12)
    # On the edge the largest change of a correlation in [0, 1] is R(0) = σb²/q*.
    ratio = dataset["max_deviation"] * dataset["q"] / dataset["bias_variance"]
    np.testing.assert_allclose(ratio, 1, rtol=1e-11)


def test_progress_counts_every_point_once(small):
    calls = small[3]
    assert calls[0] == (0, 12)
    assert calls[-1] == (12, 12)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})


def test_rerun_is_byte_identical_and_finished_stores_are_left_alone(small):
    base, spec, path, _ = small
    again = mf.run_sweep(spec, base / "two")
    assert digest(again) == digest(path)
    calls = []
    before = digest(path)
    mf.run_sweep(spec, base / "one", lambda p: calls.append((p.done, p.total)))
    assert calls == [(12, 12)]
    assert digest(path) == before


def test_interrupted_sweep_says_so_and_resumes(small, tmp_path, monkeypatch):
    _, spec, path, _ = small
    written = []
    whole = Store.write

    def stop_after_two(store, number, values):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(number)
        whole(store, number, values)

    monkeypatch.setattr(Store, "write", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        mf.run_sweep(spec, tmp_path)
    monkeypatch.undo()
    with pytest.warns(MeanFieldWarning, match="unfinished"):
        partial = mf.open_results(tmp_path / "small.zarr")
    assert 0 < partial.attrs["unfinished"] < 12
    (tmp_path / "small.zarr/q/c/0/0/0.1f.partial").write_bytes(b"left by a killed writer")
    resumed = mf.run_sweep(spec, tmp_path)
    assert digest(resumed) == digest(path)


def test_another_sweep_is_not_overwritten(small, tmp_path):
    spec = mf.load_config(write(tmp_path, SMALL.replace("[1, 2]", "[1, 3]")))
    with pytest.raises(MeanFieldError, match=r"of another config: axes.a was \[1.0, 2"):
        mf.run_sweep(spec, small[0] / "one")


def test_grid_without_an_edge_solves_the_steady_state(tmp_path):
    text = """
    activations = [{ name = "leaky_relu", negative_slope = 0.2 }]
    observables = ["correlation_limit", "decorrelation_limit", "correlation_limit_slope",
                   "correlation_at_zero", "jacobian_relative_variance", "max_deviation_full"]
    [axes]
    weight_variance = [0.5, 3.0]
    sigma_b = 0.5
    """
    dataset = mf.open_results(mf.run_sweep(mf.load_config(write(tmp_path, text)), tmp_path))
    assert dataset["q"].dims == ("weight_variance",)
    assert str(dataset["activation"].values) == "leaky_relu(negative_slope=0.2)"
    assert float(dataset["sigma_b"]) == 0.5
    assert list(dataset["status"].values) == [Status.OK, Status.DIVERGES]
    # q = σb²/(1 - σw²(1 + s²)/2)
    assert float(dataset["q"][0]) == pytest.approx(0.25 / (1 - 0.25 * 1.04), rel=1e-13)
    assert np.isnan(dataset["q"][1])
    assert float(dataset["correlation_limit"][0]) == 1.0


def test_points_outside_the_domain_are_flagged(tmp_path):
    text = """
    activations = ["ssin", "shtanh"]
    on = "edge_of_chaos"
    [axes]
    a = [0.5, 1.5]
    sigma_b = 0.3
    """
    dataset = mf.open_results(mf.run_sweep(mf.load_config(write(tmp_path, text)), tmp_path))
    status = dataset["status"].sel(activation="ssin").values
    assert list(status) == [Status.OUT_OF_DOMAIN, Status.OK]
    assert np.isnan(dataset["q"].sel(activation="ssin", a=0.5))
    assert np.all(dataset["status"].sel(activation="shtanh") == Status.OK)


def test_a_grid_of_one_point(tmp_path):
    text = 'activations = ["relu"]\n[axes]\nsigma_w = 1\nsigma_b = 0.5\n'
    dataset = mf.open_results(mf.run_sweep(mf.load_config(write(tmp_path, text)), tmp_path))
    assert dataset["q"].dims == ()
    assert float(dataset["q"]) == pytest.approx(0.5, rel=1e-13)


def test_an_activation_without_an_edge_spares_the_others(tmp_path):
    """Its points have a status and NaN; no chunk fails for them."""
    spec = SweepSpec(
        name="edgeless",
        activations=["softplus", "tanh"],
        on="edge_of_chaos",
        axes={"bias_variance": (0.0, 0.1)},
        observables=("moment_ratio",),
    )
    path = mf.run_sweep(spec, tmp_path)
    dataset = mf.open_results(path)
    assert Store(path, "r").failures() == {}
    assert (dataset["status"].sel(activation="softplus") == Status.NO_SOLUTION).all()
    assert dataset["sigma_w"].sel(activation="softplus").isnull().all()
    tanh = dataset.sel(activation="tanh")
    assert tanh["status"].values.tolist() == [Status.VANISHES, Status.OK]
    point = mf.edge_of_chaos(mf.activation("tanh"), np.sqrt(0.1))
    assert float(tanh["sigma_w"][1]) == pytest.approx(float(point.sigma_w), rel=1e-13)


def test_other_versions_are_not_mixed(small, monkeypatch):
    monkeypatch.setattr(engine, "versions", lambda _: '{"jax": "0.1"}')
    with pytest.raises(MeanFieldError, match=r'other versions: jax was "[\d.]+", is "0.1"; jaxlib'):
        mf.run_sweep(small[1], small[0] / "one")


@pytest.mark.parametrize("name", config_names())
def test_shipped_configs_run_on_a_small_grid(name, tmp_path):
    spec = mf.load_config(name)
    axes = {key: tuple(spec.values(key)[[0, -1]]) for key in spec.axes}
    first = spec.activations[:1]
    tiny = SweepSpec.model_validate({**spec.model_dump(), "axes": axes, "activations": first})
    dataset = mf.open_results(mf.run_sweep(tiny, tmp_path))
    assert np.all(np.isin(dataset["status"], [Status.OK, Status.VANISHES]))


BAD = {
    "axis": (SMALL.replace("a = [1, 2]", "b = [1, 2]"), r"axes.b is no parameter of shtanh"),
    "activation": (SMALL.replace('"ssaw"', '"sssaw"'), r"unknown activation 'sssaw'.*ssaw"),
    "observable": (SMALL.replace("moment_ratio", "moment_ration"), r"did you mean moment_ratio"),
    "unknown key": (
        SMALL.replace("title", "titel"),
        r"titel is not a known key; did you mean title",
    ),
    "unknown range key": (SMALL.replace("num", "nun"), r"nun is not a known key; did you mean num"),
    "descending": (SMALL.replace("stop = 1", "stop = 0.001"), r"stop = 0.001 must be above start"),
    "descending list": (SMALL.replace("[1, 2]", "[2, 1]"), r"a = \[2.0, 1.0\] must ascend"),
    "empty list": (SMALL.replace("[1, 2]", "[]"), r"axes.a = \(?\[?\]?\)? is not legal"),
    "log of zero": (SMALL.replace("start = 0.01", "start = 0"), r"positive for log spacing"),
    "one point": (SMALL.replace("num = 3", "num = 1"), r"axes.bias_variance.num = 1 is not legal"),
    "nan": (SMALL.replace("[1, 2]", "[1, nan]"), r"axes.a.1 = nan is not legal"),
    "text": (SMALL.replace("[1, 2]", "['x']"), r"axes.a.0 = 'x' is not legal"),
    "word for a number": (SMALL.replace("[1, 2]", "'x'"), r"axes.a = 'x' is not legal"),
    "both sigmas": (SMALL + "sigma_b = [1]\n", r"give sigma_b or bias_variance, not both"),
    "sigma_w on edge": (SMALL + "sigma_w = [1]\n", r"axes.sigma_w: on the edge"),
    "no sigma_w": (
        SMALL.replace('on = "edge_of_chaos"', ""),
        r"sigma_w or weight_variance is missing",
    ),
    "no bias": (SMALL.replace("bias_variance", "k"), r"axes.k is no parameter of ssaw|is missing"),
    "negative": (SMALL.replace("start = 0.01", "start = -1").replace("log", "linear"), r"negative"),
    "same twice": (SMALL.replace('"ssaw"', '"shtanh"'), r"must differ"),
    "no activations": (
        SMALL.replace('["shtanh", "ssaw"]', "[]"),
        r"activations = \[\] is not legal",
    ),
    "axis and fixed": (
        SMALL.replace('"ssaw"', '{ name = "ssaw", a = 2 }'),
        r"axes.a is fixed already",
    ),
    "bad parameter": (SMALL.replace('"ssaw"', '{ name = "ssaw", a = -2 }'), r"a = -2 is not legal"),
    "parameter text": (SMALL.replace('"ssaw"', '{ name = "ssaw", a = "x" }'), r"a = 'x' must be a"),
    "needs a": (
        SMALL.replace('["shtanh", "ssaw"]', '["tanh"]').replace("a = [1, 2]", ""),
        r"linear_width needs a parameter 'a', which tanh has not",
    ),
    "too many": (
        SMALL.replace("[1, 2]", "{ start = 1, stop = 2, num = 99999 }")
        .replace("num = 3", "num = 9999")
        .replace('on = "edge_of_chaos"', "")
        + "sigma_w = { start = 1, stop = 2, num = 9999 }",
        r"span \d+ points; at most",
    ),
    "no axes": ('activations = ["tanh"]', r"axes is missing"),
    "named": ('name = "x"\n' + SMALL, r"name is not legal"),
    "syntax": ("activations = [", r"is not TOML"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_configs_name_the_field(case, tmp_path):
    text, message = BAD[case]
    with pytest.raises(MeanFieldError, match=message):
        mf.load_config(write(tmp_path, text))


def test_all_problems_are_reported_at_once(tmp_path):
    text = SMALL.replace("title", "titel").replace("[1, 2]", "[2, 1]").replace("moment_ratio", "m")
    with pytest.raises(MeanFieldError) as caught:
        mf.load_config(write(tmp_path, text))
    assert len(str(caught.value).splitlines()) == 3
    axes = "[axes]\nsigma_w = -1\nweight_variance = 2\nsigma_b = [2, 1]\n"
    with pytest.raises(MeanFieldError) as caught:
        mf.load_config(write(tmp_path, 'activations = ["tanhh"]\n' + axes))
    lines = str(caught.value).splitlines()
    for line, words in zip(lines, ("tanhh", "negative", "ascend", "not both"), strict=True):
        assert words in line


def test_unknown_config_offers_near_names(tmp_path):
    with pytest.raises(MeanFieldError, match="did you mean murray2021"):
        mf.load_config("muray2021")
    with pytest.raises(MeanFieldError, match="known: "):
        mf.load_config("zzz")
    with pytest.raises(MeanFieldError, match="cannot be read"):
        mf.load_config(tmp_path / "absent.toml")


def test_what_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(MeanFieldError, match="does not exist"):
        mf.open_results(tmp_path / "absent.zarr")
    file = tmp_path / "file.zarr"
    file.write_text("no dataset")
    with pytest.raises(MeanFieldError, match="is no dataset"):
        mf.open_results(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        xr.Dataset({"x": ("t", [1.0])}).to_zarr(tmp_path / "other.zarr", consolidated=False)
    with pytest.raises(MeanFieldError, match="is no dataset"):
        mf.open_results(tmp_path / "other.zarr")
    empty = tmp_path / "empty.zarr"
    empty.mkdir()
    with pytest.raises(MeanFieldError, match="is no dataset"):
        mf.open_results(empty)


def test_unwritable_directory_is_named(small, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("in the way")
    with pytest.raises(MeanFieldError, match="cannot be written"):
        mf.run_sweep(small[1], blocker)


def test_chunks_hold_whole_tasks(small):
    root = zarr.open_group(small[2], mode="r")
    assert root["q"].chunks == root["status"].chunks
    assert root["q"].chunks[0] == 1
