"""Sweeps on worker processes: the same bytes, whoever is killed."""

import os
import signal
import subprocess
import sys
import time

import pytest
from processes import CHUNK, TOTAL
from test_cli import fails
from test_sweep import digest

import meanfield as mf
from meanfield.errors import MeanFieldError
from meanfield.sweep import cluster
from meanfield.sweep.store import Store

pytestmark = pytest.mark.faults


def workers_of(process):
    """Return the processes that a driver has started and that compute."""
    found = subprocess.run(
        ["pgrep", "-P", str(process.pid), "-f", "spawn_main"],
        capture_output=True,
        text=True,
        check=False,
    )
    return [int(pid) for pid in found.stdout.split()]


def test_two_workers_give_the_same_bytes_though_one_is_killed(sweep, tmp_path):
    process = sweep.begin(tmp_path, "--workers", "2")
    time.sleep(0.5)
    killed = workers_of(process)[-1]
    os.kill(killed, signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert digest(tmp_path / "faults.zarr") == sweep.undisturbed


def test_the_driver_is_killed_and_leaves_nobody_behind(sweep, tmp_path):
    process = sweep.begin(tmp_path, "--workers", "2")
    workers = workers_of(process)
    assert len(workers) >= 2
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.time() + 60
    while any(os.path.exists(f"/proc/{pid}") for pid in workers) and time.time() < deadline:
        time.sleep(0.2)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in workers)
    assert sweep.finish(tmp_path) == sweep.undisturbed


def test_ctrl_c_with_workers(sweep, tmp_path):
    process = sweep.begin(tmp_path, "--workers", "2")
    for pid in [process.pid, *workers_of(process)]:
        os.kill(pid, signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    left = Store(tmp_path / "faults.zarr", "r").tally().get(mf.Status.PENDING, 0)
    assert f"{TOTAL - left} of {TOTAL} points" in errors
    assert sweep.finish(tmp_path) == sweep.undisturbed


def test_the_scheduler_is_killed(sweep, tmp_path):
    address = "tcp://127.0.0.1:18786"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    module = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    scheduler = subprocess.Popen(
        [*module, "--host", "127.0.0.1", "--port", "18786", "--no-dashboard"], **quiet
    )
    module = [sys.executable, "-m", "distributed.cli.dask_worker"]
    worker = subprocess.Popen(
        [*module, address, "--nthreads", "1", "--no-dashboard", "--death-timeout", "60"], **quiet
    )
    try:
        process = sweep.begin(tmp_path, "--scheduler", address)
        time.sleep(2)
        scheduler.kill()
        _, errors = process.communicate(timeout=120)
        if process.returncode:
            assert process.returncode == 2
            assert "the same command goes on from there" in errors
    finally:
        for one in (scheduler, worker):
            one.kill()
            one.communicate()
    assert sweep.finish(tmp_path) == sweep.undisturbed


def test_mistakes(sweep, capsys, monkeypatch, tmp_path):
    out = ("--out", tmp_path / "out")
    assert "an integer >= 1" in fails(capsys, "sweep", sweep.config, *out, "--workers", "0")
    assert "--workers" in fails(capsys, "sweep", sweep.config, *out, "--slurm")
    said = fails(capsys, "sweep", sweep.config, *out, "--scheduler", "tcp://x:1", "--workers", "2")
    assert "not legal" in said
    said = fails(
        capsys, "sweep", sweep.config, *out, "--scheduler", "tcp://x:1", "--memory", "2GiB"
    )
    assert "give --memory to these" in said
    assert "such as 512MiB" in fails(capsys, "sweep", sweep.config, *out, "--memory", "much")
    monkeypatch.setattr(cluster, "PATIENCE", 1)
    said = fails(capsys, "sweep", sweep.config, *out, "--scheduler", "tcp://127.0.0.1:9")
    assert "no dask scheduler answers there" in said
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda _: None)
    said = fails(capsys, "sweep", sweep.config, *out, "--workers", "2")
    assert "pip install 'meanfield-jax[cluster]'" in said
    assert not (tmp_path / "out").exists()


def test_a_worker_with_other_versions_is_refused(sweep, monkeypatch):
    spec = Store(sweep.store, "r").root.attrs["spec"]
    monkeypatch.setattr(cluster, "versions", lambda _: "other")
    with pytest.raises(MeanFieldError, match="a worker has other versions"):
        cluster._opened.__wrapped__(str(sweep.store), spec, "")


def test_a_sweep_that_would_hold_too_much_ends(sweep, tmp_path):
    with pytest.raises(MeanFieldError, match="more than memory = 1e-06 GB"):
        mf.run_sweep(mf.load_config(sweep.config), tmp_path, memory=1000)
    assert Store(tmp_path / "faults.zarr", "r").tally()[mf.Status.OK] == CHUNK
