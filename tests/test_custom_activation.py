"""Any callable becomes an activation; its kinks are found."""

import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import meanfield as mf
from meanfield.activations.custom import MANY_KINKS

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


@pytest.mark.parametrize("name", FOUND)
def test_kinks_and_jumps_are_found_to_rounding(name):
    function, expected = FOUND[name]
    phi = mf.from_callable(function)
    np.testing.assert_allclose(phi.kinks(), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", SMOOTH)
def test_no_kink_is_invented_in_a_smooth_function(name):
    assert mf.from_callable(SMOOTH[name]).kinks() == ()


def test_every_kink_is_listed_once():
    for function in (lambda x: jnp.sqrt(jnp.abs(x)), lambda x: jnp.maximum(x, 1e-300) ** 1.5):
        assert mf.from_callable(function).kinks() == (0.0,)


def test_of_many_kinks_the_nearest_are_listed():
    kinks = mf.from_callable(jnp.floor).kinks()
    assert len(kinks) == MANY_KINKS
    assert np.max(np.abs(kinks)) <= MANY_KINKS / 2


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


def test_kinks_may_be_given_and_change_nothing():
    plain = mf.from_callable(lambda x: jnp.clip(x, -1, 1))
    for kinks in ([1, -1.0], (), [0.25], range(20)):
        given = mf.from_callable(lambda x: jnp.clip(x, -1, 1), kinks=kinks)
        assert given.second_moment(0.7) == pytest.approx(float(plain.second_moment(0.7)), rel=1e-14)
        assert set(plain.kinks()) <= set(given.kinks())


@pytest.mark.parametrize("sharpness", [300.0, 1000.0, 5000.0])
def test_a_narrow_feature_is_seen(sharpness):
    def bump(x):
        return jnp.exp(-(((x - 0.5) * sharpness) ** 2))

    phi = mf.from_callable(lambda x: jnp.tanh(x) + bump(x))
    x = np.linspace(0.5 - 8 / sharpness, 0.5 + 8 / sharpness, 20001)
    more = (np.tanh(x) + np.asarray(bump(x))) ** 2 - np.tanh(x) ** 2
    density = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    exact = mf.activation("tanh").second_moment(1.0) + np.sum(more * density) * (x[1] - x[0])
    assert phi.second_moment(1.0) == pytest.approx(float(exact), rel=1e-12)


def test_a_jump_that_is_left_out_is_found():
    phi = mf.from_callable(lambda x: jnp.where(x > 0.4, 1.0, 0.0), kinks=())
    assert phi.second_moment(1.0) == pytest.approx(scipy.special.ndtr(-0.4), rel=1e-13)


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
    "a sorted copy": lambda x: jnp.sort(x, axis=-1),
    "a running maximum": lambda x: jax.lax.cummax(x, axis=1),
}


@pytest.mark.parametrize("name", NOT_ELEMENTWISE)
def test_a_function_that_is_not_elementwise_is_refused(name):
    with pytest.raises(mf.MeanFieldError, match="must be elementwise"):
        mf.from_callable(NOT_ELEMENTWISE[name], label="odd")


@pytest.mark.parametrize("function", [lambda x: np.maximum(x, 0), scipy.special.erf])
def test_a_function_of_numpy_serves_numbers(function):
    phi = mf.from_callable(function, label="mine")
    built_in = mf.activation("erf" if function is scipy.special.erf else "relu")
    assert phi.second_moment(1.3) == pytest.approx(float(built_in.second_moment(1.3)), rel=1e-13)
    assert phi.slope_moment(1.3, 2) == pytest.approx(
        float(built_in.slope_moment(1.3, 2)), rel=1e-11
    )


OF_ANY_LIBRARY = {
    "clip": lambda m: lambda x: m.clip(x, -0.4, 1.1),
    "elu": lambda m: lambda x: m.where(x > 0, x, 1.3 * m.expm1(m.minimum(x, 0))),
    "a steep step": lambda m: lambda x: m.tanh(1e5 * (x - 0.3)),
    "a narrow turn": lambda m: lambda x: m.logaddexp(0, 1e3 * x) / 1e3,
    "a power": lambda m: lambda x: m.abs(x) ** 1.5,
    "steps": lambda m: lambda x: m.floor(x),
    "kinks that are close": lambda m: lambda x: m.abs(x - 0.5) + m.abs(x - 0.501),
    "a kink and a bump": lambda m: lambda x: m.clip(x, -1, 1) + m.exp(-(((x - 0.5) / 1e-3) ** 2)),
    "a slope that bends": lambda m: lambda x: x * m.clip(x + 3, 0, 6) / 6,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_ANY_LIBRARY)
