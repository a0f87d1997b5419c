"""How the figures look: one place for sizes, fonts, colours and symbols.

The colours of the activations are those of Okabe and Ito, which readers with impaired colour
vision can tell apart, with darker ones where eight do not suffice. A curve also differs from
its neighbours in line style or marker, and an activation looks the same in every figure.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

# Inches: the text width of a two-column page, and of one column.
WIDE, NARROW = 7.0, 4.6

BLACK, GREY, PALE = "#000000", "#8C8C8C", "#EDEDED"
ORANGE, SKY, GREEN, BLUE = "#E69F00", "#56B4E9", "#009E73", "#0072B2"
VERMILLION, PURPLE, BROWN, WINE = "#D55E00", "#CC79A7", "#5B3A1E", "#882255"
OLIVE, NAVY = "#8A8A00", "#332288"

RC: dict[Any, Any] = {
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 10.0,
    "axes.labelsize": 11.0,
    "axes.titlesize": 11.0,
    "legend.fontsize": 9.0,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "axes.linewidth": 0.7,
    "axes.titlelocation": "left",
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "xtick.major.pad": 4.5,
    "ytick.major.pad": 4.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.minor.width": 0.5,
    "ytick.minor.width": 0.5,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "figure.dpi": 100.0,
    "pdf.fonttype": 42,
    "svg.hashsalt": "meanfield",
}

LABELS = {
    "q": r"$q$",
    "q_star": r"$q^{*}$",
    "length_map": r"$V(q)$",
    "rho": r"$\rho$",
    "correlation_map": r"$R(\rho)$",
    "correlation_limit": r"$\rho^{*}$",
    "deviation": r"$R(\rho)-\rho$",
    "weight_variance": r"$\sigma_w^2$",
    "bias_variance": r"$\sigma_b^2$",
    "chi": r"$\chi_1$",
    "a": r"$a$",
    "x": r"$x$",
    "phi": r"$\phi(x)$",
    "layer": r"layer $l$",
    "correlation": r"$\rho^{(l)}$",
    "linear_width": r"$a\,/\,(q^{*})^{1/2}$",
    "max_deviation": r"$\max_{\,0\leq\rho\leq 1}\,|R(\rho)-\rho|$",
    "moment_ratio": r"$\mu_2/\mu_1^2-1$",
}


@dataclasses.dataclass(frozen=True)
class Look:
    """The name, colour, line style and marker of an activation."""

    label: str
    color: str
    linestyle: Any
    marker: str

    def line(self) -> dict[str, Any]:
        """Return the keyword arguments of a plain line."""
        return {"color": self.color, "linestyle": self.linestyle}

    def points(self) -> dict[str, Any]:
        """Return the keyword arguments of a line with open markers."""
        return {**self.line(), "marker": self.marker, "markerfacecolor": "white"}


DASH_DOT_DOT = (0, (6, 1.5, 1, 1.5, 1, 1.5))
LOOKS = {
    "relu": Look("ReLU", VERMILLION, "--", "v"),
    "abs": Look(r"Mod $|x|$", WINE, ":", "P"),
    "tanh": Look("tanh", BLUE, "-", "o"),
    "erf": Look("erf", SKY, (0, (2, 1.5)), "D"),
    "hard_tanh": Look("hard tanh", ORANGE, (0, (5, 1.2)), "s"),
    "elu": Look("ELU", GREEN, "-.", "^"),
    "gelu": Look("GELU", NAVY, DASH_DOT_DOT, "<"),
    "swish": Look("Swish", OLIVE, (0, (3, 1, 1, 1)), ">"),
    "shtanh": Look("Shtanh", ORANGE, "-", "s"),
    "ssin": Look("Ssin", SKY, "--", "o"),
    "sexp": Look("Sexp", PURPLE, "-.", "^"),
    "ssaw": Look("Ssaw", BROWN, (0, (3, 1, 1, 1)), "D"),
}
# Line styles of a family of curves, told apart by shade as well.
STYLES = ("-", "--", "-.", (0, (1.5, 1.2)), DASH_DOT_DOT)


def look(activation: str) -> Look:
    """Return how an activation is drawn; one without a look of its own is a black line."""
    return LOOKS.get(activation, Look(activation, BLACK, "-", "x"))


def shades(count: int) -> list[str]:
    """Return `count` colours from dark to light, for curves ordered by a number."""
    cmap = mpl.colormaps["viridis"]
    return [to_hex(cmap(0.82 * i / max(count - 1, 1))) for i in range(count)]


@contextlib.contextmanager
def house() -> Iterator[None]:
    """Apply the style inside a `with` block, over matplotlib's defaults and nothing else."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        yield


def canvas(width: float, height: float) -> Figure:
    """Return an empty figure whose panels will make room for their labels."""
    return Figure(figsize=(width, height), layout="constrained")


def panel(ax: Axes, letter: str, title: str = "") -> None:
    """Write a panel's letter and title above it."""
    ax.set_title(f"({letter})  {title}" if title else f"({letter})")


def atom_axis(ax: Axes) -> Axes:
    """Return an axis to the right of a panel, for the masses of atoms."""
    right = ax.twinx()
    right.set(label="<atoms>", ylim=(0, 1.1), yticks=(0, 0.5, 1))
    right.set_ylabel("mass of atoms", fontsize=9, labelpad=2)
    return right


def stems(axis: Axes, places: Any, masses: Any, color: str) -> None:
    """Draw atoms as stems as high as their masses."""
    axis.vlines(places, 0, masses, color=color, linewidth=1.8)
    axis.plot(places, masses, "D", color=color, zorder=5)


def depth_handles(depths: Any, colors: list[str]) -> list[Line2D]:
    """Return the entries of a legend that names depths by their colours."""
    return [
        Line2D([], [], color=color, label=rf"$L={number(float(depth))}$")
        for depth, color in zip(depths, colors, strict=True)
    ]


def identity(ax: Axes, low: float, high: float, label: str = "identity") -> None:
    """Draw the identity line in grey, behind the curves."""
    ax.plot([low, high], [low, high], color=GREY, linewidth=1.0, zorder=1, label=label)


def number(value: float) -> str:
    """Return a number for a label: three digits at most, no trailing zeros."""
    return f"{value:.3g}"
