"""Spectra of Jacobians: published edges and densities, moments, atoms, and what is refused."""

import math

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
    np.testing.assert_allclose(spectra.mass, 1.0, rtol=0, atol=1e-8)
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
    np.testing.assert_allclose(np.asarray(spectra.cdf(points))[1], [0.3, 0.9], rtol=0, atol=1e-9)


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
    np.testing.assert_allclose(spectra.mass, 1.0, rtol=0, atol=1e-7)
    orders = np.arange(1, 3) * np.asarray(spectra.log_mean)[:, None]
    exact = np.exp(np.asarray(spectra.log_moments)[:, :2] - orders)
    np.testing.assert_allclose(spectra.density_moments[:, :2], exact, rtol=1e-6)
    assert (np.asarray(spectra.below) < 0.2).all()


def test_a_law_that_piles_up_at_its_bound():
    """What is within rounding of the bound, far out, is an atom there."""
    layer = mf.Dense(mf.activation("gelu"), 1.0, 0.1, "orthogonal")
    spectrum = mf.check(jacobian_spectrum(layer, 6.4341, 1.0))
    z = np.random.default_rng(4).standard_normal(200_000)
    slopes = np.asarray(layer.phi.slope(np.sqrt(6.4341) * z)) ** 2
    for x in (0.01, 0.9, 1 + 1e-9, 1.2):
        below = float(spectrum.cdf(x))
        assert abs(np.mean(slopes <= x) - below) < 5 * np.sqrt(0.25 / z.size)
    np.testing.assert_allclose(
        spectrum.density_moments[1] / np.exp(spectrum.log_moments[1] - 2 * spectrum.log_mean),
        1.0,
        rtol=1e-6,
    )


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


def test_what_is_traced_is_read_as_numbers_are():
    """Fields and methods, of vectors too; and parameters of φ."""
    layer = mf.Dense(mf.activation("shtanh", a=1.5), 1.2, 0.1, "orthogonal")
    spectrum = mf.check(jacobian_spectrum(layer, 0.5, 4.0))
    x, p = np.array([0.1, 0.3, 1.0]), np.array([0.2, 0.9])

    @jax.jit
    @jax.vmap
    def read(a, sigma_w):
        layer = mf.Dense(mf.activation("shtanh", a=a), sigma_w, 0.1, "orthogonal")
        found = jacobian_spectrum(layer, jnp.array([0.5, 0.6]), 4.0)
        largest = mf.largest_singular_value(layer, 0.5, 4.0)
        return found.status, found.density(x), found.cdf(x), found.quantile(p), largest

    status, density, cdf, quantile, largest = read(jnp.array([1.5, -1.0]), jnp.array([1.2, 1.2]))
    np.testing.assert_array_equal(status, [[1, 1], [mf.Status.OUT_OF_DOMAIN] * 2])
    assert density.shape == (2, 2, 3)
    np.testing.assert_allclose(density[0, 0], spectrum.density(x), rtol=1e-12)
    np.testing.assert_allclose(cdf[0, 0], spectrum.cdf(x), rtol=1e-12)
    np.testing.assert_allclose(quantile[0, 0], spectrum.quantile(p), rtol=1e-11)
    assert float(largest[0]) == pytest.approx(float(spectrum.s_max), rel=1e-12)
    for illegal in (density, cdf, quantile, largest):
        assert np.isnan(illegal[1]).all()
    np.testing.assert_allclose(jax.vmap(spectrum.cdf)(x), spectrum.cdf(x), rtol=1e-12)


def test_a_traced_stack_that_drifts_too_long_is_said():
    drifting = mf.Repeat(mf.Dense(mf.activation("tanh"), 1.5, 0.1), 100)
    with pytest.raises(mf.MeanFieldError, match="times = 100"):
        jacobian_spectrum(drifting, 0.5)
    status = jax.jit(lambda q: jacobian_spectrum(drifting, q).status)(0.5)
    assert status == mf.Status.OUT_OF_DOMAIN


KNOTS = np.linspace(-2.9, 3.1, 50) + 0.05 * np.sin(np.arange(50) * 7.0)
HEIGHTS = np.cos(np.arange(50) ** 1.5)
WILD = {
    "fifty knots": lambda x: jnp.interp(x, KNOTS, HEIGHTS),
    "not monotone": lambda x: jnp.tanh(x) + 0.3 * jnp.sin(3 * x),
    "snake": lambda x: x + jnp.sin(x) ** 2,
    "by NumPy": np.tanh,
}


