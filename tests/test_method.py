"""Tables and quadrature: the same numbers, whichever a user asks for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import meanfield as mf
from meanfield.activations import activations
from meanfield.errors import MeanFieldError, Status
from meanfield.layers import Covariance
from meanfield.method import PAYS, in_parallel, uses_table
from meanfield.observables import observables
from meanfield.propagation import SPAN
from meanfield.rollout_batch import _roll
from meanfield.sweep.spec import SweepSpec

SIGMA_B = np.array([0.0, 1e-7, 1e-3, 0.05, 0.4, 1.0, 3.0, 1e4])


def same(ours, theirs, rel=1e-10, floor=0.0):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=rel, atol=floor)


# The edge of chaos ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(activations))
def test_the_edge_of_every_activation(name):
    phi = mf.activation(name)
    exact = mf.edge_of_chaos(phi, SIGMA_B, "quadrature")
    found = mf.edge_of_chaos(phi, SIGMA_B, "table")
    np.testing.assert_array_equal(found.status, exact.status)
    for part in ("q", "sigma_w", "sigma_b"):
        same(getattr(found, part), getattr(exact, part))
    same(found.slope, exact.slope, floor=1e-11)


@pytest.mark.parametrize("name", ["shtanh", "sexp"])
def test_the_edge_of_a_family(name):
    phi = mf.activation(name, a=np.array([[1.0], [2.5], [40.0]]))
    sigma_b = np.array([0.03, 0.2, 2.0])
    exact = mf.edge_of_chaos(phi, sigma_b, "quadrature")
    found = mf.edge_of_chaos(phi, sigma_b, "table")
    assert found.q.shape == (3, 3)
    np.testing.assert_array_equal(found.status, exact.status)
    for part in ("q", "sigma_w", "sigma_b", "slope"):
        same(getattr(found, part), getattr(exact, part))


def test_many_networks_are_read_off_a_table(monkeypatch):
    def refuse(*_):
        raise AssertionError

    sigma_b = np.geomspace(1e-3, 2.0, PAYS)
    tanh = mf.activation("tanh")
    mf.edge_of_chaos(tanh, sigma_b)
    monkeypatch.setattr("meanfield.criticality._edge_of_chaos", refuse)
    edge = mf.edge_of_chaos(tanh, sigma_b)
    assert (edge.status == Status.OK).all()
    with pytest.raises(AssertionError):
        mf.edge_of_chaos(tanh, sigma_b[1:])
    with pytest.raises(AssertionError):
        # A table for each would not pay.
        mf.edge_of_chaos(mf.activation("sexp", a=np.linspace(1, 2, PAYS)), 0.1)


def test_the_edge_can_be_traced_whatever_its_size():
    def total(a):
        return mf.edge_of_chaos(mf.activation("hard_tanh", a=a), np.full(PAYS, 0.3)).q.sum()

    assert np.isfinite(jax.grad(total)(1.0))


# Limits and depth scales ---------------------------------------------------------------------


def test_limits_and_depth_scales_of_a_grid():
    sigma_w = np.linspace(0.6, 3.0, 5)[:, None]
    layer = mf.Dense(mf.activation("shtanh", a=np.array([1.0, 3.0])), sigma_w, 0.3)
    exact = mf.correlation_fixed_point(layer, 2.0, "quadrature")
    found = mf.correlation_fixed_point(layer, 2.0, "table")
    assert found.c.shape == (5, 2)
    np.testing.assert_array_equal(found.status, exact.status)
    same(found.epsilon, exact.epsilon, rel=1e-9)
    same(found.slope, exact.slope, rel=1e-8)
    one, other = (mf.depth_scales(layer, 2.0, method) for method in ("table", "quadrature"))
    for part in ("xi_q", "xi_c", "xi_grad"):
        same(getattr(one, part), getattr(other, part), rel=1e-7)


def test_many_networks_settle_by_a_table(monkeypatch):
    layer = mf.Dense(mf.activation("tanh"), np.linspace(0.5, 3.0, PAYS), 0.1)
    mf.correlation_fixed_point(layer)

    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr("meanfield.limits.steady_state", refuse)
    assert (mf.correlation_fixed_point(layer).status == Status.OK).all()
    with pytest.raises(AssertionError):
        mf.correlation_fixed_point(layer, method="quadrature")
    with pytest.raises(AssertionError):
        mf.correlation_fixed_point(layer, np.full(PAYS, 0.5))


# Pairs through many layers -----------------------------------------------------------------------

C = np.array([-1.0, -0.999, -0.4, 0.0, 0.3, 0.99, 1 - 1e-12, 1.0])


@pytest.mark.parametrize(
    ("name", "sigma_w", "sigma_b"),
    [
        ("tanh", 1.6, 0.0),
        ("gelu", 1.2, 0.3),
        ("elu", 1.2, 0.2),
        ("ssaw", 1.1, 0.4),
        ("relu", np.sqrt(2), 0.0),
        ("gaussian", 1.5, 0.5),
    ],
)
def test_rollouts(name, sigma_w, sigma_b):
    layer = mf.Dense(mf.activation(name), sigma_w, sigma_b)
    q = np.array([[0.7], [1.0]])
    exact = mf.rollout(layer, q, q, q * C, 12, "quadrature")
    found = mf.rollout(layer, q, q, q * C, 12, "table")
    assert found.epsilon.shape == (2, 8, 13)
    for part in ("q1", "q2", "epsilon"):
        # Of an even φ, c = -1 becomes 1, to rounding.
        floor = 1e-13 if name == "gaussian" else 1e-300
        same(getattr(found, part), getattr(exact, part), rel=1e-8, floor=floor)


def test_rollouts_of_all_depths_share_a_kernel():
    layer = mf.Dense(mf.activation("tanh"), 1.6, 0.1)
    found = mf.rollout(layer, 0.7, 0.7, 0.7 * C, 12, "table")
    kernels = _roll._cache_size()
    for depth in (0, 1, 5, 16):
        other = mf.rollout(layer, 0.7, 0.7, 0.7 * C, depth, "table")
        assert other.epsilon.shape == (8, depth + 1)
        least = min(depth, 12) + 1
        np.testing.assert_array_equal(other.epsilon[:, :least], found.epsilon[:, :least])
    assert _roll._cache_size() == kernels


def test_rollouts_where_the_variance_is_fixed():
    layer = mf.Dense(mf.activation("shtanh", a=2.0, k=1.1), 1.5, 0.3)
    q = mf.steady_state(layer).q
    exact = mf.rollout(layer, q, q, q * C, 12, "quadrature")
    found = mf.rollout(layer, q, q, q * C, 12, "table")
    same(found.epsilon, exact.epsilon, rel=1e-8, floor=1e-300)
    same(found.q1, exact.q1)


def test_pairs_that_a_table_does_not_know_are_left_to_quadrature():
    layer = mf.Dense(mf.activation("tanh"), 1.4, 0.2)
    # Unequal variances, and one beyond the table.
    q1, q2 = np.array([1.0, 1.0, 1e-7]), np.array([1.0, 2.0, 1e-7])
    exact = mf.rollout(layer, q1, q2, 0.5 * q1, 2, "quadrature")
    found = mf.rollout(layer, q1, q2, 0.5 * q1, 2, "table")
    for part in ("q1", "q2", "epsilon"):
        same(getattr(found, part), getattr(exact, part))


def refuse(*_):
    raise AssertionError


@pytest.mark.parametrize(
    ("name", "sigma_w", "sigma_b"),
    [
        ("tanh", 1.6, 0.0),
        ("gelu", 1.2, 0.3),
        ("hard_tanh", 1.5, 0.2),
        ("relu", 1.3, 0.1),
        ("softplus", 0.9, 0.3),
    ],
)
def test_rollouts_of_unequal_variances(name, sigma_w, sigma_b, monkeypatch):
    """Through more layers than are passed one by one."""
    layer = mf.Dense(mf.activation(name), sigma_w, sigma_b)
    q1, q2 = np.array([0.7, 1.0, 3.0]), np.array([1.1, 1.0 + 1e-9, 0.2])
    q12 = np.array([0.9, 0.0, -0.6]) * np.sqrt(q1 * q2)
    exact = mf.rollout(layer, q1, q2, q12, SPAN + 6, "quadrature")
    monkeypatch.setattr("meanfield.propagation._rollout", refuse)
    found = mf.rollout(layer, q1, q2, q12, SPAN + 6, "table")
    for part in ("q1", "q2"):
        same(getattr(found, part), getattr(exact, part), rel=3e-9)
    # Variances are rounded at 1e-16, which shows in ε where it is as small as their differences.
    seen = np.asarray(exact.epsilon) > 1e-15
    same(found.epsilon[seen], exact.epsilon[seen], rel=3e-9)
    same(found.epsilon[~seen], exact.epsilon[~seen], rel=1e-5, floor=1e-27)


def test_unequal_variances_that_no_table_helps_with():
    layer = mf.Dense(mf.activation("selu"), 1.0, 0.2)
    numbers = np.array([0.7, 1.0]), np.array([1.1, 1.0]), np.array([0.2, 0.9])
    exact = mf.rollout(layer, *numbers, 3, "quadrature")
    found = mf.rollout(layer, *numbers, 3, "table")
    same(found.epsilon, exact.epsilon, rel=1e-9)


def test_variances_that_differ_by_rounding_are_equal():
    layer = mf.Dense(mf.activation("tanh"), 0.9, 0.3)
    q, epsilon = 0.2, 1e-18
    even = layer.propagate(Covariance(q, q, epsilon))
    odd = layer.propagate(Covariance(q, np.nextafter(q, 1), epsilon))
    same(odd.epsilon, even.epsilon, rel=1e-14)


def test_many_fixed_points_of_unequal_variances():
    """Each pair is gone on with at the fixed point that it reached, or is left to quadrature."""
    layer = mf.Dense(mf.from_callable(lambda x: jnp.tanh(x * x)), 2.0, 0.1)
    q1, q2 = np.array([0.004, 0.02, 5.0, 1.0]), np.array([0.01, 0.001, 2.0, 7.0])
    exact = mf.rollout(layer, q1, q2, 0.5 * np.sqrt(q1 * q2), 80, "quadrature")
    found = mf.rollout(layer, q1, q2, 0.5 * np.sqrt(q1 * q2), 80, "table")
    assert np.unique(np.round(found.q1[:, -1], 9)).size == 2
    same(found.q1, exact.q1)
    same(found.epsilon, exact.epsilon, rel=1e-8, floor=1e-15)


# Sweeps --------------------------------------------------------------------------------------


def both(tmp_path, **spec):
    found = {}
    for method in ("table", "quadrature"):
        out = tmp_path / method
        path = mf.run_sweep(SweepSpec(name="sweep", method=method, **spec), out)
        found[method] = mf.open_results(path).load()
    table, quadrature = found.values()
    np.testing.assert_array_equal(table["status"], quadrature["status"])
    for name in quadrature.data_vars:
        # 1 - c* is known to 1e-9, and so is what follows from it.
        same(table[name], quadrature[name], rel=1e-8, floor=1e-9)
    return table


@pytest.mark.parametrize("name", ["gelu", "hard_tanh"])
def test_sweeps_of_networks(name, tmp_path):
    kept = [n for n in observables if set(observables[n].parameters) <= {"a"}]
    names = [n for n in kept if name == "hard_tanh" or not observables[n].parameters]
    axes = {"sigma_w": [0.5, 1.0, 1.5, 2.1], "sigma_b": [0.0, 0.2]}
    table = both(tmp_path, activations=[name], observables=names, axes=axes)
    assert Status.OK in table["status"]


def test_sweeps_on_the_edge(tmp_path):
    names = ["moment_ratio", "max_deviation", "max_deviation_full", "linear_width"]
    table = both(
        tmp_path,
        activations=["shtanh", "sexp"],
        on="edge_of_chaos",
        observables=names,
        axes={"a": [0.2, 1.0, 3.0], "sigma_b": [0.0, 0.1, 1.0]},
    )
    assert Status.OUT_OF_DOMAIN in table["status"]
    # On the edge of an odd φ, R(ρ) - ρ is largest at the ends: R(0) = σb²/q*.
    known = (table["status"] == Status.OK).values
    assert known.sum() >= 8
    ratio = table["max_deviation"] * table["q"] / np.square(table["sigma_b"])
    same(ratio.values[known], 1.0)
    same((table["max_deviation_full"] / table["max_deviation"]).values[known], 2.0)


# What is not legal ---------------------------------------------------------------------------


def test_what_cannot_be_read_off_a_table_is_said():
    tanh, relu = mf.activation("tanh"), mf.activation("relu")
    layer = mf.Dense(tanh, 1.5, 0.1)
    cases = [
        (lambda: mf.edge_of_chaos(tanh, 0.1, "tabel"), "method = 'tabel' is not legal"),
        (lambda: jax.jit(lambda b: mf.edge_of_chaos(tanh, b, "table"))(0.1), "traced"),
        (lambda: mf.rollout(layer >> layer, 1.0, 1.0, 0.5, 3, "table"), "not a Dense one"),
        (
            lambda: mf.rollout(mf.Dense(tanh, 1.5, keep=0.5), 1.0, 1.0, 0.5, 3, "table"),
            "no dropout, keep = 0.5",
        ),
        (
            lambda: mf.rollout(mf.Dense(tanh, np.array([1.0, 2.0])), 1.0, 1.0, 0.5, 3, "table"),
            "not a single one",
        ),
        (lambda: mf.depth_scales(layer >> layer, 1.0, "table"), "not a Dense one"),
        (lambda: mf.depth_scales(layer, np.ones(2), "table"), "q0 is not a single number"),
        (lambda: mf.rollout(mf.Dense(relu, 1.0), -1.0, 1.0, 0.5, 3, "table"), "q1 = -1.0"),
    ]
    for call, words in cases:
        with pytest.raises(MeanFieldError, match=words):
            call()


def test_what_jumps_has_no_edge():
    step = mf.from_callable(lambda x: (x > 0) * 1.0)
    sigma_b = np.array([0.0, 0.1, 2.0])
    exact = mf.edge_of_chaos(step, sigma_b, "quadrature")
    found = mf.edge_of_chaos(step, sigma_b, "table")
    assert (exact.status != Status.OK).all()
    np.testing.assert_array_equal(found.status, exact.status)
    assert np.isnan(found.q).all()


def test_a_table_is_taken_where_it_pays():
    assert uses_table("auto", PAYS, lambda: "")
    assert not uses_table("auto", PAYS - 1, lambda: "")
    assert not uses_table("auto", PAYS, lambda: "it cannot")
    assert uses_table("table", 1, lambda: "")
    assert not uses_table("quadrature", PAYS, lambda: "")
    assert mf.edge_of_chaos(mf.activation("tanh"), np.zeros(0), "table").q.shape == (0,)


def test_pieces_have_one_length_and_keep_their_order():
    lengths = []

    def square(places):
        lengths.append(places.size)
        return {"x": places**2}

    found = in_parallel(square, np.arange(10), 4)
    np.testing.assert_array_equal(found["x"], np.arange(10) ** 2)
    assert lengths == [4, 4, 4]
