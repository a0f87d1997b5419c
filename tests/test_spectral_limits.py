"""Limits of spectra: published densities and edges, moments, symmetry, and the way there."""

import math

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import meanfield as mf
from meanfield.series import moments_of_product
from meanfield.spectral_limits import _read

VARIANCES = [1e-6, 0.01, 0.25, 0.9, 1.0, 4.0, 100.0, 1e3]


@pytest.mark.parametrize(
    ("variance", "density"), [(0.25, 0.268374556671), (1.0, 0.203348598370), (4.0, 0.033837699267)]
)
def test_bernoulli_densities(variance, density):
    """Pennington, Schoenholz and Ganguli 2018, at 0.3 of the edge, from their parametric form."""
    limit = mf.bernoulli_limit(variance)
    assert float(limit.density(0.3 * np.e * variance)) == pytest.approx(density, rel=1e-10)


@pytest.mark.parametrize("variance", [0.05, 0.9, 1.0, 3.0])
def test_bernoulli_by_the_lambert_function(variance):
    """Where G(ζ) = σ²/(ζ(σ² + W(-σ²/ζ))), the density is -Im G/π."""
    limit = mf.bernoulli_limit(variance)
    for part in (0.02, 0.5, 0.99):
        x = part * np.e * variance
        w = mp.lambertw(-variance / mp.mpc(x, mp.mpf(10) ** -14))
        green = variance / (x * (variance + w))
        assert float(limit.density(x)) == pytest.approx(abs(float(green.imag)) / np.pi, rel=1e-9)


@pytest.mark.parametrize(
    ("variance", "edges", "density"),
    [
        (0.25, (0.321318920810, 2.423762600435), 0.625226084373),
        (1.0, (0.075739334827, 4.857178136197), 0.296763578181),
        (4.0, (0.001372427377, 13.345433932124), 0.124489640869),
    ],
)
def test_smooth_edges_and_densities(variance, edges, density):
    limit = mf.smooth_limit(variance)
    np.testing.assert_allclose((limit.lambda_min, limit.lambda_max), edges, rtol=1e-9)
    assert float(limit.density(1.0)) == pytest.approx(density, rel=1e-10)


def reference(limit_of, variance, x):
    """Return (ρ(x), P(> x)): (1) or (2) solved in 40 digits."""
    with mp.workdps(40):
        v, log_x = mp.mpf(variance), mp.log(mp.mpf(x))
        if limit_of is mf.bernoulli_limit:
            u = -mp.lambertw(-v / mp.mpf(x)) / v
            angle = -v * u.imag
            m = u / (1 - u)
            above = angle + (1 - v) * mp.arg(1 - u)
        else:
            # For σ -> 0 that is w + 1/(σ²w) = log(x)/σ² + 1/2.
            cosine = (log_x + v / 2) / (2 * mp.sqrt(v))
            start = mp.sqrt(1 / v) * mp.expj(mp.acos(max(min(cosine, mp.mpf(0.95)), mp.mpf(-0.95))))
            w = mp.findroot(
                lambda w: mp.log((w + 0.5) / (w - 0.5)) + v * w - log_x - v / 2, start, tol=1e-60
            )
            m = mp.conj(w) - 0.5
            above = mp.arg(mp.conj(m)) - v * w.imag * (w.real + 0.5)
        return float(-m.imag / (mp.pi * x)), float(above / mp.pi)


@pytest.mark.parametrize("limit_of", [mf.bernoulli_limit, mf.smooth_limit])
@pytest.mark.parametrize("variance", [1e-6, 0.01, 0.5])
def test_against_40_digits(limit_of, variance):
    limit = limit_of(variance)
    low = float(limit.log_lambda_min) if limit_of is mf.smooth_limit else -400.0
    x = np.exp(low + (float(limit.log_edge) - low) * np.array([0.001, 0.3, 0.5, 0.7, 0.999]))
    density, above = np.transpose([reference(limit_of, variance, y) for y in x])
    np.testing.assert_allclose(limit.density(x), density, rtol=1e-10)
    np.testing.assert_allclose(limit.cdf(x), 1 - above, rtol=0, atol=1e-13)


MOMENTS = {
    mf.bernoulli_limit: lambda k, v: sum(
        (k * v) ** j * (k - j) / k / math.factorial(j) for j in range(k)
    ),
    mf.smooth_limit: lambda k, v: sum(
        (k * v) ** j * math.comb(k, j + 1) / k / math.factorial(j) for j in range(k)
    ),
}
"""E λ^k by Lagrange's inversion of (1) and (2); the second is Biane's."""


