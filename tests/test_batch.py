"""Many networks at once, read off a table, against one at a time by quadrature."""

import jax.numpy as jnp
import numpy as np
import pytest

import meanfield as mf
from meanfield.batch import _settle, settle
from meanfield.devices import LENGTHS
from meanfield.method import in_pieces
from meanfield.tabulation import tabulate

OK = mf.Status.OK


def settled(name, sigma_w, sigma_b, q0=1.0, **params):
    """Return where networks settle, by the kernel that serves grids of any size."""
    table = tabulate(mf.activation(name, **params), ("moments", "acute"))
    sigma_w, sigma_b = np.broadcast_arrays(np.asarray(sigma_w, float), np.asarray(sigma_b, float))
    return in_pieces(lambda part: settle(table, *part, q0), (sigma_w, sigma_b), LENGTHS[0])


def agree(found, name, sigma_w, sigma_b, q0=1.0, epsilon=1e-9):
    layer = mf.Dense(mf.activation(name), sigma_w, sigma_b)
    state, limit = mf.steady_state(layer, q0), mf.correlation_fixed_point(layer, q0)
    depths = mf.depth_scales(layer, q0)
    sure = np.asarray(found.sure)
    np.testing.assert_array_equal(np.asarray(found.status)[sure], np.asarray(state.status)[sure])
    ok = sure & (np.asarray(found.status) == OK)

    def close(ours, theirs, tolerance, where=ok):
        np.testing.assert_allclose(
            np.asarray(ours)[where], np.asarray(theirs)[where], rtol=tolerance, atol=1e-11
        )

    close(found.q, state.q, 1e-10)
    close(found.slope, state.slope, 1e-10)
    close(found.chi, state.chi, 1e-10)
    relative = np.asarray(found.epsilon)[ok] / np.where(limit.epsilon == 0, 1, limit.epsilon)[ok]
    np.testing.assert_allclose(relative, np.asarray(limit.epsilon)[ok] > 0, rtol=0, atol=epsilon)
    finite = ok & np.isfinite(np.asarray(depths.xi_c))
    rate = np.exp(-1 / np.asarray(depths.xi_c))
    close(found.correlation_slope, rate, 1e-8, finite)
    assert not np.isfinite(np.asarray(found.q)[~ok & sure]).any()
    return ok


@pytest.mark.parametrize("name", ["tanh", "gelu", "elu", "shtanh", "sigmoid"])
def test_random_networks(name):
    random = np.random.default_rng(11)
    sigma_w = random.uniform(0.3, 5.0, 60)
    sigma_b = np.where(random.random(60) < 0.2, 0.0, random.uniform(0.0, 2.0, 60))
    found = settled(name, sigma_w, sigma_b)
    assert np.asarray(found.sure).all()
    agree(found, name, sigma_w, sigma_b)


def test_close_to_the_edge():
    edge = mf.edge_of_chaos(mf.activation("tanh"), 0.3)
    sigma_w = float(edge.sigma_w) * (1 + np.array([1e-8, 1e-6, 1e-4, -1e-6]))
    found = settled("tanh", sigma_w, 0.3)
    # χ1 is rounded to 1e-16, and ε is of the order of χ1 - 1.
    ok = agree(found, "tanh", sigma_w, 0.3, epsilon=1e-7)
    assert ok.all()
    assert found.epsilon[3] == 0
    assert float(found.epsilon[0]) > 0


def test_correlations_that_die_out():
    """Odd and without biases: c* = 0."""
    found = settled("tanh", [1.3, 2.0, 4.0], 0.0)
    assert np.asarray(found.sure).all()
    np.testing.assert_allclose(found.epsilon, 1.0, rtol=1e-10)


def test_several_fixed_points_and_dips():
    """GELU with one fixed point and with three, from below, from between and from above."""
    sigma_w, sigma_b = (
        np.sqrt([1.995, 1.995, 1.98, 2.1, 1.9]),
        np.sqrt([0.15, 0.1, 0.15, 0.01, 0.0]),
    )
    for q0 in (1e-3, 1.0, 4.0, 8.0, 1e3):
        found = settled("gelu", sigma_w, sigma_b, q0)
        agree(found, "gelu", sigma_w, sigma_b, q0)
        assert np.asarray(found.sure).mean() >= 0.8


