"""Any activation from a plain callable: moments, pairs and fixed points against closed forms.

The references are closed forms of Gaussian integrals, or mpmath's sums over pieces on which φ is
elementary; none knows of panels.
"""

import itertools
import threading
import time

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.special
from scipy import integrate, stats

import meanfield as mf
from meanfield import plane
from meanfield.activations.base import pointwise
from meanfield.errors import Status
from meanfield.sampled import Sampled

RNG = np.random.default_rng(11)
KNOTS, HEIGHTS = np.sort(RNG.uniform(-3, 3, 50)), RNG.normal(size=50)


def normal(x, q):
    return mpmath.exp(-(x**2) / (2 * q)) / mpmath.sqrt(2 * mpmath.pi * q)


def integral(f, cuts, q):
    """Return E f(√q z) by mpmath, between cuts and out to 12 standard deviations."""
    reach = 12 * mpmath.sqrt(q)
    inner = sorted(c for c in map(mpmath.mpf, cuts) if abs(c) < reach)
    ends = [-reach, *inner, reach]
    pieces = [mpmath.linspace(a, b, 6) for a, b in itertools.pairwise(ends)]
    return float(sum(mpmath.quad(lambda x: f(x) * normal(x, q), piece) for piece in pieces))


def steps(edges, levels, q):
    """Return E φ² of a staircase by error functions."""
    cdf = scipy.special.ndtr(np.asarray(edges) / np.sqrt(q))
    return float(np.sum(np.square(levels) * np.diff(np.concatenate([[0.0], cdf, [1.0]]))))


def sine(w, q):
    """Return E φ², E φ'² and E φ'⁴ of sin(wx)."""
    one, two = np.exp(-2 * w * w * q), np.exp(-8 * w * w * q)
    return (1 - one) / 2, w**2 * (1 + one) / 2, w**4 * (3 + 4 * one + two) / 8


@pytest.mark.parametrize("w", [1.0, 30.0, 1000.0])
@pytest.mark.parametrize("q", [1e-6, 1e-3, 0.1, 1.0])
def test_oscillations(w, q):
    phi = mf.from_callable(lambda x: jnp.sin(w * x))
    found = phi.second_moment(q), phi.slope_moment(q, 2), phi.slope_moment(q, 4)
    np.testing.assert_allclose(found, sine(w, q), rtol=1e-11)
    # E sin sin = exp(-w²q) sinh(w²qc): what two correlated inputs have in common.
    for c in (0.5, 0.999):
        exact = (np.exp(-w * w * q * (1 - c)) - np.exp(-w * w * q * (1 + c))) / 2
        assert phi.covariance(q, q, 1 - c) == pytest.approx(exact, rel=1e-10, abs=1e-12)


def test_snake_gabor_and_sinc():
    q = 7.3
    snake = mf.from_callable(lambda x: x + jnp.sin(x) ** 2)
    # sin² x = (1 - cos 2x)/2
    exact = q + (1 - 2 * np.exp(-2 * q) + (1 + np.exp(-8 * q)) / 2) / 4
    assert snake.second_moment(q) == pytest.approx(exact, rel=1e-13)
    gabor = mf.from_callable(lambda x: jnp.exp(-x * x / 2) * jnp.cos(7 * x))
    part = 1 / np.sqrt(1 + 2 * q)
    exact = part * (1 + np.exp(-98 * q * part**2)) / 2
    assert gabor.second_moment(q) == pytest.approx(exact, rel=1e-12)
    sinc = mf.from_callable(jnp.sinc)
    exact = integral(lambda x: mpmath.sincpi(x) ** 2, range(-30, 31), q)
    assert sinc.second_moment(q) == pytest.approx(exact, rel=1e-12)
    wave = mf.from_callable(lambda x: x * jnp.cos(x))
    exact = q / 2 * (1 + (1 - 4 * q) * np.exp(-2 * q))
    assert wave.second_moment(q) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("steep", [10.0, 1e3, 1e6])
