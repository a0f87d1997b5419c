"""Compiled kernels, kept between runs of the command line."""

import contextlib
import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path


def use_compilation_cache() -> None:
    """Keep compiled kernels between runs; MEANFIELD_CACHE names the directory, or is `off`.

    The directory is keyed by processor and jaxlib version: foreign entries may crash.
    """
    chosen = os.environ.get("MEANFIELD_CACHE", "")
    if chosen == "off":
        return
    base = Path(chosen) if chosen else Path.home() / ".cache" / "meanfield"
    directory = base / _machine()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        # Without a place to keep them, kernels are compiled anew every time.
        return
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(directory))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def _machine() -> str:
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
        digest = hashlib.sha256("\n".join(model[:2]).encode()).hexdigest()[:12]
        return f"jaxlib-{importlib.metadata.version('jaxlib')}-{digest}"
    return f"jaxlib-{importlib.metadata.version('jaxlib')}-{platform.machine()}"
