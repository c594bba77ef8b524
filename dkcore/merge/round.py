"""One round of a merge: the chunks that all nodes sum up, and where this node stands in them."""

from collections.abc import Callable
from dataclasses import dataclass, field

from dkcore.merge.allreduce import Chunk, Reduction
from dkcore.merge.contributions import Contributions

__all__ = ["Round"]


@dataclass
class Round:
    """The round under way, or else the next one, of one node.

    contributions: of this node. number: rounds before it. chunks: that are summed up in it. within: whether some of them are on
    their way. resume: how many of its chunks all nodes have already, after a node was lost.
    """

    contributions: Contributions
    number: int = 0
    chunks: list[Chunk] = field(default_factory=list)
    within: bool = False
    resume: int = 0

    def __post_init__(self) -> None:
        self.chunks = self.contributions.chunks

    def run(self, reduction: Reduction, apply: str, exact: bool) -> None:
        """Sum up the chunks that are left. apply: the method of the contributions that takes a sum. exact: without a codec."""

        def method(name: str) -> Callable[..., None]:
            return lambda chunk, *arrays: getattr(self.contributions.of(chunk), name)(chunk, *arrays)

        self.chunks, self.within = self.contributions.chunks[self.resume :], True
        reduction.round(self.chunks, method("contribute"), method(apply), exact)
        self.within = False

    def end(self) -> None:
        """All nodes are through with it."""
        self.number += 1
        self.resume = 0
