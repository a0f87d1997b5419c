"""Phase diagrams over weight and bias variance.

References
----------
[1] B. Poole et al., Exponential expressivity in deep neural networks through transient
    chaos, NeurIPS 2016, arXiv:1606.05340.
[2] S. Schoenholz et al., Deep information propagation, ICLR 2017, arXiv:1611.01232.
"""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.tri import Triangulation

from meanfield.errors import Status
from meanfield.plots import style
from meanfield.plots.base import figure
from meanfield.plots.style import LABELS

LIMIT_LEVELS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0)
# χ1 is coloured in steps of this ratio, the same on both sides of 1.
CHI_RATIO = 1.1
# A label is put at the first of these parts of its line that is so far from the other labels, and
# so far from the sides, as fractions of the panel.
PLACES, APART, INSIDE = (0.5, 0.35, 0.65, 0.2, 0.8, 0.1, 0.9), 0.09, 0.04
CHI_TICKS = (0.2, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0)


def limit_map(
    fig: Figure,
    ax: Axes,
    limits: xr.DataArray,
    edge: np.ndarray,
    levels: Sequence[float],
    label: str,
    exponent: int = 1,
) -> None:
    """Draw limiting correlations c* over weight and bias variance, with labelled contours.

    `edge` holds the points (weight variance, bias variance) of the edge of chaos, where c* leaves
    1: contours are drawn through the chaotic grid points and these, for a grid alone would blur
    the corner. Beyond it 1 - c* grows as the distance to the power `exponent`: 1 for
    a smooth activation, 2 for one with kinks. The axes' limits must be set.
    """

    def stretch(c: np.ndarray) -> np.ndarray:
        return 1 - (1 - np.clip(c, 0, 1)) ** (1 / exponent)

    points = limits.stack(point=("weight_variance", "bias_variance"))
    chaotic = points[(points < 1).values]
    weight = np.concatenate([chaotic["weight_variance"].values, edge[:, 0]])
    bias = np.concatenate([chaotic["bias_variance"].values, edge[:, 1]])
    height = np.concatenate([stretch(chaotic.values), np.ones(len(edge))])
    # Nearest neighbours are meant as seen on the page, not in the units of the axes.
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    mesh = Triangulation((weight - left) / (right - left), (bias - bottom) / (top - bottom))
    mesh = Triangulation(weight, bias, mesh.triangles)

    steps = len(levels) - 1
    cmap = ListedColormap(mpl.colormaps["Blues_r"](np.linspace(0.35, 0.95, steps)))
    heights = stretch(np.asarray(levels))
    norm = BoundaryNorm(heights, steps)
    filled = ax.tricontourf(mesh, height, levels=heights, cmap=cmap, norm=norm)
    inner = ax.tricontour(mesh, height, levels=heights[1:-1], colors="black", linewidths=0.6)
    names = dict(zip(heights[1:-1], map(style.number, levels[1:-1]), strict=True))
    label_contours(ax, inner, names)
    bar = fig.colorbar(filled, ax=ax, ticks=heights, label=label)
    bar.ax.set_yticklabels([style.number(level) for level in levels])

    # The ordered side is whatever lies to the left of the edge, and above it.
    order = np.argsort(edge[:, 1])
    ax.fill_betweenx(edge[order, 1], left, edge[order, 0], color=style.PALE, zorder=2.5)
    ax.set_facecolor(style.PALE)


def label_contours(ax: Axes, contours: ContourSet, names: Mapping[float, str]) -> None:
    """Label each contour line near the middle of what the panel shows of it.

    Labels keep clear of each other; a line that leaves no room for one has none.
    """
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    size = np.array([right - left, top - bottom])
    chosen: list[np.ndarray] = []
    for path in contours.get_paths():
        points = np.asarray(path.vertices)
        parts = (points - (left, bottom)) / size
        points = points[((parts > INSIDE) & (parts < 1 - INSIDE)).all(axis=1)]
        for part in PLACES if len(points) else ():
            place = points[int(part * len(points))]
            if all(np.hypot(*((place - other) / size)) > APART for other in chosen):
                chosen.append(place)
                break
    places = [(float(x), float(y)) for x, y in chosen]
    labels = ax.clabel(contours, fmt=dict(names), fontsize=8, manual=places, zorder=6)
    for label in labels or ():
        label.set_path_effects([withStroke(linewidth=1.5, foreground="white")])


