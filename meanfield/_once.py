"""Properties that are found once for an object.

`functools.cached_property` of Python 3.11 has one lock for all objects of a class: threads that
work on different objects wait for each other, and two that also hold a lock of their own may wait
for ever.
"""

import contextlib
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")
FREE = contextlib.nullcontext()


class once(Generic[T]):  # noqa: N801
    """A property that is found once, under the lock of its object if that has one: `_lock`."""

    def __init__(self, find: Callable[[Any], T]):
        self.find = find
        self.__doc__ = find.__doc__

    def __get__(self, owner: Any, _: type) -> T:
        name = self.find.__name__
        with getattr(owner, "_lock", FREE):
            if name not in vars(owner):
                vars(owner)[name] = self.find(owner)
            return vars(owner)[name]
