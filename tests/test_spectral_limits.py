"""Limits of spectra: published densities and edges, moments, symmetry, and the way there."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import meanfield as mf

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


@pytest.mark.parametrize("limit_of", [mf.bernoulli_limit, mf.smooth_limit])
@pytest.mark.parametrize("variance", VARIANCES)
def test_mean_variance_and_distribution(limit_of, variance):
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
    assert (weights * x).sum() + atom * place == pytest.approx(1.0, rel=1e-8)
    second = (weights * x**2).sum() + atom * place**2
    assert second == pytest.approx(1 + variance, rel=1e-8)
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
    tolerance = 1e-5 if variance < 1e-3 else 1e-8
    np.testing.assert_allclose(
        x * limit.density(x), mirrored * limit.density(mirrored), rtol=tolerance
    )


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
