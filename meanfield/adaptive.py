"""Integrals over bands, refined where they are in doubt.

On a band [a, b] the variable is t in (0, 1),

    x = a + (b - a) sin²(πt/2),

in which a function that starts as √(x - a), or as one over it, is smooth. Bands are cut into
cells. Fejér's second rule on a cell contains one of half its nodes; where the two differ most,
cells are halved.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

# Nodes on a cell, and cells that a band starts with.
NODES, FIRST = 15, 4
# Cells are halved that are in doubt by at least this part of the largest doubt.
DOUBTFUL = 0.1


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

Scale = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Cells:
    """Cells with their nodes, of shape (N, NODES)."""

    band: np.ndarray
    """The bands that cells lie in, of shape (N, 2)."""
    begin: np.ndarray
    end: np.ndarray
    """Where a cell begins and ends in t."""
    values: np.ndarray
    carried: np.ndarray
    """What else is known at the nodes, of shape (N, NODES, C), or guessed; NaN if nothing is."""
    doubt: np.ndarray
    """What two rules disagree by: infinite before values are known."""

    @classmethod
    def of(cls, bands: np.ndarray, carried: int) -> "Cells":
        """Return cells for (B, 2) bands, without values."""
        step, count = np.tile(np.arange(FIRST), len(bands)), FIRST * len(bands)
        return cls(
            band=np.repeat(bands, FIRST, axis=0),
            begin=step / FIRST,
            end=(step + 1) / FIRST,
            values=np.zeros((count, NODES)),
            carried=np.full((count, NODES, carried), np.nan),
            doubt=np.full(count, np.inf),
        )

    @property
    def _t(self) -> np.ndarray:
        return self.begin[:, None] + (self.end - self.begin)[:, None] * PLACES

    @property
    def x(self) -> np.ndarray:
        """The nodes."""
        low, high = self.band[:, :1], self.band[:, 1:]
        return low + (high - low) * np.square(np.sin(np.pi / 2 * self._t))

    @property
    def weights(self) -> np.ndarray:
        """The weights of the nodes."""
        length = (self.band[:, 1] - self.band[:, 0]) * (self.end - self.begin)
        return (length * np.pi / 2)[:, None] * np.sin(np.pi * self._t) * WEIGHTS

    def integrals(self, scale: Scale) -> np.ndarray:
        """Return the integrals of scale(x)·values, where `scale` has one more axis, the first."""
        return (scale(self.x) * self.weights * self.values).sum(axis=(-2, -1))

    def doubtful(self, most: int) -> np.ndarray:
        """Return which cells are in doubt, at most so many of them."""
        order = np.argsort(-self.doubt)[:most]
        which = np.zeros(self.doubt.size, dtype=bool)
        which[order] = self.doubt[order] >= DOUBTFUL * self.doubt.max(initial=0.0)
        return which

    def halves(self, which: np.ndarray) -> "Cells":
        """Return the two halves of some cells, the first ones first, without values."""
        begin, end, band = self.begin[which], self.end[which], self.band[which]
        middle = (begin + end) / 2
        carried = np.einsum("hij,cjk->hcik", TO_HALVES, self.carried[which])
        return Cells(
            band=np.concatenate([band, band]),
            begin=np.append(begin, middle),
            end=np.append(middle, end),
            values=np.zeros((2 * begin.size, NODES)),
            carried=carried.reshape(-1, *carried.shape[2:]),
            doubt=np.full(2 * begin.size, np.inf),
        )

    def judged(self, values: np.ndarray, carried: np.ndarray, scale: Scale) -> "Cells":
        """Return the cells with values; what is in doubt are the integrals of scale(x)·values."""
        difference = self.weights * values * (1 - COARSE / WEIGHTS)
        doubt = np.abs((scale(self.x) * difference).sum(axis=-1)).max(axis=0)
        return dataclasses.replace(self, values=values, carried=carried, doubt=doubt)

    def replaced(self, which: np.ndarray, others: "Cells") -> "Cells":
        """Return the cells with others in place of some."""
        fields = (field.name for field in dataclasses.fields(self))
        return Cells(
            *(np.concatenate([getattr(self, f)[~which], getattr(others, f)]) for f in fields)
        )
