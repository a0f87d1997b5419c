"""Variances and correlations settle where published tables say, or the status says why not.

References are quoted to the digits printed: (σw, σb) with q*, χ1 = C'(1), V'(q*), c* and
C'(c*), computed by mpmath or by two independent double-precision methods.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from problems import central_difference, dense

import meanfield as mf
from meanfield.fixedpoint import CorrelationFixedPoint, SteadyState

OK = mf.Status.OK
TANH, SIN = mf.activation("tanh"), mf.activation("sin")


# Tables ------------------------------------------------------------------------------------

# Settings of tanh from three sources, solved together: compiling costs more than solving.
# σw, q*, χ1, V', c*, C'(c*) at σb = 0.3 (Poole et al. 2016).
POOLE = np.array(
    [
        [1.3, 0.6070467919093, 0.9398074286822, 0.473515869865, 1.0, 0.939807428682],
        [2.5, 4.0791238752822, 1.5852247650060, 0.233922045583, 0.122103747306, 0.822229172724],
        [4.0, 12.604149497844, 2.3672610355459, 0.130082102326, 0.029695921580, 0.759743605012],
    ]
)
# σw², q*, c*, χ1, ξ_q, ξ_c at σb² = 0.05 (Schoenholz et al. 2017).
SCHOENHOLZ = np.array(
    [
        [1.3, 0.3153164775, 1, 0.8801635099, 1.78523663, 7.83406927],
        [1.5, 0.4180372005, 1, 0.9386362682, 1.68282839, 15.79099403],
        [1.7, 0.5330756279, 1, 0.9867408090, 1.55825401, 74.91827050],
        [1.76, 0.5694628399, 1, 0.9997964242, 1.52167117, 4911.675],
        [1.8, 0.5941321720, 0.9504105464, 1.0082231444, 1.49788379, 125.78409386],
        [2.0, 0.7217618727, 0.7440824195, 1.0476659996, 1.38797575, 25.21341479],
        [2.5, 1.0639583774, 0.4468042323, 1.1335156987, 1.17987292, 11.79559752],
        [4.0, 2.1954939280, 0.1650649620, 1.3424024144, 0.87329337, 6.98027353],
    ]
)
# σw², σb², q*, χ1, V', c*: mpmath, 25 digits.
EXACT = np.array(
    [
        [4.0, 0.05, 2.19549392803448776, 1.3424024144451917, 0.318195099404550611,
         0.165064962022309903],
        [1.0, 0.1, 0.294985061825276905, 0.68883892066524398, 0.456486885646285752, 1.0],
    ]
)  # fmt: skip
# Just above the edge at σb² = 0.05, by these fractions of σw².
EDGE, ABOVE = 1.76095463960673913, np.array([1e-3, 1e-6, 1e-9])


@pytest.fixture(scope="module")
def tanh():
    """Return steady states and limits of correlations for all settings, by source."""
    settings = {
        "poole": np.stack([POOLE[:, 0] ** 2, np.full(3, 0.09)]),
        "schoenholz": np.stack([SCHOENHOLZ[:, 0], np.full(8, 0.05)]),
        "exact": EXACT[:, :2].T,
        "above": np.stack([EDGE * (1 + ABOVE), np.full(3, 0.05)]),
        "no bias": np.array([[4.0], [0.0]]),
    }
    weight, bias = np.concatenate(list(settings.values()), axis=1)
    layer = dense("tanh", weight, bias)
    state = mf.check(mf.steady_state(layer))
    limit = mf.check(mf.correlation_fixed_point(layer))
    ends = np.cumsum([part.shape[1] for part in settings.values()])
    parts = {}
    for name, end in zip(settings, ends, strict=True):
        where = slice(end - settings[name].shape[1], end)
        parts[name] = jax.tree.map(lambda x, where=where: x[where], (state, limit))
    return parts


def test_the_transient_chaos_table(tanh):
    _, q, chi, slope, c, slope_c = POOLE.T
    state, limit = tanh["poole"]
    np.testing.assert_allclose(state.q, q, rtol=1e-13)
    np.testing.assert_allclose(state.chi, chi, rtol=1e-12)
    np.testing.assert_allclose(state.slope, slope, rtol=2e-12)
    np.testing.assert_allclose(limit.c, c, rtol=3e-11)
    np.testing.assert_allclose(limit.slope, slope_c, rtol=1e-11)
    np.testing.assert_allclose(limit.epsilon, 1 - limit.c, atol=1e-15)


def test_the_deep_information_propagation_table(tanh):
    _, q, c, chi, xi_q, xi_c = SCHOENHOLZ.T
    state, limit = tanh["schoenholz"]
    np.testing.assert_allclose(state.q, q, atol=6e-11)
    np.testing.assert_allclose(state.chi, chi, atol=6e-11)
    np.testing.assert_allclose(-1 / np.log(state.slope), xi_q, atol=6e-9)
    np.testing.assert_allclose(limit.c, c, atol=6e-11)
    np.testing.assert_allclose(-1 / np.log(limit.slope), xi_c, rtol=1e-7)


def test_tanh_to_all_digits(tanh):
    _, _, q, chi, slope, c = EXACT.T
    state, limit = tanh["exact"]
    np.testing.assert_allclose(state.q, q, rtol=1e-13)
    np.testing.assert_allclose(state.chi, chi, rtol=1e-12)
    np.testing.assert_allclose(state.slope, slope, rtol=1e-12)
    np.testing.assert_allclose(limit.c, c, rtol=1e-11)


def test_correlations_just_above_the_edge(tanh):
    """ε* ≈ 2(χ1 - 1)/C''(1): the root that merges with c = 1 keeps its relative accuracy."""
    state, limit = tanh["above"]
    # β = 2/C''(1) of this edge is 6.17112614217103254.
    leading = 6.17112614217103254 * (np.asarray(state.chi) - 1)
    np.testing.assert_allclose(limit.epsilon[1:], leading[1:], rtol=1e-4)
    assert limit.epsilon[0] == pytest.approx(leading[0], rel=2e-2)


def test_uncorrelated_is_the_limit_of_an_odd_chaotic_network_without_bias(tanh):
    assert tanh["no bias"][1].c[0] == pytest.approx(0.0, abs=1e-13)


# φ, σw², σb², q*, χ1, V'(q*), c* (None: not asked for). mpmath, 25 digits.
OFF_EDGE = [
    ("erf", 4.0, 0.1, 2.6441379722700576, 1.49685764089394085,
     0.238039433080796769, 0.203231363648875936),
    ("shtanh", 2.5, 0.1, 1.61406563815647727, 1.42196684983064843,
     0.270145449899512747, 0.343415074744276137),
    ("srelu", 1.5, 0.1, 0.49734993714060974, 0.557400579931993358, 0.730130903220296286, None),
    ("softplus", 1.0, 0.0, 0.856305159644932856, 0.288721849003259175, 0.450516537588290614, None),
    ("sigmoid", 4.0, 0.0, 1.19691434339885234, 0.171581354146725036, 0.113201234139601281, None),
    ("swish", 2.0, 0.1, 0.23472519502157672, 0.595582213775406104, 0.636404909880985087, None),
    ("relu", 1.0, 0.1, 0.2, 0.5, 0.5, 1.0),
    ("relu", 1.9, 0.1, 2.0, 0.95, 0.95, 1.0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "weight", "bias", "q", "chi", "slope", "c"), OFF_EDGE)
def test_steady_states_off_the_edge(name, weight, bias, q, chi, slope, c):
    layer = dense(name, weight, bias)
    state = mf.check(mf.steady_state(layer))
    assert state.q == pytest.approx(q, rel=1e-13)
    assert state.chi == pytest.approx(chi, rel=1e-12)
    assert state.slope == pytest.approx(slope, rel=1e-12)
    if c is not None:
        assert mf.check(mf.correlation_fixed_point(layer)).c == pytest.approx(c, rel=1e-11)


def test_the_slope_at_the_limit_of_correlations():
    for name, weight, bias, slope in (
        ("erf", 4.0, 0.1, 0.8220080987),
        ("shtanh", 2.5, 0.1, 0.8419391528),
    ):
        limit = mf.correlation_fixed_point(dense(name, weight, bias))
        assert limit.slope == pytest.approx(slope, rel=2e-9)


# Several fixed points, or none ---------------------------------------------------------------


# GELU: σw², σb², q0 and the q* or status reached. Between the two attracting points of the
# first network lies 3.98608734809, which repels; that of the second is 11.2978711966, that of
# the last 3.10536821885. With He's initialisation every variance decays.
GELU = [
    (1.5, 0.1, 1.0, 0.19192542922403498),
    (1.995, 0.15, 1e-6, 0.946725827915),
    (1.995, 0.15, 1.0, 0.946725827915),
    (1.995, 0.15, 3.98, 0.946725827915),
    (1.995, 0.15, 3.99, 35.8852770659),
    (1.995, 0.15, 100.0, 35.8852770659),
    (1.995, 0.15, 1e4, 35.8852770659),
    (2.0, 0.1, 1.0, 0.340830009666),
    (2.0, 0.1, 11.2, 0.340830009666),
    (2.0, 0.1, 11.4, "DIVERGES"),
    (2.0, 0.1, 1e3, "DIVERGES"),
    (2.0, 0.0, 1.0, "VANISHES"),
    (2.1, 0.0, 3.10, "VANISHES"),
    (2.1, 0.0, 3.11, "DIVERGES"),
]


def test_where_gelu_settles_depends_on_where_it_starts():
    weight, bias, q0 = np.array([row[:3] for row in GELU]).T
    state = mf.steady_state(dense("gelu", weight, bias), q0)
    for i, (*_, end) in enumerate(GELU):
        status = mf.Status(int(state.status[i])).name
        if isinstance(end, str):
            assert status == end, GELU[i]
            assert state.q[i] == 0 if end == "VANISHES" else np.isnan(state.q[i])
        else:
            assert status == "OK", GELU[i]
            assert state.q[i] == pytest.approx(end, rel=1e-11), GELU[i]
    assert state.slope[2] == pytest.approx(0.966193, abs=5e-7)
    assert state.slope[5] == pytest.approx(0.998281, abs=5e-7)


def test_swish_between_its_points():
    for q0 in (0.01, 15.1):
        state = mf.check(mf.steady_state(dense("swish", 2.05, 0.1), q0))
        assert state.q == pytest.approx(0.244475288728, rel=1e-11)
    assert mf.steady_state(dense("swish", 2.05, 0.1), 15.2).status == mf.Status.DIVERGES


STATUSES = [
    ("tanh", 0.9, 0.0, 1.0, "VANISHES"),
    ("tanh", 0.9, 0.0, 1e-6, "VANISHES"),
    ("relu", 1.2, 0.0, 3.0, "VANISHES"),
    ("relu", 1.5, 0.1, 1.0, "DIVERGES"),
    ("relu", 1.5, 0.0, 1e-3, "DIVERGES"),
    ("relu", np.sqrt(2), 0.1, 1.0, "DIVERGES"),
    ("linear", 1.1, 0.0, 1.0, "DIVERGES"),
    ("softplus", 1.5, 0.1, 1.0, "DIVERGES"),
]


@pytest.mark.parametrize(("name", "sigma_w", "sigma_b", "q0", "status"), STATUSES)
def test_no_steady_state_says_why(name, sigma_w, sigma_b, q0, status):
    state = mf.steady_state(mf.Dense(mf.activation(name), sigma_w, sigma_b), q0)
    assert mf.Status(int(state.status)).name == status
    with pytest.raises(mf.SolutionError, match=status):
        mf.check(state)
    if status == "VANISHES":
        assert state.q == 0.0
        limit = sigma_w**2 * (0.5 if name == "relu" else 1.0)
        assert state.chi == pytest.approx(limit, rel=1e-9)
        assert state.slope == pytest.approx(limit, rel=1e-9)
    else:
        assert all(np.isnan(x) for x in (state.q, state.chi, state.slope))


def test_no_steady_state_is_no_limit_of_correlations_either():
    for sigma_w, status in ((1.5, mf.Status.DIVERGES), (1.2, mf.Status.VANISHES)):
        limit = mf.correlation_fixed_point(mf.Dense(mf.activation("relu"), sigma_w, 0.0))
        assert limit.status == status
        assert all(np.isnan(x) for x in (limit.c, limit.epsilon, limit.slope))


def test_every_variance_is_fixed_for_critical_relu():
    q0 = np.array([1e-8, 0.3, 1.0, 1e6])
    state = mf.check(mf.steady_state(dense("relu", 2.0, 0.0), q0))
    np.testing.assert_allclose(state.q, q0, rtol=1e-13)
    np.testing.assert_allclose(state.chi, 1.0, rtol=1e-14)
    assert mf.check(mf.correlation_fixed_point(dense("relu", 2.0, 0.0), 7.0)).c == 1.0


def test_growth_that_overflows_is_not_a_number():
    """For φ = exp the map is V(q) = σw² e^{2q} + σb²: two fixed points or none."""
    phi = mf.from_callable(jnp.exp)
    settles = mf.steady_state(mf.Dense(phi, 0.3, 0.1), 0.1)
    # Newton on q = 0.09 e^{2q} + 0.01.
    q = 0.1
    for _ in range(50):
        q -= (q - 0.09 * np.exp(2 * q) - 0.01) / (1 - 0.18 * np.exp(2 * q))
    assert settles.status == OK
    assert settles.q == pytest.approx(q, rel=1e-12)
    grows = mf.steady_state(mf.Dense(phi, 1.0, 0.1), 1.0)
    bad = {mf.Status.NONFINITE, mf.Status.DIVERGES, mf.Status.NOT_CONVERGED}
    assert mf.Status(int(grows.status)) in bad
    assert np.isnan(grows.q)


def test_relu_squared_has_a_repelling_point_only():
    """V(q) = (3/2) σw² q²: below q_u = 2/(3σw²) it decays, above it explodes."""
    phi = mf.from_callable(lambda x: jnp.maximum(x, 0.0) ** 2)
    below, above = (mf.steady_state(mf.Dense(phi, 1.0, 0.0), 2 / 3 * s) for s in (0.99, 1.01))
    assert below.status == mf.Status.VANISHES
    assert mf.Status(int(above.status)) in {mf.Status.DIVERGES, mf.Status.NONFINITE}


def test_a_bump_settles_and_may_oscillate():
    """V falls where φ = exp(-x²): V(q) = σw²/√(1 + 4q) + σb²."""
    state = mf.steady_state(dense("gaussian", np.array([0.5, 1.0, 9.0]), 0.1))
    for q, weight in zip(state.q, (0.5, 1.0, 9.0), strict=True):
        assert weight / np.sqrt(1 + 4 * q) + 0.1 == pytest.approx(float(q), rel=1e-13)
    np.testing.assert_array_equal(state.status, OK)
    assert np.all(state.slope < 0)
    # d/dq σw² (1 + 4q)^{-1/2} = -2 σw² (1 + 4q)^{-3/2}
    exact = -2 * np.array([0.5, 1.0, 9.0]) * (1 + 4 * state.q) ** -1.5
    np.testing.assert_allclose(state.slope, exact, rtol=1e-12)


def test_an_unresolved_activation_is_not_answered():
    fast = mf.from_callable(lambda x: jnp.sin(1e7 * x))
    state = mf.steady_state(mf.Dense(fast, 1.0, 0.1))
    assert state.status == mf.Status.NOT_CONVERGED
    assert np.isnan(state.q)


def test_a_jump_that_was_not_told_is_found():
    step = mf.from_callable(lambda x: jnp.where(x > 0.3, 1.0, 0.0), kinks=())
    state = mf.steady_state(mf.Dense(step, 1.0, 0.1))
    assert state.status == mf.Status.OK
    exact = scipy.special.ndtr(-0.3 / np.sqrt(float(state.q))) + 0.01
    assert state.q == pytest.approx(exact, rel=1e-12)


# Broadcasting and derivatives --------------------------------------------------------------------


def test_arrays_in_any_argument_are_solved_element_by_element():
    sigma_w, q0 = np.array([[0.9], [1.5], [2.5]]), np.array([0.1, 3.0])
    for solve in (mf.steady_state, mf.correlation_fixed_point):
        together = solve(mf.Dense(SIN, sigma_w, 0.3), q0)
        assert together.status.shape == (3, 2)
        for i in range(3):
            for j in range(2):
                alone = solve(mf.Dense(SIN, sigma_w[i, 0], 0.3), q0[j])
                leaves = zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True)
                for one, all_ in leaves:
                    assert all_[i, j] == pytest.approx(float(one), rel=1e-12)


def test_records_say_what_they_are():
    assert isinstance(mf.steady_state(mf.Dense(SIN, 1.3, 0.3)), SteadyState)
    assert isinstance(mf.correlation_fixed_point(mf.Dense(SIN, 1.3, 0.3)), CorrelationFixedPoint)


def test_the_steady_state_is_differentiable_in_every_parameter():
    """Leaky ReLU: χ1 = V' = m = σw² (1 + s²)/2 and q = σb²/(1 - m)."""

    def state(sigma_w, sigma_b, s):
        answer = mf.steady_state(
            mf.Dense(mf.activation("leaky_relu", negative_slope=s), sigma_w, sigma_b)
        )
        return jnp.stack([answer.q, answer.chi, answer.slope])

    sigma_w, sigma_b, s = 1.2, 0.3, 0.1
    m = sigma_w**2 * (1 + s * s) / 2
    m_by = np.array([2 * m / sigma_w, 0.0, sigma_w**2 * s])
    q_by = sigma_b**2 / (1 - m) ** 2 * m_by + np.array([0.0, 2 * sigma_b / (1 - m), 0.0])
    gradient = np.array(jax.jacrev(state, argnums=(0, 1, 2))(sigma_w, sigma_b, s)).T
    np.testing.assert_allclose(gradient, [q_by, m_by, m_by], rtol=1e-11, atol=1e-13)


