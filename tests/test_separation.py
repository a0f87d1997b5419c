"""E (s φ(u1) - t φ(u2))²/2 of piecewise-linear φ and unequal variances, in one dimension.

The truth is 60-digit: exact conditional means and a quadrature over one variable (`oracles`).
"""

import jax
import numpy as np
import oracles
import pytest
from mpmath import mp, mpf

import meanfield as mf
from meanfield._elementwise import elementwise
from meanfield.activations.base import Activation

PHI = {
    "relu": mf.activation("relu"),
    "hard_tanh": mf.activation("hard_tanh"),
    "shtanh": mf.activation("shtanh", a=0.7),
    "ssaw": mf.activation("ssaw"),
}
PARAMETERS = {"shtanh": {"a": "0.7"}}
# q1, q2, ε, and t in units of 1/√E φ(u2)².
HOSTILE = [
    (1.0, 1 + 1e-9, 1e-12, 1.0),
    (1.0, 1 + 1e-9, 0.0, 1.0),
    (2.0, 2 * (1 + 1e-6), 1e-12, 1.0),
    (1.0, 1 + 1e-5, 1e-10, 1 + 1e-7),
    (1.0, 1e-9, 0.3, 1.0),
    (1e-6, 1e6, 0.5, 1.0),
    (1e6, 1e6 * (1 + 1e-9), 1e-12, 1.0),
    (5.0, 0.3, 2.0, 1.0),
    (0.7, 0.9, 1.0, 0.5),
]


@elementwise()
def by_both_routes(phi, q1, q2, epsilon, ratio):
    s, t = (phi.second_moment(q) ** -0.5 for q in (q1, q2))
    arguments = q1, q2, epsilon, s, ratio * t
    return s, ratio * t, phi.separation(*arguments), Activation.separation(phi, *arguments)


@elementwise()
def by_line(phi, q1, q2, epsilon, ratio):
    s, t = (phi.second_moment(q) ** -0.5 for q in (q1, q2))
    return s, ratio * t, phi.separation(q1, q2, epsilon, s, ratio * t)


def truth(name, q1, q2, epsilon, s, t):
    parameters = PARAMETERS.get(name, {})
    with mp.workdps(60):
        act = oracles.build(name, **parameters)
        q1, q2, epsilon, s, t = (mpf(float(x)) for x in (q1, q2, epsilon, s, t))
        if epsilon in (0, 2):
            product = oracles.pair_line(act, q1, q2, 1 if epsilon == 0 else -1)[0]
        else:
            product = oracles.pair_conditional(name, parameters, q1, q2, epsilon)[0]
        own = s * s * oracles.moment(act, q1)[0] + t * t * oracles.moment(act, q2)[0]
        return float(own / 2 - s * t * product)


@pytest.mark.parametrize("name", PHI)
def test_the_separation_is_relatively_accurate(name):
    q1, q2, epsilon, ratio = np.array(HOSTILE).T
    s, t, value = by_line(PHI[name], q1, q2, epsilon, ratio)
    exact = [truth(name, *row) for row in zip(q1, q2, epsilon, s, t, strict=True)]
    # Of homogeneous φ, only the rounding of s√q1 - t√q2 is left at ε = 0.
    np.testing.assert_allclose(value, exact, rtol=1e-11, atol=1e-31)


@pytest.mark.parametrize("name", [*PHI, "relu6", "linear"])
def test_one_dimension_agrees_with_two(name):
    phi = PHI.get(name) or mf.activation(name)
    rng = np.random.default_rng(3)
    q1 = 10 ** rng.uniform(-6, 6, 60)
    q2 = q1 * (1 + 10 ** rng.uniform(-9, 3, 60))
    epsilon = 2 * 10 ** rng.uniform(-12, 0, 60)
    _, _, line, plane = by_both_routes(phi, q1, q2, epsilon, rng.choice([1.0, 0.8], 60))
    assert np.all(np.isfinite(line) | np.isnan(plane))
    # The plane is known to a part of E φ², which is 1 here.
    both = np.isfinite(plane)
    np.testing.assert_allclose(line[both], plane[both], rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("name", ["hard_tanh", "ssaw"])
def test_what_rounding_hides_is_left_to_the_plane_or_nan(name):
    q1, q2 = np.array([1e12, 1e18, 1e30]), np.array([3e12, 1.1e18, 1e29])
    _, _, line, plane = by_both_routes(PHI[name], q1, q2, 0.5, 1.0)
    np.testing.assert_array_equal(line, plane)


@pytest.mark.parametrize("name", PHI)
def test_derivatives_of_both_routes_agree(name):
    def slopes(method):
        return jax.jit(jax.grad(method, argnums=(1, 2, 3, 4, 5)))

    closed = slopes(lambda phi, *arguments: phi.separation(*arguments))
    plane = slopes(Activation.separation)
    for q2 in (1.0, 1 + 1e-7, 1.3):
        arguments = PHI[name], 1.0, q2, 0.2, 1.0, 0.9
        np.testing.assert_allclose(closed(*arguments), plane(*arguments), rtol=1e-8)


# Smooth φ ------------------------------------------------------------------------------------


@elementwise()
def separation(phi, q1, q2, epsilon):
    s, t = (phi.second_moment(q) ** -0.5 for q in (q1, q2))
    return phi.separation(q1, q2, epsilon, s, t)


@elementwise()
def decorrelation(phi, q, epsilon):
    return phi.decorrelation(q, epsilon)


@pytest.mark.parametrize("tabulated", [False, True])
def test_a_narrow_activation_is_a_wide_one_in_other_units(tabulated):
    """φ(x) = softplus(10⁴ x)/10⁴, as a callable that does not say so."""
    wide = mf.activation("softplus")
    narrow = mf.from_callable(lambda x: jax.nn.softplus(1e4 * x) / 1e4)
    if tabulated:
        narrow = mf.tabulate(narrow, ("moments", "obtuse"))
    epsilon = np.array([1e-12, 1e-7, 5e-4, 0.3, 1.5])
    for ratio in (1 + 1e-6, 1.3, 40.0):
        ours = separation(narrow, 1e-8, 1e-8 * ratio, epsilon)
        np.testing.assert_allclose(ours, separation(wide, 1.0, ratio, epsilon), rtol=1e-9)
    if tabulated:
        return
    ours = decorrelation(narrow, 1e-8, epsilon)
    np.testing.assert_allclose(ours, decorrelation(wide, 1.0, epsilon), rtol=1e-9)


@pytest.mark.parametrize("tabulated", [False, True])
def test_variances_that_are_far_apart(tabulated):
    """E erf(u1) erf(u2) = (2/π) arcsin(2 q12/√((1 + 2 q1)(1 + 2 q2)))."""
    phi = mf.activation("erf")
    phi = mf.tabulate(phi, ("moments", "acute")) if tabulated else phi
    q1, q2, c = np.array([1e-9, 1.0, 3.0, 1e-6]), np.array([1.0, 1e-9, 0.01, 1e-3]), 0.5
    own1, own2 = (np.arcsin(2 * q / (1 + 2 * q)) for q in (q1, q2))
    both = np.arcsin(2 * c * np.sqrt(q1 * q2) / np.sqrt((1 + 2 * q1) * (1 + 2 * q2)))
    exact = 1 - both / np.sqrt(own1 * own2)
    np.testing.assert_allclose(separation(phi, q1, q2, 1 - c), exact, rtol=1e-10)
