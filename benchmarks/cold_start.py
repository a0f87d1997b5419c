"""What a first question costs: whole processes, from the shell and back.

    python benchmarks/cold_start.py

Wall time of `meanfield --help` and of `meanfield point`, the latter without kernels from before and
with those that the command line keeps; the best of three, in one run. The ratio is to `--help`.
"""

import os
import subprocess
import sys
import tempfile

from common import Row, elapsed, show

REPEATS = 3
POINT = ("point", "-a", "gelu", "--sigma-w", "1.5", "--sigma-b", "0.2")


def run(*arguments, cache):
    """Return the wall time of a run of the command line."""
    command = [sys.executable, "-m", "meanfield", *arguments]
    environment = {**os.environ, "MEANFIELD_CACHE": cache}
    return elapsed(
        lambda: subprocess.run(command, env=environment, check=True, capture_output=True)
    )[1]


def rows():
    """Return the time of each kind of run."""
    with tempfile.TemporaryDirectory() as cache:
        runs = {
            "meanfield --help": lambda: run("--help", cache="off"),
            "meanfield point, kernels kept": lambda: run(*POINT, cache=cache),
            "meanfield point, nothing kept": lambda: run(*POINT, cache="off"),
        }
        run(*POINT, cache=cache)
        for route, again in runs.items():
            yield Row("a first question", route, min(again() for _ in range(REPEATS)))


if __name__ == "__main__":
    show(rows())
