"""Recommendations keep what they promise; where there is nothing to recommend they say so."""

import dataclasses
import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from test_cli import fails, run

import meanfield as mf
from meanfield.assessment import assess
from meanfield.errors import MeanFieldError
from meanfield.recommendation import critical_bias
from meanfield.studies.initialisation import promised_region


@pytest.fixture(scope="module")
def tanh():
    return mf.recommend(mf.activation("tanh"), 100)


def test_the_network_is_critical_and_as_bent_as_is_allowed(tanh):
    best = tanh.best
    assert best.trainable
    assert best.isometric
    assert tanh.choice is best
    assert tanh.cures == ()
    point = mf.edge_of_chaos(best.layer.phi, best.layer.sigma_b)
    assert best.layer.sigma_w == pytest.approx(float(point.sigma_w), rel=1e-12)
    assert best.q == pytest.approx(float(point.q), rel=1e-9)
    assert best.gradient == pytest.approx(1, abs=1e-10)
    assert best.spread_orthogonal == pytest.approx(2, abs=1e-7)
    assert best.spread_gaussian == pytest.approx(102, abs=1e-5)
    more = mf.critical_point(best.layer.phi, 1.01 * best.q)
    layer = mf.Dense(best.layer.phi, float(more.sigma_w), float(more.sigma_b), "orthogonal")
    moments = mf.jacobian_moments(layer, 1.01 * best.q, 100)
    assert float(moments.m2 / moments.m1**2) > 2


def test_what_is_told_is_what_the_parts_of_the_package_say(tanh):
    best = tanh.best
    path = mf.rollout(best.layer, best.q, best.q, 0.3 * best.q, 100)
    assert best.decorrelation[3] == pytest.approx(float(path.epsilon[-1]), rel=1e-10)
    spectrum = mf.jacobian_spectrum(best.layer, best.q, 100.0)
    assert best.largest == pytest.approx(float(spectrum.s_max), rel=1e-12)
    assert any("correlation 0 becomes 0.1652" in reason for reason in best.reasons)


@pytest.mark.parametrize("name", ["tanh", "hard_tanh", "relu"])
@pytest.mark.parametrize("ensemble", ["gaussian", "orthogonal"])
def test_the_largest_singular_value_is_that_of_the_spectrum(name, ensemble):
    sigma_b = 0.0 if name == "relu" else 0.3
    point = mf.edge_of_chaos(mf.activation(name), sigma_b)
    layer = mf.Dense(mf.activation(name), float(point.sigma_w), sigma_b, ensemble)
    depth, q = jnp.array([1.0, 10.0]), float(point.q)
    expected = mf.jacobian_spectrum(layer, q, depth).s_max
    np.testing.assert_allclose(mf.largest_singular_value(layer, q, depth), expected, rtol=1e-11)


def test_stretching_is_what_a_given_bias_needs():
    """The linear region of the scaled tanh that is needed grows in proportion to σb."""
    own = critical_bias(mf.activation("shtanh", a=1.0), 50)
    found = mf.recommend(mf.activation("shtanh", a=1.0), 50, sigma_b=0.3, free="a")
    assert found.parameter == pytest.approx(0.3 / own, rel=1e-5)
    assert found.best.trainable
    assert found.best.isometric
    assert found.best.layer.sigma_b == 0.3
    assert found.stretch == pytest.approx(1, abs=1e-5)
    assert critical_bias(mf.activation("shtanh", a=2.0), 50) == pytest.approx(2 * own, rel=1e-6)
    narrow = mf.recommend(mf.activation("shtanh", a=1.0), 50, sigma_b=0.3)
    assert narrow.stretch == pytest.approx(found.parameter, rel=1e-5)
    assert not narrow.best.isometric


def test_relu_is_cured_by_a_slope():
    found = mf.recommend(mf.activation("relu"), 100)
    assert not found.best.trainable
    assert found.best.critical
    assert found.best.layer.sigma_w == pytest.approx(math.sqrt(2), rel=1e-14)
    (cure,) = found.cures
    assert "0.57044 " in cure.words
    assert found.choice is cure.assessment
    assert cure.assessment.decorrelation[0] == pytest.approx(0.1, rel=1e-9)
    # What is printed is enough: the plain leaky ReLU with that σw.
    layer = cure.assessment.layer
    assert layer.phi.negative_slope == pytest.approx(0.570439531059, rel=1e-10)
    assert layer.sigma_w == pytest.approx(math.sqrt(2 / (1 + 0.570439531059**2)), rel=1e-10)
    assert cure.assessment.chi == pytest.approx(1, rel=1e-12)
    assert math.isnan(critical_bias(mf.activation("relu"), 100))


