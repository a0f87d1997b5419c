"""Mollified activations: values, slopes and Gaussian statistics against direct integration."""

import math

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from mpmath import mpf
from problems import central_difference

import meanfield as mf
from meanfield.activations import PiecewiseLinear
from meanfield.activations.custom import Custom
from meanfield.activations.mollifiers import KERNELS, _bump_distribution, _bump_ramp

RELU, HARD_TANH = mf.activation("relu"), mf.activation("hard_tanh")
STEP = Custom(lambda x: jnp.where(x > 0.25, 1.0, -0.5), (0.25,))
BENT = mf.scale(mf.activation("elu"), 2.0, -3.0) + 0.5 * mf.shift(HARD_TANH, 1.0)
KERNEL_NAMES = tuple(KERNELS)

value_of = jax.jit(lambda phi, x: phi(x))
slope_of = jax.jit(lambda phi, x: phi.slope(x))
derivative_of = jax.jit(lambda phi, x: jax.jvp(phi, (x,), (jnp.ones_like(x),))[1])
curvature_of = jax.jit(lambda phi, x: jax.jvp(phi.slope, (x,), (jnp.ones_like(x),))[1])

# The oracle: the definition, integrated between all kinks ------------------------------------

with mp.workdps(40):
    BUMP_SCALE = 1 / mp.quad(lambda t: mp.exp(-1 / (1 - t * t)), mp.linspace(-1, 1, 17))

DENSITIES = {
    "bump": lambda t: BUMP_SCALE * mp.exp(-1 / (1 - t * t)) if abs(t) < 1 else mpf(0),
    "epanechnikov": lambda t: 3 * (1 - t * t) / 4,
    "gaussian": mp.npdf,
}
REACH = {"bump": 1, "epanechnikov": 1, "gaussian": 12}


def clip(x):
    return min(max(x, mpf(-1)), mpf(1))


def elu(x):
    return x if x > 0 else mp.expm1(x)


def sexp(x):
    return x if abs(x) <= 1 else mp.sign(x) * mp.exp(1 - abs(x))


# An activation, itself and its slope in mpmath, its kinks and jumps.
PROBLEMS = {
    "relu": (RELU, lambda x: max(x, mpf(0)), lambda x: mpf(x > 0), [0], []),
    "hard_tanh": (HARD_TANH, clip, lambda x: mpf(abs(x) < 1), [-1, 1], []),
    "ssaw": (
        mf.activation("ssaw"),
        lambda x: x if abs(x) <= 1 else mp.sign(x) * max(2 - abs(x), 0),
        lambda x: mpf(1) if abs(x) < 1 else -mpf(abs(x) < 2),
        [-2, -1, 1, 2],
        [],
    ),
    "tanh": (mf.activation("tanh"), mp.tanh, lambda x: mp.sech(x) ** 2, [], []),
    "sexp": (
        mf.activation("sexp"),
        sexp,
        lambda x: mpf(1) if abs(x) <= 1 else -mp.exp(1 - abs(x)),
        [-1, 1],
        [],
    ),
    "step": (STEP, lambda x: mpf(1) if x > 0.25 else mpf(-0.5), lambda x: 0, [0.25], [1.5]),
    "combined": (
        BENT,
        lambda x: 2 * elu(-3 * x) + clip(x - 1) / 2,
        lambda x: -6 * (1 if x < 0 else mp.exp(-3 * x)) + mpf(abs(x - 1) < 1) / 2,
        [0, 2],
        [],
    ),
}
POINTS = (0.0, 0.3, 1.1)


def convolve(f, kinks, kernel, x, radius):
    """∫ f(x - r t) K(t) dt."""
    density, reach = DENSITIES[kernel], mpf(REACH[kernel])
    x, radius = mpf(x), mpf(radius)
    inner = [t for d in kinks for t in [(x - d) / radius] if abs(t) < reach]
    cuts = sorted({-reach, -reach / 2, mpf(0), reach / 2, reach, *inner})
    return mp.quad(lambda t: f(x - radius * t) * density(t), cuts)


