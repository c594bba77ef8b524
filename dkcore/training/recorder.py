"""Checkpoints of a job while it trains: when one is begun, and the thread of each rank that writes its parts to the disk.

Design:
(a) Rank 0 begins a checkpoint by giving it a number: to its own node through `dkcore.ranks.requests`, to the others by the notices of the
    merge. Each worker copies its part between two of its steps; only that copy, in memory, takes time of its training.
(b) Whoever is through with its training keeps its last part in memory, and its thread answers for it.
(c) One checkpoint is under way at a time. When the next is due before all parts of it are written, that one is left out. One that was
    asked for by a signal does not wait: what was under way is given up.
(d) A checkpoint that fails is told in one line, and training goes on: the one before it is whole still. When the last one fails, which a
    signal asked for, the job fails.
"""

import contextlib
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkcore.checkpoints.copies import remove_begun, tidy
from dkcore.checkpoints.folder import Folder, name_of
from dkcore.checkpoints.manifest import assemble
from dkcore.checkpoints.part import node_part, rank_part
from dkcore.checkpoints.schedule import Every
from dkcore.errors import CheckpointError, expected
from dkcore.merge.cut import copy_with_leases
from dkcore.merge.resuming import about, no_room, write_or_tell
from dkcore.ranks.seated import again_of
from dkcore.training.stopping import STOP
from dkcore.training.taking_up import LOST, take_up

if TYPE_CHECKING:
    from dkcore.arrays import Array
    from dkcore.center import Center
    from dkcore.ranks.world import World

__all__ = ["Recorder"]

LOOK = 0.1  # seconds between two looks of the thread
PATIENCE, AT_END = 300.0, 60.0  # seconds for all parts of a checkpoint to be written; when all have trained


@dataclass
class Written:
    """What came of the checkpoints of this run, for the report. failed: how many could not be written."""

    names: list[str] = field(default_factory=list)
    failed: int = 0
    error: OSError | None = None


