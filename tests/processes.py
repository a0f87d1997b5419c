"""A sweep as processes of the command line that can be killed, and what it is if nobody does."""

import os
import subprocess
import sys

from test_sweep import digest, write

# Many chunks that take a moment each: of five activations four.
TEXT = """
activations = ["erf", "hard_tanh", "sin", "softsign", "tanh"]
method = "quadrature"
[axes]
sigma_w = { start = 0.5, stop = 3, num = 8 }
sigma_b = { start = 0.1, stop = 1, num = 8 }
"""
CHUNK = 16
TOTAL = 20 * CHUNK


class Sweep:
    """One config, run into any directory; its kernels are kept between runs.

    `store` is what becomes of it, and `undisturbed` the digest of that.
    """

    def __init__(self, base):
        self.base = base
        self.config = write(base, TEXT, "faults")
        self.undisturbed = self.finish(base / "undisturbed")
        self.store = base / "undisturbed" / "faults.zarr"

    def start(self, out, *options):
        """Start it, and return the process."""
        command = [sys.executable, "-m", "meanfield", "sweep", str(self.config), "--out", str(out)]
        return subprocess.Popen(
            [*command, *options],
            env={**os.environ, "MEANFIELD_CACHE": str(self.base / "cache")},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def begin(self, out, *options):
        """Start it, wait until points are computed, and return the process."""
        process = self.start(out, *options)
        for line in process.stderr:
            if " of " in line:
                break
        return process

    def finish(self, out):
        """Run it to its end, and return the digest of its store."""
        process = self.start(out)
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        return digest(out / "faults.zarr")
