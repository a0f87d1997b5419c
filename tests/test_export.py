"""Sweeps as files for other programs: the same numbers, the same labels."""

import importlib.util

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from test_sweep import write

import meanfield as mf
from meanfield.errors import MeanFieldError
from meanfield.sweep import export
from meanfield.sweep.export import export_results

TEXT = """
activations = ["hard_tanh", { name = "leaky_relu", negative_slope = 0.2 }]
[axes]
sigma_w = [0.5, 1, 3]
sigma_b = { start = 0.1, stop = 1, num = 4 }
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    base = tmp_path_factory.mktemp("export")
    return mf.run_sweep(mf.load_config(write(base, TEXT, "both")), base)


def test_netcdf_keeps_everything(store, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "ROWS", 5)
    path = export_results(store, "netcdf", tmp_path / "both.nc")
    ours = mf.open_results(store)
    theirs = xr.load_dataset(path, engine="h5netcdf")
    assert set(theirs.coords) == set(ours.coords)
    for name in (*ours.coords, *ours.data_vars):
        assert theirs[name].dims == ours[name].dims
        np.testing.assert_array_equal(theirs[name].values, ours[name].values)
        assert theirs[name].attrs["long_name"] == ours[name].attrs["long_name"]
    assert theirs.attrs["spec"] == ours.attrs["spec"]


def test_csv_has_a_row_for_each_point(store, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "ROWS", 5)
    path = export_results(store, "csv", tmp_path / "both.csv")
    assert "q: fixed variance of pre-activations" in path.read_text().splitlines()[0]
    table = pd.read_csv(path, comment="#")
    ours = mf.open_results(store)
    assert list(table.columns[:3]) == ["activation", "sigma_w", "sigma_b"]
    assert len(table) == 24
    np.testing.assert_array_equal(table["q"], ours["q"].values.ravel())
    row = table[(table.activation == "leaky_relu(negative_slope=0.2)") & (table.sigma_w == 3)]
    assert set(row["status"]) == {"diverges"}


def test_parquet_or_what_it_needs(store, tmp_path):
    if importlib.util.find_spec("pyarrow") is None:
        with pytest.raises(MeanFieldError, match="pip install pyarrow"):
            export_results(store, "parquet", tmp_path / "both.parquet")
        return
    path = export_results(store, "parquet", tmp_path / "both.parquet")
    table = pd.read_parquet(path)
    np.testing.assert_array_equal(table["q"], mf.open_results(store)["q"].values.ravel())


def test_a_single_point(tmp_path):
    text = 'activations = ["hard_tanh"]\n[axes]\nsigma_w = 2.0\nsigma_b = 0.1\n'
    store = mf.run_sweep(mf.load_config(write(tmp_path, text, "one")), tmp_path)
    table = pd.read_csv(export_results(store, "csv"), comment="#")
    assert len(table) == 1
    assert float(table["sigma_w"].iloc[0]) == 2
    dataset = xr.load_dataset(export_results(store, "netcdf"))
    assert set(dataset.coords) == {"activation", "sigma_w", "sigma_b"}
    assert float(dataset["sigma_w"]) == 2


def test_mistakes(store, tmp_path):
    with pytest.raises(MeanFieldError, match="did you mean netcdf"):
        export_results(store, "netcfd")
    with pytest.raises(MeanFieldError, match="does not exist"):
        export_results(tmp_path / "absent.zarr", "csv")
    (tmp_path / "there.csv").write_text("mine")
    with pytest.raises(MeanFieldError, match="exists"):
        export_results(store, "csv", tmp_path / "there.csv")
    with pytest.raises(MeanFieldError, match="cannot be written"):
        export_results(store, "csv", tmp_path / "no" / "folder.csv")
    assert (tmp_path / "there.csv").read_text() == "mine"
