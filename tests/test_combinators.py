"""Sums, scalings and shifts of activations: values, kinks and statistics follow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import meanfield as mf

X = np.linspace(-3.0, 3.0, 25)
RELU, TANH, SHTANH = (mf.activation(name) for name in ("relu", "tanh", "shtanh"))
moment = jax.jit(lambda phi, q: phi.second_moment(q))


def test_a_sum_adds_values_slopes_and_kinks():
    phi = 0.5 * TANH + RELU * 2.0 - SHTANH
    np.testing.assert_allclose(
        phi(X), 0.5 * np.tanh(X) + 2 * np.maximum(X, 0) - np.clip(X, -1, 1), atol=1e-15
    )
    away = X[np.abs(X) > 0.01]
    away = away[np.abs(np.abs(away) - 1) > 0.01]
    exact = 0.5 / np.cosh(away) ** 2 + 2.0 * (away > 0) - (np.abs(away) < 1)
    np.testing.assert_allclose(phi.slope(away), exact, atol=1e-15)
    assert sorted(phi.kinks()) == [-1.0, 0.0, 1.0]


def test_a_common_kink_is_listed_once():
    phi = RELU + mf.activation("abs") + mf.activation("relu6")
    assert sorted(phi.kinks()) == [0.0, 6.0]


def test_the_negative_of_an_activation():
    np.testing.assert_array_equal((-RELU)(X), -np.maximum(X, 0))
    assert moment(-RELU, 1.3) == pytest.approx(float(moment(RELU, 1.3)), rel=1e-15)


def test_twice_the_relu_is_the_identity_plus_the_absolute_value():
    phi = mf.activation("linear") + mf.activation("abs")
    for q in (0.2, 5.0):
        assert moment(phi, q) == pytest.approx(2 * q, rel=1e-14)


def test_scaling_input_and_output_moves_the_kinks():
    phi = mf.scale(SHTANH, output=3.0, input=-0.5)
    np.testing.assert_allclose(phi(X), 3 * np.clip(-0.5 * X, -1, 1), atol=1e-15)
    assert sorted(phi.kinks()) == [-2.0, 2.0]


def test_shifting_moves_the_kinks_and_the_values():
    phi = mf.shift(RELU, input=0.7, output=-0.2)
    np.testing.assert_allclose(phi(X), np.maximum(X - 0.7, 0) - 0.2, atol=1e-15)
    assert phi.kinks() == (0.7,)


def test_centring_makes_it_vanish_at_zero_and_keeps_the_slope():
    for name in ("softplus", "srelu", "sigmoid"):
        phi = mf.activation(name)
        centred = mf.centre(phi)
        assert centred(0.0) == 0.0
        np.testing.assert_allclose(centred.slope(X), phi.slope(X), rtol=1e-14)
        assert centred.kinks() == phi.kinks()


@given(
    st.floats(0.1, 10.0),
    st.floats(0.01, 20.0),
    st.sampled_from(["tanh", "shtanh", "elu"]),
)
def test_scaling_both_ways_is_a_change_of_units(factor, q, name):
    """φ_l(x) = l φ(x/l) has E φ_l² at variance q equal to l² E φ² at q/l²."""
    phi = mf.activation(name)
    scaled = mf.scale(phi, output=factor, input=1 / factor)
    expected = factor**2 * float(moment(phi, q / factor**2))
    assert moment(scaled, q) == pytest.approx(expected, rel=1e-12)


def test_kinks_may_be_traced():
    def mean(position):
        return mf.shift(RELU, input=position).mean(1.0)

    # d/dk E max(z - k, 0) = -P(z > k), at k = 0: -1/2.
    value, gradient = jax.jit(jax.value_and_grad(mean))(0.0)
    assert value == pytest.approx(1 / np.sqrt(2 * np.pi), rel=1e-14)
    assert gradient == pytest.approx(-0.5, rel=1e-13)


def test_weights_may_be_traced():
    def second(weight):
        return (weight * TANH + RELU).second_moment(1.0)

    gradient = jax.jit(jax.grad(second))(0.4)
    both = float(moment(TANH + RELU, 1.0) - moment(TANH, 1.0) - moment(RELU, 1.0))
    assert gradient == pytest.approx(0.8 * float(moment(TANH, 1.0)) + both, rel=1e-13)


def test_combinations_nest():
    phi = mf.centre(mf.shift(mf.scale(RELU, input=2.0) - 0.5 * SHTANH, input=0.25))
    direct = np.maximum(2 * (X - 0.25), 0) - 0.5 * np.clip(X - 0.25, -1, 1)
    np.testing.assert_allclose(phi(X), direct - 0.125, atol=1e-15)
    assert sorted(phi.kinks()) == [-0.75, 0.25, 1.25]


@pytest.mark.parametrize("rate", [0.0, np.nan, np.inf])
def test_a_scaling_of_the_input_by_nothing_is_refused(rate):
    with pytest.raises(mf.MeanFieldError, match=r"^input = .* is not legal; it must be not 0"):
        mf.scale(TANH, input=rate)


# S-ReLU and softplus have no edge of chaos; centred they have one. At q = 1 (mpmath):
CENTRED = [
    ("srelu", 2.4761169658614662865, 0.051358719576380432925),
    ("softplus", 3.4085598416231029829, 0.031070433023238183513),
]


@pytest.mark.parametrize(("name", "weight_variance", "bias_variance"), CENTRED)
def test_centring_creates_an_edge_of_chaos(name, weight_variance, bias_variance):
    without = mf.critical_point(mf.activation(name), 1.0)
    assert without.status == mf.Status.NO_SOLUTION
    point = mf.check(mf.critical_point(mf.centre(mf.activation(name)), 1.0))
    assert point.sigma_w**2 == pytest.approx(weight_variance, rel=1e-13)
    assert point.sigma_b**2 == pytest.approx(bias_variance, rel=1e-12)


def test_kinks_that_coincide_count_once():
    relu, step = mf.activation("relu"), mf.from_callable(jnp.sign, kinks=(0.0,))
    twice = relu + mf.scale(relu, input=2.0)
    # It is 3·relu.
    assert mf.convergence_rate(twice, 1.0).constant == pytest.approx(9 * np.pi**2 / 2, rel=1e-9)
    for phi, same in (
        (twice, 3.0 * relu),
        (mf.activation("shtanh") + mf.activation("hard_tanh"), 2.0 * mf.activation("hard_tanh")),
        (mf.shift(step, 0.5) + mf.shift(step, 0.5), 2.0 * mf.shift(step, 0.5)),
    ):
        one, other = mf.Dense(phi, 1.0, 0.5), mf.Dense(same, 1.0, 0.5)
        slope = mf.correlation_slope(other, 0.5, 0.3)
        assert one.variance_slope(0.5) == pytest.approx(float(other.variance_slope(0.5)), rel=1e-9)
        assert mf.correlation_slope(one, 0.5, 0.3) == pytest.approx(float(slope), rel=1e-9)


def test_a_steep_stretch_is_no_jump():
    phi = mf.from_callable(lambda x: jnp.tanh(100 * x) + jnp.maximum(x, 0.0), kinks=(0.0,))
    assert [float(jump) for jump in phi.jumps()] == [0]
    assert [float(bend) for bend in phi.slope_jumps()] == pytest.approx([1], rel=1e-6)


def test_what_is_no_activation_is_refused():
    for make in (lambda: mf.scale(2.0, 2.0), lambda: mf.centre(None), lambda: mf.shift(3.0)):
        with pytest.raises(mf.MeanFieldError, match="must be an Activation"):
            make()