@pytest.mark.parametrize("limit_of", [mf.bernoulli_limit, mf.smooth_limit])
@pytest.mark.parametrize("variance", VARIANCES)
def test_moments_and_distribution(limit_of, variance):
    """The density has the right moments, and the distribution function integrates it."""
    limit = limit_of(variance)
    high = float(limit.log_edge)
    low = max(float(limit.log_lambda_min), high - 600)
    t = (np.arange(4000) + 0.5) / 4000
    y = low + (high - low) * np.sin(np.pi * t / 2) ** 2
    steps = (high - low) * np.pi / 2 * np.sin(np.pi * t) / 4000
    x = np.exp(y)
    weights = np.asarray(limit.density(x)) * x * steps
    atom, place = float(limit.atom_mass), float(np.exp(np.nan_to_num(limit.log_atom)))
    for k in range(1, 7):
        moment = (weights * x**k).sum() + atom * place**k
        assert moment == pytest.approx(MOMENTS[limit_of](k, variance), rel=1e-8)
    above = weights[::-1].cumsum()[::-1] - weights / 2 + atom
    np.testing.assert_allclose(limit.cdf(x), 1 - above, atol=1e-4)
    s = np.sqrt(x)
    np.testing.assert_allclose(limit.singular_density(s), 2 * s * limit.density(x), rtol=1e-6)


@pytest.mark.parametrize("variance", VARIANCES[:-1])
def test_the_smooth_limit_is_its_mirror_image(variance):
    limit = mf.smooth_limit(variance)
    np.testing.assert_allclose(limit.log_lambda_min + limit.log_lambda_max, -variance, rtol=1e-9)
    x = np.exp(np.linspace(float(limit.log_lambda_min), float(limit.log_lambda_max), 9)[1:-1])
    mirrored = np.exp(-variance) / x
    np.testing.assert_allclose(x * limit.density(x), mirrored * limit.density(mirrored), rtol=1e-9)


def test_the_ends():
    """An atom at the top for σ² < 1 alone; nothing outside the support; arrays of variances."""
    limit = mf.bernoulli_limit(np.array([0.25, 1.0, 4.0]))
    np.testing.assert_allclose(limit.atom_mass, [0.75, 0.0, 0.0])
    np.testing.assert_allclose(limit.lambda_max, [np.exp(0.25), np.e, 4 * np.e])
    np.testing.assert_allclose(limit.s_max**2, limit.lambda_max)
    edge, top = 0.25 * np.e, np.exp(0.25)
    x = np.array([-1.0, 0.0, (edge + top) / 2, top + 1e-9, 20.0])
    assert limit.density(x).shape == (3, 5)
    np.testing.assert_allclose(limit.density(x)[0], 0.0)
    np.testing.assert_allclose(limit.cdf(x)[0], [0.0, 0.0, 0.25, 1.0, 1.0])
    smooth = mf.smooth_limit(1.0)
    np.testing.assert_allclose(smooth.cdf(np.array([0.07, 4.9])), [0.0, 1.0])
    np.testing.assert_allclose(smooth.density(np.array([0.07, 4.9])), 0.0)
    np.testing.assert_allclose(
        jax.jit(lambda v, x: mf.smooth_limit(v).density(x))(1.0, 1.0), smooth.density(1.0)
    )


@pytest.mark.parametrize("limit_of", [mf.bernoulli_limit, mf.smooth_limit])
@pytest.mark.parametrize("variance", [1e-3, 0.7, 5.0])
def test_derivatives(limit_of, variance):
    """In x, twice, and in the variance; the distribution function has the density as its own."""

    @jax.jit
    @jax.vmap
    def read(v, log_x):
        x = jnp.exp(log_x)
        slopes = jax.grad(lambda v, x: limit_of(v).density(x), (0, 1))(v, x)
        second = jax.grad(jax.grad(lambda x: limit_of(v).density(x)))(x)
        cdf = jax.grad(lambda x: limit_of(v).cdf(x))(x)
        return cdf, limit_of(v).density(x), *slopes, second

    limit = limit_of(variance)
    low, high = max(float(limit.log_lambda_min), -3.0 + float(limit.log_edge)), limit.log_edge
    log_x = low + (float(high) - low) * np.array([0.3, 0.6, 0.9])
    step, x = 1e-4 * np.sqrt(variance), np.exp(log_x)
    at = np.full(3, variance)
    cdf, density, by_variance, by_x, second = (np.asarray(y) for y in read(at, log_x))
    np.testing.assert_allclose(cdf, density, rtol=1e-12)
    up, down = read(at, np.log(x + step * x)), read(at, np.log(x - step * x))
    scale = np.abs(by_x).max()
    np.testing.assert_allclose(by_x, (up[1] - down[1]) / (2 * step * x), atol=1e-5 * scale)
    scale = np.abs(second).max()
    np.testing.assert_allclose(second, (up[3] - down[3]) / (2 * step * x), atol=1e-5 * scale)
    move = 1e-4 * variance
    up, down = read(at + move, log_x), read(at - move, log_x)
    scale = np.abs(by_variance).max()
    np.testing.assert_allclose(by_variance, (up[1] - down[1]) / (2 * move), atol=1e-5 * scale)


