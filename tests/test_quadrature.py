"""The double-exponential rules are exact to rounding, graded as promised, and know their error."""

import jax.numpy as jnp
import numpy as np
import pytest

import meanfield as mf
from meanfield.quadrature import GRADINGS, REACH, Sums, half_line, line_sums, panel, plane_sums

SIZE = 193


def integral(rule, f):
    return float((rule.weights * f(rule.nodes)).sum())


@pytest.mark.parametrize("grading", [0, 5, 12, 23])
@pytest.mark.parametrize("power", [0, 1, 4, 9])
def test_a_panel_integrates_powers_from_both_ends(grading, power):
    rule = panel(grading, SIZE)
    assert integral(rule, lambda x: x**power) == pytest.approx(1 / (power + 1), rel=1e-14)
    assert integral(rule, lambda x: (1 - x) ** power) == pytest.approx(1 / (power + 1), rel=1e-14)


@pytest.mark.parametrize("grading", [0, 5, 12, 23])
@pytest.mark.parametrize(("power", "moment"), [(0, np.sqrt(np.pi / 2)), (1, 1.0), (3, 2.0)])
def test_the_half_line_integrates_a_gaussian(grading, power, moment):
    rule = half_line(grading, SIZE)
    assert integral(rule, lambda x: x**power * np.exp(-x * x / 2)) == pytest.approx(
        moment, rel=2e-15
    )


@pytest.mark.parametrize(("grading", "error"), [(0, 1e-15), (5, 1e-14), (12, 1e-10), (23, 1e-6)])
def test_grading_resolves_a_feature_of_its_width_at_either_end(grading, error):
    width = np.exp(-grading)
    exact = np.arctan(1 / width)
    rule = panel(grading, SIZE)
    assert abs(integral(rule, lambda x: width / (x**2 + width**2)) - exact) < error
    assert abs(integral(rule, lambda x: width / ((1 - x) ** 2 + width**2)) - exact) < error
    decay = integral(half_line(grading, SIZE), lambda x: np.exp(-((x / width) ** 2)) / width)
    assert abs(decay - np.sqrt(np.pi) / 2) < error


def test_an_ungraded_rule_misses_a_narrow_feature():
    width = np.exp(-12)
    exact = np.arctan(1 / width)
    missed = [
        abs(integral(panel(grading, SIZE), lambda x: width / (x**2 + width**2)) - exact)
        for grading in (0, 12)
    ]
    assert missed[0] > 1e4 * missed[1]


def test_halving_the_step_squares_the_error():
    def errors(rule, f, exact):
        return [abs(integral(rule(0, size), f) / exact - 1) for size in (13, 25, 49)]

    for coarse, middle, fine in (
        errors(panel, np.exp, np.e - 1),
        errors(half_line, lambda x: np.exp(-x * x / 2), np.sqrt(np.pi / 2)),
    ):
        assert middle < 10 * coarse**2
        assert fine < max(10 * middle**2, 1e-15)


@pytest.mark.parametrize("rule", [half_line, panel])
def test_gradings_are_rounded_up_and_clipped(rule):
    np.testing.assert_array_equal(rule(2.3, SIZE).nodes, rule(3, SIZE).nodes)
    np.testing.assert_array_equal(rule(-1.0, SIZE).nodes, rule(0, SIZE).nodes)
    np.testing.assert_array_equal(rule(99.0, SIZE).nodes, rule(GRADINGS - 1, SIZE).nodes)


@pytest.mark.parametrize("rule", [half_line, panel])
def test_a_rule_is_padded_with_weightless_nodes(rule):
    made = rule(3, SIZE)
    assert made.nodes.shape == made.weights.shape == (SIZE + 3,)
    np.testing.assert_array_equal(made.weights[SIZE:], 0.0)
    assert np.all(np.diff(made.nodes[:SIZE]) >= 0)
    # The weight of the very last node of a panel may underflow to 0, never below.
    assert np.all(made.weights[:SIZE] >= 0)


def test_the_half_line_ends_where_the_gaussian_is_gone():
    assert half_line(0, SIZE).nodes[SIZE - 1] == pytest.approx(REACH, rel=1e-4)
    assert np.exp(-(REACH**2) / 2) < 1e-55


@pytest.mark.parametrize("rule", [half_line, panel])
@pytest.mark.parametrize("size", [96, 98, 99, 100])
def test_a_size_that_cannot_be_thinned_is_refused(rule, size):
    with pytest.raises(mf.MeanFieldError, match=f"size = {size} is not legal; it must be 4m \\+ 1"):
        rule(0, size)


def test_an_analytic_integrand_is_certified_and_a_kink_inside_is_not():
    rule = panel(0, SIZE)
    smooth = line_sums(jnp.exp(rule.nodes) * rule.weights)
    assert smooth.certified(1.0) == pytest.approx(np.e - 1, rel=1e-14)
    for kinked in (jnp.abs(rule.nodes - 0.3), jnp.where(rule.nodes > 0.3, 1.0, 0.0)):
        sums = line_sums(kinked * rule.weights)
        assert np.isfinite(sums.value)
        assert np.isnan(sums.certified(1.0))


def test_a_sum_with_its_thinned_versions():
    summands = np.arange(8.0)
    sums = line_sums(jnp.asarray(summands))
    assert sums.value == 28.0
    assert sums.half == abs(2 * summands[::2].sum() - 28)
    assert sums.quarter == max(abs(4 * summands[i::4].sum() - 28) for i in range(4))


def test_a_product_rule_is_summed_like_a_line_in_either_direction():
    rule = panel(0, 97)
    line = jnp.exp(rule.nodes) * rule.weights
    inner = line.reshape(-1, 4).sum(axis=0)
    sums = plane_sums(line[:, None] * inner[None, :])
    assert sums.value == pytest.approx((np.e - 1) ** 2, rel=1e-14)
    assert np.isfinite(sums.certified(1.0))
    rough = jnp.abs(rule.nodes - 0.3) * rule.weights
    by_inner = plane_sums(line[:, None] * rough.reshape(-1, 4).sum(axis=0)[None, :])
    by_outer = plane_sums(rough[:, None] * inner[None, :])
    assert np.isnan(by_inner.certified(1.0))
    assert np.isnan(by_outer.certified(1.0))


@pytest.mark.parametrize(
    ("half", "quarter", "accepted"),
    [
        (1e-4, 1e-2, False),  # the step squares the error: 1e-8 is left
        (1e-6, 1e-3, True),  # 1e-12 is left
        (0.0, 0.0, True),
        (1e-5, 2e-5, False),  # convergence like a power of the step: not to be trusted
        (np.nan, 1.0, False),
    ],
)
def test_certification_extrapolates_the_two_deviations(half, quarter, accepted):
    value = Sums(jnp.asarray(1.0), jnp.asarray(half), jnp.asarray(quarter)).certified(1.0)
    assert bool(np.isfinite(value)) is accepted