@pytest.mark.parametrize("ensemble", ["gaussian", "orthogonal"])
@pytest.mark.parametrize("name", WILD)
def test_any_activation_has_spectra(name, ensemble):
    """Slopes that turn or jump often: moments, quantiles, and the law of slopes by sampling."""
    layer = mf.Dense(mf.from_callable(WILD[name]), 1.0, 0.1, ensemble)
    depth = np.array([1.0, 3.0])
    spectra = mf.check(jacobian_spectrum(layer, 1.0, depth))
    exact = np.exp(spectra.log_moments - np.arange(1, 9) * np.asarray(spectra.log_mean)[:, None])
    np.testing.assert_allclose(spectra.density_moments[:, :2], exact[:, :2], rtol=1e-7)
    two = mf.jacobian_moments(layer, 1.0, depth)
    np.testing.assert_allclose(spectra.moments[:, :2], np.transpose([two.m1, two.m2]), rtol=1e-10)
    largest = mf.largest_singular_value(layer, 1.0, depth)
    np.testing.assert_allclose(spectra.s_max, largest, rtol=1e-11)
    p = np.array([0.3, 0.9])
    cdf = np.asarray(
        [
            mf.jacobian_spectrum(layer, 1.0, d).cdf(x)
            for d, x in zip(depth, np.asarray(spectra.quantile(p)), strict=True)
        ]
    )
    assert (cdf >= p - 1e-12).all()
    if ensemble == "orthogonal":
        z = np.random.default_rng(5).standard_normal(100_000)
        slopes = np.asarray(layer.phi.slope(z)) ** 2
        for x in np.asarray(spectra.quantile([0.2, 0.5, 0.8]))[0]:
            # Beside an atom, not at it.
            x, below = 1.0001 * x, float(spectra.cdf(1.0001 * x)[0])
            assert abs(np.mean(slopes <= x) - below) < 5 * np.sqrt(0.25 / z.size)


@pytest.mark.parametrize("name", ["hard_tanh", "leaky_relu", "relu"])
@pytest.mark.parametrize("keep", [1.0, 0.5])
@pytest.mark.parametrize("depth", [1.0, 1.3, 4.0])
def test_a_quantile_is_where_the_distribution_reaches_it(name, keep, depth):
    """At atoms too: P(<= x) jumps there from below p to p or more."""
    layer = mf.Dense(mf.activation(name), 1.5, 0.0, "orthogonal", keep=keep)
    spectrum = mf.check(jacobian_spectrum(layer, 1.0, depth))
    assert float(spectrum.quantile(1.0)) == pytest.approx(float(spectrum.lambda_max), rel=1e-12)
    p = np.linspace(0.02, 0.98, 49)
    x = np.asarray(spectrum.quantile(p))
    assert (np.diff(x) >= 0).all()
    assert (np.asarray(spectrum.cdf(x)) >= p - 1e-12).all()
    below = np.asarray(spectrum.cdf(x * (1 - 1e-9)))
    assert (below[x > 0] < p[x > 0] + 1e-12).all()


def test_atoms_alone_have_quantiles():
    layer = mf.Dense(mf.activation("hard_tanh"), 1.5, 0.0, "orthogonal", keep=0.5)
    spectrum = mf.check(jacobian_spectrum(layer, 1.0))
    linear = math.erf(1 / math.sqrt(2))
    assert np.isnan(spectrum.log_support).all()
    assert float(spectrum.quantile(0.9)) == pytest.approx(9.0, rel=1e-14)
    at, under, over = (float(spectrum.cdf(9.0 * (1 + e))) for e in (0, -1e-9, 1e-9))
    assert (at, over) == (pytest.approx(1.0, abs=1e-14), pytest.approx(1.0, abs=1e-14))
    assert under == pytest.approx(1 - linear / 2, rel=1e-13)
    assert float(spectrum.quantile(0.6)) == 0.0


def test_a_law_is_read_outside_its_grid():
    """Between a lower atom and the continuous part, and below what a grid reaches."""
    leaky = mf.Dense(mf.activation("leaky_relu", negative_slope=0.3), 1.4, 0.0, "orthogonal")
    half = mf.check(jacobian_spectrum(leaky, 1.0, 1.5))
    low, high = np.exp(half.log_support[0])
    lower, upper = (1.4 * 0.3) ** 3, 1.4**3
    x = np.array([0.9 * lower, (lower + low) / 2, (high + upper) / 2, 1.1 * upper])
    np.testing.assert_allclose(half.cdf(x), [0.0, 0.25, 0.75, 1.0], atol=1e-12)
    np.testing.assert_array_equal(half.density(x), 0.0)
    relu = mf.check(jacobian_spectrum(mf.Dense(mf.activation("relu"), 1.4, 0.0), 1.0))
    np.testing.assert_allclose(relu.log_cdf([-1e4, -400.0, -np.inf]), 0.5, atol=1e-8)


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
    layer, relu = tanh_layer("gaussian"), mf.Dense(mf.activation("relu"), 1.4, 0.1)
    unlike = mf.check(jacobian_spectrum(relu >> layer, 0.7))
    assert float(unlike.moments[0]) == pytest.approx(
        float((relu >> layer).moments(0.7).mean), rel=1e-11
    )
    np.testing.assert_allclose(
        unlike.density_moments,
        jnp.exp(unlike.log_moments - np.arange(1, 9) * unlike.log_mean),
        rtol=1e-7,
    )