@pytest.mark.parametrize("limit_of", [mf.bernoulli_limit, mf.smooth_limit])
def test_what_is_traced_and_illegal_is_nan(limit_of):
    read = jax.jit(
        lambda v, x: (limit_of(v).density(x), limit_of(v).cdf(x), limit_of(v).lambda_max)
    )
    assert np.isnan(read(-1.0, 1.0)).all()
    assert np.isnan(read(0.0, 1.0)).all()
    assert np.isnan(read(np.inf, 1.0)).all()
    assert np.isnan(read(1.0, np.nan)[:2]).all()
    np.testing.assert_array_equal(read(1.0, np.inf)[:2], [0.0, 1.0])


def test_singular_values_next_to_zero():
    """s² may underflow: there λρ(λ) ≈ σ²/log²λ, so that the density of s still is as large."""
    s = 1e-200
    expected = 2 / s / np.log(s**0.5) ** 2 / 16
    assert float(mf.bernoulli_limit(1.0).singular_density(s)) == pytest.approx(expected, rel=0.05)


def test_hard_tanh_approaches_its_limit():
    """At σ² = 0.25 the edge is known for L = 16, 128 and 1024; it is eσ² less a term in 1/L."""
    edges = []
    for depth in (16, 128, 1024):
        zero = 0.25 / depth / (1 + 0.25 / depth)
        p = 1 - zero
        q = float(1 / (2 * mp.erfinv(p) ** 2))
        layer = mf.Dense(mf.activation("hard_tanh"), p**-0.5, 0.0, "orthogonal")
        spectrum = mf.check(mf.jacobian_spectrum(layer, q, float(depth)))
        edges.append(float(jnp.exp(spectrum.log_support[0, 1])))
    np.testing.assert_allclose(edges, [0.6582197, 0.6769141, 0.6792386], rtol=1e-6)
    limit = float(jnp.exp(mf.bernoulli_limit(0.25).log_edge))
    apart = limit - np.array(edges)
    np.testing.assert_allclose(apart * [16, 128, 1024], apart[-1] * 1024, rtol=0.02)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hard_tanh", "bernoulli"),
        ("tanh", "smooth"),
        ("erf", "smooth"),
        ("gelu", "smooth"),
        ("elu", "smooth"),
        ("hard_swish", "smooth"),
        ("linear", "none"),
        ("relu", "none"),
        ("selu", "none"),
    ],
)
def test_classes(name, expected):
    found = mf.universality_class(mf.activation(name))
    assert found.name == expected
    assert found.why


@pytest.mark.parametrize("a", [1e-8, 0.3, 10.0, 1e4])
def test_classes_do_not_depend_on_the_scale(a):
    for name, expected in (("hard_tanh", "bernoulli"), ("ssaw", "bernoulli")):
        assert mf.universality_class(mf.activation(name, a=a)).name == expected
    assert mf.universality_class(mf.scale(mf.activation("tanh"), a)).name == "smooth"


def test_the_law_of_slopes_at_the_deciding_variance():
    """Of tanh, φ'² - 1 ≈ -2u²: E Y² = 8q², E Y³ = -64q³, E Y⁴ = 960q⁴; of hard tanh, erfc."""
    found = mf.universality_class(mf.activation("tanh"))
    q = found.q
    measured = (found.variance, found.skewness, found.spread)
    np.testing.assert_allclose(measured, [8 * q**2, -8 * q, 120 * q**2], rtol=1e-4)
    found = mf.universality_class(mf.activation("hard_tanh"))
    outside = float(mp.erfc(mp.sqrt(1 / mp.mpf(found.q) / 2)))
    np.testing.assert_allclose(found.variance, outside, rtol=1e-9)
    np.testing.assert_allclose([found.skewness, found.spread], [-1.0, 1.0], rtol=1e-12)