def name_phases(ax: Axes, ordered: str, chaotic: str, height: float = 0.82) -> None:
    """Write the names of the phases, the chaotic one at a fraction `height` of the right side."""
    for x, y, text in ((0.12, 0.6, ordered), (0.905, height, chaotic)):
        ax.text(x, y, text, transform=ax.transAxes, ha="center", va="center", fontsize=9, zorder=4)


@figure(
    "tanh-phase",
    title="Phase diagram of tanh",
    source="after Figure 1 of arXiv:1606.05340 and Figure 1 of arXiv:1611.01232",
    needs=("weight_variance", "bias_variance", "correlation_limit", "chi", "q", "status"),
    dataset="tanh_phase",
)
def phase_diagram(dataset: xr.Dataset) -> Figure:
    """Draw the limiting correlation, χ1 and q* over weight and bias variance.

    Points that were not solved are crossed out.
    """
    weight, bias = dataset["weight_variance"], dataset["bias_variance"]
    limits, chi, q = (
        dataset[name].transpose("bias_variance", "weight_variance")
        for name in ("correlation_limit", "chi", "q")
    )
    # Without biases the variance vanishes up to a weight variance where χ1 = 1, and the sweep has
    # no number there. At q* = 0, χ1 = σw² φ'(0)² is proportional to it.
    vanishes = dataset["status"] == Status.VANISHES
    ends = weight.where(vanishes.any("bias_variance")).max()
    q, chi = q.where(~vanishes, 0.0), chi.where(~vanishes, weight / ends)
    fig = style.canvas(style.WIDE, 3.2)
    left, right = fig.subplots(1, 2, sharey=True)
    for ax in (left, right):
        ax.set(xlabel=LABELS["weight_variance"], xlim=(weight[0], weight[-1]))
        ax.set(ylim=(bias[0], bias[-1]))
        _cross_out_unsolved(ax, dataset)
    left.set_ylabel(LABELS["bias_variance"])

    edge = np.empty((0, 2))
    if chi.min() < 1 < chi.max():
        for ax in (left, right):
            line = ax.contour(weight, bias, chi, levels=[1], colors="black", linewidths=1.8)
            line.set_zorder(3)
            edge = np.concatenate([np.asarray(path.vertices) for path in line.get_paths()])
    limit_map(fig, left, limits, edge, LIMIT_LEVELS, r"$c^{*}$")
    name_phases(left, "ordered\n" + r"$c^{*}=1$", "chaotic\n" + r"$c^{*}<1$", height=0.73)
    style.panel(left, "a", "limiting correlation")

    steps = np.log(chi.where(chi > 0)) / np.log(CHI_RATIO)
    low, high = int(np.floor(steps.min())), int(np.ceil(steps.max()))
    reach = max(-low, high, 1)
    norm = BoundaryNorm(CHI_RATIO ** np.arange(-reach, reach + 1.0), 2 * reach)
    cmap = mpl.colormaps["RdBu_r"].resampled(2 * reach)
    levels = CHI_RATIO ** np.arange(low, max(high, low + 1) + 1.0)
    filled = right.contourf(weight, bias, chi, levels=levels, cmap=cmap, norm=norm)
    ticks = [tick for tick in CHI_TICKS if levels[0] <= tick <= levels[-1]]
    bar = fig.colorbar(filled, ax=right, ticks=ticks, label=LABELS["chi"])
    bar.ax.set_yticklabels([style.number(tick) for tick in ticks])
    bar.minorticks_off()
    lines = right.contour(weight, bias, q, colors="black", linewidths=0.5, linestyles="--")
    label_contours(right, lines, {level: style.number(level) for level in lines.levels})
    style.panel(right, "b", r"$\chi_1$, and $q^{*}$ (dashed)")
    return fig


def _cross_out_unsolved(ax: Axes, dataset: xr.Dataset) -> None:
    status = dataset["status"].stack(point=("weight_variance", "bias_variance"))
    unsolved = status[~status.isin([Status.OK, Status.VANISHES]).values]
    where = unsolved["weight_variance"], unsolved["bias_variance"]
    ax.plot(*where, linestyle="", marker="x", color=style.VERMILLION, zorder=4)
