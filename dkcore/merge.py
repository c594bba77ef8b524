"""The merge: the leader of each node brings its center together with the others', in a thread of its own, while workers go on.

Design:
(a) A round begins with a notice from every leader to every other. Whoever is ready first gives his; the others answer with
    theirs as soon as they see one. All leaders thus see the same notices, and decide from them alone: which round it is,
    whether it is the last one, whether all fit together. Nothing is guessed.
(b) ``s`` is what all nodes agreed on last. ``c - s`` is what this node has not told yet: workers' progress since, and what
    compression held back. Versions are merged by the same formula, in whole numbers, and so count other nodes' exchanges.
(c) A node that is done goes on taking part until all are. The round whose notices all say "done" is the last one of a phase: it
    is exact, and leaves all centers equal bit for bit. Workers may start again then: the next phase begins.
(d) Progress adds up, positions average. A rule that names ``p`` adds progress to the center: the nodes' differences are added
    up. One without ``p`` draws the center towards its workers: adding up what several nodes were drawn by would overshoot.
    States that only ever grow by what is added to them (Adagrad's squares) are added up, others are averaged.
(e) A synchronous method takes the same road with other formulas; its rounds begin when all workers of a node have arrived.
"""

import sys
import threading
import time
import traceback
from collections.abc import Callable

import numpy as np

from dkcore import survival
from dkcore.errors import MergeError, expected
from dkcore.halves import Differences, HandIns, adds_up
from dkcore.merging import Merging
from dkcore.peers import Peers
from dkcore.reduction import Chunk, Reduction
from dkcore.rule import Rule
from dkcore.synchronous import Synchronous

__all__ = ["FINISH", "ROUND", "Merge"]

ROUND, FINISH = 0, 1  # gates of the engine
NOTICE = 4  # the tag
TRAINING, DONE, CLOSING = 0, 1, 2
NOBODY = 2**64 - 1  # exchanges of the slowest worker where there is none
NAP = 0.004  # seconds between two looks for notices
GRACE = 5.0  # seconds for the main thread to raise what broke the center
NUMBERS = ("round", "state", "fresh", "live", "slowest", "handed", "adds")
FORM = np.dtype([(name, "i8" if name in ("state", "adds") else "u8") for name in NUMBERS] + [("rule", "S128")])


