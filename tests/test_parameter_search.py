"""Parameters that are found have what was asked of them, and are the nearest that do."""

import math

import numpy as np
import pytest

import meanfield as mf
from meanfield import design, parameter_search
from meanfield.activations import variance_gain
from meanfield.errors import MeanFieldError


def ratio(phi, sigma_b):
    point = mf.edge_of_chaos(phi, sigma_b)
    return float(phi.slope_moment(point.q, 4) / phi.slope_moment(point.q, 2) ** 2)


def test_the_linear_region_that_a_ratio_needs():
    """By bisection, as the ratio falls with a."""
    found = design(mf.activation("shtanh", a=1.0), 0.3, at_most={"moment_ratio": 1.01}, free=["a"])
    assert found.status == mf.Status.OK
    low, high = 1.0, 100.0
    for _ in range(40):
        middle = (low + high) / 2
        wide = ratio(mf.activation("shtanh", a=middle), 0.3) <= 1.01
        low, high = (low, middle) if wide else (middle, high)
    assert found.parameters["a"] == pytest.approx(high, rel=1e-6)
    assert found.values["moment_ratio"] == pytest.approx(1.01, rel=1e-9)
    assert float(found.point.sigma_b) == 0.3
    kept = design(found.activation, 0.3, at_most={"moment_ratio": 1.02}, free=["a"])
    assert kept.parameters["a"] == pytest.approx(found.parameters["a"], rel=1e-9)


def test_several_wishes_at_once():
    phi = mf.scale(mf.activation("tanh"))
    found = design(
        phi,
        0.3,
        at_most={"moment_ratio": 1.05, "max_deviation": 0.05, "slope": 0.95},
        at_least={"rate": 8.0},
        free=["rate", "gain"],
    )
    assert found.status == mf.Status.OK
    layer = mf.Dense(found.activation, found.point.sigma_w, 0.3)
    q = float(found.point.q)
    assert ratio(found.activation, 0.3) <= 1.05 * (1 + 1e-6)
    assert float(mf.correlation_map(layer, q, 0.0)) <= 0.05
    assert float(found.point.slope) <= 0.95
    assert float(mf.convergence_rate(found.activation, q).constant) >= 8
    # The gain of φ is absorbed by σw, and stays.
    assert found.parameters["gain"] == pytest.approx(1, abs=1e-6)


def test_swish_is_made_stable():
    """χ_∥ = V' = 1: the length is half-stable."""
    found = design(mf.activation("swish"), 0.3, at_most={"slope": 1.0})
    assert found.status == mf.Status.OK
    assert float(found.point.slope) == pytest.approx(1, abs=1e-8)
    # βx is all that it knows: β σb is that of the half-stable point.
    marked = mf.edge_curve(mf.activation("swish")).half_stable
    assert found.parameters["beta"] * 0.3 == pytest.approx(float(marked.sigma_b[0]), rel=1e-7)


def test_what_cannot_be_had_is_not_found():
    phi = mf.activation("leaky_relu", negative_slope=0.1)
    found = design(phi, 0.3, at_most={"slope": 1.0})
    assert found.status == mf.Status.NO_SOLUTION
    assert found.parameters == {"negative_slope": pytest.approx(0.1)}
    assert math.isnan(found.values["slope"])


def test_where_there_is_no_edge_nothing_is_searched_for(monkeypatch):
    """One look from each start: without an edge no derivative leads anywhere."""
    looks = []
    edge = parameter_search.edge_of_chaos

    def counted(*args):
        looks.append(args)
        return edge(*args)

    monkeypatch.setattr(parameter_search, "edge_of_chaos", counted)
    design(mf.activation("leaky_relu", negative_slope=0.1), 0.3, at_most={"slope": 1.0})
    assert len(looks) <= len(parameter_search.STARTS) + 2


def test_mistakes():
    phi = mf.activation("shtanh", a=2.0)
    for change, words in (
        ({}, "ask for something"),
        ({"at_most": {"ratio": 1.0}}, "unknown observable 'ratio'"),
        ({"at_most": {"slope": math.nan}}, "slope = nan is not legal"),
        ({"at_most": {"slope": 1.0}, "free": ["b"]}, "unknown parameter of φ 'b'"),
        ({"at_most": {"slope": 1.0}, "sigma_b": 0.0}, "sigma_b = 0.0 is not legal"),
        ({"at_most": {"slope": 1.0}, "phi": mf.activation("tanh")}, "must have parameters"),
    ):
        with pytest.raises(MeanFieldError, match=words):
            design(**({"phi": phi, "sigma_b": 0.3} | change))


# 1/√Var φ(z) by mpmath; the published constants are from samples, and off by 1e-3 (arXiv:2101.08692
# and its code give 1.71395886 for ReLU).
@pytest.mark.parametrize(
    ("name", "gain"),
    [
        ("relu", 1.7128585504),
        ("gelu", 1.7009262434),
        ("swish", 1.7871872221),
        ("tanh", 1.5925374197),
        ("elu", 1.2708434179),
        ("selu", 1.0),
        ("sigmoid", 4.8013133720),
        ("softplus", 1.9191259801),
        ("softsign", 2.3375333631),
        ("leaky_relu", 1.7048316272),
        ("relu6", 1.7128585550),
    ],
)
def test_gains_of_unit_variance(name, gain):
    np.testing.assert_allclose(variance_gain(mf.activation(name)), gain, rtol=1e-9)
