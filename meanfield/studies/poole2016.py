"""The data of the figures in Poole et al. 2016 [1]: tanh networks in order and in chaos.

A layer sends the variance q of pre-activations, and the correlation c of two inputs of the
variance q* = V(q*), to

    V(q) = σw² E φ(√q z)² + σb²,        C(c) = (σw² E φ(u1) φ(u2) + σb²)/q*,

and c = 1 attracts where χ1 = C'(1) = σw² E φ'² is below 1. A circle of inputs at q* is stretched
and bent by ḡ' = χ1 ḡ and κ̄²' = 3 χ2/χ1² + κ̄²/χ1, χ2 = σw² E φ''². The networks have σb = 0.3 and
σw = 1.3 (order), 2.5 and 4 (chaos); the surfaces lie over σw in [1, 5] and σb in [0, 4].

The authors took the minimum over 51 trial correlations for c*, and so do not show how it meets 1;
here it is a root, and the edge χ1 = 1 is followed along q* and does not depend on the grid.

References
----------
[1] B. Poole, S. Lahiri, M. Raghu, J. Sohl-Dickstein, S. Ganguli, Exponential expressivity in
    deep neural networks through transient chaos, NeurIPS 2016, arXiv:1606.05340.
"""

import numpy as np
import xarray as xr

from meanfield.activations import activation
from meanfield.criticality import critical_point
from meanfield.curvature import curvature_propagation
from meanfield.errors import Status, check
from meanfield.fixedpoint import steady_state
from meanfield.layers import Dense
from meanfield.limits import correlation_fixed_point, limits
from meanfield.maps import correlation_map
from meanfield.phase import phase_diagram
from meanfield.propagation import rollout
from meanfield.studies.labels import Variable, variable

SOURCE = "arXiv:1606.05340"
SIGMA_W = (1.3, 2.5, 4.0)
SIGMA_B = 0.3
# The surfaces: over σw and over σb.
SURFACE = ((1.0, 5.0), (0.0, 4.0))
SURFACE_SIZE = (121, 97)
# Largest variance of the length maps, and where the variances and correlations start.
LARGEST_VARIANCE = 15.0
VARIANCES = (0.1, 5.0, 15.0)
CORRELATIONS = (0.2, 0.5, 0.8)
# √q* along the edge of chaos, which leaves the surfaces at 4.9. Even steps are even along it.
EDGE_ROOTS = (0.01, 6.0)


def _networks() -> tuple[Dense, Variable]:
    """Return the three networks, one per row, and their coordinate."""
    coordinate = variable("sigma_w", SIGMA_W, "σ_w", "standard deviation of weights")
    return Dense(activation("tanh"), np.array(SIGMA_W)[:, None], SIGMA_B), coordinate


def _surface(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, dict[str, Variable]]:
    """Return the axes of a surface, and their coordinates."""
    weights, biases = (np.linspace(*ends, n) for ends, n in zip(SURFACE, size, strict=True))
    return (
        weights,
        biases,
        {
            "surface_sigma_w": variable(
                "surface_sigma_w", weights, "σ_w", "standard deviation of weights"
            ),
            "surface_sigma_b": variable(
                "surface_sigma_b", biases, "σ_b", "standard deviation of biases"
            ),
        },
    )


def _dataset(title: str, variables: dict[str, Variable], coords: dict[str, Variable]) -> xr.Dataset:
    return xr.Dataset(variables, coords, {"title": title, "source": SOURCE})


def length_maps(
    points: int = 151, depth: int = 8, size: tuple[int, int] = SURFACE_SIZE
) -> xr.Dataset:
    """Return V(q) on [0, 15], variances layer by layer, and q* over σw and σb (Figure 1).

    `points` are those of V; `depth` is the number of layers; `size` that of the surface. The
    variance map of tanh has one stable fixed point; without biases and with σw ≤ 1 it is 0.
    """
    layers, sigma_w = _networks()
    q = np.linspace(0, LARGEST_VARIANCE, points)
    state = check(steady_state(layers))
    paths = [np.broadcast_to(VARIANCES, (len(SIGMA_W), len(VARIANCES)))]
    for _ in range(depth):
        paths.append(np.asarray(layers.variance(paths[-1])))
    weights, biases, axes = _surface(size)
    surface, _ = limits(Dense(activation("tanh"), weights[:, None], biases))
    return _dataset(
        "Variances in tanh networks",
        coords={
            "sigma_w": sigma_w,
            "q": variable("q", q, "q", "variance of the pre-activations"),
            "initial_variance": variable(
                "initial_variance", VARIANCES, "q⁰", "variance of the first pre-activations"
            ),
            "layer": variable("layer", np.arange(depth + 1), "l", "layer"),
            **axes,
        },
        variables={
            "sigma_b": variable((), SIGMA_B, "σ_b", "standard deviation of biases"),
            "length_map": variable(
                ("sigma_w", "q"), layers.variance(q), "V(q)", "variance one layer on"
            ),
            "q_star": variable(
                "sigma_w", np.ravel(state.q), "q*", "stable fixed point of the variance"
            ),
            "variance": variable(
                ("sigma_w", "initial_variance", "layer"),
                np.stack(paths, axis=-1),
                "q",
                "variance after l layers",
            ),
            "surface_q_star": variable(
                ("surface_sigma_w", "surface_sigma_b"),
                surface.q,
                "q*",
                "stable fixed point of the variance",
            ),
        },
    )


