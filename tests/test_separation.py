"""E (s φ(u1) - t φ(u2))²/2 of unequal variances: on the host, and by the rules of kernels."""

import jax
import numpy as np
import pytest
from problems import column, records

import meanfield as mf
from meanfield._elementwise import elementwise
from meanfield.activations.sampling import sampled
from meanfield.separation import of_segments, segments

PHI = {
    "relu": mf.activation("relu"),
    "hard_tanh": mf.activation("hard_tanh"),
    "shtanh": mf.activation("shtanh", a=0.7),
    "ssaw": mf.activation("ssaw"),
}


@jax.jit
def by_segments(phi, *numbers):
    return jax.lax.map(lambda row: of_segments(phi, *row), numbers)


# Piecewise linear φ ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", PHI)
def test_the_separation_is_relatively_accurate(name):
    """The truth is 60-digit: exact conditional means and a quadrature over one variable."""
    table = records("separations")[name]
    numbers = [column(table, key) for key in ("q1", "q2", "eps", "s", "t")]
    exact = column(table, "separation")
    assert exact.size == 9
    # Of homogeneous φ, only the rounding of s√q1 - t√q2 is left at ε = 0.
    host = PHI[name].separation(*numbers)
    np.testing.assert_allclose(host, exact, rtol=1e-11, atol=1e-31)
    kernel = by_segments(segments(sampled(PHI[name])), *numbers)
    np.testing.assert_allclose(kernel, exact, rtol=1e-11, atol=1e-31)


@pytest.mark.parametrize("name", [*PHI, "relu6", "linear", "leaky_relu", "abs"])
def test_segments_agree_with_samples(name):
    phi = PHI.get(name) or mf.activation(name)
    rng = np.random.default_rng(3)
    q1 = 10 ** rng.uniform(-6, 6, 60)
    q2 = q1 * (1 + 10 ** rng.uniform(-9, 3, 60))
    epsilon = 2 * 10 ** rng.uniform(-12, 0, 60)
    s, t = (np.asarray(phi.second_moment(q)) ** -0.5 for q in (q1, q2))
    numbers = q1, q2, epsilon, s, rng.choice([1.0, 0.8], 60) * t
    direct = np.asarray(phi.separation(*numbers))
    by_line = np.asarray(by_segments(segments(sampled(phi)), *numbers))
    assert np.isfinite(direct).all()
    assert np.isfinite(by_line).mean() > 0.8
    known = np.isfinite(by_line)
    np.testing.assert_allclose(by_line[known], direct[known], rtol=1e-9, atol=1e-25)


def test_what_rounding_hides_is_not_a_number():
    q1, q2 = np.array([1e18, 1e30]), np.array([1.1e18, 1e29])
    one = np.ones(2)
    for name in ("hard_tanh", "ssaw"):
        assert np.isnan(by_segments(segments(sampled(PHI[name])), q1, q2, one / 2, one, one)).all()


def test_only_what_is_straight_is_segments():
    knots = np.sort(np.random.default_rng(5).uniform(-3, 3, 9))
    heights = np.random.default_rng(6).normal(size=9)
    broken = mf.from_callable(lambda x: np.interp(x, knots, heights), label="broken")
    found = segments(sampled(broken))
    np.testing.assert_allclose(found.kinks, knots, rtol=1e-10)
    x = np.linspace(-5, 5, 41)
    np.testing.assert_allclose(found.value(x), np.interp(x, knots, heights), atol=1e-12)
    for name in ("tanh", "elu", "hard_swish", "ssin", "srelu"):
        assert segments(sampled(mf.activation(name))) is None, name
    assert segments(sampled(mf.from_callable(np.sign))) is None
    assert segments(sampled(mf.from_callable(np.floor))) is None
    far = mf.from_callable(lambda x: np.maximum(x, 3e5), label="far")
    assert segments(sampled(far)) is None


def test_rollouts_of_segments_are_those_of_samples():
    rng = np.random.default_rng(7)
    q1, q2 = rng.uniform(0.3, 3, (2, 6))
    numbers = q1, q2, rng.uniform(-0.9, 1, 6) * np.sqrt(q1 * q2), 6
    for phi in (PHI["hard_tanh"], mf.from_callable(lambda x: np.clip(x, -0.4, 1.1), label="clip")):
        layer = mf.Dense(phi, 1.5, 0.3)
        table, direct = (mf.rollout(layer, *numbers, method=m) for m in ("table", "quadrature"))
        np.testing.assert_allclose(table.epsilon, direct.epsilon, rtol=1e-9)


# Smooth φ ------------------------------------------------------------------------------------


@elementwise()
def separation(phi, q1, q2, epsilon):
    s, t = (phi.second_moment(q) ** -0.5 for q in (q1, q2))
    return phi.separation(q1, q2, epsilon, s, t)


@elementwise()
def decorrelation(phi, q, epsilon):
    return phi.decorrelation(q, epsilon)


@pytest.mark.parametrize("tabulated", [False, True])
def test_a_narrow_activation_is_a_wide_one_in_other_units(tabulated):
    """φ(x) = softplus(10⁴ x)/10⁴, as a callable that does not say so."""
    wide = mf.activation("softplus")
    narrow = mf.from_callable(lambda x: jax.nn.softplus(1e4 * x) / 1e4)
    if tabulated:
        narrow = mf.tabulate(narrow, ("moments", "obtuse"))
    epsilon = np.array([1e-12, 1e-7, 5e-4, 0.3, 1.5])
    for ratio in (1 + 1e-6, 1.3, 40.0):
        ours = separation(narrow, 1e-8, 1e-8 * ratio, epsilon)
        np.testing.assert_allclose(ours, separation(wide, 1.0, ratio, epsilon), rtol=1e-9)
    if tabulated:
        return
    ours = decorrelation(narrow, 1e-8, epsilon)
    np.testing.assert_allclose(ours, decorrelation(wide, 1.0, epsilon), rtol=1e-9)


@pytest.mark.parametrize("tabulated", [False, True])
def test_variances_that_are_far_apart(tabulated):
    """E erf(u1) erf(u2) = (2/π) arcsin(2 q12/√((1 + 2 q1)(1 + 2 q2)))."""
    phi = mf.activation("erf")
    phi = mf.tabulate(phi, ("moments", "acute")) if tabulated else phi
    q1, q2, c = np.array([1e-9, 1.0, 3.0, 1e-6]), np.array([1.0, 1e-9, 0.01, 1e-3]), 0.5
    own1, own2 = (np.arcsin(2 * q / (1 + 2 * q)) for q in (q1, q2))
    both = np.arcsin(2 * c * np.sqrt(q1 * q2) / np.sqrt((1 + 2 * q1) * (1 + 2 * q2)))
    exact = 1 - both / np.sqrt(own1 * own2)
    np.testing.assert_allclose(separation(phi, q1, q2, 1 - c), exact, rtol=1e-10)