@pytest.mark.parametrize("kernel", KERNEL_NAMES)
@pytest.mark.parametrize("name", PROBLEMS)
def test_values_and_slopes_are_the_integral(name, kernel):
    phi, function, derivative, kinks, jumps = PROBLEMS[name]
    for radius in (0.125, 2.0):
        smooth = mf.mollify(phi, kernel, radius)
        values = value_of(smooth, jnp.asarray(POINTS))
        slopes = slope_of(smooth, jnp.asarray(POINTS))
        for x, value, slope in zip(POINTS, values, slopes, strict=True):
            wanted = convolve(function, kinks, kernel, x, radius)
            assert float(value) == pytest.approx(float(wanted), rel=2e-14, abs=2e-14)
            wanted = convolve(derivative, kinks, kernel, x, radius)
            for d, jump in zip(kinks, jumps, strict=False):
                t = (mpf(x) - d) / radius
                wanted += jump * DENSITIES[kernel](t) / radius if abs(t) < REACH[kernel] else 0
            assert float(slope) == pytest.approx(float(wanted), rel=2e-14, abs=4e-14)


@pytest.mark.parametrize("kernel", KERNEL_NAMES)
def test_the_antiderivatives_hold_to_rounding(kernel):
    density, reach = DENSITIES[kernel], REACH[kernel]
    distribution_of, ramp_of = jax.jit(KERNELS[kernel].distribution), jax.jit(KERNELS[kernel].ramp)
    for t in (-0.99, -0.9, -0.6, -0.3, -0.01, 0.0):
        cuts = [-reach + (t + reach) * mpf(k) / 12 for k in range(13)]
        below = mp.quad(density, cuts)
        ramp = mp.quad(lambda s: (t - s) * density(s), cuts)  # noqa: B023
        at = jnp.asarray(t)
        assert float(distribution_of(at)) == pytest.approx(float(below), rel=5e-15)
        assert float(ramp_of(at)) == pytest.approx(float(ramp), rel=1e-13)


def test_the_tables_of_the_bump_are_zero_where_the_bump_is():
    for f in (_bump_distribution, _bump_ramp):
        assert float(f(jnp.asarray(-1.0))) == float(f(jnp.asarray(-7.0))) == 0
        assert float(jax.grad(f)(-1.0)) == 0


def test_the_epanechnikov_relu_is_srelu():
    for delta in (0.3, 1.0, 5.0):
        srelu, smooth = mf.activation("srelu", delta=delta), mf.mollify(RELU, "epanechnikov", delta)
        x = jnp.linspace(-2 * delta, 2 * delta, 401)
        np.testing.assert_allclose(value_of(smooth, x), srelu(x), rtol=1e-13, atol=1e-16)
        np.testing.assert_allclose(slope_of(smooth, x), srelu.slope(x), rtol=1e-13)
        assert smooth.kinks() == srelu.kinks()


def test_bounded_activations_stay_bounded_far_away():
    for kernel in KERNEL_NAMES:
        far = mf.mollify(HARD_TANH, kernel, 0.5)(jnp.asarray([-1e9, 1e9]))
        assert far.tolist() == [-1.0, 1.0]
    assert mf.mollify(mf.activation("ssaw"), "bump")(jnp.asarray(1e9)) == 0


def test_a_line_is_its_own_average():
    for kernel in KERNEL_NAMES:
        line = mf.mollify(mf.activation("linear"), kernel, 2.0)
        assert float(line(jnp.asarray(0.7))) == 0.7
        assert float(line.slope(jnp.asarray(0.7))) == 1
        assert line.sup_error().error == 0


def test_what_the_rule_does_not_resolve_is_nan():
    wave = Custom(jnp.sin)
    assert np.isnan(mf.mollify(wave, "epanechnikov", 1000.0)(jnp.asarray(0.3)))
    decay = 3 * (math.sin(3) - 3 * math.cos(3)) / 27
    value = float(mf.mollify(wave, "epanechnikov", 3.0)(jnp.asarray(0.3)))
    assert value == pytest.approx(math.sin(0.3) * decay, rel=1e-14)