def test_ways_to_deviate_that_are_in_neither_class():
    def pieces(left, right):
        def phi(x):
            return jnp.where(x > 1, 1 + right * (x - 1), jnp.where(x < -1, left * (x + 1) - 1, x))

        return mf.universality_class(mf.from_callable(phi))

    # φ'² = 1/2, 1 and 3/2: symmetric, so that E Y³ = 0.
    both_ways = pieces(0.5**0.5, 1.5**0.5)
    assert both_ways.name == "none"
    assert both_ways.skewness == pytest.approx(0.0, abs=1e-9)
    assert both_ways.spread == pytest.approx(0.25, rel=1e-9)
    # Deviations that are small, or nearly -1, but stay so.
    assert pieces(0.995, 0.995).name == "none"
    assert pieces(0.05, 0.05).name == "none"
    # The kink at 0 is faint, but the variance of φ'² does not vanish.
    faint = mf.universality_class(mf.activation("leaky_relu", negative_slope=0.999999))
    assert (faint.name, "jumps at 0" in faint.why) == ("none", True)
    assert faint.variance == pytest.approx(1e-12, rel=1e-3)


@pytest.mark.parametrize(
    ("phi", "why"),
    [
        (lambda x: x**2, "φ'(0) = 0"),
        (lambda x: jnp.sign(x) * jnp.maximum(jnp.abs(x) - 1, 0.0), "φ'(0) = 0"),
        (lambda x: x + 1e-12 * jnp.sin(x), "not resolved"),
        (lambda x: x + 3.0, "equal"),
    ],
)
def test_what_has_no_class_is_said(phi, why):
    found = mf.universality_class(mf.from_callable(phi))
    assert (found.name, why in found.why) == ("none", True)


def test_moments_of_deep_networks_approach_the_limits():
    """What is missing is of first order in the probability of 0, and in q for tanh."""
    tanh, orders = mf.activation("tanh"), np.arange(1, 9)

    def errors(powers, limit_of):
        depth = 0.7 / (powers[1] - 1)
        exact = moments_of_product(powers[None], depth[None], jnp.zeros(1))[:6]
        return np.array([MOMENTS[limit_of](k, 0.7) for k in range(1, 7)]) / np.asarray(exact) - 1

    for limit_of, powers in (
        (mf.bernoulli_limit, lambda zero: jnp.asarray((1 - zero) ** (1.0 - orders))),
        (mf.smooth_limit, lambda q: jnp.stack([tanh.slope_moment(q, 2 * k) for k in orders])),
    ):
        far, near = (errors(p / p[0] ** orders, limit_of) for p in map(powers, (1e-3, 1e-4)))
        np.testing.assert_allclose(near[:2], 0.0, atol=1e-8)
        np.testing.assert_allclose(far[2:] / near[2:], 10.0, rtol=0.02)


def test_classes_of_other_things():
    two_valued = mf.from_callable(
        lambda x: jnp.where(jnp.abs(x) < 1, x, 0.5 * x + 0.5 * jnp.sign(x))
    )
    assert mf.universality_class(two_valued).name == "none"
    assert mf.universality_class(two_valued).skewness == pytest.approx(-0.75, abs=1e-3)
    assert "jumps" in mf.universality_class(mf.from_callable(jnp.sign)).why
    gaussian = mf.universality_class(mf.activation("tanh"), "gaussian")
    assert (gaussian.name, "Gaussian weights" in gaussian.why) == ("none", True)
    assert "equal" in mf.universality_class(mf.activation("linear")).why


@pytest.mark.parametrize("limit_of", [mf.bernoulli_limit, mf.smooth_limit])
@pytest.mark.parametrize("variance", [0.0, -1.0, np.nan, np.inf, "much"])
def test_a_variance_is_positive(limit_of, variance):
    with pytest.raises(mf.MeanFieldError, match="variance"):
        limit_of(variance)


def test_an_ensemble_is_one_of_two():
    with pytest.raises(mf.MeanFieldError, match="ensemble = 'unitary'"):
        mf.universality_class(mf.activation("tanh"), "unitary")


def test_one_kernel_reads_densities_and_probabilities():
    limit, x = mf.smooth_limit(0.6), np.array([0.2, 0.9, 1.7, 2.0, 2.1])
    limit.density(x)
    kernels = _read._cache_size()
    np.testing.assert_allclose(limit.singular_density(x), 2 * x * limit.density(x**2), rtol=1e-10)
    assert (np.diff(limit.cdf(x)) > 0).all()
    assert _read._cache_size() == kernels
