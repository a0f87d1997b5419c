"""Figures on trained networks, drawn from trainings.

References
----------
[1] M. Murray, V. Abrol, J. Tanner, Activation function design for deep networks: linearity and
    effective initialisation, arXiv:2105.07741.
[2] S. Schoenholz, J. Gilmer, S. Ganguli, J. Sohl-Dickstein, Deep information propagation,
    ICLR 2017, arXiv:1611.01232.
[3] G. Zhang, A. Botev, J. Martens, Deep learning without shortcuts: shaping the kernel with
    tailored rectifiers, ICLR 2022, arXiv:2203.08120.
"""

import itertools
import math
import string
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import LogLocator, NullFormatter

from meanfield.errors import MeanFieldError
from meanfield.plots import style
from meanfield.plots.base import figure
from meanfield.plots.schoenholz2017 import TRAINABLE
from meanfield.plots.style import LABELS

ACCURACY, ERROR = "test accuracy (%)", "test error (%)"
# Ticks of errors.
ERRORS = (2, 5, 10, 20, 50, 100)
# Of so many stages of training heat maps are shown, each as many times as long as the one before.
STAGES, LONGER = 4, 4
# Per cent between the darkest and the lightest colour of a heat map.
SPAN = 10.0
# How the best of a row is framed.
FRAME: dict[str, Any] = {"edgecolor": style.VERMILLION, "linewidth": 1.6}
# An axis of powers of ten has about so many ticks.
POWERS = 5
# Of an initialisation: what it is called, its colour and its dashes.
INITIALISATIONS: dict[str, tuple[str, str, Any]] = {
    "torch": ("PyTorch's default", style.VERMILLION, "--"),
    "edge_of_chaos": ("edge of chaos", style.BLUE, "-"),
    "shaped": ("edge of chaos, shaped", style.GREEN, "-."),
}


def _mean(dataset: xr.Dataset) -> xr.DataArray:
    """Return the accuracy in per cent, the mean over seeds; NaN where one of them diverged."""
    accuracy = 100 * dataset["accuracy"]
    return accuracy.mean("seed", skipna=False) if "seed" in accuracy.dims else accuracy


def _arranged(dataset: xr.Dataset, name: str, *dims: str) -> xr.Dataset:
    """Return a dataset with some dimensions and a seed alone; those with one value may be missing.

    Raises `MeanFieldError` where there are others of more values.
    """
    scalar = [dim for dim in dims if dim not in dataset.dims]
    dataset = dataset.expand_dims(scalar)
    others = [str(dim) for dim in dataset["accuracy"].dims if dim not in (*dims, "seed")]
    several = [dim for dim in others if dataset.sizes[dim] > 1]
    if several:
        raise MeanFieldError(
            f"figure {name!r} shows one {several[0]}, and there are {dataset.sizes[several[0]]}; "
            f"select one of them: dataset.sel({several[0]}=...)"
        )
    return dataset.squeeze(others)


def _stages(epochs: np.ndarray) -> np.ndarray:
    wanted = epochs[-1] / float(LONGER) ** np.arange(STAGES)[::-1]
    return np.unique([epochs[np.abs(epochs - max(1.0, stage)).argmin()] for stage in wanted])


@figure(
    "murray2021-7",
    title="Accuracy over linear region and bias variance, as training goes on",
    needs=("a", "bias_variance", "epoch", "accuracy"),
    source="after Figure 7 of arXiv:2105.07741",
    dataset="train_digits",
)
def heat_maps(dataset: xr.Dataset) -> Figure:
    """Draw the accuracy over a and σb² at several stages, a row for each kind of network.

    Colours say how far below the best of its map an accuracy is, `SPAN` per cent or more for the
    darkest. Frames mark the best a of each σb², which grows downwards.
    """
    scalar = [dim for dim in ("a", "bias_variance") if dim not in dataset.dims]
    accuracy = _mean(dataset.expand_dims(scalar))
    shown = [str(dim) for dim in accuracy.dims if dim not in ("a", "bias_variance", "epoch")]
    kinds = [
        dict(zip(shown, values, strict=True))
        for values in itertools.product(*(dataset[dim].values for dim in shown))
    ]
    stages = _stages(dataset["epoch"].values)
    fig = style.canvas(style.WIDE, 1.0 + 1.75 * len(kinds))
    panels = fig.subplots(len(kinds), len(stages), squeeze=False, sharex=True, sharey=True)
    for ax, stage in zip(panels[0], stages, strict=True):
        ax.set_title(f"{stage} epoch{'s' * int(stage != 1)}")
    for row, kind in zip(panels, kinds, strict=True):
        for ax, stage in zip(row, stages, strict=True):
            _heat_map(ax, accuracy.sel(kind | {"epoch": stage}))
        words = ", ".join(_word(name, value) for name, value in kind.items())
        row[0].set_ylabel(
            f"{words}\n{LABELS['bias_variance']}" if words else LABELS["bias_variance"]
        )
    for ax in panels[-1]:
        ax.set_xlabel(LABELS["a"])
    below = ScalarMappable(Normalize(-SPAN, 0.0), "viridis")
    bar = fig.colorbar(below, ax=panels, label="accuracy less the best (%)", extend="min")
    bar.set_ticks([-SPAN, -SPAN / 2, 0.0])
    frame = Patch(fill=False, label=r"best $a$ of each $\sigma_b^2$", **FRAME)
    fig.legend(handles=[frame], loc="outside lower center")
    return fig


