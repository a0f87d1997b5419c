"""Integrals over bands, refined where they are in doubt.

On a band [a, b] the variable is t in (0, 1),

    x = a + (b - a) sin²(πt/2),

in which a function that starts as √(x - a), or as one over it, is smooth. Bands are cut into
cells. Fejér's second rule on a cell contains one of half its nodes; where the two differ most,
cells are halved, a fixed number at a time so that shapes are static.
"""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from meanfield._struct import struct
from meanfield.typing import Array

# Nodes on a cell, cells that a band starts with, and how many are halved at a time.
NODES, FIRST, HALVED = 15, 4, 2
# Points at which a function is evaluated at a time.
BATCH = 2 * HALVED * NODES


def _fejer(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights of Fejér's second rule on (0, 1)."""
    angle = np.pi * np.arange(1, size + 1) / (size + 1)
    odd = np.arange(1, size + 1, 2)
    weights = np.sin(angle) * (np.sin(np.outer(angle, odd)) / odd).sum(axis=1)
    return (1 - np.cos(angle)) / 2, 2 * weights / (size + 1)


PLACES, WEIGHTS = _fejer(NODES)
COARSE = np.zeros(NODES)
COARSE[1::2] = _fejer(NODES // 2)[1]


def _lagrange(x: np.ndarray) -> np.ndarray:
    """Return the matrix from values on the nodes to those of their polynomial at x."""
    apart = PLACES[:, None] - PLACES + np.eye(NODES)
    others = x[:, None, None] - np.where(np.eye(NODES, dtype=bool), x[:, None, None] - 1, PLACES)
    return others.prod(axis=2) / apart.prod(axis=1)


# From the nodes of a cell to those of its halves.
TO_HALVES = np.stack([_lagrange(PLACES / 2), _lagrange((1 + PLACES) / 2)])


@struct
class Cells:
    """Cells with their nodes, of shape (N, NODES); some slots are free."""

    band: Array
    begin: Array
    end: Array
    """Where a cell begins and ends in t."""
    x: Array
    weights: Array
    values: Array
    carried: Array
    """What else is known at the nodes, of shape (N, NODES, C), or guessed; NaN if nothing is."""
    doubt: Array
    """What two rules disagree by: infinite before values are known, -1 for a free slot."""
    used: Array

    @classmethod
    def of(cls, bands: Array, halvings: int, carried: int) -> "Cells":
        """Return cells for (B, 2) bands, of which NaN-padded and empty ones are left out."""
        first = FIRST * bands.shape[0]
        size = first + HALVED * halvings
        step = jnp.arange(size) % FIRST
        band = jnp.minimum(jnp.arange(size) // FIRST, bands.shape[0] - 1)
        live = (jnp.arange(size) < first) & (bands[band, 1] > bands[band, 0])
        nowhere = jnp.zeros((size, NODES))
        return cls(
            band=band,
            begin=step / FIRST,
            end=(step + 1) / FIRST,
            x=nowhere,
            weights=nowhere,
            values=nowhere,
            carried=jnp.full((size, NODES, carried), jnp.nan),
            doubt=jnp.where(live, jnp.inf, -1.0),
            used=jnp.asarray(first),
        )

    def integrals(self, scale: Callable[[Array], Array]) -> Array:
        """Return the integrals of scale(x)·values; infinite before all values are known."""
        sums = (scale(self.x) * self.weights * self.values).sum(axis=(-2, -1))
        return jnp.where(jnp.isinf(self.doubt).any(), jnp.inf, sums)

    def worst(self) -> Array:
        """Return the indices of the cells that are most in doubt."""
        return jax.lax.top_k(self.doubt, HALVED)[1]

    def halves(self, which: Array, bands: Array) -> "Cells":
        """Return the two halves of cells, the first ones first, without values."""
        begin, end, band = self.begin[which], self.end[which], self.band[which]
        middle = (begin + end) / 2
        begin, end = jnp.append(begin, middle), jnp.append(middle, end)
        band = jnp.append(band, band)
        length = bands[band, 1] - bands[band, 0]
        t = begin[:, None] + (end - begin)[:, None] * PLACES
        x = bands[band, :1] + length[:, None] * jnp.square(jnp.sin(np.pi / 2 * t))
        rate = (length * (end - begin) * np.pi / 2)[:, None] * jnp.sin(np.pi * t)
        doubt = jnp.append(self.doubt[which], self.doubt[which])
        weights = jnp.where((doubt >= 0)[:, None], rate * WEIGHTS, 0.0)
        carried = jnp.einsum("hij,cjk->hcik", TO_HALVES, self.carried[which])
        carried = carried.reshape(-1, *carried.shape[2:])
        return Cells(band, begin, end, x, weights, jnp.zeros_like(x), carried, doubt, self.used)

    def judged(self, values: Array, carried: Array, scale: Callable[[Array], Array]) -> "Cells":
        """Return the cells with values; what is in doubt are the integrals of scale(x)·values.

        `scale` returns an array with one more axis, the first.
        """
        difference = self.weights * values * (1 - COARSE / WEIGHTS)
        doubt = jnp.abs((scale(self.x) * difference).sum(axis=-1)).max(axis=0)
        doubt = jnp.where(self.doubt >= 0, doubt, -1.0)
        return replace(self, values=values, carried=carried, doubt=doubt)

    def replaced(self, which: Array, halves: "Cells") -> "Cells":
        """Return the cells with those of `which` replaced by their halves."""
        places = jnp.append(which, self.used + jnp.arange(HALVED))

        def put(old: Array, new: Array) -> Array:
            return old.at[places].set(new) if old.ndim else old + HALVED

        return jax.tree.map(put, self, halves)
