"""Named things: one small class behind activations, observables and figures."""

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from meanfield.errors import MeanFieldError, unknown_name

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A mapping from names to objects in which no name is taken twice.

    An unknown name raises `MeanFieldError` with the nearest known ones.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, T] = {}

    def register(self, *names: str) -> Callable[[T], T]:
        """Return a decorator that registers its object under `names`."""

        def decorator(item: T) -> T:
            for name in names:
                if name in self._items:
                    raise MeanFieldError(f"{self.kind} {name!r} is registered already")
                self._items[name] = item
            return item

        return decorator

    def __getitem__(self, name: str) -> T:
        try:
            return self._items[name]
        except KeyError:
            raise unknown_name(self.kind, name, self._items) from None

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)
