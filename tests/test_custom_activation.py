"""Any callable becomes an activation: kinks are found, kept as given, or doubted aloud."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import meanfield as mf
from meanfield.activations.custom import MANY_KINKS, find_kinks

FOUND = {
    "clip(x, -1, 1)": (lambda x: jnp.clip(x, -1, 1), (-1.0, 1.0)),
    "clip(x, -0.3, 0.3)": (lambda x: jnp.clip(x, -0.3, 0.3), (-0.3, 0.3)),
    "three, not symmetric": (
        lambda x: jnp.abs(x + 1.234) + jnp.maximum(x - 0.7, 0) / 2 - jnp.abs(x - 2.5),
        (-1.234, 0.7, 2.5),
    ),
    "1e-3 apart": (lambda x: jnp.abs(x - 0.5) + jnp.maximum(x - 0.501, 0), (0.5, 0.501)),
    "1e-6 apart": (lambda x: jnp.abs(x - 0.5) + jnp.abs(x - 0.500001), (0.5, 0.500001)),
    "at an irrational place": (lambda x: jnp.abs(x - np.pi), (np.pi,)),
    "step": (lambda x: jnp.where(x > 0.25, 1.0, 0.0), (0.25,)),
    "relu²: φ'' jumps": (lambda x: jnp.maximum(x, 0) ** 2, (0.0,)),
    "faint": (lambda x: x + 1e-6 * jnp.abs(x - 0.2), (0.2,)),
    "far out": (lambda x: jnp.clip(x, -100, 500), (-100.0, 500.0)),
}

SMOOTH = {
    "x": lambda x: x,
    "constant": lambda x: 0 * x + 2.0,
    "tanh(50x)": lambda x: jnp.tanh(50 * x),
    "tanh(1000x)": lambda x: jnp.tanh(1000 * x),
    "sin": jnp.sin,
    "exp": jnp.exp,
    "gelu": jax.nn.gelu,
    "x⁴": lambda x: x**4,
}

DOUBTED = {
    "tanh(1e7 x)": (lambda x: jnp.tanh(1e7 * x), "smooth but varies within 0.0001 near x = "),
    "sin(1000x)": (lambda x: jnp.sin(1000 * x), "varies faster than the search can follow"),
    "floor": (jnp.floor, "jumps were seen, more than the 12 that are kept"),
}


@pytest.mark.parametrize("name", FOUND)
def test_kinks_and_jumps_are_found_to_rounding(name):
    function, expected = FOUND[name]
    phi = mf.from_callable(function)
    np.testing.assert_allclose(phi.kinks(), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", SMOOTH)
def test_no_kink_is_invented_in_a_smooth_function(name):
    assert find_kinks(SMOOTH[name]) == ((), [])


@pytest.mark.parametrize("name", DOUBTED)
def test_an_unsure_search_says_so(name):
    function, words = DOUBTED[name]
    with pytest.warns(mf.MeanFieldWarning, match=words) as caught:
        phi = mf.from_callable(function, label="my_phi")
    assert "kinks of my_phi" in str(caught[0].message)
    assert "kinks=(...)" in str(caught[0].message)
    assert len(phi.kinks()) <= MANY_KINKS


def test_every_kink_is_listed_once():
    for function in (lambda x: jnp.sqrt(jnp.abs(x)), lambda x: jnp.maximum(x, 1e-300) ** 1.5):
        kinks, _ = find_kinks(function)
        assert kinks == (0.0,)


def test_a_warning_points_at_the_callers_line():
    with pytest.warns(mf.MeanFieldWarning) as caught:
        mf.from_callable(lambda x: jnp.tanh(1e7 * x))
    assert caught[0].filename == __file__


def test_a_custom_activation_computes_like_the_built_in_one():
    mine = mf.from_callable(lambda x: jnp.clip(x, -0.7, 0.7))
    built_in = mf.activation("shtanh", a=0.7)
    for q in (0.1, 1.0, 30.0):
        assert mine.second_moment(q) == pytest.approx(float(built_in.second_moment(q)), rel=1e-14)
        assert mine.slope_moment(q, 2) == pytest.approx(
            float(built_in.slope_moment(q, 2)), rel=1e-14
        )


def test_the_label_is_the_functions_name_unless_given():
    assert mf.from_callable(jnp.tanh).label == "tanh"
    assert mf.from_callable(jnp.tanh, label="my tanh").label == "my tanh"


# Given kinks -------------------------------------------------------------------------------


def test_given_kinks_are_kept_and_sorted():
    with pytest.warns(mf.MeanFieldWarning, match=r"nothing is seen to jump at \[0\.25\]"):
        phi = mf.from_callable(lambda x: jnp.clip(x, -1, 1), kinks=[1, -1.0, 0.25])
    assert phi.kinks() == (-1.0, 0.25, 1.0)


def test_more_kinks_than_the_rules_can_serve_are_refused():
    with pytest.raises(mf.MeanFieldError, match=f"at most {MANY_KINKS}"):
        mf.from_callable(jnp.floor, kinks=range(MANY_KINKS + 1))


@pytest.mark.parametrize("sharpness", [300.0, 1000.0, 5000.0])
def test_a_feature_that_the_rules_miss_is_warned_of(sharpness):
    with pytest.warns(mf.MeanFieldWarning, match="the rules miss a feature of it"):
        mf.from_callable(lambda x: jnp.tanh(x) + jnp.exp(-(((x - 0.5) * sharpness) ** 2)))


def test_no_kinks_can_be_given_to_a_smooth_function():
    assert mf.from_callable(jnp.tanh, kinks=()).kinks() == ()


def test_a_kink_that_is_left_out_is_warned_of_and_nothing_added():
    with pytest.warns(mf.MeanFieldWarning, match=r"also has kinks at \[-1\.0\], which kinks="):
        phi = mf.from_callable(lambda x: jnp.clip(x, -1, 1), kinks=(1.0,))
    assert phi.kinks() == (1.0,)


def test_a_jump_that_is_left_out_gives_nan_and_not_a_wrong_number():
    with pytest.warns(mf.MeanFieldWarning, match=r"also has kinks at \[0\.4\]"):
        phi = mf.from_callable(lambda x: jnp.where(x > 0.4, 1.0, 0.0), kinks=())
    assert np.isnan(phi.second_moment(1.0))


@pytest.mark.parametrize("kinks", [(0.0, np.nan), [np.inf]])
def test_a_kink_that_is_no_number_is_refused(kinks):
    with pytest.raises(mf.MeanFieldError, match=r"^kinks = .* must be finite numbers"):
        mf.from_callable(jnp.tanh, kinks=kinks)


# Functions that cannot be used ----------------------------------------------------------------

NOT_ELEMENTWISE = {
    "nothing": lambda x: None,
    "a sum": lambda x: x.sum(),
    "a whole number": lambda x: (x > 0).astype(int),
    "a truth value": lambda x: x > 0,
    "a cumulative sum": lambda x: jnp.cumsum(x, axis=-1),
    "a softmax": lambda x: jnp.exp(x) / jnp.exp(x).sum(),
    "a sorted copy": lambda x: jnp.sort(x.ravel())[::-1].reshape(x.shape),
}


@pytest.mark.parametrize("name", NOT_ELEMENTWISE)
def test_a_function_that_is_not_elementwise_is_refused(name):
    with pytest.raises(mf.MeanFieldError, match="must be elementwise"):
        mf.from_callable(NOT_ELEMENTWISE[name], label="odd")


UNTRACEABLE = {
    "numpy": lambda x: np.maximum(x, 0),
    "scipy": scipy.special.erf,
    "a float": float,
    "a branch": lambda x: x if x > 0 else 0 * x,
    "an exception": lambda x: 1 / 0,
}


@pytest.mark.parametrize("name", UNTRACEABLE)
def test_a_function_that_jax_cannot_trace_is_refused(name):
    with pytest.raises(mf.MeanFieldError, match=r"^odd is not legal; .*jax\.numpy") as caught:
        mf.from_callable(UNTRACEABLE[name], label="odd")
    assert caught.value.__cause__ is not None


def test_what_is_not_a_function_is_refused():
    with pytest.raises(mf.MeanFieldError, match=r"^function = 3 is not legal; it must be callable"):
        mf.from_callable(3)
