"""Roots are bracketed, closed to rounding, and differentiable without the iterations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meanfield.rootfind import (
    MAX_STEPS,
    all_roots,
    close_brackets,
    implicit,
    scan_all,
    sign_changes,
)


def close(f, low, high, *values):
    """Return the root of one function."""
    ends = np.array([low]), np.array([high])
    with np.errstate(all="ignore"):
        at_ends = [np.array([v]) for v in values] or [f(end) for end in ends]
        return close_brackets(lambda _, x: f(x), *ends, *at_ends)[0]


ROOTS = {
    "cubic": (lambda x: x**3 - 2 * x - 5, 2.0, 3.0, 2.0945514815423265),
    "falling": (lambda x: np.exp(-x) - x, 0.0, 1.0, 0.5671432904097838),
    "flat": (lambda x: (x - 1) ** 9, 0.0, 3.3, 1.0),
    "steep": (lambda x: np.tanh(1e6 * (x - 0.3)), -1.0, 7.0, 0.3),
    "tiny": (lambda x: x - 1e-200, -1.0, 1.0, 1e-200),
    "pole beside it": (lambda x: 1 / (x - 3.0) + 6, 3.01, 2.0, 3 - 1 / 6),
    "at the lower end": (lambda x: x - 2.0, 2.0, 3.0, 2.0),
    "at the upper end": (lambda x: x - 3.0, 2.0, 3.0, 3.0),
    "jump": (lambda x: np.where(x < 0.7, -1.0, 2.0), 0.0, 1.0, 0.7),
}


@pytest.mark.parametrize("name", [n for n in ROOTS if n != "pole beside it"])
def test_a_root_is_closed_to_rounding(name):
    f, low, high, exact = ROOTS[name]
    # (x - 1)⁹ underflows within 1e-36 of its root only: nothing is lost there.
    assert close(f, low, high) == pytest.approx(exact, rel=1e-15, abs=1e-300)
    assert close(f, high, low) == pytest.approx(exact, rel=1e-15, abs=1e-300)


def test_the_answer_never_leaves_the_bracket():
    for low, high in ((0.1, 40.0), (0.9, 1.1), (0.0, 1e8)):
        root = float(close(lambda x: np.log(x + 1e-300), low, high))
        assert low <= root <= high
        assert root == pytest.approx(1.0, rel=1e-15)


def test_few_evaluations_are_needed():
    count = []

    def f(x):
        count.append(None)
        return np.exp(x) - 2.0

    assert close(f, -4.0, 4.0, -1.98, 52.6) == pytest.approx(np.log(2), rel=1e-15)
    assert len(count) < 15 < MAX_STEPS


def test_the_values_at_the_ends_only_need_the_right_sign():
    root = close(lambda x: np.exp(x) - 2.0, -4.0, 4.0, -1.0, 1e9)
    assert root == pytest.approx(np.log(2), rel=1e-15)


def test_a_function_that_is_not_a_number_gives_none():
    assert np.isnan(close(lambda x: np.where(np.abs(x) < 0.9, np.nan, x), -1.0, 1.0))


def test_many_brackets_are_closed_at_once():
    """Each by its own function, in as many steps as it needs."""
    a = np.array([2.0, 8.0, 1e-30, 1e30])

    def f(places, x):
        return x**3 - a[places]

    low, high = np.zeros(4), np.full(4, 1e11)
    roots = close_brackets(f, low, high, f(np.arange(4), low), f(np.arange(4), high))
    np.testing.assert_allclose(roots, np.cbrt(a), rtol=4e-15)


def scan(f, start, step, count):
    """Scan one function; it has no slope."""

    def values(_, x):
        return f(x), np.full(x.shape, np.nan)

    return scan_all(values, np.array([start]), np.array([step]), np.array([count]))


def scanned(values, count=None):
    """Scan 0, 1, 2, ... for a change of sign of a table, over several blocks of points."""
    table = np.asarray(values, float)

    def look(x):
        return table[np.clip(x.astype(int), 0, table.size - 1)]

    seen = scan(look, 0.0, 1.0, len(values) - 1 if count is None else count)
    return [float(v[0]) for v in seen[:4]], bool(seen.found[0]), bool(seen.blind[0])


def test_the_first_change_of_sign_is_taken():
    bracket, found, blind = scanned([1.0, 2.0, -1.0, -3.0, 4.0, np.nan])
    assert found
    assert not blind
    assert bracket == [1.0, 2.0, 2.0, -1.0]
    assert scanned([1.0] * 40 + [-1.0])[0] == [39.0, 40.0, 1.0, -1.0]


def test_a_scan_goes_either_way():
    seen = scan(lambda x: x + 2.3, 1.0, -0.5, 10)
    assert seen.found[0]
    assert (seen.low[0], seen.high[0]) == (-2.0, -2.5)


def test_no_change_of_sign_within_the_count_is_said():
    assert not scanned([1.0, 2.0, 3.0])[1]
    assert not scanned([1.0, 2.0, -3.0], count=1)[1]
    assert scanned([1.0, 2.0, -3.0], count=2)[1]
    assert not scanned([1.0, -3.0], count=0)[1]


def test_a_cell_that_is_not_a_number_is_passed_over_and_reported():
    bracket, found, blind = scanned([1.0, np.nan, -1.0, -1.0, -2.0, 3.0])
    assert found
    assert blind
    assert bracket[:2] == [4.0, 5.0]
    assert scanned([1.0, np.nan, -1.0])[1:] == (False, True)
    assert scanned([np.nan, 1.0, -1.0])[1:] == (True, True)


def test_what_is_known_again_behind_what_is_not_is_reported():
    """A long block of points is passed, and the last one is not known either."""

    def known(lost):
        values = np.ones(40)
        values[lost] = np.nan
        return scan(lambda x: values[np.minimum(x, 39).astype(int)], 0.0, 1.0, 39)

    for lost in ([3], [0], [15], [16], range(3, 30), [20, 39]):
        assert known(lost).gap[0], lost
    for lost in ([], [39], range(16, 40), range(10, 40)):
        assert not known(lost).gap[0], lost


def test_infinite_values_have_a_sign():
    bracket, found, blind = scanned([-1.0, np.inf, np.inf])
    assert found
    assert not blind
    assert bracket[1] == 1.0


def test_a_zero_is_not_negative():
    assert scanned([-1.0, 0.0])[1]
    assert not scanned([1.0, 0.0])[1]


def test_what_turns_round_within_a_cell_is_seen():
    """Twice through 0 in one cell, or touching it to rounding."""

    def turning(lift):
        def f(_, x):
            return (x - 2.3) * (x - 2.4) + lift, 2 * x - 4.7

        return scan_all(f, np.zeros(1), np.ones(1), np.array([9]), tolerance=1e-12)

    assert not turning(0.0026).found[0]
    for lift in (0.0, 0.0025):
        seen = turning(lift)
        assert seen.found[0]
        assert (seen.low[0], seen.high[0]) == (2.0, pytest.approx(2.35))


def cube_root(a):
    """Solve x³ = a, with the implicit derivative 1/(3x²)."""

    def f(x, a):
        return x**3 - a

    return implicit(f, jnp.cbrt(a), a)


def test_the_implicit_derivative_in_both_modes():
    exact = 2.0 ** (1 / 3)
    assert cube_root(2.0) == pytest.approx(exact, rel=1e-15)
    assert jax.grad(cube_root)(2.0) == pytest.approx(1 / (3 * exact**2), rel=1e-14)
    _, tangent = jax.jvp(cube_root, (2.0,), (1.0,))
    assert tangent == pytest.approx(1 / (3 * exact**2), rel=1e-14)
    batch = jax.vmap(jax.grad(cube_root))(jnp.array([1.0, 8.0, 27.0]))
    np.testing.assert_allclose(batch, [1 / 3, 1 / 12, 1 / 27], rtol=1e-14)


def test_implicit_derivatives_of_higher_order_in_all_modes():
    exact = [-2 / 9 * 2.0 ** (-5 / 3), 10 / 27 * 2.0 ** (-8 / 3)]
    seconds = {
        (outer, inner): outer(inner(cube_root))
        for outer in (jax.jacfwd, jax.jacrev)
        for inner in (jax.jacfwd, jax.jacrev)
    }

    @jax.jit
    def all_modes(a):
        return [(second(a), outer(second)(a)) for (outer, _), second in seconds.items()]

    np.testing.assert_allclose(all_modes(2.0), [exact] * 4, rtol=1e-13)


def test_a_zero_slope_gives_a_zero_derivative():
    def still(a):
        return implicit(lambda x, a: a - 3.0 + 0 * x, jnp.asarray(a), a)

    assert still(3.0) == 3.0
    assert jax.grad(still)(3.0) == 0.0


# All roots ----------------------------------------------------------------------------------


def polynomial(*roots):
    """Return a polynomial with its slope, as `all_roots` wants them."""
    p = np.polynomial.Polynomial.fromroots(roots)
    return lambda t: (p(t), p.deriv()(t))


@pytest.mark.parametrize(
    ("roots", "double"),
    [
        ([0.31], []),
        ([-1.7, 0.2, 2.9], []),
        # Two in one cell of the grid.
        ([0.51, 0.53, 1.9], []),
        ([0.5, 0.5 + 1e-5], []),
        ([1.23], [0.77]),
        ([], [0.77, -1.1]),
    ],
)
def test_all_roots_are_found(roots, double):
    f = polynomial(*roots, *double, *double)
    found = all_roots(f, np.linspace(-3, 3, 31), 1e-12)
    assert [r.at for r in found] == pytest.approx(sorted([*roots, *double]), abs=1e-7)
    assert [r.at for r in found if r.double] == pytest.approx(sorted(double), abs=1e-9)


def test_nothing_is_found_where_there_is_nothing():
    assert all_roots(lambda t: (1 + t**2, 2 * t), np.linspace(-3, 3, 31), 1e-12) == []
    blind = all_roots(lambda t: (t * np.nan, t * np.nan), np.linspace(-3, 3, 31), 1e-12)
    assert blind == []


def test_infinite_ends_of_a_cell_do():
    def f(t):
        return np.where(t > 0.45, np.inf, t - 0.35), np.ones_like(t)

    assert [r.at for r in all_roots(f, np.linspace(-1, 1, 5), 1e-12)] == pytest.approx([0.35])


def test_sign_changes_of_noise_are_none():
    grid = np.linspace(-3, 3, 31)
    values = np.where(np.abs(grid) < 1.5, 1e-12 * (-1) ** np.arange(31), np.sign(grid))
    changes = sign_changes(lambda t: t, grid, values, 1e-9)
    assert changes == pytest.approx([0])
    assert not sign_changes(lambda t: t, grid, np.full(31, 1e-12), 1e-9).size
