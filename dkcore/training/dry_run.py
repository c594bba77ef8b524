"""What would fail in every rank, found on the driver before any is started: can they load the model, and does it fit settings and data?

Nothing of the user's model is changed, and no weights are made: its outputs are computed symbolically, and a stand-in with
those outputs is compiled in its place.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from dkcore.errors import ModelError, expected, first_line
from dkcore.training import compilation
from dkcore.training.input_shapes import flat_shapes, shapes_text, symbolic_outputs

if TYPE_CHECKING:
    from dkcore.arrays import Array
    from dkcore.training.job import Job

__all__ = ["check"]

ROWS = 2  # of each array, for shapes and dtypes


def check(job: "Job", model: keras.Model, arrays: tuple[Any, ...] | None = None) -> None:
    """ModelError or DataError when ranks could not load, compile or fit the model.

    arrays: (x, y) or (x, y, sample_weight) as ranks see them; None where only the ranks have the rows.
    """
    if not model.built:
        raise ModelError(expected("a built Keras model", "one that is not built", "Call model.build(input_shape), or add a keras.Input."))
    check_layers(model)
    if arrays is not None:
        check_fit(job, model, arrays)


def check_layers(model: keras.Model) -> None:
    """ModelError when a layer cannot be made again of what is saved of it: no rank could load the model."""
    for layer in leaves(model):
        try:
            keras.saving.deserialize_keras_object({**keras.saving.serialize_keras_object(layer), "build_config": None}, safe_mode=False)
        except Exception as error:  # whatever a layer of the user's may raise
            what = f"a layer that Keras can save and load, in {layer.name!r} ({type(layer).__name__})"
            advice = "Does its class have get_config, with all arguments of its constructor?"
            raise ModelError(expected(what, first_line(error), advice)) from error


def leaves(model: keras.Model) -> Iterator[Any]:
    """Custom layers, those of nested models included: Keras' own can be made again."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from leaves(layer)
        elif not type(layer).__module__.startswith("keras."):
            yield layer


def check_fit(job: "Job", model: keras.Model, arrays: tuple[Any, ...]) -> None:
    """DataError or ModelError when the model does not take the data, or compile does not take settings or labels."""
    batch = keras.tree.map_structure(sample, arrays)
    outputs = symbolic_outputs(model, batch[0])
    chosen = compilation.settings(job, model, job.compiled, arrays)
    if job.backend == "torch" and (chosen["steps_per_execution"] or 1) > 1:
        advice = "Keras on torch takes one step an execution."
        raise ModelError(expected("steps_per_execution of 1 on torch", chosen["steps_per_execution"], advice))
    if type(model).compute_loss is keras.Model.compute_loss and not compilation.compiles_itself(model):
        check_labels(model, chosen, outputs, batch)


def check_labels(model: keras.Model, chosen: dict[str, Any], outputs: Any, batch: tuple[Any, ...]) -> None:
    """Compile a model without weights that has the same outputs, and compute loss and metrics of the labels symbolically."""
    flat = keras.tree.flatten(outputs)
    names = getattr(model, "output_names", None) or [f"output_{index}" for index in range(len(flat))]
    inputs = [keras.Input(batch_shape=spec.shape, dtype=spec.dtype) for spec in flat]
    named = [keras.layers.Identity(name=name, dtype=each.dtype)(each) for name, each in zip(names, inputs, strict=True)]
    stand_in = keras.Model(inputs, keras.tree.pack_sequence_as(outputs, named))
    predicted = [np.zeros((ROWS, *(size or 1 for size in spec.shape[1:])), spec.dtype) for spec in flat]
    try:
        stand_in.compile(**{**chosen, "optimizer": "sgd", "steps_per_execution": 1})
        stand_in._symbolic_build(data_batch=(predicted, *batch[1:]))
    except Exception as error:  # whatever a loss or metric may raise
        what = f"loss, metrics and weights that fit outputs of {shapes_text(flat_shapes(outputs))}"
        received = f"labels of {shapes_text(flat_shapes(batch[1:2]))} with loss {named_loss(chosen['loss'])}"
        raise ModelError(expected(what, received, f"Keras says: {first_line(error)}.")) from error


def named_loss(loss: Any) -> str:
    if isinstance(loss, dict):
        return str({name: named_loss(each) for name, each in loss.items()})
    if isinstance(loss, list):
        return str([named_loss(each) for each in loss])
    return repr(getattr(loss, "name", None) or getattr(loss, "__name__", loss))


def sample(leaf: Any) -> "Array":
    """Two rows, in the dtype that ranks give to Keras."""
    rows = np.asarray(leaf[:ROWS])
    rows = rows if len(rows) == ROWS else np.repeat(rows[:1], ROWS, axis=0)
    return rows.astype(keras.config.floatx()) if rows.dtype.kind == "f" else rows
