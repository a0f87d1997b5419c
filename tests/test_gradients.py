"""Derivatives are right where expectations are not smooth in √ε: at c = ±1, and of any order.

The references are expectations over one Gaussian (Price's theorem), by mpmath, and differences of
values.
"""

import functools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import meanfield as mf

TANH = mf.activation("tanh")
RELU = mf.activation("relu")
HARD = mf.activation("hard_tanh")
SIGN = mf.from_callable(jnp.sign)


def mean(f, q):
    """Return E f(√q z), with f analytic between -1, 0 and 1."""
    root = mp.sqrt(q)
    cuts = [-mp.inf, *(k / root for k in (-1, 0, 1)), mp.inf]
    return float(mp.quad(lambda z: f(root * z) * mp.npdf(z), cuts))


def squared_slope(x):
    return mp.sech(x) ** 4


# Correlations of ±1 --------------------------------------------------------------------------


@functools.cache
def covariance_slopes():
    layer = mf.Dense(TANH, 1.5, 0.3)
    return jax.jit(jax.grad(layer.covariance, argnums=(0, 1, 2)))


@pytest.mark.parametrize(
    ("q", "chi"), [(1.0, 1.0449065305086), (1.3, 0.94213747746), (3.0, 0.65703854401)]
)
def test_the_covariance_of_identical_inputs_moves_by_chi(q, chi):
    by_q1, by_q2, by_q12 = covariance_slopes()(q, q, q)
    assert by_q12 == pytest.approx(chi, rel=1e-10)
    bent = 2.25 * mean(lambda x: -2 * mp.tanh(x) ** 2 * mp.sech(x) ** 2, q) / 2
    assert [float(by_q1), float(by_q2)] == pytest.approx([bent, bent], rel=1e-9)


def test_the_covariance_of_opposite_inputs_moves_by_chi():
    assert covariance_slopes()(1.0, 1.0, -1.0)[2] == pytest.approx(1.0449065305086, rel=1e-10)


def test_the_covariance_of_aligned_inputs_of_unequal_variances():
    by_q12 = covariance_slopes()(1.0, 4.0, 2.0)[2]
    exact = 2.25 * mean(lambda x: mp.sech(x) ** 2 * mp.sech(2 * x) ** 2, 1)
    assert by_q12 == pytest.approx(exact, rel=1e-9)


def test_one_number_as_variance_and_covariance():
    layer = mf.Dense(TANH, 1.5, 0.3)
    slope = jax.grad(lambda t: layer.covariance(t, t, t))(1.0)
    assert slope == pytest.approx(float(layer.variance_slope(1.0)), rel=1e-10)


# φ, σw, σb, q, dC/dc at 1, at -1, and d²C/dc² at 1: inf where kinks meet.
MAPS = [
    (TANH, 1.5, 0.1, 1.3, 1.2187609992842, 1.2187609992842, 1.0701661402590),
    (RELU, np.sqrt(2), 0.1, 1.3, 0.9923664122137, 0.0, np.inf),
    (HARD, 1.5, 0.3, 1.3, 1.32774188, 1.32774188, np.inf),
]


@pytest.mark.parametrize(("phi", "weight", "bias", "q", "at_one", "opposite", "bend"), MAPS)
def test_the_correlation_map_at_its_ends(phi, weight, bias, q, at_one, opposite, bend):
    layer = mf.Dense(phi, weight, bias)
    slope = jax.jit(jax.grad(lambda c: mf.correlation_map(layer, q, c)))
    assert slope(1.0) == pytest.approx(at_one, rel=1e-8)
    assert slope(-1.0) == pytest.approx(opposite, rel=1e-8, abs=1e-14)
    by_epsilon = jax.jit(jax.grad(lambda x: layer.decorrelation(q, x)))
    assert by_epsilon(0.0) == pytest.approx(at_one, rel=1e-8)
    second = jax.jit(jax.grad(lambda c: mf.correlation_slope(layer, q, c)))
    assert second(1.0) == pytest.approx(bend, rel=1e-9)
    # Inside, where a difference of values is as good a reference.
    values = mf.correlation_slope(layer, q, np.array([0.3 - 1e-4, 0.3 + 1e-4]))
    assert second(0.3) == pytest.approx(float(values[1] - values[0]) / 2e-4, rel=1e-6)


