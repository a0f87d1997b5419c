"""Depth scales, limits of correlations near the edge, dropout, and the bending of curves."""

import jax
import mpmath as mp
import numpy as np
import pytest

import meanfield as mf
from meanfield._elementwise import elementwise

TANH = mf.activation("tanh")

# σw², q*, c*, χ1, ξ_q, ξ_c of tanh at σb² = 0.05.
TABLE = np.array(
    [
        (1.3, 0.3153164775, 1, 0.8801635099, 1.78523663, 7.83406927),
        (1.5, 0.4180372005, 1, 0.9386362682, 1.68282839, 15.79099403),
        (1.7, 0.5330756279, 1, 0.9867408090, 1.55825401, 74.91827050),
        (1.8, 0.5941321720, 0.9504105464, 1.0082231444, 1.49788379, 125.78409386),
        (2.0, 0.7217618727, 0.7440824195, 1.0476659996, 1.38797575, 25.21341479),
        (2.5, 1.0639583774, 0.4468042323, 1.1335156987, 1.17987292, 11.79559752),
        (4.0, 2.1954939280, 0.1650649620, 1.3424024144, 0.87329337, 6.98027353),
    ]
)

# keep, q, c*, ξ_c of tanh at σw² = 1.76, σb² = 0.05.
DROPOUT = np.array(
    [
        (0.99, 0.5803879243, 0.7663402382, 14.477940),
        (0.98, 0.5916005246, 0.6747248167, 10.504352),
        (0.95, 0.6270568699, 0.5098324497, 6.774595),
        (0.90, 0.6928365048, 0.3567367420, 4.666683),
        (0.80, 0.8552818432, 0.2008214166, 2.943774),
    ]
)


def test_the_table_of_tanh():
    weight, q, c, chi, xi_q, xi_c = TABLE.T
    layer = mf.Dense(TANH, np.sqrt(weight), np.sqrt(0.05))
    state, limit, depth = mf.steady_state(layer), mf.correlation_fixed_point(layer), None
    depth = mf.depth_scales(layer)
    assert state.q == pytest.approx(q, rel=1e-9)
    assert limit.c == pytest.approx(c, rel=1e-9)
    assert state.chi == pytest.approx(chi, rel=1e-9)
    assert depth.xi_q == pytest.approx(xi_q, rel=1e-8)
    assert depth.xi_c == pytest.approx(xi_c, rel=1e-8)
    assert depth.xi_grad == pytest.approx(-1 / np.log(chi), rel=1e-7)
    assert (np.asarray(depth.xi_grad) < 0).tolist() == (chi > 1).tolist()


def test_on_the_edge_scales_are_infinite():
    point = mf.edge_of_chaos(TANH, 0.3)
    depth = mf.depth_scales(mf.Dense(TANH, point.sigma_w, 0.3))
    assert depth.xi_c == depth.xi_grad == np.inf
    assert depth.xi_q == pytest.approx(-1 / np.log(float(point.slope)), rel=1e-12)


def test_near_the_edge_both_sides_have_one_scale():
    point = mf.edge_of_chaos(TANH, 0.3)
    below, above = mf.depth_scales(
        mf.Dense(TANH, point.sigma_w * np.array([1 - 1e-7, 1 + 1e-7]), 0.3)
    ).xi_c
    assert below == pytest.approx(float(above), rel=1e-5)


def test_where_the_variance_vanishes_or_diverges():
    fading = mf.depth_scales(mf.Dense(TANH, 0.5, 0.0))
    assert fading.status == mf.Status.VANISHES
    assert [fading.xi_q, fading.xi_grad] == pytest.approx([1 / np.log(4)] * 2, rel=1e-12)
    assert np.isnan(fading.xi_c)
    growing = mf.depth_scales(mf.Dense(mf.activation("relu"), 2.0, 0.1))
    assert growing.status == mf.Status.DIVERGES
    assert np.isnan([growing.xi_q, growing.xi_c, growing.xi_grad]).all()


