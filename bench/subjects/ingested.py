"""A subject of a crew: a rank that trained one epoch on rows of 784 floats, and goes through them again."""

import tempfile
from collections.abc import Iterator

import numpy as np
import pyarrow

from dkcore.data import batches
from dkcore.data.arrow_columns import AHEAD
from dkcore.data.shard import Shard
from dkcore.ranks.shm import MAGIC
from spark_bridge.columns import Columns
from spark_bridge.ingest import ingest

__all__ = ["Ingested"]

WIDTH, CHUNK = 784, 10_000  # floats of a row; rows that Spark sends at once


class Ingested:
    """``rows`` rows in one partition, in batches of ``batch``; without Spark, which has nothing to do any more."""

    def __init__(self, index: int, workers: int, rows: int, batch: int) -> None:
        self.rows, self.batch, self.folder = rows, batch, tempfile.TemporaryDirectory()
        self.stored = ingest(self.sent(), Columns().plan(), self.folder.name)
        self.dataset = batches.dataset(Shard(self.folder.name), "jax", batch)
        [self.file] = self.stored.result["files"]["train"]

    def sent(self):
        """What Spark would send: the label is the row's number, and its first float."""
        for first in range(0, self.rows, CHUNK):
            labels = np.arange(first, min(first + CHUNK, self.rows))
            images = np.random.default_rng(first).random((len(labels), WIDTH), np.float32)
            images[:, 0] = labels
            offsets = pyarrow.array(np.arange(len(labels) + 1, dtype=np.int32) * WIDTH)
            lists = pyarrow.ListArray.from_arrays(offsets, pyarrow.array(images.reshape(-1)))
            yield pyarrow.RecordBatch.from_arrays([lists, pyarrow.array(labels)], ["features", "label"])

    def bytes(self) -> int:
        """Of all rows, without what Arrow adds."""
        return self.stored.result["bytes"]

    def shared(self) -> float:
        """Which part of them is in shared memory."""
        return self.stored.result["shared_bytes"] / self.bytes()

    def epoch(self) -> None:
        """All batches, shuffled."""
        for index in range(len(self.dataset)):
            self.dataset[index]
        self.dataset.on_epoch_end()

    def read(self) -> None:
        """A plain read of the same file into memory, as much at once as a record batch has."""
        with pyarrow.OSFile(self.file) as source:
            while source.read_buffer(CHUNK * WIDTH * 4).size:
                pass

    def copy(self) -> None:
        """The same file mapped, and copied in its own order into batches: what no shuffled epoch could beat."""
        with pyarrow.memory_map(self.file) as source:
            for record_batch in self.record_batches(source):
                images, labels = (self.numbers(column) for column in record_batch.columns)
                for first in range(0, len(labels), self.batch):
                    images[first : first + self.batch].copy(), labels[first : first + self.batch].copy()

    @staticmethod
    def record_batches(source) -> Iterator[pyarrow.RecordBatch]:
        """Those of a file of pieces, after dkcore's mark, which one in shared memory begins with."""
        marked = source.read(len(MAGIC)) == MAGIC
        source.seek(AHEAD if marked else 0)
        reader = pyarrow.ipc.open_file(source.read_buffer())
        yield from map(reader.get_batch, range(reader.num_record_batches))

    def numbers(self, column) -> np.ndarray:
        return column.values.to_numpy().reshape(-1, WIDTH) if pyarrow.types.is_fixed_size_list(column.type) else column.to_numpy()

    def verify(self) -> None:
        """An epoch has each row once."""
        seen = []
        for images, labels in map(self.dataset.__getitem__, range(len(self.dataset))):
            assert np.array_equal(images[:, 0], labels), "a row has another one's label"
            seen.append(labels)
        self.dataset.on_epoch_end()
        assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(self.rows)), "an epoch lost or doubled rows"

    def close(self) -> None:
        self.stored.close()
        self.folder.cleanup()