def test_no_edge_is_said_and_cured():
    found = mf.recommend(mf.centre(mf.activation("softplus")), 30)
    assert found.best is None or not found.best.trainable
    found = mf.recommend(mf.activation("softplus"), 30)
    assert found.best is None
    assert "there is no edge of chaos: φ >= 0" in found.why
    assert found.cures[-1].words.startswith("shape it")
    assert found.choice.trainable


def test_a_shallow_network_is_not_at_the_end_of_a_grid():
    """No GELU network of five layers acts alike on all directions; some can be trained."""
    found = mf.recommend(mf.activation("gelu"), 5).best
    assert found.trainable
    assert not found.isometric
    assert found.q < 100


def test_stretched_activations_have_stretched_biases():
    own = critical_bias(mf.activation("shtanh", a=1.0), 200)
    for a in (500.0, 1e-5):
        assert critical_bias(mf.activation("shtanh", a=a), 200) == pytest.approx(a * own, rel=1e-5)
    phi = mf.scale(mf.activation("shtanh", a=1.0))
    found = mf.recommend(phi, 200, sigma_b=0.3, free="rate")
    assert 1 / found.parameter == pytest.approx(0.3 / own, rel=1e-5)


def test_homogeneous_activations_have_no_stretch():
    for name, depth in (("linear", 10), ("relu", 1)):
        found = mf.recommend(mf.activation(name), depth, sigma_b=0.1)
        assert found.best is None
        assert found.stretch is None
        assert "no q > 0 at sigma_b = 0.1" in found.why


def test_what_overflows_and_what_is_not_known():
    deep = assess(mf.Dense(mf.activation("tanh"), 2.0, 0.1), 3000, 2.0)
    assert deep.gradient == math.inf
    assert not deep.critical
    thin = assess(mf.Dense(mf.activation("relu"), math.sqrt(2), 0.0), 200, 1.0, width=1)
    assert thin.width_spread == math.inf
    dropping = mf.Dense(mf.activation("tanh"), 1.0, 0.1, keep=0.5)
    q = float(mf.steady_state(dropping).q)
    found = assess(dropping, 3, q)
    assert found.chi == pytest.approx(
        2 * float(mf.activation("tanh").slope_moment(q, 2)), rel=1e-12
    )
    with pytest.raises(MeanFieldError, match="not legal with dropout"):
        assess(dropping, 3, q, width=10)


def test_the_largest_singular_value_is_checked_too():
    layer = mf.Dense(mf.activation("tanh"), 1.0, 0.1)
    for q, depth in ((-1.0, 1.0), (1.0, 0.0)):
        with pytest.raises(MeanFieldError, match="is not legal"):
            mf.largest_singular_value(layer, q, depth)
    jumping = mf.from_callable(lambda x: jnp.where(x > 0, 1.0 + x, 0.0), kinks=(0.0,))
    assert jnp.isnan(mf.largest_singular_value(mf.Dense(jumping, 1.0, 0.1), 1.0))


def test_sigmoid_is_centred(tanh):
    found = mf.recommend(mf.activation("sigmoid"), 100)
    assert not found.best.distinguishes
    assert found.cures[0].words == "centre it: φ(x) - 0.5"
    # φ(x) - 1/2 is tanh(x/2)/2.
    layer, other = found.choice.layer, tanh.best.layer
    assert layer.sigma_w == pytest.approx(4 * float(other.sigma_w), rel=1e-6)
    assert layer.sigma_b == pytest.approx(2 * float(other.sigma_b), rel=1e-6)


