"""Functions of scalars that broadcast over arrays.

`@elementwise` lets a function of scalars accept arrays: all numeric leaves of all arguments
broadcast together, and each element is computed as if it were alone. A kernel is compiled for each
kind of activation, not for each shape: it fills vectors of one length as far as they are needed.
"""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from meanfield import devices
from meanfield._struct import Hosted, OnHost, Whole, concrete, map_leaves, pick, tracing
from meanfield.arguments import Domain, legal_number, number
from meanfield.errors import MeanFieldError, Status

# The length of vectors that kernels are compiled for; longer vectors are cut.
LENGTH = 128
# What rounding may add to a correlation.
SLACK = 1e-12
# Elements that are worth a thread.
PIECE = 32

F = TypeVar("F", bound=Callable[..., Any])

POSITIVE: Domain = (lambda x: (x > 0) & (x < np.inf), "a finite number > 0")
NON_NEGATIVE: Domain = (lambda x: (x >= 0) & (x < np.inf), "a finite number >= 0")
# What is not known yet, NaN or an overflow, is handed on.
NOT_NEGATIVE: Domain = (lambda x: ~(x < 0), "a number >= 0")
CORRELATION: Domain = (lambda x: abs(x) <= 1 + SLACK, "a correlation in [-1, 1]")
DECORRELATION: Domain = (lambda x: (x >= -SLACK) & (x <= 2 + SLACK), "1 - correlation, in [0, 2]")


