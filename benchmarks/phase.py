"""What a phase diagram costs: read off a table, by quadrature here, and as users do it today.

    python benchmarks/phase.py

Processor time per network of q*, χ1 and c* for tanh over σw from 0.5 to 3 and σb from 0 to 1, as
a ratio to that of a grid of 100 x 100 off a table, the building of the table included; beside it
the worst error, against direct quadrature, in q*, χ1 and c*. The peers are scipy's `quad`
and `brentq` on a few networks of that grid, and vectorised Gauss-Hermite quadrature with plain
iteration. Then grids of growing size for several activations. All is compiled before, and measured
in one run.
"""

import resource
import time

import numpy as np
from scipy.integrate import dblquad, quad
from scipy.optimize import brentq

import meanfield as mf
from meanfield import table

GRID = (np.linspace(0.5, 3.0, 100), np.linspace(0.0, 1.0, 100))
SIZES = (100, 300, 1000)
NAMES = ("tanh", "gelu", "elu", "shtanh")
# Networks on which the slow ones are measured.
SAMPLE, SCIPY_SAMPLE = 60, 6
NODES, ITERATIONS = 64, 300


def spent(function):
    """Return a result and its processor time in seconds."""
    start = time.process_time()
    result = function()
    return result, time.process_time() - start


def fresh(phi, *axes):
    """Return a phase diagram without a table from before."""
    table._tabulate.cache_clear()
    return mf.phase_diagram(phi, *axes, method="table")


def by_scipy(sigma_w, sigma_b):
    """Return q*, χ1 and c* of one chaotic or ordered network of tanh."""

    def mean(f):
        return quad(lambda z: f(z) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi), -9, 9, epsrel=1e-11)[
            0
        ]

    def variance(q):
        return sigma_w**2 * mean(lambda z: np.tanh(np.sqrt(q) * z) ** 2) + sigma_b**2

    q = brentq(lambda q: variance(q) - q, 1e-6, 50)
    chi = sigma_w**2 * mean(lambda z: np.cosh(np.sqrt(q) * z) ** -4)
    if chi <= 1:
        return q, chi, 1.0

    def next_(c):
        def integrand(y, x):
            u, v = np.sqrt(q) * x, np.sqrt(q) * (c * x + np.sqrt(1 - c * c) * y)
            return np.tanh(u) * np.tanh(v) * np.exp(-(x * x + y * y) / 2) / (2 * np.pi)

        return (sigma_w**2 * dblquad(integrand, -7, 7, -7, 7, epsabs=1e-8)[0] + sigma_b**2) / q

    return q, chi, brentq(lambda c: next_(c) - c, 0.0, 0.999)


def by_hermite(sigma_w, sigma_b):
    """Return q*, χ1 and c* of arrays of networks of tanh by plain iteration."""
    x, w = np.polynomial.hermite_e.hermegauss(NODES)
    w = w / w.sum()
    q, c = np.ones_like(sigma_w), np.full_like(sigma_w, 0.5)
    for _ in range(ITERATIONS):
        q = sigma_w**2 * (np.tanh(np.sqrt(q)[:, None] * x) ** 2 @ w) + sigma_b**2
    chi = sigma_w**2 * (np.cosh(np.sqrt(q)[:, None] * x) ** -4 @ w)
    first = np.tanh(np.sqrt(q)[:, None] * x)
    for _ in range(ITERATIONS):
        mixed = c[:, None, None] * x[:, None] + np.sqrt(1 - c**2)[:, None, None] * x
        second = np.tanh(np.sqrt(q)[:, None, None] * mixed) @ w
        c = np.minimum((sigma_w**2 * ((first * second) @ w) + sigma_b**2) / q, 1.0)
    return q, chi, c


def errors(found, exact):
    """Return the worst errors of q*, χ1 (relative) and c* as text."""
    parts = [
        np.nanmax(np.abs(np.asarray(a) / b - 1)) for a, b in zip(found[:2], exact[:2], strict=True)
    ]
    parts.append(np.nanmax(np.abs(np.asarray(found[2]) - exact[2])))
    return " / ".join(f"{part:.0e}" for part in parts)


def main():
    """Print both tables."""
    phi = mf.activation("tanh")
    fresh(phi, *GRID)
    diagram, ours = spent(lambda: fresh(phi, *GRID))
    ours /= diagram["q"].size
    random = np.random.default_rng(0)
    places = random.choice(np.flatnonzero(diagram["status"].values == mf.Status.OK), SAMPLE, False)
    rows, columns = np.unravel_index(places, diagram["q"].shape)
    sigma_w, sigma_b = GRID[0][rows], GRID[1][columns]
    layer = mf.Dense(phi, sigma_w, sigma_b)

    def direct():
        state, limit = mf.steady_state(layer), mf.correlation_fixed_point(layer)
        return [np.asarray(x) for x in (state.q, state.chi, limit.c)]

    direct()
    exact, quadrature = spent(direct)
    tabled = [diagram[name].values.ravel()[places] for name in ("q", "chi", "epsilon")]
    tabled[2] = 1 - tabled[2]
    hermite, hermite_time = spent(lambda: by_hermite(sigma_w, sigma_b))
    few = slice(0, SCIPY_SAMPLE)
    careful, careful_time = spent(
        lambda: np.transpose(
            [by_scipy(*pair) for pair in zip(sigma_w[few], sigma_b[few], strict=True)]
        )
    )

    print(f"{'tanh':<44}{'µs/network':>12}{'ratio':>10}   worst error in q* / χ1 / c*")
    for label, each, text in (
        ("table, 100 x 100, its building included", ours, errors(tabled, exact)),
        ("quadrature", quadrature / SAMPLE, "reference"),
        ("Gauss-Hermite, 64 nodes, 300 iterations", hermite_time / SAMPLE, errors(hermite, exact)),
        (
            "scipy quad, dblquad, brentq",
            careful_time / SCIPY_SAMPLE,
            errors(careful, [part[few] for part in exact]),
        ),
    ):
        print(f"{label:<44}{1e6 * each:>12.1f}{each / ours:>10.1f}   {text}")

    print(
        f"\n{'grid':<10}{'size':>6}{'processor s':>13}{'µs/network':>12}{'ratio to the first':>20}"
    )
    for name in NAMES:
        first = None
        for size in SIZES:
            axes = (np.linspace(0.5, 3.0, size), np.linspace(0.0, 1.0, size))
            fresh(mf.activation(name), *axes)
            _, took = spent(lambda name=name, axes=axes: fresh(mf.activation(name), *axes))
            each = took / size**2
            first = first or each
            print(f"{name:<10}{size:>6}{took:>13.2f}{1e6 * each:>12.2f}{each / first:>20.3f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak:.2f} GiB")


if __name__ == "__main__":
    main()
