"""Layers map variances, correlations and Jacobian moments, and compose."""

import jax
import numpy as np
import pytest
from problems import central_difference, dense

import meanfield as mf

RELU, ERF = mf.activation("relu"), mf.activation("erf")
FIRST = mf.Dense(ERF, 1.4, 0.3)
SECOND = mf.Dense(RELU, 1.2, 0.1, "orthogonal")
# Elementary statistics: nothing is lost between two ways to compose these.
WAVE = mf.Dense(mf.activation("sin"), 1.6, 0.2)
OTHER = mf.Dense(mf.activation("sin"), 0.9, 0.5, "orthogonal")
PAIR = mf.Covariance(0.7, 2.0, 0.4)

variance = jax.jit(lambda layer, q: layer.variance(q))
variance_slope = jax.jit(lambda layer, q: layer.variance_slope(q))
propagate = jax.jit(lambda layer, pair: layer.propagate(pair))
decorrelation = jax.jit(lambda layer, q, epsilon: layer.decorrelation(q, epsilon))
correlation_slope = jax.jit(lambda layer, q, epsilon: layer.correlation_slope(q, epsilon))
moments = jax.jit(lambda layer, q: layer.moments(q))


def close(record, other, rel=1e-13):
    for one, two in zip(jax.tree.leaves(record), jax.tree.leaves(other), strict=True):
        assert float(one) == pytest.approx(float(two), rel=rel)


def erf_covariance(q1, q2, q12, layer):
    """Williams (1997): (2/π) arcsin(2 q12 / √((1 + 2 q1)(1 + 2 q2)))."""
    arc = np.arcsin(2 * q12 / np.sqrt((1 + 2 * q1) * (1 + 2 * q2)))
    return layer.sigma_w**2 * 2 / np.pi * arc + layer.sigma_b**2


# Covariances -------------------------------------------------------------------------------


def test_a_covariance_knows_its_correlation():
    pair = mf.Covariance.of(4.0, 9.0, 3.0)
    assert pair.epsilon == pytest.approx(0.5)
    assert pair.c == pytest.approx(0.5)
    assert pair.q12 == pytest.approx(3.0)


def test_a_covariance_at_the_bound_is_clipped_there():
    assert mf.Covariance.of(2.0, 2.0, 2.0 * (1 + 1e-15)).epsilon == 0.0
    assert mf.Covariance.of(2.0, 2.0, -2.0 * (1 + 1e-15)).epsilon == 2.0


# One dense layer -----------------------------------------------------------------------------


def test_a_dense_layer_maps_variances_by_the_closed_form():
    for q in (1e-3, 0.5, 20.0):
        assert variance(FIRST, q) == pytest.approx(erf_covariance(q, q, q, FIRST), rel=1e-14)
        assert variance(SECOND, q) == pytest.approx(0.72 * q + 0.01, rel=1e-14)
        slope = central_difference(lambda q: variance(FIRST, q), q, 1e-3 * q)
        assert variance_slope(FIRST, q) == pytest.approx(slope, rel=1e-9)


@pytest.mark.parametrize(("q1", "q2"), [(0.7, 0.7), (0.7, 2.0), (5.0, 0.01)])
def test_a_dense_layer_maps_covariances_by_the_closed_form(q1, q2):
    for epsilon in (1e-9, 0.4, 1.0, 1.7, 2.0):
        pair = mf.Covariance(q1, q2, epsilon)
        after = propagate(FIRST, pair)
        exact = erf_covariance(q1, q2, float(pair.q12), FIRST)
        assert after.q12 == pytest.approx(exact, rel=1e-12)
        assert after.q1 == pytest.approx(erf_covariance(q1, q1, q1, FIRST), rel=1e-14)
        assert after.q2 == pytest.approx(erf_covariance(q2, q2, q2, FIRST), rel=1e-14)


def test_the_covariance_method_is_the_same_map():
    q12 = np.sqrt(0.7 * 2.0) * 0.6
    exact = erf_covariance(0.7, 2.0, q12, FIRST)
    assert jax.jit(FIRST.covariance)(0.7, 2.0, q12) == pytest.approx(exact, rel=1e-13)
    with pytest.raises(mf.MeanFieldError, match=r"^q12 = 3\.0 is not legal; .*√\(q1·q2\)"):
        FIRST.covariance(1.0, 2.0, 3.0)


def test_almost_equal_variances_agree_with_equal_ones():
    """Both branches of the covariance map meet where q1 = q2."""
    for epsilon in (0.3, 1.2):
        equal = propagate(FIRST, mf.Covariance(0.9, 0.9, epsilon))
        almost = propagate(FIRST, mf.Covariance(0.9, 0.9 * (1 + 1e-14), epsilon))
        close(equal, almost, rel=1e-12)
        assert decorrelation(FIRST, 0.9, epsilon) == pytest.approx(float(equal.epsilon), rel=1e-14)


def test_equal_inputs_of_unequal_size_do_not_become_equal_by_rounding():
    after = propagate(mf.Dense(ERF, 1.4, 0.0), mf.Covariance(1.0, 4.0, 0.0))
    # Same direction, other size: the correlation is E φ(z)φ(2z)/..., strictly below 1.
    root = np.sqrt(erf_covariance(1, 1, 1, FIRST) - 0.09)
    other = np.sqrt(erf_covariance(4, 4, 4, FIRST) - 0.09)
    exact = 1 - (erf_covariance(1, 4, 2, FIRST) - 0.09) / (root * other)
    assert after.epsilon == pytest.approx(exact, rel=1e-11)