def test_units_of_relu_fluctuate_as_published():
    """5 L/N of Hanin and Nica (arXiv:1812.05994)."""
    layer = mf.Dense(mf.activation("relu"), math.sqrt(2), 0.0)
    found = assess(layer, 20, 1.0, width=200)
    assert found.layer.ensemble == "gaussian"
    assert math.log1p(found.width_spread**2) == pytest.approx(5 * 20 / 200, rel=1e-10)
    linear = assess(mf.Dense(mf.activation("abs"), 1.0, 0.0), 20, 1.0, width=200)
    assert linear.width_spread == 0


@pytest.mark.parametrize("sigma_b", [0.05, 0.3])
def test_networks_of_a_width_vary_as_is_said(sigma_b):
    point = mf.edge_of_chaos(mf.activation("tanh"), sigma_b)
    layer = mf.Dense(mf.activation("tanh"), float(point.sigma_w), sigma_b, "orthogonal")
    depth, width, networks, q = 10, 100, 600, float(point.q)
    found = assess(layer, depth, q, width)
    assert found.layer.ensemble == "orthogonal"
    seen = mf.simulate(layer, [width] * (depth + 1), q, networks=networks, jacobians=False)
    variance = np.log(seen.samples["gradient"][:, 0]).var(ddof=1)
    expected = math.log1p(found.width_spread**2)
    # To first order in 1/N, besides the networks' 4 standard errors.
    assert abs(variance / expected - 1) < 4 * math.sqrt(2 / networks) + 5 / width


def test_an_unstable_length_is_told():
    point = mf.critical_point(mf.activation("gelu"), 1.0)
    found = assess(mf.Dense(mf.activation("gelu"), point.sigma_w, point.sigma_b), 10, 1.0)
    assert not found.stable
    assert "V repels at q = 1" in found.reasons[1]
    assert not dataclasses.replace(found, gradient=0.0).critical


def test_mistakes(capsys):
    phi = mf.activation("tanh")
    for change, words in (
        ({"depth": 0}, "depth = 0 is not legal"),
        ({"depth": 2.0}, "depth = 2.0 is not legal"),
        ({"depth": 2, "width": 0}, "width = 0 is not legal"),
        ({"depth": 2, "free": "a"}, "free = 'a' is not legal; the parameters of φ are: none"),
        ({"depth": 2, "sigma_b": -1.0}, "sigma_b = -1.0 is not legal"),
    ):
        with pytest.raises(MeanFieldError, match=words):
            mf.recommend(phi, **change)
    assert "depth = 0 is not legal" in fails(capsys, "recommend", "tanh", "--depth", "0")
    assert "did you mean tanh" in fails(capsys, "recommend", "tahn", "--depth", "3")


def test_the_command():
    result = run("recommend", "tanh", "--depth", 100, "--width", 300)
    assert result.exit_code == 0, result.output
    assert "tanh, 100 layers: can be trained" in result.stdout
    assert "sigma_w = 1.03908428, sigma_b = 0.0089349" in result.stdout
    result = run("recommend", "relu", "--depth", 100, "--json")
    record = json.loads(result.stdout)
    assert record["best"]["trainable"] is False
    assert record["cures"][0]["trainable"] is True
    assert result.exit_code == 0
    result = run("recommend", "abs", "--depth", 100)
    assert result.exit_code == 0
    assert "no network of this depth was found that meets the criteria" in result.stdout


@pytest.mark.parametrize("depth", [10, 100, 1000])
def test_the_theorem_promises_far_less_than_holds(depth):
    """Its bound (15), once for each layer, is the harder one; it alone gives a power of 3/2."""
    promised = promised_region(depth)
    assert promised == pytest.approx(math.sqrt(8 / math.pi) * (depth / 0.9) ** 1.5, rel=1e-8)
    for name in ("shtanh", "ssaw"):
        assert 1 / critical_bias(mf.activation(name), depth) < promised


def test_where_all_variances_are_alike_one_stands_for_them():
    """Of a squared ReLU every variance is critical for some network, and repels."""
    found = mf.recommend(mf.from_callable(lambda x: jnp.maximum(x, 0.0) ** 2), depth=20).best
    assert (found.q, found.layer.sigma_b) == pytest.approx((1.0, 0.5), rel=1e-12)
    assert found.layer.sigma_w == pytest.approx(np.sqrt(0.5), rel=1e-12)
    assert found.slope == pytest.approx(1.5, rel=1e-12)
