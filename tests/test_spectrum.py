"""Spectra of Jacobians: published edges and densities, moments, atoms, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import meanfield as mf
from meanfield.spectrum import jacobian_spectrum

# tanh on the edge, σb = 0.2, L = 8: ρ(0.1), ρ(1), ρ(4) by two methods that agree to 12 digits.
DENSITIES = {
    "gaussian": [0.524718595673, 0.054294019031, 0.012474981596],
    "orthogonal": [0.984338362240, 0.149193579883, 0.037907953861],
}
# λ_max at L = 2, 8, 32, 128.
LARGEST = {
    ("tanh", "gaussian"): [8.35028852, 29.68529917, 114.94222923, 455.94505524],
    ("tanh", "orthogonal"): [2.58036560, 7.64664089, 27.68348283, 107.73694156],
}
EDGE = mf.edge_of_chaos(mf.activation("tanh"), 0.2)


def tanh_layer(ensemble):
    return mf.Dense(mf.activation("tanh"), EDGE.sigma_w, 0.2, ensemble)


@pytest.mark.parametrize("ensemble", ["gaussian", "orthogonal"])
def test_tanh_on_the_edge(ensemble):
    depth = np.array([2.0, 8.0, 32.0, 128.0])
    spectra = mf.check(jacobian_spectrum(tanh_layer(ensemble), EDGE.q, depth))
    np.testing.assert_allclose(spectra.lambda_max, LARGEST["tanh", ensemble], rtol=1e-8)
    np.testing.assert_allclose(spectra.s_max**2, spectra.lambda_max, rtol=1e-13)
    np.testing.assert_allclose(spectra.mass, 1.0, atol=1e-8)
    exact = np.asarray(spectra.moments)
    of_density = np.asarray(spectra.density_moments)
    np.testing.assert_allclose(of_density[:, :2], exact[:, :2], rtol=1e-8)
    np.testing.assert_allclose(of_density, exact, rtol=1e-7)
    two = mf.jacobian_moments(tanh_layer(ensemble), EDGE.q, depth)
    np.testing.assert_allclose(exact[:, 1], two.m2, rtol=1e-10)
    x = np.array([0.1, 1.0, 4.0])
    density = np.asarray(spectra.density(x))[1]
    np.testing.assert_allclose(density, DENSITIES[ensemble], rtol=1e-9)
    np.testing.assert_allclose(spectra.singular_density(np.sqrt(x))[1], 2 * np.sqrt(x) * density)
    points = np.asarray(spectra.quantile(np.array([0.3, 0.9])))[1]
    np.testing.assert_allclose(np.asarray(spectra.cdf(points))[1], [0.3, 0.9], atol=1e-9)


@pytest.mark.parametrize(
    ("ensemble", "largest", "moments"),
    [
        ("gaussian", 43.5489788863, [1, 17, 417, 12001]),
        ("orthogonal", 20.3719975763, [1, 9, 109, 1513]),
    ],
)
def test_relu(ensemble, largest, moments):
    layer = mf.Dense(mf.activation("relu"), np.sqrt(2), 0.0, ensemble)
    spectrum = mf.check(jacobian_spectrum(layer, 1.0, 8.0))
    assert float(spectrum.lambda_max) == pytest.approx(largest, rel=1e-10)
    np.testing.assert_allclose(spectrum.moments[:4], moments, rtol=1e-12)
    assert float(spectrum.atoms.mass[0]) == pytest.approx(0.5, rel=1e-13)
    assert float(spectrum.cdf(0.0)) == pytest.approx(0.5, rel=1e-13)
    assert float(spectrum.cdf(-1.0)) == 0.0
    assert float(spectrum.density(50.0)) == 0.0


@pytest.mark.parametrize(
    ("name", "ensemble", "largest"),
    [
        ("linear", "gaussian", [6.75, 9**9 / 8**8, 33**33 / 32**32, 129**129 / 128**128]),
        ("relu", "gaussian", [11.0901699437, 43.5489788863, 173.9841922055, 695.8836874754]),
        ("relu", "orthogonal", [4.0, 20.3719975763, 85.6222817893, 346.580044798]),
    ],
)
def test_the_largest_of_piecewise_linear_networks(name, ensemble, largest):
    """Published for L = 2, 8, 32, 128; (L + 1)^(L + 1)/L^L for linear networks."""
    layer = mf.Dense(mf.activation(name), 1 if name == "linear" else np.sqrt(2), 0.0, ensemble)
    spectra = mf.check(jacobian_spectrum(layer, 1.0, np.array([2.0, 8.0, 32.0, 128.0])))
    np.testing.assert_allclose(spectra.lambda_max, largest, rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "q", "ensemble"),
    [
        ("gelu", 6.4341, "gaussian"),  # slopes down to e^-400, and a pile of them at the bound
        ("gelu", 6.4341, "orthogonal"),
        ("tanh", 1e-4, "orthogonal"),  # all slopes within 1e-4
        ("tanh", 50.0, "orthogonal"),  # most of them below rounding
        ("elu", 0.7, "orthogonal"),  # at L = 2 an atom is about to appear
    ],
)
def test_hostile_laws_of_slopes(name, q, ensemble):
    layer = mf.Dense(mf.activation(name), 1.0, 0.1, ensemble)
    spectra = mf.check(jacobian_spectrum(layer, q, np.array([2.0, 3.0, 100.0, 1e4])))
    np.testing.assert_allclose(spectra.mass, 1.0, atol=1e-7)
    orders = np.arange(1, 3) * np.asarray(spectra.log_mean)[:, None]
    exact = np.exp(np.asarray(spectra.log_moments)[:, :2] - orders)
    np.testing.assert_allclose(spectra.density_moments[:, :2], exact, rtol=1e-6)
    assert (np.asarray(spectra.below) < 0.2).all()


def test_a_law_that_piles_up_is_not_resolved():
    layer = mf.Dense(mf.activation("gelu"), 1.0, 0.1, "orthogonal")
    spectrum = jacobian_spectrum(layer, 6.4341, 1.0)
    assert spectrum.status == mf.Status.NOT_CONVERGED
    assert np.isnan(spectrum.mass)
    assert np.isnan(spectrum.cdf(1.0))
    assert np.isnan(spectrum.quantile(0.5))


def test_everything_broadcasts_and_can_be_traced():
    """Over σw, a, q and depth; and inside jit."""
    sigma_w, a = np.array([[1.0], [1.3]]), np.array([1.0, 2.0, 4.0])
    layer = mf.Dense(mf.activation("shtanh", a=a), sigma_w, 0.1)
    spectra = mf.check(jacobian_spectrum(layer, 0.8, 20.0))
    assert spectra.lambda_max.shape == (2, 3)
    assert spectra.density(np.ones((4, 5))).shape == (2, 3, 4, 5)
    one = mf.check(jacobian_spectrum(mf.Dense(mf.activation("shtanh", a=2.0), 1.3, 0.1), 0.8, 20.0))
    assert float(spectra.lambda_max[1, 1]) == pytest.approx(float(one.lambda_max), rel=1e-12)

    @jax.jit
    def largest(sigma_w):
        layer = mf.Dense(mf.activation("hard_tanh"), sigma_w, 0.1, "orthogonal")
        return jacobian_spectrum(layer, 0.5, 4.0).lambda_max

    layer = mf.Dense(mf.activation("hard_tanh"), 1.2, 0.1, "orthogonal")
    expected = float(jacobian_spectrum(layer, 0.5, 4.0).lambda_max)
    assert float(largest(1.2)) == pytest.approx(expected, rel=1e-12)


def test_an_orthogonal_hard_tanh_has_an_atom_at_the_top():
    phi = mf.activation("hard_tanh")
    point = mf.edge_of_chaos(phi, 0.2)
    layer = mf.Dense(phi, point.sigma_w, 0.2, "orthogonal")
    one, two = (mf.check(jacobian_spectrum(layer, point.q, depth)) for depth in (1.0, 2.0))
    p = float(phi.slope_moment(point.q, 2))
    np.testing.assert_allclose(sorted(one.atoms.mass)[-2:], sorted([1 - p, p]), rtol=1e-9)
    assert float(two.lambda_max) == pytest.approx(p**-2, rel=1e-9)
    assert float(two.atoms.mass[1]) == pytest.approx(1 - 2 * (1 - p), rel=1e-9)
    # The continuous part ends below the atom.
    assert float(jnp.exp(two.log_support[0, 1])) == pytest.approx(4 * (1 - p) / p, rel=1e-8)


def test_the_law_of_one_orthogonal_layer_is_that_of_its_slopes():
    spectrum = mf.check(jacobian_spectrum(tanh_layer("orthogonal"), EDGE.q, 1.0))
    z = np.random.default_rng(3).standard_normal(200_000)
    slopes = np.asarray(EDGE.sigma_w) ** 2 * np.cosh(np.sqrt(np.asarray(EDGE.q)) * z) ** -4.0
    for x in (0.05, 0.6, 1.5):
        below = float(spectrum.cdf(x))
        error = np.sqrt(below * (1 - below) / z.size)
        assert abs(np.mean(slopes <= x) - below) < 4 * error


def test_unlike_layers_multiply():
    """Equal layers in a stack are a power, and moments of unlike ones are those of the series."""
    layer, relu = tanh_layer("gaussian"), mf.Dense(mf.activation("relu"), 1.4, 0.1)
    power = mf.check(jacobian_spectrum(mf.Repeat(layer, 2), EDGE.q))
    x = np.array([0.3, 2.0])
    np.testing.assert_allclose(power.density(x), jacobian_spectrum(layer, EDGE.q, 2.0).density(x))
    unlike = mf.check(jacobian_spectrum(relu >> layer, 0.7))
    assert float(unlike.moments[0]) == pytest.approx(
        float((relu >> layer).moments(0.7).mean), rel=1e-11
    )
    np.testing.assert_allclose(
        unlike.density_moments[:2],
        jnp.exp(unlike.log_moments[:2] - np.array([1, 2]) * unlike.log_mean),
        rtol=1e-6,
    )


def test_what_has_no_spectrum_is_said():
    step = mf.Dense(mf.from_callable(jnp.sign), 1.0, 0.1)
    assert jacobian_spectrum(step, 1.0).status == mf.Status.NONFINITE
    nothing = mf.Dense(mf.activation("relu"), 0.0, 0.1)
    spectrum = jacobian_spectrum(nothing, 1.0)
    assert spectrum.status == mf.Status.NO_SOLUTION
    assert np.isnan(spectrum.lambda_max)
    assert np.isnan(spectrum.density(1.0))
    with pytest.raises(mf.MeanFieldError, match="must be a Dense"):
        jacobian_spectrum("tanh", 1.0)
    with pytest.raises(mf.MeanFieldError, match="q = -1"):
        jacobian_spectrum(nothing, -1.0)
