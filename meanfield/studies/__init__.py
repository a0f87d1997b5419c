"""The computations behind published figures, and checks of published claims.

A study calls the theory and returns an `xarray.Dataset` that carries everything its figure
shows; `meanfield.plots` draws from such a dataset alone. A check compares a sweep with a claim.
"""

import dataclasses
from collections.abc import Callable

import xarray as xr

from meanfield.registry import Registry
from meanfield.studies import theorem
from meanfield.studies.theorem import Verdict


@dataclasses.dataclass(frozen=True)
class Check:
    """A claim about a sweep: the axes and observables it needs, and the comparison."""

    needs: tuple[str, ...]
    function: Callable[[xr.Dataset], Verdict]


checks: Registry[Check] = Registry("check")
checks.register("scaled_bounded_theorem")(Check(theorem.NEEDS, theorem.scaled_bounded_theorem))

__all__ = ["Check", "Verdict", "checks"]
