"""Correlation maps have the published values, and trajectories keep every digit of 1 - c."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import central_difference, dense

import meanfield as mf

# On the edge at q = 1: σw², σb², R(-0.5), R(0), R(0.5), R(0.9). mpmath, 25 digits.
EDGE_AT_ONE = [
    ("tanh", {}, 2.15330264890279003, 0.15096462937855289,
     (-0.25024822312768986, 0.15096462937855289, 0.552177481884795639, 0.902905129192342045)),
    ("erf", {}, 1.7562036827601816, 0.184139677807452754,
     (-0.195809537593976046, 0.184139677807452754, 0.564088893208881554, 0.90359578923658853)),
    ("shtanh", {"a": 1.0}, 1.46479477349154408, 0.244080131735662709,
     (-0.104788817536147148, 0.244080131735662709, 0.592949081007472565, 0.908430999880868393)),
    ("shtanh", {"a": 2.0}, 1.04766922627144435, 0.0355817913642993369,
     (-0.442705427650587128, 0.0355817913642993369, 0.513869010379185802, 0.901325216771734087)),
    ("swish", {}, 2.63516865987896243, 0.0624715002251668786,
     (-0.113637709134067301, 0.174972707828724632, 0.545154455835673306, 0.901873982371881446)),
    ("gelu", {}, 2.19369990353239519, 0.0671916747056337342,
     (0.0173835319796817294, 0.241760766359331056, 0.565808507862780527, 0.902923049378215021)),
    ("elu", {}, 1.49677743543528658, 0.0346602520092012027,
     (-0.348578699053586497, 0.0732274978393413934, 0.520789089166018473, 0.901023415492813283)),
    ("relu", {}, 2.0, 0.0,
     (0.108997781044229358, 0.318309886183790672, 0.608997781044229358, 0.909538398844672076)),
    ("leaky_relu", {"negative_slope": 0.1}, 1.9801980198019802, 0.0,
     (-0.0115958389645289306, 0.255278225553337073, 0.587414062025570079, 0.907649606994241962)),
    ("mish", {}, 2.08731768197285928, 0.0558181435514511961,
     (-0.116807102480838483, 0.176452643334692706, 0.546781484432850024, 0.902008721444722652)),
]  # fmt: skip
RHO = np.array([-0.5, 0.0, 0.5, 0.9])


@pytest.mark.parametrize(("name", "params", "weight", "bias", "values"), EDGE_AT_ONE)
def test_the_correlation_map_on_the_edge(name, params, weight, bias, values):
    layer = dense(name, weight, bias, **params)
    np.testing.assert_allclose(mf.correlation_map(layer, 1.0, RHO), values, rtol=1e-12, atol=1e-13)


# Off the edge at the fixed variance q*: R(0), R(0.5), R(-0.5).
OFF_EDGE = [
    ("erf", 4.0, 0.1, 2.6441379722700576,
     (0.0378195090606968349, 0.455772728163333908, -0.380133710041940238)),
    ("tanh", 4.0, 0.05, 2.19549392803448776,
     (0.022773918598245642, 0.463582870804860479, -0.418035033608369195)),
    ("relu", 1.0, 0.1, 0.2, (0.659154943091895336, None, None)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "weight", "bias", "q", "values"), OFF_EDGE)
def test_the_correlation_map_off_the_edge(name, weight, bias, q, values):
    layer = dense(name, weight, bias)
    answer = mf.correlation_map(layer, q, np.array([0.0, 0.5, -0.5, 0.9]))[:3]
    for value, exact in zip(answer, values, strict=True):
        assert exact is None or value == pytest.approx(exact, rel=1e-12)


def test_the_map_through_minus_one_zero_and_one():
    layer = dense("relu", 2.0, 0.0)
    c = np.array([-1.0, 0.0, 1.0])
    np.testing.assert_allclose(mf.correlation_map(layer, 3.0, c), [0.0, 1 / np.pi, 1.0], atol=1e-15)
    np.testing.assert_allclose(mf.correlation_slope(layer, 3.0, c), [0.0, 0.5, 1.0], atol=1e-8)
    shtanh = dense("shtanh", 1.26340593238613947, 0.1)
    q, c = 0.63215546454830246, np.array([-1.0, -0.99, -0.5, 0.0])
    values = [
        -0.683622129023424474,
        -0.67379399386004832,
        -0.243154736137687108,
        0.158188935488287763,
    ]
    np.testing.assert_allclose(mf.correlation_map(shtanh, q, c), values, rtol=1e-12)


def test_the_slope_of_relu_is_the_closed_form():
    c = np.linspace(-0.9, 0.9, 4)
    slope = mf.correlation_slope(dense("relu", 2.0, 0.0), 1.0, c)
    np.testing.assert_allclose(slope, (np.pi - np.arccos(c)) / np.pi, rtol=1e-11)


def test_the_slope_at_one_is_chi():
    layer = dense("tanh", 4.0, 0.05)
    slope = mf.correlation_slope(layer, 2.19549392803448776, 1.0)
    assert slope == pytest.approx(1.3424024144451917, rel=1e-11)


def test_an_activation_that_jumps_has_infinite_slope_at_one_and_a_finite_map():
    layer = mf.Dense(mf.from_callable(jnp.sign), 1.0, 0.5)
    c = mf.correlation_map(layer, 1.25, 0.6)
    assert c == pytest.approx((2 / np.pi * np.arcsin(0.6) + 0.25) / 1.25, rel=1e-9)
    slope = 2 / np.pi / np.sqrt(1 - 0.6**2) / 1.25
    assert mf.correlation_slope(layer, 1.25, 0.6) == pytest.approx(slope, rel=1e-12)
    assert np.isposinf(mf.correlation_slope(layer, 1.25, 1.0))


# Near c = 1 ----------------------------------------------------------------------------------


def test_the_decorrelation_map_keeps_relative_accuracy_to_the_smallest_epsilon():
    epsilon = np.array([1e-2, 1e-5, 1e-12, 1e-50, 1e-200])
    layer = dense("relu", 2.0, 0.0)
    after = mf.decorrelation_map(layer, 1.0, epsilon)
    # R(1-ε) = 1 - ε + s ε^{3/2} + O(ε^{5/2}), s = 2√2/(3π); the coefficient at 1e-2 is exact.
    strength = 2 * np.sqrt(2) / (3 * np.pi)
    assert (after[0] / epsilon[0] - 1) / np.sqrt(epsilon[0]) == pytest.approx(
        -0.300255733154, rel=1e-11
    )
    np.testing.assert_allclose(
        after[1:] / epsilon[1:], 1 - strength * np.sqrt(epsilon[1:]), rtol=1e-8
    )
    np.testing.assert_allclose(after[3:], epsilon[3:], rtol=1e-14)


def test_the_two_maps_are_one():
    layer = dense("tanh", 2.0, 0.1)
    epsilon = np.array([1e-3, 0.5, 1.0, 2.0])
    np.testing.assert_allclose(
        mf.correlation_map(layer, 0.8, 1 - epsilon),
        1 - mf.decorrelation_map(layer, 0.8, epsilon),
        atol=1e-15,
    )


# Trajectories ------------------------------------------------------------------------------------


def test_relu_to_depth_ten_thousand():
    path = mf.rollout(dense("relu", 2.0, 0.0), 1.0, 1.0, 0.0, 10_000)
    exact = {
        0: 1.0,
        1: 0.681690113816209,
        2: 0.506268909799628,
        3: 1 - 0.6048257201129445467,
        4: 1 - 0.68095353335573634791,
        5: 0.264053649372363,
        10: 0.128464483978482,
        100: 0.00357685331605237,
        1000: 4.3129732549214e-5,
        10_000: 4.42519273598013e-7,
    }
    for depth, epsilon in exact.items():
        assert path.epsilon[depth] == pytest.approx(epsilon, rel=1e-9 if depth > 5 else 1e-13)
    assert path.q1.shape == (10_001,)
    np.testing.assert_allclose(path.q1, 1.0, rtol=1e-10)
    assert path.c[100] == pytest.approx(1 - 0.00357685331605237, rel=1e-11)


TRAJECTORIES = {
    "tanh, σb² = 0.05": (
        "tanh", 1.76095463960673913, 0.05, 0.57004788164076415, 0.0,
        {1: 0.9122880698090, 2: 0.8355669178638, 5: 0.6572809844943, 10: 0.4719830213666,
         50: 0.1281188095534, 100: 6.452587112663e-2, 1000: 6.251971553184e-3},
    ),
    "tanh, σb = 0.2, from 0.5": (
        "tanh", 1.304145840057**2, 0.04, 0.512078504234, 0.5,
        {10: 0.31823745072867, 100: 0.066874673125624, 1000: 0.0071053345072777},
    ),
    "shtanh, σb² = 0.1": (
        "shtanh", 1.26340593238613947, 0.1, 0.63215546454830246, 0.0,
        {1: 0.8418110645117, 2: 0.7164297369347, 5: 0.4698183793014, 10: 0.2715412361289,
         50: 3.324380177246e-2, 100: 1.029380173554e-2, 1000: 1.306194277373e-4},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_trajectories_on_the_edge(name):
    phi, weight, bias, q, c, exact = TRAJECTORIES[name]
    path = mf.rollout(dense(phi, weight, bias), q, q, c * q, 1000)
    # Twelve digits of σw and q are given for σb = 0.2; what they leave open grows with depth.
    rel = 1e-8 if bias == 0.04 else 1e-11
    for depth, epsilon in exact.items():
        assert path.epsilon[depth] == pytest.approx(epsilon, rel=rel), depth


# He-initialised S-ReLU is not critical: the variance grows and correlations converge faster.
S_RELU = {
    1.0: (
        {10: 4.893e-2, 30: 9.377e-4, 100: 2.2748e-8, 300: 7.2148e-18},
        {10: 1.2300, 30: 1.6392, 100: 2.8055, 300: 5.3000},
    ),
    0.25: ({10: 1.1899e-1, 30: 1.9629e-2, 100: 3.7756e-4, 300: 1.4372e-8}, {}),
}


@pytest.mark.parametrize("delta", S_RELU)
def test_the_smooth_relu_loses_correlations_to_the_last_digit(delta):
    epsilons, variances = S_RELU[delta]
    path = mf.rollout(dense("srelu", 2.0, 0.0, delta=delta), 1.0, 1.0, 0.0, 300)
    for depth, epsilon in epsilons.items():
        assert path.epsilon[depth] == pytest.approx(epsilon, rel=2e-4), depth
    for depth, q in variances.items():
        assert path.q1[depth] == pytest.approx(q, rel=1e-4), depth
    np.testing.assert_allclose(path.q1, path.q2, rtol=1e-14)


def test_a_rollout_repeats_the_layer():
    layer = dense("erf", 1.5, 0.2)
    path = mf.rollout(layer, 0.5, 2.0, -0.3, 3)
    pair = mf.Covariance.of(0.5, 2.0, -0.3)
    step = jax.jit(lambda layer, pair: layer.propagate(pair))
    for depth in range(4):
        assert path.q1[depth] == pytest.approx(float(pair.q1), rel=1e-14)
        assert path.q2[depth] == pytest.approx(float(pair.q2), rel=1e-14)
        assert path.epsilon[depth] == pytest.approx(float(pair.epsilon), rel=1e-12)
        pair = step(layer, pair)


def test_a_rollout_of_depth_zero_is_its_input():
    path = mf.rollout(dense("erf", 1.5, 0.2), 0.5, 2.0, 0.5, 0)
    assert path.q1.shape == (1,)
    assert path.q12[0] == pytest.approx(0.5)


def test_bad_inputs_of_a_rollout_are_named():
    layer = dense("relu", 2.0, 0.0)
    for depth in (-1, 2.5):
        with pytest.raises(mf.MeanFieldError, match=r"^depth = .* an integer >= 0"):
            mf.rollout(layer, 1.0, 1.0, 0.0, depth)
    with pytest.raises(mf.MeanFieldError, match=r"^q1 = 0\.0 .* a finite number > 0"):
        mf.rollout(layer, 0.0, 1.0, 0.0, 2)
    with pytest.raises(mf.MeanFieldError, match=r"^q2 = -1\.0 "):
        mf.rollout(layer, 1.0, -1.0, 0.0, 2)
    with pytest.raises(mf.MeanFieldError, match=r"^q12 = 1\.5 .*√\(q1·q2\)"):
        mf.rollout(layer, 1.0, 1.0, 1.5, 2)


# Broadcasting and derivatives ------------------------------------------------------------------


def test_every_argument_broadcasts_like_its_elements():
    sigma_w = np.array([[1.0], [1.5]])
    q, c = np.array([0.5, 1.0, 2.0]), np.array([[0.3], [-0.8]])
    a = np.array([0.5, 1.0, 3.0])
    layer = mf.Dense(mf.activation("shtanh", a=a), sigma_w, 0.2)
    together = mf.correlation_map(layer, q, c)
    assert together.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            one = mf.Dense(mf.activation("shtanh", a=a[j]), sigma_w[i, 0], 0.2)
            alone = mf.correlation_map(one, q[j], c[i, 0])
            assert together[i, j] == pytest.approx(float(alone), rel=1e-14)


def test_derivatives_in_every_argument_and_parameter():
    def correlation(sigma_w, sigma_b, a, q, c):
        return mf.correlation_map(mf.Dense(mf.activation("shtanh", a=a), sigma_w, sigma_b), q, c)

    point = [1.3, 0.4, 0.9, 0.7, 0.35]
    gradient = jax.grad(correlation, argnums=(0, 1, 2, 3, 4))(*point)
    for i, value in enumerate(gradient):

        def along(x, i=i):
            return correlation(*point[:i], x, *point[i + 1 :])

        assert value == pytest.approx(central_difference(along, point[i], 1e-3), rel=1e-9)
    layer = mf.Dense(mf.activation("shtanh", a=0.9), 1.3, 0.4)
    assert gradient[4] == pytest.approx(float(mf.correlation_slope(layer, 0.7, 0.35)), rel=1e-10)


# Properties --------------------------------------------------------------------------------------

SIGMA_W, SIGMA_B = st.floats(0.05, 5.0), st.floats(0.0, 3.0)
VARIANCE, CORRELATION = st.floats(1e-4, 1e3), st.floats(-1.0, 1.0)
NAMES = st.sampled_from(["tanh", "relu", "shtanh", "sin"])


@given(NAMES, SIGMA_W, SIGMA_B, VARIANCE, CORRELATION)
def test_correlations_stay_correlations_and_one_stays_one(name, sigma_w, sigma_b, q, c):
    layer = mf.Dense(mf.activation(name), sigma_w, sigma_b)
    after = mf.correlation_map(layer, q, np.array([c, 1.0, -1.0, 0.0]))
    assert np.all(np.abs(after) <= 1 + 1e-12)
    assert after[1] == pytest.approx(1.0, abs=1e-15)
    # C(0) is a square plus the bias.
    assert after[3] >= -1e-14


@given(st.sampled_from(["tanh", "shtanh", "sin"]), SIGMA_W, SIGMA_B, VARIANCE, CORRELATION)
def test_the_map_of_an_odd_activation_is_odd_about_the_bias(name, sigma_w, sigma_b, q, c):
    layer = mf.Dense(mf.activation(name), sigma_w, sigma_b)
    q_after = float(sigma_w**2 * jax.jit(layer.phi.second_moment)(q) + sigma_b**2)
    up, down, *_ = mf.correlation_map(layer, q, np.array([c, -c, 0.0, 0.0]))
    assert up + down == pytest.approx(2 * sigma_b**2 / q_after, rel=1e-9, abs=1e-11)


@given(SIGMA_W, VARIANCE, CORRELATION)
def test_the_identity_in_relu_and_gelu_shows_in_the_map(sigma_w, q, c):
    """φ(x) - φ(-x) = x gives E φφ(ρ) - E φφ(-ρ) = qρ/2."""
    for name in ("relu", "gelu"):
        layer = mf.Dense(mf.activation(name), sigma_w, 0.5)
        q_after = float(variance(layer, q))
        up, down, *_ = mf.correlation_map(layer, q, np.array([c, -c, 0.0, 0.0]))
        expected = sigma_w**2 * q * c / 2 / q_after
        assert up - down == pytest.approx(expected, rel=1e-9, abs=1e-11)


variance = jax.jit(lambda layer, q: layer.variance(q))


@given(st.floats(0.01, 100.0), SIGMA_W, VARIANCE, CORRELATION)
def test_a_change_of_units_leaves_the_map_unchanged(factor, sigma_w, q, c):
    """shtanh of width a at variance q is a·shtanh₁ at q/a²."""
    one = mf.Dense(mf.activation("shtanh", a=1.0), sigma_w, 0.3)
    other = mf.Dense(mf.activation("shtanh", a=factor), sigma_w, 0.3 * factor)
    rho = np.array([c, 0.0, 0.0, 0.0])
    first = mf.correlation_map(one, q, rho)
    second = mf.correlation_map(other, q * factor**2, rho)
    np.testing.assert_allclose(first, second, rtol=1e-10, atol=1e-11)