# Derivatives -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNEL_NAMES)
def test_the_second_derivative_has_the_jumps_of_the_slope_in_it(kernel):
    density, r = KERNELS[kernel].density, 0.7
    x = jnp.asarray([-1.2, -0.6, 0.0, 0.2, 0.7, 1.3])
    curvature = curvature_of(mf.mollify(RELU, kernel, r), x)
    np.testing.assert_allclose(curvature, density(x / r) / r, rtol=1e-14, atol=1e-300)
    # (φ'' * K) + 0: the slope of the ELU does not jump; its second derivative does.
    smooth = mf.mollify(mf.activation("elu"), kernel, r)
    for at in (-0.4, 0.2):
        wanted = convolve(lambda y: mp.exp(y) if y < 0 else mpf(0), [0], kernel, at, r)
        assert float(curvature_of(smooth, at)) == pytest.approx(float(wanted), rel=1e-13)
    smooth = mf.mollify(mf.activation("sexp"), kernel, r)
    for at in (0.8, 1.2):
        wanted = convolve(lambda y: mp.exp(1 - y) if y > 1 else mpf(0), [1], kernel, at, r)
        jumps = density(jnp.asarray([at + 1, at - 1]) / r) * 2 / r
        wanted += float(jumps[0]) - float(jumps[1])
        wanted += convolve(lambda y: -mp.exp(1 + y) if y < -1 else mpf(0), [-1], kernel, at, r)
        assert float(curvature_of(smooth, at)) == pytest.approx(float(wanted), rel=1e-13)


def test_the_derivative_of_the_value_is_the_slope_even_at_kinks():
    x = jnp.asarray([-1.5, -1.0, 0.0, 0.25, 0.5, 1.0])
    for kernel in KERNEL_NAMES:
        for phi in (mf.activation("leaky_relu"), STEP):
            smooth = mf.mollify(phi, kernel, 0.5)
            found, wanted = derivative_of(smooth, x), slope_of(smooth, x)
            np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-13)


def test_statistics_are_differentiable_in_the_radius_and_in_parameters_of_phi():
    def moment(radius, a):
        phi = mf.activation("hard_tanh", a=a)
        return mf.mollify(phi, "epanechnikov", radius).second_moment(0.8)

    by_radius, by_a = jax.jit(jax.grad(moment, (0, 1)))(0.7, 1.2)
    moment = jax.jit(moment)
    wanted = central_difference(lambda r: moment(r, 1.2), 0.7, 1e-3)
    assert by_radius == pytest.approx(wanted, rel=1e-7)
    assert by_a == pytest.approx(central_difference(lambda a: moment(0.7, a), 1.2, 1e-3), rel=1e-7)


def test_the_radius_may_be_mapped_over():
    radii = jnp.asarray([0.5, 1.0, 2.0])
    values = jax.vmap(lambda r: mf.mollify(RELU, "epanechnikov", r)(jnp.zeros(())))(radii)
    np.testing.assert_allclose(values, 3 * radii / 16, rtol=1e-15)


# Gaussian statistics ---------------------------------------------------------------------------


def incomplete(tau, order):
    """E z^k over |z| < τ."""
    if order == 0:
        return mp.erf(tau / mp.sqrt(2))
    tail = 2 * tau ** (order - 1) * mp.npdf(tau)
    return (order - 1) * incomplete(tau, order - 2) - tail


def srelu_moments(delta, q):
    """E S², E S'², E S''² of the Epanechnikov ReLU in closed form, and dE S²/dq."""

    def value(q):
        tau = delta / mp.sqrt(q)
        square = np.polynomial.polynomial.polypow([3, 8, 6, 0, -1], 2)
        inner = sum(int(square[k]) * incomplete(tau, k) / tau**k for k in range(0, 9, 2))
        tail = q * (tau * mp.npdf(tau) + mp.erfc(tau / mp.sqrt(2)) / 2)
        return delta**2 * inner / 256 + tail

    q, delta = mpf(q), mpf(delta)
    tau = delta / mp.sqrt(q)
    square = np.polynomial.polynomial.polypow([2, 3, 0, -1], 2)
    slope = sum(int(square[k]) * incomplete(tau, k) / tau**k for k in range(0, 7, 2)) / 16
    bend = incomplete(tau, 0) - 2 * incomplete(tau, 2) / tau**2 + incomplete(tau, 4) / tau**4
    return (
        value(q),
        slope + mp.erfc(tau / mp.sqrt(2)) / 2,
        (3 / (4 * delta)) ** 2 * bend,
        mp.diff(value, q),
    )


