"""Ctrl-C and SIGTERM while a sweep or a training runs: what is in hand is finished first."""

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether a signal has asked to stop, and which."""

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self) -> bool:
        return self.signal > 0

    @property
    def exit_code(self) -> int:
        """What a shell says of a process that a signal has ended."""
        return 128 + self.signal


@contextlib.contextmanager
def stoppable(what: str = "chunk") -> Iterator[Stop]:
    """Turn the first signal into a wish to stop, after `what` in hand; a second stops at once."""
    stop = Stop()

    def asked(number: int, _: Any) -> None:
        if stop.signal:
            raise SystemExit(stop.exit_code)
        stop.signal = number
        # Not `print`: it may be at work.
        os.write(2, f"stopping: the {what} in hand is finished first\n".encode())

    before = {number: signal.signal(number, asked) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
