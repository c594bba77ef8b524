"""The base of our Keras callbacks: what Keras sets on them, with the types that it does not state."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import keras

__all__ = ["Callback", "Logs"]

Logs: TypeAlias = Mapping[str, Any] | None


class Callback(keras.callbacks.Callback):  # type: ignore[misc]  # Keras comes without types
    """A callback of a model that Keras trains. params: of its ``fit``; None outside of one."""

    _model: keras.Model
    params: dict[str, Any] | None