def test_depth_scales_are_differentiable():
    def xi(sigma_w):
        return mf.depth_scales(mf.Dense(TANH, sigma_w, 0.3)).xi_c

    slope = (xi(2.0 + 1e-5) - xi(2.0 - 1e-5)) / 2e-5
    assert jax.grad(xi)(2.0) == pytest.approx(float(slope), rel=1e-6)


# Close to the edge --------------------------------------------------------------------------


def tanh_excess(sigma_w, sigma_b):
    """Return χ1 - 1 and ε* of tanh by mpmath, with the given doubles taken as exact."""
    with mp.workdps(40):
        w2, b2 = mp.mpf(sigma_w) ** 2, mp.mpf(sigma_b) ** 2

        def mean(f, q):
            return 2 * mp.quad(lambda z: f(mp.sqrt(q) * z) * mp.npdf(z), np.linspace(0, 16, 9))

        q = mp.findroot(lambda q: w2 * mean(lambda u: mp.tanh(u) ** 2, q) + b2 - q, 0.7634748)
        chi = w2 * mean(lambda u: mp.sech(u) ** 4, q)
        curvature = w2 * q * mean(lambda u: (2 * mp.tanh(u) * mp.sech(u) ** 2) ** 2, q)
        # C''' of the map at 1: σw² q² E φ'''², for the second order of ε*.
        third = (
            w2 * q**2 * mean(lambda u: (2 * mp.sech(u) ** 2 * (3 * mp.tanh(u) ** 2 - 1)) ** 2, q)
        )
        gap = chi - 1
        # ε'/ε = χ1 - C''ε/2 + C'''ε²/6 = 1.
        epsilon = 2 * gap / curvature
        for _ in range(20):
            epsilon = 2 * (gap + third * epsilon**2 / 6) / curvature
        return float(gap), float(epsilon)


@pytest.mark.parametrize("step", [1e-5, 1e-6, 1e-7, 1e-8, 2.4e-9])
def test_limits_close_to_the_edge_keep_their_digits(step):
    sigma_w = float(mf.edge_of_chaos(TANH, 0.3).sigma_w) * (1 + step)
    gap, epsilon = tanh_excess(sigma_w, 0.3)
    layer = mf.Dense(TANH, sigma_w, 0.3)
    state, limit = mf.steady_state(layer), mf.correlation_fixed_point(layer)
    # χ1 - 1 carries the rounding of χ1, which no double can avoid, and ε* what follows from
    # it; beyond that there is the truncation of the oracle's series.
    rounding = 1e-15 / gap
    assert state.chi - 1 == pytest.approx(gap, rel=rounding)
    assert limit.epsilon == pytest.approx(epsilon, rel=1e-9 + rounding + 10 * epsilon**2)


@pytest.mark.parametrize("name", ["tanh", "erf", "elu", "selu"])
def test_given_the_gap_the_limit_is_exact(name):
    # ε* solves χ1 - 1 = deficit(ε*), which is tested to 1e-9 relative without the rounding of χ1.
    phi = mf.activation(name)
    point = mf.edge_of_chaos(phi, 0.5)
    gaps = np.array([1e-3, 1e-6, 1e-9])
    layer = mf.Dense(phi, point.sigma_w * np.sqrt(1 + gaps), 0.5)
    state, limit = mf.steady_state(layer), mf.correlation_fixed_point(layer)
    assert (np.asarray(limit.status) == mf.Status.OK).all()
    gain = layer.sigma_w**2 * state.q / layer.variance(state.q)
    excess = gain * slope_moment(phi, state.q) - 1
    deficit = gain * statistics(phi, state.q, limit.epsilon)[0]
    np.testing.assert_allclose(deficit, excess, rtol=1e-9, atol=5e-16)


@elementwise()
def slope_moment(phi, q):
    return phi.slope_moment(q, 2)


@elementwise()
def statistics(phi, q, epsilon):
    slope = phi.slope_moment(q, 2)
    lacks = slope - phi.decorrelation(q, epsilon), slope - phi.slope_covariance(q, q, epsilon)
    return phi.deficit(q, epsilon), phi.slope_gap(q, epsilon), *lacks


