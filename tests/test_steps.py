"""A φ that is constant between its jumps, mollified in closed form; and the cure that it is."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

import meanfield as mf
from meanfield.activations.mollifiers import KERNELS
from meanfield.activations.steps import steps


def quantiser(x):
    return jnp.clip(jnp.round(2 * x) / 2, -2.0, 2.0)


def lopsided(x):
    return np.where(x > 0.3, 2.0, np.where(x > -1.1, -1.0, 0.5))


JUMPS = {
    quantiser: np.arange(-1.75, 2, 0.5),
    jnp.sign: np.zeros(1),
    lopsided: np.array([-1.1, 0.3]),
}


def averaged(function, kernel, radius, x):
    """Return ∫ φ(x - r t) K(t) dt by adaptive quadrature between the jumps."""
    reach, density = KERNELS[kernel].reach, KERNELS[kernel].density
    cuts = (x - JUMPS[function]) / radius
    ends = np.sort(np.concatenate([[-reach, reach], cuts[np.abs(cuts) < reach]]))
    value = 0.0
    for low, high in itertools.pairwise(ends):
        height = float(function(np.asarray(x - radius * (low + high) / 2)))
        part, _ = quad(lambda t: float(density(jnp.asarray(t))), low, high, epsabs=1e-13)
        value += height * part
    return value


@pytest.mark.parametrize("function", JUMPS, ids=["quantiser", "sign", "by NumPy"])
@pytest.mark.parametrize(
    ("kernel", "radius"), [("epanechnikov", 1.0), ("bump", 0.2), ("gaussian", 0.5)]
)
def test_steps_are_averaged_in_closed_form(function, kernel, radius):
    phi = mf.mollify(function, kernel, radius)
    x = np.array([-2.2, -0.31, 0.04, 0.7, 3.5])
    exact = [averaged(function, kernel, radius, float(at)) for at in x]
    np.testing.assert_allclose(phi(jnp.asarray(x)), exact, atol=1e-11)
    step = 1e-5
    rise = phi(jnp.asarray(x + step)) - phi(jnp.asarray(x - step))
    np.testing.assert_allclose(phi.slope(jnp.asarray(x)), rise / (2 * step), atol=1e-6)


@pytest.mark.parametrize(
    "function",
    [jnp.tanh, jnp.floor, lambda x: jnp.sign(x) + jnp.tanh(x)],
    ids=["tanh", "floor", "sign and tanh"],
)
def test_what_is_not_made_of_few_steps_is_left_to_the_rule(function):
    assert steps(mf.from_callable(function)) is None


def test_a_step_is_cured_by_rounding_it_off():
    told = []
    found = mf.recommend(jnp.sign, 20, report=told.append)
    # The verdict does not wait for cures.
    assert [(one.why, one.cures) for one in told] == [(found.why, ())]
    assert found.best is None
    assert "jumps" in found.why
    assert found.choice.trainable
    assert found.cures[0].words == 'round it off: mollify(φ, "epanechnikov", 1)'


@pytest.mark.parametrize(
    "function", [jnp.sign, lambda x: jnp.sign(x) + jnp.tanh(x)], ids=["sign", "sign and tanh"]
)
def test_the_edge_deficit_of_what_jumps_is_infinite(function):
    phi = mf.from_callable(function)
    assert np.isposinf(np.asarray(phi.edge_deficit(np.array([1e-6, 1.0, 50.0])))).all()
