"""The data of figures on initialisation: how wide must a linear region be for a depth?

A network of depth L with a φ(x/a) can be trained, and its Jacobian acts alike on all directions,
where

    a/σb ≥ 1/σb°(L),

σb°(L) the largest bias with which that holds for a = 1 (`meanfield.recommendation`). For every
scaled-bounded φ the theorem of arXiv:2105.07741 promises it at the y = σb²/a² where its bounds, on
L layers one after another, still allow it,

    L (8/π)^(1/3) y^(1/3) ≤ 0.9,        L (erf(Λ(y)/√2)⁻² - 1) ≤ 1.
"""

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr
from scipy import optimize

from meanfield.activations import activation
from meanfield.assessment import CORRELATION, SPREAD
from meanfield.bounds import scaled_bounded
from meanfield.recommendation import critical_bias
from meanfield.studies.labels import labelled

NAMES = ("shtanh", "ssaw", "sexp", "ssin", "tanh")
DEPTHS = (10, 20, 50, 100, 200, 500, 1000)
# Between these the theorem's y lies for all depths.
LOG_Y = (-100.0, 0.0)


def linear_regions(names: Sequence[str] = NAMES, depths: Sequence[int] = DEPTHS) -> xr.Dataset:
    """Return a/σb, by activation and depth."""
    needed = [[1 / critical_bias(activation(name), depth) for depth in depths] for name in names]
    return labelled(
        "Linear region that a depth needs",
        "meanfield",
        {
            "activation": ("activation", np.array(names), "φ", "activation"),
            "depth": ("depth", np.array(depths), "L", "number of layers"),
        },
        {
            "region": (
                ("activation", "depth"),
                needed,
                "a/σ_b",
                "half-width of the linear region over the standard deviation of the biases",
            ),
            "promised": (
                ("depth",),
                [promised_region(depth) for depth in depths],
                "a/σ_b",
                "what suffices by the scaled-bounded theorem",
            ),
        },
    )


def promised_region(depth: int) -> float:
    """Return the a/σb from which on the theorem promises that L layers can be trained."""

    def excess(log_y: float) -> float:
        found = scaled_bounded(math.exp(log_y))
        merging = depth * float(found.correlation) / CORRELATION
        spreading = depth * float(found.moment_ratio) / SPREAD
        return math.log(max(merging, spreading))

    return math.exp(-optimize.brentq(excess, *LOG_Y) / 2)
