"""Numbers outside a domain raise where they are given, and are NaN where they are traced."""

import jax
import numpy as np
import pytest

import meanfield as mf
from meanfield.errors import Status

TANH = mf.activation("tanh")
LAYER = mf.Dense(TANH, 1.5, 0.3)
ABOVE = 1.0000000000000002


@pytest.mark.parametrize("q", [-1.0, np.array([1.0, -1e-300])])
def test_a_negative_variance_raises(q):
    for question in (LAYER.variance, LAYER.variance_slope, LAYER.moments):
        with pytest.raises(mf.MeanFieldError, match=r"q = .* must be a number >= 0"):
            question(q)
    with pytest.raises(mf.MeanFieldError, match=r"q = .* must be a number >= 0"):
        (LAYER >> LAYER).decorrelation(q, 0.1)
    with pytest.raises(mf.MeanFieldError, match=r"epsilon = .* must be 1 - correlation"):
        LAYER.growth(1.0, -1e-3)


def test_traced_numbers_outside_a_domain_are_nan():
    q = jax.jit(lambda q: (LAYER.variance(q), mf.correlation_map(LAYER, q, 0.5)))
    assert np.isnan(q(-1.0)).all()
    assert np.isfinite(q(1.0)).all()
    c = jax.jit(lambda c: (mf.correlation_map(LAYER, 1.0, c), mf.correlation_slope(LAYER, 1.0, c)))
    assert np.isnan(c(1.5)).all()
    assert np.isnan(c(-1.1)).all()
    assert np.isfinite(c(-1.0)).all()
    q12 = jax.jit(lambda q12: LAYER.covariance(1.0, 1.0, q12))
    assert np.isnan(q12(1.5))
    pair = jax.jit(lambda c: mf.expect_pair(jax.numpy.tanh, jax.numpy.tanh, 1.0, 1.0, c))
    assert np.isnan(pair(1.5))


def test_traced_numbers_outside_a_domain_have_a_status():
    edge = jax.jit(lambda sigma_b: mf.edge_of_chaos(TANH, sigma_b))
    point = edge(-0.3)
    assert point.status == Status.OUT_OF_DOMAIN
    assert np.isnan([point.q, point.sigma_w, point.slope]).all()
    assert edge(0.3).status == Status.OK
    assert edge(0.3).status.dtype == point.status.dtype
    both = jax.vmap(edge)(np.array([0.3, -0.3]))
    assert both.status.tolist() == [Status.OK, Status.OUT_OF_DOMAIN]


def test_traced_parameters_outside_their_domain_are_nan():
    def state(sigma_w, a):
        return mf.steady_state(mf.Dense(mf.activation("shtanh", a=a), sigma_w, 0.3))

    state = jax.jit(state)
    assert state(1.5, 1.0).status == Status.OK
    for illegal in ((-1.5, 1.0), (1.5, -1.0), (np.nan, 1.0)):
        assert state(*illegal).status == Status.OUT_OF_DOMAIN
        assert np.isnan(state(*illegal).q)


def test_rounding_leads_out_of_no_domain():
    at_one = [float(f(LAYER, 1.0, 1.0)) for f in (mf.correlation_map, mf.correlation_slope)]
    above = [float(f(LAYER, 1.0, ABOVE)) for f in (mf.correlation_map, mf.correlation_slope)]
    assert above == at_one
    assert float(mf.decorrelation_map(LAYER, 1.0, 1.0 - ABOVE)) == 0.0
    assert LAYER.covariance(1.0, 1.0, ABOVE) == LAYER.covariance(1.0, 1.0, 1.0)
    assert float(mf.rollout(LAYER, 1.0, 1.0, ABOVE, 1).epsilon[-1]) == 0.0
    slope = jax.jit(jax.grad(lambda c: mf.correlation_map(LAYER, 1.0, c)))
    assert slope(ABOVE) == slope(1.0) == pytest.approx(above[1], rel=1e-12)
    with pytest.raises(mf.MeanFieldError, match="correlation"):
        mf.correlation_map(LAYER, 1.0, 1.0 + 1e-9)


def test_no_layer_is_the_identity():
    moments = mf.check(mf.jacobian_moments(LAYER, 1.0, np.array([0.0, 1.0])))
    assert moments.m1[0] == moments.m2[0] == 1
    assert moments.variance[0] == 0
    jumping = mf.jacobian_moments(mf.Dense(mf.from_callable(jax.numpy.sign), 1.0, 0.1), 1.0, 0)
    assert (float(jumping.m1), float(jumping.variance)) == (1.0, 0.0)
    with pytest.raises(mf.MeanFieldError, match="depth"):
        mf.jacobian_moments(LAYER, 1.0, 0.5)


def test_traced_limits_say_what_became_of_the_variance():
    """A network without a steady state has no limit of correlations, for the same reason."""
    relu = mf.activation("relu")
    weights = np.array([2.0, 1.0, np.sqrt(2.0)])
    traced = jax.jit(lambda w: mf.correlation_fixed_point(mf.Dense(relu, w, 0.0)))(weights)
    given = mf.correlation_fixed_point(mf.Dense(relu, weights, 0.0))
    assert traced.status.tolist() == given.status.tolist()
    assert Status.DIVERGES in given.status.tolist()
    np.testing.assert_array_equal(traced.c, given.c)
