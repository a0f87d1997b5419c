"""Derivatives by parameters of φ, which the host finds from a series in the parameter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import meanfield as mf
from meanfield._struct import struct
from meanfield.activations.base import Activation, parameter
from meanfield.chebyshev import derivative


@struct
class Wave(Activation):
    """sin(ωx)."""

    omega: float = parameter(1.0, ">= 0", lambda value: value >= 0)

    def __call__(self, x):
        return jnp.sin(self.omega * x)


@struct
class Ramp(Activation):
    """max(x - a, 0) + jump [x > a]."""

    a: float = 0.0
    jump: float = 0.0

    def __call__(self, x):
        return jnp.maximum(x - self.a, 0.0) + jnp.where(x > self.a, self.jump, 0.0)

    def kinks(self):
        return (self.a,)


@struct
class Bump(Activation):
    """tanh x, and a bump of width 1e-3 at a."""

    a: float = 0.5

    def __call__(self, x):
        return jnp.tanh(x) + jnp.exp(-jnp.square((x - self.a) / 1e-3))


def waves(omega, q1, q2, epsilon):
    """Return E cos ω(u1 - u2) and E cos ω(u1 + u2)."""
    root, squares = jnp.sqrt(q1 * q2), jnp.square(jnp.sqrt(q1) - jnp.sqrt(q2))
    near = jnp.exp(-jnp.square(omega) * (squares + 2 * root * epsilon) / 2)
    return near, jnp.exp(-jnp.square(omega) * (squares + 2 * root * (2 - epsilon)) / 2)


# By ω, q1, q2, ε: the statistic and what it is.
OF_WAVES = {
    "second_moment": (
        lambda w, q, _, e: Wave(w).second_moment(q),
        lambda w, q, _, e: -jnp.expm1(-2 * w * w * q) / 2,
    ),
    "slope_moment": (
        lambda w, q, _, e: Wave(w).slope_moment(q, 2),
        lambda w, q, _, e: w * w * (1 + jnp.exp(-2 * w * w * q)) / 2,
    ),
    "covariance": (
        lambda w, q1, q2, e: Wave(w).covariance(q1, q2, e),
        lambda w, q1, q2, e: (waves(w, q1, q2, e)[0] - waves(w, q1, q2, e)[1]) / 2,
    ),
    "slope_covariance": (
        lambda w, q, _, e: Wave(w).slope_covariance(q, q, e),
        lambda w, q, _, e: w * w * (waves(w, q, q, e)[0] + waves(w, q, q, e)[1]) / 2,
    ),
}


@pytest.mark.parametrize("name", OF_WAVES)
@pytest.mark.parametrize("numbers", [(0.8, 1.3, 0.4, 0.3), (30.0, 1e-3, 2e-3, 0.1)])
def test_waves(name, numbers):
    ours, exact = OF_WAVES[name]
    np.testing.assert_allclose(
        jax.jit(jax.grad(ours))(*numbers), jax.grad(exact)(*numbers), rtol=1e-10
    )


@pytest.mark.parametrize("place", [0, 1, 3])
def test_second_derivatives_in_either_order(place):
    ours, exact = OF_WAVES["slope_covariance"]
    for epsilon in (0.3, 0.0):
        numbers = 0.8, 1.3, 1.3, epsilon
        expected = float(jax.grad(jax.grad(exact), place)(*numbers))
        assert jax.grad(jax.grad(ours), place)(*numbers) == pytest.approx(expected, rel=1e-8)
        assert jax.grad(jax.grad(ours, place))(*numbers) == pytest.approx(expected, rel=1e-8)


def test_the_end_of_a_domain_is_approached_from_inside():
    ours, _ = OF_WAVES["slope_covariance"]
    # It is ω² (1 + O(ω²)) at ω = 0.
    assert jax.grad(ours)(0.0, 1.3, 1.3, 0.3) == pytest.approx(0.0, abs=1e-11)
    assert jax.grad(jax.grad(ours))(0.0, 1.3, 1.3, 0.3) == pytest.approx(2.0, rel=1e-8)
    slope = jax.grad(lambda a: mf.activation("elu", alpha=a).second_moment(1.0))
    alpha = 1e-3
    part = integrate.quad(lambda z: np.expm1(z) ** 2 * stats.norm.pdf(z), -40, 0, epsabs=1e-14)[0]
    assert slope(alpha) == pytest.approx(2 * alpha * part, rel=1e-9)


@pytest.mark.parametrize(("a", "q"), [(0.0, 1.0), (1.5, 1.0), (-0.7, 3.0), (0.02, 1e-4)])
def test_a_kink_that_moves(a, q):
    z, root = a / np.sqrt(q), np.sqrt(q)
    moment = jax.grad(lambda a: Ramp(a).second_moment(q))(a)
    assert moment == pytest.approx(-2 * root * (stats.norm.pdf(z) - z * stats.norm.sf(z)), rel=1e-9)
    slope = jax.grad(lambda a: Ramp(a).slope_moment(q, 2))(a)
    assert slope == pytest.approx(-stats.norm.pdf(z) / root, rel=1e-9)


def test_a_jump_that_moves_or_grows():
    by_a, by_jump = jax.grad(lambda a, j: Ramp(a, j).second_moment(2.0), (0, 1))(0.4, 0.7)
    z = 0.4 / np.sqrt(2)
    density, above = stats.norm.pdf(z) / np.sqrt(2), stats.norm.sf(z)
    mean = 2 * density - 0.4 * above
    grown = 2 * (mean + 0.7 * above)
    assert by_jump == pytest.approx(grown, rel=1e-10)
    assert by_a == pytest.approx(-(0.7**2) * density - grown, rel=1e-10)
    # An infinite moment has no derivative.
    assert np.isnan(jax.grad(lambda a: Ramp(a, 0.7).slope_moment(2.0, 2))(0.4))


def test_a_narrow_bump_that_moves_is_right_or_unknown():
    def exact(a):
        def slope(z):
            x = (z - a) / 1e-3
            bump = np.exp(-x * x)
            return 2 * (np.tanh(z) + bump) * bump * 2 * x / 1e-3 * stats.norm.pdf(z)

        return integrate.quad(slope, a - 8e-3, a + 8e-3, epsabs=1e-13, limit=500)[0]

    for a in (0.5, 0.0, -1.3):
        slope = float(jax.grad(lambda a: Bump(a).second_moment(1.0))(a))
        assert np.isnan(slope) or slope == pytest.approx(exact(a), rel=1e-6), a


def test_arrays_of_parameters():
    omega = jnp.array([0.5, 0.8, 1.1])
    ours, exact = OF_WAVES["second_moment"]
    slopes = jax.vmap(jax.grad(ours), (0, None, None, None))(omega, 1.3, 1.3, 0.3)
    expected = jax.vmap(jax.grad(exact), (0, None, None, None))(omega, 1.3, 1.3, 0.3)
    np.testing.assert_allclose(slopes, expected, rtol=1e-10)


def test_the_edge_moves_with_a_parameter_that_is_no_scale():
    def sigma_w(omega):
        return mf.edge_of_chaos(Wave(omega), 0.3).sigma_w

    slope = jax.grad(sigma_w)(0.9)
    numeric = (sigma_w(0.9 + 1e-4) - sigma_w(0.9 - 1e-4)) / 2e-4
    assert slope == pytest.approx(float(numeric), rel=1e-6)


@struct
class Well(Activation):
    """|x - a| + |x + a|."""

    a: float = 1.0

    def __call__(self, x):
        return jnp.abs(x - self.a) + jnp.abs(x + self.a)


@pytest.mark.parametrize("a", [0.0, 1e-4, -2e-4, 1e-3, 0.3])
def test_where_kinks_meet_derivatives_are_right_or_unknown(a):
    """E φ² = 4 (E u² + E (a² - u²) [|u| < |a|]), of which |a|³ is not analytic."""

    def moment(x):
        return Well(x).second_moment(1.0)

    inside, density = 2 * stats.norm.cdf(abs(a)) - 1, stats.norm.pdf(a)
    exact = 8 * a * inside, 8 * inside + 16 * abs(a) * density
    first, second = jax.grad(moment)(a), jax.grad(jax.grad(moment))(a)
    assert np.isnan(first) or first == pytest.approx(exact[0], abs=1e-9)
    assert np.isnan(second) or second == pytest.approx(exact[1], abs=1e-6)
    assert np.isfinite(second) == (abs(a) >= 0.3)


def test_high_derivatives_are_right_or_unknown():
    def exact(x):
        return -jnp.expm1(-2 * x * x) / 2

    def values(_, moved):
        return -np.expm1(-2 * moved**2) / 2

    def legal(_, moved):
        return np.ones(moved.shape, bool)

    for order in range(1, 11):
        exact = jax.grad(exact)
        found = derivative(values, legal, np.array([0.7]), order)[0]
        assert np.isnan(found) or found == pytest.approx(float(exact(0.7)), rel=1e-6), order
        assert np.isfinite(found) == (order <= 3)


def test_the_curvature_of_a_kink_has_no_rate():
    for name in ("relu", "elu"):
        phi = mf.activation(name, **({"alpha": 1.5} if name == "elu" else {}))
        assert np.isposinf(phi.curvature_moment(1.0))
        assert np.isnan(jax.grad(phi.curvature_moment)(1.0))