def test_a_drift_below_rounding_is_a_drift():
    """V(q) = q - 2q² of tanh, and q + 3q²/2 of x + x³/4: both look fixed at q = 1e-14."""
    small = np.array([1e-30, 1e-14])
    fading = mf.steady_state(mf.Dense(mf.activation("tanh"), 1.0, 0.0), small)
    assert fading.status.tolist() == [mf.Status.VANISHES] * 2
    growing = mf.from_callable(lambda x: x + x**3 / 4, kinks=())
    assert mf.steady_state(mf.Dense(growing, 1.0, 0.0), 1e-14).status == mf.Status.DIVERGES
    fixed = mf.steady_state(mf.Dense(mf.activation("relu"), np.sqrt(2), 0.0), small)
    np.testing.assert_allclose(fixed.q, small, rtol=1e-12)
    assert fixed.status.tolist() == [mf.Status.OK] * 2


def test_a_moving_kink_moves_the_steady_state():
    def q(a):
        return mf.steady_state(mf.Dense(mf.activation("shtanh", a=a), 1.4, 0.3)).q

    assert jax.grad(q)(0.8) == pytest.approx(central_difference(q, 0.8, 1e-3), rel=1e-9)


def test_the_limit_of_correlations_is_differentiable():
    def c(sigma_w, sigma_b):
        return mf.correlation_fixed_point(mf.Dense(SIN, sigma_w, sigma_b)).c

    gradient = jax.grad(c, argnums=(0, 1))(1.6, 0.4)
    by_weight = central_difference(lambda x: c(x, 0.4), 1.6, 1e-3)
    by_bias = central_difference(lambda x: c(1.6, x), 0.4, 1e-3)
    np.testing.assert_allclose(gradient, [by_weight, by_bias], rtol=1e-8)
    _, tangent = jax.jvp(lambda w: c(w, 0.4), (1.6,), (1.0,))
    assert tangent == pytest.approx(float(gradient[0]), rel=1e-10)


