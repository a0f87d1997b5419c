"""What users give as numbers and as counts: whatever stands for them is taken, all else named."""

import dataclasses
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import meanfield as mf
from meanfield import arguments
from meanfield.errors import MeanFieldError

TANH = mf.activation("tanh")
LAYER = mf.Dense(TANH, 1.2, 0.1)
INTEGERS = [3, np.int64(3), np.uint8(3), np.array(3), jnp.asarray(3)]
NO_INTEGERS = [
    True,
    np.True_,
    jnp.asarray(True),
    2.0,
    np.float64(3),
    "3",
    None,
    -1,
    np.ones(2, int),
]
# What takes a count: what it is called there, and the call.
COUNTS = {
    "rollout": ("depth", lambda n: mf.rollout(LAYER, 1.0, 1.0, 0.5, n)),
    "curvature_propagation": ("depth", lambda n: mf.curvature_propagation(LAYER, n)),
    "Repeat": ("times", lambda n: mf.Repeat(LAYER, n).variance(1.0)),
    "recommend": ("depth", lambda n: mf.recommend(mf.activation("relu"), n, sigma_b=0.0)),
    "dks": ("network", lambda n: mf.dks(mf.activation("relu"), n)),
    "tat": ("network", lambda n: mf.tat(mf.activation("leaky_relu"), n)),
    "assess": ("depth", lambda n: mf.assess(LAYER, n, 1.0)),
    "assess in width": ("width", lambda n: mf.assess(LAYER, 2, 1.0, n)),
    "simulate": ("networks", lambda n: mf.simulate(LAYER, (4, 4), networks=n)),
    "simulate with a seed": ("seed", lambda n: mf.simulate(LAYER, (4, 4), networks=2, seed=n)),
    "simulate of widths": ("widths", lambda n: mf.simulate(LAYER, (4, n), networks=2)),
    "weights": ("shape", lambda n: mf.init.weights(1.0)(jax.random.key(0), (n, 3))),
}
# Arrays of two numbers.
PAIRS = [
    [1.1, 1.3],
    (1.1, 1.3),
    pd.Series([1.1, 1.3], index=[7, 8]),
    pd.Series([1.1, 1.3], dtype="Float64"),
    xr.DataArray([1.1, 1.3], dims="sigma_w"),
    [Fraction(11, 10), Fraction(13, 10)],
    [jnp.asarray(1.1), jnp.asarray(1.3)],
]
NO_NUMBERS = [None, "1.5", ["1.5"], True, 1j, {}, [[1.0], [1.0, 2.0]], np.array([None]), TANH]
# What takes a number: what it is called there, and the call.
NUMBERS = {
    "Dense": ("sigma_w", lambda x: mf.Dense(TANH, x)),
    "Dense.variance": ("q", lambda x: LAYER.variance(x)),
    "Covariance": ("q1", lambda x: mf.Covariance(x, 1.0, 0.5)),
    "covariance": ("q12", lambda x: LAYER.covariance(1.0, 1.0, x)),
    "activation": ("a", lambda x: mf.activation("shtanh", a=x)),
    "a sum": ("weight", lambda x: TANH * x),
    "scale": ("input", lambda x: mf.scale(TANH, input=x)),
    "shift": ("output", lambda x: mf.shift(TANH, output=x)),
    "expect": ("q", lambda x: mf.expect(jnp.tanh, x)),
    "expect_pair": ("c", lambda x: mf.expect_pair(jnp.tanh, jnp.tanh, 1.0, 1.0, x)),
    "steady_state": ("q0", lambda x: mf.steady_state(LAYER, x)),
    "depth_scales": ("q0", lambda x: mf.depth_scales(LAYER, x)),
    "correlation_map": ("c", lambda x: mf.correlation_map(LAYER, 1.0, x)),
    "rollout": ("q2", lambda x: mf.rollout(LAYER, 1.0, x, 0.5, 2)),
    "jacobian_moments": ("depth", lambda x: mf.jacobian_moments(LAYER, 1.0, x)),
    "jacobian_spectrum": ("q", lambda x: mf.jacobian_spectrum(LAYER, x)),
    "edge_of_chaos": ("sigma_b", lambda x: mf.edge_of_chaos(TANH, x)),
    "critical_point": ("q", lambda x: mf.critical_point(TANH, x)),
    "convergence_rate": ("q", lambda x: mf.convergence_rate(TANH, x)),
    "bernoulli_limit": ("variance", lambda x: mf.bernoulli_limit(x)),
    "the theorem": ("y", lambda x: mf.bounds.scaled_bounded(x)),
    "phase_diagram": ("sigma_b", lambda x: mf.phase_diagram(TANH, [1.0], x)),
    "phase_diagram under dropout": ("keep", lambda x: mf.phase_diagram(TANH, [1.0], [0.1], x)),
    "describe": ("mean", lambda x: mf.describe(TANH, mean=x)),
    "design": ("sigma_b", lambda x: mf.design(mf.activation("shtanh"), x, {"q": 1.0})),
    "dks": ("slope", lambda x: mf.dks(TANH, 3, x)),
    "tat": ("curvature", lambda x: mf.tat(TANH, 3, x)),
    "simulate": ("c", lambda x: mf.simulate(LAYER, (4, 4), c=x)),
    "init.weights": ("sigma_w", lambda x: mf.init.weights(x)),
    "init.biases": ("sigma_b", lambda x: mf.init.biases(x)),
}


@pytest.mark.parametrize("value", INTEGERS, ids=repr)
def test_a_count_is_what_python_takes_for_an_index(value):
    count = arguments.count("depth", value, 3)
    assert type(count) is int
    assert count == 3


