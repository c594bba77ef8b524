"""The base of our Keras callbacks: what Keras sets on them, with the types that it does not state."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import keras
import numpy as np

__all__ = ["Callback", "Logs", "numbers_of"]

Logs: TypeAlias = Mapping[str, Any] | None


class Callback(keras.callbacks.Callback):  # type: ignore[misc]  # Keras comes without types
    """A callback of a model that Keras trains. params: of its ``fit``; None outside of one."""

    _model: keras.Model
    params: dict[str, Any] | None


def numbers_of(logs: Logs) -> dict[str, float]:
    """The logs of Keras that are one number each; a metric may be a vector (F1Score without average)."""
    return {name: float(value) for name, value in (logs or {}).items() if np.size(value) == 1}
