"""Panels: every kink, jump and narrow feature is found, and none is invented."""

import numpy as np
import pytest

from meanfield.panels import derivative, joined, sample


def piecewise(seed):
    """Return a random piecewise-linear function with its slope, and its kinks and jumps."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 31))
    kinks = np.sort(rng.uniform(-8, 8, count))
    kinks = kinks[np.diff(np.append(kinks, np.inf)) > 1e-4]
    slopes = rng.normal(size=kinks.size + 1)
    jumps = np.where(rng.random(kinks.size) < 0.3, rng.normal(size=kinks.size), 0.0)
    starts = np.concatenate([[0.0], np.cumsum(np.diff(kinks) * slopes[1:-1])]) + np.cumsum(jumps)

    def values(x):
        piece = np.searchsorted(kinks, x)
        at = np.maximum(piece - 1, 0)
        inside = starts[at] + (x - kinks[at]) * slopes[piece]
        return np.where(piece == 0, (x - kinks[0]) * slopes[0], inside), slopes[piece]

    return values, kinks


@pytest.mark.parametrize("seed", range(100))
def test_the_kinks_of_random_piecewise_functions_are_found_and_no_others(seed):
    values, kinks = piecewise(seed)
    rough = sample(values, -64.0, 64.0).rough
    assert rough.size == kinks.size
    np.testing.assert_allclose(rough, kinks, rtol=0, atol=1e-12)


SMOOTH = {
    "x": lambda x: (x, np.ones_like(x)),
    "constant": lambda x: (np.full_like(x, 2.0), np.zeros_like(x)),
    "tanh(x)": lambda x: (np.tanh(x), 1 - np.tanh(x) ** 2),
    "tanh(1e6 (x - 0.3))": lambda x: (
        np.tanh(1e6 * (x - 0.3)),
        1e6 * (1 - np.tanh(1e6 * (x - 0.3)) ** 2),
    ),
    "sin(30 x)": lambda x: (np.sin(30 * x), 30 * np.cos(30 * x)),
    "exp": lambda x: (np.exp(x), np.exp(x)),
    "x⁴": lambda x: (x**4, 4 * x**3),
    "tanh + 1e4": lambda x: (np.tanh(x) + 1e4, 1 - np.tanh(x) ** 2),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_no_rough_point_is_invented(name):
    panels = sample(SMOOTH[name], -64.0, 64.0)
    assert panels.rough.size == 0
    assert panels.ends == (False, False)


@pytest.mark.parametrize("centre", np.random.default_rng(5).uniform(-15, 15, 40))
def test_a_bump_of_width_1e_4_is_found_wherever_it_is(centre):
    def values(x):
        bump = np.exp(-(((x - centre) / 1e-4) ** 2))
        return x + 1e-3 * bump, 1 - 20 * ((x - centre) / 1e-4) * bump

    panels = sample(values, -64.0, 64.0)
    sizes = np.diff(panels.edges)[np.abs(panels.edges[:-1] - centre) < 1e-3]
    assert sizes.min() < 3e-4


def test_panels_end_where_phi_overflows_or_turns_too_fast():
    grows = sample(SMOOTH["exp"], -1024.0, 1024.0)
    assert grows.ends == (False, True)
    assert 600 < grows.edges[-1] < 710
    fast = sample(lambda x: (np.sin(3e4 * x), 3e4 * np.cos(3e4 * x)), -1024.0, 1024.0)
    assert fast.ends == (True, True)
    assert 0.5 <= fast.edges[-1] < 1024


def test_panels_go_on_where_others_end():
    near, far = (sample(SMOOTH["tanh(x)"], *ends) for ends in ((-64.0, 64.0), (64.0, 1024.0)))
    both = near + far
    assert both.edges[0] == -64
    assert both.edges[-1] == 1024
    assert (np.diff(both.edges) > 0).all()
    assert both.error.size == both.edges.size - 1


def test_panels_that_need_not_be_are_joined():
    values = lambda x: (np.clip(x, -0.3, 0.3), (np.abs(x) < 0.3).astype(float))  # noqa: E731
    panels = sample(values, -64.0, 64.0)
    edges = joined(values, panels)
    assert edges.size <= panels.edges.size / 2
    assert {-64, -0.3, 0.3, 64} <= set(edges.tolist())


@pytest.mark.parametrize(
    ("f", "slope"),
    [
        (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
        (lambda x: np.sin(20 * x), lambda x: 20 * np.cos(20 * x)),
        (lambda x: np.maximum(x - 0.7, 0) ** 2, lambda x: 2 * np.maximum(x - 0.7, 0)),
    ],
)
def test_slopes_from_values_alone(f, slope):
    x = np.random.default_rng(0).uniform(-30, 30, 500)
    np.testing.assert_allclose(derivative(f)(x), slope(x), rtol=1e-9, atol=1e-9)
