"""Compiled kernels, kept between runs of the command line.

JAX keeps them in files. Given a limit to their size it locks the directory when it reads and
writes, so that runs at the same time do not meet half an entry; and it writes the time of an entry
after the entry, so that one without a time is what a killed run left of it.
"""

import contextlib
import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path

# Bytes; what has not been used for longest goes first.
LIMIT = 2**31
ENTRY, TIME = "-cache", "-atime"


def use_compilation_cache() -> None:
    """Keep compiled kernels between runs; MEANFIELD_CACHE names the directory, or is `off`.

    The directory is keyed by processor and jaxlib version: foreign entries may crash.
    """
    chosen = os.environ.get("MEANFIELD_CACHE", "")
    if chosen == "off":
        return
    directory = (Path(chosen) if chosen else _own_directory()) / _machine()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _mend(directory)
    except OSError:
        # Without a place to keep them, kernels are compiled anew every time.
        return
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(directory))
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(LIMIT))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def _own_directory() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("meanfield", appauthor=False)


def _mend(directory: Path) -> None:
    """Delete entries that were not written to their end, unless others are at work."""
    import filelock

    with contextlib.suppress(filelock.Timeout), filelock.FileLock(directory / ".lockfile", 0):
        for entry in directory.glob(f"*{ENTRY}"):
            if not entry.with_name(entry.name.removesuffix(ENTRY) + TIME).exists():
                entry.unlink()


def _machine() -> str:
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
        digest = hashlib.sha256("\n".join(model[:2]).encode()).hexdigest()[:12]
        return f"jaxlib-{importlib.metadata.version('jaxlib')}-{digest}"
    return f"jaxlib-{importlib.metadata.version('jaxlib')}-{platform.machine()}"
