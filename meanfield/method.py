"""By table or by quadrature, as a caller asks for; many points at a time, on all processors."""

import math
import os
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import jax
import numpy as np

from meanfield._struct import BLOCK
from meanfield.errors import MeanFieldError

Method = Literal["auto", "table", "quadrature"]
METHODS = ("auto", "table", "quadrature")
# From so many points of one activation on a table pays.
PAYS = 256

_compiled: set[Hashable] = set()


def require_method(method: str) -> str:
    """Return the method, or raise `MeanFieldError` where it is not legal."""
    if method not in METHODS:
        raise MeanFieldError(f"method = {method!r} is not legal; it must be {', '.join(METHODS)}")
    return method


def uses_table(method: str, size: int, obstacle: Callable[[], str]) -> bool:
    """Return whether `size` points are to be read off a table.

    `obstacle` returns why they cannot, or nothing. Raises `MeanFieldError` where the method is not
    legal or cannot be had.
    """
    require_method(method)
    if method == "quadrature" or size == 0 or (method == "auto" and size < PAYS):
        return False
    reason = obstacle()
    if method == "table" and reason:
        raise MeanFieldError(f"method = 'table' is not legal: {reason}")
    return not reason


def size_of(*numbers: Any) -> int:
    """Return how many elements arrays make that broadcast; 0 if they do not."""
    try:
        return math.prod(np.broadcast_shapes(*map(np.shape, numbers)))
    except ValueError:
        return 0


def workers() -> int:
    """Return on how many threads chunks are computed."""
    return os.cpu_count() or 1


def in_pieces(function: Callable[[np.ndarray], Any], size: int, length: int) -> Any:
    """Return function(range(size)), a pytree of vectors, by pieces of one length.

    One kernel serves all pieces.
    """
    return _join(map(function, _pieces(size, length)), size)


def in_parallel(
    function: Callable[[np.ndarray], Any], size: int, length: int, kernel: Hashable = None
) -> Any:
    """Return what `in_pieces` does, on all processors.

    The first piece goes alone, unless the `kernel` that it runs is known to be compiled: XLA must
    not write one kernel into the compilation cache while another runs.
    """
    pieces = list(_pieces(size, length))
    done = []
    if kernel is None or kernel not in _compiled:
        done = [jax.block_until_ready(function(pieces.pop(0)))]
    if kernel is not None:
        _compiled.add(kernel)
    with ThreadPoolExecutor(workers()) as pool:
        others = pool.map(lambda piece: jax.block_until_ready(function(piece)), pieces)
        return _join([*done, *others], size)


def _pieces(size: int, length: int) -> np.ndarray:
    return (np.arange(-(-size // length) * length) % size).reshape(-1, length)


def _join(results: Iterable[Any], size: int) -> Any:
    return jax.tree.map(lambda *xs: np.concatenate([np.asarray(x) for x in xs])[:size], *results)


def completed(found: Any, sure: np.ndarray, solve: Callable[[np.ndarray], Any]) -> Any:
    """Return a pytree of vectors with solve(places) where it is not sure."""
    left = np.flatnonzero(~sure)
    if not left.size:
        return found
    solved = in_parallel(lambda places: solve(left[places]), left.size, BLOCK)

    def merged(known: Any, rest: Any) -> np.ndarray:
        values = np.array(known)
        values[left] = rest
        return values

    return jax.tree.map(merged, found, solved)
