"""How far the package is from the floor: activation evaluations times their cost.

    python benchmarks/floor.py

For each activation it measures what one evaluation of φ costs in a plain loop over an array,
and prints, for the package's expectations and solvers, the time and its ratio to (number of
evaluations of φ or φ') × (that cost). Everything is measured in one run, so that the ratios mean
something on a busy machine. Compile times are printed beside.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np

import meanfield as mf
from meanfield.gaussian import LINE_SIZE, PLANE_SIZE, SMOOTH_EXTRA

REPEATS = 7
BATCH = 64


def best(function, *args):
    """Return the compile time and the best run time of a jitted function, in seconds."""
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*args).compile()
    compile_time = time.perf_counter() - start
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*args))
        times.append(time.perf_counter() - start)
    return compile_time, min(times)


def evaluations(phi):
    """Return how often φ is evaluated for one line and for one plane expectation."""
    kinks = len(phi.kinks())
    away = sum(1 for k in phi.kinks() if k != 0)
    line = (2 + away) * LINE_SIZE
    crossings = kinks * (kinks + 1) // 2 - (kinks - away)
    outer = (2 + crossings) * (PLANE_SIZE if kinks else PLANE_SIZE + SMOOTH_EXTRA)
    inner = (max(kinks, 1) + 1) * PLANE_SIZE
    return line, 2 * outer * inner


def main():
    """Print the table."""
    qs, cs = np.linspace(0.3, 3, BATCH), np.linspace(0.05, 0.95, BATCH)
    header = ("activation", "ns/φ", "quantity", "compile s", "µs each", "× floor")
    print("{:<11}{:>7}  {:<22}{:>10}{:>10}{:>9}".format(*header))
    for name in ("tanh", "erf", "gelu", "elu", "sexp", "hard_tanh"):
        phi = mf.activation(name)
        x = jnp.linspace(-3, 3, 200_000)
        _, loop = best(lambda x, phi=phi: phi(x).sum(), x)
        each = loop / x.size
        line, plane = evaluations(phi)
        rows = {
            "E φ²": (lambda q, _, phi=phi: phi.second_moment(q), line),
            "E (φ1 - φ2)²": (lambda q, c, phi=phi: phi.decorrelation(q, 1 - c), plane),
        }
        for label, (function, count) in rows.items():
            mapped = lambda q, c, f=function: jax.lax.map(lambda a: f(*a), (q, c))  # noqa: E731
            compile_time, run = best(mapped, qs, cs)
            run /= BATCH
            ratio = f"{run / (count * each):.1f}"
            print(
                f"{name:<11}{each * 1e9:7.2f}  {label:<22}{compile_time:10.2f}"
                f"{run * 1e6:10.1f}{ratio:>9}"
            )
        weights = np.sqrt(np.linspace(1.2, 3, BATCH))
        solvers = {
            "edge_of_chaos": (mf.edge_of_chaos, (phi, np.sqrt(np.linspace(0.01, 0.3, BATCH)))),
            "correlation_fixed_point": (mf.correlation_fixed_point, (mf.Dense(phi, weights, 0.3),)),
        }
        for label, (function, args) in solvers.items():
            start = time.perf_counter()
            jax.block_until_ready(function(*args))
            first = time.perf_counter() - start
            start = time.perf_counter()
            jax.block_until_ready(function(*args))
            run = time.perf_counter() - start
            ratio = f"{run / BATCH / (line * each):.0f} E"
            print(
                f"{name:<11}{each * 1e9:7.2f}  {label:<22}{first - run:10.2f}"
                f"{run / BATCH * 1e6:10.1f}{ratio:>9}"
            )


if __name__ == "__main__":
    main()
