"""Records that JAX can look into.

`@struct` makes a frozen dataclass a pytree whose numeric fields are leaves, so one compiled
kernel serves every value of them; `static()` marks fields that belong to the structure
(functions, names, counts). Unflattening bypasses `__init__`: JAX rebuilds records around
tracers and placeholders, which a validating constructor would refuse.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

C = TypeVar("C")


def static(**options: Any) -> Any:
    """Declare a dataclass field that is part of the structure, not a number."""
    metadata = {**options.pop("metadata", {}), "static": True}
    return dataclasses.field(metadata=metadata, **options)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, static))
def struct(cls: type[C]) -> type[C]:
    """Make a class a frozen dataclass and a pytree."""
    # eq=False: identity comparison; comparing arrays for truth would raise.
    record = dataclasses.dataclass(frozen=True, eq=False)(cls)
    fields = dataclasses.fields(record)  # pyright: ignore[reportArgumentType]
    leaves = tuple(f.name for f in fields if not f.metadata.get("static"))
    statics = tuple(f.name for f in fields if f.metadata.get("static"))

    def flatten(obj: Any) -> tuple[list[tuple[Any, Any]], tuple[Any, ...]]:
        children = [(jax.tree_util.GetAttrKey(n), getattr(obj, n)) for n in leaves]
        return children, tuple(getattr(obj, n) for n in statics)

    def unflatten(aux: tuple[Any, ...], children: Any) -> Any:
        obj = object.__new__(record)
        for name, value in (*zip(leaves, children, strict=True), *zip(statics, aux, strict=True)):
            object.__setattr__(obj, name, value)
        return obj

    jax.tree_util.register_pytree_with_keys(record, flatten, unflatten)
    return record


class Whole:
    """A record whose arrays belong together: `elementwise` functions hand it on as it is."""


class Hosted(abc.ABC):
    """What numbers alone can be made of: its kernels need not be compiled."""

    def plain(self) -> Any:
        """Return what it stands for, where it is read off a table."""
        return self

    @abc.abstractmethod
    def standard(self) -> tuple[Any, Any, Any]:
        """Return what it is in units of a width and a height, and these."""

    @abc.abstractmethod
    def on_host(self, width: Any, height: Any, own: Any) -> "OnHost":
        """Return what stands for its `own` records, in these units, where the host computes."""


class OnHost(abc.ABC):
    """What stands for a `Hosted` record where numbers are computed on the host."""

    @abc.abstractmethod
    def pick(self, places: Any) -> "OnHost":
        """Return it at some places of the vectors that it holds."""


def concrete(*values: Any) -> bool:
    """Return whether every value is a number or array, none a tracer or a placeholder."""
    kinds = (bool, int, float, np.ndarray, np.generic, jax.Array)
    return all(isinstance(v, kinds) and not isinstance(v, Tracer) for v in values)


def tracing() -> bool:
    """Return whether JAX is tracing, so that even what is made of numbers alone is a tracer."""
    return isinstance(jnp.zeros(()), Tracer)


def flattened(record: C) -> tuple[C, tuple[int, ...]]:
    """Return a record of vectors in place of one of arrays that broadcast, and their shape."""
    leaves, tree = jax.tree.flatten(record)
    shape = np.broadcast_shapes(*map(np.shape, leaves))
    flat = [np.broadcast_to(np.asarray(leaf, dtype=float), shape).ravel() for leaf in leaves]
    return jax.tree.unflatten(tree, flat), shape


def pick(record: C, places: Any, times: int = 1) -> C:
    """Return what a record of vectors has at some places, each so many times.

    Single numbers are kept.
    """
    if times > 1:
        places = np.repeat(places, times)

    def picked(leaf: Any) -> Any:
        if isinstance(leaf, OnHost):
            return leaf.pick(places)
        return leaf[places] if is_vector(leaf) else leaf

    return map_leaves(picked, record)


def is_vector(leaf: Any) -> bool:
    """Return whether a leaf is an array, not a number or a record that is handed on as it is."""
    return not isinstance(leaf, Whole) and np.ndim(leaf) > 0


def map_leaves(function: Callable[[Any], Any], record: Any) -> Any:
    """Return a record with a function applied to its leaves, of which `Whole` records are some."""
    return jax.tree.map(function, record, is_leaf=lambda leaf: isinstance(leaf, Whole))


def elements(record: C) -> tuple[list[C], tuple[int, ...]]:
    """Return the scalar records that a record of arrays stands for, and the shape they make."""
    flat, shape = flattened(record)
    return [pick(flat, i) for i in range(int(np.prod(shape)))], shape


def on_host(record: Any) -> Any:
    """Return a record of numpy's arrays: to look at them compiles nothing."""
    return jax.tree.map(np.asarray, record)
