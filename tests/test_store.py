"""Stores lose nothing: what is cut short, failed, stopped or locked is seen and mended."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from test_sweep import digest, write

import meanfield as mf
from meanfield.errors import MeanFieldError, MeanFieldWarning, Status
from meanfield.sweep import grid as grids
from meanfield.sweep.grid import Grid
from meanfield.sweep.lock import is_locked, locked
from meanfield.sweep.spec import spec_of
from meanfield.sweep.store import Store

TEXT = """
activations = ["hard_tanh"]
[axes]
sigma_w = { start = 0.5, stop = 3, num = 8 }
sigma_b = { start = 0.1, stop = 1, num = 5 }
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return mf.load_config(write(tmp_path_factory.mktemp("spec"), TEXT, "store"))


@pytest.fixture(scope="module")
def undisturbed(spec, tmp_path_factory):
    return digest(mf.run_sweep(spec, tmp_path_factory.mktemp("undisturbed")))


@pytest.fixture
def path(spec, tmp_path):
    return mf.run_sweep(spec, tmp_path)


@pytest.mark.parametrize("name", ["q", "chi", "status"])
@pytest.mark.parametrize("length", [0, 7, 200, None])
def test_a_chunk_that_was_cut_short_is_computed_again(spec, path, undisturbed, name, length):
    file = path / name / "c" / "2" / "0"
    if length is None:
        file.unlink()
    else:
        file.write_bytes((file.read_bytes() * 200)[:length])
    with pytest.warns(MeanFieldWarning, match="unfinished: 10 of 40"):
        mf.open_results(path)
    mf.run_sweep(spec, path.parent)
    assert digest(path) == undisturbed


def test_a_chunk_that_was_changed_is_refused_by_who_reads_it(path):
    file = path / "q" / "c" / "1" / "0"
    content = bytearray(file.read_bytes())
    content[3] ^= 1
    file.write_bytes(content)
    dataset = mf.open_results(path)
    np.asarray(dataset["chi"])
    with pytest.raises(ValueError, match="checksum"):
        np.asarray(dataset["q"])


@pytest.mark.parametrize("name", ["chi", "status"])
def test_a_file_that_a_power_cut_has_emptied_is_computed_again(spec, path, undisturbed, name):
    file = path / name / "c" / "3" / "0"
    file.write_bytes(bytes(file.stat().st_size))
    mf.run_sweep(spec, path.parent)
    assert digest(path) == undisturbed


def test_a_status_that_is_none_is_refused(path):
    file = path / "status" / "c" / "0" / "0"
    file.write_bytes(b"\x63" * file.stat().st_size)
    with pytest.raises(MeanFieldError, match=r"status/c/0/0 is damaged; delete it"):
        Store(path, "r").tally()


def test_failures_do_not_outlive_their_chunks(spec, path, undisturbed):
    """Killed between the message and the chunk."""
    store = Store(path, "r+")
    store.fail(1, "out of luck")
    (path / "status" / "c" / "1" / "0").unlink()
    mf.run_sweep(spec, path.parent)
    assert Store(path, "r").failures() == {}
    (path / "status" / "failures").rmdir()
    assert digest(path) == undisturbed


def test_what_killed_processes_made_aside_is_deleted(spec, path):
    for kind in ("building", "removed"):
        (path.parent / f"store.zarr.{kind}" / "q").mkdir(parents=True)
    mf.run_sweep(spec, path.parent)
    assert not list(path.parent.glob("store.zarr.*"))


def test_stopping_finishes_the_chunk_in_hand(spec, tmp_path, undisturbed):
    seen = []
    path = mf.run_sweep(spec, tmp_path, seen.append, stop=lambda: len(seen) > 2)
    assert [state.done for state in seen] == [0, 10, 20]
    assert Store(path, "r").tally() == {Status.PENDING: 20, Status.OK: 20}
    mf.run_sweep(spec, tmp_path)
    assert digest(path) == undisturbed


def test_chunks_that_raise_are_recorded_and_retried(spec, tmp_path, monkeypatch, undisturbed):
    evaluate = grids.evaluate

    def broken(spec, index, points, table):
        if points["sigma_w"].max() < 2:
            raise ZeroDivisionError("no such luck")
        return evaluate(spec, index, points, table)

    monkeypatch.setattr(grids, "evaluate", broken)
    seen = []
    path = mf.run_sweep(spec, tmp_path, seen.append)
    monkeypatch.undo()
    store = Store(path, "r")
    assert seen[-1].done == 40
    assert seen[-1].failed == 20
    assert store.tally() == {Status.OK: 20, Status.FAILED: 20}
    failures = store.failures()
    assert list(failures) == [0, 1]
    assert failures[0].rstrip().endswith("ZeroDivisionError: no such luck")
    assert np.isnan(mf.open_results(path)["q"].values[:4]).all()
    # They are left as they are, unless they are asked for.
    before = digest(path)
    mf.run_sweep(spec, tmp_path)
    assert digest(path) == before
    seen = []
    mf.run_sweep(spec, tmp_path, seen.append, retry_failed=True)
    assert [state.done for state in seen] == [20, 30, 40]
    assert digest(path) == undisturbed


def test_a_second_sweep_into_a_store_is_refused(spec, path):
    with locked(path):
        assert is_locked(path)
        with pytest.raises(MeanFieldError, match=r"is being computed by process \d+ on "):
            mf.run_sweep(spec, path.parent)
    assert not is_locked(path)
    mf.run_sweep(spec, path.parent)


