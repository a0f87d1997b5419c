"""The data of figures after Schoenholz et al. 2017 [1]: how deep tanh networks carry signals.

Variances and correlations forget where they started in the depths

    ξ_q = -1/log V'(q*),        ξ_c = -1/log C'(c*),

and a network can be trained to some 6 ξ_c layers. ξ_c diverges on the edge of chaos, on both
sides like 1/|χ1 - 1|; ξ_q does not. With dropout, which keeps a unit with probability p,

    V(q) = (σw²/p) E φ² + σb²,        C(1) = 1 - (1/p - 1) σw² E φ²/q*  <  1,

so c* < 1 for all weights, and ξ_c is bounded: there is no edge. At σw² = 1.76, σb² = 0.05 dropping
one unit in a hundred cuts ξ_c from 4912 to 14.5 layers.

A curve that diverges is sampled ever more densely towards its critical weight variance, which
`edge_of_chaos` gives.

References
----------
[1] S. Schoenholz, J. Gilmer, S. Ganguli, J. Sohl-Dickstein, Deep information propagation,
    ICLR 2017, arXiv:1611.01232.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import xarray as xr

from meanfield.activations import activation
from meanfield.criticality import critical_point, edge_of_chaos
from meanfield.depth import depth_scales
from meanfield.errors import Status, check
from meanfield.layers import Dense
from meanfield.limits import limits
from meanfield.studies.labels import Variable, variable

SOURCE = "arXiv:1611.01232"
# Weight variances of the curves, and the bias variances of the depth scales.
WEIGHT_VARIANCES = (1.0, 4.0)
BIAS_VARIANCES = (0.01, 0.05, 0.1, 0.2, 0.3)
# How close to the critical weight variance a curve goes.
CLOSEST = 1e-4
# Dropout: the bias variance, the probabilities, and the weight variance of the headline.
DROPOUT_BIAS_VARIANCE = 0.05
KEEPS = (1.0, 0.99, 0.98, 0.95, 0.9, 0.8)
HEADLINE = 1.76
# The diagram: weight variances, the largest bias variance, and √q* along the edge of chaos.
PLANE_WEIGHTS = (0.5, 4.0)
PLANE_BIAS = 0.5
PLANE_SIZE = (141, 81)
EDGE_ROOTS = (0.01, 1.7)

WEIGHT = ("σ_w²", "variance of weights, times the width")
BIAS = ("σ_b²", "variance of biases")
XI_C = ("ξ_c", "depth scale of correlations")


def _dataset(title: str, variables: dict[str, Variable], coords: dict[str, Variable]) -> xr.Dataset:
    return xr.Dataset(variables, coords, {"title": title, "source": SOURCE})


def phases(size: tuple[int, int] = PLANE_SIZE, edge_points: int = 61) -> xr.Dataset:
    """Return χ1 and ξ_c over weight and bias variance, and the edge of chaos.

    Without biases and with σw² ≤ 1 variances vanish; ξ_c is then its limit for vanishing biases,
    -1/log σw².
    """
    tanh = activation("tanh")
    weights = np.linspace(*PLANE_WEIGHTS, size[0])
    # Small biases matter most: even steps of σb.
    biases = PLANE_BIAS * np.linspace(0, 1, size[1]) ** 2
    layers = Dense(tanh, np.sqrt(weights)[:, None], np.sqrt(biases))
    scales, (state, _) = depth_scales(layers), limits(layers)
    xi_c = jnp.where(scales.status == Status.VANISHES, scales.xi_grad, scales.xi_c)
    edge = check(critical_point(tanh, np.linspace(*EDGE_ROOTS, edge_points) ** 2))
    plane = ("weight_variance", "bias_variance")
    return _dataset(
        "Order and chaos in tanh networks",
        coords={
            "weight_variance": variable("weight_variance", weights, *WEIGHT),
            "bias_variance": variable("bias_variance", biases, *BIAS),
            "edge_q": variable("edge_q", edge.q, "q*", "fixed variance on the edge of chaos"),
        },
        variables={
            "chi": variable(plane, state.chi, "χ₁", "slope of the correlation map at 1"),
            "xi_c": variable(plane, xi_c, *XI_C),
            "edge_weight_variance": variable("edge_q", np.square(edge.sigma_w), *WEIGHT),
            "edge_bias_variance": variable("edge_q", np.square(edge.sigma_b), *BIAS),
        },
    )


def _towards(critical: np.ndarray, points: int) -> np.ndarray:
    """Return weight variances that close in on each critical one from both sides, and it."""

    def side(end: float) -> np.ndarray:
        reach = end - critical
        closest = np.cbrt(CLOSEST / np.abs(reach))
        gaps = np.linspace(np.ones_like(reach), closest, points, axis=-1) ** 3
        return critical[..., None] + reach[..., None] * gaps

    below, above = map(side, WEIGHT_VARIANCES)
    return np.concatenate([below, critical[..., None], above[..., ::-1]], axis=-1)


def scales(bias_variances: Sequence[float] = BIAS_VARIANCES, points: int = 40) -> xr.Dataset:
    """Return ξ_q and ξ_c against the weight variance for several bias variances.

    Each curve has weight variances of its own: `points` on either side of the critical one.
    """
    biases = np.asarray(bias_variances, dtype=float)
    tanh = activation("tanh")
    critical = np.square(np.asarray(check(edge_of_chaos(tanh, np.sqrt(biases))).sigma_w))
    weights = _towards(critical, points)
    result = check(depth_scales(Dense(tanh, np.sqrt(weights), np.sqrt(biases)[:, None])))
    curve = ("bias_variance", "point")
    return _dataset(
        "Depth scales of tanh networks",
        coords={"bias_variance": variable("bias_variance", biases, *BIAS)},
        variables={
            "weight_variance": variable(curve, weights, *WEIGHT),
            "xi_q": variable(curve, result.xi_q, "ξ_q", "depth scale of variances"),
            "xi_c": variable(curve, result.xi_c, *XI_C),
            "critical_weight_variance": variable("bias_variance", critical, *WEIGHT),
        },
    )


def dropout(keeps: Sequence[float] = KEEPS, points: int = 40) -> xr.Dataset:
    """Return ξ_c against the weight variance for several probabilities to keep a unit.

    The bias variance is 0.05. Among the weight variances is 1.76.
    """
    keep, tanh = np.asarray(keeps, dtype=float), activation("tanh")
    sigma_b = np.sqrt(DROPOUT_BIAS_VARIANCE)
    critical = np.square(np.asarray(check(edge_of_chaos(tanh, sigma_b)).sigma_w))
    weights = np.sort(np.append(_towards(critical, points), HEADLINE))
    layers = Dense(tanh, np.sqrt(weights), sigma_b, keep=keep[:, None])
    return _dataset(
        "Depth scale of correlations in tanh networks with dropout",
        coords={
            "keep": variable("keep", keep, "p", "probability to keep a unit"),
            "weight_variance": variable("weight_variance", weights, *WEIGHT),
        },
        variables={
            "xi_c": variable(("keep", "weight_variance"), check(depth_scales(layers)).xi_c, *XI_C),
            "bias_variance": variable((), DROPOUT_BIAS_VARIANCE, *BIAS),
            "critical_weight_variance": variable((), critical, *WEIGHT),
        },
    )