def test_the_correlation_slope_is_the_derivative_of_the_correlation():
    for layer in (FIRST, SECOND):
        for epsilon in (0.2, 1.0, 1.6):
            numeric = central_difference(
                lambda e, layer=layer: decorrelation(layer, 0.8, e), epsilon, 1e-3
            )
            assert correlation_slope(layer, 0.8, epsilon) == pytest.approx(numeric, rel=1e-9)


def test_moments_of_gaussian_and_orthogonal_weights_differ_by_one():
    gaussian, orthogonal = (
        moments(mf.Dense(ERF, 1.4, 0.3, e), 0.8) for e in ("gaussian", "orthogonal")
    )
    mu1, mu2 = 4 / np.pi / np.sqrt(1 + 4 * 0.8), (4 / np.pi) ** 2 / np.sqrt(1 + 8 * 0.8)
    assert gaussian.mean == pytest.approx(1.96 * mu1, rel=1e-14)
    assert orthogonal.mean == gaussian.mean
    assert gaussian.relative_variance == pytest.approx(mu2 / mu1**2, rel=1e-13)
    assert orthogonal.relative_variance == pytest.approx(mu2 / mu1**2 - 1, rel=1e-13)


# Compositions ----------------------------------------------------------------------------------


def test_layers_in_series_compose():
    both = WAVE >> OTHER
    assert isinstance(both, mf.Serial)
    q = variance(WAVE, 0.7)
    assert variance(both, 0.7) == pytest.approx(float(variance(OTHER, q)), rel=1e-14)
    slope = variance_slope(WAVE, 0.7) * variance_slope(OTHER, q)
    assert variance_slope(both, 0.7) == pytest.approx(float(slope), rel=1e-14)
    close(propagate(both, PAIR), propagate(OTHER, propagate(WAVE, PAIR)), rel=1e-12)
    one, two = moments(WAVE, 0.7), moments(OTHER, q)
    total = moments(both, 0.7)
    assert total.mean == pytest.approx(float(one.mean * two.mean), rel=1e-14)
    assert total.relative_variance == pytest.approx(
        float(one.relative_variance + two.relative_variance), rel=1e-14
    )
    epsilon = decorrelation(WAVE, 0.7, 0.4)
    assert decorrelation(both, 0.7, 0.4) == pytest.approx(
        float(decorrelation(OTHER, q, epsilon)), rel=1e-12
    )
    chain = correlation_slope(WAVE, 0.7, 0.4) * correlation_slope(OTHER, q, epsilon)
    assert correlation_slope(both, 0.7, 0.4) == pytest.approx(float(chain), rel=1e-11)


def test_a_longer_series_stays_flat_and_keeps_its_order():
    chain = WAVE >> OTHER >> WAVE
    assert chain.layers == (WAVE, OTHER, WAVE)
    assert (mf.Serial((WAVE,)) >> OTHER).layers == (WAVE, OTHER)


def test_a_repeated_layer_is_the_same_as_writing_it_out():
    thrice, written = mf.Repeat(WAVE, 3), WAVE >> WAVE >> WAVE
    assert variance(thrice, 0.7) == pytest.approx(float(variance(written, 0.7)), rel=1e-14)
    close(variance_slope(thrice, 0.7), variance_slope(written, 0.7))
    close(propagate(thrice, PAIR), propagate(written, PAIR), rel=1e-12)
    close(moments(thrice, 0.7), moments(written, 0.7))
    close(decorrelation(thrice, 0.7, 0.4), decorrelation(written, 0.7, 0.4), rel=1e-12)
    close(correlation_slope(thrice, 0.7, 0.4), correlation_slope(written, 0.7, 0.4), rel=1e-11)


def test_no_repetition_is_the_identity():
    nothing = mf.Repeat(WAVE, 0)
    assert variance(nothing, 0.7) == 0.7
    assert variance_slope(nothing, 0.7) == 1.0
    close(propagate(nothing, PAIR), PAIR)
    assert moments(nothing, 0.7).mean == 1.0
    assert moments(nothing, 0.7).relative_variance == 0.0


def test_a_repeated_layer_is_differentiable():
    def deep(sigma_w):
        return mf.Repeat(mf.Dense(WAVE.phi, sigma_w, 0.3), 5).variance(0.7)

    numeric = central_difference(jax.jit(deep), 1.4)
    assert jax.jit(jax.grad(deep))(1.4) == pytest.approx(numeric, rel=1e-9)


# Mistakes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sigma_w", "sigma_b"])
@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf, np.array([1.0, -0.1])])
def test_a_bad_standard_deviation_is_named(name, value):
    sigmas = {"sigma_w": 1.0, "sigma_b": 0.0, name: value}
    with pytest.raises(mf.MeanFieldError, match=f"^{name} = .* must be a finite number >= 0"):
        mf.Dense(RELU, **sigmas)


def test_a_bad_activation_ensemble_or_count_is_named():
    with pytest.raises(mf.MeanFieldError, match=r"^phi = 3\.0 is not legal; it must be an Activ"):
        mf.Dense(3.0, 1.0)
    with pytest.raises(mf.MeanFieldError, match="unknown activation 'tahn'; did you mean tanh"):
        mf.Dense("tahn", 1.0)
    with pytest.raises(mf.MeanFieldError, match=r"^ensemble = 'ortho' .* 'gaussian' or 'orthog"):
        mf.Dense(RELU, 1.0, 0.0, "ortho")
    for times in (-1, 2.0):
        with pytest.raises(mf.MeanFieldError, match=r"^times = .* an integer >= 0"):
            mf.Repeat(FIRST, times)


def test_layers_accept_arrays_and_tracers():
    layer = dense("erf", np.array([1.0, 2.0]), 0.1)
    assert layer.sigma_w.shape == (2,)
    jax.jit(lambda w: mf.Dense(ERF, w).variance(1.0))(-1.0)