def test_what_jumps_is_infinitely_steep_at_its_ends():
    layer = mf.Dense(SIGN, 1.0, 0.5)
    slope = jax.jit(jax.grad(lambda c: mf.correlation_map(layer, 1.25, c)))
    assert np.isposinf(slope(1.0))
    assert np.isposinf(slope(-1.0))
    assert slope(0.6) == pytest.approx(2 / np.pi / 0.8 / 1.25, rel=1e-9)
    by_q12 = jax.jit(jax.grad(lambda k: layer.covariance(1.0, 1.0, k)))
    assert np.isposinf(by_q12(1.0))
    second = jax.jit(jax.grad(lambda c: mf.correlation_slope(layer, 1.25, c)))
    assert np.isposinf(second(1.0))
    assert np.isneginf(second(-1.0))
    assert second(0.6) == pytest.approx(2 / np.pi * 0.6 / 0.8**3 / 1.25, rel=1e-9)


def test_kinks_that_are_found_are_differentiated_like_kinks_that_are_known():
    found = mf.from_callable(lambda x: jnp.maximum(x, 0.0))
    slope = jax.jit(jax.grad(lambda c: found.slope_covariance(1.3, 1.3, 1.0 - c)))
    assert np.isposinf(slope(1.0))
    assert slope(0.3) == pytest.approx(1 / (2 * np.pi * np.sqrt(1 - 0.09)), rel=1e-9)


def test_quotients_by_epsilon_at_its_lower_end():
    bend = mean(lambda x: 4 * mp.tanh(x) ** 2 * mp.sech(x) ** 4, 1.3)
    for statistic, sign in ((TANH.decorrelation, -1), (TANH.deficit, 1)):
        slope = jax.grad(lambda x, f=statistic: f(1.3, x))
        assert slope(0.0) == pytest.approx(sign * 1.3 * bend / 2, rel=1e-9)
    assert jax.grad(lambda x: TANH.slope_gap(1.3, x))(0.0) == pytest.approx(1.3 * bend, rel=1e-9)
    assert np.isneginf(jax.grad(lambda x: RELU.decorrelation(1.3, x))(0.0))
    erf = mf.activation("erf")
    values = erf.decorrelation(1.3, jnp.array([0.0, 1e-5]))
    slope = jax.grad(lambda x: erf.decorrelation(1.3, x))(0.0)
    assert slope == pytest.approx(float(values[1] - values[0]) / 1e-5, rel=1e-4)


@functools.cache
def pair_slopes():
    def pair(a, q1, q2, c):
        return mf.expect_pair(lambda x: jnp.tanh(a * x), jnp.tanh, q1, q2, c)

    return jax.jit(jax.grad(pair, argnums=(0, 1, 3)))


def test_expectations_of_any_two_functions_at_both_ends():
    chi = mean(squared_slope, 1)
    by_a, by_q1, by_c = pair_slopes()(1.0, 1.0, 1.0, 1.0)
    assert by_c == pytest.approx(chi, rel=1e-10) == pytest.approx(0.4644029024, rel=1e-9)
    assert by_a == pytest.approx(mean(lambda x: x * mp.tanh(x) * mp.sech(x) ** 2, 1), rel=1e-10)
    assert by_q1 == pytest.approx(float(by_a) / 2, rel=1e-10)
    assert pair_slopes()(1.0, 1.0, 1.0, -1.0)[2] == pytest.approx(chi, rel=1e-10)
    # Rounding that leads beyond 1 is taken off, and changes no derivative.
    beyond = pair_slopes()(1.0, 1.0, 1.0, 1.0000000000000002)
    assert beyond[2] == pytest.approx(chi, rel=1e-10)


def test_expectations_of_functions_that_jump_or_bend():
    sign = jax.jit(jax.grad(lambda c: mf.expect_pair(jnp.sign, jnp.sign, 1.0, 2.0, c, [0.0])))
    assert np.isposinf(sign(1.0))
    assert np.isposinf(sign(-1.0))
    assert sign(0.5) == pytest.approx(2 / np.pi / np.sqrt(0.75), rel=1e-9)

    def bent(c):
        return mf.expect_pair(jax.nn.relu, jax.nn.relu, 1.0, 2.0, c, [0.0])

    assert jax.jit(jax.grad(bent))(1.0) == pytest.approx(np.sqrt(2) / 2, rel=1e-12)

    def apart(x):
        return jnp.where(x > 1, 1.0, 0.0)

    # The jumps of u and 2u are at different places when u1 and u2 are aligned.
    away = jax.jit(jax.grad(lambda c: mf.expect_pair(apart, apart, 1.0, 4.0, c, [1.0])))
    assert away(1.0) == pytest.approx(0.0, abs=1e-14)


