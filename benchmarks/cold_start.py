"""What a first answer costs: CPU seconds of a fresh process, phase by phase.

Run `python benchmarks/cold_start.py`. Each activation has a process of its own that keeps nothing
on the disk: it imports JAX, then the package, and asks for everything of one network. What is asked
a second time, with other σ's, is in the last column. Then the wall time of whole commands, from the
shell and back, the best of three. Pairs of runs differ by the machine's other work; ratios of one
run do not.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

REPEATS = 3
POINT = ("point", "gelu", "--sigma-w", "1.5", "--sigma-b", "0.2")
QUESTIONS = ("import jax", "import meanfield", "q*, V', χ1", "moments", "edge", "c*", "ξ", "rate")


def functions():
    """Return the activations, callables that the process has never seen."""
    import jax
    import jax.numpy as jnp

    random = np.random.default_rng(1)
    knots, heights = np.sort(random.uniform(-3, 3, 50)), random.normal(size=50)
    return {
        "tanh": lambda x: jnp.tanh(x),
        "elu": lambda x: jax.nn.elu(x),
        "clip": lambda x: jnp.clip(x, -1, 1),
        "snake": lambda x: x + jnp.sin(x) ** 2,
        "sin(30x)": lambda x: jnp.sin(30 * x),
        "50 knots": lambda x: jnp.interp(x, knots, heights),
    }


def measure(name: str) -> dict[str, float]:
    """Return the CPU seconds of each phase in this process."""
    marks = [("start", time.process_time())]

    def mark(label: str) -> None:
        marks.append((label, time.process_time()))

    import jax  # noqa: F401

    mark("import jax")
    import meanfield as mf

    mf.Dense  # noqa: B018  (loads)
    mark("import meanfield")
    function = functions()[name]
    mark("defining φ")
    phi = mf.from_callable(function)

    def ask(sigma_w: float, sigma_b: float, label: str = "") -> None:
        layer = mf.Dense(phi, sigma_w, sigma_b)
        state = mf.steady_state(layer)
        mark(label + "q*, V', χ1")
        mf.jacobian_moments(layer, 1.0, 10.0)
        mark(label + "moments")
        edge = mf.edge_of_chaos(phi, sigma_b)
        mark(label + "edge")
        mf.correlation_fixed_point(layer)
        mark(label + "c*")
        mf.depth_scales(layer)
        mark(label + "ξ")
        mf.convergence_rate(phi, float(edge.q) if float(edge.q) > 0 else 1.0)
        mark(label + "rate")
        assert state.status is not None

    ask(0.9, 0.3)
    ask(0.95, 0.31, "again: ")
    spent = {b: round(t - s, 3) for (_, s), (b, t) in itertools.pairwise(marks)}
    first = sum(spent[q] for q in QUESTIONS[2:])
    again = sum(seconds for label, seconds in spent.items() if label.startswith("again"))
    return {q: spent[q] for q in QUESTIONS} | {"all questions": first, "again": again}


def phases() -> dict[str, dict[str, float]]:
    """Return, by activation, the CPU seconds of each phase."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "0"}
    found = {}
    for name in functions():
        done = subprocess.run(
            [sys.executable, __file__, name],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        found[name] = json.loads(done.stdout)
    return found


def rows():
    """Return what everything of one network costs, and what commands do."""
    # A process that measures imports has not imported what the benchmarks share.
    from common import Row

    task = "all of one network, a new φ, CPU"
    for name, spent in phases().items():
        yield Row(task, f"{name}, first", spent["all questions"])
        yield Row(task, f"{name}, other σ's", spent["again"])
    yield from commands()


def commands():
    """Return the wall times of whole commands."""
    from common import Row, elapsed

    def run(*arguments, cache):
        line = [sys.executable, "-m", "meanfield", *arguments]
        environment = {**os.environ, "MEANFIELD_CACHE": cache}
        return elapsed(
            lambda: subprocess.run(line, env=environment, check=True, capture_output=True)
        )[1]

    with tempfile.TemporaryDirectory() as cache:
        runs = {
            "meanfield --help": lambda: run("--help", cache="off"),
            "meanfield point, kernels kept": lambda: run(*POINT, cache=cache),
            "meanfield point, nothing kept": lambda: run(*POINT, cache="off"),
        }
        run(*POINT, cache=cache)
        for route, again in runs.items():
            yield Row("a first question, wall", route, min(again() for _ in range(REPEATS)))


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
        return
    found = phases()
    labels = list(next(iter(found.values())))
    print("| CPU s | " + " | ".join(labels) + " |")
    print("|---" * (len(labels) + 1) + "|")
    for name, row in found.items():
        print(f"| {name} | " + " | ".join(f"{row[label]:.3f}" for label in labels) + " |")
    from common import show

    show(list(commands()))


if __name__ == "__main__":
    main()
