"""The figures of Poole et al. 2016, on order and chaos in tanh networks.

References
----------
B. Poole, S. Lahiri, M. Raghu, J. Sohl-Dickstein, S. Ganguli, Exponential expressivity in deep
neural networks through transient chaos, NeurIPS 2016, arXiv:1606.05340.
"""

from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, MultipleLocator, NullFormatter

from meanfield.plots import style
from meanfield.plots.base import figure, study
from meanfield.plots.phase import LIMIT_LEVELS, label_contours, limit_map, name_phases
from meanfield.plots.style import LABELS

COLORS = (style.BLUE, style.ORANGE, style.VERMILLION)
SIGMA_W, SIGMA_B = r"$\sigma_w$", r"$\sigma_b$"
# χ1: as many steps below 1 as above.
CHI_LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0)


def _source(item: str) -> str:
    return f"after {item} of arXiv:1606.05340"


def _networks(dataset: xr.Dataset) -> list[tuple[float, dict[str, Any]]]:
    """Return σw of each network, and how its curves are drawn."""
    looks = zip(COLORS, style.STYLES, strict=False)
    return [
        (float(sigma_w), {"color": color, "linestyle": dashes})
        for sigma_w, (color, dashes) in zip(dataset["sigma_w"], looks, strict=False)
    ]


def _legend(fig: Figure, dataset: xr.Dataset) -> None:
    """Name the networks above the panels."""
    sigma_b = style.number(float(dataset["sigma_b"]))
    handles = [
        Line2D([], [], **line, label=rf"$\sigma_w={style.number(sigma_w)},\ \sigma_b={sigma_b}$")
        for sigma_w, line in _networks(dataset)
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=len(handles))