@jax.jit
def statistics(phi, q):
    return phi.second_moment(q), phi.slope_moment(q, 2), phi.variance_slope(q)


@pytest.mark.parametrize(("delta", "q"), [(1.0, 1.0), (1.0, 1e-3), (0.01, 2.0), (3.0, 1e4)])
def test_statistics_of_srelu_are_the_closed_forms(delta, q):
    with mp.workdps(60):
        value, slope, _, variance_slope = srelu_moments(delta, q)
    found = statistics(mf.mollify(RELU, "epanechnikov", delta), q)
    for number, wanted in zip(found, (value, slope, variance_slope), strict=True):
        assert float(number) == pytest.approx(float(wanted), rel=1e-13)


@pytest.mark.parametrize(("radius", "q"), [(1.0, 1.0), (0.02, 3.0), (4.0, 0.1)])
def test_a_gaussian_average_is_an_expectation_of_a_correlated_pair(radius, q):
    """(φ * K)(u) is an average over u + r z: a pair of these has variance q + r²."""
    smooth, wide = mf.mollify(RELU, "gaussian", radius), q + radius**2
    epsilon = radius**2 / wide
    value, slope, variance_slope = statistics(smooth, q)
    pair, slopes = jax.jit(
        lambda e: (RELU.covariance(wide, wide, e), RELU.slope_covariance(wide, wide, e))
    )(epsilon)
    assert float(value) == pytest.approx(float(pair), rel=1e-12)
    assert float(slope) == pytest.approx(float(slopes), rel=1e-12)

    def relu_kernel(q):
        """(w/2π)(√(1 - c²) + c (π - arccos c)) with w c = q, w = q + r²."""
        w = q + mpf(radius) ** 2
        return (mp.sqrt(w**2 - q**2) + q * (mp.pi - mp.acos(q / w))) / (2 * mp.pi)

    wanted = float(mp.diff(relu_kernel, mpf(q)))
    assert float(variance_slope) == pytest.approx(wanted, rel=1e-12)


def line(radius, q, pieces=48, order=24):
    """Gauss-Legendre nodes and weights on ±9.5 √q, cut at 0 and at ±r."""
    edge = 9.5 * math.sqrt(q)
    cuts = np.unique(np.concatenate([np.linspace(-edge, edge, pieces + 1), [-radius, radius, 0]]))
    x, w = np.polynomial.legendre.leggauss(order)
    u = ((cuts[1:] + cuts[:-1])[:, None] / 2 + np.diff(cuts)[:, None] / 2 * x).ravel()
    return u, (np.diff(cuts)[:, None] / 2 * w).ravel()


def averaged_relu(kernel, radius, u):
    """φ * K and its slope at u, by quadrature of many nodes between the kinks."""
    x, w = np.polynomial.legendre.leggauss(220)
    reach = float(REACH[kernel])
    top = np.clip(u / radius, -reach, reach)[:, None]
    t = -reach + (top + reach) * (1 + x) / 2
    weights = (top + reach) / 2 * w
    density = {
        "bump": lambda t: float(BUMP_SCALE) * np.exp(-1 / np.maximum(1 - t * t, 1e-300)),
        "epanechnikov": lambda t: 0.75 * (1 - t * t),
        "gaussian": lambda t: np.exp(-t * t / 2) / math.sqrt(2 * math.pi),
    }[kernel](t)
    slope = (weights * density).sum(axis=1)
    return (weights * density * (u[:, None] - radius * t)).sum(axis=1), slope


