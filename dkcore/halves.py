"""The two halves of a merge on one node: what it gives of a chunk, and what it does with the sum over all nodes."""

import numpy as np

from dkcore.errors import MergeError, expected
from dkcore.formulas import FORMULAS
from dkcore.kernels import compile_kernel
from dkcore.reduction import Chunk, Flight, chunks_of
from dkcore.rule import Rule
from dkcore.synchronous import Synchronous

__all__ = ["Differences", "HandIns", "adds_up"]

OUTSIDE = -1  # a role: an array beside the center
TIMEOUT = 60.0  # seconds to wait for one stripe


class Halves:
    """What both kinds share. chunks: of a round."""

    def __init__(self, center, vectors: int):
        self.center = center
        self.chunks = chunks_of(center.size, center.stripe_length, center.dtype.itemsize, vectors)

    def native(self, formula: Rule, roles: list[int]):
        """A formula, ready to run over stripes of the center."""
        from dkcore.engine import engine

        kernel = compile_kernel(formula, self.center.dtype)
        return engine().Pass(self.center.segment, kernel, roles, formula.scalars, TIMEOUT)

    def span(self, chunk: Chunk) -> slice:
        begin = chunk.first * self.center.stripe_length
        return slice(begin, begin + chunk.length)


class Differences(Halves):
    """Of a center whose workers do not wait: what it has beyond ``agreed``, what all nodes agreed on last.

    agreed: one array a vector. counted: the versions that all agreed on; shape (stripes,), uint64.
    """

    def __init__(self, center):
        super().__init__(center, 1 + center.states)
        self.agreed = [center.snapshot(state=vector) for vector in range(1 + center.states)]
        self.counted = center.versions
        self.passes = {}
        for vector in range(1 + center.states):
            for name in ("merge_difference", "merge_absorb", "merge_agree", "merge_rebase", "merge_put_back"):
                outside = [OUTSIDE] * (len(FORMULAS[name].vectors) - 1)
                self.passes[name, vector] = self.native(FORMULAS[name], [role_of(vector), *outside])

    def fresh(self) -> int:
        """Exchanges of this node that the others have not seen."""
        return int(self.center.versions[0] - self.counted[0])

    def give(self, chunk: Chunk, values: np.ndarray, counts: np.ndarray) -> None:
        """First half: the difference into ``values``, the exchanges that it is of into ``counts``."""
        self.run("merge_difference", chunk, (values,), versions=None if chunk.vector else counts)
        if chunk.vector == 0:
            counts -= self.counted[chunk.first : chunk.end]

    def take(self, chunk: Chunk, given: np.ndarray, total: np.ndarray, counts: np.ndarray, counts_of_all: np.ndarray) -> None:
        """Second half: have what the others gave."""
        self.run("merge_absorb", chunk, (given, total), raised=self.count(chunk, counts, counts_of_all))

    def take_last(self, chunk: Chunk, given: np.ndarray, total: np.ndarray, counts: np.ndarray, counts_of_all: np.ndarray) -> None:
        """Second half where nobody works any longer: all centers become equal to the last bit."""
        self.run("merge_agree", chunk, (total,), raised=self.count(chunk, counts, counts_of_all))

    def run(self, name: str, chunk: Chunk, arrays: tuple, versions: np.ndarray | None = None, raised: np.ndarray | None = None) -> None:
        agreed = self.agreed[chunk.vector][self.span(chunk)]
        self.passes[name, chunk.vector].run(chunk.first, chunk.end, (agreed, *arrays), versions, raised)

    def count(self, chunk: Chunk, counts: np.ndarray, counts_of_all: np.ndarray) -> np.ndarray | None:
        """Exchanges of the other nodes, for the versions of the stripes."""
        if chunk.vector:
            return None
        self.counted[chunk.first : chunk.end] += counts_of_all
        return counts_of_all - counts

    def agreement(self, chunk: Chunk) -> list[np.ndarray]:
        """What nodes that have taken less of a round lack of a chunk. This and what follows: see survival.py."""
        return [self.agreed[chunk.vector][self.span(chunk)].copy(), self.counted[chunk.first : chunk.end].copy()]

    def take_over(self, flight: Flight, arrays: list[np.ndarray]) -> None:
        """Have what others agreed on; what this node had not sent stays."""
        chunk, counted = flight.chunk, self.counted[flight.chunk.first : flight.chunk.end]
        raised = None if chunk.vector else arrays[1] - counted - flight.counts
        self.run("merge_rebase", chunk, (arrays[0], flight.given[: chunk.length]), raised=raised)
        if chunk.vector == 0:
            counted[:] = arrays[1]

    def put_back(self, chunk: Chunk, values: np.ndarray) -> None:
        """Add to this node's center what is in no other."""
        self.passes["merge_put_back", chunk.vector].run(chunk.first, chunk.end, (values,))


