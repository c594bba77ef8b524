"""The rounds of a merge: when one begins, what all nodes conclude from their notices, and what is summed up."""

import threading
import time
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from dkcore.arrays import Array
from dkcore.formula.additive import adds_up
from dkcore.formula.rule import Rule
from dkcore.formula.synchronous import Synchronous
from dkcore.merge.allreduce import Reduction
from dkcore.merge.contributions import Contributions, Differences
from dkcore.merge.cut import Cut
from dkcore.merge.hand_ins import HandIns
from dkcore.merge.leaders import Peers
from dkcore.merge.membership import LEFT, TRAINING, are_over, end_phase, state_of
from dkcore.merge.notices import Notices
from dkcore.merge.pace import Pace
from dkcore.merge.recovery import Survivors
from dkcore.merge.round import Round
from dkcore.merge.settings import Merging

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from dkcore.engine.center import NodeCenter

__all__ = ["GATE", "Rounds"]

GATE = 0  # of the engine, where workers hand in
NOBODY = 2**64 - 1  # exchanges of the slowest worker where there is none
NAP = 0.004  # seconds between two looks for notices


class Sums(TypedDict):
    """What the merges of a node came to. seconds: in all. bytes_plain: what would have been sent without compression. lost: nodes."""

    merges: int
    seconds: float
    bytes_sent: int
    bytes_plain: int
    lost: list[str]