@pytest.mark.parametrize("name", ["tanh", "elu", "erf", "sin", "hard_tanh", "hard_swish"])
def test_the_deficit_is_what_the_map_lacks(name):
    phi = mf.activation(name)
    q = np.array([[0.3], [5.0]])
    epsilon = np.concatenate([np.array([[1.5, 0.3, 1e-3]] * 2), 0.9e-2 / np.maximum(q, 1)], axis=1)
    deficit, gap, lack, slope_lack = statistics(phi, q, epsilon)
    np.testing.assert_allclose(deficit, lack, rtol=0, atol=2e-12)
    np.testing.assert_allclose(gap, slope_lack, rtol=0, atol=1e-10)
    # As ε vanishes: C'' for smooth φ, the kink law for kinked φ.
    tiny = 1e-10
    deficit, gap, *_ = statistics(phi, q, tiny)
    bend = np.array([float(phi.curvature_moment(x)) for x in q.ravel()])[:, None]
    if np.isfinite(bend).all():
        np.testing.assert_allclose(deficit, q * bend * tiny / 2, rtol=3e-4)
        np.testing.assert_allclose(gap, q * bend * tiny, rtol=3e-4)
    elif name == "hard_tanh":
        law = 2 * np.exp(-1 / (2 * q)) / (np.sqrt(2) * np.pi) * np.sqrt(tiny)
        np.testing.assert_allclose(gap, law, rtol=1e-4)
        np.testing.assert_allclose(deficit, 2 / 3 * law, rtol=1e-4)


# Dropout ------------------------------------------------------------------------------------


def test_the_table_of_dropout():
    keep, q, c, xi_c = DROPOUT.T
    layer = mf.Dense(TANH, np.sqrt(1.76), np.sqrt(0.05), keep=keep)
    assert mf.steady_state(layer).q == pytest.approx(q, rel=1e-9)
    assert mf.correlation_fixed_point(layer).c == pytest.approx(c, rel=1e-9)
    assert mf.depth_scales(layer).xi_c == pytest.approx(xi_c, rel=1e-6)


def test_one_percent_of_dropout_ends_criticality():
    whole = mf.depth_scales(mf.Dense(TANH, np.sqrt(1.76), np.sqrt(0.05)))
    assert whole.xi_c == pytest.approx(4911.675, rel=1e-6)


def test_dropout_by_simulation():
    rng = np.random.default_rng(3)
    keep, sigma_w, sigma_b, width, draws = 0.7, 1.5, 0.4, 400, 400
    layer = mf.Dense(mf.activation("relu"), sigma_w, sigma_b, keep=keep)
    q1, q2, q12 = 1.0, 2.0, 0.8
    after = layer.propagate(mf.Covariance.of(q1, q2, q12))
    root = np.linalg.cholesky([[q1, q12], [q12, q2]])
    sums = []
    for _ in range(draws):
        u1, u2 = root @ rng.standard_normal((2, width))
        masks = (rng.random((2, width)) < keep) / keep
        w = sigma_w / np.sqrt(width) * rng.standard_normal((20, width))
        bias = sigma_b * rng.standard_normal(20)
        h1 = w @ (masks[0] * np.maximum(u1, 0)) + bias
        h2 = w @ (masks[1] * np.maximum(u2, 0)) + bias
        sums.append([(h1 * h1).mean(), (h2 * h2).mean(), (h1 * h2).mean()])
    mean = np.mean(sums, axis=0)
    error = np.std(sums, axis=0) / np.sqrt(draws)
    exact = np.array([after.q1, after.q2, after.q12])
    assert (np.abs(mean - exact) <= 4 * error).all()
    assert layer.covariance(q1, q2, q12) == pytest.approx(float(after.q12))


def test_an_input_seen_twice_comes_out_as_two():
    layer = mf.Dense(TANH, 1.2, 0.3, keep=0.9)
    variance = layer.variance(1.0)
    lost = 1.2**2 * (1 / 0.9 - 1) * float(TANH.second_moment(1.0))
    assert layer.decorrelation(1.0, 0.0) == pytest.approx(lost / float(variance), rel=1e-13)
    both = layer >> mf.Dense(TANH, 1.2, 0.3)
    assert bool(both.separates())
    assert bool(mf.Repeat(layer, 2).separates())
    assert not bool(mf.Dense(TANH, 1.2, 0.3).separates())


