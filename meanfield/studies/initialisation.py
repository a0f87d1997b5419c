"""The data of figures on initialisation: how wide must a linear region be for a depth?

A network of depth L with a φ(x/a) can be trained, and its Jacobian acts alike on all directions,
where

    a/σb ≥ 1/σb°(L),

σb°(L) the largest bias with which that holds for a = 1 (`meanfield.recommendation`).
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from meanfield.activations import activation
from meanfield.recommendation import critical_bias
from meanfield.studies.labels import labelled

NAMES = ("shtanh", "ssaw", "sexp", "ssin", "tanh")
DEPTHS = (10, 20, 50, 100, 200, 500, 1000)


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
            )
        },
    )
