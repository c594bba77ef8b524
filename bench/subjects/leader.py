"""One leader of a node, for the benchmarks of the merge: ``python bench/subjects/leader.py QUESTION [NAME=VALUE...]`` under mpiexec.

Every answer is verified before it is timed. Rank 0 prints it as one line of JSON: lists of seconds, or of figures.
"""

import json
import sys
import time

import numpy as np

import dkcore as dk
from dkcore.merge.pace import Pace
from dkcore.merge.rounds import Rounds
from dkcore.merge.settings import Merging

NEVER = 10**9  # exchanges


def rounds_of(world, center, compression: str = "none") -> Rounds:
    """Rounds of a merge that are ours to run."""
    return Rounds(center, world.comm.Dup(), world.names, Merging(compression=compression), dk.rules.downpour, 1)


def merge_once(merge: Rounds) -> None:
    merge.reduction.round(merge.contributions.chunks, merge.contributions.contribute, merge.contributions.apply)


def timed(world, act) -> float:
    """Seconds until all are through."""
    world.comm.Barrier()
    start = time.perf_counter()
    act()
    world.comm.Barrier()
    return time.perf_counter() - start


def add(center, value: float) -> None:
    w = np.full(center.size, value, np.float32)
    center.exchange(dk.rules.downpour, w, np.zeros_like(w))


def allreduce(world, size: int, rounds: int, compression: str) -> dict:
    """A merge, and MPI's Allreduce of as many bytes, in turn."""
    given, total = np.ones(size, np.float32), np.empty(size, np.float32)
    with dk.Center.create(np.zeros(size, np.float32)) as center:
        merge = rounds_of(world, center, compression)
        add(center, world.rank + 1.0)
        merge_once(merge)
        wanted = world.size * (world.size + 1) / 2
        assert abs(center.snapshot() - wanted).max() <= (0 if compression in ("none", "bf16") else wanted), "the merge lost something"
        sent, seconds = merge.reduction.bytes_sent, {"merge": [], "allreduce": []}
        for _ in range(rounds):
            add(center, 1.0)
            seconds["merge"].append(timed(world, lambda: merge_once(merge)))
            seconds["allreduce"].append(timed(world, lambda: world.comm.Allreduce(given, total)))
        rounds_sent = (merge.reduction.bytes_sent - sent) / rounds
        merge.peers.close(list(merge.notices.incoming.values()))
    return seconds | {"sent": rounds_sent / (4 * size)}


def workers(world, size: int, rounds: int, compression: str) -> dict:
    """Steps a second of a worker on each node, while the nodes merge as often as they may, and while they do not, in turn."""
    center = dk.Center.of(np.zeros(size, np.float32), world, merge_every=NEVER, merge_compression=compression)
    merge, worker = center.membership.merge.rounds, center.worker(world.rank)
    call = worker.call(dk.rules.downpour)
    w, matrix = np.zeros(size, np.float32), np.ones((512, 512), np.float32)
    speeds: dict = {"merging": [], "alone": [], "merges": []}
    for _ in range(rounds):
        for name, every in (("merging", "auto"), ("alone", NEVER)):
            merge.pace, before = Pace(Merging(every, compression)), merge.count
            world.comm.Barrier()
            start, steps = time.perf_counter(), 0
            while time.perf_counter() < start + 2:
                for _ in range(12):
                    matrix @ matrix
                call.flat(w)
                steps += 12
            speeds[name].append(sum(world.comm.allgather(steps / (time.perf_counter() - start))))
            if name == "merging":
                speeds["merges"].append(merge.count - before)
    worker.release()
    center.finish()
    center.close()
    return speeds


if __name__ == "__main__":
    question, options = sys.argv[1], dict(argument.split("=") for argument in sys.argv[2:])
    world = dk.init()
    found = {"allreduce": allreduce, "workers": workers}[question](
        world, int(options["size"]), int(options["rounds"]), options.get("compression", "none")
    )
    if world.rank == 0:
        print(json.dumps(found))
