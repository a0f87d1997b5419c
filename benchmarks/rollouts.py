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


def rows():
    """Return every route for one pair and one layer."""
    c = np.linspace(-0.99, 0.999, PAIRS)
    few = c[:: PAIRS // SAMPLE]
    for name in NAMES:
        layer = mf.Dense(mf.activation(name), SIGMA_W, SIGMA_B)
        q = float(mf.steady_state(layer).q)

        def roll(c, depth, method, layer=layer, q=q):
            path = mf.rollout(layer, q, q, q * c, depth, method)
            return np.asarray(jax.block_until_ready(path).epsilon)

        roll(c, DEPTH, "table")
        found, table = elapsed(lambda roll=roll: roll(c, DEPTH, "table"))
        roll(few, SHORT, "quadrature")
        exact, quadrature = elapsed(lambda roll=roll: roll(few, SHORT, "quadrature"))
        task = f"a pair of {name}, a layer"
        error = worst(found[:: PAIRS // SAMPLE, : SHORT + 1], exact)
        yield Row(task, "table, 1000 pairs, 1000 layers", table / PAIRS / DEPTH, error)
        yield Row(task, "quadrature", quadrature / few.size / SHORT, "reference")
        if name == "tanh":
            peer, took = elapsed(lambda q=q: by_hermite(q, few, SHORT))
            route = "numpy: Gauss-Hermite"
            yield Row(task, route, took / few.size / SHORT, worst(peer, exact))
    yield from unequal()


def unequal():
    """Yield the routes for pairs of unequal variances, which settle on the way."""
    random = np.random.default_rng(0)
    q1, q2 = np.exp(random.uniform(-1, 1, (2, PAIRS)))
    q12 = random.uniform(-0.5, 0.99, PAIRS) * np.sqrt(q1 * q2)
    for name in ("tanh", "hard_tanh"):
        layer = mf.Dense(mf.activation(name), SIGMA_W, SIGMA_B)

        def roll(count, depth, method, layer=layer):
            path = mf.rollout(layer, q1[:count], q2[:count], q12[:count], depth, method)
            return np.asarray(jax.block_until_ready(path).epsilon)

        roll(PAIRS, DEPTH, "table")
        found, table = elapsed(lambda roll=roll: roll(PAIRS, DEPTH, "table"))
        roll(SAMPLE, SHORT, "quadrature")
        exact, quadrature = elapsed(lambda roll=roll: roll(SAMPLE, SHORT, "quadrature"))
        task = f"a pair of {name}, unequal variances"
        error = worst(found[:SAMPLE, : SHORT + 1], exact)
        yield Row(task, "table, 1000 pairs, 1000 layers", table / PAIRS / DEPTH, error)
        yield Row(task, "quadrature", quadrature / SAMPLE / SHORT, "reference")


if __name__ == "__main__":
    show(rows())
