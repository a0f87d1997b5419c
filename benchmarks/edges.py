"""What the edge of chaos costs for many σb, and for families of activations.

    python benchmarks/edges.py

Processor time per critical network, as a ratio to that off a table, its making included, and the
worst relative error of σw. First 10⁴ values of σb for tanh, with scipy's `quad` and `brentq` as the
peer. Then a sweep of 100 values of σb by 100 of a, with what the scaled-bounded theorem is checked
against, written to disk: shtanh and ssaw share one table for all a, ssin and sexp make 100. All is
compiled before, and measured in one run.
"""

import tempfile

import jax
import numpy as np
from common import Row, edge_by_scipy, forget, show, spent, worst

import meanfield as mf
from meanfield.sweep.spec import SweepSpec

SIGMA_B = np.geomspace(1e-3, 2.0, 10_000)
SAMPLE, SCIPY_SAMPLE = 200, 10
FAMILIES = ("shtanh", "ssaw", "sexp", "ssin")
NUMBER = 100


def edge(sigma_b, method):
    """Return the σw of critical networks of tanh, without a table from before."""
    forget()
    found = mf.edge_of_chaos(mf.activation("tanh"), sigma_b, method)
    return np.asarray(jax.block_until_ready(found).sigma_w)


def swept(name, number, method):
    """Return the dataset of a sweep along the edge."""
    forget()
    spec = SweepSpec(
        name=name,
        activations=[name],
        on="edge_of_chaos",
        method=method,
        observables=["moment_ratio", "max_deviation", "max_deviation_full", "linear_width"],
        axes={
            "a": np.linspace(1, 10, number).tolist(),
            "bias_variance": np.geomspace(1e-4, 1, number).tolist(),
        },
    )
    with tempfile.TemporaryDirectory() as directory:
        return mf.open_results(mf.run_sweep(spec, directory)).load()


def rows():
    """Return every route to one critical network."""
    sample = SIGMA_B[:: SIGMA_B.size // SAMPLE]
    few = sample[:: SAMPLE // SCIPY_SAMPLE]
    edge(SIGMA_B, "table")
    found, table = spent(lambda: edge(SIGMA_B, "table"))
    edge(sample, "quadrature")
    exact, quadrature = spent(lambda: edge(sample, "quadrature"))
    careful, scipy = spent(lambda: [edge_by_scipy(b) for b in few])
    at, task = np.searchsorted(SIGMA_B, sample), "a critical network of tanh"
    yield Row(task, "table, 10⁴ σb", table / SIGMA_B.size, worst(found[at], exact))
    yield Row(task, "quadrature", quadrature / sample.size, "reference")
    yield Row(
        task,
        "scipy: quad, brentq",
        scipy / few.size,
        worst(careful, exact[:: SAMPLE // SCIPY_SAMPLE]),
    )
    for name in FAMILIES:
        task = f"{name} on the edge, theorem checked"
        swept(name, NUMBER, "table")
        found, table = spent(lambda name=name: swept(name, NUMBER, "table"))
        # Four values of either axis are among the hundred.
        swept(name, 4, "quadrature")
        exact, quadrature = spent(lambda name=name: swept(name, 4, "quadrature"))
        part = found["sigma_w"].values[:: NUMBER // 3, :: NUMBER // 3]
        yield Row(
            task, "sweep of 100 x 100 by table", table / NUMBER**2, worst(part, exact["sigma_w"])
        )
        yield Row(task, "sweep by quadrature", quadrature / 16, "reference")


if __name__ == "__main__":
    show(rows())
