"""A line for who waits at a terminal: programs read what is on stderr as errors."""

import contextlib
import sys
import threading
from collections.abc import Iterator

# Seconds that pass before it is said what takes so long.
PATIENCE = 0.7


@contextlib.contextmanager
def waiting(words: str) -> Iterator[None]:
    """Tell a terminal what is being done, in `words`, if it is not done soon. Also a decorator."""
    if not sys.stderr.isatty():
        yield
        return

    def say() -> None:
        print(f"{words} ...", file=sys.stderr, flush=True)

    timer = threading.Timer(PATIENCE, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
