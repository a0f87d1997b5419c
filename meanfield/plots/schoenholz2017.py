"""Figures after Schoenholz et al. 2017, on the depth to which tanh networks carry signals.

References
----------
S. Schoenholz, J. Gilmer, S. Ganguli, J. Sohl-Dickstein, Deep information propagation,
ICLR 2017, arXiv:1611.01232.
"""

from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from meanfield.plots import style
from meanfield.plots.base import figure, study
from meanfield.plots.phase import name_phases
from meanfield.plots.style import LABELS

XI_Q, XI_C = r"$\xi_q$", r"$\xi_c$"
# A network can be trained to this many ξ_c.
TRAINABLE = 6
# The bias variance at which the trainable depth is shown, and the deepest networks shown.
BIAS_VARIANCE = 0.05
DEEPEST = 300
# Values of ξ_c that bound the colours of the diagram, from both phases towards the edge, and
# what the drawing of ξ_c leaves out.
REACHES = (5, 10, 20, 50, 200)
HIGHEST = 2000.0


def _source(item: str) -> str:
    return f"after the {item} of arXiv:1611.01232"


@figure(
    "schoenholz2017-1",
    title="Order and chaos in tanh networks",
    needs=(
        "weight_variance",
        "bias_variance",
        "chi",
        "xi_c",
        "edge_weight_variance",
        "edge_bias_variance",
    ),
    source=_source("phase diagram"),
    data=study("schoenholz2017", "phases"),
)
def phases(dataset: xr.Dataset) -> Figure:
    """Draw the edge of chaos, and ξ_c in both phases, over weight and bias variance."""
    weight, bias = dataset["weight_variance"], dataset["bias_variance"]
    ordered = dataset["chi"] <= 1
    # The rate 1/ξ_c, with a sign, goes smoothly through the edge, where ξ_c is infinite.
    rate = (1 / dataset["xi_c"]).where(ordered, -1 / dataset["xi_c"])
    rate = rate.transpose("bias_variance", "weight_variance")
    inner = 1 / np.array(REACHES, dtype=float)
    levels = np.concatenate([-inner, [0], inner[::-1]])
    fig = style.canvas(style.NARROW + 0.6, 3.6)
    ax = fig.subplots()
    cmap = ListedColormap(mpl.colormaps["RdBu"](np.linspace(0.15, 0.85, levels.size + 1)))
    norm = BoundaryNorm(levels, levels.size + 1, extend="both")
    filled = ax.contourf(weight, bias, rate, levels=levels, cmap=cmap, norm=norm, extend="both")
    lines = {"colors": "black", "linewidths": 0.4, "linestyles": "solid"}
    ax.contour(weight, bias, rate, levels=levels[levels != 0], **lines)
    ax.plot(
        dataset["edge_weight_variance"],
        dataset["edge_bias_variance"],
        color=style.BLACK,
        linewidth=1.8,
        zorder=3,
    )
    bar = fig.colorbar(filled, ax=ax, ticks=levels, spacing="uniform", label=XI_C)
    reaches = list(map(style.number, REACHES))
    bar.ax.set_yticklabels([*reaches, r"$\infty$", *reversed(reaches)])
    name_phases(ax, "ordered\n" + r"$\chi_1<1$", "chaotic\n" + r"$\chi_1>1$", height=0.3)
    ax.set(xlabel=LABELS["weight_variance"], ylabel=LABELS["bias_variance"])
    ax.set(xlim=(weight[0], weight[-1]), ylim=(bias[0], bias[-1]))
    return fig


