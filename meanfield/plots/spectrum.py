"""The singular values of a Jacobian: their density, that of their logarithms, their distribution.

Drawn from what `meanfield.studies.spectrum.spectrum_data` returns. Atoms are stems whose height is
their mass, on the axis to the right.
"""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from meanfield.plots import style
from meanfield.plots.base import require_variables

NEEDS = ("log_s", "log_density", "distribution", "atom_log_s", "atom_mass")
# Densities may grow without bound at the ends: axes fit what is this far inside.
INSIDE = 0.03
MARGIN = 1.06
# Where log s is beyond this, s is shown in units of its largest value.
BOUND = 100.0


def draw_spectrum(dataset: xr.Dataset) -> Figure:
    """Return the drawing of a spectrum.

    Raises `MeanFieldError` for a dataset that lacks what it shows.
    """
    require_variables(dataset, NEEDS, "a spectrum")
    with style.house():
        return _draw(dataset)


def _draw(dataset: xr.Dataset) -> Figure:
    fig = style.canvas(style.WIDE, 2.9)
    axes = fig.subplots(1, 3)
    dataset, unit = _in_range(dataset)
    log_s, log_density = dataset["log_s"].values, dataset["log_density"].values
    places, masses = dataset["atom_log_s"].values, dataset["atom_mass"].values
    s = np.exp(log_s)
    titles = ("singular values", "logarithms", "distribution")
    for ax, letter, title in zip(axes, "abc", titles, strict=True):
        style.panel(ax, letter, title)
    reach = MARGIN * np.exp(np.max([*log_s, *places], initial=0.0))
    _curve(axes[0], s, log_density / s, s > INSIDE * reach)
    axes[0].set(xlabel=rf"$s{unit}$", ylabel=rf"$\rho(s{unit})$", xlim=(-0.02 * reach, reach))
    if places.size:
        style.stems(style.atom_axis(axes[0]), np.exp(places), masses, style.VERMILLION)
    step = np.linspace(0, 1, log_s.size)
    _curve(axes[1], log_s, log_density, (step > INSIDE) & (step < 1 - INSIDE))
    log_name = rf"\log\,(s{unit})" if unit else r"\log\,s"
    axes[1].set(xlabel=f"${log_name}$", ylabel=rf"$\rho({log_name})$")
    finite = np.isfinite(places)
    if finite.any():
        style.stems(style.atom_axis(axes[1]), places[finite], masses[finite], style.VERMILLION)
    _steps(axes[2], dataset)
    axes[2].set(
        xlabel=rf"$s{unit}$",
        ylabel=rf"$P(\leq s{unit})$",
        xlim=(-0.02 * reach, reach),
        ylim=(0, 1.03),
    )
    fig.suptitle(_title(dataset))
    return fig


def _in_range(dataset: xr.Dataset) -> tuple[xr.Dataset, str]:
    """Return a dataset in units of the largest s where that is beyond all bounds, and the unit."""
    known = np.append(dataset["log_s"].values, dataset["atom_log_s"].values)
    largest = known.max(initial=-np.inf)
    if not np.isfinite(largest) or abs(largest) < BOUND:
        return dataset, ""
    log_s, places = dataset["log_s"] - largest, dataset["atom_log_s"] - largest
    return dataset.assign_coords(log_s=log_s, atom_log_s=places), r"/s_{\max}"


def _curve(ax: Axes, x: np.ndarray, density: np.ndarray, inside: np.ndarray) -> None:
    ax.plot(x, density, color=style.BLUE)
    known = density[inside & np.isfinite(density)]
    if known.size and known.max() > 0:
        ax.set_ylim(0, 1.1 * known.max())
    elif not density.size:
        # There are atoms alone.
        ax.set(ylim=(0, 1), yticks=[0])


def _steps(ax: Axes, dataset: xr.Dataset) -> None:
    log_s, below = dataset["log_s"].values, dataset["distribution"].values
    ax.plot(np.exp(log_s), below, color=style.BLUE)
    places, masses = dataset["atom_log_s"].values, dataset["atom_mass"].values
    for place, mass in zip(places, masses, strict=True):
        lower = places < place
        start = np.fmax.reduce(below[log_s < place], initial=masses[lower].sum())
        known = np.append(log_s[log_s < place], places[lower])
        ends = np.exp(known.max() if known.size else place), np.exp(place)
        ax.plot(ends, [start] * 2, color=style.BLUE)
        ax.plot([ends[1]] * 2, [start, start + mass], color=style.VERMILLION)


def _title(dataset: xr.Dataset) -> str:
    attrs = dataset.attrs
    if "activation" not in attrs:
        return ""
    layers = f"{attrs['depth']:g} layer{'s' * (attrs['depth'] != 1)}"
    return f"{attrs['activation']}: {layers} of {attrs['ensemble']} weights"
