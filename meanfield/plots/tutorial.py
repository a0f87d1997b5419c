"""The figures of the tutorial: maps, layers and gradients of tanh networks.

Lines are the theory of infinite width. Points are means over random networks with their standard
errors.

References
----------
[1] B. Poole, S. Lahiri, M. Raghu, J. Sohl-Dickstein, S. Ganguli, Exponential expressivity in deep
    neural networks through transient chaos, NeurIPS 2016, arXiv:1606.05340.
[2] S. Schoenholz, J. Gilmer, S. Ganguli, J. Sohl-Dickstein, Deep information propagation,
    ICLR 2017, arXiv:1611.01232.
"""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, MultipleLocator, NullFormatter

from meanfield.plots import style
from meanfield.plots.base import figure, study
from meanfield.plots.style import LABELS

# Colour, line style and marker of the ordered, the critical and the chaotic network.
LOOKS = ((style.BLUE, "-", "o"), (style.BLACK, "--", "s"), (style.VERMILLION, "-.", "^"))
STARTS = ((style.GREEN, "-", "o"), (style.PURPLE, "--", "s"))
# Two networks share the fixed point 1: the marker of one is seen behind that of the other.
SIZES = (10.0, 5.0, 6.0)
# More points than this in a panel run into one another.
POINTS = 16
SIGMA_W = r"$\sigma_w$"


@figure(
    "tutorial-variance",
    title="Variance map of a tanh network",
    needs=(
        "q",
        "initial_variance",
        "layer",
        "length_map",
        "q_star",
        "variance",
        "variance_mean",
        "variance_error",
        "sigma_b",
    ),
    source="after arXiv:1606.05340",
    data=study("tutorial", "variance"),
)
def variance(dataset: xr.Dataset) -> Figure:
    """Draw V(q) with cobwebs onto q*, and variances by layer."""
    q, layer, q_star = dataset["q"], dataset["layer"], float(dataset["q_star"])
    fig = style.canvas(style.WIDE, 3.1)
    left, right = fig.subplots(1, 2)
    style.identity(left, float(q[0]), float(q[-1]))
    left.plot(q, dataset["length_map"], color=style.BLUE, label=LABELS["length_map"])
    right.axhline(q_star, color=style.GREY, linewidth=0.8, zorder=1)
    looks = zip(dataset["initial_variance"], STARTS, strict=True)
    for start, (color, dashes, marker) in looks:
        network = dataset.sel(initial_variance=start)
        path = np.repeat(network["variance"].values, 2)
        left.plot(path[:-1], path[1:], color=color, linewidth=0.9)
        right.plot(layer, network["variance"], color=color, linestyle=dashes)
        _measured(right, network, "variance", color, marker)
    left.plot([q_star], [q_star], "o", color=style.BLACK, zorder=5, label=LABELS["q_star"])
    left.set(xlabel=LABELS["q"], ylabel=LABELS["length_map"], xlim=(q[0], q[-1]))
    left.set_ylim(0, float(q[-1]))
    right.set_ylim(0, float(q[-1]))
    right.set(xlabel=LABELS["layer"], ylabel=r"$q^{(l)}$")
    _layers(right, layer)
    for axis in (left.xaxis, left.yaxis, right.yaxis):
        axis.set_major_locator(MultipleLocator(0.5))
    left.legend(loc="upper left")
    _say_what_is_what(right)
    style.panel(left, "a", r"from $q$ to $V(q)$, again and again")
    style.panel(right, "b", "variance by layer")
    return fig


@figure(
    "tutorial-correlation",
    title="Correlation maps of tanh networks in three phases",
    needs=(
        "phase",
        "sigma_w",
        "c",
        "initial_correlation",
        "layer",
        "correlation_map",
        "correlation_limit",
        "correlation",
        "correlation_mean",
        "correlation_error",
        "sigma_b",
    ),
    source="after arXiv:1606.05340",
    data=study("tutorial", "correlation"),
)
def correlation(dataset: xr.Dataset) -> Figure:
    """Draw C(c) with its fixed points, and correlations by layer, in the three phases."""
    c, layer = dataset["c"], dataset["layer"]
    fig = style.canvas(style.WIDE, 3.5)
    left, right = fig.subplots(1, 2)
    style.identity(left, float(c[0]), float(c[-1]))
    for (network, (color, dashes, marker)), size in zip(_networks(dataset), SIZES, strict=True):
        limit = float(network["correlation_limit"])
        look = {"color": color, "marker": marker, "markersize": size}
        left.plot(c, network["correlation_map"], color=color, linestyle=dashes)
        left.plot([limit], [limit], **look, clip_on=False, zorder=5)
        for start in network["initial_correlation"]:
            path = network.sel(initial_correlation=start)
            right.plot(layer, path["correlation"], color=color, linestyle=dashes)
            _measured(right, path, "correlation", color, marker)
    left.set(xlabel=r"$c$", ylabel=r"$C(c)$", xlim=(c[0], c[-1]), ylim=(0, 1))
    right.set(xlabel=LABELS["layer"], ylabel=r"$c^{(l)}$", ylim=(-0.04, 1.04))
    _layers(right, layer)
    style.panel(left, "a", r"correlation map and $c^{*}$")
    style.panel(right, "b", "correlation by layer")
    _name_phases(fig, dataset)
    return fig


