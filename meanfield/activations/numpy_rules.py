"""A function of JAX, evaluated by NumPy: its traced operations, one after another.

To trace an activation takes milliseconds, to compile it a tenth of a second and more. `by_numpy`
returns nothing where an operation has no rule here; such a function must be compiled.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jax.lax import GatherScatterMode, RoundingMethod

# A function of more steps than this is faster compiled.
LONGEST = 150
# What an operation makes of its parameters and its arguments.
Rule = Callable[..., Any]


def by_numpy(
    function: Callable[..., tuple[Any, ...]], shape: tuple[int, ...]
) -> Callable[[np.ndarray], tuple[np.ndarray, ...]] | None:
    """Return a function of arrays of a shape as one of NumPy's arrays; None if it cannot be."""
    traced = jax.make_jaxpr(function)(jax.ShapeDtypeStruct(shape, np.float64))
    try:
        program = _Program(traced)
    except _NoRuleError:
        return None
    shapes = [kind.shape for kind in traced.out_avals]

    def evaluated(x: np.ndarray) -> tuple[np.ndarray, ...]:
        with np.errstate(all="ignore"):
            return tuple(map(np.broadcast_to, program([x]), shapes))

    return evaluated


class _NoRuleError(Exception):
    """An operation has no rule here, or there are too many of them."""


class _Program:
    """A traced function as a list of steps: what calls it made is in line, what is constant known.

    Values have numbers, in the order in which they become known.
    """

    def __init__(self, traced: ClosedJaxpr):
        self.constants: dict[int, Any] = {}
        self.steps: list[tuple[Rule, dict[str, Any], list[int], list[int]]] = []
        self.count = len(traced.jaxpr.invars)
        self.inputs = self.count
        with np.errstate(all="ignore"):
            self.outputs = self._add(traced.jaxpr, traced.consts, list(range(self.count)))
        if self.length > LONGEST:
            raise _NoRuleError(f"{self.length} steps")

    @property
    def length(self) -> int:
        """How many steps there are, those of loops as often as they are made."""
        total = 0
        for _, params, *_ in self.steps:
            inner = [part for part in params.values() if isinstance(part, _Program)]
            total += 1 + params.get("length", 1) * sum(part.length for part in inner)
        return total

    def __call__(self, inputs: list[Any]) -> list[Any]:
        known = [*inputs, *[None] * (self.count - self.inputs)]
        for place, value in self.constants.items():
            known[place] = value
        for rule, params, sources, places in self.steps:
            found = rule(params, *[known[i] for i in sources])
            if len(places) == 1:
                known[places[0]] = found
            else:
                for place, value in zip(places, found, strict=True):
                    known[place] = value
        return [known[i] for i in self.outputs]

    def _new(self, value: Any = None) -> int:
        self.count += 1
        if value is not None:
            self.constants[self.count - 1] = value
        return self.count - 1

    def _add(self, program: Jaxpr, constants: Any, inputs: list[int]) -> list[int]:
        places: dict[Any, int] = dict(zip(program.invars, inputs, strict=True))
        for variable, value in zip(program.constvars, constants, strict=True):
            places[variable] = self._new(np.asarray(value))

        def place(variable: Any) -> int:
            if isinstance(variable, Literal):
                kind = variable.aval
                return self._new(np.asarray(variable.val, kind.dtype)[()])  # pyright: ignore[reportAttributeAccessIssue]
            return places[variable]

        for equation in program.eqns:
            name, params = equation.primitive.name, equation.params
            sources = [place(v) for v in equation.invars]
            if name in CALLS:
                called = params[CALLS[name]]
                closed = isinstance(called, ClosedJaxpr)
                body, held = (called.jaxpr, called.consts) if closed else (called, ())
                found = self._add(body, held, sources)
            elif name in RULES and SERVES.get(name, _always)(equation):
                inner = {k: _inner(v) for k, v in params.items()}
                found = self._step(RULES[name], inner, sources, len(equation.outvars))
            else:
                raise _NoRuleError(name)
            places.update(zip(equation.outvars, found, strict=True))
        return [place(v) for v in program.outvars]

    def _step(self, rule: Rule, params: Any, sources: list[int], results: int) -> list[int]:
        if not all(i in self.constants for i in sources):
            found = [self._new() for _ in range(results)]
            self.steps.append((rule, params, sources, found))
            return found
        value = rule(params, *[self.constants[i] for i in sources])
        return [self._new(v) for v in ([value] if results == 1 else value)]


