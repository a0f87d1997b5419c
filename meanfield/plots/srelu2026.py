"""Figures on S-ReLU, the ReLU averaged over an Epanechnikov kernel, and its missing edge of chaos.

References
----------
[1] S-ReLU, Mathematics 14 (2026) 72.
[2] S. Hayou, A. Doucet, J. Rousseau, On the impact of the activation function on deep neural
    networks training, ICML 2019, arXiv:1902.06853; its rates need an edge of chaos.
"""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MultipleLocator, NullLocator

from meanfield.plots import style
from meanfield.plots.base import figure, study
from meanfield.plots.style import Look

SOURCE = "after Mathematics 14 (2026) 72, which refers to arXiv:1902.06853"
LABELS = {
    "x": r"$x$",
    "phi": r"$\phi(x)$",
    "slope": r"$\mathrm{d}\phi/\mathrm{d}x$",
    "curvature": r"$\mathrm{d}^2\phi/\mathrm{d}x^2$",
    "excess": r"$\phi(x)-\mathrm{ReLU}(x)$",
    "q": r"$q$",
    "needed": r"$\sigma_b^2$ that an edge needs",
    "layer": r"layer $l$",
    "variance": r"$q_l$",
    "epsilon": r"$1-c_l$",
    "exponent": r"$-\ln(1-c_l)\,/\,l^{\,2/3}$",
    "weight_variance": r"$\sigma_w^2$",
    "chi": r"$\chi_1$",
}
KERNELS = {
    "epanechnikov": Look("Epanechnikov", style.VERMILLION, "-", "o"),
    "bump": Look("bump", style.BLUE, "--", "s"),
    "gaussian": Look("Gaussian", style.GREEN, "-.", "^"),
}
NEEDED = {
    "srelu": Look("S-ReLU", style.VERMILLION, "-", "o"),
    "softplus": Look("softplus", style.BLUE, "--", "s"),
    "centred srelu": Look("S-ReLU, centred", style.ORANGE, "-.", "^"),
    "centred softplus": Look("softplus, centred", style.SKY, style.DASH_DOT_DOT, "v"),
}
# The kernels are compared at this radius, the radii with this kernel.
RADIUS, KERNEL = 1.0, "epanechnikov"
RELU: dict[str, Any] = {"color": style.GREY, "linewidth": 1.0, "zorder": 1.5}
LAW: dict[str, Any] = {"linestyle": (0, (4, 2)), "linewidth": 0.9, "zorder": 1.5}
# Below this the axis of signed numbers is linear.
LINEAR = 0.1


def _radii(dataset: xr.Dataset) -> list[tuple[float, dict[str, Any], str]]:
    """Return each radius with its curve and label."""
    sizes = [size for size in dataset["radius"].values if size > 0]
    looks = zip(sizes, style.shades(len(sizes)), style.STYLES, strict=False)
    return [
        (
            float(size),
            {"color": color, "linestyle": dashes},
            rf"$\delta={style.number(float(size))}$",
        )
        for size, color, dashes in looks
    ]


