"""Notices: what the leaders of all nodes tell each other before a round, and decide from alone."""

from typing import TYPE_CHECKING

import numpy as np

from dkcore.arrays import Array
from dkcore.errors import MergeError, expected
from dkcore.merge.leaders import Peers

if TYPE_CHECKING:
    from mpi4py.MPI import Request

__all__ = ["Notices"]

NOTICE = 4  # the tag
NUMBERS = ("round", "state", "fresh", "live", "slowest", "handed", "workers", "checkpoint", "asked", "adds")
FORM = np.dtype([(name, "i8" if name in ("state", "adds") else "u8") for name in NUMBERS] + [("rule", "S128")])


class Notices:
    """The notices of one round after the other; a receive from every other leader is always posted.

    round: number of rounds before. state: of the node, see `dkcore.merge.membership`. fresh: exchanges that the others have not seen.
    live: workers. slowest: exchanges of the slowest of them. handed: workers that handed in, in a round of a synchronous method.
    workers: that had a part in what is fresh. adds: 1 if the rule adds progress, 0 if it averages, -1 if it is not known.
    checkpoint, asked: see `dkcore.merge.cut` and `dkcore.ranks.requests`.
    rule: name and scalars.
    """

    def __init__(self, peers: Peers, mine: Array | None = None):
        """mine: the last notice of this node, from before a node was lost."""
        self.peers = peers
        self.mine = np.zeros(1, FORM) if mine is None else mine
        self.all = np.zeros(peers.size, FORM)
        self.incoming = {peer: self.expect(peer) for peer in peers.others}

    def expect(self, peer: int) -> "Request":
        return self.peers.comm.Irecv(self.all[peer : peer + 1].view(np.uint8), peer, NOTICE)

    def called(self) -> bool:
        """Whether another leader has given notice."""
        return any(request.Test() for request in self.incoming.values())

    def exchange(self, rule: str, **numbers: int) -> Array:
        """Give notice to all, and have theirs: one record a node. MergeError when they are not of the same round, or rule."""
        self.mine[0] = (*[numbers[name] for name in NUMBERS], rule.encode())
        sent = [self.peers.comm.Isend(self.mine.view(np.uint8), peer, NOTICE) for peer in self.peers.others]
        self.peers.wait([*sent, *self.incoming.values()])
        self.all[self.peers.rank] = self.mine[0]
        notices = self.all.copy()
        self.incoming = {peer: self.expect(peer) for peer in self.peers.others}
        self.compare(notices, numbers["round"])
        return notices

    def compare(self, notices: Array, number: int) -> None:
        """MergeError when the leaders are not in the same round, or exchange by different rules."""
        if (notices["round"] != number).any():
            raise MergeError(expected(f"merge {number} on every node", notices["round"].tolist(), "This is a fault of dkcore."))
        rules = {rule.decode(errors="replace"): name for rule, name in zip(notices["rule"], self.peers.names, strict=True) if rule}
        if len(rules) > 1:
            text = ", ".join(f"{rule} on {name}" for rule, name in rules.items())
            raise MergeError(expected("one rule on all nodes", text, "Pass the same rule and scalars to Exchange everywhere."))

    def others(self, notices: Array) -> Array:
        """The records of the other nodes."""
        return np.delete(notices, self.peers.rank)
