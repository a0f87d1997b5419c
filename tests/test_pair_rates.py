"""Derivatives of pair statistics by variances: mpmath's of closed forms, and differences of values.

For erf, E φ(u1) φ(u2) = (2/π) asin(2 k/√((1 + 2 q1)(1 + 2 q2))) at a covariance k.
"""

import mpmath as mp
import numpy as np
import pytest

import meanfield as mf
from meanfield import plane, unequal
from meanfield.activations.sampling import sampled

EPSILONS = [1e-9, 1e-4, 0.3, 0.9, 1.5, 2.0]
STEP = 1e-3
Q1, Q2 = np.array([0.3, 1.3, 7.0]), np.array([0.5, 1.2, 2.0])


def erf_product(q1, q2, c):
    root = mp.sqrt(q1 * q2)
    return 2 / mp.pi * mp.asin(2 * c * root / mp.sqrt((1 + 2 * q1) * (1 + 2 * q2)))


@pytest.mark.parametrize("epsilon", [0.0, 0.01, 0.7, 1.6, 2.0])
def test_covariances_of_erf(epsilon):
    samples = sampled(mf.activation("erf"))
    e = np.full(3, epsilon)
    same = plane.equal_rates(samples, Q1, e).product
    apart = unequal.unequal_rates(samples, Q1, Q2, e)
    with mp.workdps(30):
        c = 1 - mp.mpf(epsilon)
        exact = [float(mp.diff(lambda q: erf_product(q, q, c), mp.mpf(q))) for q in Q1]
        pairs = [tuple(map(mp.mpf, pair)) for pair in zip(Q1, Q2, strict=True)]
        by_q1 = [float(mp.diff(lambda x, b=b: erf_product(x, b, c), a)) for a, b in pairs]
        by_q2 = [float(mp.diff(lambda x, a=a: erf_product(a, x, c), b)) for a, b in pairs]
    np.testing.assert_allclose(same, exact, rtol=1e-10)
    np.testing.assert_allclose(apart.rate1, by_q1, rtol=1e-10)
    np.testing.assert_allclose(apart.rate2, by_q2, rtol=1e-10)


def slope(f, x):
    """Return f' of vectors by differences of the fourth order."""
    one, two = f(x * (1 + STEP)) - f(x * (1 - STEP)), f(x * (1 + 2 * STEP)) - f(x * (1 - 2 * STEP))
    return (8 * one - two) / (12 * STEP * x)


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("name", ["tanh", "hard_tanh", "gelu", "elu", "sin"])
def test_equal_variances(name, epsilon):
    """Each statistic by q, close to c = 1 and beyond c = 0, kinks included."""
    samples, e = sampled(mf.activation(name)), np.full(3, epsilon)
    rates = plane.equal_rates(samples, Q1, e)
    for field in ("product", "slope_product", "apart", "gap", "deficit"):
        expected = slope(lambda q, f=field: getattr(plane.equal(samples, q, e), f), Q1)
        size = np.abs(getattr(plane.equal(samples, Q1, e), field)) / Q1
        found = getattr(rates, field)
        assert (np.abs(found - expected) <= 1e-7 * np.abs(expected) + 1e-9 * size).all()


@pytest.mark.parametrize("epsilon", [0.0, *EPSILONS])
@pytest.mark.parametrize("name", ["tanh", "hard_tanh", "gelu", "elu"])
def test_unequal_variances(name, epsilon):
    samples, e, ones = sampled(mf.activation(name)), np.full(3, epsilon), np.ones(3)

    def value(field, a, b):
        return getattr(unequal.unequal(samples, a, b, e, ones, ones, a - b), field)

    rates = unequal.unequal_rates(samples, Q1, Q2, e)
    for field, by in (("product", "rate"), ("slope_product", "slope_rate")):
        by_q1 = slope(lambda q, f=field: value(f, q, Q2), Q1)
        by_q2 = slope(lambda q, f=field: value(f, Q1, q), Q2)
        np.testing.assert_allclose(getattr(rates, f"{by}1"), by_q1, rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(getattr(rates, f"{by}2"), by_q2, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", ["tanh", "hard_tanh", "gelu"])
def test_products_of_curvatures(name):
    """E φ''(u1) φ''(u2) is how E φ'(u1) φ'(u2) falls with ε, over √(q1 q2)."""
    samples, ones = sampled(mf.activation(name)), np.ones(3)
    e = np.array([0.2, 0.8, 1.4])

    def product(e):
        return unequal.unequal(samples, Q1, Q2, e, ones, ones, Q1 - Q2).slope_product

    bends = unequal.unequal_rates(samples, Q1, Q2, e).bend_product
    np.testing.assert_allclose(bends, -slope(product, e) / np.sqrt(Q1 * Q2), rtol=1e-8)
    same = plane.equal(samples, Q1, e).bend_product
    expected = -slope(lambda e: plane.equal(samples, Q1, e).slope_product, e) / Q1
    np.testing.assert_allclose(same, expected, rtol=1e-8)
