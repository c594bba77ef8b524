"""What users pass as arguments, checked where it comes in: numbers of any kind become Python's, everything else is refused by name."""

import json
import math
import numbers
import operator
from collections.abc import Callable, Mapping
from typing import Any

from dkcore.errors import expected

__all__ = ["WrongTypeError", "count", "fraction", "json_value", "listed", "listed_or_dict", "plain", "real", "text", "texts", "truth",
           "weights_of_classes", "whole", "wholes"]  # fmt: skip


class WrongTypeError(TypeError, ValueError):
    """A value of another type than is meant: a ValueError for callers of trainers, a TypeError for pyspark.ml, which names the Param."""


def plain(value: Any) -> Any:
    """Numbers, arrays and tuples of any library as Python's, which JSON has too; everything else as it is.

    >>> import numpy as np
    >>> plain({"size": (np.int64(3), np.float32(0.5)), "name": "x"})
    {'size': [3, 0.5], 'name': 'x'}
    """
    if isinstance(value, Mapping):
        return {plain(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value.tolist() if hasattr(value, "dtype") and hasattr(value, "tolist") else value


def whole(name: str, value: Any, least: int | None = None, below: int | None = None) -> int:
    """The value as an int of ``least`` or more; ValueError otherwise. numpy's integers and 3.0 are integers, booleans are not."""
    number = integer(value)
    if number is not None and (least is None or number >= least) and (below is None or number < below):
        return number
    bounds = "as a whole number" if least is None else f"of {least} or more" if below is None else f"of {least} to {below - 1}"
    kind = WrongTypeError if number is None else ValueError
    raise kind(expected(f"{name} {bounds}", repr(value), "It is a whole number."))


def count(name: str, value: Any) -> int:
    """The value as an int of 1 or more."""
    return whole(name, value, 1)


def integer(value: Any) -> int | None:
    """The value as an int, None where it is none."""
    if is_truth(value):
        return None
    is_number = isinstance(value, numbers.Real)
    if is_number and math.isfinite(value) and value == value // 1:
        return int(value)
    try:
        return operator.index(value)
    except TypeError:
        return None


def real(name: str, value: Any) -> float:
    """The value as a float; ValueError unless it is one finite number, of Python or numpy."""
    is_number = isinstance(value, numbers.Real) and not is_truth(value)
    if is_number and math.isfinite(value):
        return float(value)
    kind = ValueError if is_number else WrongTypeError
    raise kind(expected(f"{name} as a finite number", repr(value), "It is a real number, such as 0.1."))


def fraction(name: str, value: Any) -> float:
    """A float between 0 and 1."""
    if not 0 < real(name, value) < 1:
        raise ValueError(expected(f"{name} between 0 and 1", repr(value), "It is a part of the rows."))
    return float(value)


def truth(name: str, value: Any) -> bool:
    """A bool, of Python's, numpy's, or of 0 and 1; TypeError otherwise."""
    if not is_truth(value) and integer(value) not in (0, 1):
        raise TypeError(expected(f"{name} as True or False", repr(value), f"Pass {name}=True, for instance."))
    return bool(value)


def is_truth(value: Any) -> bool:
    """Whether it is a boolean of Python or numpy."""
    return type(value).__name__ in ("bool", "bool_")


def text(name: str, value: Any) -> str:
    """A string that is not empty; TypeError otherwise."""
    if not isinstance(value, str) or not value:
        raise TypeError(expected(f"{name} as a string", repr(value), f"Pass {name}='...', and it is taken as it is."))
    return str(value)


def listed(name: str, value: Any, each: Callable[[str, Any], Any] | None = None) -> list[Any]:
    """The value as a list; TypeError when it is no sequence, or a single string: that has no elements but letters.

    each: checks an element, whose name is such as ``shape[0]``.
    """
    if isinstance(value, str | Mapping) or not hasattr(value, "__iter__"):
        advice = f"Pass {name}=[{value!r}]." if isinstance(value, str) else f"Pass {name}=[...]."
        raise TypeError(expected(f"{name} as a list", repr(value), advice))
    return list(value) if each is None else [each(f"{name}[{place}]", element) for place, element in enumerate(value)]


def listed_or_dict(name: str, value: Any) -> list[Any] | dict[str, Any]:
    """The value as a list, or as a dict by the outputs of a model."""
    return dict(value) if isinstance(value, Mapping) else listed(name, value)


def texts(name: str, value: Any) -> list[str]:
    """The value as a list of strings."""
    return listed(name, value, text)


def wholes(name: str, value: Any) -> list[int]:
    """The value as a list of ints."""
    return listed(name, value, whole)


def weights_of_classes(name: str, value: Any) -> dict[int, float]:
    """``class_weight`` as of ``fit``: from whole numbers to weights. JSON made strings of the keys."""
    if not isinstance(value, Mapping) or not value:
        raise TypeError(expected(f"{name} as a dict from classes to weights", repr(value), "Such as {0: 1.0, 1: 3.0}."))
    keys = {int(key) if isinstance(key, str) and key.isdecimal() else key: weight for key, weight in value.items()}
    return {whole(f"a class of {name}", key, 0): real(f"{name}[{key}]", weight) for key, weight in keys.items()}


def json_value(name: str, value: Any) -> Any:
    """The value itself, if JSON can hold it; TypeError otherwise."""
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        advice = "Keras objects are kept as keras.saving.serialize_keras_object makes them."
        raise TypeError(expected(f"{name} as plain data", repr(value), advice)) from error
    return value
