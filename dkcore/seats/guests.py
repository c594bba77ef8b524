"""Workers that join a job while it runs, and leave it: children of a node's agent, which are no ranks and which nobody waits for.

Design:
(a) A guest attaches to the center by its name, and trains from the epoch where the agent's own worker is to the last one. It is asked by
    none of MPI's calls: what others agreed on before the training it takes from the job's directory.
(b) Where batches are leased it leases them as the others do. With fixed shards its rows are one of each `workers` neighbouring rows, as a
    rank's, but of a draw of its own: then rows count more than once an epoch.
(c) When the agent's own worker has finished, guests are asked to leave, and the agent waits for them before the center is final.
(d) Where no guests are left to ask, workers that the job began with can be asked to leave, but for one: to its seat such a one is lost.
(e) A guest that is killed, or fails, is told and counted, and not followed by another.
"""

import contextlib
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dkcore.data.arrays import SIDECAR
from dkcore.errors import DkcoreError, counted, expected
from dkcore.merge.rounds import GATE
from dkcore.ranks.numbers import Numbers
from dkcore.ranks.requests import Requests
from dkcore.ranks.seated import Again
from dkcore.seats.account import Account, after_death, slot_of
from dkcore.seats.calls import Calls, portable
from dkcore.seats.hosted import Hosted
from dkcore.seats.leftovers import write_lost
from dkcore.seats.requests import Request
from dkcore.training.taking_up import LOST

if TYPE_CHECKING:
    from dkcore.ranks.world import World
    from dkcore.training.job import Job

__all__ = ["GuestCalls", "Guests"]

NOBODY = 2**64 - 1  # exchanges of the slowest worker, where there is none
NAP = 0.02  # seconds
PATIENCE = 60.0  # seconds for a worker to leave that has to
SPACING = 1000  # numbers of the guests of one node; those of the next begin after them


