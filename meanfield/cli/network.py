"""The network that options name: what is not given is critical.

There is one rule for all commands. With neither σw nor σb both are those of the critical network of
φ's own width (`recommendation.own_network`); with σb alone, σw is that of the edge of chaos; with
σw alone, σb is 0.
"""

import dataclasses
import math
from typing import TYPE_CHECKING

from meanfield.errors import MeanFieldError, Status, require

if TYPE_CHECKING:
    from meanfield.activations import Activation
    from meanfield.criticality import CriticalPoint
    from meanfield.layers import Dense


def critical(phi: "Activation", sigma_b: float | None) -> "CriticalPoint":
    """Return the critical network at σb, or without one that of φ's own width."""
    from meanfield.criticality import edge_of_chaos
    from meanfield.recommendation import own_network

    return own_network(phi) if sigma_b is None else edge_of_chaos(phi, sigma_b)


def load_network(
    phi: "Activation",
    sigma_w: float | None,
    sigma_b: float | None,
    ensemble: str = "gaussian",
    keep: float = 1.0,
    q: float | None = None,
) -> "tuple[Dense, float]":
    """Return a layer, and the variance q that a network of such layers keeps.

    Raises `MeanFieldError` for what is not legal, and where what must be chosen does not exist.
    """
    layer = given_layer(phi, sigma_w, sigma_b, ensemble, keep, q)
    if sigma_w is not None:
        return layer, _fixed_variance(layer) if q is None else q
    layer, own = choose_weights(layer, sigma_b)
    if q is None and not own > 0:
        raise MeanFieldError(
            f"--sigma-b {layer.sigma_b:g} needs --q or --sigma-w: the edge of chaos has q = 0 "
            "there; without --sigma-b, or with a larger one, q > 0 is chosen"
        )
    return layer, own if q is None else q


def given_layer(
    phi: "Activation",
    sigma_w: float | None,
    sigma_b: float | None,
    ensemble: str = "gaussian",
    keep: float = 1.0,
    q: float | None = None,
) -> "Dense":
    """Return the layer of the numbers that are given, σw = 1 and σb = 0 in place of others.

    Raises `MeanFieldError` for what is not legal, a variance q included.
    """
    from meanfield.layers import Dense

    if q is not None:
        require(math.isfinite(q) and q > 0, "q", q, "a finite number > 0")
    return Dense(
        phi,
        1.0 if sigma_w is None else sigma_w,
        0.0 if sigma_b is None else sigma_b,
        ensemble,  # pyright: ignore[reportArgumentType]
        keep,
    )


def choose_weights(layer: "Dense", sigma_b: float | None) -> "tuple[Dense, float]":
    """Return the layer with critical numbers, and the q for which it is critical."""
    from meanfield.recommendation import why_not

    point = critical(layer.phi, sigma_b)
    if int(point.status) != Status.OK:
        status = Status(int(point.status))
        if status != Status.NO_SOLUTION:
            why = f"the edge of chaos is not found ({status.message})"
        else:
            why = why_not(layer.phi, sigma_b)
        raise MeanFieldError(f"--sigma-w must be given: {why}")
    # V and χ1 know the variance of weights over `keep` alone.
    sigma_w = float(point.sigma_w) * math.sqrt(layer.keep)
    chosen = dataclasses.replace(layer, sigma_w=sigma_w, sigma_b=float(point.sigma_b))
    return chosen, float(point.q)


def _fixed_variance(layer: "Dense") -> float:
    """Return the variance q* that layers keep, the one that is reached from 1."""
    from meanfield.fixedpoint import steady_state

    state = steady_state(layer)
    status = Status(int(state.status))
    if status != Status.OK:
        raise MeanFieldError(
            f"--q must be given, or another --sigma-b: no variance is kept at sigma_w = "
            f"{layer.sigma_w:g}, sigma_b = {layer.sigma_b:g} ({status.message})"
        )
    return float(state.q)
