"""How the samples of a shard reach Keras' ``fit``, in the way that measured fastest on each backend.

TensorFlow: a ``tf.data.Dataset`` that gathers rows natively out of the mapped file. Its autotuner is off, for it makes
``fit`` idle a second at the end of each epoch, and so are its graph optimizations, which would read the whole file first.
JAX and torch: a ``keras.utils.PyDataset`` that gathers with numpy, as fast there as Keras' own path for arrays in memory.
Rows in pieces are gathered by numpy on every backend, several batches at once: for one small batch the call itself would cost most.
"""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import tree

from dkcore.pieces import Pieces

if TYPE_CHECKING:
    from dkcore.data import Shard

__all__ = ["Batches", "tensorflow_dataset"]

AHEAD, BLOCK = 64, 4 << 20  # batches, and bytes, that are taken at once where that is faster
NO_BLOCK = (-1, ())
ALIGNMENT = 64  # bytes; TensorFlow aborts the process on foreign memory at other addresses


class Gather:
    """Takes rows of one array, as a new array of the dtype that Keras shall see."""

    def __init__(self, array: np.ndarray, scale: float | None):
        self.array = array
        self.dtype = np.dtype(keras.config.floatx()) if scale is not None or array.dtype.kind == "f" else array.dtype
        self.factor = None if scale is None else self.dtype.type(scale)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        # Always a new array: JAX computes asynchronously, and may use the memory as it is.
        batch = self.array[rows].astype(self.dtype, copy=False)
        if self.factor is not None:
            batch *= self.factor
        return batch


def gathers(shard: "Shard", scale: float | None) -> tuple:
    """The structure of a batch, with a `Gather` at each leaf; only x is scaled."""
    x, *rest = shard.arrays
    return (tree.map_structure(lambda leaf: Gather(leaf, scale), x), *tree.map_structure(lambda leaf: Gather(leaf, None), rest))


def each(function: Callable[[Any], Any], nested: Any) -> Any:
    """The same structure with ``function(leaf)`` at each leaf. keras.tree does it too, in the time that a small batch takes."""
    if isinstance(nested, dict):
        return {name: each(function, value) for name, value in nested.items()}
    return type(nested)([each(function, value) for value in nested]) if isinstance(nested, list | tuple) else function(nested)


class Batches(keras.utils.PyDataset):
    """The batches of a shard for JAX and torch."""

    def __init__(self, shard: "Shard", batch_size: int, shuffle: bool, seed: int, scale: float | None):
        super().__init__()
        self.shard, self.batch_size, self.shuffle, self.seed = shard, batch_size, shuffle, seed
        self.gathers = gathers(shard, scale)
        self.ahead = batches_ahead(shard, batch_size)
        self.epoch = 0
        self.rows, self.block = self.order(), NO_BLOCK

    def order(self) -> np.ndarray:
        return self.shard.rows(self.epoch, shuffle=self.shuffle, seed=self.seed)

    def __len__(self) -> int:
        return self.shard.steps(self.batch_size)

    def __getitem__(self, index: int) -> tuple:
        if self.ahead == 1:
            return self.take(index, self.batch_size)
        place, batch = divmod(index, self.ahead)
        block = self.block
        if block[0] != place:
            block = self.block = place, self.take(place, self.ahead * self.batch_size)
        return each(lambda part: part[batch * self.batch_size : (batch + 1) * self.batch_size], block[1])

    def take(self, place: int, size: int) -> tuple:
        """The samples at that place of the epoch, if it is divided into parts of that size."""
        rows = self.rows[place * size : (place + 1) * size]
        return each(lambda gather: gather(rows), self.gathers)

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self.rows, self.block = self.order(), NO_BLOCK


def tensorflow_dataset(shard: "Shard", batch_size: int, shuffle: bool, seed: int, scale: float | None) -> Any:
    """The batches of a shard for TensorFlow."""
    import tensorflow as tf

    # Keras' own path makes tuples of lists too: tf.data takes a list for a tensor.
    takes = tree.map_structure(native_gather, tree.lists_to_tuples(gathers(shard, scale)))
    epochs = itertools.count()
    steps, ahead = shard.steps(batch_size), batches_ahead(shard, batch_size)

    def order() -> np.ndarray:
        return shard.rows(next(epochs), shuffle=shuffle, seed=seed)

    def epoch(_: Any) -> Any:
        rows = tf.numpy_function(order, [], tf.int64)

        def taken(place: Any, size: int) -> tuple:
            chosen = rows[place * size : (place + 1) * size]
            return tree.map_structure(lambda take: take(chosen), takes)

        def block(place: Any) -> Any:
            whole = taken(place, ahead * batch_size)

            def batch(step: Any) -> tuple:
                return tree.map_structure(lambda part: part[step * batch_size : (step + 1) * batch_size], whole)

            return tf.data.Dataset.range(tf.minimum(place * ahead + ahead, steps) - place * ahead).map(batch)

        if ahead == 1:
            return tf.data.Dataset.range(steps).map(lambda step: taken(step, batch_size))
        return tf.data.Dataset.range(-(-steps // ahead)).flat_map(block)

    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    dataset = tf.data.Dataset.range(1).flat_map(epoch)
    return dataset.apply(tf.data.experimental.assert_cardinality(steps)).with_options(options)


def batches_ahead(shard: "Shard", batch_size: int) -> int:
    """How many batches to take at once: several of pieces, since a call for them takes longer than a small batch."""
    parts = [leaf for leaf in tree.flatten(shard.arrays) if isinstance(leaf, Pieces)]
    size = batch_size * max((part.width for part in parts), default=0)
    return max(min(AHEAD, BLOCK // size), 1) if size else 1


def native_gather(gather: Gather) -> Callable[[Any], Any]:
    """The same in TensorFlow's graph. Memory that it cannot use in place is gathered by numpy: a step takes 0.2 ms longer."""
    import tensorflow as tf

    array, dtype = gather.array, tf.as_dtype(gather.dtype)
    usable = isinstance(array, np.ndarray) and array.flags.writeable and array.flags.c_contiguous and array.ctypes.data % ALIGNMENT == 0
    tensor = tf.experimental.dlpack.from_dlpack(array.__dlpack__()) if usable else None

    def take(rows: Any) -> Any:
        if tensor is None:
            batch = tf.numpy_function(gather, [rows], dtype)
        else:
            batch = tf.cast(tf.gather(tensor, rows), dtype)
            batch = batch if gather.factor is None else batch * gather.factor
        return tf.ensure_shape(batch, [None, *array.shape[1:]])

    return take