@pytest.mark.parametrize("kernel", KERNEL_NAMES)
def test_pair_statistics_are_the_double_integral(kernel):
    radius, q, epsilon = 0.8, 1.3, 0.4
    u, w = line(radius, q)
    value, slope = averaged_relu(kernel, radius, u)
    c = 1 - epsilon
    exponent = (u[:, None] ** 2 + u**2 - 2 * c * np.outer(u, u)) / (2 * q * (1 - c * c))
    joint = np.exp(-exponent) / (2 * math.pi * q * math.sqrt(1 - c * c)) * np.outer(w, w)
    single = w * np.exp(-(u**2) / (2 * q)) / math.sqrt(2 * math.pi * q)
    covariance = value @ joint @ value
    wanted = (
        single @ value**2,
        single @ slope**2,
        covariance,
        (single @ value**2 - covariance) / (q * epsilon),
    )
    smooth = mf.mollify(RELU, kernel, radius)
    found = jax.jit(
        lambda phi, q, epsilon: (
            phi.second_moment(q),
            phi.slope_moment(q, 2),
            phi.covariance(q, q, epsilon),
            phi.decorrelation(q, epsilon),
        )
    )(smooth, q, epsilon)
    for number, oracle in zip(found, wanted, strict=True):
        assert float(number) == pytest.approx(float(oracle), rel=1e-12)


@pytest.mark.parametrize("kernel", KERNEL_NAMES)
def test_the_decorrelation_near_one_is_the_slope_moment_less_its_bend(kernel):
    radius, q, epsilon = 0.5, 1.0, 1e-7
    smooth = mf.mollify(RELU, kernel, radius)
    u, w = line(radius, q)
    single = w * np.exp(-(u**2) / (2 * q)) / math.sqrt(2 * math.pi * q)
    _, slope = averaged_relu(kernel, radius, u)
    bend = np.asarray(KERNELS[kernel].density(jnp.asarray(u / radius))) / radius
    wanted = single @ slope**2 - epsilon / 2 * q * (single @ bend**2)
    found = jax.jit(lambda phi, e: phi.decorrelation(q, e))(smooth, epsilon)
    assert float(found) == pytest.approx(float(wanted), rel=1e-12)


@pytest.mark.parametrize(("radius", "rel"), [(0.5, 1e-14), (0.01, 1e-14), (0.001, 2e-10)])
def test_narrow_gaussian_averages_decorrelate_as_the_closed_form(radius, rel):
    """E ψ(u1) ψ(u2) is the ReLU kernel at variance w = q + r² and covariance q c."""
    decorrelation = jax.jit(lambda phi, epsilon: phi.decorrelation(1.0, epsilon))
    with mp.workdps(40):
        w = 1 + mpf(radius) ** 2

        def kernel(c):
            return (mp.sqrt(w**2 - c**2) + c * (mp.pi - mp.acos(c / w))) / (2 * mp.pi)

        for epsilon in (0.5, 1e-4, 1e-6, 1e-10):
            wanted = (kernel(mpf(1)) - kernel(1 - mpf(epsilon))) / mpf(epsilon)
            found = decorrelation(mf.mollify(RELU, "gaussian", radius), epsilon)
            assert float(found) == pytest.approx(float(wanted), rel=rel)


def test_statistics_of_a_mollified_step_are_finite():
    """The slope of the averaged step is J K: E φ'² is an integral of K²."""
    smooth = mf.mollify(STEP, "epanechnikov", 0.5)

    def square(x):
        t = (x - mpf(0.25)) / mpf(0.5)
        return (1.5 * 0.75 * (1 - t * t) / mpf(0.5)) ** 2 * mp.npdf(x)

    wanted = float(mp.quad(square, [-0.25, 0.25, 0.75]))
    assert float(STEP.slope_moment(1.0, 2)) == math.inf
    assert float(smooth.slope_moment(1.0, 2)) == pytest.approx(wanted, rel=1e-12)


# Edge of chaos ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNEL_NAMES)
def test_a_mollified_relu_has_no_edge_of_chaos(kernel):
    point = mf.edge_of_chaos(mf.mollify(RELU, kernel, 1.0), jnp.asarray([0.0, 0.3]))
    assert point.status.tolist() == [mf.Status.NO_SOLUTION] * 2


def test_a_centred_srelu_has_one():
    point = mf.critical_point(mf.centre(mf.mollify(RELU, "epanechnikov", 1.0)), 1.0)
    assert float(point.sigma_w) ** 2 == pytest.approx(2.4761169658614662865, rel=1e-13)
    assert float(point.sigma_b) ** 2 == pytest.approx(0.051358719576380432925, rel=1e-13)


