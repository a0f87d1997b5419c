"""Figures after Pennington et al. 2017: singular values of critical networks.

References
----------
J. Pennington, S. Schoenholz, S. Ganguli, Resurrecting the sigmoid in deep learning through
dynamical isometry, NeurIPS 2017, arXiv:1711.04735.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from meanfield.plots import style
from meanfield.plots.base import figure, study

REACH, SHOWN = (-6.0, 3.0), (2e-3, 20.0)
NAMES = {"gaussian": "Gaussian", "orthogonal": "orthogonal"}
DASHES = {"gaussian": "-", "orthogonal": (0, (5, 2))}
TITLES = {"linear": "linear", "relu": "ReLU", "hard_tanh": "hard tanh", "erf": "erf"}


@figure(
    "pennington2017-densities",
    title="Singular values of critical networks, theory and random networks",
    source="after Figure 2 of arXiv:1711.04735",
    needs=("network", "depth", "bin", "log_s", "density", "seen", "atom_log_s", "atom_mass"),
    data=study("pennington2017", "densities"),
)
def densities(dataset: xr.Dataset) -> Figure:
    """Draw densities of log s: lines are theory, points random networks, stems atoms."""
    fig = style.canvas(style.WIDE, 5.4)
    depths = dataset["depth"].values
    colors = style.shades(len(depths))
    for ax, letter, name in zip(fig.subplots(2, 2).flat, "abcd", dataset["network"], strict=True):
        label, ensemble = str(name.values).split(", ")
        style.panel(ax, letter, f"{TITLES.get(label, label)}, {NAMES[ensemble]} weights")
        atoms = np.isfinite(dataset["atom_mass"].sel(network=name))
        right = style.atom_axis(ax) if atoms.any() else None
        for depth, color in zip(depths, colors, strict=True):
            one = dataset.sel(network=name, depth=depth)
            ax.plot(dataset["bin"], one["seen"], "o", color=color, markersize=3, alpha=0.7)
            ax.plot(one["log_s"], one["density"], color=color)
            if right is not None:
                style.stems(right, one["atom_log_s"], one["atom_mass"], color)
        ax.set(xlim=REACH, ylim=SHOWN, yscale="log")
        ax.set(xlabel=r"$\log\,s$", ylabel=r"$\rho(\log\,s)$")
    # Room for the axis of the masses.
    fig.get_layout_engine().set(wspace=0.06)  # pyright: ignore
    marks = {
        "theory": {"linestyle": "-"},
        "random networks": {"linestyle": "", "marker": "o", "markersize": 3, "alpha": 0.7},
        "atom": {"linestyle": "-", "marker": "D"},
    }
    handles = style.depth_handles(depths, colors)
    handles += [Line2D([], [], color=style.BLACK, label=k, **look) for k, look in marks.items()]
    fig.legend(handles=handles, loc="outside upper center", ncols=len(handles), columnspacing=1.2)
    return fig


@figure(
    "pennington2017-largest",
    title="The largest singular value of critical networks",
    source="after Figure 3 of arXiv:1711.04735",
    needs=("activation", "ensemble", "depth", "q", "s_max", "s_max_of_q"),
    data=study("pennington2017", "largest"),
)
def largest(dataset: xr.Dataset) -> Figure:
    """Draw s_max over the depth, and over q* at one depth."""
    fig = style.canvas(style.WIDE, 3.3)
    left, right = fig.subplots(1, 2)
    colors = (style.VERMILLION, style.ORANGE, style.BLUE)
    for name, color in zip(dataset["activation"].values, colors, strict=True):
        for ensemble in dataset["ensemble"].values:
            one = dataset.sel(activation=name, ensemble=ensemble)
            line = {"color": color, "linestyle": DASHES[str(ensemble)]}
            left.plot(one["depth"], one["s_max"], **line)
            right.plot(one["q"], one["s_max_of_q"], **line)
    q, depth = (style.number(dataset.attrs[key]) for key in ("variance", "depth"))
    style.panel(left, "a", rf"$q^*={q}$")
    style.panel(right, "b", rf"$L={depth}$")
    left.set(xscale="log", yscale="log", xlabel=r"$L$", ylabel=r"$s_{\mathrm{max}}$")
    right.set(xscale="log", yscale="log", xlabel=style.LABELS["q_star"])
    right.set(ylabel=r"$s_{\mathrm{max}}$")
    handles = [
        Line2D([], [], color=color, label=TITLES[str(name)])
        for name, color in zip(dataset["activation"].values, colors, strict=True)
    ]
    handles += [
        Line2D(
            [], [], color=style.BLACK, linestyle=DASHES[str(ensemble)], label=NAMES[str(ensemble)]
        )
        for ensemble in dataset["ensemble"].values
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return fig
