"""The figures of Murray, Abrol and Tanner 2021, on activations that are linear near 0.

References
----------
M. Murray, V. Abrol, J. Tanner, Activation function design for deep networks: linearity and
effective initialisation, arXiv:2105.07741 (2021).
"""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MultipleLocator, NullFormatter

from meanfield.bounds import ScaledBoundedTheorem, scaled_bounded
from meanfield.errors import MeanFieldError
from meanfield.plots import style
from meanfield.plots.base import figure, study
from meanfield.plots.phase import limit_map, name_phases
from meanfield.plots.style import LABELS, look

# Figures 4 and 5 show the sweep at this bias variance.
BIAS_VARIANCE = 0.1
PHASE_COLORS = (style.BLUE, style.BLACK, style.VERMILLION)
LIMIT_LEVELS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.97, 1.0)
PRINTED = {"color": style.BLACK, "linestyle": (0, (5, 2)), "linewidth": 1.2}
SHARP = {"color": style.GREY, "linestyle": (0, (1.2, 1.2)), "linewidth": 1.4}


def _source(item: str) -> str:
    return f"{item} of arXiv:2105.07741"


@figure(
    "murray2021-1",
    title="Length and correlation maps on the edge of chaos",
    needs=(
        "activation",
        "q",
        "rho",
        "length_map",
        "length_bias_variance",
        "q_star",
        "correlation_map",
        "correlation_bias_variance",
    ),
    source=_source("Figure 1"),
    data=study("murray2021", "length_and_correlation_maps"),
)
def length_and_correlation_maps(dataset: xr.Dataset) -> Figure:
    """Draw V(q) and R(ρ) of several activations against the identity."""
    fig = style.canvas(style.WIDE, 3.2)
    left, right = fig.subplots(1, 2)
    panels = (
        (left, "q", "length_map", "length_bias_variance"),
        (right, "rho", "correlation_map", "correlation_bias_variance"),
    )
    for ax, argument, result, bias in panels:
        x, y = dataset[argument], dataset[result]
        style.identity(ax, float(x[0]), float(x[-1]))
        for name in dataset["activation"].values:
            level = float(dataset[bias].sel(activation=name))
            label = rf"{look(name).label}, $\sigma_b^2={style.number(level)}$"
            ax.plot(x, y.sel(activation=name), **look(name).line(), label=label)
        ax.set(xlabel=LABELS[argument], ylabel=LABELS[result], xlim=(x[0], x[-1]))
        ax.legend(loc="upper left")
    for name, q in zip(dataset["activation"].values, dataset["q_star"], strict=True):
        if q > 0:
            color, text = look(name).color, rf"stable $q^{{*}}={float(q):.3f}$"
            _point_out(left, float(q), text, color, offset=(0.12, -0.2))
    left.set_ylim(0, None)
    right.set_ylim(-1, 1)
    for axis in (left.xaxis, left.yaxis, right.xaxis, right.yaxis):
        axis.set_major_locator(MultipleLocator(0.5))
    style.panel(left, "a", "length map")
    style.panel(right, "b", "correlation map")
    return fig


def _point_out(ax: Axes, value: float, text: str, color: str, offset: tuple[float, float]) -> None:
    """Mark a fixed point on the identity line; name it at an offset in fractions of the axis."""
    ax.plot([value], [value], marker="o", color=color, markersize=5, zorder=5)
    low, high = ax.get_xlim()
    right, up = offset
    ax.annotate(
        text,
        xy=(value, value),
        xytext=(value + right * (high - low), value + up * (high - low)),
        arrowprops={"arrowstyle": "->", "linewidth": 0.8, "shrinkB": 4},
        fontsize=9,
        va="center",
    )


@figure(
    "murray2021-2",
    title="Order, chaos and the edge between them",
    needs=(
        "phase",
        "rho",
        "correlation_map",
        "phase_weight_variance",
        "phase_chi",
        "phase_limit",
        "weight_variance",
        "bias_variance",
        "correlation_limit",
        "activation",
        "edge_q",
        "edge_weight_variance",
        "edge_bias_variance",
    ),
    source=_source("Figure 2"),
    data=study("murray2021", "phases"),
)
def phases(dataset: xr.Dataset) -> Figure:
    """Draw the phases of hard tanh, its limiting correlations, and the edges of chaos."""
    fig = style.canvas(style.WIDE, 6.0)
    axes = fig.subplots(2, 2)
    _phase_maps(axes[0, 0], dataset)
    _limits(fig, axes[0, 1], dataset)
    _edges(axes[1, 0], axes[1, 1], dataset)
    return fig