def _inner(value: Any) -> Any:
    """Return a parameter of an operation, with programs in place of what was traced."""
    if isinstance(value, tuple | list) and value and isinstance(value[0], ClosedJaxpr):
        return [_Program(part) for part in value]
    return _Program(value) if isinstance(value, ClosedJaxpr) else value


def _single(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _while(params: dict[str, Any], *inputs: Any) -> Any:
    tests, steps = params["cond_nconsts"], params["body_nconsts"]
    tested, fixed = inputs[:tests], inputs[tests : tests + steps]
    state = list(inputs[tests + steps :])
    while params["cond_jaxpr"]([*tested, *state])[0]:
        state = params["body_jaxpr"]([*fixed, *state])
    return _single(state)


def _scan(params: dict[str, Any], *inputs: Any) -> Any:
    consts, carried = params["num_consts"], params["num_carry"]
    fixed, state = inputs[:consts], list(inputs[consts : consts + carried])
    rows, steps = inputs[consts + carried :], range(params["length"])
    collected = []
    for i in reversed(steps) if params["reverse"] else steps:
        found = params["jaxpr"]([*fixed, *state, *(row[i] for row in rows)])
        state = found[:carried]
        collected.append(found[carried:])
    if params["reverse"]:
        collected.reverse()
    return _single([*state, *(np.stack(column) for column in zip(*collected, strict=True))])


def _cond(params: dict[str, Any], which: Any, *inputs: Any) -> Any:
    branches = params["branches"]
    return _single(branches[int(np.clip(which, 0, len(branches) - 1))](list(inputs)))


# What calls another function, and the parameter that names it.
CALLS = {
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}


def _special(name: str) -> Rule:
    def rule(_: Any, *x: Any) -> Any:
        # To import it takes longer than most activations.
        import scipy.special

        return getattr(scipy.special, name)(*x)

    return rule


def _plain(function: Callable[..., Any]) -> Rule:
    return lambda _, *x: function(*x)


def _broadcast(params: dict[str, Any], x: Any, *_: Any) -> Any:
    shape = params["shape"]
    if np.ndim(x) == 0:
        return np.full(shape, x)
    inner = [1] * len(shape)
    for axis, size in zip(params["broadcast_dimensions"], np.shape(x), strict=True):
        inner[axis] = size
    return np.broadcast_to(np.reshape(x, inner), shape)


def _select(_: Any, which: Any, *cases: Any) -> Any:
    which = np.asarray(which)
    if which.dtype == bool:
        return np.where(which, cases[1], cases[0])
    return np.choose(which, cases)


def _divided(_: Any, x: Any, y: Any) -> Any:
    if np.issubdtype(np.asarray(x).dtype, np.floating):
        return np.divide(x, y)
    return np.trunc(np.divide(x, y)).astype(np.asarray(x).dtype)


def _logistic(_: Any, x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _rounded(params: dict[str, Any], x: Any) -> Any:
    if params["rounding_method"] is RoundingMethod.TO_NEAREST_EVEN:
        return np.round(x)
    return np.copysign(np.floor(np.abs(x) + 0.5), x)


def _gathered(params: dict[str, Any], x: Any, places: Any, *_: Any) -> Any:
    """Return single elements of a vector: what a look-up in a table of knots is."""
    at = np.asarray(places)[..., 0].astype(np.int64)
    if params["mode"] is GatherScatterMode.FILL_OR_DROP:
        inside = (at >= 0) & (at < len(x))
        fill = params["fill_value"]
        value = np.where(inside, x[np.clip(at, 0, len(x) - 1)], np.nan if fill is None else fill)
    else:
        value = x[np.clip(at, 0, len(x) - 1)]
    return value if not params["dimension_numbers"].offset_dims else value[..., None]


def _sliced(params: dict[str, Any], x: Any) -> Any:
    strides = params["strides"] or (1,) * np.ndim(x)
    cuts = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return x[tuple(slice(*cut) for cut in cuts)]


def _cumulated(function: Callable[..., Any]) -> Rule:
    def rule(params: dict[str, Any], x: Any) -> Any:
        if params["reverse"]:
            flipped = function(np.flip(x, params["axis"]), axis=params["axis"])
            return np.flip(flipped, params["axis"])
        return function(x, axis=params["axis"])

    return rule


def _reduced(function: Callable[..., Any]) -> Rule:
    return lambda params, x: function(x, axis=tuple(params["axes"]))


def _dotted(params: dict[str, Any], x: Any, y: Any) -> Any:
    (mine, yours), _ = params["dimension_numbers"]
    return np.tensordot(x, y, axes=(mine, yours))


RULES: dict[str, Rule] = {
    "while": _while,
    "scan": _scan,
    "cond": _cond,
    **{
        name: _plain(getattr(np, by))
        for name, by in {
            "abs": "abs",
            "acos": "arccos",
            "acosh": "arccosh",
            "add": "add",
            "add_any": "add",
            "and": "logical_and",
            "asin": "arcsin",
            "asinh": "arcsinh",
            "atan": "arctan",
            "atan2": "arctan2",
            "atanh": "arctanh",
            "cbrt": "cbrt",
            "ceil": "ceil",
            "copy": "asarray",
            "cos": "cos",
            "cosh": "cosh",
            "eq": "equal",
            "exp": "exp",
            "exp2": "exp2",
            "expm1": "expm1",
            "floor": "floor",
            "ge": "greater_equal",
            "gt": "greater",
            "is_finite": "isfinite",
            "le": "less_equal",
            "log": "log",
            "log1p": "log1p",
            "lt": "less",
            "max": "maximum",
            "min": "minimum",
            "mul": "multiply",
            "ne": "not_equal",
            "neg": "negative",
            "nextafter": "nextafter",
            "rem": "fmod",
            "sign": "sign",
            "sin": "sin",
            "sinh": "sinh",
            "sqrt": "sqrt",
            "square": "square",
            "stop_gradient": "asarray",
            "sub": "subtract",
            "tan": "tan",
            "tanh": "tanh",
            "xor": "logical_xor",
            "or": "logical_or",
            "pow": "power",
            "not": "logical_not",
        }.items()
    },
    **{name: _special(name) for name in ("erf", "erfc", "digamma")},
    "erf_inv": _special("erfinv"),
    "lgamma": _special("gammaln"),
    "lt_to": _plain(np.less),
    "le_to": _plain(np.less_equal),
    "clamp": lambda _, low, x, high: np.minimum(np.maximum(x, low), high),
    "convert_element_type": lambda params, x: np.asarray(x).astype(params["new_dtype"]),
    "integer_pow": lambda params, x: np.power(x, float(params["y"])),
    "rsqrt": lambda _, x: 1 / np.sqrt(x),
    "iota": lambda params: np.broadcast_to(
        np.expand_dims(
            np.arange(params["shape"][params["dimension"]], dtype=params["dtype"]),
            [i for i in range(len(params["shape"])) if i != params["dimension"]],
        ),
        params["shape"],
    ),
    "broadcast_in_dim": _broadcast,
    "select_n": _select,
    "div": _divided,
    "logistic": _logistic,
    "round": _rounded,
    "gather": _gathered,
    "slice": _sliced,
    "squeeze": lambda params, x: np.squeeze(x, tuple(params["dimensions"])),
    "reshape": lambda params, x: np.reshape(x, params["new_sizes"]),
    "expand_dims": lambda params, x: np.expand_dims(x, tuple(params["dimensions"])),
    "transpose": lambda params, x: np.transpose(x, params["permutation"]),
    "rev": lambda params, x: np.flip(x, tuple(params["dimensions"])),
    "stack": lambda params, *x: np.stack(x, axis=params["axis"]),
    "concatenate": lambda params, *x: np.concatenate(x, axis=params["dimension"]),
    "cumsum": _cumulated(np.cumsum),
    "cumprod": _cumulated(np.cumprod),
    "cummax": _cumulated(np.maximum.accumulate),
    "cummin": _cumulated(np.minimum.accumulate),
    "reduce_sum": _reduced(np.sum),
    "reduce_prod": _reduced(np.prod),
    "reduce_max": _reduced(np.max),
    "reduce_min": _reduced(np.min),
    "reduce_or": _reduced(np.any),
    "reduce_and": _reduced(np.all),
    "argmax": lambda params, x: np.argmax(x, axis=params["axes"][0]),
    "argmin": lambda params, x: np.argmin(x, axis=params["axes"][0]),
    "dot_general": _dotted,
}


def _always(_: Any) -> bool:
    return True


def _looks_up(equation: Any) -> bool:
    single = equation.params["slice_sizes"] == (1,)
    return single and equation.invars[0].aval.ndim == 1


# Operations of which only some forms have a rule.
SERVES: dict[str, Callable[[Any], bool]] = {
    "gather": _looks_up,
    "dot_general": lambda equation: not any(equation.params["dimension_numbers"][1]),
    # On whole numbers these are bit by bit.
    **{
        name: lambda equation: equation.invars[0].aval.dtype == bool
        for name in ("and", "or", "xor", "not")
    },
}
