"""The merge: the leader of each node brings its center together with the others', in a thread of its own, while workers go on.

Design:
(a) A round begins with a notice from every leader to every other. Whoever is ready first gives his; the others answer with
    theirs as soon as they see one. All leaders thus see the same notices, and decide from them alone: which round it is,
    whether it is the last one, whether all fit together. Nothing is guessed.
(b) ``s`` is what all nodes agreed on last. ``c - s`` is what this node has not told yet: workers' progress since, and what
    compression held back. Versions are merged by the same formula, in whole numbers, and so count other nodes' exchanges.
(c) A node is done when all its ranks have finished or left (membership.py); it goes on taking part until all nodes are. The
    round whose notices all say "done" is the last one of a phase: it is exact, and leaves all centers equal bit for bit. Workers
    may start again then: the next phase begins. The thread ends when the ranks of all nodes have left; the leader, a rank as
    any other, may have closed its center long before.
(d) Progress adds up, positions average. A rule whose center depends on ``p`` adds progress to it: the nodes' differences are added
    up. Any other draws the center towards its workers: adding up what several nodes were drawn by would overshoot. States that
    only ever grow by what is added to them (Adagrad's squares) are added up, others are averaged. See `dkcore.formula.additive.adds_up`.
    Statistics are positions whatever the rule: their mean is weighed by the workers that had a part in it since the last merge.
(e) A synchronous method takes the same road with other formulas; its rounds begin when all workers of a node have arrived.
"""

import contextlib
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from dkcore.errors import MergeError, expected
from dkcore.formula.rule import Rule
from dkcore.formula.synchronous import Synchronous
from dkcore.merge import recovery
from dkcore.merge.rounds import Rounds
from dkcore.merge.settings import Merging

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from dkcore.engine.center import NodeCenter

__all__ = ["SLICE", "Merge"]

SLICE = 0.2  # seconds between two looks at signals
GRACE = 5.0  # seconds for the main thread to raise what broke the center


class Merge:
    """The thread that merges one node's center with those of the others.

    center: of this node, and this merge's own to close. comm: a communicator of all leaders, for this alone, which the thread
    frees. names: of the nodes. rule: what workers exchange by, if it is known; `Synchronous` ones need it. abort: ends the job,
    when nobody hears of a failure. ranks: of this node.

    Attributes:
        rounds: what it does. failure: why it ended, if not well. alone: whether this rank no longer uses its center.
    """

    def __init__(
        self,
        center: "NodeCenter",
        comm: "Comm",
        names: list[str],
        settings: Merging,
        rule: "Rule | Synchronous | None",
        abort: Callable[[int, str], None],
        ranks: int = 1,
    ):
        self.segment, self.tolerant, self.abort, self.ranks = center.segment, settings.on_node_loss == "shrink", abort, ranks
        self.rounds = Rounds(center, comm, names, settings, rule, ranks)
        self.failure: BaseException | None = None
        self.ending, self.alone, self.ended = threading.Lock(), False, False
        self.thread = threading.Thread(target=self.run, name="dkcore-merge", daemon=True)

    # ------------------------------------------------------------------ for the main thread

    def start(self, at_close: Callable[[Callable[[], None]], Callable[[], None]]) -> None:
        """at_close: tells what this rank does before it ends, and returns what undoes that."""
        self.forget = at_close(self.wait_for_all)
        self.thread.start()

    def drop(self) -> None:
        """Instead of `start`: another leader could not make his merge."""
        for request in [*self.rounds.notices.incoming.values(), *self.rounds.peers.alive.values()]:
            request.Cancel()
            request.Wait()

    def finish(self, phase: int) -> None:
        """Returns when that many phases are over on all nodes, and all centers are equal."""
        self.rounds.changed.set()
        while self.segment.await_phase(self.ranks, self.ranks + 1, phase, SLICE) < phase:
            self.check()
        self.check()

    def wait(self, seconds: float) -> bool:
        """Whether the thread has ended by then: the ranks of all nodes have left."""
        self.rounds.changed.set()
        self.thread.join(seconds)
        self.check()
        return not self.thread.is_alive()

    def wait_for_all(self) -> None:
        """Until the ranks of all nodes have left: the last thing that the leader of a node does."""
        while not self.wait(SLICE):
            pass

    def go_on_alone(self) -> bool:
        """Keep the center for the ranks that have not left, and close it after them; False when all have left already."""
        with self.ending:
            self.alone = not self.ended and self.thread.is_alive()
        return self.alone

    def check(self) -> None:
        if self.failure is not None:
            raise MergeError(str(self.failure)) from self.failure

    # ------------------------------------------------------------------ the thread

    def run(self) -> None:
        try:
            while self.take_part_or_shrink():
                pass
            self.say_goodbye()
        except BaseException as error:  # told to all workers of the node: each raises it from its next exchange
            self.fail(error)

    def say_goodbye(self) -> None:
        """The end of the thread: nobody needs the merge any longer."""
        try:
            self.rounds.peers.close(list(self.rounds.notices.incoming.values()))
        except Exception as error:
            if not recovery.is_loss(error):  # who had left may well be gone
                raise
        with self.ending:
            self.ended = True
        if self.alone:
            self.segment.close()
        self.forget()

    def take_part_or_shrink(self) -> bool:
        """As `take_part`, though nodes be lost on the way, if the settings say so."""
        error: BaseException | None = None
        while True:
            try:
                if error is None:
                    return self.rounds.take_part()
                rounds = self.rounds
                survivors = recovery.shrink(rounds.peers, rounds.round, rounds.reduction, rounds.phase)
            except Exception as failure:
                if not recovery.is_loss(failure):
                    raise
                if not self.tolerant:
                    raise MergeError(expected("all nodes to live on", "one is gone", "See its own messages.")) from failure
                error = failure
                continue
            self.rounds.begin_anew(survivors)
            left = ", ".join(survivors.peers.names)
            print(f"dkcore: lost {' and '.join(survivors.lost)}. Training goes on with {left}.", file=sys.stderr)
            return True

    def fail(self, error: BaseException) -> None:
        """Break the center, so that every worker of this node raises the reason; end the job if nobody does."""
        self.failure = error
        if not isinstance(error, MergeError):
            traceback.print_exc()
        with contextlib.suppress(ValueError):  # closed: there is nobody to tell
            self.segment.declare_broken(str(error) or repr(error))
        time.sleep(GRACE)
        self.abort(1, f"the merge of the nodes failed: {error}")
