"""The data of the tutorial's figures: tanh networks, in theory and simulated.

The theory is that of infinite widths. Beside it stand the mean and its standard error over random
networks of finite width (`meanfield.ensemble`): variances that start on both sides of q*, the
correlation of two inputs, and the squared length of a gradient that starts with length 1 at the
last layer. All networks have the same σb. The ordered, the critical and the chaotic network differ
in σw.
"""

from typing import Any

import numpy as np
import xarray as xr

from meanfield.activations import activation
from meanfield.criticality import edge_of_chaos
from meanfield.ensemble import Simulation, simulate
from meanfield.errors import check
from meanfield.fixedpoint import steady_state
from meanfield.layers import Dense
from meanfield.limits import correlation_fixed_point
from meanfield.maps import correlation_map
from meanfield.propagation import rollout
from meanfield.studies.labels import Entry, labelled

SIGMA_B = 0.3
# The network whose variance settles, and the variances from which it does.
SETTLING = 1.3
VARIANCES = (0.05, 1.9)
LARGEST_VARIANCE = 2.0
# The networks of the three phases; the critical σw is solved for.
ORDERED, CHAOTIC = 1.0, 2.5
PHASES = ("ordered", "critical", "chaotic")
CORRELATIONS = (0.0, 0.9)
# The σw over which χ1 is shown.
WEIGHTS = (0.5, 3.0)
WIDTH, NETWORKS = 500, 10

LAYER = ("l", "layer")


def variance(
    points: int = 101, depth: int = 10, width: int = WIDTH, networks: int = NETWORKS
) -> xr.Dataset:
    """Return V(q) with its fixed point, and variances by layer from both sides of it."""
    layer = Dense(activation("tanh"), SETTLING, SIGMA_B)
    q = np.linspace(0, LARGEST_VARIANCE, points)
    low, high = VARIANCES
    path = rollout(layer, low, high, 0.0, depth)
    found = simulate(
        layer, [width] * (depth + 1), VARIANCES, 0.0, networks=networks, jacobians=False
    )
    both = [found.estimate(name) for name in ("q1", "q2")]
    by_layer = ("initial_variance", "layer")
    return _dataset(
        "Variance map of a tanh network",
        {
            "q": ("q", q, "q", "variance of the pre-activations"),
            "initial_variance": (
                "initial_variance",
                VARIANCES,
                "q⁰",
                "variance of the first pre-activations",
            ),
            "layer": ("layer", np.arange(depth + 1), *LAYER),
        },
        {
            "length_map": ("q", layer.variance(q), "V(q)", "variance one layer on"),
            "q_star": ((), check(steady_state(layer)).q, "q*", "fixed point of the variance"),
            "variance": (by_layer, [path.q1, path.q2], "q", "variance after l layers"),
            **_measured("variance", by_layer, both),
        },
    )


def correlation(
    points: int = 101, depth: int = 30, width: int = WIDTH, networks: int = NETWORKS
) -> xr.Dataset:
    """Return C(c) with its stable fixed point, and correlations by layer, in the three phases."""
    layers, coordinates = _phases()
    q = np.asarray(check(steady_state(layers)).q)
    c, starts = np.linspace(0, 1, points), np.array(CORRELATIONS)
    path = rollout(layers, q, q, q * starts, depth)
    found = [
        _simulated(sigma_w, depth, width, networks, float(start)).estimate("c")
        for sigma_w in np.ravel(layers.sigma_w)
        for start in starts
    ]
    by_layer = ("phase", "initial_correlation", "layer")
    shape = (len(PHASES), len(starts), depth + 1)
    return _dataset(
        "Correlation maps of tanh networks in three phases",
        {
            **coordinates,
            "c": ("c", c, "c", "correlation of two inputs"),
            "initial_correlation": (
                "initial_correlation",
                starts,
                "c⁰",
                "correlation of the first pre-activations",
            ),
            "layer": ("layer", np.arange(depth + 1), *LAYER),
        },
        {
            "correlation_map": (
                ("phase", "c"),
                correlation_map(layers, q, c),
                "C(c)",
                "correlation one layer on",
            ),
            "correlation_limit": (
                "phase",
                np.ravel(check(correlation_fixed_point(layers)).c),
                "c*",
                "stable fixed point of the correlation",
            ),
            "correlation": (by_layer, path.c, "c", "correlation after l layers"),
            **_measured("correlation", by_layer, found, shape),
        },
    )


def gradients(
    points: int = 101, depth: int = 30, width: int = WIDTH, networks: int = NETWORKS
) -> xr.Dataset:
    """Return squared gradients by layer in the three phases, and χ1 against σw."""
    layers, coordinates = _phases()
    chi = np.ravel(check(steady_state(layers)).chi)
    layer = np.arange(depth + 1)
    weights = np.linspace(*WEIGHTS, points)
    curve = check(steady_state(Dense(activation("tanh"), weights, SIGMA_B))).chi
    found = [
        _simulated(sigma_w, depth, width, networks).estimate("gradient")
        for sigma_w in np.ravel(layers.sigma_w)
    ]
    by_layer = ("phase", "layer")
    return _dataset(
        "Gradients of tanh networks in three phases",
        {
            **coordinates,
            "layer": ("layer", layer, *LAYER),
            "weights": ("weights", weights, "σ_w", "standard deviation of weights"),
        },
        {
            "chi": ("phase", chi, "χ₁", "slope of the correlation map at 1"),
            "chi_curve": ("weights", curve, "χ₁", "slope of the correlation map at 1"),
            "gradient": (
                by_layer,
                chi[:, None] ** (depth - layer),
                "|δ|²",
                "squared length of the gradient at layer l",
            ),
            **_measured("gradient", by_layer, found),
        },
    )


def _phases() -> tuple[Dense, dict[str, Entry]]:
    """Return the ordered, the critical and the chaotic network, one a row, and coordinates."""
    tanh = activation("tanh")
    critical = float(check(edge_of_chaos(tanh, SIGMA_B)).sigma_w)
    sigma_w = np.array([ORDERED, critical, CHAOTIC])
    coordinates: dict[str, Entry] = {
        "phase": ("phase", np.array(PHASES), "phase", "phase of the network"),
        "sigma_w": ("phase", sigma_w, "σ_w", "standard deviation of weights"),
    }
    return Dense(tanh, sigma_w[:, None], SIGMA_B), coordinates


def _simulated(sigma_w: float, depth: int, width: int, networks: int, c: float = 0.0) -> Simulation:
    layer = Dense(activation("tanh"), float(sigma_w), SIGMA_B)
    return simulate(layer, [width] * (depth + 1), None, c, networks=networks, jacobians=False)


def _measured(
    name: str, dims: tuple[str, ...], estimates: list[Any], shape: tuple[int, ...] | None = None
) -> dict[str, Entry]:
    """Return mean and standard error over networks, reshaped where `shape` is given."""
    mean, error = (
        np.array([getattr(estimate, part) for estimate in estimates]) for part in ("mean", "error")
    )
    if shape is not None:
        mean, error = mean.reshape(shape), error.reshape(shape)
    return {
        f"{name}_mean": (dims, mean, "mean", "mean over random networks"),
        f"{name}_error": (dims, error, "error", "standard error of that mean"),
    }


def _dataset(title: str, coords: dict[str, Entry], variables: dict[str, Entry]) -> xr.Dataset:
    sigma_b: Entry = ((), SIGMA_B, "σ_b", "standard deviation of biases")
    return labelled(title, "meanfield", coords, {**variables, "sigma_b": sigma_b})
