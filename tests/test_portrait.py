"""All fixed points of a variance map, with their basins; and what has none says so."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

import meanfield as mf

OK, DIVERGES, VANISHES = mf.Status.OK, mf.Status.DIVERGES, mf.Status.VANISHES
NONE, LOST, NONFINITE = mf.Status.NO_SOLUTION, mf.Status.NOT_CONVERGED, mf.Status.NONFINITE
HALF_STABLE = 3.56155281280883, 1.98305825743755, 0.172922390756067


def portrait(phi, weight_variance, bias_variance):
    phi = mf.activation(phi) if isinstance(phi, str) else phi
    return mf.fixed_points(mf.Dense(phi, np.sqrt(weight_variance), np.sqrt(bias_variance)))


def test_gelu_has_three():
    points = portrait("gelu", 1.995, 0.15)
    q = [0.946725827915, 3.98608734809, 35.8852770659]
    assert points.q == pytest.approx(q, rel=1e-11)
    assert points.slope == pytest.approx([0.966193, 1.005806, 0.998281], abs=1e-6)
    assert points.stable.tolist() == [True, False, True]
    assert points.status.tolist() == [OK] * 3
    assert points.basin_low == pytest.approx([0, q[1], q[1]])
    assert points.basin_high == pytest.approx([q[1], q[1], np.inf])


# φ, σw², σb²: (q, stable, status) of each point.
PORTRAITS = {
    "one stable, one not, divergence": (
        ("gelu", 2.0, 0.1),
        [(0.340830009666, True, OK), (11.2978711966, False, OK), (np.inf, True, DIVERGES)],
    ),
    "swish": (
        ("swish", 2.05, 0.1),
        [(0.244475288728, True, OK), (15.1503471348, False, OK), (np.inf, True, DIVERGES)],
    ),
    "nothing but zero": (("gelu", 2.0, 0.0), [(0, True, VANISHES)]),
    "zero, and an unstable one": (
        ("gelu", 2.1, 0.0),
        [(0, True, VANISHES), (3.10536821885, False, OK), (np.inf, True, DIVERGES)],
    ),
    "zero repels": (("tanh", 2.0, 0.0), [(0, False, VANISHES), (0.617964769769, True, OK)]),
    "zero attracts like a power": (("tanh", 1.0, 0.0), [(0, True, VANISHES)]),
    "a line through the origin": (("relu", 1.9, 0.1), [(2.0, True, OK)]),
    "all are fixed": (("relu", 2.0, 0.0), [(0, False, VANISHES), (1.0, False, OK)]),
    "all diverge": (("relu", 2.1, 0.1), [(np.inf, True, DIVERGES)]),
    "all diverge without biases": (
        ("relu", 2.1, 0.0),
        [(0, False, VANISHES), (np.inf, True, DIVERGES)],
    ),
}


@pytest.mark.parametrize("name", PORTRAITS)
def test_portraits(name):
    network, expected = PORTRAITS[name]
    points = portrait(*network)
    q, stable, status = zip(*expected, strict=True)
    assert points.q == pytest.approx(q, rel=1e-11)
    assert points.stable.tolist() == list(stable)
    assert points.status.tolist() == list(status)


def test_relu_squared_is_always_unstable():
    phi = mf.from_callable(lambda x: jnp.maximum(x, 0.0) ** 2, kinks=(0.0,))
    for weight_variance in (0.5, 2.0):
        points = portrait(phi, weight_variance, 0.0)
        assert points.q.tolist() == pytest.approx([0, 2 / (3 * weight_variance), np.inf])
        assert points.slope[1] == pytest.approx(2, rel=1e-12)
        assert points.stable.tolist() == [True, False, True]
        assert points.status[2] in (DIVERGES, NONFINITE)


def test_a_tangency_attracts_from_one_side():
    k, weight_variance, bias_variance = HALF_STABLE
    point = mf.critical_point(mf.activation("gelu"), k)
    points = mf.fixed_points(mf.Dense(mf.activation("gelu"), point.sigma_w, point.sigma_b))
    assert point.sigma_w**2 == pytest.approx(weight_variance, rel=1e-12)
    assert point.sigma_b**2 == pytest.approx(bias_variance, rel=1e-12)
    assert points.q == pytest.approx([3.03498143555, k], rel=1e-8)
    assert points.slope == pytest.approx([0.9999056, 1], abs=1e-7)
    assert points.stable.tolist() == [True, False]
    assert points.basin_high[0] == points.basin_low[1] == points.q[1]
    assert points.basin_high[1] == np.inf


def test_an_interval_on_which_lengths_are_kept():
    # Linear in all that a variance up to 0.01 can reach: V is the identity there to rounding.
    points = portrait(mf.activation("hard_tanh"), 1.0, 0.0)
    assert points.status.tolist() == [VANISHES]
    assert points.stable[0]
    assert points.slope[0] == pytest.approx(1, abs=1e-12)


def test_infinity_attracts_what_is_left_behind_as_far_as_it_is_resolved():
    """V(q) > q + σb² of x + sin²x; it is not resolved from q = 2e6 on."""
    snake = mf.from_callable(lambda x: x + jnp.sin(x) ** 2)
    points = portrait(snake, 1.0, 0.25)
    assert points.status.tolist() == [LOST, DIVERGES]
    assert points.q[1] == np.inf
    assert (points.basin_low[1], points.basin_high[1]) == (0, points.basin_low[0])
    # V = 0.9998 q + 900.4 draws nearer to the diagonal.
    assert portrait(snake, 0.9998, 900.0).status.tolist() == [LOST]


def test_orbits_end_where_their_basin_says():
    for name, weight_variance, bias_variance in (
        ("gelu", 1.995, 0.15),
        ("gelu", 2.1, 0.0),
        ("gaussian", 3.0, 0.1),
        ("tanh", 4.0, 0.0),
    ):
        layer = mf.Dense(mf.activation(name), np.sqrt(weight_variance), np.sqrt(bias_variance))
        points = mf.fixed_points(layer)
        for q, low, high, stable in zip(
            points.q, points.basin_low, points.basin_high, points.stable, strict=True
        ):
            if not (stable and np.isfinite(low)):
                continue
            for part in (0.02, 0.5, 0.98):
                start = low + part * (min(float(high), low + 50.0) - low)
                state = mf.steady_state(layer, start)
                if q == 0:
                    assert state.status == VANISHES
                elif q == np.inf:
                    assert state.status == DIVERGES
                else:
                    assert state.q == pytest.approx(float(q), rel=1e-9), (name, start)


def test_steady_state_agrees_with_the_only_stable_point():
    layer = mf.Dense(mf.activation("tanh"), np.array([1.3, 2.5, 4.0]), 0.3)
    points = mf.fixed_points(layer)
    assert points.q.shape == (3, 1)
    assert points.q[:, 0] == pytest.approx(np.asarray(mf.steady_state(layer).q), rel=1e-13)


def test_shorter_lists_end_in_nan():
    layer = mf.Dense(mf.activation("gelu"), np.sqrt([1.995, 1.0]), np.sqrt([0.15, 0.1]))
    points = mf.fixed_points(layer)
    assert points.q.shape == (2, 3)
    assert points.status.tolist() == [[OK, OK, OK], [OK, NONE, NONE]]
    assert np.isnan(points.q[1, 1:]).all()
    assert not points.stable[1, 1:].any()


def test_where_v_is_unresolved():
    points = portrait(mf.activation("ssin"), 2.0, 0.1)
    assert points.status.tolist() == [OK, LOST]
    assert np.isnan(points.q[1])
    assert points.basin_low[1] > 1e4
    assert points.basin_high[1] == np.inf
    # What is known of the basin ends where V is unresolved.
    assert points.basin_high[0] == points.basin_low[1]


def test_overflow_is_told_from_divergence():
    points = portrait(mf.from_callable(jnp.exp), 0.1, 0.0)
    assert points.status[-1] == NONFINITE
    # Between what is solved and what overflows, V is unresolved.
    assert points.status.tolist() == [OK, OK, LOST, NONFINITE]
    assert points.stable.tolist() == [True, False, False, True]
    # V = σw² exp(2q).
    for q, slope in zip(points.q[:2], points.slope[:2], strict=True):
        assert 0.1 * np.exp(2 * q) == pytest.approx(float(q), rel=1e-12)
        assert slope == pytest.approx(2 * float(q), rel=1e-11)


def test_neighbours_alternate():
    for weight_variance, bias_variance in itertools.product((1.9, 1.99, 2.0, 2.05), (0.0, 0.12)):
        stable = portrait("gelu", weight_variance, bias_variance).stable
        assert all(a != b for a, b in itertools.pairwise(stable.tolist()))


def test_a_composition_has_a_portrait():
    layer = mf.Dense(mf.activation("tanh"), 1.5, 0.3)
    once, thrice = mf.fixed_points(layer), mf.fixed_points(mf.Repeat(layer, 3))
    assert thrice.q == pytest.approx(np.asarray(once.q), rel=1e-12)
    assert thrice.slope == pytest.approx(np.asarray(once.slope) ** 3, rel=1e-11)


def test_a_point_below_the_grid_is_said_to_be_there():
    points = mf.fixed_points(mf.Dense(mf.activation("tanh"), 0.5, np.array([1e-7, 1e-10])))
    assert points.status.tolist() == [[OK], [LOST]]
    assert points.q[0, 0] == pytest.approx(1e-14 / 0.75, rel=1e-9)
    empty = mf.fixed_points(mf.Dense(mf.activation("tanh"), np.array([])))
    assert empty.q.shape == (0, 0)
