"""How much memory may a sweep use, and how much does it use?"""

import re
from pathlib import Path

from meanfield.errors import MeanFieldError

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
UNITS |= {f"{unit}i": 2 ** (10 * power) for power, unit in enumerate("KMGT", 1)}
# The part of what is free that a sweep may use if nobody says otherwise.
SHARE = 0.8


def parse_size(text: str) -> int:
    """Return the number of bytes that "2GiB" or "500MB" stands for.

    Raises `MeanFieldError` for what is no such size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?\s*", text, re.IGNORECASE)
    if match is None or float(match[1]) == 0:
        raise MeanFieldError(f"--memory {text!r} is not legal; it must be a size such as 2GiB")
    unit = (match[2] or "").upper().replace("I", "i")
    return int(float(match[1]) * UNITS[unit])


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
