"""What a training is: a TOML config, read and checked.

    title = "Accuracy over linear region and bias"
    activations = ["shtanh"]
    on = "edge_of_chaos"             # σw is solved for; without it, give its axis
    data = "digits"                  # or "mnist5000", "mnist", "cifar10"
    depth = 50                       # hidden layers; or a list
    width = 100
    ensemble = "gaussian"            # or "orthogonal", or a list of both
    epochs = 100
    batch = 64
    learning_rate = 1e-3
    seeds = 3                        # so many networks of each kind

    [axes]                           # as in a sweep
    a = [1, 2, 5, 10]
    bias_variance = { start = 1e-4, stop = 1, num = 5, spacing = "log" }

    [schedule]                       # beside each network one whose a moves, epoch by epoch
    a = { to = 2, epochs = 80 }

In place of `on` and of σ's among the axes

    initialisation = ["torch", "edge_of_chaos", "shaped"]    # or one of them

names how networks begin (`meanfield.training.starts`), and

    gradients = true

keeps the norms of their first gradients, layer by layer. `checks` are claims that `meanfield
reproduce` looks at.

A scheduled network is initialised as the one beside it. In epoch i = 1, ..., n = `epochs` of its
schedule its parameter is a + (to - a)(i - 1)/(n - 1), and after them `to`.
"""

import difflib
import itertools
import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, Discriminator, Field, Tag, field_validator, model_validator

from meanfield.errors import MeanFieldError
from meanfield.shipped import is_training
from meanfield.sweep.config import (
    Axis,
    Ensemble,
    GridSpec,
    Number,
    Range,
    Strict,
    read_table,
    validated,
)
from meanfield.sweep.spec import SweepSpec, spec_of
from meanfield.training.data import sources

# More of something is a slip of the pen.
MAX_COUNT = 100_000
MAX_SCORES = 10**8
Protocol = Literal["fixed", "scheduled"]
Initialisation = Literal["torch", "edge_of_chaos", "shaped"]


def _kind(value: Any) -> str:
    return "list" if isinstance(value, list | tuple) else "one"


Count = Annotated[int, Field(ge=1, le=MAX_COUNT, strict=True)]
Depths = Annotated[
    Annotated[tuple[Count, ...], Tag("list"), Field(min_length=1)] | Annotated[Count, Tag("one")],
    Discriminator(_kind),
]
Ensembles = Annotated[
    Annotated[tuple[Ensemble, ...], Tag("list"), Field(min_length=1)]
    | Annotated[Ensemble, Tag("one")],
    Discriminator(_kind),
]
Initialisations = Annotated[
    Annotated[tuple[Initialisation, ...], Tag("list"), Field(min_length=1)]
    | Annotated[Initialisation, Tag("one")],
    Discriminator(_kind),
]


class Ramp(Strict):
    """Where a parameter goes to, and in how many epochs."""

    to: Number
    epochs: Annotated[int, Field(ge=2, le=MAX_COUNT, strict=True)]

    def values(self, start: float, epochs: int) -> np.ndarray:
        """Return the parameter in each of so many epochs."""
        ramp = np.linspace(start, self.to, self.epochs)
        return np.concatenate([ramp, np.full(epochs, self.to)])[:epochs]


