"""The computations behind published figures, and checks of published claims.

A study calls the theory and returns an `xarray.Dataset` that carries everything its figure
shows; `meanfield.plots` draws from such a dataset alone. A check compares a sweep, or a training,
with a claim.
"""

import dataclasses
from collections.abc import Callable

import xarray as xr

from meanfield.registry import Registry
from meanfield.studies import initialisations, theorem
from meanfield.studies.theorem import Verdict


@dataclasses.dataclass(frozen=True)
class Check:
    """A claim about a sweep or a training: the names of what it needs, and the comparison."""

    needs: tuple[str, ...]
    function: Callable[[xr.Dataset], Verdict]


checks: Registry[Check] = Registry("check")
checks.register("scaled_bounded_theorem")(Check(theorem.NEEDS, theorem.scaled_bounded_theorem))
checks.register("better_than_default")(
    Check(initialisations.NEEDS, initialisations.better_than_default)
)

__all__ = ["Check", "Verdict", "checks"]
