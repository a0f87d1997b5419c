"""What the initialisers are for, and how a model is found to be something else.

The theory knows a chain of Linear and Conv layers with one pointwise activation between them, and
biases where σb > 0. A model may hold parts that it does not know. Those that change what a scale
means are faults: the model is refused, each part by its name. Those with which the scales are
still sensible are doubts, and a warning names them.
"""

import collections
import contextlib
import dataclasses
import re
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from meanfield.activations import Activation
from meanfield.errors import MeanFieldError, MeanFieldWarning
from meanfield.init import Initializer
from meanfield.integrations.critical import Scales

Role = Literal["input", "hidden", "output"]

# Points far out tell clipped functions from others.
POINTS = (-7.5, -3.1, -1.7, -0.6, -0.2, 0.3, 0.9, 1.8, 3.7, 7.5)
# Approximations of erf in GELU differ by less; statistics then agree as closely.
CLOSE = 1e-3
# Names that a message lists for one reason.
NAMED = 4

NORMALISES = "it normalises, so that gradients do not follow the scales of the weights"
ATTENDS = "it is attention, for which there is no edge of chaos here"
RECURS = "it is recurrent and uses its weights again and again"
JOINS = "it joins two paths of the network, as residual connections do"
NO_BIAS = "it has no bias while sigma_b > 0: give it one, or take sigma_b = 0"
OTHER_WEIGHTS = "it has weights that are not those of a Linear or Conv layer"
TWICE = "it is used more than once"
MIXES = "it is not elementwise"
POOLS = "it pools, and the variance behind it need not be q*"
DROPS = (
    "it drops units, and the edge of chaos is that without dropout: in training each such layer "
    "multiplies squared gradients by 1/keep"
)
NO_ACTIVATION = "there is no activation before it"
UNSEEN = "it could not be compared with the activation"
TRUSTED = "its own code is not looked into, and is trusted to call its layers as a chain"
LAST = "it is not the activation given; it must come after the last layer"

# Names of classes, those of base classes among them, in all frameworks.
_MOVES = re.compile("Dropout|Pool|Pad|Flatten|Reshape|Upsampl|Shuffle|Identity|Fold|InputLayer")
_FOREIGN = (
    (re.compile("(?i:norm)|LRN"), NORMALISES),
    (re.compile("Attention|Transformer"), ATTENDS),
    (re.compile("RNN|LSTM|GRU"), RECURS),
)


