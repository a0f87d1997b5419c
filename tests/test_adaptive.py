"""Cells: integrals of what is singular at the ends of a band, or narrow inside."""

import jax.numpy as jnp
import numpy as np
import pytest

from meanfield.adaptive import NODES, TO_HALVES, Cells

HALVINGS = 60


def integral(function, bands):
    """Return the integral over bands, and how many nodes it took."""

    def one(x):
        return jnp.ones_like(x)[None]

    bands = jnp.asarray(bands)
    cells = Cells.of(bands, HALVINGS, 1)
    for _ in range(HALVINGS):
        which = cells.worst()
        halves = cells.halves(which, bands)
        values = function(halves.x)
        cells = cells.replaced(which, halves.judged(values, values[..., None], one))
    return float(cells.integrals(one)[0]), cells


@pytest.mark.parametrize(
    ("function", "bands", "exact"),
    [
        (jnp.sqrt, [[0.0, 1.0]], 2 / 3),
        (lambda x: 1 / jnp.sqrt(x), [[0.0, 3.0]], 2 * 3**0.5),
        (lambda x: 1 / (1e-4 + (x - 0.3) ** 2), [[-1.0, 1.0]], None),
        (jnp.exp, [[0.0, 1.0], [2.0, 3.0]], np.e - 1 + np.e**3 - np.e**2),
        (jnp.exp, [[0.0, 1.0], [np.nan, np.nan]], np.e - 1),
    ],
)
def test_integrals(function, bands, exact):
    if exact is None:
        exact = 100 * (np.arctan(70.0) + np.arctan(130.0))
    found, _ = integral(function, bands)
    assert found == pytest.approx(exact, rel=1e-11)


def test_unknown_cells_have_no_integral():
    bands = jnp.array([[0.0, 1.0]])
    cells = Cells.of(bands, 2, 1)
    assert np.isinf(cells.integrals(lambda x: jnp.ones_like(x)[None])).all()


def test_halves_are_guessed_from_their_cell():
    """A polynomial is carried over exactly, and what is carried sits at the nodes."""
    nodes = (1 - np.cos(np.pi * np.arange(1, NODES + 1) / (NODES + 1))) / 2
    first, second = TO_HALVES @ nodes**5
    np.testing.assert_allclose(first, (nodes / 2) ** 5, atol=1e-12)
    np.testing.assert_allclose(second, ((1 + nodes) / 2) ** 5, atol=1e-12)
    _, cells = integral(jnp.exp, [[0.0, 1.0]])
    known = np.asarray(cells.weights) > 0
    np.testing.assert_array_equal(cells.carried[..., 0][known], cells.values[known])