def _phase_maps(ax: Axes, dataset: xr.Dataset) -> None:
    rho, maps = dataset["rho"], dataset["correlation_map"]
    weights, chis, limits = (
        dataset[f"phase_{name}"] for name in ("weight_variance", "chi", "limit")
    )
    style.identity(ax, float(rho[0]), float(rho[-1]), label="_identity")
    names = dataset["phase"].values
    for name, color, dashes in zip(names, PHASE_COLORS, style.STYLES, strict=False):
        weight, chi, limit = (float(values.sel(phase=name)) for values in (weights, chis, limits))
        relation = "=" if np.isclose(chi, 1, atol=1e-6) else "<" if chi < 1 else ">"
        label = rf"$\chi_1{relation}1$: $\sigma_w^2={weight:.2f}$"
        ax.plot(rho, maps.sel(phase=name), color=color, linestyle=dashes, label=label)
        if limit < 1:
            text = rf"stable $\rho^{{*}}={limit:.3f}$"
            _point_out(ax, limit, text, color, offset=(0.12, -0.2))
    ax.set(xlabel=LABELS["rho"], ylabel=LABELS["correlation_map"], xlim=(0, 1), ylim=(0, 1))
    ax.legend(loc="upper left", handlelength=1.9, labelspacing=0.25)
    style.panel(ax, "a", r"hard tanh, $\sigma_b^2=0.1$")


def _limits(fig: Figure, ax: Axes, dataset: xr.Dataset) -> None:
    weight, bias = dataset["weight_variance"], dataset["bias_variance"]
    limits = dataset["correlation_limit"]
    edge_weight = dataset["edge_weight_variance"].sel(activation="hard_tanh")
    edge_bias = dataset["edge_bias_variance"].sel(activation="hard_tanh")
    ax.set(xlim=(weight[0], weight[-1]), ylim=(bias[0], bias[-1]))
    ax.set(xlabel=LABELS["weight_variance"], ylabel=LABELS["bias_variance"])
    edge = np.stack([edge_weight.values, edge_bias.values], axis=1)
    limit_map(fig, ax, limits, edge, LIMIT_LEVELS, LABELS["correlation_limit"], exponent=2)
    ax.plot(edge_weight, edge_bias, color=style.BLACK, linewidth=1.8, zorder=3)
    name_phases(ax, "ordered\n" + r"$\rho^{*}=1$", "chaotic\n" + r"$\rho^{*}<1$")
    style.panel(ax, "b", r"limiting correlation, hard tanh")


def _edges(left: Axes, right: Axes, dataset: xr.Dataset) -> None:
    q = dataset["edge_q"]
    for name in dataset["activation"].values:
        weight = dataset["edge_weight_variance"].sel(activation=name)
        bias = dataset["edge_bias_variance"].sel(activation=name)
        left.plot(weight, bias, **look(name).line(), label=look(name).label)
        right.plot(bias, q, **look(name).line(), label=look(name).label)
    name_phases(left, "ordered" + "\n" + r"$\chi_1<1$", "chaotic\n" + r"$\chi_1>1$")
    left.set(xlabel=LABELS["weight_variance"], ylabel=LABELS["bias_variance"])
    left.set(xlim=(0, 3), ylim=(0, 0.25))
    right.set(xlabel=LABELS["bias_variance"], ylabel=LABELS["q_star"])
    right.set(xlim=(0, 1), ylim=(0, float(q[-1])))
    left.legend(loc="upper left")
    right.legend(loc="upper right")
    style.panel(left, "c", "edges of chaos")
    style.panel(right, "d", "variance on the edge of chaos")


