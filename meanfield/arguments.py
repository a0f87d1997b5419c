"""What users give: numbers, and counts of things.

Numbers are what NumPy makes real floats of: Python's own, arrays, lists, and whatever is labelled
(of pandas, of xarray). Counts are what Python takes for an index. Text, truth values and None are
neither.
"""

import functools
import numbers
import operator
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from meanfield._struct import concrete, tracing
from meanfield.errors import MeanFieldError, require

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Domain = tuple[Callable[[Any], Any], str]
# Longer values are cut short in a message.
LONGEST = 100


def number(name: str, value: Any) -> Any:
    """Return a real number or an array of them; what is traced, or one already, is left as it is.

    Raises `MeanFieldError` for all else.
    """
    # Eight bits are the code of a status to whoever computes, and would overflow besides.
    if isinstance(value, Tracer):
        return value.astype(float) if value.dtype == np.int8 else value
    array = value if isinstance(value, np.ndarray | np.generic | jax.Array) else _array(value)
    real = (jnp.floating, jnp.integer)
    if array is None or not any(jnp.issubdtype(array.dtype, kind) for kind in real):
        raise illegal(name, value, "a real number")
    if array.dtype == np.int8:
        return array.astype(float)
    return value if concrete(value) else array


def _array(value: Any) -> Any:
    """Return the array of floats that a value stands for, or None."""
    try:
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value)):
            return jnp.asarray(value, dtype=float)
        array = np.asarray(value)
        if array.dtype.kind == "O" and not all(map(_is_real, array.flat)):
            return None
        return array if array.dtype.kind not in "iufO" else array.astype(float)
    except (TypeError, ValueError, ArithmeticError, RuntimeError):
        # So it is with ragged lists, and with tensors that are not on the host.
        return None


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def legal_number(name: str, value: Any, domain: Domain) -> Any:
    """Return `number`, which must be in a domain unless it is traced."""
    value = number(name, value)
    if concrete(value):
        check, legal = domain
        require(check(np.asarray(value, dtype=float)), name, value, legal)
    return value


def single(name: str, value: Any, domain: Domain) -> float:
    """Return one number of a domain. Raises `MeanFieldError` for arrays and what is traced."""
    value = number(name, value)
    if isinstance(value, Tracer):
        raise illegal(name, value, f"{domain[1]}, and not traced")
    if np.ndim(value):
        raise illegal(name, value, f"{domain[1]}, and a single one")
    return float(legal_number(name, value, domain))


def untraced(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Make a function raise `MeanFieldError` in `jax.jit`, and where arguments hold traced numbers.

    It is for functions that branch on numbers, or return lists whose length depends on them.
    """

    @functools.wraps(function)
    def checked(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        if tracing():
            raise _untraceable(function.__name__)
        refuse_traced(function.__name__, (args, kwargs))
        return function(*args, **kwargs)

    return checked


def refuse_traced(function: str, arguments: Any) -> None:
    """Raise `MeanFieldError` if arguments of a function hold traced numbers."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(arguments)):
        raise _untraceable(function)


def _untraceable(function: str) -> MeanFieldError:
    return MeanFieldError(
        f"{function} cannot be traced (jit, grad, vmap): call it with known numbers, outside of "
        "what is jitted"
    )


def listed(name: str, values: Any) -> tuple[Any, ...]:
    """Return a list or an array of finite numbers, some of which may be traced."""
    finite = (np.isfinite, "finite numbers")
    array = values if isinstance(values, list | tuple) else number(name, values)
    if not isinstance(array, list | tuple) and np.ndim(array) != 1:
        raise illegal(name, values, "a list of finite numbers")
    return tuple(legal_number(name, value, finite) for value in array)


def count(name: str, value: Any, least: int) -> int:
    """Return an integer of at least `least`. Raises `MeanFieldError` for all else."""
    whole = integer(value)
    if whole is None or whole < least:
        raise illegal(name, value, f"an integer >= {least}")
    return whole


def integer(value: Any) -> int | None:
    """Return what a value is as an integer, None where it is none."""
    if isinstance(value, bool) or getattr(value, "dtype", None) == np.dtype(bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def keep_legal(record: Any, domains: Mapping[str, Domain]) -> None:
    """Make numbers of fields of a frozen record that is being built; they must be legal."""
    for name, domain in domains.items():
        object.__setattr__(record, name, legal_number(name, getattr(record, name), domain))


def illegal(name: str, value: Any, legal: str) -> MeanFieldError:
    """Return the error for a value that is not what it must be."""
    text = " ".join(repr(value).split())
    text = text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
    return MeanFieldError(f"{name} = {text} is not legal; it must be {legal}")