# Smoothness and distance -----------------------------------------------------------------------


def test_the_epanechnikov_kernel_adds_two_derivatives():
    orders = {RELU: 2, STEP: 1, mf.activation("elu"): 3, mf.activation("tanh"): math.inf, BENT: 2}
    for phi, order in orders.items():
        assert mf.mollify(phi, "epanechnikov", 0.5).smoothness == order
        assert mf.mollify(phi, "bump", 0.5).smoothness == math.inf
    twice = mf.mollify(mf.mollify(RELU, "epanechnikov"), "epanechnikov", 0.5)
    assert twice.smoothness == 4
    assert mf.mollify(STEP, "gaussian").kinks() == mf.mollify(RELU, "bump").kinks() == ()


@pytest.mark.parametrize(
    ("kernel", "constant"),
    [
        ("epanechnikov", 3 / 16),
        ("bump", 0.16722699885498766),
        ("gaussian", 1 / math.sqrt(2 * math.pi)),
    ],
)
def test_the_largest_distance_from_relu_is_at_the_kink(kernel, constant):
    for radius in (0.01, 2.0):
        found = mf.mollify(RELU, kernel, radius).sup_error()
        assert found.error == pytest.approx(constant * radius, rel=1e-13)
        assert found.at == 0
    # The jumps of |x| are twice those of ReLU, those of -ReLU the same.
    assert mf.mollify(mf.activation("abs"), kernel).sup_error().error == pytest.approx(2 * constant)
    assert mf.mollify(-RELU, kernel).sup_error().error == pytest.approx(constant, rel=1e-12)


def test_the_largest_distance_between_kinks_is_found():
    # Overlapping layers, jumps of either sign: against brute force, at kinks and elsewhere.
    for phi in (mf.activation("ssaw"), mf.activation("tanh")):
        smooth = mf.mollify(phi, "epanechnikov", 2.5)
        x = jnp.linspace(-6, 6, 240_001)
        brute = float(jnp.abs(value_of(smooth, x) - phi(x)).max())
        found = smooth.sup_error()
        assert brute <= found.error * (1 + 1e-13)
        assert brute == pytest.approx(found.error, rel=1e-7)
        at = jnp.asarray(found.at)
        assert abs(float(value_of(smooth, at) - phi(at))) == pytest.approx(found.error, rel=1e-12)


def test_the_distance_of_a_step_is_half_its_jump_and_of_a_cube_infinite():
    found = mf.mollify(STEP, "bump", 0.5).sup_error()
    assert found.error == pytest.approx(0.75, rel=1e-13)
    assert found.at == 0.25
    cube = Custom(lambda x: x**3)
    assert mf.mollify(cube, "epanechnikov").sup_error().error == math.inf
    square = Custom(lambda x: x**2)
    assert mf.mollify(square, "epanechnikov").sup_error().error == pytest.approx(0.2, rel=1e-8)


# Arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3.0,), "phi = .* is not legal; it must be an Activation"),
        ((RELU, "box"), "kernel = 'box' is not legal; it must be one of bump, epanechnikov, gaus"),
        ((RELU, "bump", 0.0), "radius = 0.0 is not legal; it must be > 0"),
        ((RELU, "bump", -1.0), "radius = -1.0 is not legal; it must be > 0"),
        ((RELU, "bump", math.inf), "radius = inf is not legal"),
        ((RELU, "bump", "wide"), "radius = 'wide' is not legal; it must be a real number"),
    ],
)
def test_what_is_not_legal_is_named(arguments, message):
    with pytest.raises(mf.MeanFieldError, match=message):
        mf.mollify(*arguments)


def test_it_is_an_activation_and_not_piecewise_linear():
    smooth = mf.mollify(RELU)
    assert isinstance(smooth, mf.Activation)
    assert not isinstance(smooth, PiecewiseLinear)
    assert (smooth.kernel, smooth.radius) == ("bump", 1.0)
    leaves, tree = jax.tree.flatten(mf.mollify(HARD_TANH, "gaussian", 0.5))
    assert leaves == [1.0, 0.5]
    assert jax.tree.unflatten(tree, leaves).kernel == "gaussian"
