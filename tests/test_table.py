"""Tables of an activation: right where they are certified, silent elsewhere."""

import functools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import meanfield as mf
from meanfield import chebyshev, pair_table
from meanfield.activations import activations
from meanfield.table import ACUTE, PAIRS, WIDE
from meanfield.tabulation import tabulate

ANGLES = np.array([3e-5, 1e-3, 0.02, 0.3, 1.0, np.pi / 2])


def test_series_and_slopes():
    edges = np.array([-1.0, 0.5, 2.0, 2.5])
    coefficients = np.exp(chebyshev.nodes(edges)) @ chebyshev.transform().T
    x = np.array([-1.0, -0.3, 0.5, 1.7, 2.5])
    cell, place = chebyshev.locate(jnp.asarray(edges), jnp.asarray(x))
    value, slope = chebyshev.series_and_slope(jnp.asarray(coefficients)[cell], place)
    np.testing.assert_allclose(value, np.exp(x), rtol=2e-14)
    np.testing.assert_allclose(slope * 2 / np.diff(edges)[cell], np.exp(x), rtol=1e-11)
    np.testing.assert_array_equal(chebyshev.series(jnp.asarray(coefficients)[cell], place), value)


def test_running_integrals_keep_their_digits():
    edges = np.append(0.0, 2.0 ** -np.arange(12, -1, -1))
    t = chebyshev.nodes(edges).ravel()
    matrix = chebyshev.running_integral(edges, lambda x: x**2)
    # ∫ e^-x x² dx, by its own series where it is small.
    exact = [float(mp.gammainc(3, 0, x)) for x in t]
    np.testing.assert_allclose(matrix @ np.exp(-t), exact, rtol=1e-14)


@functools.partial(jax.jit, static_argnums=0)
def read_off(read, found, *numbers):
    """Read vectors off a table: one kernel serves all activations."""
    return jax.vmap(functools.partial(read, found))(*numbers)


def deficit(f, q, epsilon):
    return f.deficit(q, epsilon)


def slope_gap(f, q, epsilon):
    return f.slope_gap(q, epsilon)


def decorrelation(f, q, epsilon):
    return f.decorrelation(q, epsilon)


def slope_covariance(f, q, epsilon):
    return f.slope_covariance(q, q, epsilon)


# Statistics of one Gaussian.
LINE = {
    "second_moment": lambda f, q: f.second_moment(q),
    "slope_moment": lambda f, q: f.slope_moment(q, 2),
    "fourth_slope_moment": lambda f, q: f.slope_moment(q, 4),
    "mean": lambda f, q: f.mean(q),
    "even_moment": lambda f, q: f.even_moment(q),
    "variance_slope": lambda f, q: f.variance_slope(q),
    "edge_deficit": lambda f, q: f.edge_deficit(q),
}


@pytest.mark.parametrize("name", sorted(activations))
def test_tables_of_every_activation(name):
    phi = mf.activation(name)
    found = tabulate(phi)
    assert found.table.error <= 1
    assert tabulate(mf.activation(name)).table.pairs is found.table.pairs
    low, high = found.table.pairs.range
    assert low <= 2e-6
    # G of what oscillates falls too steeply with θ.
    assert high >= {"sin": 20}.get(name, 60)
    random = np.random.default_rng(3)
    q = np.exp(random.uniform(np.log(low), np.log(high), 12))
    theta = np.append(random.choice(ANGLES, 10), [2.0, 3.1])
    epsilon = 2 * np.sin(theta / 2) ** 2
    mean = np.asarray(phi.slope_moment(q, 2))
    for read, count in ((deficit, 12), (slope_gap, 10)):
        exact = np.asarray(read(phi, q, epsilon))[:count]
        known = np.isfinite(exact)
        assert known.sum() >= count - 2
        # What is below rounding of E φ'² is rounding.
        error = np.abs(np.asarray(read_off(read, found.bare(), q, epsilon))[:count] - exact)
        assert (error <= 2e-9 * np.abs(exact) + 1e-14 * mean[:count])[known].all()


