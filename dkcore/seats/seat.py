"""A rank as a seat: it runs its worker as a child, and starts another one when that is killed.

Design:
(a) The seat is the rank: it has MPI, its place in the node, and the center, of which the first of a node is the agent: it merges. It has no
    framework. Its worker has the model and the data, and may die at any time: locks and commits of a dead worker are made whole by the
    next who comes by (docs/decisions/0010), so nobody waits.
(b) The main thread makes calls of MPI for the worker, `calls.py`. Another thread hears of the worker's end and decides what follows.
(c) A worker that ends without a word is lost: killed, out of memory, crashed. An exception is an error of the program, which another
    worker would only repeat: it ends the job.
(d) Before the training has begun nothing of a worker can be taken over, and a loss ends the job.
"""

import collections
import contextlib
import dataclasses
import os
import queue
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from dkcore.errors import one_line
from dkcore.launch.launch import importable
from dkcore.ranks.abort import printed
from dkcore.ranks.cores import Share, room_for
from dkcore.ranks.seated import Again, Brief
from dkcore.seats.account import Account, after_death, ended, slot_of
from dkcore.seats.calls import Calls
from dkcore.seats.guests import GuestCalls, Guests
from dkcore.seats.hosted import Answers, Hosted
from dkcore.seats.leftovers import write_lost
from dkcore.seats.parts import NodeParts
from dkcore.seats.requests import answer_requests
from dkcore.seats.stall import Progress
from dkcore.seats.word import Word
from dkcore.seats.workers import Starter, numbers_of, without_mpi
from dkcore.training.stopping import StopSignals

if TYPE_CHECKING:
    from pathlib import Path

    from dkcore.ranks.world import World
    from dkcore.training.job import Job

__all__ = ["Seat"]

TICK = 0.1  # seconds between two looks of the keeper
LOOK = 1.0  # seconds between two looks at a worker's progress
STALL = 60.0  # seconds without progress after which that is told
BACK_OFF, LONGEST = 1.0, 60  # seconds: a restart waits so long for each worker in a row that died before its first exchange, up to LONGEST
LAST_WORD = 5.0  # seconds for what a worker said last to be read, once it has ended
ENDING = 10.0  # seconds for a worker to end that is through


