"""Which activations are scaled-bounded, with which a and k, and which property fails."""

import jax.numpy as jnp
import numpy as np
import pytest

import meanfield as mf
from meanfield.activations.custom import Custom

MEMBERS = [
    ("shtanh", {"a": 1.0, "k": 1.0}, 1.0, 1.0),
    ("shtanh", {"a": 0.3, "k": 2.5}, 0.3, 2.5),
    ("shtanh", {"a": 1e-5, "k": 1.0}, 1e-5, 1.0),
    ("shtanh", {"a": 3e4, "k": 2.0}, 3e4, 2.0),
    ("shtanh", {"a": 1e9, "k": 1.0}, 1e9, 1.0),
    ("hard_tanh", {"a": 2.0}, 2.0, 1.0),
    ("ssin", {"a": 1.0}, 1.0, 1.0),
    ("ssin", {"a": 3.0}, 3.0, 1.0),
    ("sexp", {"a": 0.5}, 0.5, 1.0),
    ("ssaw", {"a": 0.1}, 0.1, 1.0),
    ("ssaw", {"a": 4.0}, 4.0, 1.0),
]


@pytest.mark.parametrize(("name", "params", "a", "k"), MEMBERS)
def test_the_four_families_are_scaled_bounded(name, params, a, k):
    answer = mf.is_scaled_bounded(mf.activation(name, **params))
    assert answer
    assert answer.failures == ()
    assert answer.a == pytest.approx(a, rel=1e-12)
    assert answer.k == pytest.approx(k, rel=1e-12)


def ssin_below_one(x):
    """Ssin with a = 0.4: its tail falls to a - 2 = -1.6."""
    size = jnp.abs(x)
    return jnp.where(size <= 0.4, x, jnp.sign(x) * (-0.6 + jnp.cos(size - 0.4)))


def broken(x):
    """A jump beside the linear stretch."""
    return jnp.where(jnp.abs(x) <= 1, x, 0.5 * jnp.sign(x))


def beside(height, place, width):
    """Return hard tanh with a bump at |x| = place, odd."""

    def function(x):
        bump = height * jnp.exp(-(((jnp.abs(x) - place) / width) ** 2))
        return jnp.clip(x, -1.0, 1.0) + jnp.sign(x) * bump

    return Custom(function, (-1.0, 1.0))


OUTSIDERS = {
    "too large far away": (beside(0.1, 3e4, 1e3), {"bounded"}),
    "too steep at 63": (beside(-0.5, 63.0, 0.05), {"slope_bounded"}),
    "tanh": (mf.activation("tanh"), {"linear", "bounded"}),
    "arctan": (mf.activation("arctan"), {"linear", "bounded"}),
    "relu": (mf.activation("relu"), {"odd", "linear", "bounded", "slope_bounded"}),
    "relu6": (mf.activation("relu6"), {"odd", "linear", "bounded", "slope_bounded"}),
    "abs": (mf.activation("abs"), {"odd", "linear", "bounded", "slope_bounded"}),
    "linear on all of R": (mf.activation("linear"), {"bounded"}),
    "clip(x, -1, 2)": (
        Custom(lambda x: jnp.clip(x, -1.0, 2.0), (-1.0, 2.0)),
        {"odd", "bounded"},
    ),
    "steeper outside": (
        Custom(
            lambda x: jnp.where(jnp.abs(x) < 1, x, jnp.clip(3 * x - 2 * jnp.sign(x), -4, 4)),
            (-2.0, -1.0, 1.0, 2.0),
        ),
        {"bounded", "slope_bounded"},
    ),
    "-clip": (-mf.activation("hard_tanh"), {"linear", "bounded", "slope_bounded"}),
    "a jump": (Custom(broken, (-1.0, 1.0)), {"continuous"}),
    "ssin, a < 1": (mf.from_callable(ssin_below_one), {"bounded"}),
}


@pytest.mark.parametrize("name", OUTSIDERS)
def test_the_property_that_fails_is_named(name):
    phi, failing = OUTSIDERS[name]
    answer = mf.is_scaled_bounded(phi)
    properties = (
        "continuous",
        "odd",
        "linear",
        "bounded",
        "slope_bounded",
        "twice_differentiable",
    )
    assert {p for p in properties if not getattr(answer, p)} == failing
    assert bool(answer) is (not failing)
    assert len(answer.failures) == len(failing)
    if "linear" in failing:
        assert np.isnan(answer.a)
        assert np.isnan(answer.k)


def test_failures_speak_the_words_of_the_definition():
    assert "φ is odd" in mf.is_scaled_bounded(mf.activation("relu")).failures
    assert mf.is_scaled_bounded(mf.activation("tanh")).failures == (
        "φ(x) = k x on some [-a, a], a > 0",
        "|φ(x)| ≤ a k everywhere",
    )


def test_scaling_scales_a_and_k():
    phi = mf.scale(mf.activation("ssaw", a=1.0), output=3.0, input=0.5)
    answer = mf.is_scaled_bounded(phi)
    assert answer
    assert answer.a == pytest.approx(2.0, rel=1e-12)
    assert answer.k == pytest.approx(1.5, rel=1e-12)


def test_softsign_fails_only_where_it_is_not_linear():
    failures = mf.is_scaled_bounded(mf.activation("softsign")).failures
    assert not any("φ'" in text for text in failures)
    assert len(failures) == 2