def test_steep_steps(steep):
    phi = mf.from_callable(lambda x: jnp.tanh(steep * (x - 0.3)))
    # With t = k(x - 0.3), E φ'² = k ∫ sech⁴ t n(0.3 + t/k) dt.
    f = lambda t: mpmath.sech(t) ** 4 * normal(0.3 + t / steep, 1)  # noqa: E731
    exact = steep * float(mpmath.quad(f, mpmath.linspace(-40, 40, 41)))
    assert phi.slope_moment(1.0, 2) == pytest.approx(exact, rel=1e-11)
    loss = lambda t: mpmath.sech(t) ** 2 * normal(0.3 + t / steep, 1)  # noqa: E731
    exact = 1 - float(mpmath.quad(loss, mpmath.linspace(-40, 40, 41))) / steep
    assert phi.second_moment(1.0) == pytest.approx(exact, rel=1e-12)


def test_a_smooth_step_away_from_zero():
    phi = mf.from_callable(lambda x: jax.nn.sigmoid(25 * (x - 1)))
    assert phi.second_moment(1.0) == pytest.approx(0.1496110241, rel=1e-9)
    assert phi.slope_moment(1.0, 2) == pytest.approx(1.0082100712, rel=1e-9)
    edge = mf.edge_of_chaos(phi, 0.3)
    assert edge.q == pytest.approx(0.106984617, rel=1e-8)
    assert edge.sigma_w == pytest.approx(4.4120476, rel=1e-7)
    far = mf.from_callable(lambda x: jnp.tanh(300 * (x - 1)))
    assert far.second_moment(1e4) == pytest.approx(0.99997341, abs=1e-8)
    assert far.variance_slope(1e4) == pytest.approx(1.33e-9, rel=1e-2)


