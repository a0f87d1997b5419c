"""Settings of the whole suite: double precision, repeatable examples, programs kept."""

import os
from pathlib import Path

# Matrices here are small: threads would only wait for one another.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypothesis
import jax
import pytest

# It switches JAX to double precision before any test imports it.
import meanfield  # noqa: F401

# A first call compiles, so no example has a deadline; the examples are the same in every run.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, max_examples=20)
hypothesis.settings.load_profile("suite")


def pytest_configure(config):
    """Keep compiled programs between runs: compiling takes most of the time."""
    if config.cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("jax")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


# Each compiled kernel maps memory, of which Linux allows a process 65530 pieces.
MAPS = Path("/proc/self/maps")
MANY_MAPS = 10_000


@pytest.fixture(autouse=True)
def room_for_kernels():
    """Drop compiled kernels before a process has too many; they are on disk."""
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MANY_MAPS:
        jax.clear_caches()


@pytest.fixture(scope="session")
def sweep(tmp_path_factory):
    """A sweep whose processes can be killed."""
    from processes import Sweep

    return Sweep(tmp_path_factory.mktemp("processes"))