def test_second_derivatives_at_the_end_are_limits_of_those_inside():
    hessian = jax.jit(jax.hessian(lambda x: mf.expect_pair(jnp.tanh, jnp.tanh, x[0], x[1], x[2])))
    end, inside = (np.asarray(hessian(jnp.array([1.0, 1.2, c]))) for c in (1.0, 1 - 1e-6))
    np.testing.assert_allclose(end, end.T, rtol=1e-9)
    np.testing.assert_allclose(end, inside, rtol=2e-5)


def test_identical_inputs_part_by_the_slopes_on_the_way():
    layer = mf.Dense(TANH, 1.5, 0.3)
    slope = jax.grad(lambda k: mf.rollout(layer, 1.0, 1.0, k, 3).epsilon[-1])(1.0)
    expected, q = -1.0, 1.0
    for _ in range(3):
        expected *= float(mf.correlation_slope(layer, q, 1.0))
        q = float(layer.variance(q))
    assert slope == pytest.approx(expected, rel=1e-9)


# Roots, twice -------------------------------------------------------------------------------


def second(f):
    """Return f'' in forward mode over reverse mode, and the difference of f' beside it."""

    def both(x, step=1e-3):
        slope = jax.jit(jax.grad(f))
        return jax.jit(jax.jacfwd(jax.grad(f)))(x), (slope(x + step) - slope(x - step)) / step / 2

    return both


def test_the_second_derivative_of_the_edge():
    by_bias, numeric = second(lambda x: mf.edge_of_chaos(TANH, x).sigma_w)(0.3)
    assert by_bias == pytest.approx(-1.0461, abs=5e-5)
    assert by_bias == pytest.approx(float(numeric), rel=1e-4)
    by_width, numeric = second(lambda a: mf.edge_of_chaos(mf.activation("shtanh", a=a), 0.3).q)(1.1)
    assert by_width == pytest.approx(float(numeric), rel=1e-4)


def test_the_second_derivative_of_a_fixed_variance():
    value, numeric = second(lambda w: mf.steady_state(mf.Dense(TANH, w, 0.3)).q)(1.5)
    assert value == pytest.approx(float(numeric), rel=1e-5)


def test_the_second_derivative_of_a_limit_of_correlations():
    """Of sin all is elementary: differentiation of c* takes no quadrature."""

    def c(w):
        return mf.correlation_fixed_point(mf.Dense(mf.activation("sin"), w, 0.4)).c

    value, numeric = second(c)(1.8)
    assert value == pytest.approx(float(numeric), rel=1e-5)

    def depth(w):
        return mf.depth_scales(mf.Dense(mf.activation("sin"), w, 0.4)).xi_c

    value, numeric = second(depth)(1.8)
    assert value == pytest.approx(float(numeric), rel=1e-5)


@pytest.mark.parametrize("name", ["ratio_lower", "sharp_ratio_lower", "sharp_ratio_upper"])
def test_the_second_derivative_of_a_bound(name):
    value, numeric = second(lambda y: getattr(mf.bounds.scaled_bounded(y), name))(0.3)
    assert value == pytest.approx(float(numeric), rel=1e-4)


def test_the_constant_of_a_rate_is_differentiable():
    slope = jax.jit(jax.grad(lambda q: mf.convergence_rate(TANH, q).constant))
    assert slope(0.9) == pytest.approx(-4.678, abs=5e-4)
    kinked = jax.jit(jax.grad(lambda q: mf.convergence_rate(HARD, q).constant))
    values = mf.convergence_rate(HARD, np.array([0.9 - 1e-4, 0.9 + 1e-4])).constant
    assert kinked(0.9) == pytest.approx(float(values[1] - values[0]) / 2e-4, rel=1e-6)