class Rounds:
    """The part of one node in the rounds of all; one thread calls it.

    center: of this node. comm: a communicator of all leaders, for this alone. names: of the nodes. rule: what workers exchange by, as
    soon as it is known; `Synchronous` ones are needed from the beginning. ranks: of this node.

    Attributes:
        count, seconds: merges made, and the time they took. lost: names of nodes. phase: how many are over, see membership.py.
        cut: copies for checkpoints, if somebody may want them.
        changed: set it to have this node's state looked at now.
    """

    def __init__(
        self, center: "NodeCenter", comm: "Comm", names: list[str], settings: Merging, rule: "Rule | Synchronous | None", ranks: int
    ):
        self.center, self.ranks, self.rule = center, ranks, rule
        self.synchronous = rule if isinstance(rule, Synchronous) else None
        self.peers, self.pace = Peers(comm, names, settings.timeout), Pace(settings)
        self.reduction = Reduction(self.peers, center.dtype, settings.codec(), self.scale)
        self.hand_ins = HandIns(center, self.synchronous) if self.synchronous else None
        self.contributions: Contributions = self.hand_ins or Differences(center)
        self.round, self.notices = Round(self.contributions), Notices(self.peers)
        self.announced = TRAINING
        self.count, self.seconds = 0, 0.0
        self.phase, self.handed, self.workers, self.adds = 0, 0, 0, True
        self.exact = False  # whether all centers are equal, but for fresh exchanges
        self.lost: list[str] = []
        self.retired: list[tuple[Peers, Notices]] = []  # buffers where MPI may still write
        self.cut: Cut | None = None
        self.changed = threading.Event()
        self.expect_all()

    @property
    def state(self) -> int:
        """What this node's ranks are about."""
        return state_of(self.center.segment.await_phase(0, self.ranks, 0, 0.0), self.phase)

    def sums(self) -> Sums:
        """What it came to, for the report."""
        sent, plain = self.reduction.bytes_sent, self.reduction.bytes_plain
        return {"merges": self.count, "seconds": self.seconds, "bytes_sent": sent, "bytes_plain": plain, "lost": self.lost}

    def begin_anew(self, survivors: Survivors) -> None:
        """Go on with the leaders that are left, after others were lost in the round under way, if there was one."""
        self.lost += survivors.lost
        self.retired.append((self.peers, self.notices))
        self.peers = self.reduction.peers = survivors.peers
        ahead = max(report.number for report in survivors.reports)
        if self.synchronous and self.round.within and not survivors.resume and ahead > self.round.number:
            self.center.segment.open_gate(GATE, self.handed)  # the others are through with this round
        self.exact = self.round.within = False
        self.round.resume = survivors.resume if self.synchronous else 0
        self.round.number = ahead + 1
        if self.phase < max(report.phase for report in survivors.reports):
            self.settle()
        self.announced = TRAINING
        self.notices = Notices(self.peers, self.notices.mine)

    def expect_all(self) -> None:
        """A training begins: until the others are heard they may have workers, who have not begun."""
        self.notices.mine["slowest"] = 0  # what they take us for
        self.set_others(0, 0 if self.peers.others else NOBODY)

    def set_others(self, workers: int, slowest: int) -> None:
        """Of the workers of all other nodes, and the exchanges of the slowest of them."""
        self.elsewhere = slowest
        self.center.segment.set_others(workers, slowest)

    def settle(self) -> None:
        """The phase is over: all centers are equal."""
        self.phase += 1
        self.announced = TRAINING
        self.expect_all()
        segment = self.center.segment
        if self.synchronous:  # before anybody knows: the rounds of the next training wait for all who have not left
            staying = [rank for rank in range(self.ranks) if segment.await_phase(rank, rank + 1, 0, 0.0) != LEFT]
            segment.set_members(GATE, len(staying))
        segment.reach(self.ranks, self.phase)

    def take_part(self) -> bool:
        """One round, when it is time for it; False when all have closed."""
        self.await_round()
        notices = self.exchange_notices()
        others = self.notices.others(notices)
        self.set_others(int(others["live"].sum()), int(others["slowest"].min(initial=NOBODY)))
        if are_over(notices["state"]) and (self.synchronous or self.peers.size == 1 or (self.exact and not notices["fresh"].any())):
            return False
        last = end_phase(notices["state"])
        start, cpu = time.perf_counter(), time.thread_time()
        self.run_round(notices, last)
        self.round.end()
        if last:
            self.settle()
        self.seconds += time.perf_counter() - start
        self.pace.merged(start, time.thread_time() - cpu)
        return True

    def run_round(self, notices: Array, last: bool) -> None:
        """What a round is for."""
        weights = notices["handed" if self.synchronous else "workers"]
        self.reduction.weights = weights if weights.any() else np.ones(len(weights))
        if self.hand_ins is not None:
            if notices["handed"].any():
                self.count += 1
                self.round.run(self.reduction, "apply", exact=self.reduction.codec is None)
            self.copy(notices)
            if mine := int(notices["handed"][self.peers.rank]):
                self.center.segment.open_gate(GATE, mine)
            return
        if self.peers.size > 1 and (notices["fresh"].any() or (last and not self.exact)):
            self.count += 1
            self.exact = False
            self.round.run(self.reduction, "apply_last" if last else "apply", exact=last)
            self.exact = last
        self.copy(notices)

    def copy(self, notices: Array) -> None:
        """Copy what a checkpoint needs of this node, if a leader has given notice that one is due."""
        if self.cut is not None:
            if notices["asked"].any():
                self.cut.requests.ask()
            self.cut.after(self, int(notices["checkpoint"].max()))

    def await_round(self) -> None:
        """Until this leader is ready, or another has given notice."""
        while True:
            self.peers.poll_heartbeats()
            called = self.notices.called()
            if self.synchronous:
                members, arrived = self.center.segment.await_members(GATE, NAP if not called else 0.0005)
                if (members and arrived >= members) or (not members and (called or self.state != self.announced)):
                    self.handed = arrived
                    return
                if not members:
                    self.changed.wait(NAP)
            elif called or self.ready():
                return
            else:
                self.changed.wait(NAP)
            self.changed.clear()

    def ready(self) -> bool:
        """Whether this node would like to merge now."""
        if self.state != self.announced or (self.cut is not None and self.cut.due):
            return True
        pulse = self.center.segment.pulse()
        if pulse["waiting"] and self.elsewhere < pulse["slowest"]:  # for others, of whom it hears by their notices only
            return True
        if pulse["slowest"] < self.notices.mine["slowest"][0]:  # somebody joined, whom the others shall not leave behind
            return True
        return self.pace.due(self.contributions.fresh())

    def exchange_notices(self) -> Array:
        """Give notice to all, and have theirs."""
        pulse = self.center.segment.pulse()
        self.announced = self.state
        self.pace.noticed()
        fresh = self.contributions.fresh()
        self.workers = pulse["live"] or (max(self.workers, 1) if fresh else 0)  # who is through by now still had a part
        adds = int(adds_up(self.rule, 0)) if isinstance(self.rule, Rule) else -1
        notices = self.notices.exchange(
            pulse["rule"], round=self.round.number, state=self.announced, fresh=fresh, live=pulse["live"], slowest=pulse["slowest"],
            handed=self.handed if self.synchronous else 0, workers=self.workers, adds=adds,
            checkpoint=self.cut.wanted if self.cut else 0, asked=int(self.cut is not None and self.cut.requests.asked),
        )  # fmt: skip
        self.adds = not (notices["adds"] == 0).any()
        return notices

    def scale(self, vector: int) -> float:
        """What the sum of a vector is multiplied by: see (d)."""
        if self.synchronous:
            return 1.0
        if vector == 0:
            adds = self.adds
        else:
            assert isinstance(self.rule, Rule)  # whose states lie there
            adds = adds_up(self.rule, vector)
        return 1.0 if adds else 1.0 / self.peers.size
