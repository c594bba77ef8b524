"""What a node contributes of a chunk to a merge, and what it does with the sum over all nodes."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

from dkcore.arrays import Array
from dkcore.engine.compile import compile_kernel
from dkcore.engine.emit import only_read
from dkcore.engine.load import engine
from dkcore.engine.merge_formulas import FORMULAS
from dkcore.engine.roles import role_at
from dkcore.formula.rule import Rule
from dkcore.merge.allreduce import Chunk, Flight, chunks_of
from dkcore.merge.positions import AveragedPositions, HandedPositions

if TYPE_CHECKING:
    from dkcore._engine import Pass
    from dkcore.engine.center import NodeCenter

__all__ = ["Contributions", "Differences"]

TIMEOUT = 60.0  # seconds to wait for one stripe


class Contributing(Protocol):
    """What a round does with a chunk: of progress, or of positions."""

    def contribute(self, chunk: Chunk, values: Array, counts: Array) -> None:
        """First half: what this node gives."""

    def apply(self, chunk: Chunk, given: Array, total: Array, counts: Array, counts_of_all: Array) -> None:
        """Second half: take the sum."""

    def agreement(self, chunk: Chunk) -> list[Array]:
        """What nodes that have taken less of a round lack of a chunk. This and what follows: see recovery.py."""

    def adopt(self, flight: Flight, arrays: list[Array]) -> None:
        """Have what others agreed on."""


class Contributions(ABC):
    """What `Differences` and `HandIns` share. chunks: of a round. positions: those of its statistics."""

    positions: AveragedPositions | HandedPositions

    def __init__(self, center: "NodeCenter", vectors: int):
        self.center, self.split = center, center.size - center.statistics
        self.chunks = chunks_of(center.size, center.stripe_length, center.dtype.itemsize, vectors, center.statistics)

    def native(self, formula: Rule, vector: int, statistics: bool = False) -> "Pass":
        """A formula of that vector of the center (0: itself, k: its k-th state), its first, and of arrays; see `native_of`."""
        return self.native_of(formula, [role_at(vector), *[engine().Role.OUTSIDE] * (len(formula.vectors) - 1)], statistics)

    def native_of(self, formula: Rule, roles: list[int], statistics: bool = False) -> "Pass":
        """A formula, ready to run over stripes of the center: over its statistics, or over the rest. roles: one a vector."""
        kernel = compile_kernel(formula, self.center.dtype)
        span = (self.split, self.center.size) if statistics else (0, self.split)
        return engine().Pass(self.center.segment, kernel, roles, formula.scalars, TIMEOUT, *span, only_read(formula))

    def of(self, chunk: Chunk) -> Contributing:
        """Those that a chunk is of."""
        return self.positions if chunk.statistics else self

    def span(self, chunk: Chunk) -> slice:
        return slice(chunk.begin, chunk.begin + chunk.length)

    @abstractmethod
    def fresh(self) -> int:
        """Exchanges of this node that the others have not seen."""

    @abstractmethod
    def contribute(self, chunk: Chunk, values: Array, counts: Array) -> None: ...

    @abstractmethod
    def apply(self, chunk: Chunk, given: Array, total: Array, counts: Array, counts_of_all: Array) -> None: ...

    @abstractmethod
    def agreement(self, chunk: Chunk) -> list[Array]: ...

    @abstractmethod
    def adopt(self, flight: Flight, arrays: list[Array]) -> None: ...

    @abstractmethod
    def put_back(self, chunk: Chunk, values: Array) -> None:
        """Add to this node's center what is in no other."""


class Differences(Contributions):
    """Of a center whose workers do not wait: what it has beyond ``agreed``, what all nodes agreed on last.

    agreed: one array a vector. counted: the versions that all agreed on; shape (stripes,), uint64.
    """

    def __init__(self, center: "NodeCenter"):
        super().__init__(center, 1 + center.states)
        self.agreed = [center.snapshot(state=vector) for vector in range(1 + center.states)]
        self.counted = center.versions
        self.passes: dict[tuple[str, int], Pass] = {}
        for vector in range(1 + center.states):
            for name in ("merge_difference", "merge_absorb", "merge_agree", "merge_rebase", "merge_put_back"):
                self.passes[name, vector] = self.native(FORMULAS[name], vector)
        self.positions = AveragedPositions(self)

    def fresh(self) -> int:
        """Exchanges of this node that the others have not seen."""
        return int(self.center.versions[0] - self.counted[0])

    def contribute(self, chunk: Chunk, values: Array, counts: Array) -> None:
        """First half: the difference into ``values``, the exchanges that it is of into ``counts``."""
        self.run("merge_difference", chunk, (values,), versions=None if chunk.vector else counts)
        if chunk.vector == 0:
            counts -= self.counted[chunk.first : chunk.end]

    def apply(self, chunk: Chunk, given: Array, total: Array, counts: Array, counts_of_all: Array) -> None:
        """Second half: have what the others gave."""
        self.run("merge_absorb", chunk, (given, total), raised=self.count(chunk, counts, counts_of_all))

    def apply_last(self, chunk: Chunk, given: Array, total: Array, counts: Array, counts_of_all: Array) -> None:
        """Second half where nobody works any longer: all centers become equal to the last bit."""
        self.run("merge_agree", chunk, (total,), raised=self.count(chunk, counts, counts_of_all))

    def run(self, name: str, chunk: Chunk, arrays: tuple[Array, ...], versions: Array | None = None, raised: Array | None = None) -> None:
        agreed = self.agreed[chunk.vector][self.span(chunk)]
        self.passes[name, chunk.vector].run(chunk.first, chunk.end, (agreed, *arrays), versions, raised)

    def count(self, chunk: Chunk, counts: Array, counts_of_all: Array) -> Array | None:
        """Exchanges of the other nodes, for the versions of the stripes."""
        if chunk.vector:
            return None
        self.counted[chunk.first : chunk.end] += counts_of_all
        raised: Array = counts_of_all - counts
        return raised

    def agreement(self, chunk: Chunk) -> list[Array]:
        """What nodes that have taken less of a round lack of a chunk. This and what follows: see recovery.py."""
        return [self.agreed[chunk.vector][self.span(chunk)].copy(), self.counted[chunk.first : chunk.end].copy()]

    def adopt(self, flight: Flight, arrays: list[Array]) -> None:
        """Have what others agreed on; what this node had not sent stays."""
        chunk, counted = flight.chunk, self.counted[flight.chunk.first : flight.chunk.end]
        raised = None if chunk.vector else arrays[1] - counted - flight.counts
        self.run("merge_rebase", chunk, (arrays[0], flight.given[: chunk.length]), raised=raised)
        if chunk.vector == 0:
            counted[:] = arrays[1]

    def put_back(self, chunk: Chunk, values: Array) -> None:
        """Add to this node's center what is in no other."""
        self.passes["merge_put_back", chunk.vector].run(chunk.first, chunk.end, (values,))