class GuestCalls:
    """What a guest of that rank asks of its agent. host: the agent's own calls. Attributes as of `Calls`."""

    kept: tuple[Any, ...] = ()

    def __init__(self, host: Calls, rank: int):
        self.host, self.rank = host, rank
        self.beginning: dict[str, Any] | None = None
        self.member = False

    def keeps(self, name: str) -> bool:
        return False

    def answer(self, place: int, name: str, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        """Answer a call at once: none of them waits for anybody."""
        try:
            if name == "comm" and arguments[1] == "allgather":  # to a step that may fail: nobody else failed
                return False, [False] * self.rank + [arguments[2]]
            if name == "begun":
                self.beginning = arguments[0]
            elif name == "time":
                return False, next((kept.answer for kept in self.host.kept if kept.name == "time"), time.time())
            elif name == "learn":
                self.change(joins=True)
            elif name == "leave_rounds":
                self.change(joins=False)
            return False, None
        except Exception as error:
            return True, portable(error)

    def change(self, joins: bool) -> None:
        """Whether rounds wait for it."""
        if self.host.membership is not None and self.host.membership.synchronous and joins != self.member:
            self.host.membership.segment.change_members(GATE, 1 if joins else -1)
            self.member = joins


class Guests:
    """Those of one agent. start: starts a worker that takes over, has these numbers and calls, under this rank. say: tells the user."""

    def __init__(self, job: "Job", world: "World", calls: Calls, start: Callable[[Again, int, int, GuestCalls], Hosted],
                 say: Callable[[str], None]):  # fmt: skip
        self.job, self.world, self.calls, self.start, self.say = job, world, calls, start, say
        self.here: dict[Hosted, tuple[int, int, Again]] = {}  # rank, descriptor of its numbers, what it began with
        self.count = 0
        self.closed = False
        self.lock = threading.RLock()

    def handle(self, request: Request) -> str:
        """Do as a request says, and answer. DkcoreError when it cannot be."""
        with self.lock:
            if self.calls.center is None or self.calls.beginning is None:
                raise DkcoreError(expected("a job that trains", "one that has not begun yet", "Try again in a moment."))
            if self.closed:
                raise DkcoreError(expected("a job that trains", "one whose training is over on this machine", "It delivers its model now."))
            if "pieces" in json.loads((self.job.home / "data" / SIDECAR).read_text()):
                raise DkcoreError(expected("a job whose data all workers see", "rows of Spark's executors", "Each has its own."))
            ranks = self.join(request.workers) if request.kind == "join" else self.leave(request.workers)
        verb = "joins" if request.kind == "join" else "leaves"
        return f"{counted('worker', ranks)} {verb if len(ranks) == 1 else verb[:-1]}"

    def join(self, workers: int) -> list[int]:
        """Start so many; their ranks, which are numbers that no other worker of the job has."""
        center = self.calls.center
        assert center is not None and self.calls.beginning is not None
        free = center.slots_count - center.counts["live"]
        if workers > free:
            raise DkcoreError(expected(f"at most {free} more workers on this node", workers, "Its center has no more slots."))
        ranks = []
        for _ in range(workers):
            place = self.world.leaders.rank if self.world.leaders is not None else 0
            rank = self.world.size + place * SPACING + self.count
            self.count += 1
            slowest = center.segment.pulse()["slowest"]
            ahead = 0 if slowest == NOBODY else slowest
            shared = {name: self.calls.beginning[name] for name in ("node_rows", "first")}
            again = Again(center.name, epoch=self.epoch(), guest=True, ahead=ahead, account={"joined": 1}, **shared)
            numbers = os.memfd_create("dkcore-guest")
            self.here[self.start(again, rank, numbers, GuestCalls(self.calls, rank))] = rank, numbers, again
            ranks.append(rank)
        return ranks

    def epoch(self) -> int:
        """Where the slowest of this node's workers is."""
        assert self.calls.center is not None
        return min((slot["epoch"] for slot in self.calls.center.slots() if slot["state"] == "claimed"), default=self.job.initial_epoch)

    def leave(self, workers: int) -> list[int]:
        """Ask so many to leave: the last that joined first, and then those that the job began with, of which one stays."""
        joined = [(rank, numbers) for rank, numbers, _ in self.here.values() if not Requests(Numbers(numbers)).asked]
        own = self.training()[:0:-1]  # but for the first
        if workers > (most := len(joined) + len(own)):
            advice = "One of those that the job began with stays."
            raise DkcoreError(expected(f"at most {most} to leave on this machine", workers, advice))
        leaving = sorted(joined, reverse=True)[:workers]
        for _, numbers in leaving:
            Requests(Numbers(numbers)).ask()
        ranks = own[: workers - len(leaving)]
        for rank in ranks:
            self.world.requests.ask_to_leave(self.world.node_ranks.index(rank))
        return sorted([rank for rank, _ in leaving] + ranks)

    def training(self) -> list[int]:
        """The ranks of this node whose workers train, and are not asked to leave."""
        assert self.calls.center is not None
        here = {slot["rank"] for slot in self.calls.center.slots() if slot["state"] == "claimed"}
        found = [(place, rank) for place, rank in enumerate(self.world.node_ranks) if rank in here]
        return [rank for place, rank in found if not (self.world.requests.leaving(place) or self.is_lost(rank))]

    def is_lost(self, rank: int) -> bool:
        return (self.job.home / LOST.format(rank)).exists()

    def on_end(self, worker: Hosted, word: str, how: str) -> None:
        """A guest has ended. word: its last; how it ended, for messages."""
        with self.lock:
            rank, numbers, again = self.here.pop(worker)
        os.close(numbers)
        calls: Any = worker.calls
        calls.change(joins=False)
        if word == "done" or self.calls.center is None:
            return
        self.say(f"worker {rank}, which had joined, {how}. Training goes on without it.")
        if calls.beginning is not None:
            account = Account(deaths=int(not word), joined=1)
            left = after_death(self.calls.center, again, slot_of(self.calls.center, worker.pid), account, self.job.batch_size)
            with contextlib.suppress(OSError):
                write_lost(self.job, self.world, calls, left, account, rank=rank)

    def send_off(self) -> None:
        """Have all leave, and wait until they have; who does not in time is killed."""
        until = time.monotonic() + PATIENCE
        with self.lock:
            self.closed = True
            for _, numbers, _ in self.here.values():
                Requests(Numbers(numbers)).ask()
        while self.here:
            if time.monotonic() > until:
                until = math.inf
                for worker in list(self.here):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(worker.pid, signal.SIGKILL)
            time.sleep(NAP)