def test_nothing_is_compiled_again_for_other_values():
    traces = []

    def function(x):
        traces.append(None)
        return jnp.tanh(x)

    phi = mf.from_callable(function, kinks=())
    mf.steady_state(mf.Dense(phi, 1.1, 0.3), 1.0)
    count = len(traces)
    assert count > 0
    for sigma_w, q0 in ((0.5, 2.0), (3, 7), (np.float64(1.7), jnp.asarray(0.2))):
        mf.steady_state(mf.Dense(phi, sigma_w, 0.1), q0)
    assert len(traces) == count


# Properties --------------------------------------------------------------------------------


@given(st.floats(0.1, 10.0), st.floats(0.3, 3.0), st.floats(0.01, 1.0))
def test_a_change_of_units_moves_the_steady_state_by_its_square(factor, sigma_w, sigma_b):
    one = mf.steady_state(mf.Dense(mf.activation("shtanh", a=1.0), sigma_w, sigma_b), 1.0)
    other = mf.steady_state(
        mf.Dense(mf.activation("shtanh", a=factor), sigma_w, sigma_b * factor), factor**2
    )
    assert one.status == other.status == OK
    assert other.q == pytest.approx(factor**2 * float(one.q), rel=1e-11)
    assert other.chi == pytest.approx(float(one.chi), rel=1e-10)


