"""Variances and correlations settle where published tables say, or the status says why not.

References are quoted to the digits printed: (σw, σb) with q*, χ1 = C'(1), V'(q*), c* and
C'(c*), computed by mpmath or by two independent double-precision methods.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import central_difference, dense

import meanfield as mf
from meanfield.fixedpoint import CorrelationFixedPoint, SteadyState

OK = mf.Status.OK
TANH, RELU, GELU = (mf.activation(name) for name in ("tanh", "relu", "gelu"))


# Tables ------------------------------------------------------------------------------------

# σw, q*, χ1, V', c*, C'(c*) of tanh at σb = 0.3 (Poole et al. 2016 setting).
POOLE = np.array(
    [
        [1.3, 0.6070467919093, 0.9398074286822, 0.473515869865, 1.0, 0.939807428682],
        [2.5, 4.0791238752822, 1.5852247650060, 0.233922045583, 0.122103747306, 0.822229172724],
        [4.0, 12.604149497844, 2.3672610355459, 0.130082102326, 0.029695921580, 0.759743605012],
    ]
)


def test_the_transient_chaos_table():
    sigma_w, q, chi, slope, c, slope_c = POOLE.T
    layer = mf.Dense(TANH, sigma_w, 0.3)
    state = mf.check(mf.steady_state(layer, 1.0))
    np.testing.assert_allclose(state.q, q, rtol=1e-13)
    np.testing.assert_allclose(state.chi, chi, rtol=1e-12)
    np.testing.assert_allclose(state.slope, slope, rtol=2e-12)
    limit = mf.check(mf.correlation_fixed_point(layer, 1.0))
    np.testing.assert_allclose(limit.c, c, rtol=3e-11)
    np.testing.assert_allclose(limit.slope, slope_c, rtol=1e-11)
    np.testing.assert_allclose(limit.epsilon, 1 - limit.c, atol=1e-15)


# σw², q*, c*, χ1, ξ_q, ξ_c of tanh at σb² = 0.05 (Schoenholz et al. 2017 setting).
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


def test_the_deep_information_propagation_table():
    weight, q, c, chi, xi_q, xi_c = SCHOENHOLZ.T
    layer = dense("tanh", weight, 0.05)
    state = mf.check(mf.steady_state(layer))
    np.testing.assert_allclose(state.q, q, rtol=1e-10)
    np.testing.assert_allclose(state.chi, chi, rtol=1e-10)
    np.testing.assert_allclose(-1 / np.log(state.slope), xi_q, rtol=5e-9)
    limit = mf.check(mf.correlation_fixed_point(layer))
    np.testing.assert_allclose(limit.c, c, rtol=1.1e-10)
    np.testing.assert_allclose(-1 / np.log(limit.slope), xi_c, rtol=1e-7)


# φ, σw², σb², q*, χ1, V'(q*), c* (None: not asked for). mpmath, 25 digits.
OFF_EDGE = [
    ("erf", 4.0, 0.1, 2.6441379722700576, 1.49685764089394085, 0.238039433080796769, 0.203231363648875936),
    ("shtanh", 2.5, 0.1, 1.61406563815647727, 1.42196684983064843, 0.270145449899512747, 0.343415074744276137),
    ("srelu", 1.5, 0.1, 0.49734993714060974, 0.557400579931993358, 0.730130903220296286, None),
    ("softplus", 1.0, 0.0, 0.856305159644932856, 0.288721849003259175, 0.450516537588290614, None),
    ("sigmoid", 4.0, 0.0, 1.19691434339885234, 0.171581354146725036, 0.113201234139601281, None),
    ("swish", 2.0, 0.1, 0.23472519502157672, 0.595582213775406104, 0.636404909880985087, None),
    ("gelu", 1.5, 0.1, 0.19192542922403498, 0.507109867464707241, 0.557409452705291555, None),
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


def test_tanh_off_the_edge():
    layer = dense("tanh", np.array([4.0, 1.0]), np.array([0.05, 0.1]))
    state, limit = mf.steady_state(layer), mf.correlation_fixed_point(layer)
    np.testing.assert_allclose(state.q, [2.19549392803448776, 0.294985061825276905], rtol=1e-13)
    np.testing.assert_allclose(state.chi, [1.3424024144451917, 0.68883892066524398], rtol=1e-12)
    np.testing.assert_allclose(
        state.slope, [0.318195099404550611, 0.456486885646285752], rtol=1e-12
    )
    np.testing.assert_allclose(limit.c, [0.165064962022309903, 1.0], rtol=1e-11)


def test_the_slope_at_the_limit_of_correlations():
    for name, weight, bias, slope in (
        ("erf", 4.0, 0.1, 0.8220080987),
        ("tanh", 4.0, 0.05, 0.8665279956),
        ("shtanh", 2.5, 0.1, 0.8419391528),
    ):
        limit = mf.correlation_fixed_point(dense(name, weight, bias))
        assert limit.slope == pytest.approx(slope, rel=2e-9)


def test_correlations_just_above_the_edge():
    """ε* ≈ 2(χ1 - 1)/C''(1): the root that merges with c = 1 keeps its relative accuracy."""
    edge = 1.76095463960673913
    limit = mf.correlation_fixed_point(
        dense("tanh", edge * (1 + np.array([1e-3, 1e-6, 1e-9])), 0.05)
    )
    assert np.all(limit.status == OK)
    assert np.all(np.diff(limit.epsilon) < 0)
    # Both χ1 - 1 and ε* are linear in the distance to the edge.
    np.testing.assert_allclose(limit.epsilon[1:] / limit.epsilon[:-1], 1e-3, rtol=5e-3)


def test_uncorrelated_is_the_limit_of_an_odd_chaotic_network_without_bias():
    limit = mf.check(mf.correlation_fixed_point(mf.Dense(TANH, 2.0, 0.0)))
    assert limit.c == pytest.approx(0.0, abs=1e-13)


# Several fixed points, or none ---------------------------------------------------------------


def test_where_gelu_settles_depends_on_where_it_starts():
    layer = dense("gelu", 1.995, 0.15)
    # Between the two attracting points lies 3.98608734809, which repels.
    start = np.array([1e-6, 1.0, 3.98, 3.99, 100.0, 1e4])
    state = mf.check(mf.steady_state(layer, start))
    np.testing.assert_allclose(state.q, np.repeat([0.946725827915, 35.8852770659], 3), rtol=1e-11)
    np.testing.assert_allclose(state.slope, np.repeat([0.966193, 0.998281], 3), atol=5e-7)


def test_gelu_above_its_repelling_point_diverges():
    layer = dense("gelu", 2.0, 0.1)
    state = mf.steady_state(layer, np.array([1.0, 11.2, 11.4, 1e3]))
    np.testing.assert_array_equal(state.status, [OK, OK, mf.Status.DIVERGES, mf.Status.DIVERGES])
    np.testing.assert_allclose(state.q[:2], 0.340830009666, rtol=1e-11)
    assert np.all(np.isnan(state.q[2:]))


def test_he_initialised_gelu_decays():
    state = mf.steady_state(dense("gelu", 2.0, 0.0), 1.0)
    assert state.status == mf.Status.VANISHES


def test_gelu_with_a_repelling_point_only():
    state = mf.steady_state(dense("gelu", 2.1, 0.0), np.array([3.1, 3.11]))
    np.testing.assert_array_equal(state.status, [mf.Status.VANISHES, mf.Status.DIVERGES])


def test_swish_between_its_points():
    state = mf.check(mf.steady_state(dense("swish", 2.05, 0.1), np.array([0.01, 15.1])))
    np.testing.assert_allclose(state.q, 0.244475288728, rtol=1e-11)


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
    layer = mf.Dense(mf.activation(name), sigma_w, sigma_b)
    for answer in (mf.steady_state(layer, q0), mf.correlation_fixed_point(layer, q0)):
        assert mf.Status(int(answer.status)).name == status
        with pytest.raises(mf.SolutionError, match=status):
            mf.check(answer)
    state = mf.steady_state(layer, q0)
    if status == "VANISHES":
        assert state.q == 0.0
        assert state.chi == pytest.approx(sigma_w**2 * (0.5 if name == "relu" else 1.0), rel=1e-9)
    else:
        assert np.isnan(state.q)
        assert np.isnan(state.chi)
    limit = mf.correlation_fixed_point(layer, q0)
    assert np.isnan(limit.c)
    assert np.isnan(limit.slope)


def test_every_variance_is_fixed_for_critical_relu():
    q0 = np.array([1e-8, 0.3, 1.0, 1e6])
    state = mf.check(mf.steady_state(dense("relu", 2.0, 0.0), q0))
    np.testing.assert_allclose(state.q, q0, rtol=1e-13)
    np.testing.assert_allclose(state.chi, 1.0, rtol=1e-14)
    limit = mf.check(mf.correlation_fixed_point(dense("relu", 2.0, 0.0), q0))
    np.testing.assert_array_equal(limit.c, 1.0)


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


def test_a_cycle_of_the_variance_is_not_a_steady_state():
    """φ = 1 for |x| < 1, else 0: V falls so steeply at its fixed point that it cannot hold."""
    phi = mf.from_callable(lambda x: jnp.exp(-((3 * x * x) ** 4)))
    state = mf.steady_state(mf.Dense(mf.scale(phi, output=20.0), 1.0, 1e-3), 1.0)
    assert state.status != OK or abs(state.slope) <= 1


def test_an_unresolved_activation_is_not_answered():
    phi = mf.from_callable(lambda x: jnp.abs(x - 0.3), kinks=(0.3,))
    assert mf.steady_state(mf.Dense(phi, 0.9, 0.1)).status == OK
    with pytest.warns(mf.MeanFieldWarning, match="leaves out"):
        hidden = mf.from_callable(lambda x: jnp.where(x > 0.3, 1.0, 0.0), kinks=())
    state = mf.steady_state(mf.Dense(hidden, 1.0, 0.1))
    assert state.status == mf.Status.NOT_CONVERGED
    assert np.isnan(state.q)


# Broadcasting and derivatives --------------------------------------------------------------------


def test_arrays_in_any_argument_are_solved_element_by_element():
    sigma_w, q0 = np.array([[0.9], [1.5], [2.5]]), np.array([0.1, 3.0])
    for solve in (mf.steady_state, mf.correlation_fixed_point):
        together = solve(mf.Dense(TANH, sigma_w, 0.3), q0)
        for i in range(3):
            for j in range(2):
                alone = solve(mf.Dense(TANH, sigma_w[i, 0], 0.3), q0[j])
                for one, all_ in zip(
                    jax.tree.leaves(alone), jax.tree.leaves(together), strict=True
                ):
                    assert all_[i, j] == pytest.approx(float(one), rel=1e-13)


def test_records_say_what_they_are():
    assert isinstance(mf.steady_state(mf.Dense(TANH, 1.3, 0.3)), SteadyState)
    assert isinstance(mf.correlation_fixed_point(mf.Dense(TANH, 1.3, 0.3)), CorrelationFixedPoint)


def test_the_steady_state_is_differentiable_in_every_parameter():
    def q(sigma_w, sigma_b, a):
        return mf.steady_state(mf.Dense(mf.activation("shtanh", a=a), sigma_w, sigma_b)).q

    point = [1.4, 0.3, 0.8]
    gradient = jax.grad(q, argnums=(0, 1, 2))(*point)
    for i in range(3):

        def along(x, i=i):
            return q(*point[:i], x, *point[i + 1 :])

        assert gradient[i] == pytest.approx(central_difference(along, point[i], 1e-3), rel=1e-9)
    # In forward mode, too.
    _, tangent = jax.jvp(lambda w: q(w, 0.3, 0.8), (1.4,), (1.0,))
    assert tangent == pytest.approx(float(gradient[0]), rel=1e-12)


def test_chi_and_the_slope_are_differentiable():
    def both(sigma_w):
        state = mf.steady_state(mf.Dense(RELU, sigma_w, 0.3))
        return jnp.stack([state.q, state.chi, state.slope])

    # q = σb²/(1 - σw²/2), χ1 = V' = σw²/2.
    exact = [0.09 * 1.2 / (1 - 0.72) ** 2, 1.2, 1.2]
    np.testing.assert_allclose(jax.jacfwd(both)(1.2), exact, rtol=1e-11)


def test_the_limit_of_correlations_is_differentiable():
    def c(sigma_w, sigma_b):
        layer = mf.Dense(mf.activation("sin"), sigma_w, sigma_b)
        return mf.correlation_fixed_point(layer).c

    gradient = jax.grad(c, argnums=(0, 1))(1.6, 0.4)
    assert gradient[0] == pytest.approx(
        central_difference(lambda x: c(x, 0.4), 1.6, 1e-3), rel=1e-8
    )
    assert gradient[1] == pytest.approx(
        central_difference(lambda x: c(1.6, x), 0.4, 1e-3), rel=1e-8
    )
    _, tangent = jax.jvp(lambda w: c(w, 0.4), (1.6,), (1.0,))
    assert tangent == pytest.approx(float(gradient[0]), rel=1e-10)


def test_a_limit_through_the_quadrature_is_differentiable():
    def c(sigma_w):
        return mf.correlation_fixed_point(mf.Dense(TANH, sigma_w, 0.3)).c

    numeric = central_difference(c, 2.5, 1e-3)
    _, tangent = jax.jvp(c, (2.5,), (1.0,))
    assert tangent == pytest.approx(numeric, rel=1e-8)


def test_nothing_is_compiled_again_for_other_values():
    def solve(sigma_w, q0):
        return mf.steady_state(mf.Dense(TANH, sigma_w, 0.3), q0)

    solve(1.1, 1.0)
    with jax.log_compiles(), _no_compilation():
        for sigma_w, q0 in ((0.5, 2.0), (3, 7), (np.float64(1.7), jnp.asarray(0.2))):
            solve(sigma_w, q0)


class _no_compilation:  # noqa: N801
    """Fail if anything is compiled inside."""

    def __enter__(self):
        jax.monitoring.register_event_duration_secs_listener(self._seen)
        self.count = 0

    def __exit__(self, *_):
        jax.monitoring.unregister_event_duration_listener(self._seen)
        assert self.count == 0

    def _seen(self, event, *_, **__):
        self.count += "compile" in event


# Properties ------------------------------------------------------------------------------------------


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