class TrainingSpec(GridSpec):
    """A whole training."""

    what: ClassVar[str] = "training"
    tables: ClassVar[dict[str, type[BaseModel]]] = {"axes": Range, "schedule": Ramp}
    axes: dict[str, Axis] = Field(default_factory=dict)
    initialisation: Initialisations | None = None
    data: str
    depth: Depths
    width: Count
    ensemble: Ensembles = "gaussian"
    epochs: Count
    batch: Count = 64
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    seeds: Count = 1
    schedule: dict[str, Ramp] = Field(default_factory=dict)
    gradients: Annotated[bool, Field(strict=True)] = False
    checks: tuple[str, ...] = ()

    @field_validator("data")
    @classmethod
    def _data_exist(cls, name: str) -> str:
        return sources[name] and name

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainingSpec":
        if any(before >= after for before, after in itertools.pairwise(self.depths)):
            raise ValueError(f"depth = {list(self.depths)} must ascend")
        if len(set(self.ensembles)) < len(self.ensembles):
            raise ValueError(f"ensemble = {list(self.ensembles)} must differ from each other")
        if len(set(self.initialisations)) < len(self.initialisations):
            raise ValueError(
                f"initialisation = {list(self.initialisations)} must differ from each other"
            )
        for name in self.schedule:
            self._check_schedule(name)
        if self.networks > MAX_COUNT:
            raise ValueError(f"{self.networks} networks; at most {MAX_COUNT} are possible")
        scores = self.networks * (self.epochs + 1)
        if scores > MAX_SCORES:
            raise ValueError(f"{scores} epochs of all networks; at most {MAX_SCORES} are possible")
        return self

    def _check_sigma_axes(self) -> None:
        if self.initialisation is None:
            super()._check_sigma_axes()
            return
        if self.on is not None:
            raise ValueError("on: leave it out where initialisation is given, which says the same")
        for name in self.axes:
            raise ValueError(f"axes.{name}: leave it out where initialisation is given")
        if len(self.depths) > 1:
            raise ValueError(
                f"depth = {list(self.depths)} must be one number where initialisation is given"
            )

    def _check_schedule(self, name: str) -> None:
        if name not in self.parameter_axes:
            near = difflib.get_close_matches(name, self.parameter_axes, n=1)
            known = ", ".join(self.parameter_axes) or "there are none"
            hint = f"did you mean {near[0]}?" if near else f"legal: {known}"
            raise ValueError(f"schedule.{name} is no axis of a parameter; {hint}")
        if self.schedule[name].epochs > self.epochs:
            raise ValueError(
                f"schedule.{name}.epochs = {self.schedule[name].epochs} is not legal; "
                f"there are epochs = {self.epochs}"
            )
        for spec in self.activations:
            _, words, check = spec.parameters()[name]
            if not np.all(check(np.asarray(self.schedule[name].to))):
                raise ValueError(
                    f"schedule.{name}.to = {self.schedule[name].to:g} is not legal for "
                    f"{spec.label}; it must be {words}"
                )

    @property
    def depths(self) -> tuple[int, ...]:
        """All depths."""
        return self.depth if isinstance(self.depth, tuple) else (self.depth,)

    @property
    def ensembles(self) -> tuple[Ensemble, ...]:
        """All ensembles of weights."""
        return self.ensemble if isinstance(self.ensemble, tuple) else (self.ensemble,)

    @property
    def initialisations(self) -> tuple[Initialisation, ...]:
        """All initialisations by name; none where axes say how networks begin."""
        if self.initialisation is None:
            return ()
        given = self.initialisation
        return given if isinstance(given, tuple) else (given,)

    @property
    def protocols(self) -> tuple[Protocol, ...]:
        """Whether parameters of activations stay, or move too."""
        return ("fixed", "scheduled") if self.schedule else ("fixed",)

    @property
    def networks(self) -> int:
        """How many networks are trained."""
        kinds = len(self.activations) * len(self.depths) * len(self.ensembles) * len(self.protocols)
        points = math.prod(len(self.values(axis)) for axis in self.axes)
        return kinds * points * max(1, len(self.initialisations)) * self.seeds

    @property
    def variables(self) -> set[str]:
        """The names of all variables and coordinates of its dataset."""
        theory = {"q", "sigma_w", "sigma_b"}
        if self.initialisation is not None:
            theory |= {"initialisation", "chi"}
        elif not self.on:
            theory |= {"xi_c"}
        kinds = {"activation", "depth", "ensemble", "protocol", "seed", "epoch"}
        kept = {"gradient", "layer"} if self.gradients else set()
        return {*self.axes, *theory, *kinds, *kept, "loss", "accuracy", "status"}

    @property
    def theory(self) -> SweepSpec:
        """The sweep over the same activations and axes."""
        return SweepSpec(
            name=self.name,
            activations=self.activations,
            axes=self.axes,
            on=self.on,
            method="quadrature",
        )


def load_training(source: str | Path) -> TrainingSpec:
    """Return the training that a TOML file, or a shipped config's name, describes.

    Raises `MeanFieldError` with every problem in it, each naming the field.
    """
    table, path = read_table(source)
    if not is_training(table) and "observables" in table:
        raise MeanFieldError(f"{path.name} is a sweep; `meanfield sweep` runs it")
    return training_of(table, path.stem, path.parent)


def training_of(table: dict[str, Any], name: str, folder: Path | None = None) -> TrainingSpec:
    """Return the training that a table describes: see `meanfield.sweep.config.validated`."""
    return validated(TrainingSpec, table, name, folder)


def load_either(source: str | Path) -> SweepSpec | TrainingSpec:
    """Return the sweep or training that a TOML file, or a shipped config's name, describes.

    Raises `MeanFieldError` with every problem in it, each naming the field.
    """
    table, path = read_table(source)
    of = training_of if is_training(table) else spec_of
    return of(table, path.stem, path.parent)
