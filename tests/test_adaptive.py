"""Cells: integrals of what is singular at the ends of a band, or narrow inside."""

import numpy as np
import pytest

from meanfield.adaptive import FIRST, NODES, TO_HALVES, Cells

ROUNDS, MOST = 40, 60


def one(x):
    return np.ones_like(x)[None]


def integral(function, bands):
    """Return the integral over bands, and its cells."""

    def judged(cells):
        values = function(cells.x)
        return cells.judged(values, values[..., None], one)

    cells = judged(Cells.of(np.array(bands), 1))
    for _ in range(ROUNDS):
        which = cells.doubtful(MOST - cells.doubt.size)
        cells = cells.replaced(which, judged(cells.halves(which)))
    return float(cells.integrals(one)[0]), cells


@pytest.mark.parametrize(
    ("function", "bands", "exact"),
    [
        (np.sqrt, [[0.0, 1.0]], 2 / 3),
        (lambda x: 1 / np.sqrt(x), [[0.0, 3.0]], 2 * 3**0.5),
        (lambda x: 1 / (1e-4 + (x - 0.3) ** 2), [[-1.0, 1.0]], None),
        (np.exp, [[0.0, 1.0], [2.0, 3.0]], np.e - 1 + np.e**3 - np.e**2),
    ],
)
def test_integrals(function, bands, exact):
    if exact is None:
        exact = 100 * (np.arctan(70.0) + np.arctan(130.0))
    found, _ = integral(function, bands)
    assert found == pytest.approx(exact, rel=1e-11)


def test_cells_that_are_most_in_doubt_are_halved():
    """A narrow peak draws the cells; as many as are asked for, and no others are touched."""
    _, cells = integral(lambda x: 1 / (1e-6 + (x - 0.3) ** 2), [[0.0, 1.0]])
    assert cells.doubt.size == MOST
    assert np.diff(cells.x, axis=1).min() < 1e-4 < 1e-2 < np.diff(cells.x, axis=1).max()
    new = Cells.of(np.array([[0.0, 1.0]]), 1)
    assert np.isinf(new.doubt).all()
    assert new.doubtful(MOST).sum() == FIRST
    assert new.doubtful(2).sum() == 2


def test_halves_are_guessed_from_their_cell():
    """A polynomial is carried over exactly, and what is carried sits at the nodes."""
    nodes = (1 - np.cos(np.pi * np.arange(1, NODES + 1) / (NODES + 1))) / 2
    first, second = TO_HALVES @ nodes**5
    np.testing.assert_allclose(first, (nodes / 2) ** 5, atol=1e-12)
    np.testing.assert_allclose(second, ((1 + nodes) / 2) ** 5, atol=1e-12)
    _, cells = integral(np.exp, [[0.0, 1.0]])
    np.testing.assert_array_equal(cells.carried[..., 0], cells.values)
    two = Cells.of(np.array([[0.0, 1.0]]), 1)
    two = two.judged(two.x, two.x[..., None], one)
    which = np.arange(FIRST) == 1
    np.testing.assert_allclose(two.halves(which).carried[..., 0], two.halves(which).x, rtol=0.1)