def test_variances_that_almost_vanish():
    """q* of ELU is below the table: it may not be taken for 0."""
    found = settled("elu", 1 + np.array([1e-6, 3e-6, -0.1]), 0.0)
    np.testing.assert_array_equal(found.sure, [False, False, True])
    diagram = mf.phase_diagram(mf.activation("elu"), [1 + 1e-6, 1 + 3e-6], [0.0], method="table")
    np.testing.assert_array_equal(diagram["status"], OK)
    assert diagram["q"].values.ravel() == pytest.approx([6.3e-12, 5.7e-11], rel=0.02)


def test_what_becomes_of_variances():
    found = settled("relu", [1.0, 1.0, 2.0, 2.0], [0.0, 0.5, 0.0, 0.5])
    wanted = [mf.Status.VANISHES, OK, mf.Status.DIVERGES, mf.Status.DIVERGES]
    assert np.asarray(found.sure).all()
    np.testing.assert_array_equal(found.status, wanted)
    assert float(found.q[1]) == pytest.approx(0.5, rel=1e-13)


def test_what_runs_away_though_no_large_variance_is_resolved_is_sure():
    """Of x + sin²x V' tends to σw²; a map that may overflow, as that of exp, is not judged."""
    snake = tabulate(mf.from_callable(lambda x: x + jnp.sin(x) ** 2), ["moments", "acute"])
    sigma_w, sigma_b = jnp.array([0.9, 1.0, 1.2, 3.0]), jnp.array([0.5, 0.5, 0.0, 0.5])
    found = settle(snake, sigma_w, sigma_b, 1.0)
    assert found.sure.tolist() == [True, False, True, True]
    assert found.status[2:].tolist() == [mf.Status.DIVERGES] * 2
    grows = settle(tabulate(mf.from_callable(jnp.exp), ["moments", "acute"]), sigma_w, sigma_b, 1.0)
    assert not grows.sure.any()


def test_what_is_not_sure():
    # Every variance is fixed; a variance beyond the table; V' of 1.
    assert not settled("relu", [np.sqrt(2)], [0.0]).sure[0]
    assert not settled("tanh", [1.0], [0.5], q0=1e-12).sure[0]
    half = mf.edge_curve(mf.activation("gelu")).half_stable
    assert not settled("gelu", half.sigma_w, half.sigma_b, q0=100.0).sure[0]


@pytest.mark.parametrize("name", ["sexp", "ssin", "sin"])
def test_networks_settle_where_v_falls_further_on(name):
    """V of these falls at large variances, which an ordered network never meets."""
    assert settled(name, np.linspace(0.6, 0.9, 9), 0.3).sure.all()


@pytest.mark.parametrize("q0", [1e-6, 1.0, 7.0])
@pytest.mark.parametrize("name", ["gaussian", "sexp"])
def test_networks_settle_where_v_falls(name, q0):
    """V falls at q*, or on the way to it, which it may jump over; and yet it draws nearer."""
    random = np.random.default_rng(3)
    sigma_w, sigma_b = random.uniform(0.6, 3.0, 40), random.uniform(0.05, 1.0, 40)
    found = settled(name, sigma_w, sigma_b, q0)
    assert np.asarray(found.sure).mean() > 0.6
    assert (np.asarray(found.slope) < 0).any()
    agree(found, name, sigma_w, sigma_b, q0)


def test_one_kernel_serves_tables_with_obtuse_angles_and_without():
    networks = np.full(LENGTHS[0], 1.5), np.full(LENGTHS[0], 0.2)
    relu = mf.activation("relu")
    acute = settle(tabulate(relu, ("moments", "acute")), *networks, 1.0)
    kernels = _settle._cache_size()
    obtuse = settle(tabulate(relu, ("moments", "obtuse")), *networks, 1.0)
    assert _settle._cache_size() == kernels
    np.testing.assert_allclose(obtuse.epsilon, acute.epsilon, rtol=1e-9)
