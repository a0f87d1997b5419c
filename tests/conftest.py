"""Settings of the whole suite: double precision, repeatable examples, programs kept."""

import os

# Matrices here are small: threads would only wait for one another.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypothesis
import jax

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
