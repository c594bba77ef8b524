"""The worlds of seats that are threads of one process, a node's agent: ranks as others are, without MPI."""

import os
import socket
import uuid
from dataclasses import dataclass, field
from typing import Any

from dkcore.ranks.cores import Share
from dkcore.ranks.numbers import Numbers
from dkcore.ranks.requests import Requests
from dkcore.ranks.thread_comm import ThreadRoll, communicators
from dkcore.ranks.world import World, name_of

__all__ = ["AgentWorld", "worlds"]


@dataclass
class AgentWorld(World):
    """Of one seat. ended: whether it has been closed."""

    ended: bool = field(default=False, kw_only=True, repr=False)

    @property
    def node_ranks(self) -> list[int]:
        return list(range(self.size))

    @property
    def over_mpi(self) -> bool:
        return False

    def close(self, linger: float = 0.0) -> None:
        if not self.ended and os.getpid() == self.pid:  # a forked child is no rank
            self.ended = True
            self.end(linger)


def worlds(shares: list[Share]) -> list[AgentWorld]:
    """Of so many seats, each with its share of the machine; their node is this process' machine."""
    size, job = len(shares), uuid.uuid4().hex[:12]
    ranks = list(range(size))
    host = socket.gethostname()
    names = [name_of(host, ranks) if size > 1 else host]
    comms: list[Any] = communicators(size)
    nodes: list[Any] = communicators(size)
    leaders: list[Any] = communicators(1)
    requests = Requests(Numbers(os.memfd_create("dkcore-numbers")))  # their workers share them, too
    made = []
    for rank, comm, node, roll in zip(ranks, comms, nodes, map(ThreadRoll, communicators(size)), strict=True):
        world = AgentWorld(rank, size, rank, size, job, shares[rank].threads, comm, node, [], names, roll=roll, requests=requests)
        world.leaders = leaders[0] if world.leader else None
        made.append(world)
    return made
