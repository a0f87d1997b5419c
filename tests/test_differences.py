"""Expectations of squared differences for all variances and angles at once."""

import itertools

import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import meanfield as mf
from meanfield import chebyshev, plane
from meanfield.activations.sampling import sampled
from meanfield.differences import differences
from meanfield.table import ALL_ANGLES

THETA = chebyshev.nodes(ALL_ANGLES).ravel()
VARIANCES = np.array([1e-6, 1e-3, 0.02, 0.7, 3.0, 40.0, 900.0])


@mp.workdps(40)
def erf_gap(q: float, theta: float) -> float:
    q, c = mp.mpf(q), mp.cos(mp.mpf(theta))
    apart = 1 / mp.sqrt((1 + 2 * q) ** 2 - (2 * q * c) ** 2)
    return float(4 / mp.pi * (1 / mp.sqrt(1 + 4 * q) - apart))


def test_slopes_of_erf():
    found = differences(sampled(mf.activation("erf")), True, VARIANCES, ALL_ANGLES)
    assert found.still == 0
    assert not found.doubt.any()
    chosen = np.arange(0, THETA.size, 7)
    exact = np.array([[erf_gap(q, THETA[i]) for i in chosen] for q in VARIANCES])
    # Differences of φ' are rounded at 1e-16.
    error = np.abs(found.value[:, chosen] - exact)
    assert (error <= 3e-13 * exact + 1e-16 * np.sqrt(exact)).all()


def test_slopes_of_relu():
    """P(u1 and u2 of different sign)/2 = θ/2π: two masses in closed form."""
    found = differences(sampled(mf.activation("relu")), True, VARIANCES, ALL_ANGLES)
    np.testing.assert_allclose(found.value, np.tile(THETA / (2 * np.pi), (7, 1)), rtol=2e-12)
    assert (found.doubt <= 1e-9 * found.value).all()


def test_values_of_sin():
    """(1 - e^(-qε)) (1 + e^(-q(2 - ε)))/2, as far out as is affordable."""
    q = VARIANCES[:, None]
    loss = 2 * q * np.sin(THETA / 2) ** 2
    exact = -np.expm1(-loss) * (1 + np.exp(loss - 2 * q)) / 2
    found = differences(sampled(mf.activation("sin")), False, VARIANCES, ALL_ANGLES).value
    known = np.isfinite(found)
    assert known[:-1].all()
    np.testing.assert_allclose(found[known], exact[known], rtol=1e-12)


@mp.workdps(30)
def hard_tanh_gap(q: float, theta: float) -> float:
    """The integral over θ of what Price's theorem says of the masses at ±1."""
    q = mp.mpf(q)

    def growth(t):
        same, opposite = (
            mp.exp(-1 / (2 * q * mp.cos(t / 2) ** 2)),
            mp.exp(-1 / (2 * q * mp.sin(t / 2) ** 2)),
        )
        return (same - opposite) / mp.pi

    return float(mp.quad(growth, mp.linspace(0, theta, 9)))


def test_what_is_still_at_first():
    """φ' begins to vary at 1: at q = 0.02 its differences are e^-25."""
    found = differences(sampled(mf.activation("hard_tanh")), True, VARIANCES, ALL_ANGLES)
    assert found.still == 1
    assert not found.value[0].any()
    for i, j in itertools.product((2, 3, 4, 5), (10, 90, 120, 200)):
        exact = hard_tanh_gap(VARIANCES[i], THETA[j])
        assert np.abs(found.value[i, j] - exact) <= 1e-10 * exact + found.doubt[i, j]


@pytest.mark.parametrize(
    ("name", "function", "of_slope"),
    [
        ("shifted kinks", lambda x: jnp.tanh(x) + jnp.abs(x - 0.3) + jnp.maximum(x + 1.1, 0), True),
        ("one-sided", lambda x: jnp.where(x > 0.2, jnp.sin(x), x**2), False),
        ("bend of φ'", lambda x: jnp.abs(x - 0.5) * (x - 0.5), True),
        ("narrow", lambda x: jnp.tanh(x) + 0.01 * jnp.tanh(100 * (x - 0.7)), True),
        ("steps", lambda x: jnp.floor(1.5 * x) - 0.4 * jnp.sign(x - 0.1), False),
    ],
)
def test_any_function(name, function, of_slope):
    phi = sampled(mf.from_callable(function))
    found = differences(phi, of_slope, VARIANCES, ALL_ANGLES)
    random = np.random.default_rng(2)
    for i, j in itertools.product((1, 2, 3, 4, 5), random.choice(THETA.size, 5)):
        q, epsilon = VARIANCES[[i]], 2 * np.sin(THETA[[j]] / 2) ** 2
        pair = plane.equal(phi, q, epsilon)
        direct = pair.gap if of_slope else q * epsilon * pair.apart
        size = phi.slope_moment(q, 2) if of_slope else phi.second_moment(q)
        # To so much rules of pairs are certified.
        error = 1e-11 * direct + 2e-13 * size + found.doubt[i, j]
        assert np.abs(found.value[i, j] - direct) <= error


def test_beyond_what_is_known_it_is_silent():
    """exp(x²/40), of which E φ² is infinite from q = 10 on, and grows beyond all cells before."""
    phi = sampled(mf.from_callable(lambda x: jnp.exp(x**2 / 40)))
    value = differences(phi, False, np.array([0.05, 0.5, 9.9, 11.0]), ALL_ANGLES).value
    assert np.isfinite(value[:2]).all()
    assert np.isnan(value[2:]).all()


def test_too_many_kinks_are_not_followed():
    """200 kinks between 1 and 2, of a curved φ: nothing is said of Gaussians that reach them."""
    at = np.linspace(1.0, 2.0, 200)
    phi = mf.from_callable(lambda x: jnp.tanh(x) + 0.1 * jnp.interp(x, at, np.arange(200) % 2.0))
    value = differences(sampled(phi), True, np.array([1e-4, 1.0]), ALL_ANGLES).value
    assert np.isfinite(value[0]).all()
    assert np.isnan(value[1]).all()
