"""The shape of φ against facts derived by hand, published errors and the tutorial's values."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import meanfield as mf
from meanfield.activations import (
    activations,
    gain,
    inactive_fraction,
    saturated_fraction,
    shape,
    torch_gain,
)
from meanfield.activations.custom import Custom
from meanfield.errors import MeanFieldError

INF = math.inf
LINEAR, BOUNDED, SUPER = "linear", "bounded", "superlinear"
SELU_SCALE, SELU_SLOPE = 1.0507009873554805, 1.7580993408473768
GAUSSIAN_SLOPE = math.sqrt(2 / math.e)

# Name: (smoothness, (sup |φ'|, at), (inf φ', at), (inf φ, at), (sup φ, at), growth). The
# parameters have their defaults. The digits are from 40-digit arithmetic.
FACTS = {
    "linear": (INF, (1, (-INF, INF)), (1, (-INF, INF)), (-INF, -INF), (INF, INF), (LINEAR, LINEAR)),
    "relu": (0, (1, (0, INF)), (0, (-INF, 0)), (0, (-INF, 0)), (INF, INF), (BOUNDED, LINEAR)),
    "leaky_relu": (0, (1, (0, INF)), (0.01, (-INF, 0)), (-INF, -INF), (INF, INF), (LINEAR, LINEAR)),
    "abs": (0, (1, (0, INF)), (-1, (-INF, 0)), (0, 0), (INF, INF), (LINEAR, LINEAR)),
    "relu6": (0, (1, (0, 6)), (0, (-INF, 0)), (0, (-INF, 0)), (6, (6, INF)), (BOUNDED, BOUNDED)),
    "hard_tanh": (
        *(0, (1, (-1, 1)), (0, (1, INF)), (-1, (-INF, -1)), (1, (1, INF))),
        (BOUNDED, BOUNDED),
    ),
    "shtanh": (
        *(0, (1, (-1, 1)), (0, (1, INF)), (-1, (-INF, -1)), (1, (1, INF))),
        (BOUNDED, BOUNDED),
    ),
    "ssaw": (0, (1, (-1, 1)), (-1, (1, 2)), (-1, -1), (1, 1), (BOUNDED, BOUNDED)),
    "ssin": (0, (1, (-1, 1)), (-1, 1 + math.pi / 2), (-1, -1), (1, 1), (BOUNDED, BOUNDED)),
    "sexp": (0, (1, (-1, 1)), (-1, 1), (-1, -1), (1, 1), (BOUNDED, BOUNDED)),
    "elu": (1, (1, (0, INF)), (0, -INF), (-1, -INF), (INF, INF), (BOUNDED, LINEAR)),
    "selu": (0, (SELU_SLOPE, 0), (0, -INF), (-SELU_SLOPE, -INF), (INF, INF), (BOUNDED, LINEAR)),
    "celu": (1, (1, (0, INF)), (0, -INF), (-1, -INF), (INF, INF), (BOUNDED, LINEAR)),
    "hard_swish": (0, (1.5, 3), (-0.5, -3), (-0.375, -1.5), (INF, INF), (BOUNDED, LINEAR)),
    "softsign": (1, (1, 0), (0, INF), (-1, -INF), (1, INF), (BOUNDED, BOUNDED)),
    "srelu": (2, (1, (1, INF)), (0, (-INF, -1)), (0, (-INF, -1)), (INF, INF), (BOUNDED, LINEAR)),
    "tanh": (INF, (1, 0), (0, INF), (-1, -INF), (1, INF), (BOUNDED, BOUNDED)),
    "erf": (INF, (2 / math.sqrt(math.pi), 0), (0, INF), (-1, -INF), (1, INF), (BOUNDED, BOUNDED)),
    "sigmoid": (INF, (0.25, 0), (0, INF), (0, -INF), (1, INF), (BOUNDED, BOUNDED)),
    "arctan": (INF, (1, 0), (0, INF), (-math.pi / 2, -INF), (math.pi / 2, INF), (BOUNDED, BOUNDED)),
    "gaussian": (
        *(INF, (GAUSSIAN_SLOPE, -math.sqrt(0.5)), (-GAUSSIAN_SLOPE, math.sqrt(0.5))),
        *((0, INF), (1, 0), (BOUNDED, BOUNDED)),
    ),
    "softplus": (INF, (1, INF), (0, -INF), (0, -INF), (INF, INF), (BOUNDED, LINEAR)),
    "swish": (
        *(INF, (1.099839320128866917, 2.3993572805154676678)),
        *((-0.099839320128866917, -2.3993572805154676678),),
        *((-0.27846454276107379511, -1.2784645427610737951), (INF, INF), (BOUNDED, LINEAR)),
    ),
    "gelu": (
        *(INF, (1.1289041451851547863, math.sqrt(2)), (-0.1289041451851547863, -math.sqrt(2))),
        *((-0.16997120747990366169, -0.75179152469356445746), (INF, INF), (BOUNDED, LINEAR)),
    ),
    "gelu_tanh": (
        *(
            INF,
            (1.12899306865877177, 1.41850400879082836),
            (-0.128993068658771765, -1.41850400879082836),
        ),
        *((-0.170040750571254051, -0.752461422071016258), (INF, INF), (BOUNDED, LINEAR)),
    ),
    "mish": (
        *(
            INF,
            (1.08849816125172786, 1.49057117948542846),
            (-0.112526122389462556, -2.25637639636079312),
        ),
        *((-0.308843413017250407, -1.19243121451549521), (INF, INF), (BOUNDED, LINEAR)),
    ),
    "tanhexp": (
        *(
            INF,
            (1.06197530871791597, 0.696563960395172384),
            (-0.131570036189715816, -2.06597189615674984),
        ),
        *((-0.353285777848211271, -1.07886005846462406), (INF, INF), (BOUNDED, LINEAR)),
    ),
    "sin": (
        *(INF, (1, 0), (-1, math.pi), (-1, -math.pi / 2), (1, math.pi / 2)),
        (BOUNDED, BOUNDED),
    ),
}

ODD = {"linear", "hard_tanh", "shtanh", "ssaw", "ssin", "sexp", "softsign", "tanh", "erf"} | {
    "arctan",
    "sin",
}
EVEN = {"abs", "gaussian"}
CONVEX = {"linear", "relu", "leaky_relu", "abs", "elu", "celu", "srelu", "softplus"}
NOT_MONOTONE = {"abs", "ssaw", "ssin", "sexp", "hard_swish", "gaussian", "swish", "gelu"} | {
    "gelu_tanh",
    "mish",
    "tanhexp",
    "sin",
}
NON_NEGATIVE = {"relu", "abs", "relu6", "srelu", "sigmoid", "gaussian", "softplus"}
HOMOGENEOUS = {"linear", "relu", "leaky_relu", "abs"}
LINEAR_REGION = {"linear": (-INF, INF)} | dict.fromkeys(
    ("hard_tanh", "shtanh", "ssaw", "ssin", "sexp"), (-1, 1)
)
ZERO_SET = {
    "relu": ((-INF, 0),),
    "relu6": ((-INF, 0),),
    "ssaw": ((-INF, -2), (2, INF)),
    "hard_swish": ((-INF, -3),),
    "srelu": ((-INF, -1),),
}
FLAT_SET = ZERO_SET | {
    "relu6": ((-INF, 0), (6, INF)),
    "hard_tanh": ((-INF, -1), (1, INF)),
    "shtanh": ((-INF, -1), (1, INF)),
}


@pytest.fixture(scope="module", params=sorted(FACTS))
def registered(request):
    """A registered activation and its shape."""
    return request.param, shape(mf.activation(request.param))


def test_the_table_is_complete():
    names = {activations[name].name for name in activations}
    assert names == set(FACTS)


def test_registered_extrema(registered):
    name, answer = registered
    smoothness, steep, low_slope, low, high, growth = FACTS[name]
    assert answer.smoothness == smoothness
    for value, at, (expected, where) in [
        (answer.lipschitz, answer.lipschitz_at, steep),
        (answer.slope_minimum, answer.slope_minimum_at, low_slope),
        (answer.minimum, answer.minimum_at, low),
        (answer.maximum, answer.maximum_at, high),
    ]:
        assert value == pytest.approx(expected, rel=1e-14, abs=1e-14)
        assert at == (where if isinstance(where, tuple) else pytest.approx(where, rel=1e-13))
    assert answer.growth == growth
    assert answer.bounded is (growth == (BOUNDED, BOUNDED))


def test_registered_properties(registered):
    name, answer = registered
    assert answer.odd is (name in ODD)
    assert answer.even is (name in EVEN)
    assert answer.convex is (name in CONVEX)
    assert answer.monotone is (name not in NOT_MONOTONE)
    assert answer.non_negative is (name in NON_NEGATIVE)
    assert answer.homogeneous is (name in HOMOGENEOUS)
    assert answer.linear_region == LINEAR_REGION.get(name)
    assert answer.zero_set == ZERO_SET.get(name, ())
    assert answer.flat_set == FLAT_SET.get(name, ())


def test_registered_kinks_agree_with_the_jumps_that_the_activation_measures(registered):
    name, answer = registered
    phi = mf.activation(name)
    expected = [
        (float(k), float(jump), pytest.approx(float(slope), abs=2e-10))
        for k, jump, slope in zip(phi.kinks(), phi.jumps(), phi.slope_jumps(), strict=True)
    ]
    assert [(kink.at, kink.jump, kink.slope_jump) for kink in answer.kinks] == expected


def test_published_lipschitz_constants():
    gelu, silu, mish = (shape(mf.activation(n)).lipschitz for n in ("gelu", "silu", "mish"))
    assert abs(gelu - 1.084) > 0.04  # the published value is wrong
    assert round(silu, 3) == 1.100
    assert round(mish, 3) == 1.088  # the published 1.089 is an upper bound
    sigmoid_gelu = shape(mf.scale(mf.activation("swish"), 1 / 1.702, 1.702))
    assert sigmoid_gelu.lipschitz == pytest.approx(1.099839320128867, abs=1e-14)
    assert sigmoid_gelu.lipschitz_at == pytest.approx(1.409728, abs=1e-6)


@pytest.mark.parametrize("delta", [1e-4, 0.5, 1.0, 1e4])
def test_srelu_is_twice_differentiable_at_every_radius(delta):
    answer = shape(mf.activation("srelu", delta=delta))
    assert answer.smoothness == 2
    assert answer.lipschitz == 1
    assert answer.lipschitz_at == (delta, INF)
    assert answer.zero_set == ((-INF, -delta),)
    assert [(kink.jump, kink.slope_jump) for kink in answer.kinks] == [(0, 0), (0, 0)]


@pytest.mark.parametrize("beta", [1.0, 2.0, 5.0, 10.0, 0.7])
def test_softplus_is_farthest_from_relu_at_zero(beta):
    answer = shape(mf.activation("softplus", beta=beta) - mf.activation("relu"))
    assert answer.maximum == pytest.approx(math.log(2) / beta, rel=1e-14)
    assert answer.maximum_at == 0
    assert (answer.minimum, answer.even) == (0, True)
    assert answer.lipschitz == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize("delta", [0.1, 2.0])
def test_srelu_is_farthest_from_relu_at_zero(delta):
    answer = shape(mf.activation("srelu", delta=delta) - mf.activation("relu"))
    assert answer.maximum == pytest.approx(3 * delta / 16, rel=1e-13)
    assert answer.maximum_at == 0
    assert answer.zero_set == ((-INF, -delta), (delta, INF))


@pytest.mark.parametrize("beta", [1e-4, 1e4])
def test_scales_far_from_one(beta):
    answer = shape(mf.activation("swish", beta=beta))
    assert answer.minimum == pytest.approx(-0.27846454276107379511 / beta, rel=1e-14)
    assert answer.minimum_at == pytest.approx(-1.2784645427610737951 / beta, rel=1e-14)
    assert answer.lipschitz == pytest.approx(1.099839320128866917, rel=1e-14)


def test_a_narrow_feature_away_from_zero_is_found_where_the_activation_cuts_there():
    answer = shape(mf.shift(mf.activation("swish", beta=1e4), 5.0))
    assert answer.lipschitz == pytest.approx(1.099839320128866917, rel=1e-12)
    assert answer.minimum_at == pytest.approx(5 - 1.2784645427610737951e-4, rel=1e-14)


def test_shtanh_is_linear_up_to_a():
    answer = shape(mf.activation("shtanh", a=2.0, k=0.5))
    assert answer.linear_region == (-2, 2)
    assert (answer.lipschitz, answer.lipschitz_at) == (0.5, (-2, 2))
    assert (answer.maximum, answer.maximum_at) == (1, (2, INF))


@pytest.mark.parametrize(
    ("phi", "expected"),
    [
        (mf.activation("linear") + mf.activation("relu") - mf.activation("relu"), 1.0),
        (mf.activation("leaky_relu", negative_slope=1.0), 1.0),
        (0.0 * mf.activation("tanh"), 0.0),
    ],
)
def test_a_declared_kink_where_the_line_goes_on_is_none(phi, expected):
    answer = shape(phi)
    assert answer.kinks == ()
    assert answer.smoothness == INF
    assert answer.linear_region == (-INF, INF)
    assert (answer.lipschitz, answer.slope_minimum) == (expected, expected)
    assert answer.odd
    assert answer.homogeneous


def test_kinks_equal_but_for_rounding_are_one():
    relu = mf.activation("relu")
    answer = shape(mf.shift(relu, 0.1 + 0.2) + mf.shift(relu, 0.3))
    assert [(kink.at, kink.slope_jump) for kink in answer.kinks] == [(0.3, 2.0)]


def test_combinations():
    gelu = shape(mf.scale(mf.activation("gelu"), output=-3.0, input=0.5))
    assert gelu.maximum == pytest.approx(3 * 0.16997120747990366169, rel=1e-14)
    assert gelu.slope_minimum == pytest.approx(-1.5 * 1.1289041451851547863, rel=1e-14)
    assert gelu.lipschitz_at == gelu.slope_minimum_at == pytest.approx(2 * math.sqrt(2), rel=1e-14)
    shifted = shape(mf.shift(mf.activation("relu"), input=2.0, output=-1.0))
    assert shifted.linear_region == (-INF, 2)
    assert shifted.flat_set == ((-INF, 2),)
    assert shifted.zero_set == ()
    assert not shifted.homogeneous
    assert shape(-mf.activation("relu")).monotone
    wave = shape(mf.shift(mf.activation("sin"), 1.0))
    assert (wave.lipschitz, wave.lipschitz_at) == (1, pytest.approx(1, abs=1e-14))
    bent = shape(mf.activation("tanh") + mf.shift(mf.activation("relu"), 50.0))
    assert bent.growth == (BOUNDED, LINEAR)
    assert (bent.lipschitz, bent.lipschitz_at) == (1, (50, INF))


def custom(f, *kinks):
    """Return a callable as an activation with given kinks, unchecked."""
    return Custom(f, kinks)


def test_steps():
    up = shape(custom(lambda x: jnp.where(x > 0, 1.0, 0.0), 0.0))
    assert (up.smoothness, up.lipschitz, up.lipschitz_at) == (-1, INF, 0)
    assert [(k.at, k.jump, k.slope_jump) for k in up.kinks] == [(0, 1, 0)]
    assert up.slope_minimum == 0
    assert up.monotone
    assert not up.convex
    assert (up.minimum, up.maximum) == (0, 1)
    assert up.zero_set == ((-INF, 0),)
    assert up.flat_set == ((-INF, 0), (0, INF))
    down = shape(custom(lambda x: jnp.tanh(x) - jnp.where(x > 2, 1.0, 0.0), 2.0))
    assert (down.slope_minimum, down.slope_minimum_at) == (-INF, 2)
    assert (down.maximum, down.maximum_at) == (pytest.approx(math.tanh(2), rel=1e-13), 2)
    assert down.monotone is False


def test_a_found_kink():
    answer = shape(mf.from_callable(lambda x: jnp.sign(x) * jnp.maximum(jnp.abs(x) - 0.5, 0)))
    assert answer.linear_region == (-0.5, 0.5)
    assert answer.zero_set == ((-0.5, 0.5),)
    assert [(k.at, k.slope_jump) for k in answer.kinks] == [
        (-0.5, pytest.approx(-1)),
        (0.5, pytest.approx(1)),
    ]
    assert (answer.odd, answer.monotone, answer.convex) == (True, True, False)


@pytest.mark.parametrize(("power", "smoothness"), [(2, 1), (3, 2), (5, 4), (7, 4)])
def test_powers_of_relu_are_as_smooth_as_the_orders_that_are_compared(power, smoothness):
    answer = shape(custom(lambda x: jnp.maximum(x, 0.0) ** power, 0.0))
    assert answer.smoothness == smoothness
    assert answer.lipschitz == INF
    assert answer.zero_set == ((-INF, 0),)
    assert answer.growth == (BOUNDED, SUPER)


# Callable: (inf φ, sup φ, sup |φ'|, inf φ', growth), and what is true of even, odd, convex,
# monotone, non_negative.
CALLABLES = {
    "exp": (jnp.exp, (0, INF, INF, 0, (BOUNDED, SUPER)), "00111"),
    "square": (jnp.square, (0, INF, INF, -INF, (SUPER, SUPER)), "10101"),
    "cube": (lambda x: x**3, (-INF, INF, INF, 0, (SUPER, SUPER)), "01010"),
    "fourth": (lambda x: x**4, (0, INF, INF, -INF, (SUPER, SUPER)), "10101"),
    "eighth": (lambda x: x**8, (0, INF, INF, -INF, (SUPER, SUPER)), "10101"),
    "exp(x²)": (lambda x: jnp.exp(x * x), (1, INF, INF, -INF, (SUPER, SUPER)), "10101"),
    "x² exp(-x)": (
        lambda x: x * x * jnp.exp(-x),
        (0, INF, INF, -INF, (SUPER, BOUNDED)),
        "00001",
    ),
    "√(1 + x²)": (lambda x: jnp.sqrt(1 + x * x), (1, INF, 1, -1, (LINEAR, LINEAR)), "10101"),
    "log(1 + x²)": (
        lambda x: jnp.log1p(x * x),
        (0, INF, 1, -1, ("sublinear", "sublinear")),
        "10001",
    ),
    "x/√(1 + x²)": (
        lambda x: x / jnp.sqrt(1 + x * x),
        (-1, 1, 1, 0, (BOUNDED, BOUNDED)),
        "01010",
    ),
    "cos": (jnp.cos, (-1, 1, 1, -1, (BOUNDED, BOUNDED)), "10000"),
    "x + sin² x": (
        lambda x: x + jnp.sin(x) ** 2,
        (-INF, INF, 2, 0, (LINEAR, LINEAR)),
        "00010",
    ),
    "x sin x": (lambda x: x * jnp.sin(x), (-INF, INF, INF, -INF, (LINEAR, LINEAR)), "10000"),
    "log(1 + e^x), overflowing": (
        lambda x: jnp.log(1 + jnp.exp(x)),
        (0, INF, 1, 0, (BOUNDED, LINEAR)),
        "00111",
    ),
    "tanh, overflowing": (
        lambda x: (jnp.exp(x) - jnp.exp(-x)) / (jnp.exp(x) + jnp.exp(-x)),
        (-1, 1, 1, 0, (BOUNDED, BOUNDED)),
        "01010",
    ),
}


@pytest.mark.parametrize("name", CALLABLES)
def test_smooth_callables(name):
    function, (low, high, steep, descent, growth), truths = CALLABLES[name]
    answer = shape(custom(function))
    found = (answer.minimum, answer.maximum, answer.lipschitz, answer.slope_minimum)
    assert found == pytest.approx((low, high, steep, descent), abs=1e-13)
    assert answer.growth == growth
    properties = (answer.even, answer.odd, answer.convex, answer.monotone, answer.non_negative)
    assert "".join(str(int(bool(p))) for p in properties) == truths
    assert answer.smoothness == INF


def test_cusps_are_infinitely_steep():
    root = shape(custom(lambda x: jnp.sqrt(jnp.abs(x)), 0.0))
    assert (root.lipschitz, root.lipschitz_at, root.smoothness) == (INF, 0, 0)
    assert (root.minimum, root.minimum_at) == (0, 0)
    assert root.growth == ("sublinear", "sublinear")
    entropy = shape(custom(lambda x: x * jnp.log(jnp.abs(x)), 0.0))
    assert (entropy.slope_minimum, entropy.slope_minimum_at) == (-INF, 0)
    assert entropy.smoothness == 0


def test_what_cannot_be_decided_is_none():
    slow = shape(custom(lambda x: 1 / jnp.log(3 + x * x)))
    assert (slow.minimum, slow.minimum_at, slow.non_negative) == (None, None, None)
    assert slow.maximum == pytest.approx(1 / math.log(3), rel=1e-14)
    assert slow.bounded
    rising = shape(custom(lambda x: jnp.sin(x) * jnp.abs(x) / (1 + jnp.abs(x)), 0.0))
    assert (rising.maximum, rising.minimum, rising.lipschitz) == (None, None, None)
    pole = shape(custom(lambda x: 1 / x))
    assert (pole.minimum, pole.maximum) == (-math.inf, math.inf)
    assert (pole.bounded, pole.monotone) == (False, False)
    overflowing = shape(custom(lambda x: x * jnp.exp(x) / (1 + jnp.exp(x))))
    # What overflows is passed over: the steepest place of x/(1 + e^-x) is far from it.
    assert overflowing.lipschitz == pytest.approx(1.09983932012886681, rel=1e-13)
    assert overflowing.minimum == pytest.approx(-0.27846454276107379511, rel=1e-14)
    cut = shape(custom(lambda x: jnp.where(jnp.abs(x) < 150, x, jnp.nan), 0.0))
    assert cut.growth == (LINEAR, LINEAR)


def test_what_is_no_function_on_the_line_is_refused():
    with pytest.raises(MeanFieldError, match="must be finite, and near x = -"):
        shape(custom(jnp.log, 0.0))
    with pytest.raises(MeanFieldError, match="one concrete value"):
        shape(mf.activation("softplus", beta=np.array([1.0, 2.0])))
    with pytest.raises(MeanFieldError, match="one concrete value"):
        jax.grad(lambda a: shape(mf.activation("softplus", beta=a)).lipschitz)(1.0)


@pytest.mark.parametrize(
    ("ratio", "active"),
    [
        (0.0, 0.5),
        (0.5, 0.69146246127401310),
        (0.25, 0.59870632568292372),
        (-1.0, 0.15865525393145705),
    ],
)
def test_relu_silences_a_normal_fraction(ratio, active):
    silent = inactive_fraction(mf.activation("relu"), 3.0 * ratio, 9.0)
    assert isinstance(silent, float)
    assert silent == pytest.approx(1 - active, rel=1e-14)


def test_fractions_of_units():
    relu6, hard = mf.activation("relu6"), mf.activation("hard_tanh", a=2.0)
    assert saturated_fraction(hard, 0.0, 1.0) == pytest.approx(math.erfc(math.sqrt(2)), rel=1e-14)
    assert inactive_fraction(hard, 0.0, 1.0) == 0
    assert saturated_fraction(mf.activation("tanh"), 0.0, 100.0) == 0
    assert saturated_fraction(relu6, -50.0, 1.0) == 1
    # P(u > 6 or u < 0) where both are rare: the tails keep their digits.
    rare = saturated_fraction(mf.shift(relu6, -20.0), 0.0, 1.0)
    assert rare == pytest.approx(1.0, abs=1e-15)
    far = inactive_fraction(custom(lambda x: jnp.maximum(10 - x, 0.0), 10.0), 0.0, 1.0)
    assert far == pytest.approx(math.erfc(10 / math.sqrt(2)) / 2, rel=1e-13)
    means = np.array([-1.0, 0.0, 1.0])
    many = inactive_fraction(mf.activation("relu"), means[:, None], np.array([1.0, 4.0]))
    assert many.shape == (3, 2)
    np.testing.assert_allclose(many[1], 0.5)
    with pytest.raises(MeanFieldError, match="variance"):
        inactive_fraction(relu6, 0.0, 0.0)
    with pytest.raises(MeanFieldError, match="mean"):
        saturated_fraction(relu6, math.nan, 1.0)


GAINS = {
    "linear": 1.0,
    "relu": 1.4142135623730951,
    "abs": 1.0,
    "tanh": 1.5925374197,
    "gelu": 1.5335304412,
    "silu": 1.6765324703,
    "mish": 1.4868475813,
    "elu": 1.2451983007,
    "erf": 1.4671669505,
    "hard_tanh": 1.3920361404,
    "sin": 1.5208666232,
    "selu": 1.0,
    "sigmoid": 0.293379035858092962**-0.5,
    "softplus": 0.921245908859300278**-0.5,
    "srelu": 0.512017732109027721**-0.5,
}


@pytest.mark.parametrize("name", GAINS)
def test_gains(name):
    assert float(gain(mf.activation(name))) == pytest.approx(GAINS[name], rel=1e-10)


LEAKY_GAINS = [
    (0.0, 1.4142135623730951),
    (0.01, 1.4141428569978354),
    (0.1, 1.4071950894605837),
    (0.2, 1.3867504905630728),
    (0.25, 1.3719886811400707),
]


@pytest.mark.parametrize(("slope", "expected"), LEAKY_GAINS)
def test_leaky_gains_are_those_of_he_and_of_torch(slope, expected):
    phi = mf.activation("leaky_relu", negative_slope=slope)
    assert float(gain(phi)) == pytest.approx(expected, rel=1e-15)
    assert torch_gain(phi) == pytest.approx(expected, rel=1e-15)


def test_torch_gains():
    known = {"linear": 1, "sigmoid": 1, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}
    for name in set(FACTS) - {"leaky_relu"}:
        assert torch_gain(mf.activation(name)) == known.get(name)
    assert torch_gain(2.0 * mf.activation("relu")) is None
    # With PyTorch's gain tanh does not keep unit variance.
    kept = mf.activation("tanh").second_moment((5 / 3) ** 2)
    assert float(kept) == pytest.approx(0.57665177988561242856, rel=1e-13)


def test_the_gain_is_differentiable():
    slope = jax.grad(lambda a: gain(mf.activation("leaky_relu", negative_slope=a)))(0.2)
    assert slope == pytest.approx(-math.sqrt(2) * 0.2 / 1.04**1.5, rel=1e-12)
