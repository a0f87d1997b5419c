"""A user's mistake names the field, the value and what is legal; a bad status can be raised."""

import dataclasses

import numpy as np
import pytest

import meanfield as mf
from meanfield.errors import require, unknown_name


@dataclasses.dataclass
class Result:
    status: object


@pytest.mark.parametrize("status", mf.Status)
def test_every_status_says_what_it_means(status):
    assert len(status.message) > 5
    assert status.message != status.name


def test_codes_are_stable_for_files():
    codes = {s.name: int(s) for s in mf.Status}
    assert codes == {
        "PENDING": 0,
        "OK": 1,
        "NO_SOLUTION": 2,
        "NOT_CONVERGED": 3,
        "NONFINITE": 4,
        "DIVERGES": 5,
        "VANISHES": 6,
        "OUT_OF_DOMAIN": 7,
        "FAILED": 8,
        "TRAINING_DIVERGES": 9,
    }


@pytest.mark.parametrize("status", [1, np.int8(1), np.ones((2, 3), np.int8)])
def test_check_returns_a_good_result_unchanged(status):
    result = Result(status)
    assert mf.check(result) is result


def test_check_raises_every_bad_status_once_with_its_message():
    result = Result(np.array([1, 5, 2, 5], np.int8))
    with pytest.raises(mf.SolutionError) as caught:
        mf.check(result)
    text = str(caught.value)
    assert text.count("DIVERGES") == 1
    assert mf.Status.NO_SOLUTION.message in text
    assert mf.Status.DIVERGES.message in text
    assert "OK:" not in text


@pytest.mark.parametrize("result", [3, None, np.ones(2), mf.Moments(1.0, 0.0), []])
def test_check_says_what_it_takes(result):
    with pytest.raises(mf.MeanFieldError, match="it must have a status, as what steady_state"):
        mf.check(result)


def test_every_error_is_a_value_error():
    assert issubclass(mf.SolutionError, mf.MeanFieldError)
    assert issubclass(mf.MeanFieldError, ValueError)
    assert issubclass(mf.MeanFieldWarning, UserWarning)


def test_an_unknown_name_offers_the_nearest_or_all():
    names = ["tanh", "shtanh", "relu"]
    near = str(unknown_name("activation", "thanh", names))
    assert "unknown activation 'thanh'; did you mean" in near
    assert "tanh" in near
    assert "relu" not in near
    assert "known: relu, shtanh, tanh" in str(unknown_name("activation", "xyzzy", names))


def test_require_names_field_value_and_domain():
    require(np.array([True, True]), "q", np.ones(2), "> 0")
    with pytest.raises(mf.MeanFieldError, match=r"^q = -2\.0 is not legal; it must be > 0$"):
        require(False, "q", -2.0, "> 0")
    with pytest.raises(mf.MeanFieldError, match=r"^q = \[ 1\. -1\.\] is not legal"):
        require(np.array([True, False]), "q", np.array([1.0, -1.0]), "> 0")


def test_a_long_array_is_shortened_in_the_message():
    with pytest.raises(mf.MeanFieldError, match=r"\.\.\.") as caught:
        require(False, "q", np.arange(10_000.0), "> 0")
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("name", mf.__all__)
def test_every_public_name_can_be_reached(name):
    assert getattr(mf, name) is not None
    assert name in dir(mf)


def test_a_wrong_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = mf.nonsense
