"""Activations of a user's own Python file, FILE.py:NAME, or of PyTorch, torch:NAME.

The file is executed.

NAME is a function, an `Activation`, or a registered class of these, which takes parameters. What is
executed is what was read: its SHA-256 says which content an activation is of.
"""

import dataclasses
import functools
import hashlib
import sys
import types
from pathlib import Path
from typing import Any

from meanfield.activations import torch_modules
from meanfield.activations.base import Activation
from meanfield.activations.custom import from_callable
from meanfield.activations.torch_modules import PREFIX
from meanfield.errors import MeanFieldError


@dataclasses.dataclass(frozen=True)
class InFile:
    """What is found at FILE.py:NAME or torch:NAME: an activation, or a class of them."""

    place: str
    version: str
    """The file's SHA-256, or the version of PyTorch."""
    found: Activation | type[Activation]
    folder: Path = dataclasses.field(compare=False)
    """Where it was looked for."""

    def parameters(self) -> dict[str, Any]:
        """Return `Activation.parameters` of a class, none of an activation."""
        return self.found.parameters() if isinstance(self.found, type) else {}

    def make(self, **params: Any) -> Activation:
        """Return the activation. Raises `MeanFieldError` for parameters that are not legal."""
        if not isinstance(self.found, type):
            if params:
                raise MeanFieldError(f"{', '.join(params)}: {self.place} takes no parameters")
            return self.found
        legal = self.parameters()
        for key in params:
            if key not in legal:
                takes = ", ".join(legal) or "none"
                raise MeanFieldError(f"{self.place} has no parameter {key!r}; it has: {takes}")
        return self.found(**params)


def is_file(name: str) -> bool:
    """Return whether an activation is not one of the registered names but lies elsewhere."""
    return ":" in name or name.endswith(".py")


def load(place: str, folder: Path | None = None) -> InFile:
    """Return what is at FILE.py:NAME, FILE looked for from a folder, or at torch:NAME.

    Raises
    ------
    MeanFieldError : there is none, or the file cannot be run.

    Warns
    -----
    MeanFieldWarning : the kinks of a function were searched for, and the search is not sure.
    """
    if place.startswith(PREFIX):
        function, version = torch_modules.found(place)
        return InFile(place, f"PyTorch {version}", from_callable(function, label=place), Path())
    file, colon, name = place.rpartition(":")
    if not colon:
        raise MeanFieldError(f"activation {place!r} names no function; it must be {place}:function")
    folder = (folder or Path()).absolute()
    path = folder / file
    if path.suffix != ".py" or not path.is_file():
        raise MeanFieldError(f"activation {place!r}: {file} is no Python file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MeanFieldError(f"{path} cannot be read: {error.strerror}") from error
    version = f"SHA-256 {_digest(content)}"
    return InFile(place, version, _found(path.resolve(), name, content), folder)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# One object for one content: kernels are compiled once.
@functools.cache
def _found(path: Path, name: str, content: bytes) -> Activation | type[Activation]:
    module = _run(path, content)
    found = getattr(module, name, None)
    if found is None:
        public = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise MeanFieldError(f"{path} has no {name!r}; it has {', '.join(public) or 'none'}")
    if isinstance(found, Activation):
        return found
    if isinstance(found, type) and issubclass(found, Activation):
        if "__dataclass_fields__" in vars(found):
            return found
        raise MeanFieldError(f"{name} of {path} is not legal; register it: mf.register_activation")
    if not callable(found):
        raise MeanFieldError(f"{name} = {found!r} of {path} is not legal; it must be a function")
    return from_callable(found, label=name)  # pyright: ignore[reportArgumentType]


@functools.cache
def _run(path: Path, content: bytes) -> types.ModuleType:
    """Execute a file, once for one content."""
    name = f"meanfield_file_{_digest(content)}"
    module = types.ModuleType(name)
    module.__file__ = str(path)
    # Dataclasses look their module up.
    sys.modules[name] = module
    try:
        exec(compile(content, path, "exec"), vars(module))
    except (Exception, SystemExit) as error:  # the user's file may raise anything
        del sys.modules[name]
        raise MeanFieldError(f"{path} raises {type(error).__name__}: {error}") from error
    return module
