"""What the configs of sweeps and of trainings have in common: activations, and axes of numbers.

Unknown keys are refused. All problems with keys and values are reported at once; only when there
are none, whether they fit together is looked at. An activation FILE.py:NAME is looked for beside
the config, and that file is executed: nothing else in a config is.
"""

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from meanfield.activations import Activation, activation, activations
from meanfield.activations.files import InFile, is_file, load
from meanfield.errors import MeanFieldError
from meanfield.shipped import config_directory, shipped

WEIGHT_AXES = ("sigma_w", "weight_variance")
BIAS_AXES = ("sigma_b", "bias_variance")
# A longer axis is a slip of the pen.
MAX_POINTS = 100_000
# Where names of files begin, while a config is read.
FOLDER = "folder"

Ensemble = Literal["gaussian", "orthogonal"]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Strict(BaseModel):
    """A table in which unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(Strict):
    """Evenly or logarithmically spaced values, both ends included."""

    start: Number
    stop: Number
    num: Annotated[int, Field(ge=2, le=MAX_POINTS)]
    spacing: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def _ascends(self) -> "Range":
        if self.stop <= self.start:
            raise ValueError(f"stop = {self.stop:g} must be above start = {self.start:g}")
        if self.spacing == "log" and self.start <= 0:
            raise ValueError(f"start = {self.start:g} must be positive for log spacing")
        return self

    def values(self) -> np.ndarray:
        if self.spacing == "linear":
            return np.linspace(self.start, self.stop, self.num)
        return np.logspace(np.log10(self.start), np.log10(self.stop), self.num)


def _axis_kind(value: Any) -> str:
    if isinstance(value, dict | Range):
        return "range"
    return "list" if isinstance(value, list | tuple) else "number"


Axis = Annotated[
    Annotated[Range, Tag("range")]
    | Annotated[tuple[Number, ...], Tag("list"), Field(min_length=1, max_length=MAX_POINTS)]
    | Annotated[Number, Tag("number")],
    Discriminator(_axis_kind),
]


def _values(axis: Axis) -> np.ndarray:
    return axis.values() if isinstance(axis, Range) else np.atleast_1d(np.asarray(axis, float))


class ActivationSpec(BaseModel):
    """An activation with fixed parameters; keys besides `name` are parameters."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str
    # Read once: a file that changes meanwhile changes no sweep.
    _in_file: InFile | None = PrivateAttr(default=None)

    @property
    def params(self) -> dict[str, float]:
        return dict(self.model_extra or {})

    @property
    def label(self) -> str:
        text = ", ".join(f"{key}={value:g}" for key, value in self.params.items())
        name = Path(self.name).name
        return f"{name}({text})" if text else name

    @property
    def folder(self) -> Path | None:
        """Where its file was looked for, None if it is not of one."""
        return self._in_file.folder if self._in_file else None

    @property
    def version(self) -> str | None:
        """What tells the content of what is not registered: a file's SHA-256, PyTorch's version."""
        return self._in_file.version if self._in_file else None

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that it has, as `Activation.parameters` does."""
        if self._in_file:
            return self._in_file.parameters()
        return activations[self.name].parameters()

    def make(self, **params: Any) -> Activation:
        """Return the activation with values of its parameters."""
        return self._in_file.make(**params) if self._in_file else activation(self.name, **params)

    @model_validator(mode="after")
    def _exists(self, info: ValidationInfo) -> "ActivationSpec":
        for key, value in self.params.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{key} = {value!r} must be a number")
        # One that is part of another config has been read already.
        if is_file(self.name) and self._in_file is None:
            self._in_file = load(self.name, (info.context or {}).get(FOLDER))
        self.make(**self.params)
        return self


class GridSpec(Strict):
    """Activations, each on the same grid of axes, anywhere or on the edge of chaos."""

    what: ClassVar[str]
    # The tables inside, by the key that they are under.
    tables: ClassVar[dict[str, type[BaseModel]]] = {"axes": Range}
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    title: str = ""
    activations: Annotated[tuple[ActivationSpec, ...], Field(min_length=1)]
    axes: dict[str, Axis]
    on: Literal["edge_of_chaos"] | None = None
    figures: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where files of activations are looked for; no part of what a sweep is."""
        folders = [one.folder for one in self.activations if one.folder is not None]
        return folders[0] if folders else Path()

    @field_validator("activations", mode="before")
    @classmethod
    def _names_are_activations(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [{"name": item} if isinstance(item, str) else item for item in value]
        return value

    @field_validator("axes")
    @classmethod
    def _are_legal_axes(cls, axes: dict[str, Axis]) -> dict[str, Axis]:
        problems = []
        for name, axis in axes.items():
            values = _values(axis)
            if np.any(np.diff(values) <= 0):
                problems.append(f"{name} = {values.tolist()} must ascend")
            if name in (*WEIGHT_AXES, *BIAS_AXES) and values.min() < 0:
                problems.append(f"{name} = {values.min():g} must not be negative")
        for one, other in (WEIGHT_AXES, BIAS_AXES):
            if one in axes and other in axes:
                problems.append(f"give {one} or {other}, not both")
        if problems:
            raise ValueError("\n".join(problems))
        return axes

    @model_validator(mode="after")
    def _axes_fit_activations(self) -> "GridSpec":
        labels = [spec.label for spec in self.activations]
        if len(set(labels)) < len(labels):
            raise ValueError(f"activations = {labels} must differ from each other")
        self._check_axis_names()
        self._check_sigma_axes()
        return self

    def _check_axis_names(self) -> None:
        sigmas = (*WEIGHT_AXES, *BIAS_AXES)
        for name in self.parameter_axes:
            for spec in self.activations:
                if name in spec.params:
                    raise ValueError(f"axes.{name} is fixed already: {spec.label}")
                if name not in spec.parameters():
                    known = (*sigmas, *spec.parameters())
                    near = difflib.get_close_matches(name, known, n=1)
                    hint = f"did you mean {near[0]}?" if near else f"legal: {', '.join(known)}"
                    raise ValueError(f"axes.{name} is no parameter of {spec.label}; {hint}")

    def _check_sigma_axes(self) -> None:
        for pair in (WEIGHT_AXES, BIAS_AXES):
            given = [name for name in pair if name in self.axes]
            solved = self.on == "edge_of_chaos" and pair is WEIGHT_AXES
            if solved and given:
                raise ValueError(f"axes.{given[0]}: on the edge of chaos it is solved for")
            if not solved and not given:
                raise ValueError(f"axes: {pair[0]} or {pair[1]} is missing")

    @property
    def parameter_axes(self) -> tuple[str, ...]:
        """The axes that are parameters of the activations."""
        return tuple(n for n in self.axes if n not in (*WEIGHT_AXES, *BIAS_AXES))

    def values(self, axis: str) -> np.ndarray:
        """Return the values of an axis; a single number is an axis of length one."""
        return _values(self.axes[axis])

    def is_fixed(self, axis: str) -> bool:
        """Return whether an axis is one number, not a list or range."""
        return isinstance(self.axes[axis], float)


Config = TypeVar("Config", bound=GridSpec)


def read_table(source: str | Path) -> tuple[dict[str, Any], Path]:
    """Return what is in a TOML file, or in a shipped config of a name, and its path.

    Raises `MeanFieldError` where there is none.
    """
    path = Path(source)
    if path.suffix != ".toml":
        names = shipped()
        if str(source) not in names:
            near = difflib.get_close_matches(str(source), names, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
            raise MeanFieldError(f"unknown config {str(source)!r}; {hint} (or give a .toml file)")
        path = config_directory() / f"{source}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")), path
    except OSError as error:
        raise MeanFieldError(f"config {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MeanFieldError(f"config {path} is not TOML: {error}") from error


def validated(
    kind: type[Config], table: dict[str, Any], name: str, folder: Path | None = None
) -> Config:
    """Return the config of a kind and a name that a table, the content of NAME.toml, describes.

    Files of activations are looked for from `folder`, by default from the current directory.

    Raises `MeanFieldError` with every problem in it, each naming the field.
    """
    if "name" in table:
        raise MeanFieldError(
            f"{name}.toml: name is not legal; the file's name is the {kind.what}'s"
        )
    try:
        return kind.model_validate({"name": name, **table}, context={FOLDER: folder})
    except ValidationError as error:
        found = error.errors()
        # An item that is refused is then missing from its list, which is no second problem.
        inner = {problem["loc"][:i] for problem in found for i in range(len(problem["loc"]))}
        problems = [
            _explain(kind, p) for p in found if p["type"] != "too_short" or p["loc"] not in inner
        ]
        lines = [line for text in problems for line in text.splitlines()]
        raise MeanFieldError("\n".join(f"{name}.toml: {line}" for line in lines)) from error


_KINDS = {"range", "list", "number", "one"}
_WORDS = {"too_short": "must not be empty", "tuple_type": "must be a list"}


def _explain(kind: type[GridSpec], problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"] if part not in _KINDS)
    message = problem["msg"].removeprefix("Value error, ").split(" or instance of ")[0]
    if problem["type"] == "extra_forbidden":
        table = kind if len(problem["loc"]) == 1 else kind.tables[problem["loc"][0]]
        known = [key for key in table.model_fields if key != "name"]
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"legal: {', '.join(known)}"
        return f"{where} is not a known key; {hint}"
    if problem["type"] == "missing":
        return f"{where} is missing"
    if problem["type"] in _WORDS:
        return f"{where} = {problem['input']!r} is not legal; it {_WORDS[problem['type']]}"
    if problem["type"] == "value_error":
        return "\n".join(f"{where}: {line}" if where else line for line in message.splitlines())
    return f"{where} = {problem['input']!r} is not legal; {message[0].lower()}{message[1:]}"
