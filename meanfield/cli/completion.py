"""What a shell offers after TAB: names, found without the packages that stand behind them.

Activations and figures are named by decorators, which are read from the sources: to import them
takes seconds.
"""

import ast
from collections.abc import Callable, Iterable
from pathlib import Path

from meanfield.shipped import shipped, training_names

PACKAGE = Path(__file__).resolve().parent.parent
# What `meanfield list` lists.
KINDS = ("activations", "observables", "figures", "configs")
FRAMEWORKS = ("torch", "flax", "jax", "keras", "equinox")
ENSEMBLES = ("gaussian", "orthogonal")
# Those of `meanfield.init` that layers without a window have.
DISTRIBUTIONS = ("gaussian", "uniform", "truncated_normal", "orthogonal")
METHODS = ("auto", "table", "quadrature")
FILES = ("netcdf", "csv", "parquet")


def among(names: Callable[[], Iterable[str]] | Iterable[str]) -> Callable[[str], list[str]]:
    """Return a completion of names, for `autocompletion=` of Typer."""

    def complete(incomplete: str) -> list[str]:
        known = names() if callable(names) else names
        return [name for name in known if name.startswith(incomplete)]

    return complete


def activation_names() -> list[str]:
    """Return the names and aliases of all activations, in order."""
    return _decorated("activations", "register_activation")


def figure_names() -> list[str]:
    """Return the names of all figures, in order."""
    return _decorated("plots", "figure")


def complete_config(incomplete: str) -> list[str]:
    """Return shipped configs, and TOML files, that begin so."""
    return among(shipped)(incomplete) + _files(incomplete)


def complete_training(incomplete: str) -> list[str]:
    """Return shipped configs of trainings, and TOML files, that begin so."""
    return among(training_names)(incomplete) + _files(incomplete)


def _files(incomplete: str) -> list[str]:
    folder, _, begin = incomplete.rpartition("/")
    place = Path(folder or ("/" if incomplete.startswith("/") else "."))
    found = sorted(path.name for path in place.glob("*.toml") if path.name.startswith(begin))
    return [incomplete.removesuffix(begin) + name for name in found]


def _decorated(folder: str, decorator: str) -> list[str]:
    """Return the texts that are arguments of a decorator in a folder's files."""
    names = []
    for file in (PACKAGE / folder).glob("*.py"):
        text = file.read_text(encoding="utf-8")
        if f"@{decorator}(" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == decorator:
                names += [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
    return sorted(str(name) for name in names)
