"""How much memory may be used, is free, and is held by this process? In bytes."""

import re
from pathlib import Path

from meanfield.errors import MeanFieldError

MEMORY = re.compile(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*(?:([kKMGT]?)(i?)B)?\s*")
POWERS = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_memory(memory: int | str) -> int:
    """Return the bytes that a number, or text such as "512MiB", "2GB" or "1e9", stands for."""
    match = MEMORY.fullmatch(str(memory))
    try:
        if match:
            unit = 1024 if match[3] else 1000
            return int(float(match[1]) * unit ** POWERS[match[2] or ""])
    except (ValueError, OverflowError):
        pass
    raise MeanFieldError(
        f"memory = {memory!r} is not legal; it must be bytes, such as 512MiB, 2GB or 1e9"
    )


def free() -> int:
    """Return how many bytes of memory are free."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return 2**62
    return 1024 * int(re.findall(r"MemAvailable:\s+(\d+)", text)[0])


def used() -> int:
    """Return how many bytes this process holds, 0 where the system does not say."""
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0
    return 1024 * int(re.findall(r"VmRSS:\s+(\d+)", text)[0])
