"""The data of figures on S-ReLU [1], the ReLU averaged over an Epanechnikov kernel of radius δ.

    S = ReLU * K_δ,        K_δ(u) = (3/4δ)(1 - u²/δ²) on |u| < δ,        sup |S - ReLU| = 3δ/16.

**It has no edge of chaos.** A critical network of variance q has the bias variance

    σb² = (q E φ'² - E φ²)/E φ'²,        u = √q z,  z ~ N(0, 1),

and for S, as for any convex φ ≥ 0 whose tangents meet the axis below 0 (softplus), Stein's lemma
makes it negative at every q: q E φ'² - E φ² = E φ(uφ' - φ) - q E φφ''. The rate 1/l that [2]
gives for smooth φ on the edge is therefore not that of an S-ReLU network. Centred, S - S(0) has
an edge. Wherever the variance of an S-ReLU network settles, it is ordered, χ1 < 1.

**With σw² = 2 and σb = 0**, critical for ReLU, the variance grows and the network comes ever
closer to a ReLU network, always with χ1 < 1. By expansion in 1/√q, derived here,

    q_l ~ (3A l/√(2π))^(2/3),                   A = ∫ (S² - ReLU²) dx = 2δ³/63,
    -ln(1 - c_l) ~ κ l^(2/3),                   B = ∫ (ReLU'² - S'²) dx = 9δ/35,
    κ = 3B/√(2π) (3A/√(2π))^(-1/3) = 0.91544...,

at every δ: correlations converge to 1 faster than any power, where those of ReLU take 1/l².

References
----------
[1] S-ReLU, Mathematics 14 (2026) 72.
[2] S. Hayou, A. Doucet, J. Rousseau, On the impact of the activation function on deep neural
    networks training, ICML 2019, arXiv:1902.06853.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import xarray as xr

from meanfield._elementwise import elementwise
from meanfield.activations import Activation, activation, centre, mollify
from meanfield.criticality import critical_point
from meanfield.errors import check
from meanfield.layers import Dense
from meanfield.propagation import rollout
from meanfield.studies.hayou2019 import ACTIVATION, EPSILON, LAYER, depths
from meanfield.studies.labels import labelled
from meanfield.typing import Array, ScalarLike

SOURCE = "Mathematics 14 (2026) 72"
KERNELS = ("epanechnikov", "bump", "gaussian")
RADII = (0.5, 1.0, 2.0)
# The centred S-ReLU of radius 1 is critical at this variance, for one.
MARKED_Q = 1.0

RADIUS = ("δ", "radius of the kernel")
Q = ("q", "variance of the pre-activations")


def growth_constant(delta: float) -> float:
    """Return the C of q_l ~ C l^(2/3) for S-ReLU with σw² = 2 and σb = 0."""
    return (3 * (2 / 63) * delta**3 / np.sqrt(2 * np.pi)) ** (2 / 3)


def decay_constant() -> float:
    """Return the κ of -ln(1 - c_l) ~ κ l^(2/3), the same at every radius."""
    # At radius 1: B grows with δ as the cube root of A does.
    return 3 * (9 / 35) / np.sqrt(2 * np.pi * growth_constant(1.0))


def family(
    kernels: Sequence[str] = KERNELS, radii: Sequence[float] = RADII, points: int = 601
) -> xr.Dataset:
    """Return mollified ReLUs, their first two derivatives and their distance from ReLU."""
    relu, x = activation("relu"), jnp.linspace(-3, 3, points)
    smooth = [[mollify(relu, kernel, radius) for radius in radii] for kernel in kernels]
    # Two antiderivatives of the kernel: even in x, and free of cancellation only where x ≤ 0.
    excess = [[phi(-jnp.abs(x)) for phi in row] for row in smooth]
    dims = ("kernel", "radius", "x")
    return labelled(
        "Mollified ReLUs",
        SOURCE,
        coords={
            "kernel": ("kernel", list(kernels), "K", "kernel"),
            "radius": ("radius", np.asarray(radii, dtype=float), *RADIUS),
            "x": ("x", x, "x", "pre-activation"),
        },
        variables={
            "phi": (dims, [[phi(x) for phi in row] for row in smooth], "φ(x)", "activation"),
            "slope": (dims, [[phi.slope(x) for phi in row] for row in smooth], "φ'(x)", "slope"),
            "curvature": (
                dims,
                [[phi.curvature(x) for phi in row] for row in smooth],
                "φ''(x)",
                "second derivative",
            ),
            "excess": (dims, excess, "φ(x) - ReLU(x)", "distance from ReLU"),
            "sup_error": (
                ("kernel", "radius"),
                [[phi.sup_error().error for phi in row] for row in smooth],
                "sup |φ - ReLU|",
                "largest distance from ReLU",
            ),
        },
    )


@elementwise(host=True)
def _needed(phi: Activation, q: ScalarLike) -> Array:
    return phi.edge_deficit(q) / phi.slope_moment(q, 2)


def missing_edge(points: int = 81, radius: float = 1.0) -> xr.Dataset:
    """Return the bias variance that an edge of chaos would need at each variance.

    For S-ReLU and softplus, which have none, and for both centred; with the critical network of
    the centred S-ReLU at q = 1.
    """
    srelu, softplus = activation("srelu", delta=radius), activation("softplus")
    needed = {
        "srelu": srelu,
        "softplus": softplus,
        "centred srelu": centre(srelu),
        "centred softplus": centre(softplus),
    }
    q = np.geomspace(1e-2, 1e2, points)
    point = check(critical_point(centre(srelu), MARKED_Q))
    values = [_needed(phi, q) for phi in needed.values()]
    variance = ("σ_b²", "bias variance that an edge would need")
    return labelled(
        "Bias variance that an edge of chaos would need",
        SOURCE,
        coords={
            "activation": ("activation", list(needed), *ACTIVATION),
            "q": ("q", q, *Q),
        },
        variables={
            "needed": (("activation", "q"), values, *variance),
            "radius": ((), radius, *RADIUS),
            "marked_q": ((), MARKED_Q, "q*", "fixed point of the variance"),
            "marked_bias_variance": ((), np.square(point.sigma_b), "σ_b²", "bias variance"),
            "marked_weight_variance": ((), np.square(point.sigma_w), "σ_w²", "weight variance"),
        },
    )


def decay(radii: Sequence[float] = RADII, depth: int = 400, points: int = 91) -> xr.Dataset:
    """Return q and 1 - c of S-ReLU and ReLU (δ = 0) with σw² = 2, σb = 0, from q = 1 and c = 0."""
    layers = depths(depth, points)
    variances, epsilons = [], []
    for radius in (0.0, *radii):
        phi = activation("srelu", delta=radius) if radius else activation("relu")
        path = rollout(Dense(phi, np.sqrt(2.0)), 1.0, 1.0, 0.0, depth)
        variances.append(np.asarray(path.q1)[layers])
        epsilons.append(np.asarray(path.epsilon)[layers])
    sizes = np.array([0.0, *radii])
    dims = ("radius", "layer")
    return labelled(
        "S-ReLU networks with the critical weights of ReLU",
        SOURCE,
        coords={
            "radius": ("radius", sizes, *RADIUS),
            "layer": ("layer", layers, *LAYER),
        },
        variables={
            "q": (dims, variances, *Q),
            "epsilon": (dims, epsilons, *EPSILON),
            "growth": (
                "radius",
                [growth_constant(size) for size in sizes],
                "C",
                "constant of the law q ~ C l^(2/3)",
            ),
            "kappa": ((), decay_constant(), "κ", "constant of the law -ln(1 - c) ~ κ l^(2/3)"),
        },
    )
