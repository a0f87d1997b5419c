"""Figures after Pennington et al. 2018: spectra that do not depend on detail.

References
----------
J. Pennington, S. Schoenholz, S. Ganguli, The emergence of spectral universality in deep networks,
AISTATS 2018, arXiv:1802.09979.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from meanfield.plots import style
from meanfield.plots.base import figure, study

TITLES = {"hard_tanh": "hard tanh (Bernoulli class)", "erf": "erf (smooth class)"}
INSIDE = 0.08
# Moment ratios closer to 1 are rounding.
ROUNDING = 1e-12
# Symbol, colour and marker of what `widths` compares.
LOOKS = {
    "q1": (r"$|h|^2/N$", style.BLUE, "o"),
    "c": (r"$c$", style.GREEN, "D"),
    "m2": (r"$m_2$", style.PURPLE, "P"),
}


@figure(
    "pennington2018-ratio",
    title="Moment ratio along the edge of chaos",
    source="after Figure 2(d) of arXiv:2105.07741",
    needs=("activation", "bias_variance", "moment_ratio"),
    dataset="pennington2018",
)
def ratio(dataset: xr.Dataset) -> Figure:
    """Draw μ2/μ1² - 1 against σb², by activation.

    Activations take turns with their markers: so those whose curves coincide are all seen.
    """
    fig = style.canvas(style.NARROW, 3.4)
    ax = fig.subplots()
    for place, name in enumerate(dataset["activation"].values):
        excess = dataset["moment_ratio"].sel(activation=name) - 1
        shown, looks = excess.where(excess > ROUNDING), style.look(str(name))
        line = {**looks.points(), "markevery": (place % 2, 2), "label": looks.label}
        ax.plot(dataset["bias_variance"], shown, **line)
    ax.set(xscale="log", yscale="log", xlabel=style.LABELS["bias_variance"])
    ax.set(ylabel=style.LABELS["moment_ratio"], ylim=(1e-5, None))
    ax.legend()
    return fig


@figure(
    "pennington2018-limits",
    title="Spectra of ever deeper networks converge to two laws",
    source="after the limits of arXiv:1802.09979",
    needs=(
        "activation",
        "variance",
        "depth",
        "limit_s",
        "limit",
        "s",
        "density",
        "atom_s",
        "atom_mass",
    ),
    data=study("pennington2018", "limits"),
)
def limits(dataset: xr.Dataset) -> Figure:
    """Draw densities of s for each class and variance, the limit on top; stems are its atoms."""
    names, variances = dataset["activation"].values, dataset["variance"].values
    fig = style.canvas(style.WIDE, 4.8)
    axes = fig.subplots(len(names), len(variances), squeeze=False)
    colors = style.shades(len(dataset["depth"]))
    for row, name in zip(axes, names, strict=True):
        for ax, variance in zip(row, variances, strict=True):
            one = dataset.sel(activation=name, variance=variance)
            for depth, color in zip(dataset["depth"], colors, strict=True):
                deep = one.sel(depth=depth)
                ax.plot(deep["s"], deep["density"], color=color, linewidth=1.2)
            ax.plot(one["limit_s"], one["limit"], color=style.BLACK, linestyle=(0, (5, 2)))
            edge = float(one["limit_s"].max())
            reach = 1.06 * np.fmax(edge, one["atom_s"])
            inside = (one["limit_s"] > INSIDE * edge) & (one["limit_s"] < (1 - INSIDE) * edge)
            ax.set(xlim=(0, reach), ylim=(0, 1.15 * one["limit"].where(inside).max()))
            ax.set_title(rf"$\sigma^2={style.number(float(variance))}$")
            if float(one["atom_mass"]) > 0:
                style.stems(style.atom_axis(ax), one["atom_s"], one["atom_mass"], style.VERMILLION)
            ax.set_ylabel(r"$\rho(s)$")
        row[0].set_ylabel(TITLES.get(str(name), str(name)) + "\n" + r"$\rho(s)$")
    for ax in axes[-1]:
        ax.set_xlabel(r"$s$")
    handles = style.depth_handles(dataset["depth"], colors)
    handles.append(Line2D([], [], color=style.BLACK, linestyle=(0, (5, 2)), label=r"$L\to\infty$"))
    handles.append(Line2D([], [], color=style.VERMILLION, marker="D", label="atom of the limit"))
    fig.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return fig


@figure(
    "pennington2018-widths",
    title="Finite networks approach the infinite one",
    source="finite-width corrections of arXiv:1812.05994",
    needs=("quantity", "width", "deviation", "error"),
    data=study("pennington2018", "widths"),
)
def widths(dataset: xr.Dataset) -> Figure:
    """Draw relative deviations of means over random networks against the width, and 1/N."""
    fig = style.canvas(style.NARROW, 3.6)
    ax = fig.subplots()
    size = dataset["width"].values
    for quantity in dataset["quantity"].values:
        symbol, color, marker = LOOKS[str(quantity)]
        one = dataset.sel(quantity=quantity)
        ax.errorbar(
            size,
            one["deviation"],
            one["error"],
            color=color,
            marker=marker,
            capsize=2,
            label=symbol,
        )
    ax.plot(size, dataset.attrs["depth"] / size, color=style.GREY, linestyle=":", label=r"$L/N$")
    ax.set(xscale="log", yscale="log", xlabel=r"$N$", ylabel="relative deviation of the mean")
    ax.set_xticks(size, [str(n) for n in size])
    ax.minorticks_off()
    ax.legend()
    return fig