@pytest.mark.parametrize("name", ["tanh", "gelu", "elu", "hard_tanh", "sigmoid", "gaussian"])
def test_moments_over_many_decades(name):
    phi, found = mf.activation(name), tabulate(mf.activation(name))
    q = 10 ** np.random.default_rng(5).uniform(-10, 8, 60)
    second = np.asarray(phi.second_moment(q))
    scales = {"mean": np.sqrt(second), "even_moment": second, "variance_slope": 10 * second / q}
    # σb² on the edge is 0 where it is less than this part of q.
    scales["edge_deficit"] = 1e-15 * q
    for statistic, read in LINE.items():
        ours, exact = np.asarray(read_off(read, found.bare(), q)), np.asarray(read(phi, q))
        known = np.isfinite(ours)
        assert known.mean() > 0.6
        error = np.abs(ours - exact)
        assert (error <= 2e-10 * np.abs(exact) + 2e-12 * scales.get(statistic, 0.0))[known].all()


@mp.workdps(50)
def test_the_edge_deficit_keeps_its_digits_as_q_vanishes():
    """Compiled quadrature has 6 of them here: a table is made of what the host finds."""
    q = 1e-10
    found = float(tabulate(mf.activation("tanh"), ("moments", "edge")).edge_deficit(q))

    def integrand(z):
        u = mp.sqrt(mp.mpf(q)) * z
        return (q * mp.sech(u) ** 4 - mp.tanh(u) ** 2) * mp.npdf(z)

    exact = 2 * mp.quad(integrand, mp.linspace(0, 15, 6))
    assert found == pytest.approx(float(exact), rel=1e-10)


@pytest.mark.parametrize("name", sorted(activations))
def test_a_family_shares_a_table(name):
    """φ(x) = height·φ1(x/width), statistics and all."""
    scales = {"a": 2.5, "k": 0.7, "beta": 3.0, "delta": 0.4, "alpha": 1.7}
    legal = activations[name].parameters()
    phi = mf.activation(name, **{key: x for key, x in scales.items() if key in legal})
    one, width, height = phi.standard()
    x = np.linspace(-7, 7, 29)
    np.testing.assert_allclose(phi(x), height * one(x / width), rtol=1e-13, atol=1e-15)
    if name not in ("hard_tanh", "shtanh", "ssaw", "celu", "srelu", "softplus", "swish", "silu"):
        assert one is phi
        return
    assert width != 1
    found, other = tabulate(phi), tabulate(activations[name](**dict.fromkeys(legal, 1.3)))
    assert found.table.pairs is other.table.pairs
    q = np.array([0.9, 30.0])
    for read in LINE.values():
        exact = np.asarray(read(phi, q))
        np.testing.assert_allclose(read_off(read, found.bare(), q), exact, rtol=1e-10, atol=1e-13)
    for read in (decorrelation, slope_covariance):
        exact = np.asarray(read(phi, q, 0.3))
        ours = read_off(read, found.bare(), q, np.full(2, 0.3))
        np.testing.assert_allclose(ours, exact, rtol=1e-9)


def test_combinations_that_only_scale_share_a_table():
    tanh = mf.activation("tanh")
    one, width, height = (-0.5 * tanh).standard()
    assert one is tanh
    assert (float(width), float(height)) == (1.0, -0.5)
    two = tanh + tanh
    assert two.standard()[0] is two


