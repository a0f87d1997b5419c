"""One process at a time computes a store.

The lock is one of the operating system on a file beside the store: it goes with the process that
holds it, however that ends.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import filelock

from meanfield.errors import MeanFieldError


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a store, which need not exist yet.

    A directory that is made for a store which then is not made is removed again. Raises
    `MeanFieldError` where another process holds it, or the directory cannot be written.
    """
    place, holder = (path.with_name(f".{path.name}.{kind}") for kind in ("lock", "holder"))
    # Who asks whether it is held holds it for a moment.
    lock = filelock.FileLock(place, timeout=1)
    made = [folder for folder in path.absolute().parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
    except filelock.Timeout:
        raise MeanFieldError(
            f"{path} is being computed by {_holder(holder)}; wait for it, or stop it"
        ) from None
    except OSError as error:
        lock.release()
        raise MeanFieldError(f"{path} cannot be written: {error.strerror or error}") from error
    try:
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
        if not path.exists():
            place.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                for folder in made:
                    folder.rmdir()


def is_locked(path: Path) -> bool:
    """Return whether a process computes a store; not where it may not be written anyway."""
    place = path.with_name(f".{path.name}.lock")
    if not place.exists():
        return False
    try:
        with filelock.FileLock(place, timeout=0):
            return False
    except filelock.Timeout:
        return True
    except OSError:
        return False


def _holder(place: Path) -> str:
    try:
        return place.read_text(encoding="utf-8")
    except OSError:
        return "another process"
