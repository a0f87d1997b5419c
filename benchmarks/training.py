"""What training costs: an epoch of many networks, against the multiplications that it is made of.

    python benchmarks/training.py

The floor is what the same products of matrices take alone, on all threads: per layer and batch one
forward, one for the slope of the weights and one for that of the inputs. The networks are those of
configs/train_digits.toml, trained one by one on threads, as a processor does, and as one array
under `vmap`, as an accelerator does. Everything is measured in one run.
"""

import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp

from meanfield import devices
from meanfield.training.data import load_images
from meanfield.training.engine import places_of
from meanfield.training.grid import TrainingGrid
from meanfield.training.group import Group
from meanfield.training.spec import load_training

NETWORKS = 16


def seconds(function):
    """Return what the fourth call takes: the first ones draw networks and compile."""
    for _ in range(4):
        start = time.perf_counter()
        function()
        taken = time.perf_counter() - start
    return taken


def floor(spec, count):
    """Return the seconds of the products of one epoch of one network, on one thread."""
    steps, width, depth = count // spec.batch, spec.width, spec.depths[0]
    x, w = jnp.ones((spec.batch, width), jnp.float32), jnp.ones((width, width), jnp.float32)

    @jax.jit
    def products(x, w):
        def layer(_, state):
            x, w = state
            y = x @ w
            return 1e-3 * (y @ w.T), w + 1e-9 * (x.T @ y)

        return jax.lax.fori_loop(0, steps * (depth - 1), layer, (x, w))

    return seconds(lambda: jax.block_until_ready(products(x, w)))


def main():
    """Print the table."""
    spec = load_training("train_digits")
    images = load_images(spec.data)
    place = places_of(images)[0]
    grid, threads = TrainingGrid(spec), devices.threads()
    networks = grid.networks[:NETWORKS]
    groups = [Group(grid, [network]) for network in networks]
    whole = Group(grid, networks)

    def one_by_one():
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda group: group.advance(place), groups))

    least = NETWORKS * floor(spec, len(images.train_labels)) / threads
    print(
        f"an epoch of {NETWORKS} networks, {spec.depth} layers of {spec.width}, {threads} threads"
    )
    print(f"{'route':<28}{'s':>8}{'× floor':>10}")
    print(f"{'products of matrices alone':<28}{least:>8.2f}{1:>10.2f}")
    for name, function in (
        ("one by one, on threads", one_by_one),
        ("as one array, under vmap", lambda: whole.advance(place)),
    ):
        taken = seconds(function)
        print(f"{name:<28}{taken:>8.2f}{taken / least:>10.2f}")


if __name__ == "__main__":
    main()
