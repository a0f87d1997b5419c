"""Records that JAX can look into, and functions that broadcast over them.

`@struct` makes a frozen dataclass a pytree whose numeric fields are leaves, so one compiled
kernel serves every value of them; `static()` marks fields that belong to the structure
(functions, names, counts). Unflattening bypasses `__init__`: JAX rebuilds records around
tracers and placeholders, which a validating constructor would refuse.

`@elementwise` lets a function of scalars accept arrays: all numeric leaves of all arguments
broadcast together, and each element is computed as if it were alone.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, PartitionSpec

from meanfield import devices
from meanfield.errors import MeanFieldError, require

# The length of the vectors that `in_blocks` cuts.
BLOCK = 32

C = TypeVar("C")
F = TypeVar("F", bound=Callable[..., Any])


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


def _numbers(tree: Any) -> tuple[list[Any], Any]:
    """Return the leaves of a tree, `Whole` records among them, and its structure."""
    return jax.tree.flatten(tree, is_leaf=lambda x: isinstance(x, Whole))


def _shapes(leaves: list[Any]) -> list[tuple[int, ...]]:
    return [np.shape(leaf) for leaf in leaves if not isinstance(leaf, Whole)]


def concrete(*values: Any) -> bool:
    """Return whether every value is a number or array, none a tracer or a placeholder."""
    kinds = (bool, int, float, np.ndarray, np.generic, jax.Array)
    return all(isinstance(v, kinds) and not isinstance(v, Tracer) for v in values)


def require_number(name: str, value: Any) -> None:
    """Raise `MeanFieldError` unless a value is a real number, an array of them or traced."""
    if isinstance(value, Tracer):
        return
    if not concrete(value) or not np.issubdtype(np.asarray(value).dtype, np.number):
        raise MeanFieldError(f"{name} = {value!r} is not legal; it must be a real number")
    if np.iscomplexobj(value):
        raise MeanFieldError(f"{name} = {value!r} is not legal; it must be a real number")


def in_blocks(function: Callable[..., Any], record: Any, values: Any) -> Any:
    """Return function(record, values) for a vector of any length, by calls of one length.

    A compiled kernel is then shared by all of them.
    """
    values = np.asarray(values, dtype=float)
    starts = range(0, values.size, BLOCK)
    blocks = [np.resize(values[i : i + BLOCK], BLOCK) for i in starts] or [np.ones(BLOCK)]
    results = [function(record, block) for block in blocks]
    return jax.tree.map(lambda *xs: np.concatenate(xs)[: values.size], *results)


def flattened(record: C) -> tuple[C, tuple[int, ...]]:
    """Return a record of vectors in place of one of arrays that broadcast, and their shape."""
    leaves, tree = jax.tree.flatten(record)
    shape = np.broadcast_shapes(*map(np.shape, leaves))
    flat = [np.broadcast_to(np.asarray(leaf, dtype=float), shape).ravel() for leaf in leaves]
    return jax.tree.unflatten(tree, flat), shape


def pick(record: C, places: Any) -> C:
    """Return what a record of vectors has at some places; single numbers are kept."""
    return map_leaves(lambda leaf: leaf[places] if is_vector(leaf) else leaf, record)


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


def _cut(each: Callable[[Any, Any], Any], mesh: Mesh | None) -> Callable[[Any, Any], Any]:
    """Return a function of vectors and of what goes with all elements, which runs on all devices.

    Each device takes its part of the vectors, filled up to a common length.
    """
    if mesh is None:
        return each
    elements, everywhere = PartitionSpec(mesh.axis_names), PartitionSpec()
    # Loops start from constants, which are the same everywhere: what varies is not checked.
    parts = jax.shard_map(
        each,
        mesh=mesh,
        in_specs=(elements, everywhere),
        out_specs=elements,
        check_vma=False,
    )

    def whole(vectors: list[Any], others: Any) -> Any:
        size = vectors[0].size
        places = np.arange(-(-size // mesh.size) * mesh.size) % size
        out = parts([vector[places] for vector in vectors], others)
        return jax.tree.map(lambda x: x[:size], out)

    return whole


Domain = tuple[Callable[[Any], Any], str]
POSITIVE: Domain = (lambda x: np.isfinite(x) & (x > 0), "a finite number > 0")
NON_NEGATIVE: Domain = (lambda x: np.isfinite(x) & (x >= 0), "a finite number >= 0")
CORRELATION: Domain = (lambda x: np.abs(x) <= 1, "a correlation in [-1, 1]")


def elementwise(*static_argnames: str, **domains: Domain) -> Callable[[F], F]:
    """Compile a function of scalars and broadcast it over array arguments.

    Elements are evaluated one after another, so that branches the values do not need
    (`lax.cond`) cost nothing and memory does not grow with the batch; an accelerator takes some
    at a time, and arrays that are cut between devices are evaluated where they are. `domains`
    gives, for an argument, a test of its values and the words for what is legal; concrete values
    outside raise `MeanFieldError`.
    """

    def decorator(function: F) -> F:
        signature = inspect.signature(function)

        @functools.partial(jax.jit, static_argnums=(0, 1, 2))
        def compiled(
            fixed: tuple[tuple[str, Any], ...],
            mesh: Mesh | None,
            lanes: int | None,
            dynamic: dict[str, Any],
        ) -> Any:
            leaves, tree = _numbers(dynamic)
            shape = jnp.broadcast_shapes(*_shapes(leaves))

            def one(values: list[Any], whole: list[Any]) -> Any:
                scalars, others = iter(values), iter(whole)
                parts = [next(others if isinstance(x, Whole) else scalars) for x in leaves]
                return function(**jax.tree.unflatten(tree, parts), **dict(fixed))

            def each(values: list[Any], whole: list[Any]) -> Any:
                return jax.lax.map(lambda element: one(element, whole), values, batch_size=lanes)

            numbers = [leaf for leaf in leaves if not isinstance(leaf, Whole)]
            whole = [leaf for leaf in leaves if isinstance(leaf, Whole)]
            if shape == ():
                return one(numbers, whole)
            flat = [jnp.broadcast_to(number, shape).ravel() for number in numbers]
            out = _cut(each, mesh)(flat, whole)
            return jax.tree.map(lambda x: x.reshape(shape + x.shape[1:]), out)

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            for name, value in bound.arguments.items():
                if isinstance(value, str) and name not in static_argnames:
                    raise MeanFieldError(
                        f"{name} = {value!r} is not legal; it must not be text "
                        "(activation(name) makes an activation)"
                    )
                if isinstance(value, list | tuple) and name not in static_argnames:
                    bound.arguments[name] = np.asarray(value, dtype=float)
            try:
                np.broadcast_shapes(*_shapes(_numbers(bound.arguments)[0]))
            except ValueError as error:
                raise MeanFieldError(f"arguments of {function.__name__}: {error}") from error
            for name, (check, legal) in domains.items():
                value = bound.arguments[name]
                if concrete(value):
                    require(check(np.asarray(value, dtype=float)), name, value, legal)
            fixed = tuple((k, v) for k, v in bound.arguments.items() if k in static_argnames)
            dynamic = {k: v for k, v in bound.arguments.items() if k not in static_argnames}
            dynamic = jax.tree.map(lambda x: jnp.asarray(x, dtype=float), dynamic)
            devices.require_precision()
            mesh = devices.mesh_of(*jax.tree.leaves(dynamic))
            if mesh is not None:
                dynamic = jax.tree.map(lambda x: devices.moved(x, mesh), dynamic)
            return compiled(fixed, mesh, devices.lanes(), dynamic)

        return wrapper  # pyright: ignore[reportReturnType]

    return decorator
