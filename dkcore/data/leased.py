"""How leased batches reach Keras' ``fit``: epochs whose length nobody knows before, because other workers take their part of them.

Design:
(a) Keras takes a length that it does not know for the one that it saw in the first epoch, and warns at the end of each. So its
    adapters get a number from us that is larger than any (`Unknown`). Keras compares it with the steps that it has seen before each
    step; then we look whether there is a batch left, and end the epoch there, without an exception and its warning.
(b) Batches are asked for when they are needed. Where something in between takes some ahead, they are given again at the next epoch,
    since only training counts: see `Source`.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Protocol, Self

import keras
import numpy as np
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter
from keras.src.trainers.data_adapters.tf_dataset_adapter import TFDatasetAdapter, make_class_weight_map_fn

from dkcore.arrays import Array
from dkcore.data.batches import Batch, batches_ahead, each, gathers, native_takes, untuned
from dkcore.data.shard import Shard

__all__ = ["Order", "Source", "leased_dataset"]

ENDLESS = 2**62
KEPT = 2  # epochs: what went back is of the one before at most times


class Source(Protocol):
    """Where batches come from, one after the other; see `dkcore.training.leasing.Leases`."""

    def begin(self) -> None:
        """Somebody begins to iterate: give what was not trained once more."""

    def more(self) -> bool:
        """Whether there is a batch to train in this epoch."""

    def take(self, most: int) -> tuple[int, int, int]:
        """The next batches, at most so many: their epoch, the place of the first one in it, and how many; 0: there are none."""


class Order:
    """The rows of leased batches. shard: of all workers that lease from each other."""

    def __init__(self, shard: Shard, batch_size: int, shuffle: bool, seed: int):
        self.shard, self.batch_size, self.shuffle, self.seed = shard, batch_size, shuffle, seed
        self.orders: OrderedDict[int, Array] = OrderedDict()

    def rows(self, epoch: int, first: int, count: int) -> Array:
        """Of batches that follow each other in an epoch: int64 indices into the shard's arrays."""
        if epoch not in self.orders:
            self.orders[epoch] = self.shard.rows(epoch, shuffle=self.shuffle, seed=self.seed)
            while len(self.orders) > KEPT:
                self.orders.popitem(last=False)
        self.orders.move_to_end(epoch)
        return self.orders[epoch][first * self.batch_size : (first + count) * self.batch_size]


class Unknown(int):
    """A number of steps larger than any. ``seen >= unknown`` is whether there are no more, which Keras asks before each step."""

    source: Source

    def __new__(cls, source: Source) -> Self:
        made = super().__new__(cls, ENDLESS)
        made.source = source
        return made

    def __le__(self, seen: int) -> bool:
        return not self.source.more()


def leased_dataset(order: Order, source: Source, backend: str, *, scale: float | None = None, class_weight: Any = None) -> Any:
    """What to hand to ``fit``, with ``shuffle=False``; class weights go in here, Keras would not look for them."""
    make = tensorflow_adapter if backend == "tensorflow" else Leased
    return make(order, source, scale, class_weight)


class Leased(PyDatasetAdapter):  # type: ignore[misc]  # keras has no types
    """Leased batches for JAX and torch, gathered by numpy."""

    def __init__(self, order: Order, source: Source, scale: float | None, class_weight: Any):
        super().__init__(keras.utils.PyDataset(), class_weight)
        self.order, self.source, self.length = order, source, Unknown(source)
        self.gathers = gathers(order.shard, scale)
        self.ahead = batches_ahead(order.shard, order.batch_size)

    @property
    def num_batches(self) -> int:
        return self.length

    def _get_iterator(self) -> Iterator[Batch]:
        size = self.order.batch_size
        self.source.begin()
        while (lease := self.source.take(self.ahead))[2]:
            rows = self.order.rows(*lease)
            block = each(lambda gather: gather(rows), self.gathers)  # noqa: B023  # called here
            for start in range(0, len(rows), size):
                yield self._standardize_batch(each(lambda part: part[start : start + size], block) if self.ahead > 1 else block)  # noqa: B023


def tensorflow_adapter(order: Order, source: Source, scale: float | None, class_weight: Any) -> Any:
    """Leased batches for TensorFlow, gathered natively out of the mapped file: Python is asked once a lease."""
    import tensorflow as tf

    takes, size = native_takes(order.shard, scale), order.batch_size

    def lease(place: Any) -> Array:
        if place == 0:
            source.begin()
        epoch, first, count = source.take(ENDLESS)
        return order.rows(epoch, first, count) if count else np.zeros(0, np.int64)

    def divided(place: Any) -> tuple[Array, Array]:
        rows = lease(place)
        batches = -(-len(rows) // size)
        return np.resize(rows, (batches, size)), np.minimum(len(rows) - size * np.arange(batches), size)

    def each_batch() -> Any:
        """A dataset in a dataset for each lease would take longer than to gather."""
        shapes = [None, size], [None]
        leases = tf.data.Dataset.range(ENDLESS).map(lambda place: shaped(tf.numpy_function(divided, [place], [tf.int64] * 2), shapes))
        batches = leases.take_while(lambda _, lengths: tf.shape(lengths)[0] > 0).unbatch()
        return batches.map(lambda rows, length: each_take(takes, rows[:length]))

    def each_block() -> Any:
        """Rows in pieces are gathered by numpy, those of a lease at once."""
        leases = tf.data.Dataset.range(ENDLESS).map(lambda place: shaped([tf.numpy_function(lease, [place], tf.int64)], [[None]])[0])
        return leases.take_while(lambda rows: tf.shape(rows)[0] > 0).flat_map(batches_of)

    def batches_of(rows: Any) -> Any:
        whole, steps = each_take(takes, rows), (tf.shape(rows, tf.int64)[0] + size - 1) // size
        return tf.data.Dataset.range(steps).map(
            lambda step: keras.tree.map_structure(lambda part: part[step * size : (step + 1) * size], whole)
        )

    def shaped(tensors: Any, shapes: Any) -> Any:
        return tuple(tf.ensure_shape(tensor, shape) for tensor, shape in zip(tensors, shapes, strict=True))

    dataset = each_block() if batches_ahead(order.shard, size) > 1 else each_batch()
    if class_weight is not None:  # Keras' own way takes batches ahead
        dataset = dataset.map(make_class_weight_map_fn(class_weight))
    return adapter_of(untuned(dataset), Unknown(source))


def each_take(takes: Any, rows: Any) -> Any:
    return keras.tree.map_structure(lambda take: take(rows), takes)


def adapter_of(dataset: Any, length: int) -> Any:
    """Keras' adapter of a dataset, with another length."""

    class Adapter(TFDatasetAdapter):  # type: ignore[misc]  # keras has no types
        num_batches = property(lambda _: length)

    return Adapter(dataset)
