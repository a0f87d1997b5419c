"""Each network by itself ("quadrature"), or by table; many points at a time, on all processors."""

import math
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import jax
import numpy as np

from meanfield import devices
from meanfield._elementwise import PIECE
from meanfield._struct import is_vector, map_leaves, pick
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


def in_pieces(function: Callable[[Any], Any], record: Any, length: int) -> Any:
    """Return function(record) by pieces of one length on each device.

    Record and result are pytrees of vectors; single numbers and tables go with every piece. One
    kernel serves all pieces.
    """
    return _join(map(function, _pieces(record, length)), record)


def in_parallel(
    function: Callable[[Any], Any], record: Any, length: int, kernel: Hashable = None
) -> Any:
    """Return what `in_pieces` does, on all processors.

    The first piece goes alone, unless the `kernel` that it runs is known to be compiled: XLA must
    not write one kernel into the compilation cache while another runs.
    """
    pieces = _pieces(record, length)
    done = []
    if kernel is None or kernel not in _compiled:
        done = [jax.block_until_ready(function(next(pieces)))]
    if kernel is not None:
        _compiled.add(kernel)
    with ThreadPoolExecutor(devices.threads()) as pool:
        others = pool.map(lambda piece: jax.block_until_ready(function(piece)), pieces)
        return _join([*done, *others], record)


def _size(record: Any) -> int:
    """Return the length of the vectors of a record."""
    sizes: list[int] = []
    map_leaves(lambda leaf: sizes.append(len(leaf)) if is_vector(leaf) else None, record)
    return sizes[0]


def _pieces(record: Any, length: int) -> Iterator[Any]:
    """Yield pieces of a record, the last one filled up from its start."""
    devices.require_precision()
    size, length = _size(record), length * devices.count()
    several = devices.count() > 1
    if several:
        # What goes with every piece is placed once.
        record = map_leaves(lambda leaf: leaf if is_vector(leaf) else devices.copied(leaf), record)
    for start in range(0, size, length):
        piece = pick(record, np.arange(start, start + length) % size)
        if several:
            piece = map_leaves(lambda leaf: devices.cut(leaf) if is_vector(leaf) else leaf, piece)
        yield piece


def _join(results: Iterable[Any], record: Any) -> Any:
    size = _size(record)
    return jax.tree.map(lambda *xs: np.concatenate([np.asarray(x) for x in xs])[:size], *results)


def completed(found: Any, sure: np.ndarray, solve: Callable[[Any], Any], record: Any) -> Any:
    """Return solve(record), pytrees of vectors, of which what is sure has been found."""
    left = np.flatnonzero(~sure)
    if not left.size:
        return found
    solved = in_parallel(solve, pick(record, left), PIECE)

    def merged(known: Any, rest: Any) -> np.ndarray:
        values = np.array(known)
        values[left] = rest
        return values

    return jax.tree.map(merged, found, solved)
