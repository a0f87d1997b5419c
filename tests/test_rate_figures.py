"""Laws of convergence followed to a depth of 1e5, reference values, and the figures of both.

The laws are confirmed by iterating the exact maps, not by expanding them. Maps that have no
closed form are tabulated: log(ε'/ε) as a Chebyshev series in log ε, checked against the map.
Reference numbers are from mpmath at 25 digits and more.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import meanfield as mf
from meanfield import plots
from meanfield.errors import MeanFieldError, Status
from meanfield.maps import decorrelation_map
from meanfield.rates import Regime
from meanfield.studies import hayou2019, srelu2026

DEPTH = 100_000
RELU = 4.5 * np.pi**2


def constant_of(values, exponent, quarter=DEPTH // 4):
    """Return the K of value ~ K/l^p from the values at l = n, 2n and 4n.

    value^(-1/p) = l/K^(1/p) + g log l + h + ...: a second difference leaves the first term.
    """
    y = np.asarray(values) ** (-1 / exponent)
    return (quarter / (y[2] - 2 * y[1] + y[0])) ** exponent


def confirm(values, rate, exponent, rtol):
    assert int(rate.status) == Status.OK
    assert float(rate.exponent) == exponent
    assert constant_of(values, exponent) == pytest.approx(float(rate.constant), rel=rtol)


# Maps with closed forms, or a one-dimensional integral: activation, σb, power.
DIRECT = {
    "erf": (mf.activation("erf"), 0.2, 1),
    "sin": (mf.activation("sin"), 0.2, 1),
    "relu": (mf.activation("relu"), 0.0, 2),
    "leaky_relu": (mf.activation("leaky_relu", negative_slope=0.1), 0.0, 2),
    "hard_tanh": (mf.activation("hard_tanh"), 0.2, 2),
}


@functools.cache
def direct(name):
    """Return the critical variance, and 1 - c through 1e5 layers from c = 0."""
    phi, sigma_b, _ = DIRECT[name]
    point = mf.check(mf.edge_of_chaos(phi, sigma_b))
    layer = mf.Dense(phi, point.sigma_w, sigma_b)
    return point.q, np.asarray(mf.rollout(layer, point.q, point.q, 0.0, DEPTH).epsilon)


@pytest.mark.parametrize("name", DIRECT)
def test_law_by_iterating_the_map(name):
    phi, _, exponent = DIRECT[name]
    q, epsilon = direct(name)
    values = epsilon[[DEPTH // 4, DEPTH // 2, DEPTH]]
    confirm(values, mf.convergence_rate(phi, q), exponent, 1e-5)


def test_relu_through_ten_thousand_layers():
    _, epsilon = direct("relu")
    references = {
        1: 0.681690113816209,
        2: 0.506268909799628,
        5: 0.264053649372363,
        10: 0.128464483978482,
        100: 0.00357685331605237,
        1000: 4.3129732549214e-5,
        10_000: 4.42519273598013e-7,
    }
    for layer, value in references.items():
        assert epsilon[layer] == pytest.approx(value, rel=1e-11)
    assert DEPTH**2 * epsilon[DEPTH] == pytest.approx(44.394, abs=5e-4)


class Table:
    """log(ε'/ε) of an exact map on the edge, tabulated for ε in [low, 1]."""

    def __init__(self, phi, q, low, size=48):
        point = mf.check(mf.critical_point(phi, q))
        self.layer, self.q, self.low = mf.Dense(phi, point.sigma_w, point.sigma_b), q, np.log(low)
        x = np.polynomial.chebyshev.chebpts1(size)
        growth = self.layer.growth(q, np.exp(self.low * (1 - x) / 2))
        self.series = np.polynomial.chebyshev.chebfit(x, np.log(-np.asarray(growth)), size - 1)

    def check(self, count=12, rtol=1e-11):
        epsilon = np.exp(self.low * np.random.default_rng(1).uniform(0, 1, count))
        x = 1 - 2 * np.log(epsilon) / self.low
        growth = -np.exp(np.polynomial.chebyshev.chebval(x, self.series))
        after = decorrelation_map(self.layer, self.q, epsilon)
        np.testing.assert_allclose(epsilon * np.exp(growth), after, rtol=rtol)

    def follow(self, start, depths):
        """Return ε at each of the ascending depths."""
        logs, at, values = jnp.log(start), 0, []
        for depth in depths:
            logs = _iterate(self.series, self.low, logs, depth - at)
            at = depth
            values.append(float(jnp.exp(logs)))
        return np.array(values)


@jax.jit
def _iterate(series, low, logs, steps):
    def step(_, logs):
        x = 1 - 2 * logs / low
        last, before = jnp.zeros_like(x), jnp.zeros_like(x)
        for c in series[:0:-1]:
            last, before = c + 2 * x * last - before, last
        return logs - jnp.exp(series[0] + x * last - before)

    return jax.lax.fori_loop(0, steps, step, logs)


# Activation, variance on the edge, power, smallest ε of the table.
TABLED = {
    "tanh": (mf.activation("tanh"), 0.512078504234, 1, 2e-5),
    "gelu": (mf.activation("gelu"), 6.4341024867, 1, 5e-6),
    "elu alpha=2": (mf.activation("elu", alpha=2.0), 1.0, 2, 1e-9),
    "selu": (mf.activation("selu"), 0.71704911, 2, 1e-9),
}


@pytest.mark.parametrize("name", TABLED)
def test_law_by_iterating_a_table_of_the_map(name):
    phi, q, exponent, low = TABLED[name]
    table = Table(phi, q, low)
    table.check()
    values = table.follow(0.5, [10, 100, 1000, DEPTH // 4, DEPTH // 2, DEPTH])
    assert values[-1] > low
    confirm(values[3:], mf.convergence_rate(phi, q), exponent, 1e-5)
    if name == "tanh":
        references = [0.31823745072867, 0.066874673125624, 0.0071053345072777]
        np.testing.assert_allclose(values[:3], references, rtol=1e-9)


def test_a_small_kink_rules_in_the_end():
    """ε' = ε - ε²/β - s ε^(3/2): l = (2/s) (u - log(1 + sβu)/(sβ)) with u = ε^(-1/2)."""
    phi = 0.99 * mf.activation("tanh") + 0.15 * mf.activation("relu")
    q = 0.5
    rate = mf.convergence_rate(phi, q)
    assert int(rate.regime) == Regime.KINKED
    kinked, crossover = float(rate.constant), float(rate.crossover)
    smooth = kinked / crossover
    assert 5e3 < crossover < 5e4

    table = Table(phi, q, 1e-8)
    table.check()
    depths = np.array([100, 200, 400, 2 * 10**4, 5 * 10**5, 10**6, 2 * 10**6])
    epsilon = table.follow(0.5, depths.tolist())
    early = -np.log2(epsilon[1] / epsilon[0]), -np.log2(epsilon[2] / epsilon[1])
    assert max(early) < 1.15
    # It has not forgotten where it started, nor is the kink quite without effect.
    assert 400 * epsilon[2] == pytest.approx(smooth, rel=0.25)
    assert -np.log2(epsilon[-1] / epsilon[-2]) > 1.9
    s = 2 / np.sqrt(kinked)
    u = epsilon[3:] ** -0.5
    law = 2 / s * (u - np.log1p(s * smooth * u) / (s * smooth))
    np.testing.assert_allclose(depths[3:] / law, 1, atol=0.02)


@pytest.mark.parametrize("name", ["tanh", "sin", "elu", "selu"])
def test_law_of_a_variance_that_vanishes(name):
    phi = mf.activation(name)
    point = mf.check(mf.edge_of_chaos(phi, 0.0))
    assert float(point.q) == 0
    layer = mf.Dense(mf.tabulate(phi, ["moments"]), point.sigma_w)

    @jax.jit
    def follow(q, steps):
        return jax.lax.fori_loop(0, steps, lambda _, q: layer.variance(q), q)

    values, q, at = [], 1.0, 0
    for depth in (DEPTH // 4, DEPTH // 2, DEPTH):
        q, at = follow(q, depth - at), depth
        values.append(float(q))
    rate = mf.convergence_rate(phi, 0.0)
    constant, exponent = {
        "tanh": (0.5, 1),
        "sin": (1.0, 1),
        "elu": (2 * np.pi, 2),
        "selu": (None, 2),
    }[name]
    confirm(values, rate, exponent, 1e-5)
    if constant is not None:
        assert float(rate.constant) == pytest.approx(constant, rel=1e-9)


def test_hard_tanh_constant():
    q, _ = direct("hard_tanh")
    assert float(q) == pytest.approx(0.423286641940, rel=1e-11)
    rate = mf.convergence_rate(mf.activation("hard_tanh"), q)
    assert float(rate.constant) == pytest.approx(361.61200741, rel=2e-11)
    assert float(rate.crossover) == 0


def test_leaky_relu_constants():
    a = np.array([0.0, 0.01, 0.1, 0.2])
    rate = mf.convergence_rate(mf.activation("leaky_relu", negative_slope=a), 1.0)
    references = [RELU, 46.2443133540, 69.0533844276, 117.278658547]
    np.testing.assert_allclose(rate.constant, references, rtol=1e-11)
    np.testing.assert_allclose(rate.constant, RELU * ((1 + a**2) / (1 - a) ** 2) ** 2, rtol=1e-13)


def test_tanh_constants():
    q = [0.273300913458, 0.512078504234, 0.763474766910, 1.461169446932, 3.036396394624]
    sigma_b = [0.1, 0.2, 0.3, np.sqrt(0.3), 1.0]
    sigma_w = [1.193400725024, 1.304145840057, 1.395583975155, 1.582759359372, 1.855589101139]
    beta = [16.6392884840, 7.0837378249, 4.2826952218, 1.9926908444, 0.8897370612]
    phi = mf.activation("tanh")
    point, rate = mf.critical_point(phi, q), mf.convergence_rate(phi, q)
    np.testing.assert_allclose(point.sigma_b, sigma_b, rtol=1e-11)
    np.testing.assert_allclose(point.sigma_w, sigma_w, rtol=1e-11)
    np.testing.assert_allclose(rate.constant, beta, rtol=1e-10)
    assert np.all(rate.exponent == 1)
    assert np.all(np.isinf(rate.crossover))


# Variance, then σw, σb, V', β; and at half-stable points σw², σb².
STABLE = {
    "gelu": (6.4341024867, 1.3998682164, 0.5, 0.98587167, 1.33033426),
    "swish": (39.3945912249, 1.4025124180, 1.0, 0.98667747, 0.92388577),
}
HALF_STABLE = {
    "gelu": (3.56155281280883, 1.98305825743755, 0.172922390756067),
    "swish": (14.3201736180258, 1.98800467826949, 0.55514317072153),
    "mish": (1.670169132478, 2.013524069720, 0.094521787371),
}


@pytest.mark.parametrize("name", STABLE)
def test_stable_points(name):
    q, sigma_w, sigma_b, slope, beta = STABLE[name]
    phi = mf.activation(name)
    point, rate = mf.critical_point(phi, q), mf.convergence_rate(phi, q)
    assert float(point.sigma_w) == pytest.approx(sigma_w, rel=1e-10)
    assert float(point.sigma_b) == pytest.approx(sigma_b, rel=1e-10)
    assert float(point.slope) == pytest.approx(slope, abs=5e-9)
    assert float(rate.constant) == pytest.approx(beta, abs=1e-8)
    assert rate.law.startswith("1 - c ~ ")


@pytest.mark.parametrize("name", HALF_STABLE)
def test_half_stable_points(name):
    q, weight_variance, bias_variance = HALF_STABLE[name]
    point = mf.critical_point(mf.activation(name), q)
    assert float(point.sigma_w) ** 2 == pytest.approx(weight_variance, rel=2e-12)
    assert float(point.sigma_b) ** 2 == pytest.approx(bias_variance, rel=5e-12)
    assert float(point.slope) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("name", "q"), [("linear", 1.0), ("relu", 0.0), ("gelu", 0.0)])
def test_nothing_converges(name, q):
    rate = mf.convergence_rate(mf.activation(name), q)
    assert int(rate.status) == Status.NO_SOLUTION
    assert rate.law == "none"


def test_srelu_has_no_edge():
    q = [1e-4, 1.0, 10.0, 100.0, 400.0]
    phi = mf.activation("srelu")
    deficits = jax.jit(lambda q: jax.lax.map(phi.edge_deficit, q))(jnp.array(q))
    references = [-0.0351703, -0.10816, -0.326201, -1.02642, -2.05199]
    np.testing.assert_allclose(deficits, references, rtol=6e-6)
    # The asymptote -(9/35) √q/√(2π).
    assert float(deficits[-1]) == pytest.approx(-9 / 35 * 20 / np.sqrt(2 * np.pi), rel=1e-3)
    assert np.all(mf.critical_point(phi, q).status == Status.NO_SOLUTION)
    softplus = mf.activation("softplus")
    assert float(softplus.edge_deficit(1.0)) == pytest.approx(-0.62786687300120731594, rel=1e-12)


def test_centred_srelu_has_an_edge():
    phi = mf.centre(mf.activation("srelu"))
    point = mf.critical_point(phi, 1.0)
    assert float(point.sigma_w) ** 2 == pytest.approx(2.4761169658614662865, rel=1e-13)
    assert float(point.sigma_b) ** 2 == pytest.approx(0.051358719576380432925, rel=1e-12)
    rate = mf.convergence_rate(phi, 1.0)
    assert float(rate.constant) == pytest.approx(3.612463403578030718, rel=1e-12)
    zero = mf.correlation_map(mf.Dense(phi, point.sigma_w, point.sigma_b), 1.0, 0.0)
    assert float(zero) == pytest.approx(0.20609944404430595144, rel=1e-11)


def test_centred_softplus_has_an_edge():
    point = mf.critical_point(mf.centre(mf.activation("softplus")), 1.0)
    assert float(point.sigma_w) ** 2 == pytest.approx(3.4085598416231029829, rel=1e-13)
    assert float(point.sigma_b) ** 2 == pytest.approx(0.031070433023238183513, rel=1e-12)


def test_srelu_with_the_weights_of_relu():
    phi = mf.activation("srelu", delta=np.array([1.0, 0.25]))
    path = mf.rollout(mf.Dense(phi, np.sqrt(2.0)), 1.0, 1.0, 0.0, 300)
    at = np.array([10, 30, 100, 300])
    wide, narrow = np.asarray(path.epsilon)[:, at]
    np.testing.assert_allclose(wide, [4.893e-2, 9.377e-4, 2.2748e-8, 7.2148e-18], rtol=1e-4)
    np.testing.assert_allclose(narrow, [1.1898e-1, 1.9628e-2, 3.7756e-4, 1.4372e-8], rtol=5e-5)
    variances = [1.2300, 1.6392, 2.8055, 5.3000]
    np.testing.assert_allclose(np.asarray(path.q1)[0, at], variances, atol=5e-5)


def test_srelu_laws():
    """Far down, V - q and 1 - χ1 of σw² = 2, σb = 0 are those that the laws integrate."""
    assert srelu2026.growth_constant(1.0) == pytest.approx(0.11301789, rel=1e-7)
    assert srelu2026.decay_constant() == pytest.approx(0.915444872966, rel=1e-11)
    for delta in (0.5, 1.0):
        phi = mf.activation("srelu", delta=delta)
        layer = mf.Dense(phi, np.sqrt(2.0))
        # At q = C l^(2/3): dq/dl = (2/3) C^(3/2)/√q, and d(κ l^(2/3))/dl = (2/3) κ √(C/q).
        q = 1e6 * delta**2
        growth = 2 / 3 * srelu2026.growth_constant(delta) ** 1.5 / np.sqrt(q)
        assert float(layer.variance(q)) - q == pytest.approx(growth, rel=1e-3)
        rate = 2 / 3 * srelu2026.decay_constant() * np.sqrt(srelu2026.growth_constant(delta) / q)
        slope = 2 * float(phi.slope_moment(q, 2)) - 1
        assert -slope == pytest.approx(rate, rel=5e-3)


# The studies, small, and their figures.


@functools.cache
def study(name):
    return {
        "hayou2019-edge": lambda: hayou2019.edges(("relu", "tanh", "gelu"), points=9),
        "hayou2019-rates": lambda: hayou2019.rates({"relu": 0.0, "tanh": 0.2}, 30, points=9),
        "srelu2026-family": lambda: srelu2026.family(("epanechnikov", "bump"), points=13),
        "srelu2026-edge": lambda: srelu2026.missing_edge(points=5),
        "srelu2026-decay": lambda: srelu2026.decay((1.0,), 10, points=5),
    }[name]()


STUDIES = [
    "hayou2019-edge",
    "hayou2019-rates",
    "srelu2026-family",
    "srelu2026-edge",
    "srelu2026-decay",
]


@pytest.mark.parametrize("name", STUDIES)
def test_dataset_is_labelled_and_draws(name):
    dataset, record = study(name), plots.figures[name]
    for variable in dataset.variables.values():
        assert {"symbol", "long_name", "units"} <= set(variable.attrs)
    assert set(record.needs) <= set(dataset.variables)
    assert record.data is not None
    plots.draw(name, dataset)


def test_edges():
    dataset = study("hayou2019-edge")
    relu, gelu = dataset.sel(activation="relu"), dataset.sel(activation="gelu")
    np.testing.assert_array_equal(relu["sigma_b"], 0)
    np.testing.assert_allclose(relu["sigma_w"], np.sqrt(2), rtol=1e-14)
    assert dataset["half_stable_q"].isnull().values.tolist() == [True, True, False]
    assert float(gelu["half_stable_q"]) == pytest.approx(3.56155281280883, rel=1e-11)
    assert float(gelu["half_stable_sigma_b"]) == pytest.approx(0.4158393810, rel=1e-9)
    np.testing.assert_array_equal(gelu["stable"], gelu["q"] > gelu["half_stable_q"])
    assert (gelu["q"] == gelu["half_stable_q"]).sum() == 1
    assert dataset["stable"].sel(activation="tanh").all()


def test_rates_are_those_of_the_laws():
    dataset = study("hayou2019-rates")
    assert dataset["exponent"].values.tolist() == [2, 1]
    np.testing.assert_allclose(dataset["constant"], [RELU, 7.0837378249], rtol=1e-10)
    path = dataset["epsilon"].sel(activation="relu")
    # The study reads a table, whose pairs are right to 1e-12.
    np.testing.assert_allclose(path, direct("relu")[1][path["layer"]], rtol=2e-12)


def test_family_errors():
    dataset = study("srelu2026-family")
    errors = dataset["sup_error"].sel(kernel="epanechnikov")
    np.testing.assert_allclose(errors, 3 * dataset["radius"] / 16, rtol=1e-14)
    bump = float(dataset["sup_error"].sel(kernel="bump", radius=1.0))
    assert bump == pytest.approx(0.16722699885498766, rel=1e-13)
    relu = np.maximum(dataset["x"], 0)
    np.testing.assert_allclose(dataset["phi"] - relu, dataset["excess"], atol=1e-15)
    at_zero = dataset["curvature"].sel(kernel="epanechnikov", x=0)
    np.testing.assert_allclose(at_zero, 0.75 / dataset["radius"], rtol=1e-13)


def test_needed_bias_variances():
    dataset = study("srelu2026-edge")
    needed = dataset["needed"]
    assert (needed.sel(activation=["srelu", "softplus"]) < 0).all()
    assert (needed.sel(activation=["centred srelu", "centred softplus"]) > 0).all()
    marked = float(dataset["marked_bias_variance"])
    assert marked == pytest.approx(0.051358719576380432925, rel=1e-12)
    assert float(needed.sel(activation="centred srelu", q=1)) == pytest.approx(marked, rel=1e-12)


def test_decay_keeps_the_variance_of_relu():
    dataset = study("srelu2026-decay")
    np.testing.assert_allclose(dataset["q"].sel(radius=0), 1, rtol=1e-14)
    last = dataset.sel(radius=1.0, layer=10)
    assert float(last["q"]) == pytest.approx(1.2300, abs=5e-5)
    assert float(last["epsilon"]) == pytest.approx(4.893e-2, rel=1e-4)


# Datasets with the shapes of the real ones, for what every figure must do.


def edges_data() -> xr.Dataset:
    sigma_b = np.array([[0.0] * 5, [0.0, 0.2, 0.4, 0.8, 1.2], [0.0, 0.2, 0.4, 0.8, 1.2]])
    slope = np.array([[1.0] * 5, [0.9, 0.6, 0.4, 0.2, 0.1], [1.0, 1.1, 1.0, 0.98, 0.99]])
    dims = ("activation", "point")
    return xr.Dataset(
        {
            "sigma_b": (dims, sigma_b),
            "sigma_w": (dims, 1.4 + 0.1 * sigma_b),
            "slope": (dims, slope),
            "stable": (dims, slope < 1),
            "half_stable_sigma_b": ("activation", [np.nan, np.nan, 0.4]),
            "half_stable_sigma_w": ("activation", [np.nan, np.nan, 1.44]),
        },
        coords={"activation": ["relu", "tanh", "gelu"]},
    )


def rates_data() -> xr.Dataset:
    layer, power = np.array([1, 10, 100, 1000]), np.array([2.0, 1.0])
    return xr.Dataset(
        {
            "epsilon": (("activation", "layer"), 1 / (1 + layer) ** power[:, None]),
            "exponent": ("activation", power),
            "constant": ("activation", [1.0, 1.0]),
            "sigma_b": ("activation", [0.0, 0.2]),
        },
        coords={"activation": ["relu", "tanh"], "layer": layer},
    )


def identity_data() -> xr.Dataset:
    sigma_b = np.array([0.01, 0.1, 1.0])
    dims = ("activation", "sigma_b")
    return xr.Dataset(
        {
            "slope": (dims, [[0.9, 0.8, 0.7], [1.1, 1.1, 0.9]]),
            "correlation_at_zero": (dims, [sigma_b / 4, sigma_b / 3]),
        },
        coords={"activation": ["tanh", "gelu"], "sigma_b": sigma_b},
    )


def family_data() -> xr.Dataset:
    x, radius = np.linspace(-3, 3, 7), np.array([0.5, 1.0])
    value = np.broadcast_to(radius[:, None] * np.exp(-(x**2)), (2, 2, 7))
    names = ("phi", "slope", "curvature", "excess")
    return xr.Dataset(
        dict.fromkeys(names, (("kernel", "radius", "x"), value))
        | {"sup_error": (("kernel", "radius"), value.max(axis=-1))},
        coords={"kernel": ["epanechnikov", "bump"], "radius": radius, "x": x},
    )


def missing_data() -> xr.Dataset:
    q = np.array([0.01, 1.0, 100.0])
    return xr.Dataset(
        {
            "needed": (("activation", "q"), [-np.sqrt(q), 0.05 * q]),
            "radius": 1.0,
            "marked_q": 1.0,
            "marked_bias_variance": 0.05,
        },
        coords={"activation": ["srelu", "centred srelu"], "q": q},
    )


def decay_data() -> xr.Dataset:
    layer, radius = np.array([1, 10, 100]), np.array([0.0, 1.0])
    power = layer ** (2 / 3)
    return xr.Dataset(
        {
            "q": (("radius", "layer"), [np.ones(3), 1 + power / 9]),
            "epsilon": (("radius", "layer"), [1 / (1 + layer) ** 2, np.exp(-power)]),
            "growth": ("radius", [0.0, 1 / 9]),
            "kappa": 0.9,
        },
        coords={"radius": radius, "layer": layer},
    )


def order_data() -> xr.Dataset:
    delta, weight, bias = np.array([0.5, 1.0]), np.linspace(0.5, 1.9, 5), np.array([0.0, 1.0])
    chi = weight[:, None] / (2 + delta[:, None, None]) + 0 * bias
    return xr.Dataset(
        {"chi": (("delta", "weight_variance", "bias_variance"), chi)},
        coords={"delta": delta, "weight_variance": weight, "bias_variance": bias},
    )


DATASETS = {
    "hayou2019-edge": edges_data,
    "hayou2019-rates": rates_data,
    "hayou2019-identity": identity_data,
    "srelu2026-family": family_data,
    "srelu2026-edge": missing_data,
    "srelu2026-decay": decay_data,
    "srelu2026-order": order_data,
}
# Lines in each panel.
LINES = {
    "hayou2019-edge": [5, 6],
    "hayou2019-rates": [4, 3],
    "hayou2019-identity": [3],
    "srelu2026-family": [3, 2, 2, 4, 2, 2],
    "srelu2026-edge": [4],
    "srelu2026-decay": [3, 4, 3],
    "srelu2026-order": [4, 4],
}


@pytest.mark.parametrize("name", DATASETS)
def test_figure_draws_its_dataset(name):
    dataset, record = DATASETS[name](), plots.figures[name]
    assert set(record.needs) == set(dataset.variables)
    assert "arXiv" in record.source
    fig = plots.draw(name, dataset)
    assert [len(ax.lines) for ax in fig.axes] == LINES[name]
    fig.draw_without_rendering()
    box = fig.get_tightbbox()
    width, height = fig.get_size_inches()
    assert min(box.x0, box.y0) > -0.02
    assert box.x1 < width + 0.02
    assert box.y1 < height + 0.02
    for need in record.needs:
        with pytest.raises(MeanFieldError, match=rf"\b{need}\b.*lacks"):
            plots.draw(name, dataset.drop_vars(need))


def test_unstable_stretches_are_dashed():
    left, right = plots.draw("hayou2019-edge", edges_data()).axes
    # ReLU's point; tanh; GELU up to its half-stable point, dashed, and from there on; the point.
    for ax in (left, right):
        point, tanh, dashed, solid, half_stable = ax.lines[:5]
        point, dashed_x, solid_x, half_stable_x = (
            np.asarray(line.get_xdata()) for line in (point, dashed, solid, half_stable)
        )
        assert point.tolist() == [0]
        assert [line.get_linestyle() for line in (tanh, dashed, solid)] == ["-", "--", "-"]
        assert dashed_x[-1] == solid_x[0] == half_stable_x[0] == 0.4


@pytest.mark.parametrize("name", ["hayou2019", "srelu2026"])
def test_config_lists_its_figures(name):
    spec = mf.load_config(name)
    assert set(spec.figures) == {x for x in plots.figures if x.startswith(f"{name}-")}
