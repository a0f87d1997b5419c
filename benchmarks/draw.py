"""Draw the figures of the benchmarks from what `benchmarks/run.py` measured.

    python benchmarks/draw.py

Reads benchmarks/results.json and writes figures/benchmark_time and figures/benchmark_accuracy, as
PDF and PNG.
"""

import json
from pathlib import Path

import numpy as np

from meanfield.plots import style
from meanfield.plots.base import save

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results.json"
# Colour, line style and marker of a route, by the word it begins with.
ROUTES = {
    "table,": ("table", style.BLUE, "-", "o"),
    "quadrature": ("quadrature", style.BLACK, "--", "s"),
    "numpy:": ("Gauss-Hermite, 64 nodes", style.BROWN, "-.", "^"),
    "neural-tangents": ("neural-tangents 0.6.5", style.VERMILLION, (0, (3, 1, 1, 1)), "D"),
    "scipy:": ("scipy", style.PURPLE, ":", "v"),
}
SMALLEST_ERROR = 1e-16


def looks(route):
    """Return how a route is drawn."""
    return ROUTES[route.split()[0]]


def time_figure(results):
    """Draw processor time against the size of a phase diagram."""
    fig = style.canvas(style.NARROW + 0.6, 4.2)
    ax = fig.subplots()
    for name in dict.fromkeys(name for name, *_ in results["growth"]):
        look = style.look(name)
        sizes, times = np.transpose([g[1:3] for g in results["growth"] if g[0] == name])
        ax.loglog(sizes**2, times, **look.points(), label=f"{look.label}, table")
    points = np.geomspace(1e2, 1e6, 9)
    seen = set()
    for row in results["phase"][1:]:
        label, color, line, _ = looks(row["route"])
        if label in seen:
            continue
        seen.add(label)
        ax.loglog(points, row["seconds"] * points, color=color, linestyle=line, label=label)
    ax.set(xlabel="networks in a phase diagram", ylabel="processor time in seconds")
    ax.set(xlim=(7e1, 1.5e6))
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def accuracy_figure(results):
    """Draw the errors of q* and c* against the time for a network."""
    fig = style.canvas(style.WIDE, 3.2)
    axes = fig.subplots(1, 2, sharex=True, sharey=True)
    places = (
        ("a", "variance", r"$|\delta q^{*}|/q^{*}$", 0),
        ("b", "limit", r"$|\delta c^{*}|$", 2),
    )
    for ax, (letter, title, label, part) in zip(axes, places, strict=True):
        seen = set()
        for row in results["phase"]:
            if row["error"] == "reference":
                continue
            name, color, _, marker = looks(row["route"])
            error = max(float(row["error"].split(" / ")[part]), SMALLEST_ERROR)
            shown = name if name not in seen else None
            seen.add(name)
            ax.loglog(row["seconds"], error, marker, color=color, label=shown, markersize=7)
        style.panel(ax, letter, title)
        ax.set(xlabel="processor time for a network in seconds", ylabel=f"worst {label}")
        ax.label_outer(remove_inner_ticks=False)
        ax.set_ylabel(f"worst {label}")
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=4)
    return fig


def main():
    """Write both figures."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    with style.house():
        for name, fig in (("time", time_figure(results)), ("accuracy", accuracy_figure(results))):
            save(fig, ROOT / "figures", f"benchmark_{name}")


if __name__ == "__main__":
    main()
