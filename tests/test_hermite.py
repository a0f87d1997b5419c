"""Hermite series of pairs: closed forms with 40 digits, and the ends of what a series serves."""

import mpmath as mp
import numpy as np
import pytest

import meanfield as mf
from meanfield import hermite, plane, unequal
from meanfield.activations.sampling import sampled

EPSILONS = [1e-12, 1e-5, 0.03, 0.4, 1.0, 1.3, 1.97]


def erf_product(q1, q2, c):
    """Return E erf(u1) erf(u2)."""
    covariance = c * mp.sqrt(q1 * q2)
    return 2 / mp.pi * mp.asin(2 * covariance / mp.sqrt((1 + 2 * q1) * (1 + 2 * q2)))


def erf_slopes(q1, q2, c):
    """Return E erf'(u1) erf'(u2)."""
    return 4 / mp.pi / mp.sqrt((1 + 2 * q1) * (1 + 2 * q2) - 4 * c**2 * q1 * q2)


def sin_product(q1, q2, c):
    return mp.exp(-(q1 + q2) / 2) * mp.sinh(c * mp.sqrt(q1 * q2))


def sin_slopes(q1, q2, c):
    return mp.exp(-(q1 + q2) / 2) * mp.cosh(c * mp.sqrt(q1 * q2))


CLOSED = {"erf": (erf_product, erf_slopes), "sin": (sin_product, sin_slopes)}


def statistics(name, q, epsilon):
    """Return all statistics of `plane.Equal` in closed form."""
    product, slopes = CLOSED[name]
    with mp.workdps(60):
        q, e = mp.mpf(q), mp.mpf(epsilon)
        c = 1 - e
        apart = (product(q, q, mp.mpf(1)) - product(q, q, c)) / (q * e)
        squared, slope_product = slopes(q, q, mp.mpf(1)), slopes(q, q, c)
        bends = mp.diff(lambda x: slopes(q, q, x), c) / q
        values = (product(q, q, c), slope_product, apart, squared - slope_product)
        return np.array([float(x) for x in (*values, squared - apart, bends)])


@pytest.mark.parametrize("q", [1e-3, 0.3, 2.0])
@pytest.mark.parametrize("name", list(CLOSED))
def test_all_statistics_keep_their_digits_up_to_c_1(name, q):
    phi = sampled(mf.activation(name))
    assert hermite.series(phi, q).ended
    found = np.array(plane.equal(phi, np.full(len(EPSILONS), q), np.array(EPSILONS))).T
    for row, epsilon in zip(found, EPSILONS, strict=True):
        exact = statistics(name, q, epsilon)
        # φ' is known to 1e-16, and deviates by about q from its mean; odd φ have E φφ = 0 at c = 0.
        np.testing.assert_allclose(row, exact, rtol=1e-12 + 1e-15 / q, atol=1e-30)


