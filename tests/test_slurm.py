"""Sweeps on a real Slurm: the same bytes, whoever cancels jobs, and what it refuses is told."""

import signal
import tempfile
import time
from pathlib import Path

import filelock
import local_slurm
import pytest
from test_sweep import digest

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(bool(local_slurm.missing()), reason=local_slurm.missing()),
]
OPTIONS = ("--slurm", "--workers", "2", "--memory", "1GiB")


@pytest.fixture(scope="module")
def slurm():
    # It has fixed ports: of several processes with tests one has it at a time.
    alone = filelock.FileLock(Path(tempfile.gettempdir(), "meanfield-slurm.lock"))
    with alone, tempfile.TemporaryDirectory(prefix="slurm") as folder:
        found = local_slurm.Slurm(Path(folder))
        try:
            found.start()
            yield found
        finally:
            found.stop()


def two_jobs(slurm, process):
    """Return the numbers of two jobs of a sweep, once there are so many."""
    while len(jobs := slurm.jobs()) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    return jobs


@pytest.fixture(autouse=True)
def environment(slurm, monkeypatch):
    """Let Slurm's commands meet it."""
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)


def test_jobs_give_the_same_bytes_though_one_is_cancelled(sweep, slurm, tmp_path):
    process = sweep.begin(tmp_path, *OPTIONS)
    slurm.ask("scancel", two_jobs(slurm, process)[0])
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "workers" in errors
    assert "Traceback" not in errors
    assert digest(tmp_path / "faults.zarr") == sweep.undisturbed
    slurm.wait_until_empty()


def test_ctrl_c_ends_the_jobs(sweep, slurm, tmp_path):
    process = sweep.begin(tmp_path, *OPTIONS)
    two_jobs(slurm, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert "the same command goes on" in errors
    slurm.wait_until_empty()
    assert sweep.finish(tmp_path) == sweep.undisturbed


def test_a_sweep_whose_jobs_have_all_ended_ends(sweep, slurm, tmp_path):
    process = sweep.begin(tmp_path, *OPTIONS)
    slurm.ask("scancel", *two_jobs(slurm, process))
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2, errors
    assert errors.count("error: ") == 1
    assert "Slurm has ended all jobs of the sweep" in errors
    assert sweep.finish(tmp_path) == sweep.undisturbed


@pytest.mark.parametrize(
    ("queue", "memory", "told"),
    [
        ("nowhere", "1GiB", "Invalid partition name specified"),
        ("main", "1TB", "Requested node configuration is not available"),
    ],
)
def test_what_slurm_refuses(sweep, slurm, tmp_path, queue, memory, told):
    slurm.configure(queue)
    try:
        process = sweep.start(tmp_path / "out", "--slurm", "--workers", "1", "--memory", memory)
        _, errors = process.communicate(timeout=300)
    finally:
        slurm.configure("main")
    assert process.returncode == 2
    assert errors.strip().endswith(told)
    assert not (tmp_path / "out").exists()


def test_jobs_need_memory(sweep, tmp_path):
    process = sweep.start(tmp_path / "out", "--slurm", "--workers", "1")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "--slurm needs --memory" in errors
    assert not (tmp_path / "out").exists()
