"""Spectra by theory against those of random networks of 800 units: Kolmogorov-Smirnov distances."""

import functools

import numpy as np
import pytest

import meanfield as mf

WIDTH = 800
# Singular values of J below the first are rounding, and the part by which equal ones differ.
ROUNDING, SAME = 1e-13, 1e-9
# φ, σb, L, weights, and the largest distance that is accepted: the deviation of finite networks is
# of relative order L/N, and that of their single values far below 1/√N. But the rank of a ReLU
# network is that of the layer with the fewest active units: a deviation of order 1/√N.
CASES = [
    ("tanh", 0.2, 8, "gaussian", 0.02),
    ("tanh", 0.2, 8, "orthogonal", 0.03),
    ("hard_tanh", 0.2, 8, "orthogonal", 0.03),
    ("gelu", 0.5, 6, "gaussian", 0.02),
    ("relu", 0.0, 8, "gaussian", 0.06),
    ("relu", 0.0, 8, "orthogonal", 0.06),
]


def critical(name, sigma_b, ensemble):
    phi = mf.activation(name)
    point = mf.edge_of_chaos(phi, sigma_b)
    q = float(point.q)
    return mf.Dense(phi, float(point.sigma_w), sigma_b, ensemble), q if q > 0 else 1.0


def distance(spectrum, squares):
    """Return sup |F - F_n| over squared singular values above rounding, atoms included."""
    squares = np.sort(squares)
    places = np.unique(np.append(squares[squares > ROUNDING**2], ROUNDING**2))
    worst = 0.0
    for side in (-1, 1):
        shifted = places * (1 + side * SAME)
        seen = np.searchsorted(squares, shifted, side="right") / squares.size
        theory = np.asarray(spectrum.cdf(shifted))
        assert np.isnan(theory).mean() < 0.01
        worst = max(worst, np.nanmax(np.abs(seen - theory)))
    return worst


@functools.cache
def squares_of(name, sigma_b, depth, ensemble):
    layer, q = critical(name, sigma_b, ensemble)
    networks = mf.simulate(layer, [WIDTH] * (depth + 1), q, networks=2, seed=1)
    return networks.singular_values[depth].ravel() ** 2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "sigma_b", "depth", "ensemble", "accepted"), CASES)
def test_random_networks_have_the_spectrum(name, sigma_b, depth, ensemble, accepted):
    layer, q = critical(name, sigma_b, ensemble)
    spectrum = mf.check(mf.jacobian_spectrum(layer, q, float(depth)))
    assert distance(spectrum, squares_of(name, sigma_b, depth, ensemble)) < accepted


@pytest.mark.slow
def test_the_distance_tells_depths_apart():
    """What the test above accepts for eight layers, at most 0.02, it does not for seven."""
    layer, q = critical("tanh", 0.2, "gaussian")
    wrong = mf.check(mf.jacobian_spectrum(layer, q, 7.0))
    assert distance(wrong, squares_of("tanh", 0.2, 8, "gaussian")) > 0.025


@pytest.mark.slow
def test_a_mixed_stack_of_random_networks():
    """Unlike layers, in turn: the free product of their laws."""
    tanh = mf.Dense(mf.activation("tanh"), 1.4, 0.3, "orthogonal")
    relu = mf.Dense(mf.activation("relu"), 1.5, 0.1)
    stack = tanh >> relu >> tanh
    spectrum = mf.check(mf.jacobian_spectrum(stack, 0.8))
    squares = mf.simulate(stack, [WIDTH] * 4, 0.8, networks=2, seed=2).singular_values[3] ** 2
    assert distance(spectrum, squares.ravel()) < 0.05
    p = np.array([0.8, 0.95])
    empirical = np.quantile(squares, p)
    np.testing.assert_allclose(spectrum.quantile(p), empirical, rtol=0.1)
