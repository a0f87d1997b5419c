"""The data of the figures in Murray, Abrol and Tanner 2021 [1], solved afresh.

The networks of the paper are critical: for an activation φ and biases of variance σb², the
variance q* and the weights' variance σw² solve V(q*) = q* and χ1 = 1. Each function below
answers for one figure; Figures 4 and 5 need none, for they draw from the sweep `murray2021`
over activations, a and σb².

Where the authors' notebooks and their proofs disagree, the numbers follow the proofs: K = 1
in the construction of the lower bound (Figure 9), and c = 1 gives way to a limit ρ* < 1 where
χ1 > 1, not where χ1 < 1 (Figure 2).

References
----------
[1] M. Murray, V. Abrol, J. Tanner, Activation function design for deep networks:
    linearity and effective initialisation, arXiv:2105.07741 (2021).
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import scipy.special
import xarray as xr

from meanfield._elementwise import elementwise
from meanfield.activations import activation
from meanfield.bounds import lambert_w, scaled_bounded
from meanfield.criticality import critical_point, edge_of_chaos
from meanfield.errors import MeanFieldError, check
from meanfield.fixedpoint import steady_state
from meanfield.layers import Dense, Layer
from meanfield.limits import correlation_fixed_point
from meanfield.maps import correlation_map
from meanfield.propagation import rollout
from meanfield.studies.labels import labelled
from meanfield.typing import Array, ScalarLike

SOURCE = "arXiv:2105.07741"
# The bias variance of Figures 2, 4, 5 and 6.
BIAS_VARIANCE = 0.1
# Figure 1: activation, bias variance of V, bias variance of R.
MAPS = (("relu", 0.1, 0.0), ("tanh", 0.1, 0.1), ("elu", 0.0, 0.1))
# Figure 2: weight variances as multiples of the critical one; whose edges of chaos.
PHASES = {"ordered": 0.5, "critical": 1.0, "chaotic": 2.0}
EDGES = ("tanh", "hard_tanh", "elu")
# Figure 3: the scaled-bounded families.
FAMILIES = ("shtanh", "ssin", "sexp", "ssaw")
# Figure 9: y = σb²/a².
CONSTRUCTION_Y = 0.25
# Appendix B.6; `abs` is the paper's Mod.
DEPTH_ACTIVATIONS = ("relu", "abs", "tanh", "hard_tanh", "elu", "gelu", "swish")
DEPTH_VARIANCES = (0.1, 0.2, 0.5, 1.0)
DEPTH_CORRELATIONS = (0.01, 0.6)

ACTIVATION = ("φ", "activation")
LINEAR = ("a", "half-width of the linear region")
X = ("x", "pre-activation")
Q = ("q", "variance of the pre-activations")
Q_STAR = ("q*", "fixed point of the variance")
RHO = ("ρ", "correlation of two inputs")
R = ("R(ρ)", "correlation of two inputs one layer on")
LIMIT = ("ρ*", "stable limit of the correlation")
WEIGHT = ("σ_w²", "weight variance")
BIAS = ("σ_b²", "bias variance")


@elementwise(host=True)
def _length_map(layer: Layer, q: ScalarLike) -> Array:
    return layer.variance(q)


@elementwise("depth", host=True)
def _trajectory(layer: Layer, q: ScalarLike, c: ScalarLike, depth: int) -> Array:
    return rollout(layer, q, q, q * c, depth).c


def length_and_correlation_maps(points: int = 201) -> xr.Dataset:
    """Return V(q) on [0, 2] and R(ρ) on [-1, 1] for ReLU, tanh and ELU (Figure 1).

    All weights are critical. V has biases of variance 0.1 for ReLU, which then has no fixed
    point, and for tanh; the ELU's V has none, and its edge ends there in q* = 0. R is taken at
    its fixed point: ReLU without biases, tanh and ELU at bias variance 0.1.
    """
    q, rho = np.linspace(0, 2, points), np.linspace(-1, 1, points)
    lengths, correlations, fixed_points, weights = [], [], [], []
    for name, length_bias, correlation_bias in MAPS:
        phi = activation(name)
        # ReLU is critical without biases only; its V keeps those weights.
        biases = np.sqrt([0.0 if name == "relu" else length_bias, correlation_bias])
        edge = check(edge_of_chaos(phi, biases))
        sigma_w, q_star = np.asarray(edge.sigma_w), np.asarray(edge.q)
        lengths.append(_length_map(Dense(phi, sigma_w[0], np.sqrt(length_bias)), q))
        correlations.append(correlation_map(Dense(phi, sigma_w[1], biases[1]), q_star[1], rho))
        fixed_points.append(np.nan if name == "relu" else q_star[0])
        weights.append(sigma_w**2)
    names, length_biases, correlation_biases = zip(*MAPS, strict=True)
    length_weights, correlation_weights = zip(*weights, strict=True)
    return labelled(
        "Length and correlation maps on the edge of chaos",
        SOURCE,
        coords={
            "activation": ("activation", list(names), *ACTIVATION),
            "q": ("q", q, *Q),
            "rho": ("rho", rho, *RHO),
        },
        variables={
            "length_map": (("activation", "q"), lengths, "V(q)", "variance one layer on"),
            "q_star": ("activation", fixed_points, *Q_STAR),
            "length_weight_variance": ("activation", list(length_weights), *WEIGHT),
            "length_bias_variance": ("activation", list(length_biases), *BIAS),
            "correlation_map": (("activation", "rho"), correlations, *R),
            "correlation_weight_variance": ("activation", list(correlation_weights), *WEIGHT),
            "correlation_bias_variance": ("activation", list(correlation_biases), *BIAS),
        },
    )


def phases(
    points: int = 101, edge_points: int = 141, size: int = 121, grid: xr.Dataset | None = None
) -> xr.Dataset:
    """Return the two phases, their limiting correlations and the edges of chaos (Figure 2).

    (a) R(ρ) of hard tanh at bias variance 0.1 with critical weights, half and twice their
    variance; (b) its limiting correlation over weight and bias variance, from `grid` (a dataset
    with `correlation_limit`) or solved on size x size points; (c, d) the edges of chaos of tanh,
    hard tanh and ELU for q* from 1e-5 to 7.
    """
    limits = hard_tanh_limits(size) if grid is None else grid
    for name in ("correlation_limit", "weight_variance", "bias_variance"):
        if name not in limits.variables:
            raise MeanFieldError(f"the grid of limiting correlations has no variable {name!r}")
    limits = limits["correlation_limit"].transpose("weight_variance", "bias_variance")

    hard_tanh, sigma_b = activation("hard_tanh"), np.sqrt(BIAS_VARIANCE)
    edge = check(edge_of_chaos(hard_tanh, sigma_b))
    sigma_w = np.asarray(edge.sigma_w) * np.sqrt(list(PHASES.values()))
    state = check(steady_state(Dense(hard_tanh, sigma_w, sigma_b)))
    limit = check(correlation_fixed_point(Dense(hard_tanh, sigma_w, sigma_b)))
    rho = np.linspace(0, 1, points)
    layers, q_star = Dense(hard_tanh, sigma_w[:, None], sigma_b), np.asarray(state.q)[:, None]

    q = np.geomspace(1e-5, 7, edge_points)
    edges = [check(critical_point(activation(name), q)) for name in EDGES]
    edge_weights = [np.square(e.sigma_w) for e in edges]
    edge_biases = [np.square(e.sigma_b) for e in edges]
    return labelled(
        "Order, chaos and the edge between them",
        SOURCE,
        coords={
            "phase": ("phase", list(PHASES), "phase", "phase of the network"),
            "rho": ("rho", rho, *RHO),
            "weight_variance": ("weight_variance", limits["weight_variance"], *WEIGHT),
            "bias_variance": ("bias_variance", limits["bias_variance"], *BIAS),
            "activation": ("activation", list(EDGES), *ACTIVATION),
            "edge_q": ("edge_q", q, *Q_STAR),
        },
        variables={
            "correlation_map": (("phase", "rho"), correlation_map(layers, q_star, rho), *R),
            "phase_weight_variance": ("phase", sigma_w**2, *WEIGHT),
            "phase_limit": ("phase", limit.c, *LIMIT),
            "phase_chi": ("phase", state.chi, "χ", "slope of R at ρ = 1"),
            "correlation_limit": (("weight_variance", "bias_variance"), limits, *LIMIT),
            "edge_weight_variance": (("activation", "edge_q"), edge_weights, *WEIGHT),
            "edge_bias_variance": (("activation", "edge_q"), edge_biases, *BIAS),
        },
    )


def hard_tanh_limits(size: int = 121) -> xr.Dataset:
    """Return the limiting correlation of hard tanh over weight and bias variance.

    NaN where the variance does not settle.
    """
    weights, biases = np.linspace(0.5, 3.0, size), np.linspace(1e-4, 0.25, size)
    layers = Dense(activation("hard_tanh"), np.sqrt(weights)[:, None], np.sqrt(biases))
    limits = correlation_fixed_point(layers).c
    return labelled(
        "Limiting correlation of hard tanh",
        SOURCE,
        coords={
            "weight_variance": ("weight_variance", weights, *WEIGHT),
            "bias_variance": ("bias_variance", biases, *BIAS),
        },
        variables={"correlation_limit": (("weight_variance", "bias_variance"), limits, *LIMIT)},
    )


def scaled_bounded_activations(
    a: Sequence[float] = (1.0, 2.0, 4.0), points: int = 1601
) -> xr.Dataset:
    """Return the four scaled-bounded families on [-8, 8] with k = 1 (Figure 3)."""
    sizes, x = np.asarray(a, dtype=float), jnp.linspace(-8, 8, points)
    values = [np.asarray(activation(name, a=sizes[:, None])(x[None, :])) for name in FAMILIES]
    return labelled(
        "Scaled-bounded activations",
        SOURCE,
        coords={
            "activation": ("activation", list(FAMILIES), *ACTIVATION),
            "a": ("a", sizes, *LINEAR),
            "x": ("x", x, *X),
        },
        variables={"phi": (("activation", "a", "x"), values, "φ(x)", "activation")},
    )


def linear_region_and_correlation(
    a: Sequence[float] = (1.0, 2.0, 3.0, 5.0), points: int = 401
) -> xr.Dataset:
    """Return shtanh and its R on [-1, 1] as the linear region grows (Figure 6).

    Critical, at bias variance 0.1. The distance R(ρ) - ρ is σb²/q* at ρ = 0, where it is largest
    on [0, 1], and twice that at ρ = -1, where it is largest on [-1, 1].
    """
    sizes, sigma_b = np.asarray(a, dtype=float), np.sqrt(BIAS_VARIANCE)
    edge = check(edge_of_chaos(activation("shtanh", a=sizes), sigma_b))
    rho, x = np.linspace(-1, 1, points), jnp.linspace(-8, 8, points)
    phi = activation("shtanh", a=sizes[:, None])
    q_star = np.asarray(edge.q)
    layers = Dense(phi, np.asarray(edge.sigma_w)[:, None], sigma_b)
    maps = correlation_map(layers, q_star[:, None], rho)
    return labelled(
        "Correlation maps of shtanh as the linear region grows",
        SOURCE,
        coords={
            "a": ("a", sizes, *LINEAR),
            "x": ("x", x, *X),
            "rho": ("rho", rho, *RHO),
        },
        variables={
            "phi": (("a", "x"), phi(x[None, :]), "φ(x)", "activation"),
            "correlation_map": (("a", "rho"), maps, *R),
            "q_star": ("a", q_star, *Q_STAR),
            "bias_variance": ((), BIAS_VARIANCE, *BIAS),
        },
    )


def lower_bound_construction(points: int = 601) -> xr.Dataset:
    """Return the functions whose crossing proves a/√q* > Λ(y), at y = 1/4 (Figure 9).

    x = a/√q* satisfies g(x) ≤ h(x), where

        g(x) = √(2/π) e^(-x²/2)/x,        h(x) = y + erfc(x/√2).

    The tangent u of g at the point Δ where g(Δ) = y meets the axis x = 0 at β, and g(ν) = β
    defines ν = Λ(y). Since g - h falls and is not negative at ν, x is at least ν.
    """
    y = CONSTRUCTION_Y
    # From 0.005: g has a pole at 0.
    x = np.linspace(0, 3, points)[1:]
    omega = float(lambert_w(np.log(2 / np.pi) - 2 * np.log(y)))
    delta, beta = np.sqrt(omega), y * (2 + omega)
    slope = -y * (delta + 1 / delta)
    g = np.sqrt(2 / np.pi) * np.exp(-(x**2) / 2) / x
    h = y + scipy.special.erfc(x / np.sqrt(2))
    return labelled(
        "Construction of the lower bound",
        SOURCE,
        coords={"x": ("x", x, "x", "linear region in standard deviations, a/√q*")},
        variables={
            "g": ("x", g, "g(x)", "scaled Gaussian density over x"),
            "h": ("x", h, "h(x)", "y plus the Gaussian tails"),
            "tangent": ("x", beta + slope * x, "u(x)", "tangent of g at Δ"),
            "y": ((), y, "y", "bias variance over a²"),
            "delta": ((), delta, "Δ", "where g equals y"),
            "beta": ((), beta, "β", "the tangent at x = 0"),
            "nu": ((), scaled_bounded(y).ratio_lower, "ν", "lower bound Λ(y), where g equals β"),
        },
    )


def correlation_by_depth(names: Sequence[str] = DEPTH_ACTIVATIONS, depth: int = 30) -> xr.Dataset:
    """Return ρ through `depth` critical layers, from 0.01 and from 0.6 (appendix B.6).

    The weights and biases are critical at q* = 0.1, 0.2, 0.5 and 1; ReLU and |x| have one critical
    network for all q*. The fixed variances of GELU and Swish repel (V'(q*) is up to 1.1), so only
    inputs that start there stay there: rounding grows by less than 20 in 30 layers.
    """
    q, start = np.array(DEPTH_VARIANCES), np.array(DEPTH_CORRELATIONS)
    paths, weights, biases = [], [], []
    for name in names:
        phi = activation(name)
        point = check(critical_point(phi, q))
        sigma_w, sigma_b = np.asarray(point.sigma_w), np.asarray(point.sigma_b)
        layers = Dense(phi, sigma_w[:, None], sigma_b[:, None])
        paths.append(_trajectory(layers, q[:, None], start, depth))
        weights.append(sigma_w**2)
        biases.append(sigma_b**2)
    return labelled(
        "Correlation through the layers of critical networks",
        SOURCE,
        coords={
            "activation": ("activation", list(names), *ACTIVATION),
            "q": ("q", q, *Q_STAR),
            "initial_correlation": (
                "initial_correlation",
                start,
                "ρ⁰",
                "correlation of the two inputs",
            ),
            "layer": ("layer", np.arange(depth + 1), "l", "layer"),
        },
        variables={
            "correlation": (
                ("activation", "q", "initial_correlation", "layer"),
                paths,
                "ρ",
                "correlation after l layers",
            ),
            "weight_variance": (("activation", "q"), weights, *WEIGHT),
            "bias_variance": (("activation", "q"), biases, *BIAS),
        },
    )