@pytest.mark.parametrize("epsilon", [0.1, 0.5, 1.0, 1.6, 1.9])
def test_series_that_do_not_end_serve_well_below_1(epsilon):
    """ReLU by the arc cosine kernel, a step by the arc sine law, Dirac masses included."""
    q, c = 1.7, 1 - epsilon
    at, e = np.array([q]), np.array([epsilon])
    angle = np.arccos(c)
    relu = sampled(mf.activation("relu"))
    own = hermite.series(relu, q)
    assert not own.ended
    np.testing.assert_array_equal(own.serves(np.append(e, 1e-3)), [True, False])
    found = plane.equal(relu, at, e)
    product = q * (np.sin(angle) + (np.pi - angle) * c) / (2 * np.pi)
    np.testing.assert_allclose(found.product, product, rtol=1e-13)
    np.testing.assert_allclose(found.slope_product, (np.pi - angle) / (2 * np.pi), rtol=1e-13)
    np.testing.assert_allclose(found.apart, (q / 2 - product) / (q * epsilon), rtol=1e-13)
    np.testing.assert_allclose(found.gap, angle / (2 * np.pi), rtol=1e-13)
    step = plane.equal(sampled(mf.from_callable(np.sign)), at, e)
    np.testing.assert_allclose(step.product, 2 / np.pi * np.arcsin(c), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(step.slope_product, 2 / (np.pi * q * np.sin(angle)), rtol=1e-12)


@pytest.mark.parametrize("name", ["relu", "elu", "tanh", "hard_tanh"])
def test_derivatives_at_correlation_0(name):
    """At c = 0 E φ(u1) φ(u2) = (E φ)², whose derivative by q is E φ E φ''."""
    phi, at = sampled(mf.activation(name)), np.array([1.3])
    rate = plane.equal_rates(phi, at, np.array([1.0])).product
    expected = phi.mean(at) * phi.mean_curvature(at)
    np.testing.assert_allclose(rate, expected, rtol=1e-12, atol=1e-15)


def test_rules_know_derivatives_at_correlation_0(monkeypatch):
    monkeypatch.setattr(hermite, "series", lambda phi, q: None)
    test_derivatives_at_correlation_0("relu")


def test_pieces_are_cut_where_moments_do_not_see_a_kink():
    """φ = |x - 1/2| (x - 1/2) has a kink in φ', but φ² and φ'² are polynomials."""
    phi = sampled(mf.from_callable(lambda x: abs(x - 0.5) * (x - 0.5)))
    q, epsilon = np.array([0.8]), np.array([0.3])
    found = plane.equal(phi, q, epsilon)
    with mp.workdps(20):
        s, c = mp.sqrt(0.8), mp.mpf(0.7)

        def inner(y):
            """Return E 2|u2 - 1/2| for u2 of mean c y and variance q (1 - c²)."""
            m, r = c * y - mp.mpf(1) / 2, s * mp.sqrt(1 - c**2)
            return 2 * (
                r * mp.sqrt(2 / mp.pi) * mp.exp(-(m**2) / (2 * r**2))
                + m * mp.erf(m / (r * mp.sqrt(2)))
            )

        def outer(y):
            return 2 * abs(y - mp.mpf(1) / 2) * inner(y) * mp.npdf(y, 0, s)

        exact = mp.quad(outer, [-9, -3, 0, 0.5, 2, 9])
    np.testing.assert_allclose(found.slope_product, float(exact), rtol=1e-11)


@pytest.mark.parametrize("gap", [1e-9, 1e-4, 0.7])
@pytest.mark.parametrize("epsilon", [1e-9, 0.2, 1.5])
def test_unequal_variances(gap, epsilon):
    phi = sampled(mf.activation("erf"))
    q1, q2 = 1.1 + gap, 1.1
    s, t = 1 / np.sqrt(q1), 1 / np.sqrt(q2)
    vectors = (np.array([x]) for x in (q1, q2, epsilon, s, t, q1 - q2))
    found = unequal.unequal(phi, *vectors)
    rates = unequal.unequal_rates(phi, *(np.array([x]) for x in (q1, q2, epsilon)))
    with mp.workdps(60):
        a, b, c = mp.mpf(q1), mp.mpf(q2), 1 - mp.mpf(epsilon)
        s, t = mp.mpf(s), mp.mpf(t)
        product = erf_product(a, b, c)
        one, two = (erf_product(x, x, mp.mpf(1)) for x in (a, b))
        separation = (s**2 * one + t**2 * two) / 2 - s * t * product
        exact = [product, erf_slopes(a, b, c), separation]
        by = [
            mp.diff(lambda x: erf_product(x, b, c), a),
            mp.diff(lambda x: erf_product(a, x, c), b),
        ]
        by += [mp.diff(lambda x: erf_slopes(x, b, c), a), mp.diff(lambda x: erf_slopes(a, x, c), b)]
        bends = mp.diff(lambda x: erf_slopes(a, b, x), c) / mp.sqrt(a * b)
    np.testing.assert_allclose(np.ravel(found), [float(x) for x in exact], rtol=1e-11)
    np.testing.assert_allclose(np.ravel(rates), [float(x) for x in (bends, *by)], rtol=1e-11)


def test_series_that_are_forgotten_are_found_again(monkeypatch):
    monkeypatch.setattr(hermite, "REMEMBERED", 2)
    phi = sampled(mf.from_callable(lambda x: np.tanh(x) + 0.1))
    first = hermite.series(phi, 0.5).slopes
    for q in (0.6, 0.7, 0.8):
        hermite.series(phi, q)
    assert 0.5 not in phi.series
    np.testing.assert_array_equal(hermite.series(phi, 0.5).slopes, first)
