"""How a rank's model is compiled: item by item, from the job where given there, else from the model's own compile, else the default."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from dkcore.data.arrays import first_leaf
from dkcore.data.shard import Shard
from dkcore.errors import ModelError, expected
from dkcore.training.serialization import ITEMS, load_model, own_items, revive

if TYPE_CHECKING:
    from dkcore.training.job import Job

__all__ = ["compile_model", "guess_loss", "load", "restore_user_steps", "settings"]

CONFIG, WEIGHTS = "config.json", "model.weights.h5"  # members of a .keras file


def load(job: "Job", file: Path) -> keras.Model:
    """The model of a ``.keras`` file, not compiled unless its class compiles in its own way."""
    model = load_model(file, compile=False, safe_mode=job.safe_mode)
    if compiles_itself(model):
        model = load_model(file, compile=True, safe_mode=job.safe_mode)
    return model


def compiles_itself(model: keras.Model) -> bool:
    """Whether its class has a ``compile`` of its own, whose arguments nobody knows."""
    return type(model).compile is not keras.Model.compile


def compile_model(job: "Job", model: keras.Model, shard: Shard) -> dict[str, Any]:
    """Compile with the job's settings, and with the executions that make `fit` fast; the settings, with the user's executions."""
    if compiles_itself(model):
        return compile_own_way(job, model, shard)
    own = own_settings(job, model)
    chosen = settings(job, model, own, shard.arrays)
    exclude(job, model, chosen["optimizer"])
    model.compile(**{**chosen, "steps_per_execution": chosen["steps_per_execution"] or executions(job, shard, chosen)})
    if job.optimizer is None and job.model.endswith(".keras"):
        restore_optimizer(model, job.home / job.model)
    if job.learning_rate is not None:
        model.optimizer.learning_rate = job.learning_rate
    defaults = own is not None and job.metrics is None and not own.get("metrics")  # they are for the report
    return {**chosen, "metrics": None} if defaults else chosen


def compile_own_way(job: "Job", model: keras.Model, shard: Shard) -> dict[str, Any]:
    """Of a model whose class has a ``compile`` of its own: as the user called it, with what the job gives on top."""
    given = {name: revive(getattr(job, name)) for name in ITEMS if getattr(job, name) is not None}
    if given or not model.compiled:
        try:
            model.compile(**given)
        except TypeError as error:
            advice = "Compile the model before, and leave these settings out."
            raise ModelError(expected(f"settings that {type(model).__name__}.compile takes", error, advice)) from error
    if job.learning_rate is not None:
        model.optimizer.learning_rate = job.learning_rate
    before = model.steps_per_execution
    model.steps_per_execution = before if before > 1 else executions(job, shard, {"run_eagerly": model.run_eagerly})
    return {"steps_per_execution": before}


def own_settings(job: "Job", model: keras.Model) -> Mapping[str, Any] | None:
    """What the model itself was compiled with, as Keras' objects or as plain data; None when it never was."""
    if job.compiled is not None:
        return job.compiled
    if job.model.endswith(".keras"):
        with zipfile.ZipFile(job.home / job.model) as archive:
            return json.loads(archive.read(CONFIG)).get("compile_config") or None
    return own_items(model)


def settings(job: "Job", model: keras.Model, own: Mapping[str, Any] | None, arrays: tuple[Any, ...]) -> dict[str, Any]:
    """The arguments of ``compile``. steps_per_execution is None where neither job nor model has a choice.

    arrays: (x, y) or (x, y, weights), of which the defaults for loss and metrics take the structure.
    """
    known = own or {}
    chosen = {name: revive(given if (given := getattr(job, name)) is not None else known.get(name)) for name in ITEMS}
    if chosen["optimizer"] is None:
        chosen["optimizer"] = revive(job.default_optimizer)
    chosen["optimizer"] = keras.optimizers.get(chosen["optimizer"])
    if chosen["loss"] is None:
        chosen["loss"] = guess_loss(model, arrays, compiled=own is not None)
    if job.metrics is None and not known.get("metrics"):
        chosen["metrics"] = default_metrics(model, arrays)
    chosen["run_eagerly"] = bool(chosen["run_eagerly"])
    if chosen["jit_compile"] is None:
        chosen["jit_compile"] = "auto"
    if job.steps_per_execution is None and (chosen["steps_per_execution"] or 1) == 1:
        chosen["steps_per_execution"] = None
    return chosen


