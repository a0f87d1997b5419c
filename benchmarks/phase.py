"""What a phase diagram costs: read off a table, by quadrature here, and as users do it today.

    python benchmarks/phase.py

Processor time per network of q*, χ1 and c* for tanh over σw from 0.5 to 3 and σb from 0 to 1, as
a ratio to that of a grid of 100 x 100 off a table, the making of the table included; beside it
the worst error, against direct quadrature, in q*, χ1 (relative) and c*. The peers are
neural-tangents, scipy's `quad`, `dblquad` and `brentq`, and vectorised Gauss-Hermite quadrature
with plain iteration, on a sample of that grid. Then grids of growing size for several activations.
All is compiled before, and measured in one run.
"""

import resource

import neural_tangents_peer
import numpy as np
from common import Row, forget, network_by_scipy, networks_by_hermite, show, spent

import meanfield as mf

GRID = (np.linspace(0.5, 3.0, 100), np.linspace(0.0, 1.0, 100))
SIZES = (100, 300, 1000)
NAMES = ("tanh", "gelu", "elu", "shtanh")
TASK = "q*, χ1, c* of a network of tanh"
# Networks on which the slow ones are measured.
SAMPLE, SCIPY_SAMPLE = 60, 6


def fresh(phi, *axes):
    """Return a phase diagram without a table from before."""
    forget()
    return mf.phase_diagram(phi, *axes, method="table")


def errors(found, exact):
    """Return the worst errors of q*, χ1 (relative) and c* as text."""
    parts = [
        np.nanmax(np.abs(np.asarray(a) / b - 1)) for a, b in zip(found[:2], exact[:2], strict=True)
    ]
    parts.append(np.nanmax(np.abs(np.asarray(found[2]) - exact[2])))
    return " / ".join(f"{part:.0e}" for part in parts)


def rows():
    """Return every route to one network."""
    phi = mf.activation("tanh")
    fresh(phi, *GRID)
    diagram, ours = spent(lambda: fresh(phi, *GRID))
    random = np.random.default_rng(0)
    places = random.choice(np.flatnonzero(diagram["status"].values == mf.Status.OK), SAMPLE, False)
    at = np.unravel_index(places, diagram["q"].shape)
    sigma_w, sigma_b = GRID[0][at[0]], GRID[1][at[1]]
    layer = mf.Dense(phi, sigma_w, sigma_b)

    def direct():
        state = mf.steady_state(layer)
        limit = mf.correlation_fixed_point(layer, method="quadrature")
        return [np.asarray(x) for x in (state.q, state.chi, limit.c)]

    direct()
    exact, quadrature = spent(direct)
    tabled = [diagram[name].values.ravel()[places] for name in ("q", "chi", "epsilon")]
    tabled[2] = 1 - tabled[2]
    hermite, hermite_time = spent(lambda: networks_by_hermite(sigma_w, sigma_b))
    few = slice(0, SCIPY_SAMPLE)
    pairs = list(zip(sigma_w[few], sigma_b[few], strict=True))
    careful, careful_time = spent(lambda: np.transpose([network_by_scipy(*p) for p in pairs]))

    def row(route, seconds, found, exact=exact):
        return Row(TASK, route, seconds, errors(found, exact))

    return [
        row("table, 100 x 100, its making included", ours / diagram["q"].size, tabled),
        Row(TASK, "quadrature", quadrature / SAMPLE, "reference"),
        row("numpy: Gauss-Hermite, 300 iterations", hermite_time / SAMPLE, hermite),
        *(
            row(f"neural-tangents 0.6.5, degree {degree}", took / SAMPLE, found)
            for degree, (found, took) in neural_tangents_peer.networks(sigma_w, sigma_b).items()
        ),
        row(
            "scipy: quad, dblquad, brentq",
            careful_time / SCIPY_SAMPLE,
            careful,
            [part[few] for part in exact],
        ),
    ]


def growth():
    """Yield activation, size of the grid, processor seconds with tables, and GiB used so far."""
    for size in SIZES:
        axes = (np.linspace(0.5, 3.0, size), np.linspace(0.0, 1.0, size))
        for name in NAMES:
            fresh(mf.activation(name), *axes)
            _, took = spent(lambda name=name, axes=axes: fresh(mf.activation(name), *axes))
            yield name, size, took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main():
    """Print both tables."""
    show(rows())
    header = ("grid", "size", "processor s", "µs/network", "ratio to the first", "peak GiB")
    print("\n{:<10}{:>6}{:>13}{:>12}{:>20}{:>10}".format(*header))
    first = {}
    for name, size, took, peak in growth():
        each = took / size**2
        ratio = each / first.setdefault(name, each)
        print(f"{name:<10}{size:>6}{took:>13.2f}{1e6 * each:>12.2f}{ratio:>20.3f}{peak:>10.2f}")


if __name__ == "__main__":
    main()
