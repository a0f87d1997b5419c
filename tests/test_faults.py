"""Sweeps that are killed, stopped, starved of disk or run twice: a rerun has the same bytes.

Real processes of the command line, real signals, real file systems.
"""

import contextlib
import random
import signal
import subprocess
import time

import pytest
from processes import TOTAL
from test_sweep import digest

import meanfield as mf

pytestmark = pytest.mark.faults

KILLS = 20


def test_killed_at_random_moments(sweep, tmp_path):
    moments = random.Random(1)
    left = []
    for _ in range(KILLS):
        process = sweep.begin(tmp_path)
        time.sleep(moments.uniform(0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        path = tmp_path / "faults.zarr"
        left.append(mf.sweep.store.Store(path, "r").tally().get(mf.Status.PENDING, 0))
        if left[-1] == 0:
            assert digest(path) == sweep.undisturbed
            subprocess.run(["rm", "-r", str(path)], check=True)
    assert sum(0 < n < TOTAL for n in left) > KILLS // 3
    assert sweep.finish(tmp_path) == sweep.undisturbed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_chunk_in_hand(sweep, tmp_path, number):
    process = sweep.begin(tmp_path)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == 128 + number
    assert "the same command goes on from there" in errors
    assert "Traceback" not in errors
    done = TOTAL - mf.sweep.store.Store(tmp_path / "faults.zarr", "r").tally()[mf.Status.PENDING]
    assert f"{done} of {TOTAL} points" in errors
    assert not list((tmp_path / "faults.zarr").rglob("*.partial"))
    assert sweep.finish(tmp_path) == sweep.undisturbed


def test_two_sweeps_into_one_store(sweep, tmp_path):
    one = sweep.begin(tmp_path)
    one.send_signal(signal.SIGSTOP)
    other = sweep.start(tmp_path)
    _, errors = other.communicate()
    one.send_signal(signal.SIGCONT)
    assert other.returncode == 2
    assert f"is being computed by process {one.pid} on " in errors
    one.communicate()
    assert one.returncode == 0
    assert digest(tmp_path / "faults.zarr") == sweep.undisturbed


@contextlib.contextmanager
def mounted(folder, size):
    """Mount a small file system, where that is allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(sweep, tmp_path):
    with mounted(tmp_path / "small", "1m") as out:
        (out / "ballast").write_bytes(bytes(300_000))
        process = sweep.begin(out)
        (out / "more").write_bytes(bytes(400_000))
        _, errors = process.communicate()
        assert process.returncode == 2
        assert "No space left on device" in errors
        assert "Traceback" not in errors
        (out / "more").unlink()
        assert sweep.finish(out) == sweep.undisturbed


def test_a_disk_that_is_too_small_is_told_before(sweep, tmp_path):
    with mounted(tmp_path / "small", "4k") as out:
        process = sweep.start(out)
        _, errors = process.communicate()
        assert process.returncode == 2
        assert "would take" in errors
        assert list(out.iterdir()) == []


def test_a_read_only_store(sweep, tmp_path):
    with mounted(tmp_path / "small", "2m") as out:
        process = sweep.begin(out)
        process.send_signal(signal.SIGTERM)
        process.communicate()
        subprocess.run(["mount", "-o", "remount,ro", str(out)], check=True)
        process = sweep.start(out)
        _, errors = process.communicate()
        assert process.returncode == 2
        assert "read-only" in errors.lower()
        assert "Traceback" not in errors
