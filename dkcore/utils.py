"""The functions of dist-keras' ``utils`` that its scripts need; for their sake it has this name.

The others have a better place now: docs/coming-from-dist-keras.md.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    from pyspark.sql import DataFrame

__all__ = ["deserialize_keras_model", "precache", "serialize_keras_model", "shuffle", "uniform_weights"]


def shuffle(dataset: "DataFrame") -> "DataFrame":
    """The rows of a Spark DataFrame in random order; cached, so that they are not drawn anew each time they are read.

    Trainers shuffle by themselves, anew each epoch.
    """
    from pyspark.sql import functions

    return dataset.orderBy(functions.rand()).cache()


def precache(dataset: "DataFrame", num_workers: int) -> "DataFrame":
    """A Spark DataFrame in as many partitions as workers, read into memory: trainers of so many workers take it as it lies."""
    cached = dataset.repartition(num_workers).cache()
    cached.count()
    return cached


def serialize_keras_model(model: "keras.Model") -> dict[str, Any]:
    """The architecture (``model``, a JSON string) and the ``weights`` of a model. ``model.save`` keeps more: how it is compiled."""
    return {"model": model.to_json(), "weights": model.get_weights()}


def deserialize_keras_model(dictionary: dict[str, Any]) -> "keras.Model":
    """The model that `serialize_keras_model` took apart."""
    import keras

    model = keras.models.model_from_json(dictionary["model"])
    model.set_weights(dictionary["weights"])
    return model


def uniform_weights(model: "keras.Model", constraints: tuple[float, float] = (-0.5, 0.5)) -> None:
    """Draw all trainable weights of a model anew, evenly between two bounds; by ``keras.utils.set_random_seed``."""
    import keras

    for weight in model.trainable_variables:
        weight.assign(keras.random.uniform(weight.shape, *constraints, dtype=weight.dtype))