class Merge:
    """The merge of one node's center with those of the others.

    center: of this node. comm: a communicator of all leaders, for this alone. names: of the nodes. rule: what workers exchange by,
    if it is known; `Synchronous` ones need it. abort: ends the job, when nobody hears of a failure.

    Attributes:
        rounds, seconds: merges made, and the time they took. failure: why it ended, if not well.
    """

    def __init__(self, center, comm, names: list[str], settings: Merging, rule: "Rule | Synchronous | None", abort: Callable):
        self.center, self.settings, self.rule, self.abort = center, settings, rule, abort
        self.synchronous = rule if isinstance(rule, Synchronous) else None
        self.peers = Peers(comm, names, settings.timeout)
        self.reduction = Reduction(self.peers, center.dtype, settings.codec(), self.scale)
        self.halves = HandIns(center, self.synchronous) if self.synchronous else Differences(center)
        self.state, self.told = TRAINING, TRAINING
        self.rounds, self.seconds, self.next_time = 0, 0.0, 0.0
        self.number, self.phase, self.handed, self.adds, self.within = 0, 0, 0, True, False
        self.round_chunks, self.resume = self.halves.chunks, 0
        self.exact = False  # whether all centers are equal, but for fresh exchanges
        self.lost: list[str] = []
        self.grave: list = []
        self.members = 0
        self.next_start = time.perf_counter() + (settings.seconds or 0.0)
        self.failure: BaseException | None = None
        self.changed, self.settled = threading.Event(), threading.Event()
        self.mine = np.zeros(1, FORM)
        self.expect_all()
        self.open_inbox()
        self.thread = threading.Thread(target=self.run, name="dkcore-merge", daemon=True)

    # ------------------------------------------------------------------ for the main thread

    def start(self) -> None:
        self.thread.start()

    def finish(self, members: int = 0) -> None:
        """All workers of this node are done: returns when those of all nodes are, and all centers are equal.

        members: ranks of this node for whom the rounds of the next training wait.
        """
        self.members = members
        self.settled.clear()
        self.change(DONE)
        while not self.settled.wait(0.2):
            self.check()
        self.check()

    def close(self) -> None:
        """End the thread, together with those of the other leaders."""
        if self.thread.is_alive() and self.failure is None:
            self.change(CLOSING)
            while self.thread.is_alive():
                self.thread.join(0.2)
        self.check()

    def check(self) -> None:
        if self.failure is not None:
            raise MergeError(str(self.failure)) from self.failure

    def change(self, state: int) -> None:
        self.state = state
        self.changed.set()

    def sums(self) -> dict:
        """What it came to, for the report."""
        reduction = self.reduction
        sent = {"bytes_sent": reduction.bytes_sent, "bytes_plain": reduction.bytes_plain}
        return {"merges": self.rounds, "seconds": self.seconds, **sent, "lost": self.lost}

    # ------------------------------------------------------------------ rounds

    def run(self) -> None:
        try:
            while self.take_part_or_shrink():
                pass
            self.peers.close(list(self.incoming.values()))
        except BaseException as error:  # told to all workers of the node: each raises it from its next exchange
            self.fail(error)

    def take_part_or_shrink(self) -> bool:
        """As `take_part`, though nodes be lost on the way, if the settings say so."""
        error: BaseException | None = None
        while True:
            try:
                if error is None:
                    return self.take_part()
                lost = survival.shrink(self)
            except Exception as failure:
                if not survival.is_loss(failure):
                    raise
                if self.settings.on_node_loss == "stop":
                    raise MergeError(expected("all nodes to live on", "one is gone", "See its own messages.")) from failure
                error = failure
                continue
            self.lost += lost
            print(f"dkcore: lost {' and '.join(lost)}. Training goes on with {', '.join(self.peers.names)}.", file=sys.stderr)
            return True

    def begin_anew(self, peers: Peers, reports: list, resume: int) -> None:
        """Go on with other peers, after those of the round under way were lost. resume: how many of its chunks all have."""
        self.grave.append((self.peers, self.notices, self.incoming))  # MPI may still write there
        self.peers = self.reduction.peers = peers
        if self.synchronous and self.within and not resume and any(report.number > self.number for report in reports):
            self.center.segment.open_gate(ROUND, self.handed)  # the others are through with this round
        self.exact = self.within = False
        self.resume = resume if self.synchronous else 0
        self.number = max(report.number for report in reports) + 1
        if self.phase < max(report.phase for report in reports):
            self.settle()
        self.told = TRAINING
        self.open_inbox()

    def open_inbox(self) -> None:
        self.notices = np.zeros(self.peers.size, FORM)
        self.incoming = {peer: self.expect(peer) for peer in self.peers.others}

    def expect_all(self) -> None:
        """A training begins: until the others are heard they may have workers, who have not begun."""
        self.mine["slowest"] = 0  # what they take us for
        self.hear(0, 0 if self.peers.others else NOBODY)

    def hear(self, workers: int, slowest: int) -> None:
        """Of the workers of all other nodes, and the exchanges of the slowest of them."""
        self.elsewhere = slowest
        self.center.segment.set_others(workers, slowest)

    def settle(self) -> None:
        """The phase is over: all centers are equal."""
        self.phase += 1
        self.told = TRAINING
        self.expect_all()
        if self.state == DONE:
            self.state = TRAINING
            if self.synchronous:  # now, and not by the main thread: another node may call for a round at once
                self.center.segment.set_members(ROUND, self.members)
        self.settled.set()

    def take_part(self) -> bool:
        """One round, when it is time for it; False when all have closed."""
        self.await_round()
        notices = self.exchange_notices()
        self.compare(notices)
        others = np.delete(notices, self.peers.rank)
        self.hear(int(others["live"].sum()), int(others["slowest"].min(initial=NOBODY)))
        if (notices["state"] == CLOSING).all():
            return False
        last = bool((notices["state"] >= DONE).all())
        start, cpu = time.perf_counter(), time.thread_time()
        self.meet(notices, last)
        self.number += 1
        self.resume = 0
        if last:
            self.settle()
        self.seconds += time.perf_counter() - start
        self.next_time = start + (time.thread_time() - cpu) / self.settings.share
        return True

    def meet(self, notices: np.ndarray, last: bool) -> None:
        """What a round is for."""
        if self.synchronous:
            handed = int(notices["handed"].sum())
            if handed:
                self.rounds += 1
                self.halves.workers = handed
                self.add_up(self.halves.chunks[self.resume :], self.halves.take, exact=self.reduction.codec is None)
            if mine := int(notices["handed"][self.peers.rank]):
                self.center.segment.open_gate(ROUND, mine)
        elif self.peers.size > 1 and (notices["fresh"].any() or (last and not self.exact)):
            self.rounds += 1
            self.exact = False
            self.add_up(self.halves.chunks, self.halves.take_last if last else self.halves.take, exact=last)
            self.exact = last

    def add_up(self, chunks: list[Chunk], take: Callable, exact: bool) -> None:
        self.round_chunks, self.within = chunks, True
        self.reduction.round(chunks, self.halves.give, take, exact)
        self.within = False

    def await_round(self) -> None:
        """Until this leader is ready, or another has given notice."""
        while True:
            self.peers.tend()
            called = any(request.Test() for request in self.incoming.values())
            if self.synchronous:
                members, arrived = self.center.segment.await_members(ROUND, NAP if not called else 0.0005)
                if (members and arrived >= members) or (not members and (called or self.state != self.told)):
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
        if self.state != self.told:
            return True
        pulse = self.center.segment.pulse()
        if pulse["waiting"] and self.elsewhere < pulse["slowest"]:  # for others, of whom it hears by their notices only
            return True
        if pulse["slowest"] < self.mine["slowest"][0]:  # somebody joined, whom the others shall not leave behind
            return True
        exchanges = self.halves.fresh()
        if not exchanges:
            return False
        if self.settings.exchanges is not None:
            return exchanges >= self.settings.exchanges
        if self.settings.seconds is not None:
            return time.perf_counter() >= self.next_start
        return time.perf_counter() >= self.next_time

    def expect(self, peer: int):
        return self.peers.comm.Irecv(self.notices[peer : peer + 1].view(np.uint8), peer, NOTICE)

    def exchange_notices(self) -> np.ndarray:
        """Give notice to all, and have theirs."""
        pulse = self.center.segment.pulse()
        self.told = self.state
        self.next_start = time.perf_counter() + (self.settings.seconds or 0.0)
        handed = self.handed if self.synchronous else 0
        fresh = self.halves.fresh()
        adds = -1 if self.rule is None or self.synchronous else int(adds_up(self.rule, 0))
        self.mine[0] = (self.number, self.told, fresh, pulse["live"], pulse["slowest"], handed, adds, pulse["rule"].encode())
        sent = [self.peers.comm.Isend(self.mine.view(np.uint8), peer, NOTICE) for peer in self.peers.others]
        self.peers.wait([*sent, *self.incoming.values()])
        self.notices[self.peers.rank] = self.mine[0]
        notices = self.notices.copy()
        self.incoming = {peer: self.expect(peer) for peer in self.peers.others}
        return notices

    def compare(self, notices: np.ndarray) -> None:
        """MergeError when the leaders are not in the same round, or exchange by different rules."""
        if (notices["round"] != self.number).any():
            raise MergeError(expected(f"merge {self.number} on every node", notices["round"].tolist(), "This is a fault of dkcore."))
        rules = {rule.decode(errors="replace"): name for rule, name in zip(notices["rule"], self.peers.names, strict=True) if rule}
        if len(rules) > 1:
            text = ", ".join(f"{rule} on {name}" for rule, name in rules.items())
            raise MergeError(expected("one rule on all nodes", text, "Pass the same rule and scalars to Exchange everywhere."))
        self.adds = not (notices["adds"] == 0).any()

    def fail(self, error: BaseException) -> None:
        """Break the center, so that every worker of this node raises the reason; end the job if nobody does."""
        self.failure = error
        if not isinstance(error, MergeError):
            traceback.print_exc()
        self.center.segment.declare_broken(str(error) or repr(error))
        self.settled.set()
        time.sleep(GRACE)
        self.abort(1, f"the merge of the nodes failed: {error}")

    def scale(self, vector: int) -> float:
        """What the sum of a vector is multiplied by: see (d)."""
        adds = self.synchronous or (self.adds if vector == 0 else adds_up(self.rule, vector))
        return 1.0 if adds else 1.0 / self.peers.size
