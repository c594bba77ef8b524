"""torch.distributed on the CPU, by gloo: an allreduce of the deltas, or a rank that receives, adds and sends back."""

import os
import tempfile

import numpy as np

from bench.harness.peer import serve
from bench.peers.team import MEMBERS, Team
from bench.peers.worker import Worker

__all__ = ["member"]


class Rank(Worker):
    """A rank of the group; the last one is the server of "add"."""

    def __init__(self, index: int, members: int, store: str) -> None:
        super().__init__(index, members)
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        import torch
        import torch.distributed as dist

        self.dist, self.tensor = dist, torch.from_numpy
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=index, world_size=members)
        self.groups = {n: dist.new_group(list(range(n))) for n in range(1, members)}  # all ranks take part in making each

    def join(self, variant: str) -> None:
        self.adds = variant == "add"

    def given(self, place: int):
        return self.add(place) if self.adds else self.reduce(place)

    def add(self, place: int):
        send, recv, server = self.dist.send, self.dist.recv, self.dist.get_world_size() - 1
        w, d = self.tensor(self.w[place]), self.tensor(self.d[place])

        def run() -> None:
            send(d, server)
            recv(w, server)

        return run

    def reduce(self, place: int):
        w, p, d, group = self.w[place], self.p[place], self.d[place], self.groups[self.workers]
        tensor, reduce = self.tensor(d), self.dist.all_reduce

        def run() -> None:
            reduce(tensor, group=group)
            np.add(p, d, out=p)  # p is the center: all have the same
            np.copyto(w, p)

        return run

    def exchange(self, place: int):
        if self.adds:
            return super().exchange(place)
        return self.synchronous(place)

    def pull(self, place: int) -> None:
        self.d[place].fill(0)
        self.acts[True][place]()

    def close(self) -> None:
        self.dist.destroy_process_group()


class Server(Rank):
    """Holds the center of "add", and answers as many messages as will come."""

    def join(self, variant: str) -> None:
        super().join(variant)
        self.c, self.message = np.full((2, self.size if self.adds else 0), 0, np.float32)

    def answer(self, count: int) -> None:
        c, message = self.tensor(self.c), self.tensor(self.message)
        for _ in range(count * self.workers if self.adds else 0):
            source = self.dist.recv(message)
            c += message
            self.dist.send(c, source)

    def run(self, count: int, given: bool) -> list[float]:
        self.answer(count)
        return []

    def learn(self, times: int, given: bool, total: int) -> list[float]:
        return self.run(times, given)

    def prove(self, total: int) -> None:
        self.answer(1)


def member(index: int, members: int, store: str) -> Rank:
    """The rank of that number."""
    return (Server if index == MEMBERS else Rank)(index, members, store)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="dkcore-bench-") as folder:
        serve(Team.of("bench.peers.gloo:member", f"{folder}/store", members=MEMBERS + 1))