@figure(
    "srelu2026-family",
    title="Mollified ReLUs",
    needs=("kernel", "radius", "x", "phi", "slope", "curvature", "excess", "sup_error"),
    source=SOURCE,
    data=study("srelu2026", "family"),
)
def family(dataset: xr.Dataset) -> Figure:
    """Draw S-ReLUs of several radii, and ReLUs mollified by several kernels of one radius."""
    x = dataset["x"]
    fig = style.canvas(style.WIDE, 4.9)
    rows = fig.subplots(2, 3)
    relu = np.maximum(x, 0)
    rows[0, 0].plot(x, relu, **RELU, label="ReLU")
    for size, curve, label in _radii(dataset):
        phi = dataset.sel(kernel=KERNEL, radius=size)
        for ax, name in zip(rows[0], ("phi", "slope", "curvature"), strict=True):
            ax.plot(x, phi[name], **curve, label=label)
    tops = []
    for kernel in dataset["kernel"].values:
        phi, look = dataset.sel(kernel=kernel, radius=RADIUS), KERNELS[str(kernel)]
        for ax, name in zip(rows[1], ("excess", "slope", "curvature"), strict=True):
            ax.plot(x, phi[name], **look.line(), label=look.label)
        top = float(phi["sup_error"])
        label = rf"{look.label} ${top:.4f}$"
        tops += rows[1, 0].plot([0], [top], **look.line(), marker=look.marker, label=label)
    names = (("phi", "slope", "curvature"), ("excess", "slope", "curvature"))
    for row, labels in zip(rows, names, strict=True):
        for ax, name in zip(row, labels, strict=True):
            ax.set(xlabel=LABELS["x"], ylabel=LABELS[name], xlim=(x[0], x[-1]))
            ax.set_ylim(-0.04 if name == "slope" else None, None)
            ax.xaxis.set_major_locator(MultipleLocator(1))
    at = rf"$\delta={style.number(RADIUS)}$"
    titles = (
        "S-ReLU",
        "its slope",
        "its curvature",
        f"error, {at}",
        f"slope, {at}",
        f"curvature, {at}",
    )
    for ax, letter, title in zip(rows.flat, "abcdef", titles, strict=True):
        style.panel(ax, letter, title)
    rows[0, 0].legend(loc="upper left")
    # Room above the highest curve for the legend.
    rows[1, 0].set_ylim(None, 1.9 * float(dataset["sup_error"].sel(radius=RADIUS).max()))
    rows[1, 0].legend(
        handles=tops, loc="upper left", handlelength=2.8, title=r"largest, $3\delta/16$ for S-ReLU"
    )
    return fig


@figure(
    "srelu2026-edge",
    title="S-ReLU has no edge of chaos",
    needs=("activation", "q", "needed", "radius", "marked_q", "marked_bias_variance"),
    source=SOURCE,
    data=study("srelu2026", "missing_edge"),
)
def missing_edge(dataset: xr.Dataset) -> Figure:
    """Draw the bias variance that an edge needs: where it is negative there is no edge."""
    q, needed = dataset["q"], dataset["needed"]
    fig = style.canvas(style.NARROW + 0.4, 3.8)
    ax = fig.subplots()
    for name in dataset["activation"].values:
        look = NEEDED[str(name)]
        ax.plot(q, needed.sel(activation=name), **look.line(), label=look.label)
    x, y = (float(dataset[f"marked_{name}"]) for name in ("q", "bias_variance"))
    color = NEEDED["centred srelu"].color
    ax.plot([x], [y], marker="o", color=color, linestyle="", zorder=4)
    ax.annotate(
        rf"$q^{{*}}={style.number(x)},\ \sigma_b^2={y:.4f}$",
        (x, y),
        xytext=(-16, 16),
        textcoords="offset points",
        ha="right",
        fontsize=9,
        arrowprops={"arrowstyle": "->", "linewidth": 0.8, "shrinkB": 4},
    )
    ax.axhline(0, color=style.GREY, linewidth=0.8, zorder=1)
    ax.set_xscale("log")
    ax.set_yscale("asinh", linear_width=LINEAR)
    low, high = float(needed.min()), float(needed.max())
    ax.set(xlim=(q[0], q[-1]), ylim=(1.6 * low, 1.6 * high))
    ax.axhspan(1.6 * low, 0, color=style.PALE, zorder=0)
    ax.text(0.97, 0.35, "no edge of chaos", transform=ax.transAxes, ha="right", fontsize=9)
    ticks = (-10, -1, -LINEAR, 0, LINEAR, 1, 10)
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: rf"${style.number(value)}$"))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set(xlabel=LABELS["q"], ylabel=LABELS["needed"])
    ax.legend(loc="upper left")
    ax.set_title(rf"$\delta={style.number(float(dataset['radius']))}$")
    return fig


