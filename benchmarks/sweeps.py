"""What a sweep costs: by one process and by workers, for each chunk, in memory, and to go on with.

    python benchmarks/sweeps.py [--largest 100_000_000]

Sweeps tanh over σw and σb by table, with six observables, each grid in a fresh process.

- Throughput: one grid in this process, then by one and by two workers, from their first chunk to
  their last; whole commands too, which start Python and workers and load kernels.
- Chunks: what writing one costs beside its points, and what handing it to a worker.
- Memory: the largest that a process held, above what it held after its imports.
- Resuming: what it takes to see which of 100 000 chunks are there, all but the last ones.

`--largest` bounds the grids of the memory; 10⁸ points take four minutes and 7.3 GB.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import meanfield as mf
from meanfield.sweep import cluster
from meanfield.sweep.engine import compute
from meanfield.sweep.grid import Grid
from meanfield.sweep.spec import spec_of
from meanfield.sweep.store import Layout, Store, create_store

OBSERVABLES = [
    "moment_ratio",
    "correlation_limit",
    "decorrelation_limit",
    "xi_q",
    "xi_c",
    "xi_grad",
]
SHARED = (2000, 1000)
SIZES = ((100, 100), (1000, 100), (1000, 1000), (10_000, 1000), (10_000, 10_000))
MANY, TASKS = 100_000, 2000
# In a process of its own: imports, sweeps, and tells what it held.
CHILD = """
import json, re, sys, time
from pathlib import Path
import meanfield as mf
import meanfield.sweep.engine, meanfield.sweep.points, xarray
from meanfield.sweep.spec import spec_of
def held(what):
    return int(re.findall(what + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[0]) * 1024
before = held("VmRSS")
start = time.perf_counter()
mf.run_sweep(spec_of(json.loads(sys.argv[1]), "grid"), sys.argv[2])
print(json.dumps([time.perf_counter() - start, held("VmHWM") - before]))
"""


def table(shape):
    """Return the content of a config with a grid of a shape."""
    sigma_w, sigma_b = shape
    return {
        "activations": ["tanh"],
        "observables": OBSERVABLES,
        "method": "table",
        "axes": {
            "sigma_w": {"start": 0.5, "stop": 3.0, "num": sigma_w},
            "sigma_b": {"start": 0.01, "stop": 1.0, "num": sigma_b},
        },
    }


def written(table, folder):
    """Return a config file."""
    axes = "".join(
        f"{name} = {{ {', '.join(f'{k} = {v}' for k, v in axis.items())} }}\n"
        for name, axis in table["axes"].items()
    )
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items() if key != "axes"]
    path = Path(folder, "grid.toml")
    path.write_text("\n".join(lines) + "\n[axes]\n" + axes, encoding="utf-8")
    return path


def throughput(folder):
    """Print how fast this process and workers go through one grid."""
    size = math.prod(SHARED)
    config = written(table(SHARED), folder)
    print(f"{size} points:")
    first = None
    for route, options in (
        ("this process", []),
        ("this process", []),
        ("1 worker", ["--workers", "1"]),
        ("2 workers", ["--workers", "2"]),
    ):
        out = Path(folder, "shared")
        command = [sys.executable, "-m", "meanfield", "sweep", str(config), "--out", str(out)]
        start = time.perf_counter()
        subprocess.run([*command, *options], check=True, capture_output=True)
        whole = time.perf_counter() - start
        store = Store(out / "grid.zarr", "r")
        times = store.times()
        rate = (size - store.sizes[0]) / (times[-1] - times[0])
        first = first or rate
        print(
            f"  {route:<14}{rate:>10.3g} points/s ({1e6 / rate:.2f} µs each), "
            f"{rate / first:.2f} times the first; command {whole:.1f} s"
        )
        shutil.rmtree(out)


def chunks(folder):
    """Print what a chunk costs beside its points."""
    spec = spec_of(table((1000, 1000)), "chunks")
    grid = Grid(spec)
    store = create_store(Path(folder, "chunks.zarr"), grid.layout, {"format": "meanfield-sweep"})
    compute(store, grid, 0)
    values = grid.evaluate(store.region(0))
    count = len(store.sizes)
    start = time.perf_counter()
    for number in range(count):
        store.write(number, values) if store.sizes[number] == values["q"].size else None
    took = (time.perf_counter() - start) / count
    start = time.perf_counter()
    for number in range(10):
        grid.evaluate(store.region(number))
    points = (time.perf_counter() - start) / 10
    print(
        f"a chunk of {store.sizes[0]} points and {len(values)} variables: {1e3 * took:.2f} ms to "
        f"write, {1e3 * points:.1f} ms to compute ({100 * took / points:.0f} % on top)"
    )


def no_work(*_):
    """Compute nothing, in a worker."""
    return True


def tasks(folder):
    """Print how long it takes to hand a chunk to a worker and to hear that it is done."""
    spec = spec_of(table((1000, 1000)), "tasks")
    grid = Grid(spec)
    store = create_store(Path(folder, "tasks.zarr"), grid.layout, {"format": "meanfield-sweep"})
    # As many at a time as a hundred workers have.
    cluster._task, cluster.AHEAD = no_work, 100
    with cluster.local(2) as fill:
        time.sleep(5)
        start = time.perf_counter()
        steps = fill(store, grid, list(range(TASKS)), lambda: False)
        done = sum(step.chunk is not None for step in steps)
        took = (time.perf_counter() - start) / done
    print(f"a task of no work: {1e3 * took:.2f} ms, so that one driver hands out {1 / took:.0f}/s")


def memory(folder, largest):
    """Print what sweeps of growing size hold."""
    print("memory above that after the imports:")
    for shape in SIZES:
        size = math.prod(shape)
        if size > largest:
            continue
        out = Path(folder, "memory")
        done = subprocess.run(
            [sys.executable, "-c", CHILD, json.dumps(table(shape)), str(out)],
            check=True,
            capture_output=True,
            text=True,
        )
        took, peak = json.loads(done.stdout)
        print(
            f"  {size:>11} points: {peak / 2**30:.2f} GiB, {took:.3g} s, "
            f"{1e6 * took / size:.2f} µs each",
            flush=True,
        )
        shutil.rmtree(out)


def resuming(folder):
    """Print how long it takes to see what of many chunks is there."""
    path = Path(folder, "many.zarr")
    names = ("q", "sigma_w", "sigma_b", "chi")
    layout = Layout(
        {"x": (("x",), np.arange(MANY), {})}, {name: {} for name in names}, ("x",), (MANY,), (1,)
    )
    store = create_store(path, layout, {"format": "meanfield-sweep"})
    store.write(0, {**{n: np.ones(1) for n in names}, "status": np.ones(1, "int8")})
    for name in (*names, "status"):
        content = (path / name / "c" / "0").read_bytes()
        for number in range(1, MANY - 100):
            (path / name / "c" / str(number)).write_bytes(content)
    start = time.perf_counter()
    done = int(Store(path, "r").finished().sum())
    walked = time.perf_counter() - start
    start = time.perf_counter()
    Store(path, "r").tally()
    print(
        f"{done} of {MANY} chunks of {len(names) + 1} variables are there: {walked:.2f} s to see; "
        f"meanfield status takes {time.perf_counter() - start:.2f} s"
    )


def main():
    """Measure and print all parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=float, default=1e7)
    largest = parser.parse_args().largest
    with tempfile.TemporaryDirectory() as folder:
        throughput(folder)
        chunks(folder)
        tasks(folder)
        resuming(folder)
        memory(folder, largest)
    print(f"meanfield-jax {mf.__version__}")


if __name__ == "__main__":
    main()
