"""The computations behind published figures: one module per paper, one function per figure.

A study calls the theory and returns an `xarray.Dataset` that carries everything its figure
shows; `meanfield.plots` draws from such a dataset alone.
"""

from collections.abc import Callable

import xarray as xr

from meanfield.registry import Registry
from meanfield.studies.theorem import Verdict, scaled_bounded_theorem

checks: Registry[Callable[[xr.Dataset], Verdict]] = Registry("check")
checks.register("scaled_bounded_theorem")(scaled_bounded_theorem)

__all__ = ["Verdict", "checks", "scaled_bounded_theorem"]
