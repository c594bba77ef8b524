"""A herd of array workers that lease batches: real processes, forked, of which some are killed.

``python tests/herd.py OPTIONS`` prints what came of it.

Training a batch adds 1 to the element of the center that is its ticket. So the center tells how often each batch is in it.
"""

import json
import os
import random
import signal
import sys
import time
from dataclasses import dataclass, field

import numpy as np

import dkcore as dk

BATCHES, WINDOW = 97, 5  # of an epoch; the last window of each is shorter


@dataclass
class Herd:
    """So many workers for so many epochs. kills: how often one is killed at random, and followed by another.

    naps: seconds that each trains a batch. leave_after: batches after which the first leaves, and another joins.
    """

    workers: int = 3
    epochs: int = 30
    kills: int = 0
    seed: int = 0
    naps: list[float] = field(default_factory=lambda: [1e-4] * 3)
    leave_after: int = 0
    stripe_bytes: int = 1024
    rule: str = "downpour"
    slots: int = 64


def train(center: dk.Center, herd: Herd, index: int, leave_after: int = 0) -> None:
    """The life of one worker."""
    worker = center.worker(index)
    w, p = center.snapshot(), np.zeros(center.size)
    call = worker.call(herd.rule, p=p)
    worker.pull_call(p).flat(w)
    until, trained = herd.epochs * BATCHES, 0
    while True:
        first, count = worker.lease(WINDOW, until)
        if not count:
            seen = center.await_leases(until, 30.0)
            if seen["next"] >= until and not seen["waiting"]:
                assert not seen["held"], seen
                break
            continue
        assert first // BATCHES == (first + count - 1) // BATCHES, "a lease crosses the end of an epoch"
        for ticket in range(first, first + count):
            time.sleep(herd.naps[index % len(herd.naps)])
            w[ticket] += 1.0
            trained += 1
            if trained == leave_after:  # with a window begun
                worker.release()
                os._exit(0)
        call.settles = count
        call.flat(w)
        worker.report(steps=trained)
    os._exit(0)


def start(center: dk.Center, herd: Herd, index: int, leave_after: int = 0) -> int:
    """Its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            train(center, herd, index, leave_after)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    return pid


def run(herd: Herd) -> dict:
    """What came of it."""
    draw, until = random.Random(herd.seed), herd.epochs * BATCHES
    with dk.Center.create(np.zeros(until), stripe_bytes=herd.stripe_bytes, rule=herd.rule, slots=herd.slots) as center:
        center.open_leases(BATCHES)
        pids = [start(center, herd, index, herd.leave_after if index == 0 else 0) for index in range(herd.workers)]
        failed = killed = 0
        while pids:
            if killed < herd.kills and center.leases["next"] < until:
                time.sleep(draw.random() * 0.006)
                victim = draw.randrange(len(pids))
                os.kill(pids[victim], signal.SIGKILL)
                killed += 1
            pid, status = os.waitpid(-1, 0 if killed >= herd.kills or center.leases["next"] >= until else os.WNOHANG)
            if pid:
                index = pids.index(pid)
                joins = os.WIFSIGNALED(status) or (herd.leave_after and center.leases["next"] < until)
                failed += not os.WIFSIGNALED(status) and status != 0
                herd.leave_after = 0
                pids[index : index + 1] = [start(center, herd, index)] if joins else []
        values, counts = np.unique(center.snapshot(), return_counts=True)
        steps = {slot["rank"]: slot["steps"] for slot in center.slots()}
        return {
            "times": dict(zip(values.tolist(), counts.tolist(), strict=True)), "leases": center.leases, "killed": killed, "failed": failed,
            "steps": steps, "deaths": center.counts["deaths"],
        }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(run(Herd(**json.loads(sys.argv[1])))))
