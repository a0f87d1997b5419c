"""What a first answer costs: CPU seconds of a fresh process, phase by phase.

Run `python benchmarks/cold_start.py`. Each activation has a process of its own that keeps nothing
on the disk: it imports JAX, then the package, and asks for everything of one network. What is asked
a second time, with other σ's, is in the last column. Pairs of runs differ by the machine's other
work; ratios of one run do not.
"""

import itertools
import json
import os
import subprocess
import sys
import time

import numpy as np

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


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
        return
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "0"}
    rows = {}
    for name in functions():
        done = subprocess.run(
            [sys.executable, __file__, name],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        rows[name] = json.loads(done.stdout)
    labels = list(next(iter(rows.values())))
    print("| CPU s | " + " | ".join(labels) + " |")
    print("|---" * (len(labels) + 1) + "|")
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(f"{row[label]:.3f}" for label in labels) + " |")


if __name__ == "__main__":
    main()
