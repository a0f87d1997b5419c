"""The edge of chaos lies where published tables say; where there is none, the status says so."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import central_difference
from scipy.special import erf

import meanfield as mf

OK, NONE = mf.Status.OK, mf.Status.NO_SOLUTION


def phi_of(name, **params):
    return mf.activation(name, **params)


def edge(name, sigma_b, **params):
    """Solve for up to four biases at once, so that each activation is compiled once."""
    sigma_b, *values = np.broadcast_arrays(np.atleast_1d(sigma_b), *params.values())
    count = len(sigma_b)
    padded = [np.resize(np.asarray(x, float), 4) for x in (sigma_b, *values)]
    phi = mf.activation(name, **dict(zip(params, padded[1:], strict=True)))
    return jax.tree.map(lambda x: x[:count], mf.edge_of_chaos(phi, padded[0]))


# At a given variance -----------------------------------------------------------------------

# φ, q, σw², σb²: mpmath, 25 digits.
AT_VARIANCE = [
    ("tanh", {}, 1.0, 2.15330264890279003, 0.15096462937855289),
    ("erf", {}, 1.0, 1.7562036827601816, 0.184139677807452754),
    ("shtanh", {"a": 1.0}, 1.0, 1.46479477349154408, 0.244080131735662709),
    ("shtanh", {"a": 2.0}, 1.0, 1.04766922627144435, 0.0355817913642993369),
    ("swish", {}, 1.0, 2.63516865987896243, 0.0624715002251668786),
    ("gelu", {}, 1.0, 2.19369990353239519, 0.0671916747056337342),
    ("elu", {}, 1.0, 1.49677743543528658, 0.0346602520092012027),
    ("relu", {}, 1.0, 2.0, 0.0),
    ("leaky_relu", {"negative_slope": 0.1}, 1.0, 1.9801980198019802, 0.0),
    ("mish", {}, 1.0, 2.08731768197285928, 0.0558181435514511961),
    ("tanh", {}, 0.2, 1.1516998861216844**2, 0.0691099029663101544**2),
    ("elu", {}, 0.2, 1.13460454115580925**2, 0.0524371082004969642**2),
    ("gelu", {}, 0.2, 1.71321611188115151**2, 0.10620774420984257**2),
    ("hard_tanh", {}, 0.2, 1.01291979646834834**2, 0.0636017368999867929**2),
    ("erf", {}, 0.2, 1.02650972214397899**2, 0.0750243273734081975**2),
    ("sigmoid", {}, 100.0, 151.362745203304893, 30.2610621919750612),
]


@pytest.mark.parametrize(("name", "params", "q", "weight", "bias"), AT_VARIANCE)
def test_the_critical_network_of_a_variance(name, params, q, weight, bias):
    point = mf.check(mf.critical_point(phi_of(name, **params), q))
    assert point.q == q
    assert point.sigma_w**2 == pytest.approx(weight, rel=1e-13)
    assert point.sigma_b**2 == pytest.approx(bias, rel=1e-11, abs=1e-300)


def test_points_where_the_length_map_is_critical_too():
    """Half-stable points: χ1 = V'(q*) = 1."""
    for name, q, weight, bias in (
        ("gelu", 3.56155281280883, 1.98305825743755, 0.172922390756067),
        ("swish", 14.3201736180258, 1.98800467826949, 0.55514317072153),
        ("mish", 1.670169132478, 2.013524069720, 0.094521787371),
    ):
        point = mf.check(mf.critical_point(phi_of(name), q))
        assert point.sigma_w**2 == pytest.approx(weight, rel=1e-12)
        assert point.sigma_b**2 == pytest.approx(bias, rel=1e-10)
        assert point.slope == pytest.approx(1.0, abs=1e-11)


def test_no_network_is_critical_where_the_bias_variance_would_be_negative():
    for name in ("softplus", "srelu"):
        point = mf.critical_point(phi_of(name), np.array([1e-3, 1.0, 100.0]))
        np.testing.assert_array_equal(point.status, NONE)
        assert np.all(np.isnan(point.sigma_w))
        assert np.all(np.isnan(point.q))
    sigmoid = mf.critical_point(phi_of("sigmoid"), np.array([45.0, 46.0]))
    np.testing.assert_array_equal(sigmoid.status, [NONE, OK])


# At a given bias -----------------------------------------------------------------------------

