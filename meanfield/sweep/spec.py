"""What a sweep is: a TOML config, read and checked.

    title = "Bounds of the scaled-bounded theorem"
    activations = ["shtanh", { name = "leaky_relu", negative_slope = 0.2 }, "mine.py:phi"]
    on = "edge_of_chaos"                     # σw is solved for; without it, give its axis
    observables = ["moment_ratio"]
    method = "auto"                          # or "table" or "quadrature"; they agree

    [axes]
    a = { start = 1, stop = 10, num = 10 }   # or a list, or one number
    bias_variance = { start = 1e-4, stop = 1, num = 9, spacing = "log" }

Axes are sigma_w or weight_variance = σw², sigma_b or bias_variance = σb², and parameters that
all activations share.
"""

import math
from pathlib import Path
from typing import Any, ClassVar

from pydantic import field_validator, model_validator

from meanfield.errors import MeanFieldError
from meanfield.method import Method
from meanfield.observables import observables
from meanfield.shipped import is_training
from meanfield.sweep.config import Ensemble, GridSpec, read_table, validated

# A grid that no disk holds is a slip of the pen.
MAX_GRID = 10**12


class SweepSpec(GridSpec):
    """A whole sweep."""

    what: ClassVar[str] = "sweep"
    ensemble: Ensemble = "gaussian"
    method: Method = "auto"
    observables: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()

    @field_validator("observables")
    @classmethod
    def _observables_exist(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            observables[name]
        return names

    @model_validator(mode="after")
    def _fits_together(self) -> "SweepSpec":
        size = len(self.activations) * math.prod(len(self.values(name)) for name in self.axes)
        if size > MAX_GRID:
            raise ValueError(f"axes span {size} points; at most {MAX_GRID} are possible")
        for name in self.observables:
            for spec in self.activations:
                missing = set(observables[name].parameters) - set(spec.parameters())
                if missing:
                    raise ValueError(
                        f"observables: {name} needs a parameter {missing.pop()!r}, "
                        f"which {spec.label} has not"
                    )
        return self


def load_config(source: str | Path) -> SweepSpec:
    """Return the sweep that a TOML file, or a shipped config's name, describes.

    Raises `MeanFieldError` with every problem in it, each naming the field.
    """
    table, path = read_table(source)
    if is_training(table):
        raise MeanFieldError(f"{path.name} is a training; `meanfield train` runs it")
    return spec_of(table, path.stem, path.parent)


def spec_of(table: dict[str, Any], name: str, folder: Path | None = None) -> SweepSpec:
    """Return the sweep that a table describes: see `meanfield.sweep.config.validated`."""
    return validated(SweepSpec, table, name, folder)