def correlation_maps(
    points: int = 101,
    depth: int = 30,
    size: tuple[int, int] = SURFACE_SIZE,
    edge_points: int = 61,
) -> xr.Dataset:
    """Return C(c) on [0, 1], correlations layer by layer, c* and χ1 over σw and σb (Figure 2).

    `points` are those of C, `depth` is the number of layers, `size` that of the surfaces, and
    `edge_points` the number of points on the edge of chaos.
    """
    layers, sigma_w = _networks()
    state = check(steady_state(layers))
    limit = check(correlation_fixed_point(layers))
    q, c = np.asarray(state.q), np.linspace(0, 1, points)
    starts = np.array(CORRELATIONS)
    path = rollout(layers, q, q, q * starts, depth)
    weights, biases, axes = _surface(size)
    surface = phase_diagram(activation("tanh"), weights, biases)
    # Where the variance vanishes, without biases, χ1 is σw² φ'(0)² = σw².
    vanishes = surface["status"] == Status.VANISHES
    chi = surface["chi"].where(~vanishes, surface["sigma_w"] ** 2)
    q_edge = np.linspace(*EDGE_ROOTS, edge_points) ** 2
    edge = check(critical_point(activation("tanh"), q_edge))
    plane = ("surface_sigma_w", "surface_sigma_b")
    return _dataset(
        "Correlations in tanh networks",
        coords={
            "sigma_w": sigma_w,
            "c": variable("c", c, "c", "correlation of two inputs"),
            "initial_correlation": variable(
                "initial_correlation", starts, "c⁰", "correlation of the two inputs"
            ),
            "layer": variable("layer", np.arange(depth + 1), "l", "layer"),
            "edge_q": variable("edge_q", edge.q, "q*", "fixed variance on the edge of chaos"),
            **axes,
        },
        variables={
            "sigma_b": variable((), SIGMA_B, "σ_b", "standard deviation of biases"),
            "correlation_map": variable(
                ("sigma_w", "c"),
                correlation_map(layers, q, c),
                "C(c)",
                "correlation one layer on",
            ),
            "correlation_limit": variable(
                "sigma_w", np.ravel(limit.c), "c*", "stable limit of the correlation"
            ),
            "correlation_limit_slope": variable(
                "sigma_w", np.ravel(limit.slope), "C'(c*)", "slope of the correlation map at c*"
            ),
            "chi": variable(
                "sigma_w", np.ravel(state.chi), "χ₁", "slope of the correlation map at 1"
            ),
            "correlation": variable(
                ("sigma_w", "initial_correlation", "layer"),
                path.c,
                "c",
                "correlation after l layers",
            ),
            "surface_correlation_limit": variable(
                plane, 1 - surface["epsilon"], "c*", "stable limit of the correlation"
            ),
            "surface_chi": variable(plane, chi, "χ₁", "slope of the correlation map at 1"),
            "edge_sigma_w": variable(
                "edge_q", edge.sigma_w, "σ_w", "standard deviation of weights on the edge"
            ),
            "edge_sigma_b": variable(
                "edge_q", edge.sigma_b, "σ_b", "standard deviation of biases on the edge"
            ),
        },
    )


def curvature(depth: int = 40) -> xr.Dataset:
    """Return how `depth` layers stretch and bend a circle of inputs at q* (Figure 4).

    The curvature is κ̄ = √N κ of width N, the metric ḡ = g/N; the length of the Gauss map is
    in units of the circle's 2π. The limit of κ̄ is inf in the ordered phase.
    """
    layers, sigma_w = _networks()
    bent = check(curvature_propagation(layers, depth))
    by_layer = ("sigma_w", "layer")
    kappa, metric, gauss = (
        np.asarray(values)[:, 0] for values in (bent.curvature, bent.metric, bent.gauss_length)
    )
    return _dataset(
        "Curvature of a circle of inputs in tanh networks",
        coords={
            "sigma_w": sigma_w,
            "layer": variable("layer", np.arange(depth + 1), "l", "layer"),
        },
        variables={
            "sigma_b": variable((), SIGMA_B, "σ_b", "standard deviation of biases"),
            "curvature": variable(
                by_layer, np.sqrt(kappa), "κ̄", "extrinsic curvature times the root of the width"
            ),
            "metric": variable(by_layer, metric, "ḡ", "extrinsic metric over the width"),
            "gauss_length": variable(by_layer, gauss, "L/2π", "length of the Gauss map over 2π"),
            "curvature_limit": variable(
                "sigma_w", np.sqrt(np.ravel(bent.limit)), "κ̄_∞", "limit of the curvature"
            ),
            "chi2": variable("sigma_w", np.ravel(bent.chi2), "χ₂", "σ_w² E φ''²"),
        },
    )