def test_equal_layers_in_a_stack_are_a_power():
    phi = mf.activation("hard_tanh")
    edge = mf.edge_of_chaos(phi, 0.2)
    layer = mf.Dense(phi, edge.sigma_w, 0.2, "orthogonal")
    power = mf.check(jacobian_spectrum(layer, edge.q, 3.0))
    for stack in (mf.Repeat(layer, 3), layer >> layer >> layer):
        found = mf.check(jacobian_spectrum(stack, edge.q))
        np.testing.assert_array_equal(found.log_support, power.log_support)
        np.testing.assert_array_equal(found.density([0.1, 0.4]), power.density([0.1, 0.4]))


def test_linear_orthogonal_layers_only_scale():
    linear = mf.Dense(mf.activation("linear"), 1.5, 0.1, "orthogonal")
    tanh = mf.Dense(mf.activation("tanh"), 1.3, 0.2, "orthogonal")
    alone = mf.check(jacobian_spectrum(tanh, 0.5))
    found = mf.check(jacobian_spectrum(tanh >> linear >> linear, 0.5))
    assert float(found.lambda_max) == pytest.approx(1.5**4 * float(alone.lambda_max), rel=1e-13)
    assert float(found.cdf(1.0)) == pytest.approx(float(alone.cdf(1.5**-4)), rel=1e-12)
    # Nothing but one atom.
    deep = mf.check(jacobian_spectrum(linear, 1.0, [1.0, 2.0, 1e4]))
    np.testing.assert_allclose(deep.log_lambda_max, 2 * np.log(1.5) * np.array([1, 2, 1e4]))
    np.testing.assert_allclose(deep.atoms.mass.sum(axis=-1), 1.0)
    assert np.isnan(deep.log_support).all()
    np.testing.assert_allclose(deep.cdf(2.0), [0, 0, 0], atol=1e-14)
    np.testing.assert_array_equal(deep.density([1.0, 2.25]), 0.0)


def test_several_atoms():
    """An atom for every way to have Σ p - (L - 1) > 0."""
    leaky = mf.Dense(mf.activation("leaky_relu", negative_slope=0.3), 1.4, 0.0, "orthogonal")
    half = mf.check(jacobian_spectrum(leaky, 1.0, 1.5))
    masses = half.atoms.mass[half.atoms.mass > 0]
    places = half.atoms.place[half.atoms.mass > 0]
    np.testing.assert_allclose(masses, 0.25, rtol=1e-12)
    np.testing.assert_allclose(places, [(1.4 * 0.3) ** 3, 1.4**3], rtol=1e-12)
    clipped = mf.Dense(mf.activation("hard_tanh"), 1.0, 0.0, "orthogonal")
    mixed = mf.check(jacobian_spectrum(leaky >> clipped, 0.1))
    # The variance that the second layer sees.
    q = 0.1 * 1.4**2 * (1 + 0.3**2) / 2
    linear = math.erf(1 / math.sqrt(2 * q))
    there = mixed.atoms.mass > 0
    np.testing.assert_allclose(mixed.atoms.mass[there], [1 - linear, *[linear - 0.5] * 2])
    np.testing.assert_allclose(mixed.atoms.place[there], [0.0, (1.4 * 0.3) ** 2, 1.4**2])


@pytest.mark.parametrize("depth", [1.0, 8.0])
def test_dropout(depth):
    layer = mf.Dense(mf.activation("tanh"), 1.3, 0.2, "orthogonal", keep=0.9)
    found = mf.check(jacobian_spectrum(layer, 0.6, depth))
    two = mf.jacobian_moments(layer, 0.6, depth)
    np.testing.assert_allclose(found.moments[:2], [two.m1, two.m2], rtol=1e-11)
    assert float(found.cdf(0.0)) == pytest.approx(0.1, rel=1e-12)
    assert float(found.quantile(0.05)) == 0


@pytest.mark.parametrize("stack", [mf.Serial(()), mf.Repeat(tanh_layer("gaussian"), 0)])
def test_no_layers_are_the_identity(stack):
    found = mf.check(jacobian_spectrum(stack, 1.0))
    assert float(found.lambda_max) == 1.0
    assert float(found.cdf(1.0)) == 1.0


def test_nan_and_nothing_are_read_as_such():
    found = jacobian_spectrum(mf.Dense(mf.activation("relu"), 1.0, 0.0, "orthogonal"), 1.0)
    assert found.density(np.array([])).shape == (0,)
    for read in (found.density, found.singular_density, found.cdf):
        assert np.isnan(read(np.nan))
        assert float(read(np.inf)) == (1.0 if read == found.cdf else 0.0)
        assert float(read(-np.inf)) == 0.0


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
