"""The data of figures after Hayou, Doucet and Rousseau 2019 [1]: edges of chaos, and rates on them.

Every variance q names one critical network of an activation φ,

    σw² = 1/E φ'²,        σb² = q - σw² E φ²,        u = √q z,  z ~ N(0, 1),

and q is attracting where the slope of the length map there, V'(q) = 1 + σw² E φ φ'', is below 1.
That of GELU, Swish and Mish is above 1 on the part of the edge that starts at σb = 0, up to a
half-stable point where E φ φ'' = 0 [2]: a network initialised there leaves the edge by itself.
The edge of a ReLU is one point, (σb, σw) = (0, √2), which keeps every variance.

On the edge correlations go to 1 not exponentially but like a power of the depth l,

    1 - c ~ β/l  for smooth φ,        1 - c ~ K/l²  where φ' jumps,

with the constants of `convergence_rate`: a kink makes correlations converge faster, not slower.

References
----------
[1] S. Hayou, A. Doucet, J. Rousseau, On the impact of the activation function on deep neural
    networks training, ICML 2019, arXiv:1902.06853.
[2] D. Roberts, S. Yaida, B. Hanin, The principles of deep learning theory, 2022,
    arXiv:2106.10165.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from meanfield.activations import activation
from meanfield.criticality import critical_point, edge_curve, edge_of_chaos
from meanfield.errors import check
from meanfield.layers import Dense
from meanfield.propagation import rollout
from meanfield.rates import convergence_rate
from meanfield.studies.labels import labelled

SOURCE = "arXiv:1902.06853"
EDGES = ("relu", "tanh", "elu", "swish", "gelu", "mish")
# Activations and standard deviations of the biases at which the edge is not unstable.
RATES = {"relu": 0.0, "hard_tanh": 0.2, "tanh": 0.2, "elu": 0.2, "swish": 1.0, "gelu": 0.5}
# From hardly any variance to beyond σb = 1.
LOWEST, HIGHEST = 1e-6, 1e3

ACTIVATION = ("φ", "activation")
Q_STAR = ("q*", "fixed point of the variance")
SIGMA_W = ("σ_w", "standard deviation of the weights, times the root of the width")
SIGMA_B = ("σ_b", "standard deviation of the biases")
LAYER = ("l", "layer")
EPSILON = ("1 - c", "distance of the correlation of two inputs from 1")


def edges(names: Sequence[str] = EDGES, points: int = 161) -> xr.Dataset:
    """Return the edges of chaos, where they repel, and their half-stable points.

    The half-stable point, NaN where there is none, is one of the points of its edge.
    """
    grid = np.geomspace(LOWEST, HIGHEST, points)
    fields = ("q", "sigma_w", "sigma_b", "slope")
    curves: dict[str, list[np.ndarray]] = {field: [] for field in (*fields, "stable")}
    marks: dict[str, list[float]] = {field: [] for field in fields}
    for name in names:
        phi = activation(name)
        # The marked points do not depend on the variances asked for.
        found = edge_curve(phi, grid[:1]).half_stable
        # Every edge has as many points: one without a half-stable point has the last one twice.
        q = np.sort(np.append(grid, np.asarray(found.q)[:1] if found.q.size else HIGHEST))
        curve = critical_point(phi, q)
        check(curve)
        for field in fields:
            curves[field].append(np.asarray(getattr(curve, field)))
            values = np.asarray(getattr(found, field))
            marks[field].append(float(values[0]) if values.size else np.nan)
        # V' is 1 to rounding at a half-stable point, and everywhere for a scale-invariant φ.
        curves["stable"].append(np.asarray(curve.slope) < 1 - 1e-9)
    dims = ("activation", "point")
    slope = ("V'(q*)", "slope of the length map at its fixed point")
    return labelled(
        "Edges of chaos",
        SOURCE,
        coords={"activation": ("activation", list(names), *ACTIVATION)},
        variables={
            "q": (dims, curves["q"], *Q_STAR),
            "sigma_w": (dims, curves["sigma_w"], *SIGMA_W),
            "sigma_b": (dims, curves["sigma_b"], *SIGMA_B),
            "slope": (dims, curves["slope"], *slope),
            "stable": (dims, curves["stable"], "V' < 1", "whether the length map attracts"),
            "half_stable_q": ("activation", marks["q"], *Q_STAR),
            "half_stable_sigma_w": ("activation", marks["sigma_w"], *SIGMA_W),
            "half_stable_sigma_b": ("activation", marks["sigma_b"], *SIGMA_B),
        },
    )


def depths(deepest: int, points: int) -> np.ndarray:
    """Return depths from 1 to the deepest, evenly spaced on a logarithmic scale."""
    return np.unique(np.geomspace(1, deepest, points).round().astype(int))


def rates(
    networks: Mapping[str, float] | None = None, depth: int = 3000, points: int = 121
) -> xr.Dataset:
    """Return 1 - c through critical layers from c = 0, with the laws that it approaches.

    `networks` holds the standard deviation of the biases of each activation.
    """
    networks = RATES if networks is None else networks
    layers = depths(depth, points)
    paths, numbers = [], []
    for name, sigma_b in networks.items():
        phi = activation(name)
        point = check(edge_of_chaos(phi, sigma_b))
        layer = Dense(phi, point.sigma_w, sigma_b)
        # The two variances are the same number in every layer.
        paths.append(np.asarray(rollout(layer, point.q, point.q, 0.0, depth).epsilon)[layers])
        rate = check(convergence_rate(phi, point.q))
        numbers.append([float(x) for x in (point.q, point.sigma_w, rate.exponent, rate.constant)])
    q, sigma_w, exponent, constant = zip(*numbers, strict=True)
    return labelled(
        "Convergence of correlations on the edge of chaos",
        SOURCE,
        coords={
            "activation": ("activation", list(networks), *ACTIVATION),
            "layer": ("layer", layers, *LAYER),
        },
        variables={
            "epsilon": (("activation", "layer"), paths, *EPSILON),
            "exponent": ("activation", list(exponent), "p", "power of the depth in the law"),
            "constant": ("activation", list(constant), "K", "constant of the law K/l^p"),
            "q": ("activation", list(q), *Q_STAR),
            "sigma_w": ("activation", list(sigma_w), *SIGMA_W),
            "sigma_b": ("activation", list(networks.values()), *SIGMA_B),
        },
    )