def test_kinks_are_found_without_slopes(name):
    ours, theirs = (
        mf.from_callable(OF_ANY_LIBRARY[name](library), label=name) for library in (np, jnp)
    )
    near = [[k for k in phi.kinks() if abs(k) < 3] for phi in (ours, theirs)]
    np.testing.assert_allclose(near[0], near[1], rtol=1e-12, atol=1e-12)
    for q in (0.3, 5.0):
        for statistic in ("second_moment", "variance_slope"):
            value, expected = (getattr(phi, statistic)(q) for phi in (ours, theirs))
            np.testing.assert_allclose(value, expected, rtol=1e-10)
        value, expected = (phi.slope_moment(q, 2) for phi in (ours, theirs))
        np.testing.assert_allclose(value, expected, rtol=1e-9)
        value, expected = (phi.decorrelation(q, 0.3) for phi in (ours, theirs))
        np.testing.assert_allclose(value, expected, rtol=1e-9)
        # Of φ'' less is known: it is right, or not a number.
        value, expected = (float(phi.curvature_moment(q)) for phi in (ours, theirs))
        assert np.isnan(value) or value == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("power", [1.2, 1.4, 1.5])
def test_a_curvature_that_is_not_square_integrable_has_no_moment(power):
    phi = mf.from_callable(lambda x: jnp.abs(x) ** power, label="power")
    assert not np.isfinite(phi.curvature_moment(1.0))


@pytest.mark.slow
@pytest.mark.parametrize("gap", [1e-4, 1e-6, 1e-8, 1e-10])
def test_kinks_next_to_each_other_bend(gap):
    def close(library):
        def phi(x):
            return library.maximum(x - 1 / 3, 0) + library.maximum(x - 1 / 3 - gap, 0)

        return mf.from_callable(phi, label="close")

    phi = close(jnp)
    np.testing.assert_allclose(phi.kinks(), [1 / 3, 1 / 3 + gap], rtol=1e-12)
    np.testing.assert_allclose(phi.slope_jumps(), 1.0, rtol=1e-9)
    assert np.isposinf(phi.curvature_moment(0.7))
    assert not np.isfinite(close(np).curvature_moment(0.7))


USELESS = {
    "a float": lambda x: float(x),
    "a branch": lambda x: x if x > 0 else 0 * x,
    "an exception": lambda x: 1 / 0,
}


@pytest.mark.parametrize("name", USELESS)
def test_what_no_library_can_evaluate_is_refused(name):
    with pytest.raises(mf.MeanFieldError, match=r"^odd is not legal; .*jax\.numpy") as caught:
        mf.from_callable(USELESS[name], label="odd")
    assert caught.value.__cause__ is not None


def test_single_precision_is_refused():
    with pytest.raises(mf.MeanFieldError, match=r"must return double precision, not float32"):
        mf.from_callable(lambda x: x.astype(jnp.float32))


def test_traced_numbers_in_a_callable_are_refused():
    def second_moment(k):
        return mf.from_callable(lambda x: jnp.tanh(k * x)).second_moment(1.0)

    with pytest.raises(mf.MeanFieldError, match="holds traced numbers"):
        jax.grad(second_moment)(1.0)


def test_what_is_not_a_function_is_refused():
    with pytest.raises(mf.MeanFieldError, match=r"^function = 3 is not legal; it must be callable"):
        mf.from_callable(3)


def test_to_try_a_library_warns_nobody():
    """PyTorch warns of numbers that are made of its arrays; the function is refused anyway."""
    pytest.importorskip("torch")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(mf.MeanFieldError):
            mf.from_callable(math.tanh)
    assert not told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (jax.nn.gelu, "gelu_tanh"),
        (lambda x: x / 2 * (1 + jax.scipy.special.erf(x / np.sqrt(2.0))), "gelu"),
        (lambda x: (1 + jnp.tanh(x / 2)) / 2, "sigmoid"),
        (lambda x: x / 2 * (1 + jnp.tanh(x / 2)), "silu"),
    ],
    ids=["gelu_tanh", "gelu", "sigmoid", "silu"],
)
def test_tails_that_are_lost_in_rounding_are_0_beside_the_rest(function, name):
    """Where 1 + tanh cancels, φ is the rounding of what lies further in."""
    phi, exact = mf.from_callable(function), mf.activation(name)
    q = 10.0 ** np.array([-4, -1, 0, 1, 3, 6])
    for statistic in ("second_moment", "variance_slope", "edge_deficit"):
        found, right = (np.asarray(getattr(f, statistic)(q)) for f in (phi, exact))
        np.testing.assert_allclose(found, right, rtol=1e-11, err_msg=statistic)
    np.testing.assert_allclose(phi.slope_moment(q, 4), exact.slope_moment(q, 4), rtol=1e-11)
    np.testing.assert_allclose(phi.decorrelation(q, 0.3), exact.decorrelation(q, 0.3), rtol=1e-11)
    assert float(mf.edge_of_chaos(phi, 0.3).sigma_w) == pytest.approx(
        float(mf.edge_of_chaos(exact, 0.3).sigma_w), rel=1e-11
    )
