"""Keras objects as plain data, for a job's settings, and back; what Keras itself leaves out is added."""

import copy
import warnings
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from dkcore.frameworks import tensorflow_hidden

__all__ = ["ITEMS", "excluded_from_decay", "load_model", "own_items", "revive", "serialize"]

ITEMS = ("optimizer", "loss", "metrics", "loss_weights", "weighted_metrics", "run_eagerly", "jit_compile", "steps_per_execution")


def serialize(value: Any) -> Any:
    """A Keras object as plain data; names, numbers and None as they are."""
    import keras
    import numpy as np

    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [serialize(item) for item in value]
    if isinstance(value, Mapping) and "class_name" not in value:
        return {name: serialize(item) for name, item in value.items()}
    with tensorflow_hidden(keras.backend.backend()):
        plain = keras.saving.serialize_keras_object(value)
    if isinstance(value, keras.losses.Loss):  # Keras forgets the delta of Huber, and some axes
        forgotten = {name: given for name, given in getattr(value, "_fn_kwargs", {}).items() if name in signature(type(value)).parameters}
        plain["config"] = forgotten | plain["config"]
    return plain


def revive(value: Any) -> Any:
    """What `serialize` made plain, as Keras objects again, in lists and in dicts of outputs too; everything else as it is."""
    import keras

    if isinstance(value, dict) and "class_name" not in value:
        return {name: revive(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [revive(item) for item in value]
    if isinstance(value, dict):
        return keras.saving.deserialize_keras_object(copy.deepcopy(value))  # from_config of some changes what it is given
    return value


def load_model(file: Path, *, compile: bool = True, safe_mode: bool = True) -> Any:
    """``keras.saving.load_model``, silent about the optimizer of a model that was compiled and never trained: it has no state."""
    import keras

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Skipping variable loading for optimizer", UserWarning)
        return keras.saving.load_model(file, compile=compile, safe_mode=safe_mode)


def own_items(model: Any) -> dict[str, Any] | None:
    """The arguments with which a model was compiled, as they were given; None when it never was."""
    if not model.compiled or not hasattr(model, "_compile_config"):
        return None
    given = model._compile_config.config
    return {name: given.get(name) for name in ITEMS}


def excluded_from_decay(model: Any, optimizer: Any) -> dict[str, Any] | None:
    """The variables, by their places in ``model.weights``, and the names that an optimizer does not decay: Keras saves neither.

    ModelError when it excludes a variable of another model.
    """
    from dkcore.errors import ModelError, expected

    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
    keys = getattr(optimizer, "_exclude_from_weight_decay", None) or set()
    pattern = getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
    if not keys and pattern is None:
        return None
    places = [index for index, variable in enumerate(model.weights) if optimizer._var_key(variable) in keys]
    if len(places) < len(keys):
        received = f"{len(keys) - len(places)} that are not"
        advice = "Exclude variables of the model that is trained, or names: exclude_from_weight_decay(var_names=[...])."
        raise ModelError(expected("variables of the model in exclude_from_weight_decay", received, advice))
    return {"variables": places, "pattern": None if pattern is None else pattern.pattern}