def _word(name: str, value: Any) -> str:
    return rf"$L={value}$" if name == "depth" else str(value)


def _heat_map(ax: Axes, accuracy: xr.DataArray) -> None:
    """Draw a map whose cells, of equal size, carry their numbers in per cent."""
    values = accuracy.transpose("bias_variance", "a").values
    cmap = mpl.colormaps["viridis"].with_extremes(bad=style.PALE)
    best = np.nanmax(values, initial=0.0)
    known = np.ma.masked_invalid(values)
    ax.imshow(known, cmap=cmap, vmin=best - SPAN, vmax=best, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        ax.text(
            column,
            row,
            f"{value:.1f}" if np.isfinite(value) else "×",
            ha="center",
            va="center",
            fontsize=6.5,
            color="white" if value < best - SPAN / 2 else "black",
        )
    for row, line in enumerate(values):
        if np.isfinite(line).any():
            corner = (np.nanargmax(line) - 0.5, row - 0.5)
            ax.add_patch(Rectangle(corner, 1, 1, fill=False, **FRAME))
    for axis, name in ((ax.xaxis, "a"), (ax.yaxis, "bias_variance")):
        labels = [style.number(float(value)) for value in accuracy[name]]
        axis.set_ticks(range(len(labels)), labels)
    ax.tick_params(length=0)


@figure(
    "murray2021-8",
    title="Error as training goes on, with fixed and decreasing linear regions",
    needs=("a", "bias_variance", "protocol", "epoch", "accuracy"),
    source="after Figure 8 of arXiv:2105.07741",
    dataset="train_decreasing",
)
def decreasing(dataset: xr.Dataset) -> Figure:
    """Draw what is classified wrongly by epoch, for every a and for the largest that decreases."""
    dataset = _arranged(dataset, "murray2021-8", "bias_variance", "a", "protocol", "epoch")
    if "scheduled" not in dataset["protocol"]:
        raise MeanFieldError("figure 'murray2021-8' shows a schedule, which the dataset lacks")
    error, epochs = 100 - _mean(dataset), dataset["epoch"]
    biases = dataset["bias_variance"].values
    fig = style.canvas(style.WIDE, 3.1)
    panels = fig.subplots(1, len(biases), sharey=True, squeeze=False)[0]
    a = dataset["a"].values
    for letter, ax, bias in zip(string.ascii_lowercase, panels, biases, strict=False):
        here = error.sel(bias_variance=bias)
        looks = zip(a, style.shades(a.size), itertools.cycle(style.STYLES), strict=False)
        for value, color, dashes in looks:
            curve = here.sel(a=value, protocol="fixed")
            label = rf"$a={style.number(float(value))}$"
            ax.semilogy(epochs, curve, color=color, linestyle=dashes, label=label)
        moving = here.sel(a=a[-1], protocol="scheduled")
        ax.semilogy(epochs, moving, color=style.PURPLE, linewidth=2.2, label=r"decreasing $a$")
        style.panel(ax, letter, rf"$\sigma_b^2={style.number(float(bias))}$")
        ax.set(xlabel="epoch", xlim=(0, int(epochs[-1])), ylim=(None, 100))
        ax.set_yticks(ERRORS, map(str, ERRORS))
        ax.yaxis.set_minor_formatter(NullFormatter())
    panels[0].set_ylabel(ERROR)
    # Room between the last epoch of a panel and the first one of the next.
    fig.get_layout_engine().set(wspace=0.05)  # pyright: ignore
    handles, labels = panels[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return fig


@figure(
    "schoenholz2017-5",
    title="Accuracy over depth and weight variance, and the depth 6 ξ_c",
    needs=("weight_variance", "depth", "epoch", "accuracy", "xi_c"),
    source="after Figure 5 of arXiv:1611.01232",
    dataset="train_depth",
)
def trainable_depth(dataset: xr.Dataset) -> Figure:
    """Draw the accuracy at the end of training over σw² and depth, under the line 6 ξ_c."""
    dataset = _arranged(dataset, "schoenholz2017-5", "depth", "weight_variance", "epoch")
    weight, depth = dataset["weight_variance"].values, dataset["depth"].values
    accuracy = _mean(dataset).isel(epoch=-1).transpose("depth", "weight_variance")
    fig = style.canvas(style.NARROW + 0.6, 3.5)
    ax = fig.subplots()
    cmap = mpl.colormaps["viridis"].with_extremes(bad=style.PALE)
    drawn = ax.pcolormesh(weight, depth, accuracy, cmap=cmap, vmin=0, vmax=100, shading="nearest")
    fig.colorbar(drawn, ax=ax, label=ACCURACY)
    low, high = ax.get_ylim()
    ax.plot(
        weight,
        np.minimum(TRAINABLE * dataset["xi_c"].values, 2 * high),
        color="white",
        linewidth=2.0,
        linestyle="--",
        label=rf"${TRAINABLE}\,\xi_c$",
    )
    ax.set(xlabel=LABELS["weight_variance"], ylabel=r"depth $L$", ylim=(low, high))
    ax.set_title(f"after {int(dataset['epoch'][-1])} epochs")
    ax.legend(loc="upper right", labelcolor="white")
    return fig


@figure(
    "custom-activation",
    title="A custom activation that trains, and one that does not",
    needs=("initialisation", "epoch", "accuracy", "layer", "gradient", "chi"),
    source="this package; activations are shaped as in arXiv:2203.08120",
    dataset="custom_activation",
)
def custom_activation(dataset: xr.Dataset) -> Figure:
    """Draw accuracy by epoch and the first gradients by layer, a colour for each initialisation.

    Lines are means over seeds, and bands reach from the lowest to the highest. Gradients are those
    in a layer's pre-activations over those in the last layer's, beside χ1^((L - l)/2) of theory.
    """
    name = "custom-activation"
    dataset = _arranged(dataset, name, "initialisation", "epoch", "layer")
    accuracy, gradient = 100 * dataset["accuracy"], dataset["gradient"]
    gradient = gradient / gradient.isel(layer=-1)
    below = dataset["layer"][-1] - dataset["layer"]
    fig = style.canvas(style.WIDE, 3.3)
    left, right = fig.subplots(1, 2)
    for kind in dataset["initialisation"].values:
        label, color, dashes = INITIALISATIONS[kind]
        for ax, values in ((left, accuracy), (right, gradient)):
            here = values.sel(initialisation=kind)
            over = [dim for dim in ("seed",) if dim in here.dims]
            x = here[next(dim for dim in here.dims if dim not in over)]
            band = here.min(over), here.max(over)
            ax.fill_between(x, *band, color=color, alpha=0.25, linewidth=0)
            ax.plot(x, here.mean(over), color=color, linestyle=dashes, label=label)
        theory = dataset["chi"].sel(initialisation=kind) ** (below / 2)
        right.plot(below["layer"], theory, color=style.BLACK, linestyle=":", linewidth=1.0)
    right.lines[-1].set_label(r"theory, $\chi_1^{(L-l)/2}$")
    style.panel(left, "a", "accuracy")
    style.panel(right, "b", "gradients at initialisation")
    left.set(xlabel="epoch", ylabel=ACCURACY, ylim=(0, 100))
    right.set(
        xlabel=LABELS["layer"],
        ylabel=r"$|\partial\ell/\partial h^{(l)}|\;/\;|\partial\ell/\partial h^{(L)}|$",
        yscale="log",
    )
    for ax in (left, right):
        ax.margins(x=0)
    low, high = right.get_ylim()
    decades = max(1, round(math.log10(high / low) / POWERS))
    right.yaxis.set_major_locator(LogLocator(base=10.0**decades))
    handles, labels = right.get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return fig
