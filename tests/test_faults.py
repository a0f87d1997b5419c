"""Sweeps that are killed, stopped, starved of disk or run twice: a rerun has the same bytes.

Real processes of the command line, real signals, real file systems.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from test_sweep import digest, write

import meanfield as mf

pytestmark = pytest.mark.faults

TEXT = """
activations = ["hard_tanh"]
method = "quadrature"
[axes]
sigma_w = { start = 0.5, stop = 3, num = 80 }
sigma_b = { start = 0.1, stop = 1, num = 64 }
"""
TOTAL = 80 * 64
KILLS = 20


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def config(base):
    return write(base, TEXT, "faults")


@pytest.fixture(scope="module")
def undisturbed(base, config):
    """Computed by the command line, so that kernels are kept for what follows."""
    process = start(base, config, base / "undisturbed")
    process.communicate()
    assert process.returncode == 0
    return digest(base / "undisturbed" / "faults.zarr")


def start(base, config, out, *options):
    command = [sys.executable, "-m", "meanfield", "sweep", str(config), "--out", str(out), *options]
    environment = {**os.environ, "MEANFIELD_CACHE": str(base / "cache")}
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def begun(process):
    """Wait until points are computed, and return what has been said."""
    said = []
    for line in process.stderr:
        said.append(line)
        if " of " in line:
            break
    return said


def finish(base, config, out):
    process = start(base, config, out)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return out / "faults.zarr"


def test_killed_at_random_moments(base, config, undisturbed, tmp_path):
    moments = random.Random(1)
    left = []
    for _ in range(KILLS):
        process = start(base, config, tmp_path)
        begun(process)
        time.sleep(moments.uniform(0.3, 2.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        path = tmp_path / "faults.zarr"
        left.append(mf.sweep.store.Store(path, "r").tally().get(mf.Status.PENDING, 0))
        if left[-1] == 0:
            assert digest(path) == undisturbed
            subprocess.run(["rm", "-r", str(path)], check=True)
    assert sum(0 < n < TOTAL for n in left) > KILLS // 3
    assert digest(finish(base, config, tmp_path)) == undisturbed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_chunk_in_hand(base, config, undisturbed, tmp_path, number):
    process = start(base, config, tmp_path)
    begun(process)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == 128 + number
    assert "the same command goes on from there" in errors
    assert "Traceback" not in errors
    done = TOTAL - mf.sweep.store.Store(tmp_path / "faults.zarr", "r").tally()[mf.Status.PENDING]
    assert f"{done} of {TOTAL} points" in errors
    assert not list((tmp_path / "faults.zarr").rglob("*.partial"))
    assert digest(finish(base, config, tmp_path)) == undisturbed


def test_two_sweeps_into_one_store(base, config, undisturbed, tmp_path):
    one = start(base, config, tmp_path)
    begun(one)
    one.send_signal(signal.SIGSTOP)
    other = start(base, config, tmp_path)
    _, errors = other.communicate()
    one.send_signal(signal.SIGCONT)
    assert other.returncode == 2
    assert f"is being computed by process {one.pid} on " in errors
    one.communicate()
    assert one.returncode == 0
    assert digest(tmp_path / "faults.zarr") == undisturbed


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


def test_a_full_disk(base, config, undisturbed, tmp_path):
    with mounted(tmp_path / "small", "1m") as out:
        (out / "ballast").write_bytes(bytes(300_000))
        process = start(base, config, out)
        begun(process)
        (out / "more").write_bytes(bytes(400_000))
        _, errors = process.communicate()
        assert process.returncode == 2
        assert "No space left on device" in errors
        assert "Traceback" not in errors
        (out / "more").unlink()
        assert digest(finish(base, config, out)) == undisturbed


def test_a_disk_that_is_too_small_is_told_before(base, config, tmp_path):
    with mounted(tmp_path / "small", "100k") as out:
        process = start(base, config, out)
        _, errors = process.communicate()
        assert process.returncode == 2
        assert "would take" in errors
        assert list(out.iterdir()) == []


def test_a_read_only_store(base, config, tmp_path):
    with mounted(tmp_path / "small", "2m") as out:
        process = start(base, config, out)
        begun(process)
        process.send_signal(signal.SIGTERM)
        process.communicate()
        subprocess.run(["mount", "-o", "remount,ro", str(out)], check=True)
        process = start(base, config, out)
        _, errors = process.communicate()
        assert process.returncode == 2
        assert "read-only" in errors.lower()
        assert "Traceback" not in errors
