"""Statuses are int8 codes, under jit, vmap and grad too, and rollouts have one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import meanfield as mf

TANH = mf.activation("tanh")
# What is asked of a standard deviation of weights.
QUESTIONS = {
    "steady_state": lambda s: mf.steady_state(mf.Dense(TANH, s, 0.1)),
    "correlation_fixed_point": lambda s: mf.correlation_fixed_point(mf.Dense(TANH, s, 0.1)),
    "depth_scales": lambda s: mf.depth_scales(mf.Dense(TANH, s, 0.1)),
    "edge_of_chaos": lambda s: mf.edge_of_chaos(TANH, s),
    "critical_point": lambda s: mf.critical_point(TANH, s),
    "convergence_rate": lambda s: mf.convergence_rate(TANH, s),
    "jacobian_moments": lambda s: mf.jacobian_moments(mf.Dense(TANH, s, 0.1), 1.0, 2),
    "curvature_propagation": lambda s: mf.curvature_propagation(mf.Dense(TANH, s, 0.1), 2),
    "jacobian_spectrum": lambda s: mf.jacobian_spectrum(mf.Dense(TANH, s, 0.1), 1.0),
    "rollout": lambda s: mf.rollout(mf.Dense(TANH, s, 0.1), 1.0, 1.0, 0.5, 2),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_statuses_are_codes_of_eight_bits(question):
    ask = QUESTIONS[question]
    assert ask(1.5).status.dtype == np.int8
    assert ask(np.array([1.5, 1.6])).status.dtype == np.int8
    assert jax.eval_shape(ask, 1.5).status.dtype == np.int8
    assert jax.eval_shape(ask, np.array([1.5, 1.6])).status.dtype == np.int8
    assert jax.eval_shape(jax.vmap(ask), np.array([1.5, 1.6])).status.dtype == np.int8


def test_statuses_read_off_a_table_are_codes_of_eight_bits():
    layer = mf.Dense(TANH, np.linspace(1.2, 1.6, 3), 0.1)
    assert mf.correlation_fixed_point(layer, method="table").status.dtype == np.int8
    assert mf.depth_scales(layer, method="table").status.dtype == np.int8


def test_statuses_are_codes_where_depth_scales_are_differentiated():
    def depth(sigma_w):
        scales = mf.depth_scales(mf.Dense(TANH, sigma_w, 0.1))
        return scales.xi_c, scales.status

    slope, status = jax.grad(depth, has_aux=True)(1.5)
    assert status.dtype == np.int8
    assert status == mf.Status.OK
    step = 1e-5
    assert slope == pytest.approx(
        float((depth(1.5 + step)[0] - depth(1.5 - step)[0]) / (2 * step)), rel=1e-5
    )


@pytest.mark.parametrize("method", ["quadrature", "table"])
def test_a_rollout_has_a_status_at_every_layer(method):
    path = mf.rollout(
        mf.Dense(mf.activation("hard_tanh"), 1.5, 0.1), [1.0, 1.0], 1.0, [0.5, 0.2], 3, method
    )
    assert mf.check(path) is path
    assert path.status.shape == path.c.shape == (2, 4)
    assert path.status.dtype == np.int8
    assert path.q12 == pytest.approx(path.c * np.sqrt(path.q1 * path.q2))


def test_a_rollout_that_overflows_says_so_from_there_on():
    path = mf.rollout(mf.Dense(mf.activation("relu"), 1e160, 0.0), 1.0, 1.0, 0.5, 2)
    assert path.status.tolist() == [mf.Status.OK] + [mf.Status.NONFINITE] * 2
    with pytest.raises(mf.SolutionError, match="NONFINITE"):
        mf.check(path)


def test_a_rollout_whose_variance_vanishes_says_so():
    path = mf.rollout(mf.Dense(TANH, 0.0, 0.0), 1.0, 1.0, 0.5, 2)
    assert path.status.tolist() == [mf.Status.OK] + [mf.Status.VANISHES] * 2


def test_a_rollout_of_illegal_traced_numbers_says_so():
    path = jax.jit(lambda s: mf.rollout(mf.Dense(TANH, s, 0.1), 1.0, 1.0, 0.5, 1))(jnp.array(-1.0))
    assert set(path.status.tolist()) == {mf.Status.OUT_OF_DOMAIN}


def test_a_rollout_that_is_not_resolved_says_so():
    # No expectation is resolved at so large a variance.
    path = mf.rollout(mf.Dense(mf.activation("relu"), 1e60, 0.0), 1.0, 1.0, 0.5, 2)
    assert path.status.tolist() == [mf.Status.OK] * 2 + [mf.Status.NOT_CONVERGED]