@dataclasses.dataclass(frozen=True)
class LayerPlan:
    """What a layer gets.

    `shape` is that of its weights in its framework, and `fan_in` how many numbers one output sees.
    Weights have the standard deviation σw/√fan_in, biases σb; a layer without biases has None.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    fan_in: int
    role: Role
    sigma_w: float
    sigma_b: float | None


class Plan(list[LayerPlan]):
    """The layers of a model with what they get, in their order; printed as a table."""

    def __repr__(self) -> str:
        heads = [field.name for field in dataclasses.fields(LayerPlan)]
        rows = [heads, *([_shown(value) for value in dataclasses.astuple(one)] for one in self)]
        wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(map(str.ljust, row, wide)).rstrip() for row in rows)
        return "\n".join(lines)

    __str__ = __repr__


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@dataclasses.dataclass(frozen=True)
class Part:
    """A layer with weights: its place in the model, and the shape (out, in, ...) of its weights."""

    name: str
    layer: Any
    shape: tuple[int, ...]
    groups: int
    linear: bool
    bias: bool
    first: bool
    last: bool = False

    def initializer(self, scales: Scales, distribution: Any) -> Initializer:
        return scales.weights(distribution, self.first, self.linear)

    def plan(self, scales: Scales, shape: tuple[int, ...]) -> LayerPlan:
        """Return what it gets; `shape` is that of its weights in the framework."""
        return LayerPlan(
            self.name,
            type(self.layer).__name__,
            shape,
            int(np.prod(self.shape[1:])),
            "input" if self.first else "output" if self.last else "hidden",
            scales.first if self.first else scales.sigma_w,
            scales.sigma_b if self.bias else None,
        )


def in_order(
    layers: dict[str, Any], shape: Callable[[Any], tuple[int, ...]], linear: type
) -> list[Part]:
    """Return the parts of layers that follow each other; `shape` is (out, in, ...) of a layer."""
    return [
        Part(
            name,
            layer,
            shape(layer),
            getattr(layer, "groups", getattr(layer, "feature_group_count", 1)),
            isinstance(layer, linear),
            layer.bias is not None,
            not number,
            number == len(layers) - 1,
        )
        for number, (name, layer) in enumerate(layers.items())
    ]


def of_kernel(layer: Any) -> tuple[int, ...]:
    """Return the shape (out, in, ...) of a kernel with the axes (..., in, out)."""
    *window, inputs, outputs = layer.kernel.shape
    return (outputs, inputs, *window)


class Findings:
    """Parts of a model that the theory does not know, by reason."""

    def __init__(self) -> None:
        self.faults: dict[str, list[str]] = {}
        self.doubts: dict[str, list[str]] = {}

    def fault(self, name: str, kind: Any, reason: str) -> None:
        self._note(self.faults, name, kind, reason)

    def doubt(self, name: str, kind: Any, reason: str) -> None:
        self._note(self.doubts, name, kind, reason)

    def _note(self, notes: dict[str, list[str]], name: str, kind: Any, reason: str) -> None:
        kind = kind if isinstance(kind, str) else type(kind).__name__
        text = f"{name or 'model'} ({kind})"
        if text not in notes.setdefault(reason, []):
            notes[reason].append(text)

    def settle(self) -> None:
        """Raise `MeanFieldError` for faults; else warn the caller's caller of doubts."""
        if self.faults:
            raise MeanFieldError(
                "model is not legal; it must be a chain of Linear and Conv layers with one "
                f"pointwise activation between them. {_told(self.faults)}"
            )
        if self.doubts:
            warnings.warn(_told(self.doubts), MeanFieldWarning, stacklevel=3)


def _told(notes: dict[str, list[str]]) -> str:
    def names(found: list[str]) -> str:
        rest = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        return ", ".join(found[:NAMED]) + rest

    return "; ".join(f"{names(found)}: {reason}" for reason, found in notes.items())


@dataclasses.dataclass(frozen=True)
class Kinds:
    """What a framework's modules are: its package, classes, and how their settings are asked.

    `matrices` says whether a module has weights of its own with two axes or more, `rate` with
    which probability dropout takes a unit away, and `values` makes of a module a function of
    numbers.
    """

    package: str
    layers: tuple[type, ...]
    embeddings: tuple[type, ...]
    has_bias: Callable[[Any], bool]
    matrices: Callable[[Any], bool]
    rate: Callable[[Any], float]
    values: Callable[[Any], Callable[[Iterable[float]], Any]]

    def is_own(self, part: Any) -> bool:
        return type(part).__module__.split(".")[0] == self.package

    def moves(self, part: Any) -> bool:
        """Return whether a module hands numbers on, in another place or as others' mean."""
        return isinstance(part, self.embeddings) or _MOVES.search(type(part).__name__) is not None


def holders(named: dict[str, Any], kinds: Kinds) -> set[str]:
    """Return the names of what layers are in; the whole model has the name ""."""
    inside: set[str] = set()
    for name, part in named.items():
        if isinstance(part, kinds.layers):
            steps = name.split(".")
            inside |= {".".join(steps[:size]) for size in range(len(steps))}
    return inside


def judge_kinds(
    named: dict[str, Any], kinds: Kinds, sigma_b: float, findings: Findings, critical: bool
) -> None:
    """Note the modules, which are named in their order, that the theory does not know.

    Dropout is noted where the scales are `critical`: those of the edge of chaos.
    """
    refused: list[str] = []
    above = holders(named, kinds)
    for name, part in named.items():
        if any(not one or name.startswith(f"{one}.") for one in refused):
            continue
        if isinstance(part, kinds.layers):
            if sigma_b > 0 and not kinds.has_bias(part):
                findings.fault(name, part, NO_BIAS)
            continue
        # A whole model may be named after what it does without.
        reason = None if not name and not kinds.is_own(part) else _foreign(part, name in above)
        if reason is None and not isinstance(part, kinds.embeddings) and kinds.matrices(part):
            reason = OTHER_WEIGHTS
        if reason is not None:
            findings.fault(name, part, reason)
            refused.append(name)
        elif "Pool" in type(part).__name__:
            findings.doubt(name, part, POOLS)
        elif critical and "Dropout" in type(part).__name__ and kinds.rate(part) > 0:
            findings.doubt(name, part, DROPS)


