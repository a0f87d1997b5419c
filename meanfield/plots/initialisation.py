"""Figures on initialisation: how wide a linear region a deep network needs."""

import xarray as xr
from matplotlib.figure import Figure

from meanfield.plots import style
from meanfield.plots.base import figure, study

# Markers at the first and last depth are not cut.
MARGIN = 1.08


@figure(
    "linear-region",
    title="Linear region that a depth needs",
    needs=("activation", "depth", "region", "promised"),
    source="this package; the question is that of arXiv:2105.07741",
    data=study("initialisation", "linear_regions"),
)
def linear_region(dataset: xr.Dataset) -> Figure:
    """Draw a/σb against depth, for activations a φ(x/a), and what the theorem asks for."""
    fig = style.canvas(style.WIDE, 3.6)
    ax = fig.subplots()
    depth = dataset["depth"]
    for name in dataset["activation"].values:
        look = style.look(name)
        ax.loglog(
            depth,
            dataset["region"].sel(activation=name),
            color=look.color,
            linestyle=look.linestyle,
            marker=look.marker,
            markerfacecolor="white",
            label=look.label,
        )
    ax.loglog(depth, dataset["promised"], color=style.GREY, linestyle=":", label="theorem")
    ax.set(
        xlabel=r"depth $L$",
        ylabel=r"linear region $a/\sigma_b$",
        xlim=(float(depth[0]) / MARGIN, float(depth[-1]) * MARGIN),
    )
    fig.legend(loc="outside upper center", ncols=3)
    return fig