# φ, σb², q*, σw²: mpmath, 25 digits.
AT_BIAS = {
    "tanh": [
        (0.05, 0.57004788164076415, 1.76095463960673913),
        (0.1, 0.805799181913487407, 1.98607264113586421),
        (1e-2, 0.273300913458231291, 1.42420529048859573),
        (1e-4, 0.0457090786952824649, 1.08602629249969321),
    ],
    "erf": [
        (0.05, 0.517176837980564379, 1.37583900734668044),
        (0.1, 0.726359229384960569, 1.5521178553336423),
    ],
    "elu": [
        (0.1, 2.21277848577260931, 1.60674355794424678),
        (0.05, 1.30091256994567419, 1.53371833163947042),
    ],
    "swish": [(0.05, 0.82657605012882845, 2.72861152633732448)],
    "gelu": [(0.05, 0.72203576690160453, 2.30251951169281411)],
    "shtanh": [(0.1, 0.63215546454830246, 1.26340593238613947)],
}


# Parameters that other tests vary are arrays here, too.
KEPT = {"shtanh": {"a": 1.0}}


@pytest.mark.parametrize("name", AT_BIAS)
def test_the_edge_of_chaos_at_a_bias(name):
    bias, q, weight = np.array(AT_BIAS[name]).T
    point = mf.check(edge(name, np.sqrt(bias), **KEPT.get(name, {})))
    np.testing.assert_allclose(point.q, q, rtol=2e-12)
    np.testing.assert_allclose(point.sigma_w**2, weight, rtol=1e-12)
    np.testing.assert_array_equal(point.sigma_b, np.sqrt(bias))


# σb = 0.2: q*, σw, V'(q*), to the digits printed.
AT_TWO_TENTHS = {
    "elu": (1.10693054, 1.22925112, 0.859777),
    "erf": (0.46576294, 1.15279541, 0.517725),
    "sin": (0.50975176, 1.21233319, 0.530248),
    "selu": (0.71704911, 0.93747558, 0.742918),
    "swish": (0.6894525, 1.6795316, 1.098728),
    "gelu": (0.57563712, 1.54700947, 1.095041),
    "mish": (0.74554947, 1.46343921, 1.024506),
}


@pytest.mark.parametrize("name", AT_TWO_TENTHS)
def test_the_edge_and_whether_its_variance_attracts(name):
    q, sigma_w, slope = AT_TWO_TENTHS[name]
    point = jax.tree.map(lambda x: x[0], mf.check(edge(name, 0.2)))
    assert point.q == pytest.approx(q, abs=6e-8)
    assert point.sigma_w == pytest.approx(sigma_w, abs=6e-8)
    assert point.slope == pytest.approx(slope, abs=6e-7)


def test_the_tanh_edge_along_the_bias():
    table = np.array(
        [
            [0.2, 0.512078504234, 1.304145840057],
            [0.3, 0.763474766910, 1.395583975155],
            [np.sqrt(0.3), 1.461169446932, 1.582759359372],
            [1.0, 3.036396394624, 1.855589101139],
        ]
    )
    sigma_b, q, sigma_w = table.T
    point = mf.check(edge("tanh", sigma_b))
    np.testing.assert_allclose(point.q, q, rtol=4e-12)
    np.testing.assert_allclose(point.sigma_w, sigma_w, rtol=1e-12)
    # Xiao et al. 2018 quote σb² = 2.01e-5 at σw² = 1.05.
    point = mf.check(edge("tanh", np.sqrt(2.010521339e-5)))
    np.testing.assert_allclose(point.sigma_w**2, 1.05, rtol=1e-10)
    np.testing.assert_allclose(point.q, 0.0259209482, rtol=2e-9)


