"""What a node contributes to a round of a synchronous method: what its workers handed in."""

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from dkcore.arrays import Array
from dkcore.engine.load import engine
from dkcore.engine.merge_formulas import FORMULAS
from dkcore.engine.roles import role_of
from dkcore.errors import MergeError, expected
from dkcore.formula.synchronous import Synchronous
from dkcore.merge.allreduce import Chunk, Flight
from dkcore.merge.contributions import Contributions
from dkcore.merge.positions import HandedPositions

if TYPE_CHECKING:
    from dkcore.engine.center import NodeCenter

__all__ = ["HandIns"]


def alike(counts: Array) -> list[tuple[int, int, int]]:
    """Where equal numbers stand in a row: (first, end, number).

    >>> alike(np.array([2, 2, 1, 2]))
    [(0, 2, 2), (2, 3, 1), (3, 4, 2)]
    """
    cuts = [0, *(np.flatnonzero(np.diff(counts)) + 1).tolist(), len(counts)]
    return [(first, end, int(counts[first])) for first, end in pairwise(cuts)]


class HandIns(Contributions):
    """Of a center whose workers meet in rounds: what they handed in, and how many did into each stripe.

    A worker that dies may have handed in some stripes and not others. So each stripe counts its own, the counts are summed up beside
    the stripes, and the mean of a stripe is that of what is in it. scalars: of the method's outer step, known once this rank trains.
    """

    def __init__(self, center: "NodeCenter", method: Synchronous):
        super().__init__(center, 1)
        self.method, self.scalars = method, dict(method.defaults)
        roles = [engine().Role.OUTSIDE if name == "t" else role_of(name, method.states) for name in method.outer.vectors]
        self.outer = self.native_of(method.outer, roles)
        self.handed = self.native(FORMULAS["round_handed"], 1)  # m is the first state
        self.taken = self.native(FORMULAS["round_taken"], 1)
        self.back = self.native(FORMULAS["merge_put_back"], 1)
        self.moved = [0, *range(2, 1 + center.states)]  # what the outer step moves: the center, and its own states
        self.read = {vector: self.native(FORMULAS["round_handed"], vector) for vector in self.moved}
        self.replace = {vector: self.native(FORMULAS["merge_replace"], vector) for vector in self.moved}
        self.positions = HandedPositions(self)

    def fresh(self) -> int:
        """Nothing is told between rounds."""
        return 0

    def contribute(self, chunk: Chunk, values: Array, counts: Array) -> None:
        """First half: what workers handed in, and into ``counts`` how many."""
        self.handed.run(chunk.first, chunk.end, (values,), arrivals=counts)

    def apply(self, chunk: Chunk, given: Array, total: Array, counts: Array, counts_of_all: Array) -> None:
        """Second half: the center's step; what compression held back stays for the next round."""
        for name in self.method.outer.scalars:
            if name != "workers" and name not in self.scalars:
                what = f"{name} of method {self.method.name!r}"
                raise MergeError(expected(what, "none: the first rank of this node has not trained", "Have it train, too."))
        for first, end, workers in alike(counts_of_all):
            self.step(chunk, chunk.first + first, chunk.first + end, total, workers)
        self.taken.run(chunk.first, chunk.end, (given,), taken=counts)

    def step(self, chunk: Chunk, first: int, end: int, total: Array, workers: int) -> None:
        """The outer step on stripes that so many handed in to; where nobody did, all that is in the sum is what was held back before."""
        scalars = {**self.scalars, "workers": max(workers, 1)}
        for name in self.method.outer.scalars:
            self.outer.set(name, scalars[name])
        begin = max(first * self.center.stripe_length - chunk.begin, 0)
        self.outer.run(first, end, (total[begin:],))

    def agreement(self, chunk: Chunk) -> list[Array]:
        """The center and its states, which are the same on all nodes that took the step. This and what follows: see recovery.py."""
        arrays = [np.empty(chunk.length, self.center.dtype) for _ in self.moved]
        for vector, values in zip(self.moved, arrays, strict=True):
            self.read[vector].run(chunk.first, chunk.end, (values,))
        return arrays

    def adopt(self, flight: Flight, arrays: list[Array]) -> None:
        """Have the step that others took."""
        chunk = flight.chunk
        for vector, values in zip(self.moved, arrays, strict=True):
            self.replace[vector].run(chunk.first, chunk.end, (values,))
        self.taken.run(chunk.first, chunk.end, (flight.given[: chunk.length],), taken=flight.counts)

    def put_back(self, chunk: Chunk, values: Array) -> None:
        """Hand in once more what is in no other node."""
        self.back.run(chunk.first, chunk.end, (values,))
