"""A trained model whose outputs are not finite is an error, and no file."""

from typing import TYPE_CHECKING

import keras
import numpy as np

from dkcore.data import batches
from dkcore.data.shard import Shard
from dkcore.errors import NotFiniteError, expected

if TYPE_CHECKING:
    from dkcore.training.job import Job

__all__ = ["check_finite"]


def check_finite(model: keras.Model, shard: Shard | None, job: "Job") -> None:
    """NotFiniteError when the trained model's outputs for one batch are not finite: such a model is not saved."""
    if shard is None:
        return
    rows = np.arange(min(job.batch_size, shard.total))
    x = keras.tree.map_structure(lambda leaf: batches.Gather(leaf, job.scale)(rows), shard.arrays[0])
    outputs = keras.tree.flatten(keras.tree.map_structure(keras.ops.convert_to_numpy, model(keras.tree.lists_to_tuples(x), training=False)))
    if not all(np.isfinite(output).all() for output in outputs if output.dtype.kind == "f"):
        advice = "No model was saved. Lower the learning rate or the window, or pass check_finite=False."
        raise NotFiniteError(expected("finite outputs of the trained model", "NaN or infinity for the first batch", advice))