def test_dropout_thins_the_jacobian():
    # Each unit is kept or not: the moments of (mask/p)² φ'² are μ1/p and μ2/p³.
    whole, thinned = (mf.Dense(TANH, 1.2, 0.3, keep=p).moments(1.0) for p in (1.0, 0.8))
    assert thinned.mean == pytest.approx(float(whole.mean) / 0.8)
    assert thinned.relative_variance == pytest.approx(float(whole.relative_variance) / 0.8)


@pytest.mark.parametrize("keep", [0.0, -0.1, 1.1, np.nan])
def test_keep_is_a_probability(keep):
    with pytest.raises(mf.MeanFieldError, match="keep"):
        mf.Dense(TANH, 1.0, 0.1, keep=keep)


@pytest.mark.parametrize("keep", [1.0, 0.9])
def test_growth_is_the_logarithm_of_the_map(keep):
    for phi in (TANH, mf.activation("hard_tanh")):
        layer = mf.Dense(phi, 1.5, 0.3, keep=keep)
        stack = layer >> mf.Repeat(mf.Dense(phi, 1.2, 0.1), 2)
        for net in (layer, stack):
            for epsilon in (1.2, 1e-3):
                direct = np.log(net.decorrelation(1.0, epsilon) / epsilon)
                assert net.growth(1.0, epsilon) == pytest.approx(float(direct), rel=1e-10)


def test_growth_of_a_discontinuous_activation():
    step = mf.from_callable(lambda x: jax.numpy.where(x > 0, 1.0, -1.0), kinks=(0.0,))
    layer = mf.Dense(step, 1.0, 0.0)
    # C = (2/π) arcsin c.
    for c in (-0.5, 0.0, 0.8):
        exact = np.log((1 - 2 / np.pi * np.arcsin(c)) / (1 - c))
        assert layer.growth(1.0, 1 - c) == pytest.approx(exact, abs=1e-11)


# Curves -------------------------------------------------------------------------------------


def test_curvature_of_tanh_circles():
    layer = mf.Dense(TANH, np.array([1.3, 2.5, 4.0]), 0.3)
    path = mf.curvature_propagation(layer, 10)
    assert path.chi2 == pytest.approx([0.543472018641, 1.196041291424, 1.857176041411], rel=1e-11)
    assert path.metric[:, -1] == pytest.approx([0.32629536, 408.76658, 69658.648], rel=1e-7)
    assert path.curvature[:, -1] == pytest.approx([27.863341, 3.8315599, 1.7210828], rel=1e-7)
    assert path.gauss_length[:, -1] == pytest.approx([3.0152411, 39.575417, 346.2489], rel=1e-7)
    assert path.limit == pytest.approx([np.inf, 3.8677098243, 1.7213799492], rel=1e-10)
    assert path.gauss_length[:, 0] == pytest.approx(np.ones(3), rel=1e-14)
    # The limit is a fixed point of the recursion.
    deep = mf.curvature_propagation(mf.Dense(TANH, 4.0, 0.3), 60)
    assert deep.curvature[-1] == pytest.approx(float(deep.limit), rel=1e-12)


def test_kinks_bend_at_a_point_and_lost_networks_not_at_all():
    kinked = mf.curvature_propagation(mf.Dense(mf.activation("hard_tanh"), 2.0, 0.3), 3)
    assert kinked.chi2 == np.inf
    assert np.isinf(kinked.curvature[1:]).all()
    lost = mf.curvature_propagation(mf.Dense(mf.activation("relu"), 2.0, 0.3), 3)
    assert lost.status == mf.Status.DIVERGES
    assert np.isnan(lost.metric).all()
    with pytest.raises(mf.MeanFieldError, match="depth"):
        mf.curvature_propagation(mf.Dense(TANH, 2.0, 0.3), -1)
