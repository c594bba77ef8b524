"""The part of the training data that one rank trains on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dkcore.arrays import Array
from dkcore.data.arrays import KEYS, Nested, checked, first_leaf, map_arrays, read
from dkcore.data.arrow_columns import Pieces
from dkcore.errors import DataError, expected

__all__ = ["NodeShard", "Shard"]


class Shard:
    """One rank's part of the data: one of each ``size`` neighbouring samples. It maps files and copies nothing.

    Args:
        source: the directory of `write`, or its arrays; those may be `dkcore.data.arrow_columns.Pieces`, and then be empty.
        rank, size: of this worker, of all workers.
        part: ``"train"`` or ``"test"``.

    Attributes:
        arrays: ``(x,)``, ``(x, y)`` or ``(x, y, sample_weight)``, of the samples of all ranks.
        samples: how many are this rank's; the ranks' numbers differ by one at most.

    Raises:
        DataError: no such arrays, or fewer samples than ranks.
    """

    def __init__(self, source: Path | str | Mapping[str, Nested], rank: int = 0, size: int = 1, *, part: str = "train"):
        parts = checked(source) if isinstance(source, Mapping) else read(source)
        keys = [key for key in KEYS if key.endswith(f"_{part}") and key in parts]
        if not keys:
            raise DataError(expected(f"x_{part}", list(parts), "It was not among the arrays that were written."))
        self.arrays = tuple(map_arrays(plain, parts[key], key) for key in keys)
        if not 0 <= rank < size:
            raise ValueError(expected(f"a rank of 0 to {size - 1}", rank, "size is the number of workers."))
        self.rank, self.size = rank, size
        self.total = len(first_leaf(self.arrays))
        if self.total < size and not isinstance(first_leaf(self.arrays), Pieces):  # an executor may have had no rows
            raise DataError(expected(f"a sample for each of {size} workers", f"{self.total} samples", "Use fewer workers."))
        self.samples = len(range(rank, self.total, size))

    def steps(self, batch_size: int) -> int:
        """Batches an epoch, the last, partial one included."""
        if batch_size < 1:
            raise DataError(expected("a batch size of 1 or more", batch_size, "Pass batch_size=32."))
        return -(-self.samples // batch_size)

    def rows(self, epoch: int = 0, *, shuffle: bool = True, seed: int = 0) -> Array:
        """The samples of this rank in the order of an epoch, each once: int64 indices into `arrays`.

        Without shuffling they are every ``size``-th from ``rank`` on. With it the ranks turn about, anew for each neighbourhood
        and epoch: in MNIST's file every other digit was written by another group of people, and is harder. The epochs of all
        ranks, which need not be at the same time, still make up the whole.
        """
        if not shuffle:
            return np.arange(self.rank, self.total, self.size)
        rows = self.drawn(self.rank, epoch, seed)
        return np.random.default_rng([seed, epoch, self.rank]).permutation(rows)

    def drawn(self, rank: int, epoch: int, seed: int) -> Array:
        """The samples that fall to a rank in an epoch, before they are put in order."""
        rows = np.arange(rank, self.total, self.size)
        whole = self.total // self.size  # neighbourhoods; the ranks of the last one that is not whole keep their places
        turns = np.random.default_rng([seed, epoch]).integers(self.size, size=whole)
        rows[:whole] += (rank + turns) % self.size - rank
        return rows


class NodeShard(Shard):
    """The part of the training data that the ranks of a node train on together, in one order.

    Args:
        shard: of one of them. ranks, size: the parts that are theirs, of so many parts. node: its number. sharers: how many ranks.

    Attributes:
        even: whether the part depends on the number of nodes alone, not on that of ranks.
    """

    def __init__(self, shard: Shard, ranks: Sequence[int], size: int, *, node: int = 0, sharers: int = 1):
        self.node, self.sharers, self.even = node, sharers, len(ranks) == 1
        self.arrays, self.total, self.size = shard.arrays, shard.total, size
        self.ranks, self.rank = sorted(ranks), min(ranks)
        self.samples = sum(len(range(rank, self.total, self.size)) for rank in self.ranks)

    @property
    def arguments(self) -> dict[str, Any]:
        """What another process makes the same of, beside the arrays."""
        return {"ranks": self.ranks, "size": self.size, "node": self.node, "sharers": self.sharers}

    def rows(self, epoch: int = 0, *, shuffle: bool = True, seed: int = 0) -> Array:
        """The samples of all these ranks in the order of an epoch, each once: int64 indices into `arrays`."""
        if not shuffle:
            return np.sort(np.concatenate([np.arange(rank, self.total, self.size) for rank in self.ranks]))
        rows = np.concatenate([self.drawn(rank, epoch, seed) for rank in self.ranks])
        return np.random.default_rng([seed, epoch, self.rank]).permutation(rows)


def plain(path: str, leaf: Any) -> Array | Pieces:
    """The leaf without the slower ways of a memmap."""
    return leaf if isinstance(leaf, Pieces) else np.asarray(leaf)
