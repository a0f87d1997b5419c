"""The registry of figures, and what all of them share.

A figure is a function from a dataset to a drawing, registered with the computation that makes
the dataset. Drawing solves nothing: a figure is redrawn from its dataset alone.
"""

import dataclasses
import functools
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xarray as xr
from matplotlib.figure import Figure as Drawing

from meanfield.errors import MeanFieldError
from meanfield.plots import style
from meanfield.registry import Registry

# Points of an axis that a drawing can show.
MOST = 1000
Draw = Callable[[xr.Dataset], Drawing]

PNG_DPI = 200
# No dates and no versions: the same dataset gives the same bytes.
METADATA = {
    "pdf": {"CreationDate": None, "Creator": "meanfield", "Producer": None},
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": "meanfield"},
}


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure: how to draw it, and where its dataset comes from.

    `needs` are the variables and coordinates that it shows. `dataset` names the dataset they are
    in: the sweep of that name where `data` is None, else what `data` computes.
    """

    name: str
    title: str
    source: str
    needs: tuple[str, ...]
    draw: Draw
    data: Callable[..., xr.Dataset] | None
    dataset: str


figures: Registry[Figure] = Registry("figure")


def figure(
    name: str,
    *,
    title: str,
    source: str,
    needs: tuple[str, ...],
    data: Callable[..., xr.Dataset] | None = None,
    dataset: str = "",
) -> Callable[[Draw], Draw]:
    """Return a decorator that registers a drawing.

    What is registered refuses a dataset that lacks one of `needs`, and draws in the house style.
    The dataset is called `name` by default.
    """

    def decorator(draw: Draw) -> Draw:
        @functools.wraps(draw)
        def checked(data: xr.Dataset) -> Drawing:
            require_variables(data, needs, f"figure {name!r}")
            with style.house():
                return draw(data)

        figures.register(name)(Figure(name, title, source, needs, checked, data, dataset or name))
        return checked

    return decorator


def require_variables(dataset: xr.Dataset, needs: tuple[str, ...], what: str) -> None:
    """Raise `MeanFieldError` if a dataset lacks what a drawing shows."""
    missing = [name for name in needs if name not in dataset.variables]
    if missing:
        known = ", ".join(sorted(map(str, dataset.variables))) or "nothing"
        raise MeanFieldError(
            f"{what} shows {', '.join(missing)}, which the dataset lacks; it has {known}"
        )


def study(paper: str, function: str) -> Callable[..., xr.Dataset]:
    """Return a function of `meanfield.studies`, imported when called: drawing loads no solver."""

    def compute(**options: Any) -> xr.Dataset:
        module = importlib.import_module(f"meanfield.studies.{paper}")
        return getattr(module, function)(**options)

    compute.__name__ = function
    return compute


def draw(name: str, dataset: xr.Dataset) -> Drawing:
    """Return the registered figure `name`, drawn from `dataset`.

    An axis of more than `MOST` points is thinned out evenly. What is left out is not read from
    disk.
    Raises `MeanFieldError` for an unknown figure, or for a dataset without what it shows.
    """
    steps = {dim: slice(None, None, -(-size // MOST)) for dim, size in dataset.sizes.items()}
    return figures[name].draw(dataset.isel(steps))


def save(fig: Drawing, directory: str | os.PathLike[str], name: str) -> list[Path]:
    """Write `name`.pdf and `name`.png into a directory and return their paths.

    The same drawing gives the same bytes, whenever and wherever it is saved.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{kind}" for kind in ("pdf", "png")]
    for path in paths:
        save_as(fig, path)
    return paths


def save_as(fig: Drawing, path: Path) -> None:
    """Write a drawing into one file, of the kind that its name ends in."""
    with style.house():
        if fig.get_layout_engine() is not None:
            # Settle the layout once: each pass over it may move the panels by a rounding error.
            fig.draw_without_rendering()
            fig.set_layout_engine(None)
        kind = path.suffix.removeprefix(".")
        fig.savefig(path, format=kind, dpi=PNG_DPI, metadata=METADATA[kind])
