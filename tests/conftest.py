"""Settings of the whole suite: double precision, repeatable examples, programs kept."""

import os
from pathlib import Path

# Matrices here are small: threads would only wait for one another.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import platformdirs

from meanfield.cli.cache import use_compilation_cache

# Compiling takes most of the time: kernels are kept for later runs, of any checkout and of
# processes that tests start.
os.environ.setdefault(
    "MEANFIELD_CACHE", str(platformdirs.user_cache_path("meanfield", appauthor=False) / "tests")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
use_compilation_cache()

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

# JAX has read where they are; programs that tests start find it by themselves.
for name in [name for name in os.environ if name.startswith("JAX_COMPILATION_CACHE")]:
    del os.environ[name]

# It switches JAX to double precision before any test imports it.
import meanfield  # noqa: E402, F401

# A first call compiles, so no example has a deadline; the examples are the same in every run.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, max_examples=20)
hypothesis.settings.load_profile("suite")

# What `-m quick` runs.
QUICK = {
    f"test_{name}"
    for name in (
        "adaptive",
        "criticality",
        "custom_activation",
        "domains",
        "errors",
        "jacobian",
        "numpy_rules",
        "pair_rates",
        "panels",
        "registry",
        "rootfind",
        "shaping",
        "struct",
    )
}


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem in QUICK and item.get_closest_marker("slow") is None:
            item.add_marker(pytest.mark.quick)


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