def elementwise(
    *static_argnames: str, host: bool | Callable[..., Any] = False, **domains: Domain
) -> Callable[[F], F]:
    """Compile a function of scalars and broadcast it over array arguments.

    Elements are evaluated one after another, so that branches the values do not need
    (`lax.cond`) cost nothing and memory does not grow with the batch; an accelerator takes some
    at a time, arrays that are cut between devices are evaluated where they are, and the host is
    asked for all elements together. `domains`
    gives, for an argument, a test of its values and the words for what is legal; concrete values
    outside raise `MeanFieldError`. Of traced values outside, and of records whose method `legal`
    refuses them, the result is NaN, and its status OUT_OF_DOMAIN.

    Numbers need no compiler where there is a `host` function of vectors: of NumPy's, all of one
    length, and of `OnHost` activations. True: it is the function itself, which then serves both.
    """

    def decorator(function: F) -> F:
        signature = inspect.signature(function)
        optional = {n for n, p in signature.parameters.items() if "None" in str(p.annotation)}
        hosted = host if callable(host) else function
        first = jax.jit(_named(_first, function), static_argnums=0)
        every = jax.jit(_named(_every, _guarded(function, domains)), static_argnums=(0, 1, 2, 3))

        def checked(*args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            for name, value in bound.arguments.items():
                absent = value is None and name in optional
                if not (name in static_argnames or dataclasses.is_dataclass(value) or absent):
                    bound.arguments[name] = number(name, value)
            try:
                np.broadcast_shapes(*_shapes(_numbers(bound.arguments)[0]))
            except ValueError as error:
                raise MeanFieldError(f"arguments of {function.__name__}: {error}") from error
            for name, domain in domains.items():
                legal_number(name, bound.arguments[name], domain)
            fixed = tuple((k, v) for k, v in bound.arguments.items() if k in static_argnames)
            dynamic = {k: v for k, v in bound.arguments.items() if k not in static_argnames}
            devices.require_precision()
            return fixed, dynamic

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if host and any(isinstance(leaf, OnHost) for leaf in jax.tree.leaves((args, kwargs))):
                args, kwargs = jax.tree.map(_off_device, (args, kwargs))
                return hosted(*args, **kwargs)
            fixed, dynamic = checked(*args, **kwargs)
            leaves = jax.tree.leaves(dynamic)
            if host and on_host_alone(dynamic):
                return _on_host(functools.partial(hosted, **dict(fixed)), dynamic)
            mesh, lanes = devices.mesh_of(*leaves), devices.lanes()
            if mesh is None and lanes is None and concrete(*leaves) and not tracing():
                return _by_vectors(functools.partial(first, fixed), dynamic)
            dynamic = jax.tree.map(_traceable, dynamic)
            if mesh is not None:
                dynamic = jax.tree.map(lambda x: devices.moved(x, mesh), dynamic)
            # What the host computes it computes for all elements together.
            together = bool(host) and not any(isinstance(x, Whole) for x in _numbers(dynamic)[0])
            return every(fixed, mesh, lanes, together, dynamic)

        return wrapper  # pyright: ignore[reportReturnType]

    return decorator


def _guarded(function: F, domains: dict[str, Domain]) -> F:
    """Return a function of scalars whose result is NaN where an argument is illegal."""

    @functools.wraps(function)
    def guarded(**arguments: Any) -> Any:
        tests = [domains[name][0](arguments[name]) for name in domains]
        tests += [value.legal() for value in arguments.values() if hasattr(value, "legal")]
        legal = functools.reduce(jnp.logical_and, tests, jnp.ones((), bool))

        def masked(path: Any, x: Any) -> Any:
            if jax.tree_util.keystr(path[-1:], simple=True) == "status":
                return jnp.where(legal, x, Status.OUT_OF_DOMAIN).astype(x.dtype)
            return jnp.where(legal, x, jnp.nan) if jnp.issubdtype(x.dtype, jnp.inexact) else x

        result = function(**arguments)
        return jax.tree_util.tree_map_with_path(masked, result) if tests else result

    return guarded  # pyright: ignore[reportReturnType]


def side_by_side(function: F, *static_argnames: str) -> F:
    """Compile a function of scalars for vectors whose elements are computed all at once.

    Faster than `elementwise` where an element costs little, as what is read off a table does; all
    branches are computed. Leaves of arguments are vectors; `Whole` records and single numbers go
    with all elements.
    """
    signature = inspect.signature(function)

    compiled = jax.jit(_named(_all_at_once, function), static_argnums=0)

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        arguments = signature.bind(*args).arguments
        fixed = tuple((k, v) for k, v in arguments.items() if k in static_argnames)
        return compiled(fixed, {k: v for k, v in arguments.items() if k not in static_argnames})

    return wrapper  # pyright: ignore[reportReturnType]


def _named(kernel: Callable[..., Any], function: Callable[..., Any]) -> Any:
    """Return the kernel of a function under its name: logs and profiles tell kernels apart."""
    named = functools.partial(kernel, function)
    named.__name__ = function.__name__  # pyright: ignore[reportAttributeAccessIssue]
    return named


def _numbers(tree: Any) -> tuple[list[Any], Any]:
    """Return the leaves of a tree, `Whole` records among them, and its structure."""
    return jax.tree.flatten(tree, is_leaf=lambda x: isinstance(x, Whole))


def _shapes(leaves: list[Any]) -> list[tuple[int, ...]]:
    return [np.shape(leaf) for leaf in leaves if not isinstance(leaf, Whole)]


def _scalar(function: Callable[..., Any], fixed: Any, dynamic: Any) -> Callable[[Any, Any], Any]:
    """Return the function of one element's numbers, and of what goes with all elements."""
    leaves, tree = _numbers(dynamic)

    def one(values: list[Any], whole: list[Any]) -> Any:
        numbers, others = iter(values), iter(whole)
        parts = [next(others if isinstance(x, Whole) else numbers) for x in leaves]
        return function(**jax.tree.unflatten(tree, parts), **dict(fixed))

    return one


def _split(dynamic: Any) -> tuple[list[Any], list[Any]]:
    """Return the numbers among some arguments, and what goes with all elements."""
    leaves = _numbers(dynamic)[0]
    numbers = [leaf for leaf in leaves if not isinstance(leaf, Whole)]
    return numbers, [leaf for leaf in leaves if isinstance(leaf, Whole)]


def _by_vectors(kernel: Callable[..., Any], dynamic: Any) -> Any:
    """Return a function of concrete arrays by calls with vectors of one length."""
    shape = np.broadcast_shapes(*_shapes(_numbers(dynamic)[0]))
    size = math.prod(shape)

    def flat(leaf: Any) -> Any:
        if isinstance(leaf, Whole):
            return leaf
        values = _number(leaf)
        vector = np.zeros(-(-max(size, 1) // LENGTH) * LENGTH, values.dtype)
        vector[:size] = np.broadcast_to(values, shape).reshape(-1)
        return vector

    def piece(leaf: Any, start: int) -> Any:
        return leaf if isinstance(leaf, Whole) else leaf[start : start + LENGTH]

    vectors = map_leaves(flat, dynamic)
    parts = [
        kernel(min(size - start, LENGTH), map_leaves(lambda x, at=start: piece(x, at), vectors))
        for start in range(0, max(size, 1), LENGTH)
    ]

    def whole(*xs: Any) -> Any:
        # By numpy: to cut arrays would be compiled for each shape.
        values = np.asarray(xs[0]) if len(xs) == 1 else np.concatenate(xs)
        return jnp.asarray(values[:size].reshape(shape + values.shape[1:]))

    return jax.tree.map(whole, *parts)


def on_host_alone(record: Any) -> bool:
    """Return whether a record holds numbers alone, and nothing that is compiled for them."""
    leaves = _numbers(record)[0]
    return concrete(*leaves) and not any(isinstance(x, Whole) for x in leaves) and not tracing()


def by_host(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return a function of vectors, as `elementwise` has them on the host, of arrays."""
    return _on_host(lambda numbers: function(*numbers), {"numbers": arguments})


def computed(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `by_host` does, as NumPy's arrays: JAX is not asked."""
    return _computed(lambda numbers: function(*numbers), {"numbers": arguments})


def asked(function: Callable[..., Any], like: Any, *records: Any) -> Any:
    """Return what a function of vectors says of traced records: the host computes it at run time.

    It is a record like another one, whose numbers are of the same kinds. It has no derivatives.
    Where a record is not legal, or a number NaN, it is NaN, and its status OUT_OF_DOMAIN.
    """
    leaves, tree = jax.tree.flatten(plain(records))
    leaves = [_traceable(x) for x in leaves]
    shape = jnp.broadcast_shapes(*map(jnp.shape, leaves))
    # All of one shape, so that what vmap puts before them lines up.
    leaves = [jax.lax.stop_gradient(jnp.broadcast_to(x, shape)) for x in leaves]
    kinds = jax.tree.map(lambda x: jax.ShapeDtypeStruct(shape, jnp.result_type(x)), like)

    def on_host(*leaves: Any) -> Any:
        return answered(function, like, tree, leaves)

    return jax.pure_callback(on_host, kinds, *leaves, vmap_method="expand_dims")


def answered(function: Callable[..., Any], like: Any, tree: Any, leaves: Any) -> Any:
    """Return what `asked` does, of the leaves of records, which broadcast."""
    leaves = [np.asarray(x) for x in leaves]
    shape = np.broadcast_shapes(*(x.shape for x in leaves))
    flat = [np.broadcast_to(x, shape).ravel() for x in leaves]
    records = jax.tree.unflatten(tree, flat)
    legal = [record.legal() for record in records if hasattr(record, "legal")]
    known = functools.reduce(np.logical_and, [*legal, *(~np.isnan(x) for x in flat)])
    known = np.broadcast_to(known, flat[0].shape)

    def unknown(x: Any) -> np.ndarray:
        kind = np.result_type(x)
        none = {"f": np.nan, "i": Status.OUT_OF_DOMAIN, "b": False}[kind.kind]
        return np.full(known.shape, none, kind)

    found = jax.tree.map(unknown, like)
    if known.any():
        places = np.flatnonzero(known)
        chosen = jax.tree.unflatten(tree, [x[places] for x in flat])
        for all_, x in zip(
            jax.tree.leaves(found), jax.tree.leaves(computed(function, *chosen)), strict=True
        ):
            all_[places] = x
    return jax.tree.map(lambda x: x.reshape(shape), found)


def plain(record: Any) -> Any:
    """Return a record with activations in place of what reads them off tables."""
    return jax.tree.map(lambda x: x.plain() if _is_hosted(x) else x, record, is_leaf=_is_hosted)


def _on_host(function: Callable[..., Any], dynamic: Any) -> Any:
    # To place an array compiles nothing.
    return jax.tree.map(jax.device_put, _computed(function, dynamic))


def _computed(function: Callable[..., Any], dynamic: Any) -> Any:
    """Return a function of vectors of concrete arrays that broadcast.

    It is called once for all activations of one family.
    """
    shape = np.broadcast_shapes(*_shapes(jax.tree.leaves(dynamic)))
    size = math.prod(shape)
    vectors = jax.tree.map(lambda x: np.broadcast_to(_number(x), shape).reshape(size), dynamic)
    if not size:
        # Shapes and types follow from one element that is thrown away.
        vectors = jax.tree.map(lambda _: np.ones(1), vectors)
    rows = max(size, 1)
    hosted = [x for x in jax.tree.leaves(vectors, is_leaf=_is_hosted) if _is_hosted(x)]
    forms = [x.standard() for x in hosted]
    ones = [one for one, *_ in forms]
    leaves, tree = jax.tree.flatten(ones)
    families, member = np.zeros((0, 1)), np.zeros(rows, dtype=int)
    if leaves:
        table = np.stack([np.broadcast_to(x, rows) for x in leaves])
        families, member = np.unique(table, axis=1, return_inverse=True)
    parts, places = [], []
    for i in range(families.shape[1]):
        chosen = np.flatnonzero(member.ravel() == i)
        stand_ins = iter(
            one.on_host(*(_chosen(unit, chosen) for unit in units), pick(own, chosen))
            for one, (_, *units), own in zip(
                jax.tree.unflatten(tree, list(families[:, i])), forms, hosted, strict=True
            )
        )
        arguments = jax.tree.map(
            lambda x, chosen=chosen, ins=stand_ins: next(ins) if _is_hosted(x) else x[chosen],
            vectors,
            is_leaf=_is_hosted,
        )
        with np.errstate(all="ignore"):
            parts.append(function(**arguments))
        places.append(chosen)
    order = np.argsort(np.concatenate(places), kind="stable")

    def whole(*xs: Any) -> Any:
        rows = [
            np.broadcast_to(np.asarray(x), (p.size, *np.shape(x)[1:]))
            for x, p in zip(xs, places, strict=True)
        ]
        values = rows[0] if len(rows) == 1 else np.concatenate(rows)[order]
        return values[:size].reshape(shape + values.shape[1:])

    return jax.tree.map(whole, *parts)


def _off_device(x: Any) -> Any:
    return np.asarray(x) if isinstance(x, jax.Array) else x


def _number(x: Any) -> np.ndarray:
    """Return a number or an array; codes stay what they are."""
    values = np.asarray(x)
    return values if values.dtype == np.int8 else np.asarray(values, dtype=float)


def _traceable(x: Any) -> jax.Array:
    """Return what `_number` does, as an array of JAX."""
    return jnp.asarray(x, None if jnp.result_type(x) == jnp.int8 else float)


def _is_hosted(x: Any) -> bool:
    return isinstance(x, Hosted)


def _chosen(x: Any, places: np.ndarray) -> Any:
    values = np.asarray(x, dtype=float)
    return values[places] if values.ndim else float(values)


def namespace(*numbers: Any) -> Any:
    """Return NumPy for numbers that the host computes with, else JAX's."""
    return np if all(isinstance(x, np.ndarray | float | int) for x in numbers) else jnp


def either(condition: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
    """Return yes() where a condition holds, no() elsewhere; only what is needed is called."""
    if not isinstance(condition, np.ndarray | np.bool_ | bool):
        return jax.lax.cond(condition, yes, no)
    if np.all(condition):
        return yes()
    if not np.any(condition):
        return no()
    return jax.tree.map(lambda one, other: np.where(condition, one, other), yes(), no())


def _first(function: Callable[..., Any], fixed: Any, count: Any, dynamic: Any) -> Any:
    """Return a function of the first `count` elements of some vectors."""
    numbers, whole = _split(dynamic)
    one = jax.jit(_scalar(function, fixed, dynamic))
    kinds = jax.eval_shape(one, [number[0] for number in numbers], whole)
    empty = jax.tree.map(lambda x: jnp.zeros((LENGTH, *x.shape), x.dtype), kinds)

    def fill(i: Any, filled: Any) -> Any:
        at = [jax.lax.dynamic_index_in_dim(number, i, keepdims=False) for number in numbers]
        put = jax.lax.dynamic_update_index_in_dim
        return jax.tree.map(lambda all_, x: put(all_, x, i, 0), filled, one(at, whole))

    return jax.lax.fori_loop(0, count, fill, empty)


def _all_at_once(function: Callable[..., Any], fixed: Any, dynamic: Any) -> Any:
    """Return a function of all elements of vectors, as one operation on these after another."""
    numbers, whole = _split(dynamic)
    axes = [0 if np.ndim(number) else None for number in numbers]
    return jax.vmap(_scalar(function, fixed, dynamic), in_axes=(axes, None))(numbers, whole)


def _every(
    function: Callable[..., Any],
    fixed: Any,
    mesh: Mesh | None,
    lanes: int | None,
    together: bool,
    dynamic: Any,
) -> Any:
    """Return a function of all elements of arrays.

    They are computed one after another, in vectors of `lanes` elements if given, or `together`.
    """
    numbers, whole = _split(dynamic)
    one = _scalar(function, fixed, dynamic)
    shape = jnp.broadcast_shapes(*map(np.shape, numbers))

    def each(values: list[Any], whole: list[Any]) -> Any:
        if together:
            return jax.vmap(lambda element: one(element, whole))(values)
        return jax.lax.map(lambda element: one(element, whole), values, batch_size=lanes)

    if shape == ():
        return one(numbers, whole)
    flat = [jnp.broadcast_to(number, shape).ravel() for number in numbers]
    out = _cut(each, mesh)(flat, whole)
    return jax.tree.map(lambda x: x.reshape(shape + x.shape[1:]), out)


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
