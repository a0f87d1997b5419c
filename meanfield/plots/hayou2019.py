"""Figures after Hayou, Doucet and Rousseau 2019: edges of chaos, and rates on them.

The parameters are this package's choice; the claims are the paper's, and the laws 1/l and 1/l²
are drawn with the constants that `convergence_rate` gives them.

References
----------
S. Hayou, A. Doucet, J. Rousseau, On the impact of the activation function on deep neural
networks training, ICML 2019, arXiv:1902.06853.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from meanfield.plots import style
from meanfield.plots.base import figure, study
from meanfield.plots.style import Look

SOURCE = "after arXiv:1902.06853"
LABELS = {
    "sigma_w": r"$\sigma_w$",
    "sigma_b": r"$\sigma_b$",
    "slope": r"$\mathrm{d}V/\mathrm{d}q$ at $q^{*}$",
    "layer": r"layer $l$",
    "epsilon": r"$1-c_l$",
    "ratio": r"$(1-c_l)\,l^{\,p}/K$",
    "distance": r"$\max_{\,0\leq\rho\leq 1}\,|R(\rho)-\rho|=R(0)$",
}
MISH = Look("Mish", style.PURPLE, (0, (4, 1, 1, 1)), "D")
# The panels end here: beyond it the edges go on as they are.
WIDEST = 1.0
UNSTABLE = (0, (3, 1.6))
LAW: dict[str, Any] = {"linestyle": (0, (4, 2)), "linewidth": 0.9, "zorder": 1.5}
# The first point of a curve with a marker, and after how many points the next one has one.
MARKS = (4, 10)
# Where along σb a curve is named, and how far from it in points.
NAMED_AT = {
    "tanh": (0.5, (12, 6)),
    "elu": (0.6, (0, -13)),
    "swish": (0.4, (8, 5)),
    "gelu": (0.14, (0, 5)),
    "mish": (0.5, (0, -12)),
}


def _look(name: str) -> Look:
    return MISH if name == "mish" else style.look(name)


def _stretches(stable: np.ndarray) -> Iterator[tuple[slice, bool]]:
    """Yield the stretches of a curve on which `stable` is one value, joined to the next one."""
    ends = [0, *(np.flatnonzero(np.diff(stable.astype(int))) + 1), stable.size]
    for start, stop in itertools.pairwise(ends):
        # The last unstable point is the half-stable one, where the stable stretch begins.
        yield slice(max(start - 1, 0), stop), bool(stable[start])


def _curve(ax: Axes, x: xr.DataArray, y: xr.DataArray, stable: xr.DataArray, look: Look) -> None:
    for part, attracts in _stretches(stable.values):
        linestyle = "-" if attracts else UNSTABLE
        ax.plot(x[part], y[part], color=look.color, linestyle=linestyle)


def _name(ax: Axes, x: np.ndarray, y: np.ndarray, name: str, look: Look) -> None:
    if name in NAMED_AT:
        at, offset = NAMED_AT[name]
        point = (at, float(np.interp(at, x, y)))
        text: dict[str, Any] = {
            "xytext": offset,
            "textcoords": "offset points",
            "fontsize": 9,
            "ha": "center",
        }
        ax.annotate(look.label, point, **text, color=look.color)


def _meaning(half_stable: bool = True) -> list[Line2D]:
    """Return legend entries: what a line style means."""
    grey: dict[str, Any] = {"color": style.GREY, "markerfacecolor": "white"}
    entries = [
        Line2D([], [], color=style.GREY, linestyle="-", label="stable"),
        Line2D([], [], color=style.GREY, linestyle=UNSTABLE, label="unstable"),
        Line2D([], [], **grey, linestyle="", marker="o", label="open symbol: half-stable"),
    ]
    return entries if half_stable else entries[:2]


@figure(
    "hayou2019-edge",
    title="Edges of chaos, stable and unstable",
    needs=(
        "activation",
        "sigma_w",
        "sigma_b",
        "slope",
        "stable",
        "half_stable_sigma_w",
        "half_stable_sigma_b",
    ),
    source=SOURCE,
    data=study("hayou2019", "edges"),
)
def edges(dataset: xr.Dataset) -> Figure:
    """Draw the edges in the plane of σb and σw, and the slope of the length map along them.

    An edge without biases throughout (ReLU) is a point.
    """
    fig = style.canvas(style.WIDE, 3.7)
    left, right = fig.subplots(1, 2)
    handles = []
    for name in dataset["activation"].values:
        edge, look = dataset.sel(activation=name), _look(name)
        sigma_b, stable = edge["sigma_b"], edge["stable"]
        if not (sigma_b > 0).any():
            point: dict[str, Any] = {"color": look.color, "marker": look.marker, "markersize": 6}
            for ax, y in ((left, "sigma_w"), (right, "slope")):
                ax.plot([0], edge[y][:1], linestyle="", **point, clip_on=False, zorder=5)
            handles.append(Line2D([], [], linestyle="", **point, label=look.label))
            continue
        line: dict[str, Any] = {"color": look.color}
        mark: dict[str, Any] = {**line, "marker": look.marker, "markerfacecolor": "white"}
        half_stable = np.isfinite(edge["half_stable_sigma_b"])
        handles.append(Line2D([], [], **(mark if half_stable else line), label=look.label))
        _curve(left, sigma_b, edge["sigma_w"], stable, look)
        _curve(right, sigma_b, edge["slope"], stable, look)
        _name(right, sigma_b.values, edge["slope"].values, name, look)
        x, y = float(edge["half_stable_sigma_b"]), float(edge["half_stable_sigma_w"])
        if half_stable:
            left.plot([x], [y], **mark, zorder=4)
            right.plot([x], [1], **mark, zorder=4)
    right.axhline(1, color=style.GREY, linewidth=0.6, zorder=0)
    for ax, y in ((left, "sigma_w"), (right, "slope")):
        ax.set(xlabel=LABELS["sigma_b"], ylabel=LABELS[y], xlim=(0, WIDEST))
    left.set_ylim(0.9, 2.1)
    right.set_ylim(0, 1.2)
    style.panel(left, "a", "edges of chaos")
    style.panel(right, "b", "slope of the length map")
    handles += _meaning()
    fig.legend(handles=handles, loc="outside upper center", ncols=(len(handles) + 1) // 2)
    return fig


@figure(
    "hayou2019-rates",
    title="Convergence of correlations on the edge of chaos",
    needs=("activation", "layer", "epsilon", "exponent", "constant", "sigma_b"),
    source=SOURCE,
    data=study("hayou2019", "rates"),
)
def rates(dataset: xr.Dataset) -> Figure:
    """Draw 1 - c against depth with its laws, and the ratio of the two."""
    fig = style.canvas(style.WIDE, 3.8)
    left, right = fig.subplots(1, 2)
    layer = dataset["layer"]
    handles = []
    for name in dataset["activation"].values:
        path, look = dataset.sel(activation=name), _look(name)
        power, constant = float(path["exponent"]), float(path["constant"])
        law = constant / layer**power
        curve: dict[str, Any] = {
            "color": look.color,
            "marker": look.marker,
            "markerfacecolor": "white",
            "markersize": 4,
        }
        left.plot(layer, path["epsilon"], **curve, markevery=MARKS)
        left.plot(layer, law.where(law < 1), color=look.color, **LAW)
        right.plot(layer, path["epsilon"] / law, **curve, markevery=MARKS)
        label = rf"{look.label}, $\sigma_b={style.number(float(path['sigma_b']))}$"
        handles.append(Line2D([], [], **curve, label=label))
    right.axhline(1, color=style.GREY, linewidth=0.6, zorder=0)
    for ax in (left, right):
        ax.set_xscale("log")
        ax.set(xlabel=LABELS["layer"], xlim=(layer[0], layer[-1]))
    left.set_yscale("log")
    left.set(ylabel=LABELS["epsilon"], ylim=(None, 1.5))
    right.set(ylabel=LABELS["ratio"], ylim=(0, 1.8))
    law = Line2D([], [], color=style.GREY, **LAW, label=r"law $K/l^{\,p}$")
    style.panel(left, "a", "correlations on the edge")
    style.panel(right, "b", "against their laws")
    fig.legend(handles=[*handles, law], loc="outside upper center", ncols=4)
    return fig


@figure(
    "hayou2019-identity",
    title="Distance of critical correlation maps from the identity",
    needs=("activation", "sigma_b", "slope", "correlation_at_zero"),
    source=SOURCE,
    dataset="hayou2019",
)
def identity(dataset: xr.Dataset) -> Figure:
    """Draw max |R(ρ) - ρ| on the edge against the standard deviation of the biases."""
    sigma_b = dataset["sigma_b"]
    fig = style.canvas(style.NARROW, 3.4)
    ax = fig.subplots()
    handles = []
    for name in dataset["activation"].values:
        edge, look = dataset.sel(activation=name), _look(name)
        _curve(ax, sigma_b, edge["correlation_at_zero"], edge["slope"] < 1, look)
        handles.append(Line2D([], [], color=look.color, label=look.label))
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set(xlabel=LABELS["sigma_b"], ylabel=LABELS["distance"], xlim=(sigma_b[0], sigma_b[-1]))
    ax.legend(handles=[*handles, *_meaning(half_stable=False)], loc="lower right", ncols=2)
    return fig