def _foreign(part: Any, holds_layers: bool) -> str | None:
    """Return why a part is none of the theory's, by the names of its classes.

    A block that is named after normalisation (or the lack of it) and holds layers is looked into.
    """
    names = [kind.__name__ for kind in type(part).__mro__]
    for pattern, reason in _FOREIGN:
        if any(map(pattern.search, names)) and not (holds_layers and reason == NORMALISES):
            return reason
    return None


def judge_untraced(
    named: dict[str, Any],
    kinds: Kinds,
    phi: Activation,
    sigma_b: float,
    critical: bool,
    ordered: bool,
) -> Findings:
    """Judge a model by its modules and functions; what its own classes do with them is trusted."""
    findings = Findings()
    judge_kinds(named, kinds, sigma_b, findings, critical)
    for name in sorted(holders(named, kinds)):
        part = named.get(name)
        if part is not None and not kinds.is_own(part) and type(part).__module__ != "builtins":
            findings.doubt(name, part, TRUSTED)
    twice = collections.Counter(id(part) for part in named.values())
    for name, part in named.items():
        if isinstance(part, kinds.layers) and twice[id(part)] > 1:
            findings.fault(name, part, TWICE)
    compare_modules(named, kinds, phi, findings, ordered)
    return findings


def compare_modules(
    named: dict[str, Any],
    kinds: Kinds,
    phi: Activation,
    findings: Findings,
    ordered: bool = False,
) -> None:
    """Compare with φ the modules and functions of a model whose operations are not known.

    If they are called in their order, what comes behind the last layer is the output's. Else that
    may be so if φ is seen as well.
    """
    if findings.faults:
        return
    last = [name for name, part in named.items() if isinstance(part, kinds.layers)][-1]
    above = holders(named, kinds)
    differ: list[tuple[str, Any, str, bool]] = []
    behind = seen = False
    between = True
    for name, part in named.items():
        if isinstance(part, kinds.layers):
            if ordered and not between:
                findings.doubt(name, part, NO_ACTIVATION)
            behind, between = behind or name == last, False
        if name in above or isinstance(part, kinds.layers) or kinds.moves(part):
            continue
        if ordered and behind:
            break
        # What does not take a row of numbers is no activation.
        identity, difference = False, None
        with contextlib.suppress(Exception):
            identity, difference = other_activation(phi, kinds.values(part))
            seen = seen or (difference is None and not identity)
        between = between or not identity
        if difference is not None:
            differ.append((name, part, difference, behind))
    for name, part, difference, behind in differ:
        if behind and (seen or difference == MIXES):
            findings.doubt(name, part, LAST)
        else:
            findings.fault(name, part, difference)


def other_activation(
    phi: Activation, values: Callable[[Iterable[float]], Any]
) -> tuple[bool, str | None]:
    """Return whether a function is the identity, and how it differs from φ if it does.

    The function takes a few numbers and returns as many, whatever it is written with; what it
    raises is raised.
    """
    seen = np.asarray(values(POINTS), dtype=float)
    if seen.shape != (len(POINTS),):
        return False, MIXES
    apart = [np.asarray(values([x]), dtype=float).ravel() for x in POINTS[::3]]
    if not np.allclose(np.ravel(apart), seen[::3], rtol=1e-4, atol=1e-6):
        return False, MIXES
    points = np.array(POINTS)
    asked = np.asarray(phi(jnp.asarray(points)), dtype=float)
    off = ~np.isclose(seen, asked, rtol=CLOSE, atol=CLOSE)
    if not off.any():
        return False, None
    if np.allclose(seen, points, rtol=1e-4, atol=1e-6):
        return True, None
    at = int(np.flatnonzero(off)[np.argmin(np.abs(points[off]))])
    return False, (
        f"its value at {points[at]:g} is {seen[at]:.4g}, that of the activation given "
        f"{asked[at]:.4g}"
    )
