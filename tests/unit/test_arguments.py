"""Checks of arguments: numbers of any library become Python's, and what cannot be meant is refused by name, the same way everywhere."""

import math

import numpy as np
import pytest

from dkcore.arguments import (
    WrongTypeError,
    fraction,
    json_value,
    listed,
    listed_or_dict,
    plain,
    real,
    text,
    texts,
    truth,
    weights_of_classes,
    whole,
    wholes,
)


@pytest.mark.parametrize("value", [3, 3.0, np.int8(3), np.float32(3), np.array(3)])
def test_whole_numbers_of_any_kind_are_ints(value):
    assert whole("n", value, 1, 4) == 3 and type(whole("n", value, 1)) is int


@pytest.mark.parametrize("value", [True, np.True_, 2.5, "3", None, math.nan, math.inf, [3], np.array([3, 4])])
def test_what_is_no_whole_number_is_a_wrong_type_to_all_callers(value):
    with pytest.raises(WrongTypeError, match="Expected n of 1 or more. Received: .* It is a whole number."):
        whole("n", value, 1)
    assert issubclass(WrongTypeError, TypeError) and issubclass(WrongTypeError, ValueError)


@pytest.mark.parametrize(("value", "bounds"), [(0, "of 1 or more"), (-1, "of 1 or more"), (9, "of 1 to 8")])
def test_a_whole_number_out_of_range_has_the_right_type(value, bounds):
    with pytest.raises(ValueError, match=f"Expected n {bounds}") as caught:
        whole("n", value, 1, 9 if value == 9 else None)
    assert not isinstance(caught.value, TypeError)


def test_real_numbers_are_floats():
    assert [real("x", value) for value in (1, 0.5, np.float32(0.5), np.int64(2))] == [1.0, 0.5, 0.5, 2.0]
    for value in (True, "1", None, 1j):
        with pytest.raises(WrongTypeError, match="x as a finite number"):
            real("x", value)
    for value in (math.nan, math.inf, np.float32("nan")):
        with pytest.raises(ValueError, match="x as a finite number"):
            real("x", value)
    assert fraction("x", np.float64(0.5)) == 0.5
    for value in (0, 1, 1.5):
        with pytest.raises(ValueError, match="x between 0 and 1"):
            fraction("x", value)


def test_booleans_are_those_of_python_numpy_and_0_and_1():
    assert [truth("b", value) for value in (True, np.False_, 1, 0)] == [True, False, True, False]
    for value in ("no", None, 2, []):
        with pytest.raises(TypeError, match="b as True or False"):
            truth("b", value)


def test_a_string_is_no_list_of_letters():
    assert texts("names", ("a", "b")) == ["a", "b"]
    assert wholes("shape", np.array([2, 3])) == [2, 3]
    assert listed_or_dict("metrics", {"out": "mae"}) == {"out": "mae"}
    for check in (listed, texts, listed_or_dict, wholes):
        with pytest.raises(TypeError, match=r"names as a list. Received: 'ab'. Pass names=\['ab'\]"):
            check("names", "ab")
    with pytest.raises(TypeError, match=r"names\[1\] as a string. Received: 3"):
        texts("names", ["a", 3])
    with pytest.raises(TypeError, match="name as a string. Received: ''"):
        text("name", "")


def test_weights_of_classes_come_back_from_json():
    assert weights_of_classes("class_weight", {"0": 1, np.int64(1): np.float32(3)}) == {0: 1.0, 1: 3.0}
    for value in ([1, 2], {}, {"first": 1.0}, {0: "heavy"}, {-1: 1.0}):
        with pytest.raises((TypeError, ValueError), match="class_weight"):
            weights_of_classes("class_weight", value)


def test_plain_data_is_what_json_has():
    assert json_value("x", plain({"a": (np.int64(1), [np.float32(0.5)])})) == {"a": [1, [0.5]]}
    with pytest.raises(TypeError, match="x as plain data"):
        json_value("x", {"a": object()})
