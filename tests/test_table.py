"""Tables of an activation: right where they are certified, silent elsewhere."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import meanfield as mf
from meanfield import chebyshev, table
from meanfield.activations import activations
from meanfield.slope_gaps import gap_growth, polar_gaps
from meanfield.table import PAIRS, WIDE, has_table, tabulate

ANGLES = np.array([3e-5, 1e-3, 0.02, 0.3, 1.0, np.pi / 2])


def test_series_and_slopes():
    edges = np.array([-1.0, 0.5, 2.0, 2.5])
    coefficients = np.exp(chebyshev.nodes(edges)) @ chebyshev.transform().T
    x = np.array([-1.0, -0.3, 0.5, 1.7, 2.5])
    cell, place = chebyshev.locate(jnp.asarray(edges), jnp.asarray(x))
    value, slope = chebyshev.series_and_slope(jnp.asarray(coefficients)[cell], place)
    np.testing.assert_allclose(value, np.exp(x), rtol=2e-14)
    np.testing.assert_allclose(slope * 2 / np.diff(edges)[cell], np.exp(x), rtol=1e-11)
    np.testing.assert_array_equal(chebyshev.series(jnp.asarray(coefficients)[cell], place), value)


def test_running_integrals_keep_their_digits():
    edges = np.append(0.0, 2.0 ** -np.arange(12, -1, -1))
    t = chebyshev.nodes(edges).ravel()
    matrix = chebyshev.running_integral(edges, lambda x: x**2)
    # ∫ e^-x x² dx, by its own series where it is small.
    exact = [float(mp.gammainc(3, 0, x)) for x in t]
    np.testing.assert_allclose(matrix @ np.exp(-t), exact, rtol=1e-14)


@mp.workdps(40)
def erf_gap(q: float, theta: float) -> float:
    q, c = mp.mpf(q), mp.cos(mp.mpf(theta))
    apart = 1 / mp.sqrt((1 + 2 * q) ** 2 - (2 * q * c) ** 2)
    return float(4 / mp.pi * (1 / mp.sqrt(1 + 4 * q) - apart))


def test_gaps_of_erf():
    q = np.array([1e-3, 0.1, 3.0, 200.0])
    full, half = polar_gaps(mf.activation("erf"), q, ANGLES, jumps=False)
    exact = [[erf_gap(a, b) for b in ANGLES] for a in q]
    np.testing.assert_allclose(full[:, 1:], np.asarray(exact)[:, 1:], rtol=1e-11)
    # Differences of φ' are rounded.
    np.testing.assert_allclose(full, exact, rtol=3e-10)
    # The coarser rule tells the error: it is above it, and not by far.
    assert (np.abs(half / full - 1) < 1e-3).all()
    assert (np.abs(half / full - 1) > 0).any()


def test_gaps_of_relu():
    q = np.array([1e-3, 5.0])
    np.testing.assert_allclose(gap_growth(mf.activation("relu"), q, ANGLES), 1 / (2 * np.pi))
    phi = mf.activation("selu")
    full, _ = polar_gaps(phi, q, ANGLES, jumps=True)
    exact = [[float(phi.slope_gap(a, 2 * np.sin(b / 2) ** 2)) for b in ANGLES] for a in q]
    np.testing.assert_allclose(full, exact, rtol=1e-11)


@pytest.mark.parametrize("name", sorted(activations))
def test_tables_of_every_activation(name):
    phi = mf.activation(name)
    if not has_table(phi):
        with pytest.raises(mf.MeanFieldError, match="has no table"):
            tabulate(phi)
        assert name in ("hard_swish", "sexp", "sin", "srelu", "ssin")
        return
    found = tabulate(phi)
    assert found.error <= 1
    assert tabulate(mf.activation(name)) is found
    low, high = found.pair_range
    assert low <= 2e-3
    assert high >= 60
    random = np.random.default_rng(3)
    q = np.exp(random.uniform(np.log(low), np.log(high), 6))
    theta = random.choice(ANGLES, 6)
    epsilon = 2 * np.sin(theta / 2) ** 2
    mean = np.asarray(jax.vmap(lambda x: phi.slope_moment(x, 2))(q))
    deficit, gap = jax.vmap(found.gaps)(q, theta)
    for ours, direct in ((deficit, phi.deficit), (gap, phi.slope_gap)):
        exact = np.asarray([float(direct(a, e)) for a, e in zip(q, epsilon, strict=True)])
        known = np.isfinite(exact)
        assert known.sum() >= 3
        # Direct deficits are known to a part of E φ'².
        error = np.abs(np.asarray(ours) - exact)
        assert (error <= 1e-8 * np.abs(exact) + 1e-13 * mean)[known].all()


@pytest.mark.parametrize("name", ["tanh", "gelu", "elu", "hard_tanh", "sigmoid", "gaussian"])
def test_moments_over_many_decades(name):
    phi, found = mf.activation(name), tabulate(mf.activation(name))
    q = 10 ** np.random.default_rng(5).uniform(-10, 8, 60)
    for part, direct, tolerance in (
        (found.second_moment, phi.second_moment, 2e-12),
        (found.slope_moment, lambda x: phi.slope_moment(x, 2), 2e-12),
        (found.fourth_slope_moment, lambda x: phi.slope_moment(x, 4), 2e-12),
    ):
        ours = np.asarray(jax.vmap(lambda x, part=part: found.read(part, x))(q))
        exact = np.asarray(jax.jit(lambda x, f=direct: jax.lax.map(f, x))(q))
        known = np.isfinite(ours)
        assert known.mean() > 0.6
        np.testing.assert_allclose(ours[known], exact[known], rtol=tolerance)


def test_outside_its_range_a_table_is_silent():
    found = tabulate(mf.activation("tanh"))
    low, high = found.pair_range
    assert np.exp(PAIRS[0]) < low
    assert high < np.exp(PAIRS[-1])
    for q in (np.exp(PAIRS[0]) / 2, low / 1.01, high * 1.01, np.exp(PAIRS[-1]) * 2):
        assert np.isnan(found.gaps(q, 0.5)).all()
    for q in (np.exp(WIDE[0]) / 1.01, np.exp(WIDE[-1]) * 1.01):
        assert np.isnan(found.read(found.second_moment, q))
    assert np.isfinite(found.gaps(low * 1.01, 0.0)).all()
    for theta in (-1e-9, 1.58, 3.0):
        assert np.isnan(found.gaps(1.0, theta)).all()


def test_a_table_that_quadrature_contradicts_has_no_pairs(monkeypatch):
    phi = mf.activation("leaky_relu", negative_slope=0.3)
    wrong = table.gap_growth

    def slightly(*args):
        return wrong(*args) * (1 + 1e-6)

    monkeypatch.setattr(table, "gap_growth", slightly)
    found = tabulate(phi)
    assert np.isnan(found.pair_range).all()
    assert found.error <= 1
    table._tabulate.cache_clear()


def test_activations_of_arrays_have_no_table():
    with pytest.raises(mf.MeanFieldError, match="single numbers"):
        tabulate(mf.activation("shtanh", a=np.array([1.0, 2.0])))
