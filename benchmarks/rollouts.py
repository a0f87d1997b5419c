"""What it costs to follow pairs of inputs through many layers.

    python benchmarks/rollouts.py

Wall time for a pair and a layer, as a ratio to that of 1000 pairs to depth 1000 off a table (which
is there already), and the worst relative error of 1 - c after ten layers. The pairs start at q*, or
with unequal variances. The peer iterates the map of tanh by vectorised Gauss-Hermite quadrature.
All is compiled before, and measured in one run.
"""

import jax
import numpy as np
from common import Row, covariance_by_hermite, elapsed, show, worst

import meanfield as mf

PAIRS, DEPTH, SAMPLE, SHORT = 1000, 1000, 8, 10
NAMES = ("tanh", "gelu", "elu", "shtanh")
SIGMA_W, SIGMA_B = 1.2, 0.3


def by_hermite(q, c, depth):
    """Return 1 - c of pairs layer by layer."""
    path = [c]
    for _ in range(depth):
        c = np.minimum(
            (SIGMA_W**2 * covariance_by_hermite(np.full_like(c, q), c) + SIGMA_B**2) / q, 1
        )
        path.append(c)
    return 1 - np.transpose(path)


def compared(task, layer, q1, q2, q12, few):
    """Return the rows of a table and of quadrature, which does but a few of the pairs."""

    def roll(places, depth, method):
        path = mf.rollout(layer, q1[places], q2[places], q12[places], depth, method)
        return np.asarray(jax.block_until_ready(path).epsilon)

    roll(slice(None), DEPTH, "table")
    found, table = elapsed(lambda: roll(slice(None), DEPTH, "table"))
    roll(few, SHORT, "quadrature")
    exact, quadrature = elapsed(lambda: roll(few, SHORT, "quadrature"))
    error = worst(found[few, : SHORT + 1], exact)
    return exact, [
        Row(task, "table, 1000 pairs, 1000 layers", table / PAIRS / DEPTH, error),
        Row(task, "quadrature", quadrature / len(exact) / SHORT, "reference"),
    ]


def rows():
    """Return every route for one pair and one layer."""
    c, few = np.linspace(-0.99, 0.999, PAIRS), slice(None, None, PAIRS // SAMPLE)
    for name in NAMES:
        layer = mf.Dense(mf.activation(name), SIGMA_W, SIGMA_B)
        q = np.full(PAIRS, float(mf.steady_state(layer).q))
        task = f"a pair of {name}, a layer"
        exact, routes = compared(task, layer, q, q, q * c, few)
        yield from routes
        if name == "tanh":
            peer, took = elapsed(lambda q=q: by_hermite(q[0], c[few], SHORT))
            error = worst(peer, exact)
            yield Row(task, "numpy: Gauss-Hermite", took / len(exact) / SHORT, error)

    random = np.random.default_rng(0)
    q1, q2 = np.exp(random.uniform(-1, 1, (2, PAIRS)))
    q12 = random.uniform(-0.5, 0.99, PAIRS) * np.sqrt(q1 * q2)
    for name in ("tanh", "hard_tanh"):
        layer = mf.Dense(mf.activation(name), SIGMA_W, SIGMA_B)
        task = f"a pair of {name}, unequal variances"
        yield from compared(task, layer, q1, q2, q12, slice(SAMPLE))[1]


if __name__ == "__main__":
    show(rows())
