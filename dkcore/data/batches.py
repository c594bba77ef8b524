"""How the samples of a shard reach Keras' ``fit``, in the way that measured fastest on each backend.

TensorFlow: a ``tf.data.Dataset`` that gathers rows natively out of the mapped file. Its autotuner is off, for it makes
``fit`` idle a second at the end of each epoch, and so are its graph optimizations, which would read the whole file first.
JAX and torch: a ``keras.utils.PyDataset`` that gathers with numpy, as fast there as Keras' own path for arrays in memory.
Rows in pieces are gathered by numpy on every backend, several batches at once: for one small batch the call itself would cost most.
"""

import itertools
from collections.abc import Callable
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import tree

from dkcore.arrays import Array
from dkcore.data.arrow_columns import Pieces
from dkcore.data.shard import Shard

__all__ = ["Batch", "Batches", "batches_ahead", "dataset", "each", "gathers", "native_takes", "untuned"]

AHEAD, BLOCK = 64, 4 << 20  # batches, and bytes, that are taken at once where that is faster
NO_BLOCK = (-1, ())
Batch: TypeAlias = Any  # (x,), (x, y) or (x, y, sample_weight), each an array, or a dict, list or tuple of such
ALIGNMENT = 64  # bytes; TensorFlow aborts the process on foreign memory at other addresses


def dataset(shard: Shard, backend: str, batch_size: int, *, shuffle: bool = True, seed: int = 0, scale: float | None = None,
            epoch: Callable[[], int] | None = None) -> Any:  # fmt: skip
    """What to hand to ``fit`` or ``evaluate``: a ``tf.data.Dataset`` for TensorFlow, a ``keras.utils.PyDataset`` otherwise.

    Every sample comes once an epoch, in a new order each time; give ``shuffle=False`` to ``fit``, which would complain.
    Floats become Keras' ``floatx``; whole numbers stay as they are. scale: x becomes ``floatx`` and is multiplied by it.
    epoch: tells which one it is when one begins, and so the order; without it they are counted from 0. DataError for a batch size
    below 1.
    """
    shard.steps(batch_size)
    make = tensorflow_dataset if backend == "tensorflow" else Batches
    return make(shard, batch_size, shuffle, seed, scale, epoch)


class Gather:
    """Takes rows of one array, as a new array of the dtype that Keras shall see."""

    def __init__(self, array: Array, scale: float | None):
        self.array = array
        self.dtype = np.dtype(keras.config.floatx()) if scale is not None or array.dtype.kind == "f" else array.dtype
        self.factor = None if scale is None else self.dtype.type(scale)

    def __call__(self, rows: Array) -> Array:
        # Always a new array: JAX computes asynchronously, and may use the memory as it is.
        batch: Array = self.array[rows].astype(self.dtype, copy=False)
        if self.factor is not None:
            batch *= self.factor
        return batch


def gathers(shard: Shard, scale: float | None) -> tuple[Any, ...]:
    """The structure of a batch, with a `Gather` at each leaf; only x is scaled."""
    x, *rest = shard.arrays
    return (tree.map_structure(lambda leaf: Gather(leaf, scale), x), *tree.map_structure(lambda leaf: Gather(leaf, None), rest))


def each(function: Callable[[Any], Any], nested: Any) -> Any:
    """The same structure with ``function(leaf)`` at each leaf. keras.tree does it too, in the time that a small batch takes."""
    if isinstance(nested, dict):
        return {name: each(function, value) for name, value in nested.items()}
    return type(nested)([each(function, value) for value in nested]) if isinstance(nested, list | tuple) else function(nested)


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # keras has no types
    """The batches of a shard for JAX and torch."""

    def __init__(self, shard: Shard, batch_size: int, shuffle: bool, seed: int, scale: float | None, epoch: Callable[[], int] | None):
        super().__init__()
        self.shard, self.batch_size, self.shuffle, self.seed = shard, batch_size, shuffle, seed
        self.gathers = gathers(shard, scale)
        self.ahead = batches_ahead(shard, batch_size)
        self.given, self.counted = epoch, 0
        self.rows, self.block = self.order(), NO_BLOCK

    def order(self) -> Array:
        return self.shard.rows(self.counted if self.given is None else self.given(), shuffle=self.shuffle, seed=self.seed)

    def __len__(self) -> int:
        return self.shard.steps(self.batch_size)

    def __getitem__(self, index: int) -> Batch:
        if self.ahead == 1:
            return self.take(index, self.batch_size)
        place, batch = divmod(index, self.ahead)
        block = self.block
        if block[0] != place:
            block = self.block = place, self.take(place, self.ahead * self.batch_size)
        return each(lambda part: part[batch * self.batch_size : (batch + 1) * self.batch_size], block[1])

    def take(self, place: int, size: int) -> Batch:
        """The samples at that place of the epoch, if it is divided into parts of that size."""
        rows = self.rows[place * size : (place + 1) * size]
        return each(lambda gather: gather(rows), self.gathers)

    def on_epoch_begin(self) -> None:
        if self.given is not None:
            self.rows, self.block = self.order(), NO_BLOCK

    def on_epoch_end(self) -> None:
        self.counted += 1
        if self.given is None:
            self.rows, self.block = self.order(), NO_BLOCK


def tensorflow_dataset(
    shard: Shard, batch_size: int, shuffle: bool, seed: int, scale: float | None, given: Callable[[], int] | None
) -> Any:
    """The batches of a shard for TensorFlow."""
    import tensorflow as tf

    takes = native_takes(shard, scale)
    which = itertools.count().__next__ if given is None else given
    steps, ahead = shard.steps(batch_size), batches_ahead(shard, batch_size)

    def order() -> Array:
        return shard.rows(which(), shuffle=shuffle, seed=seed)

    def epoch(_: Any) -> Any:
        rows = tf.numpy_function(order, [], tf.int64)

        def taken(place: Any, size: int) -> Batch:
            chosen = rows[place * size : (place + 1) * size]
            return tree.map_structure(lambda take: take(chosen), takes)

        def block(place: Any) -> Any:
            whole = taken(place, ahead * batch_size)

            def batch(step: Any) -> Batch:
                return tree.map_structure(lambda part: part[step * batch_size : (step + 1) * batch_size], whole)

            return tf.data.Dataset.range(tf.minimum(place * ahead + ahead, steps) - place * ahead).map(batch)

        if ahead == 1:
            return tf.data.Dataset.range(steps).map(lambda step: taken(step, batch_size))
        return tf.data.Dataset.range(-(-steps // ahead)).flat_map(block)

    dataset = tf.data.Dataset.range(1).flat_map(epoch)
    return untuned(dataset.apply(tf.data.experimental.assert_cardinality(steps)))


def untuned(dataset: Any) -> Any:
    """A dataset of TensorFlow without its autotuner and its optimizations."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return dataset.with_options(options)


def native_takes(shard: Shard, scale: float | None) -> Any:
    """The structure of a batch, with what gathers in TensorFlow's graph at each leaf."""
    # Keras' own path makes tuples of lists too: tf.data takes a list for a tensor.
    return tree.map_structure(native_gather, tree.lists_to_tuples(gathers(shard, scale)))


def batches_ahead(shard: Shard, batch_size: int) -> int:
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
