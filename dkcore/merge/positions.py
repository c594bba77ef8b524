"""Statistics in a merge: a node contributes where they are, and takes the mean of all nodes."""

from typing import TYPE_CHECKING, Protocol

import numpy as np

from dkcore.arrays import Array
from dkcore.engine.merge_formulas import FORMULAS
from dkcore.formula.rule import Rule
from dkcore.merge.allreduce import Chunk, Flight

if TYPE_CHECKING:
    from dkcore._engine import Pass
    from dkcore.engine.center import NodeCenter

__all__ = ["AveragedPositions", "HandedPositions"]


class Owner(Protocol):
    """The contributions of a node that positions are part of."""

    center: "NodeCenter"

    def native(self, formula: Rule, vector: int, statistics: bool = False) -> "Pass":
        """A formula of a vector of the center and of arrays, ready to run over the stripes of statistics."""


class Agreeing(Owner, Protocol):
    """Those that keep what all nodes agreed on last."""

    agreed: list[Array]
    counted: Array

    def span(self, chunk: Chunk) -> slice:
        """Where a chunk lies in the center."""

    def count(self, chunk: Chunk, counts: Array, counts_of_all: Array) -> Array | None:
        """Exchanges of the other nodes."""

    def agreement(self, chunk: Chunk) -> list[Array]:
        """What nodes that are behind lack of a chunk."""


class AveragedPositions:
    """Of a center whose workers do not wait: the center's own. What they do while the mean is formed stays on top of it."""

    def __init__(self, owner: Agreeing):
        self.owner = owner
        self.read = owner.native(FORMULAS["round_handed"], 0, statistics=True)
        self.absorb = owner.native(FORMULAS["statistic_absorb"], 0, statistics=True)
        self.replace = owner.native(FORMULAS["merge_replace"], 0, statistics=True)

    def contribute(self, chunk: Chunk, values: Array, counts: Array) -> None:
        self.read.run(chunk.first, chunk.end, (values,), counts)
        counts -= self.owner.counted[chunk.first : chunk.end]
        if chunk.shared:
            counts[0] = 0  # told with the other chunk

    def apply(self, chunk: Chunk, given: Array, total: Array, counts: Array, counts_of_all: Array) -> None:
        self.agree(chunk, total)
        self.absorb.run(chunk.first, chunk.end, (given, total), raised=self.owner.count(chunk, counts, counts_of_all))

    def apply_last(self, chunk: Chunk, given: Array, total: Array, counts: Array, counts_of_all: Array) -> None:
        self.agree(chunk, total)
        self.replace.run(chunk.first, chunk.end, (total,), raised=self.owner.count(chunk, counts, counts_of_all))

    def agree(self, chunk: Chunk, mean: Array) -> None:
        """Keep what all agreed on, for nodes that may come to lack it."""
        self.owner.agreed[0][self.owner.span(chunk)] = mean

    def agreement(self, chunk: Chunk) -> list[Array]:
        return self.owner.agreement(chunk)

    def adopt(self, flight: Flight, arrays: list[Array]) -> None:
        chunk, counted = flight.chunk, self.owner.counted[flight.chunk.first : flight.chunk.end]
        self.agree(chunk, arrays[0])
        self.absorb.run(chunk.first, chunk.end, (flight.given[: chunk.length], arrays[0]), raised=arrays[1] - counted - flight.counts)
        counted[:] = arrays[1]


class HandedPositions:
    """Of a center whose workers meet in rounds: the mean of those of this node. The center's become the mean of all."""

    def __init__(self, owner: Owner):
        self.owner = owner
        self.handed = owner.native(FORMULAS["round_handed"], 1, statistics=True)
        self.read = owner.native(FORMULAS["round_handed"], 0, statistics=True)
        self.replace = owner.native(FORMULAS["merge_replace"], 0, statistics=True)

    def contribute(self, chunk: Chunk, values: Array, counts: Array) -> None:
        self.handed.run(chunk.first, chunk.end, (values,), arrivals=counts)
        if chunk.shared:
            counts[0] = 0  # told with the other chunk

    def apply(self, chunk: Chunk, given: Array, total: Array, counts: Array, counts_of_all: Array) -> None:
        self.replace.run(chunk.first, chunk.end, (total,), taken=counts)

    def agreement(self, chunk: Chunk) -> list[Array]:
        values = np.empty(chunk.length, self.owner.center.dtype)
        self.read.run(chunk.first, chunk.end, (values,))
        return [values]

    def adopt(self, flight: Flight, arrays: list[Array]) -> None:
        self.replace.run(flight.chunk.first, flight.chunk.end, (arrays[0],), taken=flight.counts)