class Seat:
    """One rank of a job. share: its worker's of the machine; None: what this process has."""

    def __init__(self, job: "Job", world: "World", starter: Starter, word: Word, share: Share | None = None):
        self.job, self.world, self.starter, self.word, self.share = job, world, starter, word, share
        self.parts = NodeParts(job, world)
        world.at_close(self.parts.close)  # after the merge, which may go on longer than this rank
        self.numbers, self.first = numbers_of(world)
        self.calls = Calls(job, world, self.parts.keep)
        self.account = Account()
        self.again: Again | None = None
        self.worker: Hosted | None = None
        self.due: float | None = None  # when to start the next one
        self.fruitless = 0  # workers in a row that died before they had made an exchange
        self.starting: collections.deque[Hosted] = collections.deque()
        self.running: dict[int, Hosted] = {}  # by pid
        self.guests = Guests(job, world, self.calls, self.start_guest, self.word.say)
        self.calls.before_finish = self.guests.send_off
        self.progress, self.look_at = Progress(self.calls), 0.0
        self.inbox: queue.SimpleQueue[tuple[Hosted, int, str, tuple[Any, ...]] | str] = queue.SimpleQueue()
        self.over = threading.Event()

    # ------------------------------------------------------------------ the main thread

    def run(self) -> None:
        """Until the worker is through, or is lost and not followed by another."""
        handle = () if self.world.liveness is None else (self.world.liveness.signals.handle,)
        stops = StopSignals(self.world.requests.ask, handle) if self.job.checkpoint_location else contextlib.nullcontext()
        with stops:
            self.start()
            keeper = threading.Thread(target=self.keep, name="dkcore-seat", daemon=True)
            keeper.start()
            while (asked := self.inbox.get()) != "over":
                if isinstance(asked, str):
                    self.stand_in()
                else:
                    worker, place, name, arguments = asked
                    worker.answer(self.calls.answer(place, name, arguments))
        self.guests.send_off()
        self.over.set()
        keeper.join()
        self.starter.close()
        if self.calls.center is not None:
            self.calls.center.close()

    def stand_in(self) -> None:
        """Go through the common start for a worker that is dead: the others wait for it there."""
        for name in ("time", "gate"):
            if all(kept.name != name for kept in self.calls.kept):
                self.calls.answer(len(self.calls.kept), name, ())

    # ------------------------------------------------------------------ the other thread

    def start(self) -> None:
        """Start a worker."""
        self.due = None
        again = self.again
        if again is not None:
            again = dataclasses.replace(again, account=dataclasses.asdict(self.account))
        self.worker = self.host(again, {}, self.numbers, self.first, self.calls)

    def start_guest(self, again: Again, rank: int, numbers: int, calls: GuestCalls) -> Hosted:
        """Start a worker that joins."""
        more = {"rank": rank, "node_rank": self.world.node_size}  # it leads no node
        return self.host(again, more, numbers, 0, calls, self.word.log and self.word.log.with_name(f"rank-{rank}.log"))

    def host(
        self, again: Again | None, more: dict[str, Any], numbers: int, first: int, calls: Answers, log: "Path | None" = None
    ) -> Hosted:
        """Start a worker process."""
        world, guest = self.world, bool(more)
        names = ("rank", "size", "node_rank", "node_size", "id", "cores", "names")
        place = world.leaders.rank if world.leaders is not None and not guest else None
        log = log if guest else self.word.log
        brief = Brief(
            directory=str(self.job.home), world={name: getattr(world, name) for name in names} | more, node_ranks=world.node_ranks,
            numbers=first, log=None if log is None else str(log), nodes_place=place, again=again,
            tolerant=self.job.on_node_loss == "shrink",
        )  # fmt: skip
        cpus, threads = room_for(self.share)
        environment = importable(without_mpi({**os.environ, **threads}))
        cpus = self.starter.cpus if guest else cpus  # a guest goes where there is room
        ask = self.answer_guest if guest else self.ask
        worker = Hosted(self.starter, environment, cpus, numbers, brief, calls, ask)
        self.starting.append(worker)
        return worker

    def ask(self, *asked: Any) -> None:
        self.inbox.put(asked)

    def answer_guest(self, worker: Hosted, place: int, name: str, arguments: tuple[Any, ...]) -> None:
        worker.answer(worker.calls.answer(place, name, arguments))

    def keep(self) -> None:
        """Hear of ends, start who is due, and see to what is asked."""
        try:
            while not self.over.is_set():
                self.hear()
                if self.due is not None and time.monotonic() >= self.due:
                    self.start()
                if self.world.leader:
                    answer_requests(self.job.home, self.guests.handle)
                if self.worker is not None and time.monotonic() >= self.look_at:
                    self.look_at = time.monotonic() + LOOK
                    self.look(self.worker)
        except Exception as error:  # or nobody would ever hear of a worker's end again
            if not self.over.is_set():
                self.word.fail(1, one_line(error), printed(error))

    def hear(self) -> None:
        """What the starter says."""
        if (said := self.starter.hear(TICK)) is None:
            return
        if "ended" in said:
            self.on_end(self.running.pop(said["ended"]), said["code"])
            return
        worker = self.starting.popleft()
        worker.pid = said["pid"]
        self.running[worker.pid] = worker
        self.word.works(worker.pid, guest=worker is not self.worker)

    def look(self, worker: Hosted) -> None:
        """Tell once when a worker stands still; it counts as lost, if the job says after how long."""
        standing, limit = self.progress.standing(worker), self.job.stall_timeout
        patience = max(limit or STALL, STALL if self.progress.starting else 0.0)  # a framework starts, and compiles
        if standing < patience or self.progress.told or worker.pid not in self.running:
            return
        self.progress.told = True
        self.word.say(f"the worker of rank {self.world.rank} (pid {worker.pid}) has made no progress for {standing:.0f} s.")
        if limit is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)

    def on_end(self, worker: Hosted, code: int) -> None:
        """A worker has ended. code: its exit code, -n when signal n killed it."""
        word, words = worker.last_word(LAST_WORD) or ("", ())
        if worker is not self.worker:
            self.guests.on_end(worker, word, f"failed: {words[1]}" if words else ended(code))
        elif word == "done":
            self.inbox.put("over")
        elif word == "failed":
            self.word.fail(*words)
        elif word == "left":
            self.account.left = 1
            self.take_over(worker)
            self.go_on_without(f"the worker of rank {self.world.rank} (pid {worker.pid}) has left, as it was asked to")
        else:
            self.on_loss(worker, code)

    def on_loss(self, worker: Hosted, code: int) -> None:
        text = f"the worker of rank {self.world.rank} (pid {worker.pid}) {ended(code)}"
        calls, account = self.calls, self.account
        if calls.center is None or calls.beginning is None:
            advice = "Out of memory?" if code == -signal.SIGKILL else "See what it printed."
            self.word.fail(128 - code if code < 0 else code or 1, f"{text}, before the training began. {advice}", "")
            return
        account.deaths += 1
        before, again = self.take_over(worker)
        if again.over:
            self.word.fail(1, f"{text}, when it was to deliver what the others have trained.", "")
        elif self.job.on_worker_loss == "restart" and account.restarts < self.job.restarts:
            account.restarts += 1
            self.fruitless = 0 if again.exchanges > before.exchanges else self.fruitless + 1
            self.due = time.monotonic() + BACK_OFF * min(self.fruitless, LONGEST)
            self.word.say(f"{text}. Restart {account.restarts} of {self.job.restarts}.")
        else:
            self.go_on_without(text)

    def take_over(self, worker: Hosted) -> tuple[Again, Again]:
        """What a worker that has gone began with, and what it leaves to the next; nobody waits for it."""
        calls = self.calls
        assert calls.center is not None and calls.beginning is not None
        before = self.again or Again(calls.center.name, first=calls.beginning["first"])
        self.again = after_death(calls.center, before, slot_of(calls.center, worker.pid), self.account, self.job.batch_size)
        if calls.membership is not None:
            calls.membership.leave_rounds()
        self.inbox.put("stand in")
        return before, self.again

    def go_on_without(self, text: str) -> None:
        """Nobody waits for a worker of this seat any longer. The first rank gets one more, that trains nothing: it delivers."""
        assert self.again is not None
        self.word.say(f"{text}. Training goes on without it.")
        self.account.rows_lost += write_lost(self.job, self.world, self.calls, self.again, self.account)
        if self.world.rank == 0:
            self.again = dataclasses.replace(self.again, over=True)
            self.due = time.monotonic()
        else:
            self.inbox.put("over")