def _surface_axes(ax: Axes, dataset: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """Set up a panel over σw and σb, and return these axes."""
    weight, bias = dataset["surface_sigma_w"], dataset["surface_sigma_b"]
    ax.set(xlim=(weight[0], weight[-1]), ylim=(bias[0], bias[-1]))
    ax.set(xlabel=SIGMA_W, ylabel=SIGMA_B)
    return weight, bias


@figure(
    "poole2016-1",
    title="Variances in tanh networks",
    needs=(
        "sigma_w",
        "sigma_b",
        "q",
        "length_map",
        "q_star",
        "initial_variance",
        "layer",
        "variance",
        "surface_sigma_w",
        "surface_sigma_b",
        "surface_q_star",
    ),
    source=_source("Figure 1"),
    data=study("poole2016", "length_maps"),
)
def length_maps(dataset: xr.Dataset) -> Figure:
    """Draw V(q) with its fixed points, variances by layer, and q* over σw and σb."""
    q, layer = dataset["q"], dataset["layer"]
    fig = style.canvas(style.WIDE, 2.75)
    left, middle, right = fig.subplots(1, 3)
    style.identity(left, float(q[0]), float(q[-1]))
    for sigma_w, line in _networks(dataset):
        network = dataset.sel(sigma_w=sigma_w)
        q_star = float(network["q_star"])
        left.plot(q, network["length_map"], **line)
        left.plot([q_star], [q_star], marker="o", color=line["color"], markersize=5, zorder=5)
        middle.axhline(q_star, color=line["color"], linewidth=0.6, zorder=1)
        for path in network["variance"]:
            middle.plot(layer, path, **line, marker="o", markersize=3)
    left.set(xlabel=LABELS["q"], ylabel=LABELS["length_map"], xlim=(q[0], q[-1]), ylim=(0, q[-1]))
    middle.set(xlabel=LABELS["layer"], ylabel=r"$q^{(l)}$", xlim=(layer[0], layer[-1]))
    middle.set_ylim(0, 1.05 * float(q[-1]))
    middle.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for axis in (left.xaxis, left.yaxis, middle.yaxis):
        axis.set_major_locator(MultipleLocator(5))

    weight, bias = _surface_axes(right, dataset)
    surface = dataset["surface_q_star"].transpose("surface_sigma_b", "surface_sigma_w")
    filled = right.contourf(weight, bias, surface, levels=8, cmap="Blues")
    right.contour(weight, bias, surface, levels=filled.levels, colors="black", linewidths=0.5)
    fig.colorbar(filled, ax=right, label=LABELS["q_star"])
    style.panel(left, "a", "length map")
    style.panel(middle, "b", "variance")
    style.panel(right, "c", "fixed variance")
    _legend(fig, dataset)
    return fig


@figure(
    "poole2016-2",
    title="Correlations in tanh networks",
    needs=(
        "sigma_w",
        "sigma_b",
        "c",
        "correlation_map",
        "correlation_limit",
        "initial_correlation",
        "layer",
        "correlation",
        "surface_sigma_w",
        "surface_sigma_b",
        "surface_correlation_limit",
        "surface_chi",
        "edge_sigma_w",
        "edge_sigma_b",
    ),
    source=_source("Figure 2"),
    data=study("poole2016", "correlation_maps"),
)
def correlation_maps(dataset: xr.Dataset) -> Figure:
    """Draw C(c), correlations by layer, and c* and χ1 over σw and σb."""
    c, layer = dataset["c"], dataset["layer"]
    fig = style.canvas(style.WIDE, 6.0)
    axes = fig.subplots(2, 2)
    left, right = axes[0]
    style.identity(left, float(c[0]), float(c[-1]))
    for sigma_w, line in _networks(dataset):
        network = dataset.sel(sigma_w=sigma_w)
        limit = float(network["correlation_limit"])
        left.plot(c, network["correlation_map"], **line)
        left.plot([limit], [limit], marker="o", color=line["color"], clip_on=False, zorder=5)
        right.axhline(limit, color=line["color"], linewidth=0.6, zorder=1)
        for path in network["correlation"]:
            right.plot(layer, path, **line)
    left.set(xlabel=r"$c$", ylabel=r"$C(c)$", xlim=(c[0], c[-1]), ylim=(0, 1))
    right.set(xlabel=LABELS["layer"], ylabel=r"$c^{(l)}$", xlim=(layer[0], layer[-1]))
    right.set_ylim(0, 1.04)
    style.panel(left, "a", "correlation map")
    style.panel(right, "b", "correlation")

    plane = {"surface_sigma_w": "weight_variance", "surface_sigma_b": "bias_variance"}
    left, right = axes[1]
    weight, bias = _surface_axes(left, dataset)
    _surface_axes(right, dataset)
    edge = np.stack([dataset["edge_sigma_w"].values, dataset["edge_sigma_b"].values], axis=1)
    limits = dataset["surface_correlation_limit"].rename(plane)
    limit_map(fig, left, limits, edge, LIMIT_LEVELS, r"$c^{*}$")
    chi = dataset["surface_chi"].transpose("surface_sigma_b", "surface_sigma_w")
    steps = len(CHI_LEVELS) - 1
    norm = BoundaryNorm(CHI_LEVELS, steps)
    cmap = ListedColormap(mpl.colormaps["RdBu_r"](np.linspace(0.12, 0.88, steps)))
    filled = right.contourf(weight, bias, chi, levels=CHI_LEVELS, cmap=cmap, norm=norm)
    lines = right.contour(
        weight, bias, chi, levels=CHI_LEVELS[1:4] + CHI_LEVELS[5:], colors="black", linewidths=0.5
    )
    label_contours(right, lines, {level: style.number(level) for level in lines.levels})
    bar = fig.colorbar(filled, ax=right, ticks=CHI_LEVELS, label=LABELS["chi"])
    bar.ax.set_yticklabels([style.number(level) for level in CHI_LEVELS])
    for ax in (left, right):
        ax.plot(*edge.T, color=style.BLACK, linewidth=1.8, zorder=3)
    name_phases(left, "ordered\n" + r"$c^{*}=1$", "chaotic\n" + r"$c^{*}<1$", height=0.11)
    style.panel(left, "c", "limiting correlation")
    style.panel(right, "d", r"slope at $c=1$; $\chi_1=1$ bold")
    _legend(fig, dataset)
    return fig


@figure(
    "poole2016-4",
    title="Curvature of a circle of inputs in tanh networks",
    needs=(
        "sigma_w",
        "sigma_b",
        "layer",
        "curvature",
        "curvature_limit",
        "metric",
        "gauss_length",
    ),
    source=_source("Figure 4"),
    data=study("poole2016", "curvature"),
)
def curvature(dataset: xr.Dataset) -> Figure:
    """Draw curvature, metric and length of the Gauss map of a circle of inputs by layer."""
    layer = dataset["layer"]
    fig = style.canvas(style.WIDE, 2.75)
    axes = fig.subplots(1, 3)
    for sigma_w, line in _networks(dataset):
        network = dataset.sel(sigma_w=sigma_w)
        for ax, name in zip(axes, ("curvature", "metric", "gauss_length"), strict=True):
            ax.plot(layer, network[name], **line)
        if np.isfinite(network["curvature_limit"]):
            axes[0].axhline(
                float(network["curvature_limit"]), color=line["color"], linewidth=0.6, zorder=1
            )
    labels = (r"$\bar\kappa$", r"$\bar g$", r"$\mathcal{L}^{G}/2\pi$")
    for ax, label in zip(axes, labels, strict=True):
        ax.set(xlabel=LABELS["layer"], ylabel=label, xlim=(layer[0], layer[-1]), yscale="log")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for ax in axes[1:]:
        ax.yaxis.set_major_locator(LogLocator(numticks=7))
        ax.yaxis.set_minor_formatter(NullFormatter())
    for ax, letter, title in zip(axes, "abc", ("curvature", "metric", "Gauss map"), strict=True):
        style.panel(ax, letter, title)
    _legend(fig, dataset)
    return fig