@pytest.mark.parametrize("width", [1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("centre", RNG.uniform(0, 4, 5))
def test_narrow_bumps(centre, width):
    phi = mf.from_callable(lambda x: 1 + jnp.exp(-(((x - centre) / width) ** 2)))

    def mean(power):
        # E exp(-p (x - c)²/w²) is a Gaussian integral.
        spread = width**2 / (2 * power)
        height = np.sqrt(spread / (spread + 1))
        return height * np.exp(-(centre**2) / (2 * (spread + 1)))

    exact = 1 + 2 * mean(1) + mean(2)
    assert phi.second_moment(1.0) == pytest.approx(exact, rel=1e-12)


def test_a_bump_decides_which_edge_is_the_first():
    phi = mf.from_callable(lambda x: jnp.tanh(x) + 0.2 * jnp.exp(-(((x - 5) / 0.01) ** 2)))
    edge = mf.edge_of_chaos(phi, 3.0702906)
    assert edge.sigma_w == pytest.approx(1.6807, rel=1e-4)
    assert edge.q == pytest.approx(11.61, rel=1e-3)


def test_fifty_knots():
    phi = mf.from_callable(lambda x: jnp.interp(x, KNOTS, HEIGHTS))
    slopes = np.diff(HEIGHTS) / np.diff(KNOTS)
    for q in (0.1, 1.0, 30.0):
        exact = integral(lambda x: float(np.interp(float(x), KNOTS, HEIGHTS)) ** 2, KNOTS, q)
        assert phi.second_moment(q) == pytest.approx(exact, rel=1e-10)
        masses = np.diff(scipy.special.ndtr(KNOTS / np.sqrt(q)))
        assert phi.slope_moment(q, 2) == pytest.approx(slopes**2 @ masses, rel=1e-11)
        assert phi.slope_moment(q, 4) == pytest.approx(slopes**4 @ masses, rel=1e-11)


def test_staircases():
    quantiser = mf.from_callable(lambda x: jnp.round(8 * jnp.clip(x, -1, 1)) / 8)
    edges, levels = (np.arange(16) - 7.5) / 8, (np.arange(17) - 8) / 8
    for q in (1e-2, 1.0, 100.0):
        assert quantiser.second_moment(q) == pytest.approx(steps(edges, levels, q), rel=1e-13)
        assert quantiser.slope_moment(q, 2) == np.inf
    assert quantiser.variance_slope(1.0) == pytest.approx(0.1984, abs=5e-5)
    floor = mf.from_callable(jnp.floor)
    edges = np.arange(-40, 41)
    assert floor.second_moment(1.0) == pytest.approx(
        steps(edges, np.arange(-41, 41), 1.0), rel=1e-13
    )
    layer = mf.Dense(quantiser, 1.5, 0.2)
    assert mf.steady_state(layer).chi == np.inf
    limit = mf.check(mf.correlation_fixed_point(layer))
    after = mf.correlation_map(layer, mf.steady_state(layer).q, limit.c)
    assert after == pytest.approx(float(limit.c), rel=1e-12)


@pytest.mark.parametrize("epsilon", [1.9, 1.0, 1e-3, 1e-8, 1e-12, 1e-30])
def test_pairs_of_a_step(epsilon):
    """E (φ(u1) - φ(u2))² of a step at t is P(u1 < t < u2) twice; at t = 0 it is θ/π."""
    step = mf.from_callable(lambda x: jnp.where(x > 0, 1.0, 0.0))
    theta = 2 * np.arcsin(np.sqrt(epsilon / 2))
    found = 2 * epsilon * step.decorrelation(1.0, epsilon)
    assert found == pytest.approx(theta / np.pi, rel=1e-11)
    slope = step.slope_covariance(1.0, 1.0, epsilon)
    assert slope == pytest.approx(1 / (2 * np.pi * np.sin(theta)), rel=1e-10)


def gamma_moment(power, q):
    """Return E |u|^power."""
    return (2 * q) ** (power / 2) * scipy.special.gamma((power + 1) / 2) / np.sqrt(np.pi)


@pytest.mark.parametrize("power", [0.5, 0.9, 1.5, 2.5])
@pytest.mark.parametrize("q", [1e-4, 1.0, 50.0])
def test_powers(power, q):
    phi = mf.from_callable(lambda x: jnp.sign(x) * jnp.abs(x) ** power)
    assert phi.second_moment(q) == pytest.approx(gamma_moment(2 * power, q), rel=1e-12)
    exact = power * gamma_moment(2 * power, q) / q
    assert phi.variance_slope(q) == pytest.approx(exact, rel=1e-11)
    if power == 0.5:
        assert phi.slope_moment(q, 2) == np.inf
    else:
        exact = power**2 * gamma_moment(2 * power - 2, q)
        assert phi.slope_moment(q, 2) == pytest.approx(exact, rel=1e-11)


def test_cube_roots_and_logarithms():
    root = mf.from_callable(jnp.cbrt)
    assert root.second_moment(2.0) == pytest.approx(gamma_moment(2 / 3, 2.0), rel=1e-12)
    assert root.slope_moment(2.0, 2) == np.inf
    log = mf.from_callable(
        lambda x: jnp.where(x == 0, 0.0, x * jnp.log(jnp.abs(jnp.where(x == 0, 1.0, x))))
    )
    # E x² log² |x| is the second derivative of E |x|^p by p, at p = 2.
    exact = float(
        mpmath.diff(
            lambda p: mpmath.mpf(2) ** (p / 2) * mpmath.gamma((p + 1) / 2) / mpmath.sqrt(mpmath.pi),
            2,
            2,
        )
    )
    assert log.second_moment(1.0) == pytest.approx(exact, rel=1e-12)


def test_growth_until_the_moment_diverges():
    phi = mf.from_callable(lambda x: jnp.exp(x * x / 4))
    assert phi.second_moment(0.5) == pytest.approx(1 / np.sqrt(0.5), rel=1e-12)
    assert phi.second_moment(0.9) == pytest.approx(1 / np.sqrt(0.1), rel=1e-11)
    assert phi.second_moment(1.5) == np.inf
    exp = mf.from_callable(jnp.exp)
    assert exp.second_moment(50.0) == pytest.approx(np.exp(100), rel=1e-11)


def test_compositions():
    phi = mf.from_callable(lambda x: jnp.tanh(x) + 0.3 * jnp.sin(3 * x))
    value = lambda x: mpmath.tanh(x) + 0.3 * mpmath.sin(3 * x)  # noqa: E731
    slope = lambda x: mpmath.sech(x) ** 2 + 0.9 * mpmath.cos(3 * x)  # noqa: E731
    cuts = range(-30, 31)
    exact = [
        integral(lambda x, f=f, p=p: f(x) ** p, cuts, 7.3)
        for f, p in ((value, 2), (slope, 2), (slope, 4))
    ]
    found = phi.second_moment(7.3), phi.slope_moment(7.3, 2), phi.slope_moment(7.3, 4)
    np.testing.assert_allclose(found, exact, rtol=1e-13)
    scaled = mf.scale(mf.activation("sin"), input=3000.0)
    assert scaled.second_moment(1 / 9) == pytest.approx(0.5, rel=1e-12)
    shifted = mf.shift(mf.activation("tanh"), output=1e4)
    exact = float(mf.activation("tanh").variance_slope(1.0))
    assert shifted.variance_slope(1.0) == pytest.approx(exact, rel=1e-9)


def test_the_edge_of_tanh_begins_like_a_cube():
    """σb² = 4q³/3 for q → 0, to all digits."""
    q = np.array([1e-6, 1e-10, 1e-14])
    point = mf.critical_point(mf.activation("tanh"), q)
    np.testing.assert_allclose(point.sigma_b**2, 4 * q**3 / 3 * (1 - 6 * q), rtol=1e-9)


def test_numpy_and_torch_functions():
    torch = pytest.importorskip("torch")
    exact = mf.activation("tanh")
    functions = (np.tanh, torch.tanh, torch.nn.Tanh(), lambda x: np.tanh(x))
    for function in functions:
        phi = mf.from_callable(function, label="mine")
        assert phi.second_moment(2.0) == pytest.approx(float(exact.second_moment(2.0)), rel=1e-13)
        assert phi.slope_moment(2.0, 4) == pytest.approx(
            float(exact.slope_moment(2.0, 4)), rel=1e-11
        )
        edge = mf.edge_of_chaos(phi, 0.3)
        assert edge.sigma_w == pytest.approx(1.395584, rel=1e-6)
        # What is asked of them may be traced, they themselves may not.
        slope = jax.jit(jax.grad(lambda b, phi=phi: mf.edge_of_chaos(phi, b).sigma_w))(0.3)
        assert slope == pytest.approx(0.85233091079535, rel=1e-10)
        with pytest.raises(mf.MeanFieldError, match=r"mine is a function of .*jax\.numpy"):
            jax.jit(phi)(jnp.ones(3))


def test_slopes_that_vanish_at_zero_have_no_edge_without_biases():
    for function in (lambda x: x * jnp.tanh(x), jnp.square, lambda x: jnp.maximum(x, 0) ** 2):
        phi = mf.from_callable(function)
        assert mf.edge_of_chaos(phi, 0.0).status == Status.NO_SOLUTION
        assert not bool(np.isfinite(mf.edge_of_chaos(phi, 0.0).sigma_w))


def test_growth_is_told_from_what_is_not_resolved():
    snake = mf.from_callable(lambda x: x + jnp.sin(x) ** 2)
    state = mf.steady_state(mf.Dense(snake, 2.0, 0.1))
    assert state.status == Status.DIVERGES


@pytest.mark.parametrize("name", ["tanh", "sin", "elu", "hard_tanh"])
def test_what_was_asked_before_does_not_change_a_bit(name):
    """Samples that reach further give the same bytes: a resumed sweep relies on it."""
    phi = mf.activation(name)
    values, curvature, exact = pointwise(phi)
    q = np.array([1e-6, 0.3, 1.0, 7.3, 100.0, 3e3])
    epsilon = np.array([1e-9, 0.3, 1.5, 0.2, 0.7, 0.01])

    def answers(samples):
        one = (samples.second_moment(q), samples.slope_moment(q, 2), samples.variance_slope(q))
        return np.array([*one, samples.edge_deficit(q), *plane.equal(samples, q, epsilon)])

    fresh, used = (Sampled(values, curvature, phi.known(), exact) for _ in range(2))
    used.second_moment(np.array([1e9]))
    assert used.panels.edges[-1] > fresh.panels.edges[-1]
    np.testing.assert_array_equal(answers(fresh), answers(used))


@pytest.mark.parametrize("k", [0.3, 1.0, 1.3])
def test_faint_tails_are_relatively_accurate(k):
    """Of φ that is 0 out to k, down to expectations of 1e-300, from 60 digits."""
    hinge = mf.from_callable(lambda x: jnp.maximum(x - k, 0.0))
    step = mf.from_callable(lambda x: jnp.where(jnp.abs(x) < k, 0.0, 1.0))
    q = np.geomspace(1e-3, 5, 40) * k * k
    with mpmath.workdps(60):
        roots = [mpmath.sqrt(mpmath.mpf(float(t))) for t in q]
        beyond = [mpmath.erfc(k / r / mpmath.sqrt(2)) / 2 for r in roots]
        squares = [
            (mpmath.mpf(k) ** 2 + r**2) * p - k * r * mpmath.npdf(k / r)
            for r, p in zip(roots, beyond, strict=True)
        ]
        beyond, squares = (np.array([float(x) for x in part]) for part in (beyond, squares))
    np.testing.assert_allclose(hinge.second_moment(q), squares, rtol=1e-11)
    np.testing.assert_allclose(hinge.slope_moment(q, 2), beyond, rtol=1e-11)
    np.testing.assert_allclose(hinge.variance_slope(q), beyond, rtol=1e-11)
    np.testing.assert_allclose(step.second_moment(q), 2 * beyond, rtol=1e-11)


@pytest.mark.parametrize("place", [0.9, 1 / 3, -2.3])
@pytest.mark.parametrize("power", [2, 3])
def test_what_is_zero_up_to_a_smooth_start(place, power):
    """E (u - k)₊^(2p) is not 0, though φ and φ' are where it begins."""
    ours = mf.from_callable(lambda x: jnp.maximum(x - place, 0.0) ** power, label="start")
    for q in (0.3, 4.0):
        root = np.sqrt(q)

        def mean(exponent, root=root):
            f = lambda z: max(root * z - place, 0.0) ** exponent * stats.norm.pdf(z)  # noqa: E731
            return integrate.quad(f, place / root, 14, epsabs=0, epsrel=1e-12, limit=200)[0]

        assert ours.second_moment(q) == pytest.approx(mean(2 * power), rel=1e-11)
        expected = power**2 * mean(2 * power - 2)
        assert ours.slope_moment(q, 2) == pytest.approx(expected, rel=1e-11)
        assert np.isfinite(ours.decorrelation(q, 0.3))


def test_nothing_is_zero_because_it_is_so_where_it_is_known():
    """φ is 0 up to 0.7, and beyond it nothing is resolved."""
    wild = mf.from_callable(
        lambda x: jnp.where(x > 0.7, jnp.sin(1e9 * (x - 0.7)) * 1e3, 0.0), label="wild"
    )
    assert np.isnan(wild.second_moment(1.0))
    assert np.isnan(wild.slope_moment(1.0, 2)) or np.isinf(wild.slope_moment(1.0, 2))


def test_threads_do_not_wait_for_each_other_for_ever():
    """One has the samples in hand and asks for their rough points, as another one does already."""
    phi = mf.activation("hard_swish")
    values, curvature, exact = pointwise(phi)
    shared, asked, found = Sampled(values, curvature, phi.known(), exact), threading.Event(), []

    def other():
        asked.set()
        found.append(shared.rough)

    def one():
        with shared._lock:
            threading.Thread(target=other, daemon=True).start()
            asked.wait()
            # It gets as far as it can.
            time.sleep(0.05)
            found.append(shared.rough)

    thread = threading.Thread(target=one, daemon=True)
    thread.start()
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert found[0].at.tolist() == [-3.0, 3.0]
