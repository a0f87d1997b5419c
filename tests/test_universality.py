"""Branches and marked points of the edge, and the class that an activation belongs to."""

import jax.numpy as jnp
import numpy as np
import pytest

import meanfield as mf
from meanfield._struct import OnHost, struct

OK, NONE, LOST = mf.Status.OK, mf.Status.NO_SOLUTION, mf.Status.NOT_CONVERGED

# φ: K*, C_W = σw², C_b = σb² of its half-stable point, by mpmath; arXiv:2106.10165 has the first
# two to 8 digits.
HALF_STABLE = {
    "gelu": (3.56155281280883, 1.98305825743755, 0.172922390756067),
    "swish": (14.3201736180258, 1.98800467826949, 0.55514317072153),
    "mish": (1.670169132478, 2.013524069720, 0.094521787371),
}

# (q, σw, V') at σb = 0.2.
BRANCHES = {
    "tanh": (0.512078504234, 1.304145840057, 0.54256426),
    "elu": (1.10693054, 1.22925112, 0.859777),
    "erf": (0.46576294, 1.15279541, 0.517725),
    "sin": (0.50975176, 1.21233319, 0.530248),
    "selu": (0.71704911, 0.93747558, 0.742918),
    "swish": (0.6894525, 1.6795316, 1.098728),
    "gelu": (0.57563712, 1.54700947, 1.095041),
    "mish": (0.74554947, 1.46343921, 1.024506),
}


@pytest.fixture(scope="module")
def curves():
    return {name: mf.edge_curve(mf.activation(name)) for name in (*HALF_STABLE, "sigmoid")}


@pytest.mark.parametrize("name", BRANCHES)
def test_published_edges(name):
    q, sigma_w, slope = BRANCHES[name]
    point = mf.edge_of_chaos(mf.activation(name), 0.2)
    assert point.q == pytest.approx(q, rel=1e-7)
    assert point.sigma_w == pytest.approx(sigma_w, rel=1e-7)
    assert point.slope == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("name", HALF_STABLE)
def test_half_stable_points(curves, name):
    q, weight, bias = HALF_STABLE[name]
    point = curves[name].half_stable
    assert point.q.shape == (1,)
    assert point.q[0] == pytest.approx(q, rel=1e-11)
    assert point.sigma_w[0] ** 2 == pytest.approx(weight, rel=1e-11)
    assert point.sigma_b[0] ** 2 == pytest.approx(bias, rel=1e-10)
    # Below it the edge is unstable, above it stable.
    line = curves[name]
    sure = np.abs(np.asarray(line.curve.slope) - 1) > 1e-6
    below = np.asarray(line.curve.q) < q
    assert (np.asarray(line.stable) == ~below)[sure].all()


def test_sigmoid_has_an_edge_from_45_on(curves):
    line = curves["sigmoid"]
    assert line.ends.q == pytest.approx([45.6242777973797128], rel=1e-12)
    assert line.ends.sigma_w[0] ** 2 == pytest.approx(103.007553855519322, rel=1e-12)
    exists = np.asarray(line.curve.status) == OK
    assert (exists == (np.asarray(line.curve.q) > 45.62)).all()
    assert np.asarray(line.stable)[exists].all()
    assert set(np.asarray(line.curve.status)[~exists]) == {NONE}


def test_branches_without_bias():
    phi = mf.activation("gaussian")
    points = mf.edge_branches(phi, 0.0)
    # E φ'² and E φ² of exp(-x²) are (1 + 4q)^(-3/2) 4q and (1 + 4q)^(-1/2): 4q² = 1 + 4q.
    assert points.q == pytest.approx([(1 + np.sqrt(2)) / 2], rel=1e-12)
    assert points.sigma_b.tolist() == [0]


class Scripted(OnHost):
    """An activation in name: its edge is σw = 1, σb² as it is told along t = log q."""

    def __init__(self, bias):
        self.bias = np.polynomial.Polynomial(bias)

    def pick(self, _places):
        return self

    def slope_moment(self, q, _power):
        return np.ones_like(q)

    def edge_deficit(self, q):
        return self.bias(np.log(q))

    def edge_bias(self, q):
        return self.edge_deficit(q), self.bias.deriv()(np.log(q)) / q

    def variance_slope(self, q):
        return 0.5 * np.ones_like(q)


@struct
class Cubic(mf.Activation):
    """1000 σb² = 3 + t³ - 3t."""

    def __call__(self, x):
        return x

    def on_host(self, _width, _height, _own):
        return Scripted([0.003, -0.003, 0, 0.001])


def test_branches_meet_in_folds():
    line = mf.edge_curve(Cubic())
    assert np.log(line.folds.q) == pytest.approx([-1, 1], abs=1e-12)
    assert 1000 * line.folds.sigma_b**2 == pytest.approx([5, 1], rel=1e-12)
    bias_variance = np.array([0.5, 1, 3, 5, 7]) / 1000
    points = mf.edge_branches(Cubic(), np.sqrt(bias_variance))
    expected = [
        [np.nan] * 3,
        [-2, 1, np.nan],
        [-np.sqrt(3), 0, np.sqrt(3)],
        [-1, 2, np.nan],
        [np.nan] * 3,
    ]
    expected[0][0] = float(min(np.polynomial.Polynomial([2.5, -3, 0, 1]).roots().real))
    expected[4][0] = float(max(np.polynomial.Polynomial([-4, -3, 0, 1]).roots().real))
    # At a double root q is known to half of the digits.
    assert np.log(points.q) == pytest.approx(np.array(expected), abs=1e-6, nan_ok=True)
    found = np.isfinite(expected)
    assert (np.asarray(points.status) == np.where(found, OK, NONE)).all()
    assert np.asarray(points.sigma_w)[found] == pytest.approx(1)