def test_a_dead_process_holds_no_lock(path):
    code = (
        "import os, signal; from pathlib import Path; from meanfield.sweep.lock import locked\n"
        f"with locked(Path({str(path)!r})): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert not is_locked(path)
    with locked(path):
        pass


def test_overwriting_starts_anew(spec, path, undisturbed):
    other = spec.model_copy(update={"title": "another"})
    with pytest.raises(MeanFieldError, match=r'title was "", is "another"'):
        mf.run_sweep(other, path.parent)
    mf.run_sweep(other, path.parent, overwrite=True)
    assert mf.open_results(path).attrs["title"] == "another"
    mf.run_sweep(spec, path.parent, overwrite=True)
    assert digest(path) == undisturbed


def test_only_stores_are_overwritten(spec, tmp_path):
    folder = tmp_path / "store.zarr"
    folder.mkdir()
    (folder / "thesis.tex").write_text("all that I have")
    with pytest.raises(MeanFieldError, match="is no dataset"):
        mf.run_sweep(spec, tmp_path, overwrite=True)
    assert (folder / "thesis.tex").exists()


def test_a_store_that_does_not_fit_is_refused(spec, tmp_path):
    axis = {"start": 0.5, "stop": 3, "num": 100_000}
    huge = spec.model_copy(update={"axes": mf.sweep.SweepSpec(
        name="x", activations=["tanh"], axes={"sigma_w": axis, "sigma_b": axis},
    ).axes})  # fmt: skip
    assert Grid(huge).layout.bytes > 2e11
    with pytest.raises(MeanFieldError, match=r"would take \d+ GB, and there are"):
        mf.run_sweep(huge, tmp_path)
    assert list(tmp_path.glob("*")) == []


@pytest.mark.parametrize("size", [40, 10_000, 10**6, 10**8, 10**10])
@pytest.mark.parametrize("method", ["table", "quadrature"])
def test_larger_grids_have_larger_chunks(size, method):
    side = round(size**0.5)
    spec = mf.sweep.SweepSpec(
        name="x",
        activations=["tanh"],
        method=method,
        axes={
            "sigma_w": {"start": 0.5, "stop": 3, "num": side},
            "sigma_b": {"start": 0.1, "stop": 3, "num": side},
        },
    )
    grid = Grid(spec)
    points = int(np.prod(grid.chunks))
    assert points <= (131072 if method == "table" else 4096)
    if size >= 10**8:
        assert points > 0.7 * (131072 if method == "table" else 4096)


def test_chunks_tile_the_grid(path):
    store = Store(path, "r")
    seen = np.zeros(store.shape, int)
    for number, size in enumerate(store.sizes):
        seen[store.region(number)] += 1
        assert seen[store.region(number)].size == size
    assert (seen == 1).all()


def test_a_read_only_store_is_named(spec, path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(MeanFieldError, match="is read-only"):
        mf.run_sweep(spec, path.parent)


def test_a_full_disk_ends_the_sweep_with_what_is_there(spec, tmp_path, monkeypatch, undisturbed):
    write_ = Store.write
    chunks = []

    def full(store, number, values):
        chunks.append(number)
        if len(chunks) > 2:
            raise MeanFieldError("no space")
        write_(store, number, values)

    monkeypatch.setattr(Store, "write", full)
    with pytest.raises(MeanFieldError, match="no space"):
        mf.run_sweep(spec, tmp_path)
    monkeypatch.undo()
    mf.run_sweep(spec, tmp_path)
    assert digest(tmp_path / "store.zarr") == undisturbed


def test_a_large_store_is_read_when_it_is_looked_at(path):
    dataset = mf.open_results(path)
    assert not dataset["q"].variable._in_memory
    assert float(dataset["q"][3, 2]) > 0
    assert not dataset["q"].variable._in_memory


def test_no_file_is_left_beside_a_store(path):
    assert sorted(file.name for file in path.parent.iterdir()) == [".store.zarr.lock", "store.zarr"]
    assert Path(path).is_dir()


@pytest.mark.parametrize("encoded", [True, False])
@pytest.mark.parametrize("opened", [mf.open_results, xr.open_zarr])
def test_a_copy_by_xarray_is_called_one(path, tmp_path, opened, encoded):
    dataset = opened(path, **({"consolidated": False} if opened is xr.open_zarr else {}))
    copy = tmp_path / "copy.zarr"
    (dataset if encoded else dataset.drop_encoding()).to_zarr(copy, consolidated=False)
    with pytest.raises(MeanFieldError, match=r"copy that xarray wrote.*xarray.open_zarr reads it"):
        mf.open_results(copy)
    assert xr.open_zarr(copy, consolidated=False).sizes == dataset.sizes


def test_a_store_of_a_smaller_axis_says_what_differs_and_how_to_go_on(tmp_path):
    def grown(count, sigma_w):
        axes = {"sigma_w": sigma_w, "sigma_b": {"start": 0.1, "stop": 0.2, "num": count}}
        return spec_of({"activations": ["hard_tanh"], "axes": axes}, "grown")

    mf.run_sweep(grown(2, np.linspace(1, 2, 3).tolist()), tmp_path)
    larger = grown(3, np.linspace(1, 2, 41).tolist())
    with pytest.raises(MeanFieldError) as said:
        mf.run_sweep(larger, tmp_path)
    text = str(said.value)
    assert "axes.sigma_b.num was 2, is 3" in text
    assert "axes.sigma_w was [1.0, 1.5, 2.0], is 41 values from 1.0 to 2.0" in text
    assert "give the config another name or choose another directory (--out, out=)" in text
    assert "start anew in its place (--overwrite, overwrite=True)" in text
    assert len(text) < 500
    mf.run_sweep(larger, tmp_path, overwrite=True)