@figure(
    "schoenholz2017-2",
    title="Depth scales of tanh networks",
    needs=("bias_variance", "weight_variance", "xi_q", "xi_c", "critical_weight_variance"),
    source=_source("depth scales"),
    data=study("schoenholz2017", "scales"),
)
def scales(dataset: xr.Dataset) -> Figure:
    """Draw ξ_q and ξ_c against the weight variance, and the trainable depth 6 ξ_c."""
    biases = dataset["bias_variance"]
    fig = style.canvas(style.WIDE, 2.9)
    left, middle, right = fig.subplots(1, 3)
    for level, color, dashes in zip(biases, style.shades(biases.size), style.STYLES, strict=False):
        curve = dataset.sel(bias_variance=level)
        weight, line = curve["weight_variance"], {"color": color, "linestyle": dashes}
        label = rf"$\sigma_b^2={style.number(float(level))}$"
        left.plot(weight, curve["xi_q"], **line, label=label)
        middle.plot(weight, curve["xi_c"], **line)
        for ax in (left, middle):
            _mark_critical(ax, float(curve["critical_weight_variance"]), color)
    shown = dataset.sel(bias_variance=BIAS_VARIANCE, method="nearest")
    weight, depth = shown["weight_variance"], TRAINABLE * shown["xi_c"]
    right.plot(weight, depth, color=style.BLACK)
    right.fill_between(weight, 0, np.minimum(depth, 2 * DEEPEST), color=style.PALE, zorder=0)
    _mark_critical(right, float(shown["critical_weight_variance"]), style.GREY)
    right.text(0.6, 0.05, "trainable", transform=right.transAxes, ha="center", fontsize=9)
    right.text(0.7, 0.6, "too deep", transform=right.transAxes, ha="center", fontsize=9)
    ends = float(dataset["weight_variance"].min()), float(dataset["weight_variance"].max())
    for ax, label in ((left, XI_Q), (middle, XI_C), (right, rf"depth ${TRAINABLE}\,\xi_c$")):
        ax.set(xlabel=LABELS["weight_variance"], ylabel=label, xlim=ends)
        ax.xaxis.set_major_locator(MultipleLocator(1))
    left.set_ylim(0, None)
    middle.set(yscale="log", ylim=(1, HIGHEST))
    right.set_ylim(0, DEEPEST)
    level = style.number(float(shown["bias_variance"]))
    style.panel(left, "a", "variances")
    style.panel(middle, "b", "correlations")
    style.panel(right, "c", rf"$\sigma_b^2={level}$")
    fig.legend(loc="outside upper center", ncols=biases.size, handlelength=2.0)
    return fig


def _mark_critical(ax: Axes, weight_variance: float, color: Any) -> None:
    ax.axvline(weight_variance, color=color, linewidth=0.7, linestyle=":", zorder=1)


@figure(
    "schoenholz2017-dropout",
    title="Depth scale of correlations in tanh networks with dropout",
    needs=("keep", "weight_variance", "bias_variance", "xi_c", "critical_weight_variance"),
    source=_source("depth scales with dropout"),
    data=study("schoenholz2017", "dropout"),
)
def dropout(dataset: xr.Dataset) -> Figure:
    """Draw ξ_c against the weight variance, one curve per probability to keep a unit."""
    keep, weight = dataset["keep"], dataset["weight_variance"]
    fig = style.canvas(style.NARROW + 0.4, 3.5)
    ax = fig.subplots()
    looks = zip(style.shades(keep.size), (*style.STYLES, "-"), strict=False)
    for probability, (color, dashes) in zip(keep, looks, strict=False):
        label = rf"$p={style.number(float(probability))}$"
        curve = dataset["xi_c"].sel(keep=probability)
        ax.plot(weight, curve, color=color, linestyle=dashes, label=label)
    _mark_critical(ax, float(dataset["critical_weight_variance"]), style.GREY)
    ax.set(xlabel=LABELS["weight_variance"], ylabel=XI_C, yscale="log", ylim=(1, HIGHEST))
    ax.set(xlim=(weight[0], weight[-1]))
    ax.xaxis.set_major_locator(MultipleLocator(0.5))
    level = style.number(float(dataset["bias_variance"]))
    ax.set_title(rf"units kept with probability $p$; $\sigma_b^2={level}$")
    ax.legend(loc="upper right", ncols=2)
    return fig