@pytest.mark.parametrize("name", ["tanh", "gelu", "sigmoid"])
def test_usual_edges_have_no_folds(name):
    line = mf.edge_curve(mf.activation(name))
    assert line.folds.q.size == 0
    exists = np.asarray(line.curve.status) == OK
    assert (np.diff(np.asarray(line.curve.sigma_b)[exists]) > 0).all()


def test_no_branch_is_said_to_be_none():
    points = mf.edge_branches(mf.activation("softplus"), [0.0, 0.3])
    assert points.status.tolist() == [[NONE], [NONE]]
    with pytest.raises(mf.MeanFieldError, match="sigma_b"):
        mf.edge_branches(mf.activation("softplus"), -1.0)


def test_an_edge_far_out():
    point = mf.edge_of_chaos(mf.activation("tanh"), [1e5, 1e7, 1e20])
    assert point.status.tolist() == [OK, OK, LOST]
    exact = mf.critical_point(mf.activation("tanh"), point.q[:2])
    assert exact.sigma_b == pytest.approx([1e5, 1e7], rel=1e-9)


# φ: class, K*, edge, smooth, stable.
CLASSES = {
    "relu": ("scale-invariant", 1.0, True, False, None),
    "abs": ("scale-invariant", 1.0, True, False, None),
    "tanh": ("K* = 0", 0.0, True, True, True),
    "elu": ("K* = 0", 0.0, True, True, True),
    "selu": ("K* = 0", 0.0, True, False, True),
    "hard_tanh": ("K* = 0", 0.0, True, False, True),
    "gelu": ("half-stable", 3.56155281280883, True, True, False),
    "sigmoid": ("none", np.nan, True, True, True),
    "softplus": ("none", np.nan, False, True, None),
    "srelu": ("none", np.nan, False, True, None),
}


@pytest.mark.parametrize("name", CLASSES)
def test_classes(name):
    universality, q, edge, smooth, stable = CLASSES[name]
    verdict = mf.classify(mf.activation(name))
    assert verdict.universality == universality
    assert verdict.q == pytest.approx(q, rel=1e-11, nan_ok=True)
    assert (verdict.edge, verdict.smooth, verdict.stable) == (edge, smooth, stable)
    if universality != "none":
        weight = {"relu": np.sqrt(2), "abs": 1.0, "tanh": 1.0, "elu": 1.0, "hard_tanh": 1.0}
        if name in weight:
            assert verdict.sigma_w == pytest.approx(weight[name], rel=1e-12)


def test_why_there_is_no_edge():
    assert "φ >= xφ'" in mf.classify(mf.activation("softplus")).why
    step = mf.from_callable(lambda x: jnp.where(x > 0, 1.0, 0.0), kinks=(0.0,))
    verdict = mf.classify(step)
    assert not verdict.edge
    assert not verdict.smooth
    assert "jumps" in verdict.why


def test_the_class_of_a_centred_softplus():
    # Without its value at 0 the softplus has an edge.
    verdict = mf.classify(mf.centre(mf.activation("softplus")))
    assert verdict.edge
    point = mf.critical_point(mf.centre(mf.activation("softplus")), 1.0)
    assert point.sigma_w**2 == pytest.approx(3.4085598416231029829, rel=1e-13)
    assert point.sigma_b**2 == pytest.approx(0.031070433023238183513, rel=1e-12)


class Pair(Cubic):
    """Two critical points close to each other and none beside: 1000 σb² = 5 - t²."""

    def on_host(self, _width, _height, _own):
        return Scripted([0.005, 0, -0.001])


def test_two_close_branches_are_both_found():
    points = mf.edge_branches(struct(Pair)(), np.sqrt(0.004999))
    assert np.log(points.q) == pytest.approx([-np.sqrt(1e-3), np.sqrt(1e-3)], rel=1e-6)
    assert points.status.tolist() == [OK, OK]


def test_a_constant_has_no_edge():
    verdict = mf.classify(mf.from_callable(lambda x: 0 * x + 1.0, kinks=()))
    assert not verdict.edge
    assert verdict.why == "φ is constant"


def test_one_activation_at_a_time():
    many = mf.activation("elu", alpha=np.array([0.5, 1.0]))
    for question in (mf.classify, mf.edge_curve):
        with pytest.raises(mf.MeanFieldError, match="single numbers"):
            question(many)
        with pytest.raises(mf.MeanFieldError, match="must be an Activation"):
            question(3.0)


def test_half_stable_all_along_the_edge():
    """A shifted ReLU and soft shrinkage have V' = 1 wherever they are critical."""
    cases = {
        (lambda x: jnp.maximum(x - 1, 0.0)): 2.51057251938,
        (lambda x: jnp.sign(x) * jnp.maximum(jnp.abs(x) - 1, 0.0)): 1.77524285311,
    }
    for function, sigma_w in cases.items():
        found = mf.classify(mf.from_callable(function))
        assert (found.universality, found.stable) == ("half-stable", True)
        assert found.q == pytest.approx(1.0, rel=1e-12)
        assert found.sigma_w == pytest.approx(sigma_w, rel=1e-11)
        assert found.sigma_b == pytest.approx(0.724662180717, rel=1e-11)
