"""Records are pytrees, and functions of scalars broadcast over them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meanfield._elementwise import elementwise, side_by_side
from meanfield._struct import concrete, static, struct


@struct
class Line:
    slope: float
    offset: float = 0.0
    label: str = static(default="line")

    def __post_init__(self):
        if concrete(self.slope):
            assert np.all(np.isfinite(self.slope)), "validated"


@struct
class Nest:
    inner: Line
    power: float = 1.0


@elementwise()
def value(line: Line, x):
    return line.slope * x + line.offset


def test_numbers_are_leaves_and_static_fields_are_structure():
    leaves, tree = jax.tree.flatten(Nest(Line(2.0, 3.0, "a"), 5.0))
    assert leaves == [2.0, 3.0, 5.0]
    assert tree != jax.tree.structure(Nest(Line(2.0, 3.0, "b"), 5.0))
    back = jax.tree.unflatten(tree, leaves)
    assert (back.inner.slope, back.inner.label, back.power) == (2.0, "a", 5.0)


def test_unflattening_bypasses_validation():
    with pytest.raises(AssertionError, match="validated"):
        Line(float("nan"))
    record = jax.tree.map(lambda _: float("nan"), Line(1.0))
    assert np.isnan(record.slope)
    placeholder = object()
    assert jax.tree.map(lambda _: placeholder, Line(1.0)).offset is placeholder


def test_records_are_frozen_and_compare_by_identity():
    line = Line(1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        line.slope = 2.0
    assert line == line
    assert line != Line(1.0)


def test_static_fields_need_no_default_but_accept_metadata():
    @struct
    class Tagged:
        tag: str = static(metadata={"doc": "a name"})

    field = dataclasses.fields(Tagged)[0]
    assert field.metadata["doc"] == "a name"
    assert field.metadata["static"] is True
    assert jax.tree.leaves(Tagged("x")) == []


@pytest.mark.parametrize("number", [1, 1.5, True, np.float64(2), np.ones(3), jnp.ones(2)])
def test_numbers_and_arrays_are_concrete(number):
    assert concrete(number, 1.0)


def test_tracers_and_placeholders_are_not_concrete():
    seen = []
    jax.jit(lambda x: seen.append(concrete(x)) or x)(1.0)
    assert seen == [False]
    assert not concrete(1.0, object())
    assert not concrete(None)


def test_scalars_give_scalars_and_arrays_broadcast_together():
    assert value(Line(2.0, 1.0), 3.0).shape == ()
    slopes, x = np.array([[1.0], [2.0]]), np.array([1.0, 10.0, 100.0])
    out = value(Line(slopes, 0.5), x)
    assert out.shape == (2, 3)
    np.testing.assert_array_equal(out, slopes * x + 0.5)
    with pytest.raises(ValueError, match="shape"):
        value(Line(np.ones(2)), np.ones(3))


def test_whole_numbers_become_real():
    assert value(Line(1), 2).dtype == jnp.float64


def test_an_empty_array_gives_an_empty_answer():
    assert value(Line(1.0), np.ones((0, 2))).shape == (0, 2)


def test_records_and_arrays_in_the_answer_keep_their_inner_shape():
    @elementwise()
    def both(x):
        return Line(x, jnp.stack([x, -x]))

    out = both(np.arange(3.0))
    assert out.slope.shape == (3,)
    np.testing.assert_array_equal(out.offset, [[0, 0], [1, -1], [2, -2]])


def test_named_arguments_can_be_static():
    @elementwise("power")
    def raised(x, power=2):
        assert isinstance(power, int)
        return x**power

    assert raised(3.0) == 9.0
    np.testing.assert_array_equal(raised(np.array([1.0, 2.0]), power=3), [1.0, 8.0])


def test_a_function_is_traced_once_for_all_values():
    count = []

    @elementwise()
    def traced(line, x):
        count.append(None)
        return line.slope + x

    for slope in (1.0, 2.0, 3):
        traced(Line(slope), 0.5)
    traced(Line(np.ones(4)), np.arange(4.0))
    traced(Line(2.0), np.ones((3, 100)))
    assert len(count) == 1


def test_vectors_are_cut_and_joined():
    @elementwise()
    def table(x, y):
        return x + y, jnp.stack([x, y])

    x, y = np.arange(1000.0), np.array([[1.0], [2.0]])
    sums, pairs = table(x, y)
    np.testing.assert_array_equal(sums, x + y)
    assert pairs.shape == (2, 1000, 2)
    np.testing.assert_array_equal(pairs[1, :, 0], x)
    sums, pairs = table(np.zeros((0, 3)), 1.0)
    assert sums.shape == (0, 3)
    assert pairs.shape == (0, 3, 2)


def test_known_numbers_among_traced_ones_are_constants():
    @elementwise()
    def square(x):
        return x * x

    assert jax.jit(lambda y: square(3.0) + square(y))(2.0) == 13
    assert jax.grad(lambda y: square(3.0) * square(y))(2.0) == 36


def test_an_array_is_differentiable_element_by_element():
    gradient = jax.grad(lambda x: value(Line(x, 1.0), x).sum())(np.array([1.0, 2.0]))
    np.testing.assert_array_equal(gradient, [2.0, 4.0])


def test_vectors_side_by_side():
    def root(line, x, power):
        return jax.lax.cond(x > 0, lambda: x**power, lambda: line.slope)

    x = np.array([-1.0, 2.0, 3.0])
    values = side_by_side(root, "power")(Line(5.0), x, 2)
    np.testing.assert_array_equal(values, [5.0, 4.0, 9.0])
    np.testing.assert_array_equal(elementwise("power")(root)(Line(5.0), x, 2), values)