def test_outside_its_range_a_table_is_silent():
    table = tabulate(mf.activation("tanh")).table
    found = table.pairs
    low, high = found.range
    assert low == np.exp(PAIRS[0])
    assert 1e3 < high < np.exp(PAIRS[-1])
    for q in (np.exp(PAIRS[0]) / 2, low / 1.01, high * 1.01, np.exp(PAIRS[-1]) * 2):
        assert np.isnan(found.gaps(q, 0.5)).all()
    for q in (np.exp(WIDE[0]) / 1.01, np.exp(WIDE[-1]) * 1.01):
        assert np.isnan(table.read(table.second_moment, q))
    assert np.isfinite(found.gaps(low * 1.01, 0.0)).all()
    for theta in (-1e-9, 3.15):
        assert np.isnan(found.gaps(1.0, theta)).all()
    acute = tabulate(mf.activation("tanh"), ("acute",)).table
    np.testing.assert_array_equal(acute.pairs.angles, ACUTE)
    assert np.isnan(acute.pairs.gaps(1.0, 1.58)).all()
    assert np.isnan(acute.read(acute.second_moment, 1.0))


def test_a_table_that_quadrature_contradicts_has_no_pairs(monkeypatch):
    phi = mf.activation("leaky_relu", negative_slope=0.3)
    right = pair_table.differences

    def slightly(*args):
        found = right(*args)
        return found._replace(value=found.value * (1 + 1e-6))

    monkeypatch.setattr(pair_table, "differences", slightly)
    found = tabulate(phi).table
    assert np.isnan(found.pairs.range).all()
    assert found.error <= 1
    pair_table.tabulated_pairs.cache_clear()


def test_activations_of_arrays_have_no_table():
    with pytest.raises(mf.MeanFieldError, match="single numbers"):
        tabulate(mf.activation("shtanh", a=np.array([1.0, 2.0])))


def agrees_with_pairs(phi, low, high, count=12):
    """Assert that a table of pairs reaches so far, and is right at random points."""
    found = tabulate(phi)
    least, most = found.table.pairs.range
    assert least <= low
    assert most >= high
    random = np.random.default_rng(1)
    q = np.exp(random.uniform(np.log(low), np.log(high), count))
    theta = np.append(10 ** random.uniform(-4, 0, count - 2), [2.0, 3.1])
    epsilon = 2 * np.sin(theta / 2) ** 2
    for read, known in ((decorrelation, theta <= np.pi), (slope_covariance, theta <= np.pi / 2)):
        ours = np.asarray(read_off(read, found.bare(), q, epsilon))
        # Few cells between are not certified.
        known = known & np.isfinite(ours)
        assert known.sum() >= count - 4
        exact = np.asarray(read(phi, q, epsilon))
        np.testing.assert_allclose(ours[known], exact[known], rtol=2e-9)


def test_pairs_of_many_kinks():
    tanh = mf.activation("tanh")
    kinked = sum((mf.shift(mf.activation("relu"), float(x)) for x in range(1, 6)), tanh)
    agrees_with_pairs(kinked, 1e-5, 100.0)


def quantiser(x):
    return jnp.clip(jnp.round(4 * x) / 4, -2.0, 2.0)


@pytest.mark.parametrize(
    ("function", "low", "high"),
    [
        (lambda x: jnp.where(x > 0, 1.0, -1.0), 2e-6, 1e3),
        (lambda x: jnp.sign(x) + jnp.tanh(x), 2e-6, 400.0),
        (jnp.floor, 2e-6, 100.0),
        (quantiser, 1e-3, 5.0),
    ],
    ids=["sign", "sign and tanh", "floor", "quantiser"],
)
def test_pairs_of_what_jumps(function, low, high):
    phi = mf.from_callable(function)
    agrees_with_pairs(phi, low, high)
    found = tabulate(phi)
    assert np.isinf(found.slope_moment(1.0, 2))
    assert np.isinf(found.deficit(1.0, 0.5))
    assert np.isinf(found.slope_gap(1.0, 0.5))
    assert float(found.variance_slope(1.3)) == pytest.approx(
        float(phi.variance_slope(1.3)), rel=1e-10
    )
    assert np.isnan(found.edge_deficit(1.0))
