"""Run the benchmarks and put their table into the README.

    OPENBLAS_NUM_THREADS=1 python benchmarks/run.py

Takes some minutes, best on an idle machine. Threads of BLAS would only wait for one another, and
their waiting counts as time of the processor. The rows go between two marks in README.md, and with
the growth of phase diagrams into benchmarks/results.json, from which `benchmarks/draw.py` draws.
"""

import dataclasses
import itertools
import json
import os
import platform
from pathlib import Path

import cold_start
import edges
import phase
import rollouts
from common import each, show

README = Path(__file__).parent.parent / "README.md"
RESULTS = Path(__file__).parent / "results.json"
START, END = "<!-- made by benchmarks/run.py -->", "<!-- end of benchmarks -->"


def table(rows):
    """Return the rows as a table in Markdown, with ratios to the first route of a task."""
    lines = ["| task | route | each | ratio | worst error |", "|---|---|---|---|---|"]
    for task, routes in itertools.groupby(rows, lambda row: row.task):
        routes = list(routes)
        for row in routes:
            ratio = row.seconds / routes[0].seconds
            label = task if row is routes[0] else ""
            lines.append(f"| {label} | {row.route} | {each(row)} | {ratio:.3g} | {row.error} |")
    return "\n".join(lines)


def growth_table(growth):
    """Return what phase diagrams of growing size cost as a table in Markdown."""
    names = list(dict.fromkeys(name for name, *_ in growth))
    lines = [
        f"| grid | {' | '.join(names)} | peak memory |",
        f"|---{'|---' * len(names)}|---|",
    ]
    for size, group in itertools.groupby(growth, lambda entry: entry[1]):
        group = list(group)
        times = (f"{took:.2g} s, {1e6 * took / size**2:.2g} µs each" for _, _, took, _ in group)
        lines.append(f"| {size} x {size} | {' | '.join(times)} | {group[-1][3]:.2f} GiB |")
    return "\n".join(lines)


def main():
    """Measure, print, and write the table."""
    found, growth = {}, list(phase.growth())
    for module in (phase, edges, rollouts, cold_start):
        found[module.__name__] = list(module.rows())
        show(found[module.__name__])
    rows = list(itertools.chain.from_iterable(found.values()))
    results = {name: [dataclasses.asdict(row) for row in part] for name, part in found.items()}
    results["growth"] = growth
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    machine = f"{os.cpu_count()} processors, {platform.machine()}, float64."
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    middle = f"{START}\n{table(rows)}\n\n{growth_table(results['growth'])}\n\n{machine}\n{END}"
    README.write_text(before + middle + after, encoding="utf-8")


if __name__ == "__main__":
    main()