@figure(
    "srelu2026-decay",
    title="S-ReLU with the critical weights of ReLU",
    needs=("radius", "layer", "q", "epsilon", "growth", "kappa"),
    source=SOURCE,
    data=study("srelu2026", "decay"),
)
def decay(dataset: xr.Dataset) -> Figure:
    """Draw variances and correlations through layers of σw² = 2, σb = 0, and their laws."""
    layer, kappa = dataset["layer"], float(dataset["kappa"])
    fig = style.canvas(style.WIDE, 3.2)
    left, middle, right = fig.subplots(1, 3)
    relu = (0.0, {"color": style.BLACK, "linestyle": "-"}, "ReLU")
    for size, curve, label in [relu, *_radii(dataset)]:
        path = dataset.sel(radius=size)
        left.plot(layer, path["q"], **curve, label=label)
        middle.plot(layer, path["epsilon"], **curve)
        right.plot(layer, -np.log(path["epsilon"]) / layer ** (2 / 3), **curve)
        if size:
            law = path["growth"] * layer ** (2 / 3)
            left.plot(layer, law, color=curve["color"], **LAW)
    _law(middle, layer, np.exp(-kappa * layer ** (2 / 3)))
    # ReLU has 1 - c ~ (9π²/2)/l².
    power = 4.5 * np.pi**2 / layer**2
    _law(middle, layer, power.where(power < 1))
    _law(right, layer, kappa + 0 * layer)
    for ax in (left, middle, right):
        ax.set_xscale("log")
        ax.set(xlabel=LABELS["layer"], xlim=(layer[0], layer[-1]))
    left.set_yscale("log")
    middle.set_yscale("log")
    left.set(ylabel=LABELS["variance"], ylim=(0.8, None))
    middle.set(ylabel=LABELS["epsilon"], ylim=(None, 10))
    right.set(ylabel=LABELS["exponent"], ylim=(0, None))
    law = Line2D([], [], color=style.GREY, **LAW, label="laws")
    curves = left.get_lines()[:1] + left.get_lines()[1::2]
    fig.legend(handles=[*curves, law], loc="outside upper center", ncols=5)
    style.panel(left, "a", r"variance")
    style.panel(middle, "b", "correlation")
    style.panel(right, "c", "its exponent")
    return fig


def _law(ax: Axes, layer: xr.DataArray, values: Any) -> None:
    ax.plot(layer, values, color=style.GREY, **LAW)


@figure(
    "srelu2026-order",
    title="S-ReLU networks are ordered",
    needs=("delta", "weight_variance", "bias_variance", "chi"),
    source=SOURCE,
    dataset="srelu2026",
)
def order(dataset: xr.Dataset) -> Figure:
    """Draw χ1 against the weight variance, one panel a bias variance, one curve a radius."""
    weight, biases = dataset["weight_variance"], dataset["bias_variance"]
    radii = dataset.rename(delta="radius")
    fig = style.canvas(style.WIDE, 2.9)
    axes = np.atleast_1d(fig.subplots(1, biases.size, sharey=True))
    for ax, bias, letter in zip(axes, biases, "abcdef", strict=False):
        ax.plot(weight, weight / 2, **RELU, label="ReLU")
        for size, curve, label in _radii(radii):
            ax.plot(weight, radii["chi"].sel(radius=size, bias_variance=bias), **curve, label=label)
        ax.axhline(1, color=style.BLACK, linewidth=0.6, zorder=0)
        ax.set(xlabel=LABELS["weight_variance"], xlim=(weight[0], weight[-1]), ylim=(0, 1.08))
        style.panel(ax, letter, rf"$\sigma_b^2={style.number(float(bias))}$")
    axes[0].set_ylabel(LABELS["chi"])
    axes[-1].legend(loc="lower right")
    return fig