# Ssin, Sexp, Ssaw at σb²: q*, σw².
FAMILIES = {
    "ssin": [
        (1.0, 0.1, 0.505535201276, 1.15790602031),
        (2.0, 0.1, 1.14059556836, 1.0507537385),
        (5.0, 0.1, 4.08753872197, 1.00902112155),
        (1.0, 0.01, 0.235854064085, 1.03883449869),
    ],
    "sexp": [
        (1.0, 0.1, 0.391390452448, 1.04080265332),
        (2.0, 0.1, 0.978993672902, 1.01912360261),
        (5.0, 0.1, 3.92045061093, 1.00664537075),
        (1.0, 0.01, 0.182968700212, 1.00443141278),
    ],
    "ssaw": [
        (1.0, 0.1, 0.367538455166, 1.00097133918),
        (2.0, 0.1, 0.910954442807, 1.00002778063),
        (5.0, 0.1, 3.60567396921, 1.00000013919),
        (1.0, 0.01, 0.177825207871, 1.00000210802),
    ],
    "shtanh": [
        (0.5, 1e-4, 0.03007871343, 1.003955009),
        (1.0, 1.0, 2.387809777, 2.072708605),
        (5.0, 0.01, 3.007871343, 1.003955009),
        (10.0, 1e-4, 5.496260247, 1.000019949),
    ],
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_scaled_bounded_families(name):
    a, bias, q, weight = np.array(FAMILIES[name]).T
    point = mf.check(edge(name, np.sqrt(bias), a=a))
    rel = 2e-10 if name == "shtanh" else 5e-12
    np.testing.assert_allclose(point.q, q, rtol=rel)
    np.testing.assert_allclose(point.sigma_w**2, weight, rtol=rel)


def test_the_exact_solution_of_shtanh():
    """With x = a/√q* all depends on y = σb²/a² only; k leaves through σw²/k²."""
    a, y = np.array([0.3, 1.0, 7.0]), np.array([0.1, 0.01, 1e-4])
    point = mf.check(edge("shtanh", a * np.sqrt(y), a=a))
    x = np.array([1.25773182947831834, 1.96438930283693449, 3.23659908139256483])
    np.testing.assert_allclose(a / np.sqrt(point.q), x, rtol=1e-12)
    np.testing.assert_allclose(point.sigma_w**2, 1 / erf(x / np.sqrt(2)), rtol=1e-12)
    slope = [0.425132024057, 0.760516632921, 0.986265504385]
    np.testing.assert_allclose(point.slope, slope, rtol=2e-11)
    steeper = mf.check(mf.critical_point(phi_of("shtanh", k=3.0), 1.0))
    plain = mf.check(mf.critical_point(phi_of("shtanh"), 1.0))
    assert steeper.sigma_w == pytest.approx(float(plain.sigma_w) / 3, rel=1e-14)
    assert steeper.sigma_b == pytest.approx(float(plain.sigma_b), rel=1e-14)


def test_the_upper_branch_of_gelu_and_swish_attracts():
    for name, sigma_b, q, sigma_w, slope in (
        ("gelu", 0.5, 6.4341024867, 1.3998682164, 0.98587167),
        ("swish", 1.0, 39.3945912249, 1.4025124180, 0.98667747),
    ):
        point = jax.tree.map(lambda x: x[0], mf.check(edge(name, sigma_b)))
        assert point.q == pytest.approx(q, rel=1e-10)
        assert point.sigma_w == pytest.approx(sigma_w, rel=1e-10)
        assert point.slope == pytest.approx(slope, abs=6e-9)


# Without bias, and without solution ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "params", "sigma_w"),
    [
        ("relu", {}, np.sqrt(2)),
        ("leaky_relu", {"negative_slope": 0.1}, np.sqrt(2 / 1.01)),
        ("linear", {}, 1.0),
    ],
)
def test_a_scale_invariant_activation_is_critical_at_one_point(name, params, sigma_w):
    phi = phi_of(name, **params)
    point = edge(name, np.array([0.0, 1e-3, 0.1, 3.0]), **params)
    np.testing.assert_array_equal(point.status, [OK, NONE, NONE, NONE])
    assert point.sigma_b[0] == 0.0
    assert point.q[0] == 1.0
    assert point.sigma_w[0] == pytest.approx(sigma_w, rel=1e-15)
    assert point.slope[0] == pytest.approx(1.0, rel=1e-14)
    assert np.all(np.isnan(point.sigma_w[1:]))
    every = mf.check(mf.critical_point(phi, np.array([1e-4, 1.0, 1e3, 7.0])))
    np.testing.assert_allclose(every.sigma_w, sigma_w, rtol=1e-14)
    np.testing.assert_array_equal(every.sigma_b, 0.0)


@pytest.mark.parametrize("name", ["softplus", "srelu"])
def test_a_smooth_convex_relu_has_no_edge(name):
    point = edge(name, np.array([0.0, 0.1, 2.0]))
    np.testing.assert_array_equal(point.status, NONE)
    assert np.all(np.isnan(point.sigma_w))
    with pytest.raises(mf.SolutionError, match="NO_SOLUTION: no such point exists"):
        mf.check(point)


def test_the_edge_of_sigmoid_begins_at_a_large_variance():
    point = jax.tree.map(lambda x: x[0], mf.check(edge("sigmoid", 0.0)))
    assert point.q == pytest.approx(45.6242777973797128, rel=1e-11)
    assert point.sigma_w**2 == pytest.approx(103.007553855519322, rel=1e-11)
    assert point.sigma_b == 0.0