@given(st.floats(0.05, 6.0), st.floats(0.0, 2.0), st.floats(1e-6, 1e3))
def test_what_is_called_fixed_is_fixed_and_attracts(sigma_w, sigma_b, q0):
    layer = mf.Dense(TANH, sigma_w, sigma_b)
    state = mf.steady_state(layer, q0)
    if state.status == OK:
        assert variance(layer, state.q) == pytest.approx(float(state.q), rel=1e-11)
        assert abs(state.slope) <= 1
    else:
        assert state.status == mf.Status.VANISHES
        assert sigma_b == 0
        assert sigma_w <= 1


variance = jax.jit(lambda layer, q: layer.variance(q))


@given(st.floats(0.3, 4.0), st.floats(0.05, 1.0))
def test_the_limit_of_correlations_is_a_fixed_point_that_attracts(sigma_w, sigma_b):
    layer = mf.Dense(TANH, sigma_w, sigma_b)
    limit = mf.check(mf.correlation_fixed_point(layer))
    q = float(mf.steady_state(layer).q)
    assert 0 <= limit.c <= 1
    assert limit.slope <= 1
    after = float(mf.decorrelation_map(layer, q, limit.epsilon))
    assert after == pytest.approx(float(limit.epsilon), rel=1e-10, abs=1e-15)


