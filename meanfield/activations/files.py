"""Activations of a user's own Python file, as FILE.py:NAME. The file is executed.

NAME is a function, an `Activation`, or a class of these, which takes parameters.
"""

import functools
import hashlib
import importlib.util
import types
from pathlib import Path
from typing import Any

from meanfield.activations.base import Activation
from meanfield.activations.custom import from_callable
from meanfield.errors import MeanFieldError


def is_file(name: str) -> bool:
    """Return whether the name of an activation stands for one in a file."""
    return ":" in name or name.endswith(".py")


def split_place(place: str) -> tuple[Path, str]:
    """Return the file and the name of FILE.py:NAME. Raises `MeanFieldError` if it is none."""
    file, found, name = place.rpartition(":")
    if not found:
        raise MeanFieldError(f"activation {place!r} names no function; it must be {place}:function")
    path = Path(file)
    if path.suffix != ".py" or not path.is_file():
        raise MeanFieldError(f"activation {place!r}: {file} is no Python file")
    return path, name


def digest(place: str) -> str:
    """Return the SHA-256 of the file of an activation."""
    return hashlib.sha256(_content(split_place(place)[0])).hexdigest()


def activation_from_file(place: str, **params: Any) -> Activation:
    """Return the activation at FILE.py:NAME with its parameters.

    Raises
    ------
    MeanFieldError : there is none, the file cannot be run, or a parameter is not legal.

    Warns
    -----
    MeanFieldWarning : the kinks of a function were searched for, and the search is not sure.
    """
    found = _found(place, digest(place))
    if not isinstance(found, type):
        if params:
            raise MeanFieldError(f"{', '.join(params)}: {place} takes no parameters")
        return found
    legal = found.parameters()
    for key in params:
        if key not in legal:
            takes = ", ".join(legal) or "none"
            raise MeanFieldError(f"{place} has no parameter {key!r}; its parameters: {takes}")
    return found(**params)


def parameters_in_file(place: str) -> dict[str, Any]:
    """Return `Activation.parameters` of the activation at FILE.py:NAME, none of a function's."""
    found = _found(place, digest(place))
    return found.parameters() if isinstance(found, type) else {}


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MeanFieldError(f"{path} cannot be read: {error.strerror}") from error


# One object for one content: kernels are compiled once.
@functools.cache
def _found(place: str, content: str) -> Activation | type[Activation]:
    path, name = split_place(place)
    module = _run(path.resolve(), content)
    found = getattr(module, name, None)
    if found is None:
        public = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise MeanFieldError(
            f"activation {place!r}: {path} has no {name!r}; it has {', '.join(public) or 'none'}"
        )
    if isinstance(found, Activation) or (isinstance(found, type) and issubclass(found, Activation)):
        return found
    if not callable(found):
        raise MeanFieldError(
            f"activation {place!r}: {name} = {found!r} is not legal; it must be a function"
        )
    return from_callable(found, label=name)  # pyright: ignore[reportArgumentType]


@functools.cache
def _run(path: Path, _content: str) -> types.ModuleType:
    """Execute a file, once for one content."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise MeanFieldError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's file may raise anything
        raise MeanFieldError(f"{path} raises {type(error).__name__}: {error}") from error
    return module
