"""A node's center: one vector in POSIX shared memory that all workers of the node change in place."""

import contextlib
import os
import secrets
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakSet, proxy

import numpy as np
import numpy.typing as npt

from dkcore.arrays import Array
from dkcore.engine.leases import Leased
from dkcore.engine.load import Exchanging, engine
from dkcore.engine.segments import Closed, full_name, itemsize_of, sweep_orphans, validate_memory
from dkcore.engine.worker import COUNTED, Worker, validated
from dkcore.errors import LayoutError, MergeError, RuleError, expected
from dkcore.formula.rule import Rule
from dkcore.formula.synchronous import undo_for
from dkcore.ranks.shm import PREFIX
from dkcore.registry import rule_of, state_of

if TYPE_CHECKING:
    from dkcore._engine import Counts, Segment, SlotView
    from dkcore.formula.synchronous import Synchronous

__all__ = ["NodeCenter"]

MERGE_PATIENCE = 1.0  # seconds
known: "WeakSet[NodeCenter]" = WeakSet()  # all of this process


class NodeCenter(Exchanging, Leased):
    """The center of one node, which knows nothing of other ranks and nodes; see `dkcore.Center`."""

    def __init__(self, segment: "Segment", name: str):
        """Use `create`, `attach` or `of`."""
        layout = segment.layout()
        self.segment, self.name = segment, name
        self.size: int = layout["length"]
        floats: dict[int, type[np.floating[Any]]] = {4: np.float32, 8: np.float64}
        self.dtype = np.dtype(floats[layout["itemsize"]])
        self.states: int = layout["states"]
        self.stripes: int = layout["stripes"]
        self.stripe_length: int = layout["stripe_length"]
        self.slots_count: int = layout["slots"]
        self.note: str = layout["note"]
        self.digest: int = layout["digest"]
        self.statistics: int = layout["statistics"]
        self.undo: str = layout["undo"]
        self.own_worker: Worker | None = None
        self.calls = {}
        self.rule: Rule | Synchronous | None = None
        self.begin_locks()
        known.add(self)

    def begin_locks(self) -> None:
        self.claiming = threading.Lock()  # two threads that come first at once would claim two slots
        self.closing = threading.Lock()
        self.closer: int | None = None  # the thread that is closing it

    def forget(self) -> None:
        """In a forked child: give up what is its parent's."""
        self.own_worker = None
        self.calls.clear()
        self.begin_locks()

    @classmethod
    def create(cls, array: npt.ArrayLike, *, name: str | None = None, slots: int = 64, states: int | None = None,
               stripe_bytes: int = 131072, digest: int = 0, note: str = "", rule: "str | Rule | Synchronous | None" = None,
               statistics: int = 0, undo: str | None = None) -> Self:  # fmt: skip
        """A new center with the values of ``array`` (flat or not; float32 or float64).

        name: of letters, digits, ``. _ -``; one is made up when None. slots: workers at most. rule: that workers will exchange
        by; its states then lie beside the center, born zero, and `snapshot` finds them by name. states: how many, where no
        rule is given. stripe_bytes: what one lock guards. digest: of the model's layout; who attaches with another one is
        refused. note: up to 1023 bytes of text for monitors. statistics: how many elements, the last ones, are averaged, and not moved
        by rules. undo: what is taken back in a stripe whose worker was killed within it: ``"block"``, the block under way;
        ``"stripe"``, all, the default of synchronous methods; or ``"none"``.
        NoRoomError when shared memory is too small, FileExistsError when the name is in use.
        """
        values = np.ascontiguousarray(array).ravel()
        if values.dtype not in (np.float32, np.float64) or values.size == 0:
            what = "one or more values of float32 or float64"
            raise LayoutError(expected(what, f"{values.size} of {values.dtype}", "Convert with .astype."))
        if len(note.encode()) > 1023:
            raise ValueError(expected("a note of at most 1023 bytes", f"{len(note.encode())}", "Put long texts into the Job."))
        rule = None if rule is None else rule_of(rule)
        states = (len(rule.states) if rule else 0) if states is None else states
        validate_memory(values.nbytes * (1 + states))
        sweep_orphans()
        name = f"{PREFIX}{secrets.token_hex(6)}" if name is None else full_name(name)
        options = (states, slots, digest, note, statistics, undo_for(undo, rule))
        segment = engine().Segment.create(name, values, max(stripe_bytes // values.itemsize, 1), *options)
        return cls(segment, name).knowing(rule)

    @classmethod
    def attach(cls, name: str, *, timeout: float = 30.0, size: int = 0, dtype: npt.DTypeLike | None = None, digest: int = 0,
               statistics: int = 0, rule: "str | Rule | Synchronous | None" = None) -> Self:  # fmt: skip
        """The center of that name; waits up to ``timeout`` seconds for it to appear.

        size, dtype, digest and statistics are checked when given: LayoutError says what differs. CenterNotFoundError after the
        timeout. NamespaceError when it was made in another namespace of processes, as another container's. rule: names its
        states, see `create`.
        """
        rule = None if rule is None else rule_of(rule)
        itemsize = 0 if dtype is None else itemsize_of(np.dtype(dtype))
        segment = engine().Segment.attach(full_name(name), size, itemsize, digest, timeout, statistics)
        return cls(segment, full_name(name)).knowing(rule)

    @property
    def in_rounds(self) -> bool:
        """Whether workers meet in the rounds of a synchronous method."""
        return False

    def announce(self, rule: Rule) -> None:
        """A worker of this process is going to exchange by this rule."""

    def knowing(self, rule: "Rule | Synchronous | None") -> Self:
        """This center, which knows the names of its states from a rule; RuleError, and it is closed, if it has not as many."""
        if rule is not None and len(rule.states) > self.states:
            states = self.states
            self.close()
            raise RuleError(expected(f"{len(rule.states)} states for rule {rule.name!r}", states, "Leave states out, or pass as many."))
        self.rule = rule
        return self

    def worker(self, rank: int = -1) -> "Worker":
        """Claim a slot for one more worker of this process. rank: a number of your own, shown by monitors."""
        return Worker(self, rank)

    def exchange_checked(self, key: Rule | str, w: Array, p: Array | None, scalars: dict[str, float]) -> float:
        """As `exchange`, with all checks of the rule, its scalars and p: the first time, and when others are given than the last time."""
        rule = validated(rule_of(key) if type(key) is str else key)
        call = self.calls.get(rule)
        if call is None:
            with self.claiming:
                self.own_worker = worker = self.own_worker or Worker(proxy(self))  # it would keep alive what the user dropped
            call = worker.prepare(rule)
        call.set_all(rule.fill(scalars, COUNTED))
        call.accept(scalars)
        self.calls[rule] = self.calls[key] = call
        if ("p" in rule.vectors) != (p is not None):
            what, came = ("p", "none") if p is None else ("no p", "one")
            raise RuleError(expected(f"{what} for rule {rule.name!r}", came, f"It has the vectors {rule.vectors}."))
        call.set_previous(p)
        call.flat(w)
        return call.staleness

    def snapshot(self, out: Array | None = None, *, state: int | str = 0, timeout: float = 60.0) -> Array:
        """A copy of the center as it is now, consistent within each stripe: for monitors and tests on the way, also before `finish`.

        state: 0 the center, k its k-th state vector; or the name of one (``"squares"``), where the center knows its rule.
        """
        out = np.empty(self.size, self.dtype) if out is None else out
        self.check(out)
        if not out.flags.writeable:
            raise ValueError(expected("a writeable array", "a read-only one", "The snapshot is copied into it."))
        self.segment.snapshot(state_of(self.rule, state), out, timeout)
        return out

    def restore(self, array: Array, *, state: int | str = 0, timeout: float = 60.0) -> None:
        """Overwrite the center (or a state, as in `snapshot`) stripe by stripe, as after a restart."""
        self.check(array)
        self.segment.restore(state_of(self.rule, state), array, timeout)

    def check(self, array: Array) -> None:
        fits = array.dtype == self.dtype and array.size == self.size and array.flags.c_contiguous
        if not fits:
            raise LayoutError(expected(f"{self.size} contiguous {self.dtype}", f"{array.size} {array.dtype}", "It must fit the center."))

    @property
    def versions(self) -> Array:
        """Exchanges that each stripe has seen; shape (stripes,), uint64. One that a death ended counts if some of it is in."""
        return self.segment.versions()

    @property
    def counts(self) -> "Counts":
        """live workers; deaths: owners that never released their slot; recovered: stripes that one of them held.

        Commits to a stripe that a death ended: undone, nothing is in; kept, the first blocks are; elements, of what was kept."""
        return self.segment.counts()

    def slots(self) -> "list[SlotView]":
        """What every slot that was ever claimed shows: pid, rank, state, exchanges, steps, samples, loss, staleness ..."""
        return [view for index in range(self.slots_count) if (view := self.segment.slot(index))["state"] != "free"]

    def slot(self, worker: "Worker") -> "SlotView":
        """What the slot of one worker shows."""
        return self.segment.slot(worker.slot.index)

    def close(self) -> None:
        """Release all workers of this process and let go of the shared memory; no other rank's `finish` waits for this one.

        It waits for what other threads are doing with it; what they begin afterwards is a ValueError. Called by a signal's handler
        within a call of the center it does not wait: that call ends with a ValueError, and then the center is closed. The first rank
        of a node goes on merging its center in the background as long as other ranks use theirs; until then it does not end, nor is
        the memory freed.
        """
        self.let_go(MERGE_PATIENCE)

    def let_go(self, patience: float) -> None:
        """As `close`; so many seconds it waits for the others to close, too, so that the memory is free afterwards."""
        if self.closer == threading.get_ident():  # a signal's handler, within a close: that one goes on
            return
        with self.closing:
            self.closer, kept = threading.get_ident(), False
            try:
                kept = self.leave(patience)
            finally:
                self.own_worker = None
                self.calls.clear()
                if kept:
                    self.leave_to_others()
                else:
                    self.segment.close()
                self.closer = None

    def leave(self, patience: float) -> bool:
        """This process no longer uses the center; True if something else of it goes on with the segment, and closes it."""
        return False

    def leave_to_others(self) -> None:
        """Release this process' workers, once they are through with their calls; its merge goes on with the segment."""
        segment = self.segment
        self.segment = Closed()  # type: ignore[assignment]  # whatever is asked of it raises
        segment.release_workers()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
            return
        with contextlib.suppress(MergeError):  # an error on its way waits for nobody, and is what comes out
            self.let_go(0.0)

    def __repr__(self) -> str:
        return f"<Center {self.name}: {self.size} {self.dtype} in {self.stripes} stripes>"


def forget_all() -> None:
    for center in list(known):
        center.forget()


os.register_at_fork(after_in_child=forget_all)