class HandIns(Halves):
    """Of a center whose workers meet in rounds: what they handed in.

    scalars: of the method's outer step, known once this rank trains. workers: how many handed in, on all nodes.
    """

    def __init__(self, center, method: Synchronous):
        super().__init__(center, 1)
        self.method, self.scalars, self.workers = method, dict(method.defaults), 0
        outer, handed = method.outer, [role_of(1), OUTSIDE]  # m is the first state
        roles = [0 if name == "c" else OUTSIDE if name == "t" else role_of(1 + method.states.index(name)) for name in outer.vectors]
        self.outer = self.native(outer, roles)
        self.handed = self.native(FORMULAS["round_handed"], handed)
        self.taken = self.native(FORMULAS["round_taken"], handed)
        self.back = self.native(FORMULAS["merge_put_back"], handed)
        self.moved = [0, *range(2, 1 + center.states)]  # what the outer step moves: the center, and its own states
        self.read = {vector: self.native(FORMULAS["round_handed"], [role_of(vector), OUTSIDE]) for vector in self.moved}
        self.replace = {vector: self.native(FORMULAS["merge_replace"], [role_of(vector), OUTSIDE]) for vector in self.moved}

    def fresh(self) -> int:
        """Nothing is told between rounds."""
        return 0

    def give(self, chunk: Chunk, values: np.ndarray, counts: np.ndarray) -> None:
        """First half: what workers handed in."""
        self.handed.run(chunk.first, chunk.end, (values,))

    def take(self, chunk: Chunk, given: np.ndarray, total: np.ndarray, counts: np.ndarray, counts_of_all: np.ndarray) -> None:
        """Second half: the center's step; what compression held back stays for the next round."""
        scalars = {**self.scalars, "workers": self.workers}
        for name in self.method.outer.scalars:
            if name not in scalars:
                what = f"{name} of method {self.method.name!r}"
                raise MergeError(expected(what, "none: the first rank of this node has not trained", "Have it train, too."))
            self.outer.set(name, scalars[name])
        self.outer.run(chunk.first, chunk.end, (total,))
        self.taken.run(chunk.first, chunk.end, (given,))

    def agreement(self, chunk: Chunk) -> list[np.ndarray]:
        """The center and its states, which are the same on all nodes that took the step. This and what follows: see survival.py."""
        arrays = [np.empty(chunk.length, self.center.dtype) for _ in self.moved]
        for vector, values in zip(self.moved, arrays, strict=True):
            self.read[vector].run(chunk.first, chunk.end, (values,))
        return arrays

    def take_over(self, flight: Flight, arrays: list[np.ndarray]) -> None:
        """Have the step that others took."""
        chunk = flight.chunk
        for vector, values in zip(self.moved, arrays, strict=True):
            self.replace[vector].run(chunk.first, chunk.end, (values,))
        self.taken.run(chunk.first, chunk.end, (flight.given[: chunk.length],))

    def put_back(self, chunk: Chunk, values: np.ndarray) -> None:
        """Hand in once more what is in no other node."""
        self.back.run(chunk.first, chunk.end, (values,))


def role_of(vector: int) -> int:
    """As the engine numbers roles: the center is 0, the first state 3."""
    return 2 + vector if vector else 0


def adds_up(rule: Rule, vector: int) -> bool:
    """Whether what nodes did to a vector (0: the center, k: the k-th state) is added up; else it is averaged."""
    if vector == 0:
        return "p" in rule.vectors
    name = rule.states[vector - 1]
    output = rule.nodes[rule.outputs[name]]
    own = rule.vectors.index(name)
    return output.op == "add" and output.args.count(own) == 1 and not any(reads(rule, index, own) for index in output.args if index != own)


def reads(rule: Rule, index: int, leaf: int) -> bool:
    """Whether a node of the trace depends on a leaf."""
    node = rule.nodes[index]
    return index == leaf or (node.op not in ("vector", "scalar", "constant") and any(reads(rule, arg, leaf) for arg in node.args))