@pytest.mark.parametrize("name", ["tanh", "shtanh", "sin", "ssaw"])
def test_the_edge_of_an_odd_activation_begins_at_zero(name):
    params = {"a": 1.0} if name.startswith("s") and name != "sin" else {}
    point = mf.check(edge(name, 0.0, **params))
    assert point.q[0] == 0.0
    assert point.sigma_w[0] == pytest.approx(1.0, rel=1e-12)


def test_an_activation_that_jumps_has_no_edge_and_no_number():
    phi = mf.from_callable(jax.numpy.sign)
    point = mf.edge_of_chaos(phi, 0.3)
    assert point.status != OK
    assert np.isnan(point.sigma_w)


def test_bad_arguments_are_named():
    tanh = phi_of("tanh")
    for q in (0.0, -1.0, np.nan):
        with pytest.raises(mf.MeanFieldError, match=r"^q = .* is not legal; it must be .* > 0"):
            mf.critical_point(tanh, q)
    for sigma_b in (-0.1, np.inf):
        with pytest.raises(
            mf.MeanFieldError, match=r"^sigma_b = .* is not legal; it must be .* >= 0"
        ):
            mf.edge_of_chaos(tanh, sigma_b)


# Broadcasting and derivatives --------------------------------------------------------------


def test_arrays_of_parameters_and_biases_are_solved_element_by_element():
    a, sigma_b = np.array([0.5, 1.0, 1.0, 2.0]), np.array([0.1, 0.1, 0.4, 1.0])
    together = mf.edge_of_chaos(phi_of("shtanh", a=a), sigma_b)
    for i in range(4):
        alone = mf.edge_of_chaos(phi_of("shtanh", a=a[i]), sigma_b[i])
        for one, all_ in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
            assert all_[i] == pytest.approx(float(one), rel=1e-12)


def test_the_edge_is_differentiable_in_the_bias_and_in_parameters():
    def both(sigma_b, a):
        point = mf.edge_of_chaos(phi_of("shtanh", a=a), sigma_b)
        return point.q + 3.0 * point.sigma_w

    by_bias, by_width = jax.grad(both, argnums=(0, 1))(0.3, 0.9)
    numeric = central_difference(lambda x: both(x, 0.9), 0.3, 1e-3)
    assert by_bias == pytest.approx(numeric, rel=1e-8)
    numeric = central_difference(lambda x: both(0.3, x), 0.9, 1e-3)
    assert by_width == pytest.approx(numeric, rel=1e-8)


def test_a_critical_point_is_differentiable_in_its_variance():
    def point(q):
        answer = mf.critical_point(phi_of("tanh"), q)
        return jax.numpy.stack([answer.sigma_w, answer.sigma_b])

    gradient = jax.jacrev(point)(0.8)
    for i in range(2):
        numeric = central_difference(lambda x, i=i: point(x)[i], 0.8, 1e-3)
        assert gradient[i] == pytest.approx(numeric, rel=1e-9)


# Properties --------------------------------------------------------------------------------


@given(st.floats(1e-3, 50.0))
def test_the_edge_inverts_the_critical_point(q):
    tanh = phi_of("tanh")
    point = mf.check(mf.critical_point(tanh, q))
    back = jax.tree.map(lambda x: x[0], mf.check(edge("tanh", point.sigma_b)))
    assert back.q == pytest.approx(q, rel=1e-9)
    assert back.sigma_w == pytest.approx(float(point.sigma_w), rel=1e-9)


@given(st.floats(0.05, 3.0))
def test_the_critical_network_is_fixed_and_has_slope_one(sigma_b):
    point = jax.tree.map(lambda x: x[0], mf.check(edge("tanh", sigma_b)))
    layer = mf.Dense(phi_of("tanh"), point.sigma_w, sigma_b)
    state = mf.check(mf.steady_state(layer, point.q))
    assert state.q == pytest.approx(float(point.q), rel=1e-10)
    assert state.chi == pytest.approx(1.0, abs=1e-11)
    assert state.slope == pytest.approx(float(point.slope), rel=1e-10)


@given(st.floats(0.1, 10.0), st.floats(0.05, 2.0))
def test_a_change_of_units_scales_the_edge(factor, sigma_b):
    units = np.array([1.0, factor])
    point = mf.check(edge("shtanh", sigma_b * units, a=units))
    np.testing.assert_allclose(point.q / units**2, point.q[0], rtol=1e-10)
    np.testing.assert_allclose(point.sigma_w, point.sigma_w[0], rtol=1e-11)
