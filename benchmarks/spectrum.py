"""How far spectra of Jacobians are from the floor: evaluations of φ' times their cost.

    python benchmarks/spectrum.py

For 20 layers of Gaussian weights at q = 0.7 it prints the time of building a spectrum and that of
its density at 2000 points, the latter also as a ratio to what the points cost if every node of the
law of slopes took one evaluation of φ and φ': 64 nodes on each piece, in each step of Newton's
method. The first spectrum of an activation includes its sampling. Everything is measured in one
run.
"""

import time

import numpy as np

import meanfield as mf
from meanfield.activations.sampling import sampled
from meanfield.free_product import NEAR_STEPS
from meanfield.slope_law import slope_law
from meanfield.spectral_law import spectral_law

REPEATS = 5
DEPTH, VARIANCE, POINTS, SIZE = 20.0, 0.7, 2000, 64
NAMES = ("relu", "hard_tanh", "tanh", "erf", "elu", "swish", "gelu")


def timed(function):
    """Return the result of a function, and its first and its best later run time in seconds."""
    times = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return result, times[0], min(times[1:])


def built(layer):
    """Return a spectrum that is not remembered."""
    spectral_law.cache_clear()
    return mf.check(mf.jacobian_spectrum(layer, VARIANCE, DEPTH))


def main():
    """Print the table."""
    header = ("activation", "ns/φ'", "first s", "build ms", "2000 points ms", "× floor")
    print("{:<11}{:>7}{:>9}{:>10}{:>16}{:>9}".format(*header))
    for name in NAMES:
        phi = mf.activation(name)
        layer = mf.Dense(phi, 1.0, 0.1)
        spectrum, first, build = timed(lambda layer=layer: built(layer))
        one, x = sampled(phi), np.linspace(-3, 3, 200_000)
        each = timed(lambda one=one, x=x: one.values(x))[2] / x.size
        points = np.exp(float(spectrum.log_lambda_max) + np.linspace(-12, -1e-3, POINTS))
        read = timed(lambda spectrum=spectrum, points=points: spectrum.density(points))[2]
        pieces = len(slope_law(one, VARIANCE, 1.0).z)
        floor = POINTS * NEAR_STEPS * pieces * SIZE * each
        ratio = f"{read / floor:>9.1f}" if pieces else f"{'-':>9}"
        row = f"{name:<11}{1e9 * each:>7.1f}{first:>9.2f}{1e3 * build:>10.1f}{1e3 * read:>16.1f}"
        print(row + ratio)


if __name__ == "__main__":
    main()
