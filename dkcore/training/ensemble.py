"""An ensemble: models that were trained apart, and one model whose output is the mean of theirs."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import keras
import numpy as np

from dkcore.errors import ModelError, expected
from dkcore.ranks import transfer

if TYPE_CHECKING:
    from dkcore.ranks.world import World

__all__ = ["average", "check", "gather", "members"]


def check(model: keras.Model) -> None:
    """Refuse a model that cannot be a member: ModelError."""
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        advice = "Make a functional one of it: keras.Model(x, model(x))."
        raise ModelError(expected("a model with known inputs and outputs for an ensemble", f"a bare {type(model).__name__}", advice))


def average(models: list[keras.Model]) -> keras.Model:
    """One model that has the models for layers, and the mean of their outputs for output. They are renamed, each to its own."""
    first = models[0]
    given = getattr(first, "input", None)  # the structure; a Sequential, which has one input, does not tell it
    given = first.inputs[0] if given is None else given
    x = keras.tree.map_structure(lambda each: keras.Input(batch_shape=each.shape, dtype=each.dtype, name=each.name), given)
    name = first.name
    for index, model in enumerate(models):
        model.name = f"{name}_{index}"
    outputs = [model(x) for model in models]
    names = iter(getattr(first, "output_names", None) or ["average"])
    y = keras.tree.map_structure(lambda *each: keras.layers.Average(name=next(names))(list(each)), *outputs)
    return keras.Model(x, y, name=f"{name}_ensemble")


def members(ensemble: keras.Model) -> list[keras.Model]:
    """The models that `average` made it of, in their order."""
    return [layer for layer in ensemble.layers if isinstance(layer, keras.Model)]


def gather(model: keras.Model, build: Callable[[], keras.Model], world: "World", trained: bool) -> keras.Model | None:
    """On rank 0 the average of all ranks' models but those that are not trained, compiled as they are; all ranks call it.

    build: makes a model like them.
    """
    used = world.comm.gather(trained)
    # One at a time: no message has a whole model.
    weights = [each for weight in model.get_weights() if (each := transfer.gather(world.comm, weight)) is not None]
    if used is None:  # on another rank than 0
        return None
    models = []
    for rank in np.flatnonzero(used):
        models.append(build())
        models[-1].set_weights([each[rank] for each in weights])
    whole = average(models)
    whole.compile_from_config(model.get_compile_config() | {"optimizer": "sgd"})  # it has no state that would be saved
    return whole
