"""The phase diagram of any activation: order, chaos, the edge between them, and depth scales.

Drawn from what `meanfield.phase.phase_diagram` and `with_edge` return. The edge is solid where V
attracts and dashed where it repels; where there is no finite variance, hatching says why.

References
----------
[1] S. Schoenholz et al., Deep information propagation, ICLR 2017, arXiv:1611.01232.
"""

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from meanfield.errors import MeanFieldError, Status
from meanfield.plots import style
from meanfield.plots.phase import CHI_RATIO, CHI_TICKS, label_contours

NEEDS = ("chi", "xi_c", "status", "edge_sigma_w", "edge_sigma_b", "edge_slope")
DEPTHS = (3, 10, 30)
# V' further above 1 than this is drawn as unstable.
STEADY = 1e-9
# What is said of points without an answer, the colour of their region, and its hatching.
REGIONS = {
    Status.DIVERGES: ("variance diverges from $q_0={q0:g}$", style.PALE, "///"),
    Status.NONFINITE: ("variance overflows", style.PALE, "xxx"),
    Status.VANISHES: ("variance vanishes", style.GREY, ""),
    Status.NOT_CONVERGED: ("not resolved", "white", "..."),
}
HATCH = "#A8A8A8"


def draw_diagram(dataset: xr.Dataset) -> Figure:
    """Return the drawing of a phase diagram with its edge.

    Raises `MeanFieldError` for a dataset that lacks what it shows.
    """
    missing = [name for name in NEEDS if name not in dataset]
    if missing:
        raise MeanFieldError(f"a phase diagram shows {', '.join(missing)}, which the dataset lacks")
    if min(dataset["sigma_w"].size, dataset["sigma_b"].size) < 2:
        raise MeanFieldError("a phase diagram needs at least two values of sigma_w and of sigma_b")
    with style.house():
        return _draw(dataset)


def _draw(dataset: xr.Dataset) -> Figure:
    fig = style.canvas(style.NARROW + 0.8, 3.8)
    ax = fig.subplots()
    sigma_w, sigma_b = dataset["sigma_w"], dataset["sigma_b"]
    whole = dataset.attrs.get("keep", 1.0) == 1
    ax.set(xlim=(sigma_w[0], sigma_w[-1]), ylim=(sigma_b[0], sigma_b[-1]))
    ax.set(xlabel=r"$\sigma_w$", ylabel=r"$\sigma_b$")
    chi = dataset["chi"].transpose("sigma_b", "sigma_w")
    if np.isfinite(chi).any():
        _colour(fig, ax, chi, r"   (order $<1<$ chaos)" if whole else "")
    # The rate 1/ξ passes through 0 on the edge, where ξ itself is infinite. With dropout it is not.
    rate = (np.sign(chi - 1) if whole else 1.0) / dataset["xi_c"].transpose("sigma_b", "sigma_w")
    levels = [-1 / d for d in DEPTHS] + [1 / d for d in DEPTHS[::-1]]
    if (rate > levels[0]).any() and (rate < levels[-1]).any():
        line = {"colors": "dimgray", "linewidths": 0.7, "linestyles": "-"}
        lines = ax.contour(sigma_w, sigma_b, rate, levels=levels, **line)
        label_contours(ax, lines, {level: f"{abs(1 / level):g}" for level in lines.levels})
        ax.plot([], [], color="dimgray", linewidth=0.7, label=r"depth scale $\xi_c$")
    regions = _hatch_unsolved(ax, dataset)
    _draw_edge(ax, dataset)
    name = dataset.attrs.get("activation", "")
    title = f"phase diagram of {name}" if name else "phase diagram"
    ax.set_title(title if whole else f"{title}, dropout keeps {dataset.attrs['keep']:g}")
    handles = [*ax.get_legend_handles_labels()[0], *regions]
    if handles:
        fig.legend(handles=handles, loc="outside lower center", ncols=3, columnspacing=1.0)
    return fig


def _colour(fig: Figure, ax: Axes, chi: xr.DataArray, sides: str) -> None:
    steps = np.log(chi.where(chi > 0)) / np.log(CHI_RATIO)
    low, high = int(np.floor(steps.min())), int(np.ceil(steps.max()))
    # Equal steps on both sides of 1; what is far below counts as the last of them.
    reach = int(np.clip(max(-low, high), 1, 15))
    levels = CHI_RATIO ** np.arange(-reach, reach + 1.0)
    cmap = mpl.colormaps["RdBu_r"].resampled(2 * reach)
    norm = BoundaryNorm(levels, 2 * reach)
    # Cells show points whose neighbours have no answer; between known points colours are smooth.
    grid, colours = (chi["sigma_w"], chi["sigma_b"], chi), {"cmap": cmap, "norm": norm}
    filled = ax.pcolormesh(*grid, shading="nearest", **colours)
    ax.contourf(*grid, levels=levels, extend="both", **colours)
    ticks = [tick for tick in CHI_TICKS if levels[0] <= tick <= levels[-1]]
    bar = fig.colorbar(filled, ax=ax, ticks=ticks, label=rf"$\chi_1${sides}", extend="both")
    bar.ax.set_yticklabels([style.number(tick) for tick in ticks])
    bar.minorticks_off()


def _hatch_unsolved(ax: Axes, dataset: xr.Dataset) -> list[Patch]:
    """Hatch where there is no answer, half-way to the nearest one, and return the legend's part."""
    status = dataset["status"].transpose("sigma_b", "sigma_w")
    patches = []
    for code, (label, colour, hatch) in REGIONS.items():
        there = (status == code).values.astype(float)
        if there.any():
            region = ax.contourf(
                status["sigma_w"],
                status["sigma_b"],
                there,
                levels=[0.5, 1.5],
                colors=[colour],
                hatches=[hatch],
            )
            region.set(edgecolor=HATCH, linewidth=0)
            shown = label.format(q0=dataset.attrs.get("q0", 1.0))
            patches.append(Patch(facecolor=colour, edgecolor=HATCH, hatch=hatch, label=shown))
    return patches


def _draw_edge(ax: Axes, dataset: xr.Dataset) -> None:
    sigma_w, sigma_b = (dataset[name].values for name in ("edge_sigma_w", "edge_sigma_b"))
    whole = dataset.attrs.get("keep", 1.0) == 1
    exists = np.isfinite(sigma_w)
    unstable = exists & (dataset["edge_slope"].values > 1 + STEADY)
    edge = {"color": style.BLACK, "linewidth": 2.0, "zorder": 5, "clip_on": True}
    if exists.any() and np.ptp(sigma_b[exists]) == 0 and np.ptp(sigma_w[exists]) < 1e-9:
        point = {**edge, "clip_on": False, "marker": "o", "linestyle": ""}
        ax.plot(sigma_w[exists][:1], sigma_b[exists][:1], **point, label="edge of chaos: one point")
        return
    for there, linestyle, label in (
        (exists & ~unstable, "-", "edge of chaos" if whole else r"$\chi_1=1$"),
        (unstable, (0, (2.5, 1.5)), "edge of chaos, unstable"),
    ):
        if there.any():
            # A stretch runs on to its neighbour, so that no gap is seen between the two.
            joined = there | (exists & (np.roll(there, 1) & ~np.eye(1, there.size, 0, bool)[0]))
            line = np.where(joined, sigma_w, np.nan), np.where(joined, sigma_b, np.nan)
            ax.plot(*line, linestyle=linestyle, label=label, **edge)
