"""Settings of the whole suite: double precision, and hypothesis without surprises."""

import hypothesis

import meanfield  # noqa: F401  (switches JAX to double precision before any test imports it)

# Compiling dominates a first call, so no example has a deadline; runs repeat exactly.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, max_examples=20)
hypothesis.settings.load_profile("suite")
