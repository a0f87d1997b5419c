"""What the benchmarks share: processor time, rows of a table, and what users do today."""

import dataclasses
import time

import numpy as np
from scipy.integrate import dblquad, quad
from scipy.optimize import brentq

from meanfield import pair_table, tabulation

NODES, ITERATIONS = 64, 300


@dataclasses.dataclass(frozen=True)
class Row:
    """One route to the answer of a task: seconds for each item, and how wrong it is."""

    task: str
    route: str
    seconds: float
    error: str = ""


def spent(function):
    """Return a result and its processor time in seconds."""
    start = time.process_time()
    result = function()
    return result, time.process_time() - start


def elapsed(function):
    """Return a result and its wall time in seconds."""
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def forget():
    """Forget all tables: what follows includes the time of making them."""
    for part in (tabulation._group, tabulation._edge_group, pair_table.tabulated_pairs):
        part.cache_clear()


def each(row):
    """Return the time of a row in a fitting unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)):
        if row.seconds >= size or unit == "ns":
            return f"{row.seconds / size:.3g} {unit}"
    raise AssertionError


def show(rows):
    """Print rows, with the ratio of their times to the first of each task."""
    print(f"{'task':<38}{'route':<44}{'each':>10}{'ratio':>10}   error")
    first = {}
    for row in rows:
        ratio = row.seconds / first.setdefault(row.task, row.seconds)
        print(f"{row.task:<38}{row.route:<44}{each(row):>10}{ratio:>10.3g}   {row.error}")


def worst(found, exact):
    """Return the largest relative error as text."""
    return f"{np.nanmax(np.abs(np.asarray(found) / np.asarray(exact) - 1)):.0e}"


# The careful user: scipy, one network of tanh at a time --------------------------------------


def mean(f):
    """Return E f(z) by adaptive quadrature."""
    return quad(lambda z: f(z) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi), -9, 9, epsrel=1e-11)[0]


def network_by_scipy(sigma_w, sigma_b):
    """Return q*, χ1 and c* of one chaotic or ordered network."""

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


def edge_by_scipy(sigma_b):
    """Return σw of the critical network."""

    def weight_variance(q):
        return 1 / mean(lambda z: np.cosh(np.sqrt(q) * z) ** -4)

    def excess(q):
        second = mean(lambda z: np.tanh(np.sqrt(q) * z) ** 2)
        return q - weight_variance(q) * second - sigma_b**2

    return np.sqrt(weight_variance(brentq(excess, 1e-8, 50, rtol=1e-14)))


# The fast user: numpy, Gauss-Hermite, plain iteration ----------------------------------------


def hermite():
    """Return nodes and weights of a standard normal variable."""
    x, w = np.polynomial.hermite_e.hermegauss(NODES)
    return x, w / w.sum()


def covariance_by_hermite(q, c):
    """Return E tanh(u1) tanh(u2) for arrays of variances and correlations."""
    x, w = hermite()
    mixed = c[:, None, None] * x[:, None] + np.sqrt(1 - c**2)[:, None, None] * x
    inner = np.tanh(np.sqrt(q)[:, None, None] * mixed) @ w
    return (np.tanh(np.sqrt(q)[:, None] * x) * inner) @ w


def networks_by_hermite(sigma_w, sigma_b):
    """Return q*, χ1 and c* of arrays of networks of tanh."""
    x, w = hermite()
    q, c = np.ones_like(sigma_w), np.full_like(sigma_w, 0.5)
    for _ in range(ITERATIONS):
        q = sigma_w**2 * (np.tanh(np.sqrt(q)[:, None] * x) ** 2 @ w) + sigma_b**2
    chi = sigma_w**2 * (np.cosh(np.sqrt(q)[:, None] * x) ** -4 @ w)
    for _ in range(ITERATIONS):
        c = np.minimum((sigma_w**2 * covariance_by_hermite(q, c) + sigma_b**2) / q, 1.0)
    return q, chi, c