def executions(job: "Job", shard: Shard, chosen: Mapping[str, Any]) -> int:
    """One execution a window removes fit's shell from the steps between two exchanges. torch refuses more than one step."""
    if job.backend != "tensorflow" or chosen["run_eagerly"]:
        return 1
    return max(min(job.window, shard.steps(job.batch_size)), 1)


def restore_user_steps(model: keras.Model, chosen: Mapping[str, Any]) -> None:
    """Compile a trained model as its user would have: the executions that were chosen for `fit` are nobody else's."""
    if compiles_itself(model):
        model.steps_per_execution = chosen["steps_per_execution"]
        return
    model.compile(**{**chosen, "optimizer": model.optimizer, "steps_per_execution": chosen["steps_per_execution"] or 1})


def exclude(job: "Job", model: keras.Model, optimizer: Any) -> None:
    """Exclude from weight decay what the user's own optimizer does; Keras does not serialize that."""
    if job.excluded_from_decay is not None:
        chosen = [model.weights[index] for index in job.excluded_from_decay["variables"]]
        names = job.excluded_from_decay["pattern"]
        optimizer.exclude_from_weight_decay(chosen or None, None if names is None else [names])


def restore_optimizer(model: keras.Model, file: Path) -> None:
    """Give the optimizer the state that was saved with the model, as a further `fit` would find it."""
    import h5py

    with zipfile.ZipFile(file) as archive, archive.open(WEIGHTS) as member, h5py.File(member, "r") as weights:
        saved = len(weights["optimizer/vars"]) if "optimizer/vars" in weights else 0
    model.optimizer.build(model.trainable_variables)
    if saved == len(model.optimizer.variables):  # a model that was compiled, and never trained, has fewer
        model.load_weights(file)


def guess_loss(model: keras.Model, arrays: tuple[Any, ...], *, compiled: bool) -> str:
    """The loss that the shape and activation of the output leave no doubt about, for a model that was never compiled."""
    advice = "Pass loss='mse', 'sparse_categorical_crossentropy', keras.losses...(from_logits=True) or the like."
    if compiled:
        raise ModelError(expected("a loss", "none, and the model was compiled without one", advice))
    outputs = getattr(model, "outputs", None) or []
    if len(outputs) != 1 or len(arrays) < 2:
        raise ModelError(expected("a loss", f"none, for a model of {len(outputs) or 'unknown'} outputs", advice))
    name, units = activation_of(model), outputs[0].shape[-1]
    y = first_leaf(arrays[1])
    whole, shape = y.dtype.kind in "iu", tuple(y.shape[1:])
    if name == "softmax" and whole and shape in ((), (1,)) and len(outputs[0].shape) == 2:
        return "sparse_categorical_crossentropy"
    if name == "softmax" and shape and shape[-1] == units and units != 1:
        return "categorical_crossentropy"
    if name == "sigmoid" and units == 1 and shape in ((), (1,)):
        return "binary_crossentropy"
    received = f"none, for an output of {units} units with activation {name or 'unknown'} and labels of {y.dtype} {shape}"
    raise ModelError(expected("a loss", received, advice))


def activation_of(model: keras.Model) -> str | None:
    """The name of the activation of the only output; None where it cannot be known."""
    layer = model
    while isinstance(layer, keras.Model):
        if isinstance(layer, keras.Sequential):
            layer = layer.layers[-1] if layer.layers else None
        else:
            layer = getattr(layer.outputs[0]._keras_history, "operation", None) if getattr(layer, "outputs", None) else None
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    return getattr(getattr(layer, "activation", None), "__name__", None)


def default_metrics(model: keras.Model, arrays: tuple[Any, ...]) -> list[str]:
    """Accuracy, where there is one output for it."""
    outputs = getattr(model, "outputs", None) or []
    single = len(outputs) == 1 and len(arrays) > 1 and not isinstance(arrays[1], dict | list | tuple)
    return ["accuracy"] if single and first_leaf(arrays[1]).ndim <= len(outputs[0].shape) else []
