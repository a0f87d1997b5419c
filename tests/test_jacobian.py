"""Moments of squared singular values: closed forms, published ratios, and very deep networks."""

import jax
import numpy as np
import pytest
from problems import central_difference, dense

import meanfield as mf

# φ, σw², q, μ2/μ1²: mpmath, 25 digits.
RATIOS = [
    ("tanh", {}, 1.76095463960673913, 0.57004788164076415, 1.34225607830813151),
    ("tanh", {}, 1.98607264113586421, 0.805799181913487407, 1.47901203995958028),
    ("tanh", {}, 1.42420529048859573, 0.273300913458231291, 1.15253988621307551),
    ("tanh", {}, 1.08602629249969321, 0.0457090786952824649, 1.01146292377987133),
    ("erf", {}, 1.37583900734668044, 0.517176837980564379, 1.35388931762400421),
    ("elu", {}, 1.60674355794424678, 2.21277848577260931, 1.4593794371954099),
    ("swish", {}, 2.72861152633732448, 0.82657605012882845, 1.95410460586685031),
    ("gelu", {}, 2.30251951169281411, 0.72203576690160453, 2.08203482404193576),
    ("sigmoid", {}, 151.362745203304893, 100.0, 6.51015547385727353),
    ("relu", {}, 2.0, 1.0, 2.0),
    ("shtanh", {"a": 1.0}, 1.26340593238613947, 0.63215546454830246, 1.26340593238613947),
]


@pytest.mark.parametrize(("name", "params", "weight", "q", "ratio"), RATIOS)
def test_the_variance_on_the_edge(name, params, weight, q, ratio):
    """m1 = 1 and the variance is L (μ2/μ1² - 1 - s1)."""
    sigma_w = np.sqrt(weight)
    phi = mf.activation(name, **params)
    depth = np.array([1.0, 8.0, 100.0])
    for ensemble, s1 in (("gaussian", -1.0), ("orthogonal", 0.0)):
        moments = mf.check(mf.jacobian_moments(mf.Dense(phi, sigma_w, 0.0, ensemble), q, depth))
        np.testing.assert_allclose(moments.m1, 1.0, rtol=1e-10)
        np.testing.assert_allclose(moments.variance, depth * (ratio - 1 - s1), rtol=1e-10)
        np.testing.assert_allclose(moments.m2, 1 + moments.variance, rtol=1e-10)


# The table beside a simulation of networks of width 400: L = 8.
SIMULATED = [
    ("tanh", 0.5, "orthogonal", 2.394),
    ("tanh", 0.5, "gaussian", 10.394),
    ("relu", 1.0, "orthogonal", 8.0),
    ("relu", 1.0, "gaussian", 16.0),
    ("shtanh", 0.63215546454830246, "orthogonal", 2.107),
    ("shtanh", 0.63215546454830246, "gaussian", 10.107),
]


@pytest.mark.parametrize(("name", "q", "ensemble", "variance"), SIMULATED)
def test_eight_layers_on_the_edge(name, q, ensemble, variance):
    phi = mf.activation(name)
    layer = mf.Dense(phi, mf.critical_point(phi, q).sigma_w, 0.0, ensemble)
    moments = mf.jacobian_moments(layer, q, np.array([1.0, 8.0, 100.0]))
    assert moments.variance[1] == pytest.approx(variance, abs=5.1e-4)


def test_off_the_edge_the_moments_are_powers():
    layer = dense("relu", 1.5, 0.1)
    depth = np.array([1.0, 2.0, 10.0])
    moments = mf.jacobian_moments(layer, 2.0, depth)
    np.testing.assert_allclose(moments.m1, 0.75**depth, rtol=1e-13)
    np.testing.assert_allclose(moments.m2, 0.75 ** (2 * depth) * (1 + 2 * depth), rtol=1e-13)
    np.testing.assert_allclose(moments.variance, 0.75 ** (2 * depth) * 2 * depth, rtol=1e-13)


def test_the_logarithms_hold_where_the_moments_do_not():
    layer = dense("relu", np.array([1.0, 4.0]), 0.0)
    moments = mf.check(mf.jacobian_moments(layer, 1.0, 1e4))
    np.testing.assert_array_equal(moments.m1, [0.0, np.inf])
    np.testing.assert_allclose(moments.log_m1, 1e4 * np.log([0.5, 2.0]), rtol=1e-13)
    np.testing.assert_allclose(moments.log_m2 - 2 * moments.log_m1, np.log1p(2e4), rtol=1e-11)
    np.testing.assert_allclose(moments.log_variance - 2 * moments.log_m1, np.log(2e4), rtol=1e-11)


def test_a_linear_orthogonal_network_is_an_isometry():
    layer = mf.Dense(mf.activation("linear"), 1.0, 0.0, "orthogonal")
    moments = mf.check(mf.jacobian_moments(layer, 1.0, 50.0))
    assert moments.m1 == pytest.approx(1.0, rel=1e-14)
    assert moments.variance == pytest.approx(0.0, abs=1e-12)
    assert moments.m2 == pytest.approx(1.0, rel=1e-12)


def test_repeating_a_layer_is_the_same_as_depth():
    layer = dense("sin", 1.5, 0.1)
    q = float(mf.steady_state(layer).q)
    direct = mf.jacobian_moments(layer, q, 12.0)
    repeated = mf.jacobian_moments(mf.Repeat(layer, 4), q, 3.0)
    for one, other in zip(jax.tree.leaves(direct), jax.tree.leaves(repeated), strict=True):
        assert one == pytest.approx(float(other), rel=1e-11)


def test_an_infinite_slope_is_said():
    layer = mf.Dense(mf.from_callable(jax.numpy.sign), 1.0, 0.1)
    moments = mf.jacobian_moments(layer, 1.0, 3.0)
    assert moments.status == mf.Status.NONFINITE
    assert np.isnan(moments.m1)
    assert np.isnan(moments.log_variance)


def test_an_unresolved_slope_is_said():
    phi = mf.from_callable(lambda x: jax.numpy.sin(1e7 * x), label="fast")
    moments = mf.jacobian_moments(mf.Dense(phi, 1.0, 0.1), 1.0, 3.0)
    assert moments.status == mf.Status.NOT_CONVERGED
    assert np.isnan(moments.m2)


def test_arrays_broadcast():
    layer = dense("relu", np.array([[1.0], [2.0]]), 0.0)
    moments = mf.jacobian_moments(layer, np.ones(3), np.array([1.0, 2.0, 3.0]))
    assert moments.m1.shape == moments.status.shape == (2, 3)
    np.testing.assert_allclose(moments.m1, [[0.5, 0.25, 0.125], [1, 1, 1]], rtol=1e-14)


def test_moments_are_differentiable():
    def log_m2(sigma_w, q):
        return mf.jacobian_moments(mf.Dense(mf.activation("tanh"), sigma_w), q, 5.0).log_m2

    gradient = jax.grad(log_m2, argnums=(0, 1))(1.3, 0.6)
    assert gradient[0] == pytest.approx(central_difference(lambda w: log_m2(w, 0.6), 1.3), rel=1e-9)
    assert gradient[1] == pytest.approx(central_difference(lambda q: log_m2(1.3, q), 0.6), rel=1e-9)