@pytest.mark.parametrize("value", NO_INTEGERS, ids=repr)
def test_what_is_no_count_is_named(value):
    with pytest.raises(
        MeanFieldError, match=r"depth = .* is not legal; it must be an integer >= 0"
    ):
        arguments.count("depth", value, 0)


@pytest.mark.parametrize("place", COUNTS)
def test_numpy_integers_are_counts_everywhere_and_truth_values_nowhere(place):
    name, call = COUNTS[place]
    call(np.int64(4))
    with pytest.raises(MeanFieldError, match=f"^{name} = .*True.* is not legal; it must be"):
        call(True)


def test_a_count_may_not_be_traced():
    with pytest.raises(MeanFieldError, match="it must be an integer"):
        jax.jit(lambda n: mf.rollout(LAYER, 1.0, 1.0, 0.5, n).c)(3)


@pytest.mark.parametrize(
    "pair", PAIRS, ids=lambda x: f"{type(x).__name__} {getattr(x, 'dtype', '')}"
)
def test_whatever_numpy_makes_floats_of_is_numbers(pair):
    expected = [1.1, 1.3]
    layer = mf.Dense(TANH, pair, pair)
    assert layer.sigma_w == pytest.approx(np.array(expected))
    same = mf.Dense(TANH, np.array(expected), np.array(expected)).variance(expected)
    assert np.array_equal(layer.variance(pair), same)
    assert mf.activation("shtanh", a=pair).a == pytest.approx(np.array(expected))
    assert mf.scale(TANH, input=pair).rate == pytest.approx(np.array(expected))
    assert (TANH * pair).weights[0] == pytest.approx(np.array(expected))
    assert mf.rollout(LAYER, pair, pair, 0.5, 2).c.shape == (2, 3)
    assert mf.edge_of_chaos(TANH, pair).q.shape == (2,)
    assert mf.phase_diagram(TANH, pair, [0.1]).q.shape == (2, 1)


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_what_is_no_number_is_named(value):
    with pytest.raises(
        MeanFieldError, match=r"q = .* is not legal; it must be a real number"
    ) as said:
        arguments.number("q", value)
    assert len(str(said.value)) < 200


@pytest.mark.parametrize("place", NUMBERS)
@pytest.mark.parametrize("value", [None, "one", True])
def test_what_is_no_number_is_named_everywhere(place, value):
    name, call = NUMBERS[place]
    with pytest.raises(MeanFieldError, match=f"^{name} = {value!r} is not legal; it must "):
        call(value)


def test_traced_numbers_are_left_as_they_are():
    def slope(sigma_w):
        layer = mf.Dense(mf.activation("shtanh", a=[sigma_w]), [sigma_w, 1.0])
        assert isinstance(layer.sigma_w, jax.core.Tracer)
        return layer.variance(1.0).sum()

    assert jax.eval_shape(jax.grad(slope), 1.2).shape == ()


def test_numbers_of_eight_bits_do_not_overflow():
    layer = mf.Dense(TANH, np.int8(20))
    assert layer.variance(1.0) == pytest.approx(float(mf.Dense(TANH, 20.0).variance(1.0)))


def test_what_a_phase_diagram_returns_can_be_given_back():
    diagram = mf.phase_diagram(TANH, [1.2, 1.4], [0.3])
    layer = mf.Dense(TANH, diagram.sigma_w, 0.3)
    variance = np.asarray(diagram.q[:, 0])
    assert mf.steady_state(layer, diagram.q[:, 0]).q == pytest.approx(variance)
    series = diagram.q[:, 0].to_series()
    assert mf.correlation_map(layer, series, 0.5).shape == (2,)


def test_an_affine_activation_is_wrong_in_its_callers_words():
    with pytest.raises(MeanFieldError, match=r"^input = 0 is not legal; it must be not 0"):
        mf.scale(TANH, input=0)
    with pytest.raises(MeanFieldError, match=r"^output = inf is not legal"):
        mf.scale(TANH, output=np.inf)
    with pytest.raises(MeanFieldError, match=r"^input = nan is not legal"):
        mf.shift(TANH, input=np.nan)


@pytest.mark.parametrize(
    "operation",
    [
        lambda: LAYER + LAYER,
        lambda: sum([LAYER, LAYER]),
        lambda: LAYER - LAYER,
        lambda: 2 * LAYER,
        lambda: LAYER * 2,
        lambda: LAYER @ LAYER,
    ],
)
def test_arithmetic_with_layers_says_how_layers_are_composed(operation):
    with pytest.raises(MeanFieldError, match=r"a >> b puts b after a, and Repeat\(a, n\)"):
        operation()


def test_a_series_is_made_of_a_tuple_or_list_of_layers():
    assert mf.Serial([LAYER, LAYER]).layers == (LAYER, LAYER)
    with pytest.raises(MeanFieldError, match=r"^layers = Dense.* it must be a tuple of layers"):
        mf.Serial(LAYER)


def test_kinks_may_be_an_array():
    kinks = np.array([0.0, 1.0])
    clipped = mf.from_callable(lambda x: jnp.clip(x, 0, 1), kinks=kinks)
    assert clipped.kinks() == (0.0, 1.0)
    assert arguments.listed("kinks", kinks) == (0.0, 1.0)
    for wrong in (np.int64(3), "ab", [None], [np.inf]):
        with pytest.raises(MeanFieldError, match=r"^kinks = "):
            mf.from_callable(jnp.tanh, kinks=wrong)


@dataclasses.dataclass
class Lengthy:
    def __repr__(self):
        return "row\n" * 1000


def test_a_message_of_a_long_value_is_one_short_line():
    with pytest.raises(MeanFieldError) as said:
        arguments.number("q", Lengthy())
    assert len(str(said.value).splitlines()) == 1
    assert len(str(said.value)) < 200
