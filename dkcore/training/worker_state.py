"""What a worker has for itself: weights, p, statistics, optimizer, seed generators; copied into memory, and put back."""

import json
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from dkcore.arrays import Array
from dkcore.training import generators
from dkcore.training.exchange import Exchange

__all__ = ["copy_of", "restore", "restore_optimizer"]

LAYOUT = "layout"  # of the optimizer, as JSON


def variables_of(model: keras.Model) -> dict[str, list[Any]]:
    """Of a built and compiled model, without its metrics: they begin anew."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    own = [*model.trainable_variables, *model.non_trainable_variables]  # with the seeds of generators, which model.weights lacks
    return {"variable": own, "optimizer": list(model.optimizer.variables)}


def copy_of(exchange: Exchange) -> dict[str, Array]:
    """All of it, between two steps of ``fit``."""
    model = exchange._model
    if keras.backend.backend() == "jax":
        model.jax_state_sync()  # during fit the variables are empty
    groups = variables_of(model)
    arrays = {f"{kind}-{place}": plain(variable) for kind, several in groups.items() for place, variable in enumerate(several)}
    arrays[LAYOUT] = np.frombuffer(json.dumps(layout_of(model)).encode(), np.uint8)
    for name, held in (("p", exchange.call.p), ("held", exchange.worker.held)):
        if held is not None:
            arrays[name] = held.copy()
    return arrays | generators.copy_of()


def plain(variable: Any) -> Array:
    """A copy, of a dtype that every numpy knows: of bfloat16 and the like the bytes."""
    array = np.array(keras.ops.convert_to_numpy(variable.value), order="C", copy=True)
    return array.view(f"u{array.itemsize}") if array.dtype.kind == "V" else array


def layout_of(model: keras.Model) -> list[Any]:
    """The class of the optimizer, shape and dtype of its variables. Keras numbers their names by what a process has built before."""
    variables = variables_of(model)["optimizer"]
    return [type(model.optimizer).__name__, *([list(each.shape), keras.backend.standardize_dtype(each.value.dtype)] for each in variables)]


def restore(exchange: Exchange, saved: dict[str, Array]) -> bool:
    """Put all of it back, before the first step; False when the optimizer is another one, which then begins anew."""
    groups = variables_of(exchange._model)
    assign(groups["variable"], saved, "variable")
    for name, held in (("p", exchange.call.p), ("held", exchange.worker.held)):
        if held is not None and name in saved and held.size == saved[name].size:
            held[:] = saved[name]
    generators.restore(saved)
    return restore_optimizer(exchange, saved)


def restore_optimizer(exchange: Exchange, saved: dict[str, Array]) -> bool:
    """Put back the optimizer alone; False when it is another one."""
    variables = variables_of(exchange._model)["optimizer"]
    if json.loads(saved[LAYOUT].tobytes()) != layout_of(exchange._model):
        return False
    assign(variables, saved, "optimizer")
    return True


def assign(variables: Iterable[Any], saved: dict[str, Array], kind: str) -> None:
    for place, variable in enumerate(variables):
        array = saved[f"{kind}-{place}"]
        dtype = np.array(keras.ops.convert_to_numpy(variable.value)).dtype
        variable.assign(array.view(dtype) if dtype.kind == "V" else array.copy())