class Recorder:
    """The checkpoints of one rank.

    folder: of all ranks; travels: or of this rank alone, from where somebody else takes the parts away and makes checkpoints of them.
    settings: of the job. every: None for no other than those that are asked for. after: the number of the last one that there is.
    home: the job's directory.
    """

    def __init__(self, folder: Folder, world: "World", center: "Center", settings: dict[str, Any], *, every: Every | None, keep: int,
                 after: int, home: Path, travels: bool = False):  # fmt: skip
        self.folder, self.world, self.center, self.settings = folder, world, center, settings
        self.every, self.keep, self.home, self.travels = every, keep, home, travels
        self.requests, self.number, self.seen = world.requests, after, 0
        self.cut = None if center.membership is None else center.membership.cut
        self.merging = center.membership is not None and center.membership.merging
        if world.leader and again_of(world) is None:
            self.requests.clear()
        if self.cut is not None:
            self.cut.keep = self.keep_cut
        self.parts: queue.Queue[tuple[int, str, dict[str, Array], dict[str, Any]]] = queue.Queue()
        self.last_part: Callable[[int], None] | None = None  # of who is through with its training
        self.beginning = threading.Lock()  # the main thread counts epochs and exchanges, the other one hears signals and the clock
        self.open: int | None = None  # the checkpoint under way; rank 0's
        self.began = self.ticked = time.monotonic()
        self.asked = self.ending = self.closed = False
        self.written = Written()
        self.thread = threading.Thread(target=self.run, name="dkcore-checkpoint", daemon=True)

    # ------------------------------------------------------------------ for the main thread

    def start(self) -> None:
        """Training begins."""
        self.began = self.ticked = time.monotonic()
        self.thread.start()

    def begin(self, last: bool = False) -> None:
        """Begin a checkpoint, unless one is under way, or the last one was; rank 0 alone calls this."""
        with self.beginning:
            if self.ending or ((self.open is not None or self.asked) and not last):
                return
            self.number += 1
            self.open, self.began = self.number, time.monotonic()
            if self.merging and self.center.membership is not None:
                self.requests.want(self.number, last)
                self.center.membership.wake()
            else:
                self.requests.begin(self.number, last)

    def due(self) -> tuple[int, bool] | None:
        """The number of the checkpoint that this rank shall write its part of now, and whether it is the last; None mostly."""
        found = self.requests.checkpoint
        return found if found[0] > self.seen else None

    def take(self, number: int, arrays: "dict[str, Array]", standing: dict[str, Any]) -> None:
        """Have this rank's part written; where no merge does it, a copy of the center, too."""
        self.seen = number
        if not self.merging and self.world.leader:
            self.keep_cut(number, 0, *copy_with_leases(self.center))
        self.parts.put((number, rank_part(self.world.rank), arrays, standing))

    def keep_cut(self, number: int, merge: int, arrays: "dict[str, Array]", leases: dict[str, Any] | None) -> None:
        """Have the part of this node written."""
        node = self.world.leaders.rank if self.world.leaders is not None else 0
        said = about(self.center, self.world.nodes, self.world.size, merge)
        self.parts.put((number, node_part(node), arrays, said | {"leases": leases}))

    def no_more(self) -> None:
        """All have trained: begin no checkpoint any longer. Other ranks may still have to answer for one."""
        self.ending = True

    def close(self) -> None:
        """Write what is under way, and end; all ranks have come to their end. OSError when the last one, asked for, failed."""
        self.closed = True
        self.thread.join()

    # ------------------------------------------------------------------ the thread

    def run(self) -> None:
        while not self.finished():
            with contextlib.suppress(queue.Empty):
                self.write(*self.parts.get(timeout=LOOK))
            if self.last_part is not None and (due := self.due()) is not None:
                self.last_part(due[0])
            if self.world.rank == 0:
                self.look()

    def finished(self) -> bool:
        return self.closed and self.parts.empty() and (self.last_part is None or self.due() is None) and self.open is None

    def write(self, number: int, name: str, arrays: "dict[str, Array]", said: dict[str, Any]) -> None:
        """A part to the disk; the others are told when it does not fit."""
        if (failure := write_or_tell(self.folder, name_of(number), name, arrays, said)) is not None:
            self.written.error = failure

    def look(self) -> None:
        """What rank 0 looks after: signals, the clock, and whether all parts are there."""
        now = time.monotonic()
        if not self.asked and (self.requests.asked or (self.home / STOP).exists()):
            self.asked = True
            self.begin(last=True)
        elif self.every is not None and self.every.unit == "seconds" and now >= self.ticked + self.every.number:
            self.ticked = now
            self.begin()
        if self.open is not None:
            try:
                self.gather(now)
            except OSError as error:
                self.give_up(str(no_room(self.folder.location, error)))

    def gather(self, now: float) -> None:
        """Make a checkpoint of the parts, if all are there."""
        assert self.open is not None
        if self.travels:
            self.open = None if self.parts.empty() and self.seen >= self.open else self.open
            return
        name = name_of(self.open)
        try:
            made = assemble(self.folder, name, self.settings, self.missing())
        except CheckpointError as failure:
            self.give_up(str(self.written.error or no_room(self.folder.location, OSError(str(failure)))))
            return
        if made:
            self.written.names.append(name)
            self.open = None
            tidy(self.folder, self.keep)
            remove_begun(self.folder, self.number)
        elif now > self.began + (patience := AT_END if self.closed else PATIENCE):
            there = ", ".join(self.folder.records(name)) or "none"
            self.give_up(expected(f"all parts of a checkpoint within {patience:g} s", there, "Is the file system slow?"))

    def missing(self) -> frozenset[int]:
        """Ranks that died, or whose workers did, where the job goes on without them."""
        liveness = self.world.liveness
        dead = [] if liveness is None else [liveness.ranks[place] for place in liveness.known_dead]
        return frozenset([*dead, *(rank for rank in range(self.world.size) if (self.home / LOST.format(rank)).exists())])

    def give_up(self, reason: str) -> None:
        assert self.open is not None
        self.written.failed += 1
        print(f"dkcore: no {name_of(self.open)}: {reason}", file=sys.stderr, flush=True)
        name, self.open = name_of(self.open), None
        try:
            self.folder.remove(self.folder.draft(name))
        except OSError as error:  # who still writes there removes nothing; the next run does
            print(f"dkcore: {error}", file=sys.stderr, flush=True)

    def prepare(self) -> None:
        """Before any rank trains. Rank 0: remove what an earlier run began and could not finish, and go on counting. OSError."""
        if again_of(self.world) is not None:
            take_up(self)
            return
        if self.world.rank != 0 and not self.travels:
            return
        self.folder.make()
        for number in self.folder.numbers(drafts=True):
            if not self.folder.whole(self.folder.draft(name_of(number))):
                self.folder.remove(self.folder.draft(name_of(number)))
        self.number = max([self.number, *self.folder.numbers()])
