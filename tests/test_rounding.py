"""Steps rounded off: what a rule averages, in closed form; and the cure that it is."""

import jax.numpy as jnp
import numpy as np
import pytest

import meanfield as mf
from meanfield.activations.rounding import rounded


def quantiser(x):
    return jnp.clip(jnp.round(2 * x) / 2, -2.0, 2.0)


@pytest.mark.parametrize("function", [quantiser, jnp.sign], ids=["quantiser", "sign"])
@pytest.mark.parametrize("radius", [1.0, 0.2])
def test_it_is_what_mollify_computes(function, radius):
    phi = mf.from_callable(function)
    ours, theirs = rounded(phi, radius), mf.mollify(phi, "epanechnikov", radius)
    x = np.linspace(-3.1, 3.1, 23)
    np.testing.assert_allclose(ours(jnp.asarray(x)), theirs(jnp.asarray(x)), atol=1e-12)


@pytest.mark.parametrize(
    "function",
    [jnp.tanh, jnp.floor, lambda x: jnp.sign(x) + jnp.tanh(x)],
    ids=["tanh", "floor", "sign and tanh"],
)
def test_what_is_not_made_of_few_steps_is_left_alone(function):
    assert rounded(mf.from_callable(function)) is None


def test_a_step_is_cured_by_rounding_it_off():
    told = []
    found = mf.recommend(jnp.sign, 20, report=told.append)
    # The verdict does not wait for cures.
    assert [(one.why, one.cures) for one in told] == [(found.why, ())]
    assert found.best is None
    assert "jumps" in found.why
    assert found.choice.trainable
    assert found.cures[0].words == 'round it off: mollify(φ, "epanechnikov", radius=1)'


@pytest.mark.parametrize(
    "function", [jnp.sign, lambda x: jnp.sign(x) + jnp.tanh(x)], ids=["sign", "sign and tanh"]
)
def test_the_edge_deficit_of_what_jumps_is_infinite(function):
    phi = mf.from_callable(function)
    assert np.isposinf(np.asarray(phi.edge_deficit(np.array([1e-6, 1.0, 50.0])))).all()