@figure(
    "tutorial-gradients",
    title="Gradients of tanh networks in three phases",
    needs=(
        "phase",
        "sigma_w",
        "layer",
        "weights",
        "chi",
        "chi_curve",
        "gradient",
        "gradient_mean",
        "gradient_error",
        "sigma_b",
    ),
    source="after arXiv:1611.01232",
    data=study("tutorial", "gradients"),
)
def gradients(dataset: xr.Dataset) -> Figure:
    """Draw squared gradients by layer, and χ1 against σw with the three networks on it."""
    layer, weights = dataset["layer"], dataset["weights"]
    fig = style.canvas(style.WIDE, 3.5)
    left, right = fig.subplots(1, 2)
    right.plot(weights, dataset["chi_curve"], color=style.GREY)
    right.axhline(1.0, color=style.BLACK, linewidth=0.6, zorder=1)
    for network, (color, dashes, marker) in _networks(dataset):
        left.plot(layer, network["gradient"], color=color, linestyle=dashes)
        _measured(left, network, "gradient", color, marker)
        right.plot(float(network["sigma_w"]), float(network["chi"]), marker, color=color)
    left.set(xlabel=LABELS["layer"], ylabel=r"$|\delta^{(l)}|^2/|\delta^{(L)}|^2$", yscale="log")
    left.yaxis.set_major_locator(LogLocator(numticks=8))
    left.yaxis.set_minor_formatter(NullFormatter())
    right.set(xlabel=SIGMA_W, ylabel=LABELS["chi"], xlim=(weights[0], weights[-1]))
    right.set_ylim(bottom=0)
    _layers(left, layer)
    style.panel(left, "a", r"squared gradient, theory $\chi_1^{L-l}$")
    style.panel(right, "b", r"$\chi_1$ decides")
    _name_phases(fig, dataset)
    return fig


def _networks(dataset: xr.Dataset) -> list[tuple[xr.Dataset, tuple[str, Any, str]]]:
    """Return the network of each phase, and how it is drawn."""
    names = dataset["phase"].values
    return [(dataset.sel(phase=name), look) for name, look in zip(names, LOOKS, strict=True)]


def _measured(ax: Axes, network: xr.Dataset, name: str, color: str, marker: str) -> None:
    """Draw means over random networks with their standard errors, thinned out where many."""
    thin = network.isel(layer=slice(None, None, -(-network.sizes["layer"] // POINTS)))
    ax.errorbar(
        thin["layer"],
        thin[f"{name}_mean"],
        thin[f"{name}_error"],
        color=color,
        marker=marker,
        linestyle="",
        markerfacecolor="white",
        elinewidth=0.9,
    )


def _layers(ax: Axes, layer: xr.DataArray) -> None:
    ends = layer.values[[0, -1]]
    margin = 0.03 * np.ptp(ends)
    ax.set_xlim(ends[0] - margin, ends[1] + margin)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _say_what_is_what(ax: Axes) -> None:
    handles = [
        Line2D([], [], color=style.BLACK, label="theory"),
        Line2D(
            [],
            [],
            color=style.BLACK,
            marker="o",
            markerfacecolor="white",
            linestyle="",
            label="random networks",
        ),
    ]
    ax.legend(handles=handles, loc="upper right")


def _name_phases(fig: Figure, dataset: xr.Dataset) -> None:
    """Name the networks above the panels."""
    level = style.number(float(dataset["sigma_b"]))
    handles = [
        Line2D(
            [],
            [],
            color=color,
            linestyle=dashes,
            marker=marker,
            markerfacecolor="white",
            label=rf"{network['phase'].item()}, $\sigma_w={float(network['sigma_w']):.3g}$",
        )
        for network, (color, dashes, marker) in _networks(dataset)
    ]
    title = rf"lines: theory; points: random networks; $\sigma_b={level}$"
    fig.legend(handles=handles, loc="outside upper center", ncols=len(handles), title=title)