def test_a_kink_beyond_the_gaussian_does_not_look_like_growth():
    phi = mf.shift(mf.activation("relu"), 3.0)
    state = mf.steady_state(mf.Dense(phi, 1.0, np.sqrt(0.1)))
    assert int(state.status) == mf.Status.OK
    assert float(state.q) == pytest.approx(0.1, rel=1e-12)
    assert 0 < float(state.slope) < 1e-15


@pytest.mark.parametrize("q", [2.2, 1.6])
def test_two_fixed_points_in_one_cell_of_the_search_are_seen(q):
    # Just below a tangency at q: a pair some per cent apart, the lower one attracting.
    phi = mf.activation("gelu")
    slope = phi.variance_slope(q)
    bias_variance = (q - phi.second_moment(q) / slope) * (1 - 1e-4)
    layer = mf.Dense(phi, slope**-0.5, bias_variance**0.5)
    points = mf.fixed_points(layer)
    assert bool(points.stable[0])
    state = mf.steady_state(layer, np.array([0.1, 1.0]))
    assert state.q == pytest.approx(float(points.q[0]) * np.ones(2), rel=1e-9)
    assert (np.asarray(state.status) == mf.Status.OK).all()


# Of x + sin²x the map is V(q) = σw² (q + 3/8 - e^{-2q}/2 + e^{-8q}/8) + σb². It is resolved up to
# q = 2e6 alone.
SNAKE = mf.from_callable(lambda x: x + jnp.sin(x) ** 2)


@pytest.mark.parametrize("sigma_b", [0.0, 0.5, 0.8, 3.0])
@pytest.mark.parametrize("sigma_w", [1.0, 1.001, 2.0])
def test_a_variance_diverges_that_the_map_leaves_behind_as_far_as_it_is_resolved(sigma_w, sigma_b):
    state = mf.steady_state(mf.Dense(SNAKE, sigma_w, sigma_b))
    assert state.status == mf.Status.DIVERGES


def test_a_map_that_draws_nearer_to_the_diagonal_is_not_said_to_diverge():
    """V = 0.9998 q + 900.4 passes the diagonal at q = 4.5e6, beyond what is resolved."""
    state = mf.steady_state(mf.Dense(SNAKE, 0.9999, 30.0))
    assert state.status == mf.Status.NOT_CONVERGED
    nearer = mf.check(mf.steady_state(mf.Dense(SNAKE, 0.9999, 3.0)))
    assert nearer.q == pytest.approx((0.9999**2 * 0.375 + 9) / (1 - 0.9999**2), rel=1e-9)