@figure(
    "murray2021-3",
    title="Scaled-bounded activations",
    needs=("activation", "a", "x", "phi"),
    source=_source("Figure 3"),
    data=study("murray2021", "scaled_bounded_activations"),
)
def scaled_bounded_activations(dataset: xr.Dataset) -> Figure:
    """Draw each family of activations as its linear region grows, one panel a family."""
    x, a, phi = (dataset[name] for name in ("x", "a", "phi"))
    names = dataset["activation"].values
    columns = min(len(names), 2)
    rows = -(-len(names) // columns)
    fig = style.canvas(style.WIDE, 0.5 + 2.2 * rows)
    axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, name, letter in zip(axes.flat, names, "abcdefgh", strict=False):
        for size, color, dashes in zip(a, style.shades(a.size), style.STYLES, strict=False):
            curve = phi.sel(activation=name, a=size)
            label = rf"$a={style.number(float(size))}$"
            ax.plot(x, curve, color=color, linestyle=dashes, label=label)
        ax.axhline(0, color=style.GREY, linewidth=0.6, zorder=0)
        ax.axvline(0, color=style.GREY, linewidth=0.6, zorder=0)
        ax.set(xlim=(x[0], x[-1]), xlabel=LABELS["x"], ylabel=LABELS["phi"])
        ax.label_outer()
        style.panel(ax, letter, look(name).label)
    axes.flat[0].legend(loc="upper left")
    return fig


def _at_bias_variance(dataset: xr.Dataset) -> xr.Dataset:
    """Return the sweep at the bias variance of the paper's figures."""
    biases = dataset["bias_variance"].values
    near = np.isclose(biases, BIAS_VARIANCE, rtol=1e-6)
    if not near.any():
        raise MeanFieldError(
            f"the dataset has no bias_variance = {BIAS_VARIANCE}; "
            f"it has {np.array2string(biases, precision=3)}"
        )
    return dataset.isel(bias_variance=int(near.argmax()))


def _theorem(a: np.ndarray) -> ScaledBoundedTheorem:
    return scaled_bounded(BIAS_VARIANCE / a**2)


def _families(ax: Axes, dataset: xr.Dataset, values: xr.DataArray) -> None:
    """Draw one curve per activation against a."""
    a = dataset["a"]
    for name in dataset["activation"].values:
        ax.plot(a, values.sel(activation=name), **look(name).points(), label=look(name).label)
    margin = 0.03 * float(a[-1] - a[0])
    ax.set(xlabel=LABELS["a"], xlim=(a[0] - margin, a[-1] + margin))
    ax.xaxis.set_major_locator(MultipleLocator(1))


@figure(
    "murray2021-4",
    title="Linear region of critical networks, in standard deviations",
    needs=("activation", "a", "bias_variance", "linear_width"),
    source=_source("Figure 4"),
    dataset="murray2021",
)
def linear_width(dataset: xr.Dataset) -> Figure:
    """Draw a/√q* of the four families against a, between the bounds of Lemma 3.4."""
    sweep = _at_bias_variance(dataset)
    a = sweep["a"]
    fine = np.linspace(float(a[0]), float(a[-1]), 181)
    theorem = _theorem(fine)
    fig = style.canvas(style.NARROW + 0.6, 3.6)
    ax = fig.subplots()
    _families(ax, sweep, sweep["linear_width"])
    ax.plot(fine, theorem.ratio_upper, **PRINTED, label="bounds of Lemma 3.4")
    ax.plot(fine, theorem.ratio_lower, **PRINTED)
    ax.plot(fine, theorem.sharp_ratio_upper, **SHARP, label="sharp bounds")
    ax.plot(fine, theorem.sharp_ratio_lower, **SHARP)
    ax.set_yscale("log")
    ax.set_ylabel(LABELS["linear_width"])
    # Room above the highest bound for the legend.
    ax.set_ylim(None, 2.5 * float(theorem.ratio_upper[-1]))
    ax.yaxis.set_major_locator(FixedLocator([0.5, 1, 2, 3, 5, 10, 20, 50]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: style.number(value)))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.legend(loc="upper left", ncols=2)
    ax.set_title(r"$\sigma_b^2=0.1$")
    return fig


@figure(
    "murray2021-5",
    title="Distance from the identity, and spread of the Jacobian's spectrum",
    needs=("activation", "a", "bias_variance", "max_deviation", "moment_ratio"),
    source=_source("Figure 5"),
    dataset="murray2021",
)
def deviations(dataset: xr.Dataset) -> Figure:
    """Draw what Theorem 2.1 bounds against a, with its bounds (15) and (16)."""
    sweep = _at_bias_variance(dataset)
    a = sweep["a"]
    fine = np.linspace(float(a[0]), float(a[-1]), 181)
    theorem = _theorem(fine)
    fig = style.canvas(style.WIDE, 3.6)
    left, right = fig.subplots(1, 2)
    excess = sweep["moment_ratio"] - 1
    panels = (
        (left, sweep["max_deviation"], theorem.correlation, theorem.sharp_correlation),
        (right, excess.where(excess > 0), theorem.moment_ratio, theorem.sharp_moment_ratio),
    )
    names = ("max_deviation", "moment_ratio")
    for (ax, values, printed, sharp), name, equation in zip(panels, names, (15, 16), strict=True):
        _families(ax, sweep, values)
        bounds = [
            *ax.plot(fine, printed, **PRINTED, label=f"bound ({equation})"),
            *ax.plot(fine, sharp, **SHARP, label="sharp bound"),
        ]
        ax.set_yscale("log")
        ax.set_ylabel(LABELS[name])
        ax.legend(handles=bounds, loc="lower left")
    style.panel(left, "a", r"correlation map, $\sigma_b^2=0.1$")
    style.panel(right, "b", r"Jacobian, $\sigma_b^2=0.1$")
    curves = left.get_lines()[:-2]
    fig.legend(handles=curves, loc="outside upper center", ncols=len(curves))
    return fig


@figure(
    "murray2021-6",
    title="Correlation maps approach the identity as the linear region grows",
    needs=("a", "x", "rho", "phi", "correlation_map", "q_star", "bias_variance"),
    source=_source("Figure 6"),
    data=study("murray2021", "linear_region_and_correlation"),
)
def linear_region_and_correlation(dataset: xr.Dataset) -> Figure:
    """Draw shtanh, its correlation map and the map's distance from the identity."""
    a, x, rho = (dataset[name] for name in ("a", "x", "rho"))
    phi, maps = dataset["phi"], dataset["correlation_map"]
    largest = 2 * dataset["bias_variance"] / dataset["q_star"]
    fig = style.canvas(style.WIDE, 2.9)
    left, middle, right = fig.subplots(1, 3)
    style.identity(middle, float(rho[0]), float(rho[-1]))
    for size, color, dashes in zip(a, style.shades(a.size), style.STYLES, strict=False):
        curve = {"color": color, "linestyle": dashes}
        label = rf"$a={style.number(float(size))}$"
        left.plot(x, phi.sel(a=size), **curve, label=label)
        middle.plot(rho, maps.sel(a=size), **curve, label=label)
        right.plot(rho, maps.sel(a=size) - rho, **curve, label=label)
        right.plot([-1], [largest.sel(a=size)], color=color, marker="o", clip_on=False, zorder=5)
    left.set(xlabel=LABELS["x"], ylabel=LABELS["phi"], xlim=(x[0], x[-1]))
    left.xaxis.set_major_locator(MultipleLocator(4))
    for axis in (middle.xaxis, middle.yaxis, right.xaxis):
        axis.set_major_locator(MultipleLocator(0.5))
    middle.set(xlabel=LABELS["rho"], ylabel=LABELS["correlation_map"], xlim=(-1, 1), ylim=(-1, 1))
    right.set(xlabel=LABELS["rho"], ylabel=LABELS["deviation"], xlim=(-1, 1), ylim=(0, None))
    left.legend(loc="upper left")
    mark = Line2D([], [], color=style.GREY, marker="o", linestyle="", label=r"$2\sigma_b^2/q^{*}$")
    right.legend(handles=[mark], loc="upper right")
    style.panel(left, "a", "Shtanh")
    style.panel(middle, "b", "correlation map")
    style.panel(right, "c", "distance from identity")
    return fig


@figure(
    "murray2021-9",
    title="Construction of the lower bound on the linear region",
    needs=("x", "g", "h", "tangent", "y", "delta", "beta", "nu"),
    source=_source("Figure 9"),
    data=study("murray2021", "lower_bound_construction"),
)
def lower_bound_construction(dataset: xr.Dataset) -> Figure:
    """Draw g, h and the tangent whose height at 0 gives the bound ν."""
    x, g, h, tangent = (dataset[name] for name in ("x", "g", "h", "tangent"))
    y, delta, beta, nu = (float(dataset[name]) for name in ("y", "delta", "beta", "nu"))
    fig = style.canvas(style.NARROW + 0.4, 3.5)
    ax = fig.subplots()
    ax.plot(x, g, color=style.GREEN, label=r"$g(x)=\sqrt{2/\pi}\,e^{-x^2/2}/x$")
    ax.plot(x, h, color=style.BLUE, linestyle="-.", label=r"$h(x)=y+\mathrm{erfc}(x/\sqrt{2})$")
    ax.plot(
        x, tangent, color=style.BLACK, linewidth=1.1, label=r"tangent $u(x)$ of $g$ at $\Delta$"
    )
    ax.axhline(beta, color=style.BROWN, linestyle="--", linewidth=1.1)
    ax.axhline(y, color=style.GREY, linestyle="--", linewidth=1.1)
    ax.plot([nu, nu], [0, beta], color=style.VERMILLION, linestyle=":", linewidth=1.6)
    ax.plot([delta, delta], [0, y], color=style.BLACK, linestyle=":", linewidth=1.1)
    ax.plot([nu, delta], [beta, y], linestyle="", marker="o", color=style.BLACK, markersize=4)
    right = float(x[-1])
    ax.text(right - 0.04, beta + 0.03, rf"$\beta={beta:.3f}$", ha="right", color=style.BROWN)
    ax.text(right - 0.04, y - 0.09, rf"$y={y:.2f}$", ha="right", color=style.GREY)
    ax.text(nu - 0.04, 0.04, rf"$\nu=\Lambda(y)={nu:.3f}$", ha="right", color=style.VERMILLION)
    ax.text(delta - 0.04, 0.04, rf"$\Delta={delta:.3f}$", ha="right")
    for text in ax.texts:
        text.set_fontsize(9)
    ax.set(xlabel=r"$x=a\,/\,(q^{*})^{1/2}$", ylabel=r"$g,\ h,\ u$", xlim=(0, right), ylim=(0, 2))
    ax.legend(loc="upper right")
    return fig


@figure(
    "murray2021-depth",
    title="Correlation through the layers of critical networks",
    needs=("activation", "q", "initial_correlation", "layer", "correlation"),
    source=_source("Appendix B.6"),
    data=study("murray2021", "correlation_by_depth"),
)
def correlation_by_depth(dataset: xr.Dataset) -> Figure:
    """Draw ρ against depth: one row per activation, one column per variance."""
    layer, q = dataset["layer"], dataset["q"]
    starts = dataset["initial_correlation"]
    correlation = dataset["correlation"]
    names = dataset["activation"].values
    fig = style.canvas(style.WIDE, 0.6 + 1.1 * len(names))
    axes = fig.subplots(len(names), q.size, sharex=True, sharey=True, squeeze=False)
    markers = ("o", "^", "s", "D")
    for row, name in zip(axes, names, strict=True):
        for ax, variance in zip(row, q, strict=True):
            for start, marker in zip(starts, markers, strict=False):
                path = correlation.sel(activation=name, q=variance, initial_correlation=start)
                ax.plot(
                    layer,
                    path,
                    color=look(name).color,
                    marker=marker,
                    markevery=5,
                    markersize=3.5,
                    markerfacecolor="white",
                    linewidth=1.1,
                )
            ax.axhline(1, color=style.GREY, linewidth=0.6, zorder=0)
        row[0].set_ylabel(LABELS["correlation"])
        row[-1].annotate(
            look(name).label,
            xy=(1.06, 0.5),
            xycoords="axes fraction",
            rotation=-90,
            va="center",
            annotation_clip=False,
        )
    for ax, variance in zip(axes[0], q, strict=True):
        ax.set_title(rf"$q^{{*}}={style.number(float(variance))}$", loc="center")
    for ax in axes[-1]:
        ax.set_xlabel(LABELS["layer"])
        ax.xaxis.set_major_locator(MultipleLocator(10))
    axes[0, 0].set(xlim=(layer[0] - 1, layer[-1] + 1), ylim=(-0.04, 1.08))
    handles = [
        Line2D(
            [],
            [],
            color=style.BLACK,
            marker=marker,
            markerfacecolor="white",
            linewidth=1.1,
            markersize=3.5,
            label=rf"$\rho^{{(0)}}={style.number(float(start))}$",
        )
        for start, marker in zip(starts, markers, strict=False)
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return fig
