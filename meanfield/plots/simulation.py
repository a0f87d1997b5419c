"""Random networks beside the theory: signals, gradients and Jacobian moments by layer.

Drawn from what `meanfield.studies.simulation.simulation_data` returns: lines are the theory of
infinite widths, points the means over networks with their standard errors.

References
----------
[1] S. Schoenholz et al., Deep information propagation, ICLR 2017, arXiv:1611.01232.
[2] J. Pennington, S. Schoenholz, S. Ganguli, The emergence of spectral universality in deep
    networks, AISTATS 2018, arXiv:1802.09979.
"""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from meanfield.plots import style
from meanfield.plots.base import require_variables

NEEDS = ("theory", "mean", "error", "z", "quantity", "layer", "width")
# Symbol, colour, marker, and how far beside its layer a point stands, in parts of their distance.
LOOKS = {
    "q1": (r"$q_1$", style.BLUE, "o", -0.12),
    "q2": (r"$q_2$", style.ORANGE, "s", 0.12),
    "c": (r"$c$", style.GREEN, "D", 0.0),
    "gradient": (r"$|\delta|^2$", style.VERMILLION, "^", 0.0),
    "m1": (r"$m_1$", style.NAVY, "v", -0.12),
    "m2": (r"$m_2$", style.PURPLE, "P", 0.12),
}
PANELS = (
    ("variances", r"$|h^{\,l}|^2/N_l$", ("q1", "q2")),
    ("correlation", r"$c^{\,l}$", ("c",)),
    ("gradients", r"$|\delta^{\,l}|^2$", ("gradient",)),
    ("Jacobian moments", r"$\mathrm{tr}(JJ^T)^k/N_l$", ("m1", "m2")),
)
# A quantity that varies by more than this factor is drawn on a logarithmic axis.
DECADE = 10.0
# More points than this in a panel run into one another.
POINTS = 20
# A z-score beyond this is not chance.
STANDARD_ERRORS = 4.0


def draw_simulation(dataset: xr.Dataset) -> Figure:
    """Return the drawing of random networks beside the theory.

    Raises `MeanFieldError` for a dataset that lacks what it shows.
    """
    require_variables(dataset, NEEDS, "a simulation")
    with style.house():
        return _draw(dataset)


def _draw(dataset: xr.Dataset) -> Figure:
    fig = style.canvas(style.WIDE, 4.6)
    known = set(dataset["quantity"].values.tolist())
    panels = [panel for panel in PANELS if known & set(panel[2])]
    *axes, last = fig.subplots(2, 3).flat
    for ax, letter, (title, label, names) in zip(axes, "abcd", panels, strict=False):
        style.panel(ax, letter, title)
        ax.set(ylabel=label)
        shown = [name for name in names if name in known]
        for name in shown:
            _compare(ax, dataset.sel(quantity=name), name)
        values = dataset["theory"].sel(quantity=shown).values
        values = values[np.isfinite(values)]
        if values.size and 0 < DECADE * values.min() < values.max():
            ax.set_yscale("log")
    scores = axes[len(panels)]
    style.panel(scores, "abcde"[len(panels)], "deviations")
    _scores(scores, dataset)
    for ax in axes[: len(panels) + 1]:
        ends = dataset["layer"].values[[0, -1]]
        margin = 0.06 * np.ptp(ends)
        ax.set(xlabel=style.LABELS["layer"], xlim=(ends[0] - margin, ends[1] + margin))
        ax.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    for ax in (*axes[len(panels) + 1 :], last):
        ax.set_axis_off()
    _legend(last, [name for name in LOOKS if name in known])
    fig.suptitle(_title(dataset))
    return fig


def _title(dataset: xr.Dataset) -> str:
    low, high = (int(end(dataset["width"])) for end in (np.min, np.max))
    width = f"width {low}" if low == high else f"widths {low} to {high}"
    name = dataset.attrs.get("activation", "")
    return f"{name + ': ' if name else ''}{dataset.attrs['networks']} random networks of {width}"


def _points(dataset: xr.Dataset, name: str) -> tuple[np.ndarray, xr.Dataset, dict[str, Any]]:
    """Return places, values and looks of the points of a quantity, thinned out where many."""
    _, colour, marker, beside = LOOKS[name]
    every = -(-dataset.sizes["layer"] // POINTS)
    thin = dataset.isel(layer=slice(None, None, every))
    look = {"color": colour, "marker": marker, "linestyle": "", "markerfacecolor": "white"}
    return thin["layer"].values + beside * every, thin, look


def _compare(ax: Axes, dataset: xr.Dataset, name: str) -> None:
    ax.plot(dataset["layer"], dataset["theory"], color=LOOKS[name][1], linewidth=1.2)
    places, thin, look = _points(dataset, name)
    ax.errorbar(places, thin["mean"], thin["error"], **look, capsize=1.5, elinewidth=0.9)


def _scores(ax: Axes, dataset: xr.Dataset) -> None:
    ax.axhspan(-STANDARD_ERRORS, STANDARD_ERRORS, color=style.PALE, linewidth=0, zorder=0)
    ax.axhline(0.0, color=style.GREY, linewidth=0.8, zorder=1)
    for name in (name for name in LOOKS if name in dataset["quantity"].values):
        places, thin, look = _points(dataset.sel(quantity=name), name)
        ax.plot(places, thin["z"], **look)
    scores = np.abs(dataset["z"].values)
    reach = 1.25 * max(STANDARD_ERRORS, scores[np.isfinite(scores)].max(initial=0.0))
    ax.set(ylabel=r"$z$", ylim=(-reach, reach))


def _legend(ax: Axes, names: list[str]) -> None:
    for name in names:
        symbol, colour, marker, _ = LOOKS[name]
        ax.plot([], [], color=colour, marker=marker, markerfacecolor="white", label=symbol)
    ax.legend(loc="center", title="lines: theory\npoints: mean and its\nstandard error")
