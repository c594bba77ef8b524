"""The center variable: one vector in POSIX shared memory that all workers of a node change in place."""

import os
import re
import secrets
import threading
from typing import TYPE_CHECKING
from weakref import WeakSet

import numpy as np

from dkcore.engine import engine
from dkcore.errors import LayoutError, MergeError, RuleError, expected
from dkcore.kernels import Kernel, compile_kernel
from dkcore.rule import ENGINE_SCALARS, Rule

if TYPE_CHECKING:
    from dkcore._engine import Call
    from dkcore.meeting import Meeting
    from dkcore.synchronous import Synchronous

__all__ = ["Center", "Worker"]

PREFIX = "dkcore-"
SHARED_MEMORY = "/dev/shm"
COUNTED = ("staleness", "workers")  # by the engine itself; the third of ENGINE_SCALARS, window, by who calls it
ROLES = {"c": 0, "w": 1, "p": 2}


class Center:
    """The center variable of a node, shared by all processes that attach to it.

    >>> import dkcore as dk, numpy as np
    >>> with dk.Center.create(np.zeros(3, np.float32)) as center:
    ...     p, w = np.zeros(3, np.float32), np.float32([1, 2, 3])
    ...     _ = center.exchange(dk.rules.downpour, w, p)
    ...     center.snapshot()
    array([1., 2., 3.], dtype=float32)

    It lives while any process holds it: the last one to close it, or to die, leaves nothing that `dkcore clean` or the
    next `Center.create` would not remove.
    """

    def __init__(self, segment, name: str):
        """Use `create`, `attach` or `of`."""
        layout = segment.layout()
        self.segment, self.name = segment, name
        self.size: int = layout["length"]
        self.dtype = np.dtype({4: np.float32, 8: np.float64}[layout["itemsize"]])
        self.states: int = layout["states"]
        self.stripes: int = layout["stripes"]
        self.stripe_length: int = layout["stripe_length"]
        self.slots_count: int = layout["slots"]
        self.note: str = layout["note"]
        self.digest: int = layout["digest"]
        self.own_worker: Worker | None = None
        self.claiming = threading.Lock()  # two threads that come first at once would claim two slots
        self.claimed: WeakSet = WeakSet()  # slots of this process that were not released yet
        self.calls: dict[Rule, tuple[Call, set[str]]] = {}
        self.meeting: Meeting | None = None

    @classmethod
    def create(cls, array, *, name: str | None = None, slots: int = 64, states: int = 0, stripe_bytes: int = 131072,
               digest: int = 0, note: str = "") -> "Center":
        """A new center with the values of ``array`` (flat or not; float32 or float64).

        name: of letters, digits, ``. _ -``; one is made up when None. slots: workers at most. states: vectors beside the
        center, born zero, for rules that have them. stripe_bytes: what one lock guards. digest: of the model's layout;
        who attaches with another one is refused. note: up to 1023 bytes of text for monitors.
        NoRoomError when shared memory is too small, FileExistsError when the name is in use.
        """
        values = np.ascontiguousarray(array).ravel()
        if values.dtype not in (np.float32, np.float64) or values.size == 0:
            what = "one or more values of float32 or float64"
            raise LayoutError(expected(what, f"{values.size} of {values.dtype}", "Convert with .astype."))
        if len(note.encode()) > 1023:
            raise ValueError(expected("a note of at most 1023 bytes", f"{len(note.encode())}", "Put long texts into the Job."))
        sweep_orphans()
        name = f"{PREFIX}{secrets.token_hex(6)}" if name is None else full_name(name)
        stripe_length = max(stripe_bytes // values.itemsize, 1)
        segment = engine().Segment.create(name, values, stripe_length, states, slots, digest, note)
        return cls(segment, name)

    @classmethod
    def attach(cls, name: str, *, timeout: float = 30.0, size: int = 0, dtype=None, digest: int = 0) -> "Center":
        """The center of that name; waits up to ``timeout`` seconds for it to appear.

        size, dtype and digest are checked when given: LayoutError says what differs. CenterNotFoundError after the timeout.
        """
        itemsize = 0 if dtype is None else itemsize_of(np.dtype(dtype))
        return cls(engine().Segment.attach(full_name(name), size, itemsize, digest, timeout), full_name(name))

    @classmethod
    def of(cls, model, world, *, rule: "Rule | Synchronous | None" = None, timeout: float = 60.0, note: str = "",
           merge_every: str | int = "auto", merge_compression: str = "none", merge_timeout: float = 60.0,
           on_node_loss: str = "stop") -> "Center":
        """The center of this node for a Keras model or a flat array, with rank 0's values; every rank of ``world`` calls it.

        On several nodes their centers are merged while workers train, see `dkcore.merging.Merging` for the settings. rule:
        needed for rules with state vectors and for synchronous methods. LayoutError, on every rank, when models differ.
        """
        from dkcore.joining import join
        from dkcore.merging import Merging

        settings = Merging(merge_every, merge_compression, merge_timeout, on_node_loss)
        return join(cls, model, world, rule=rule, settings=settings, timeout=timeout, note=note)

    def finish(self) -> None:
        """Wait until every rank of the job has called this: then the center is final, and equal bit for bit on all nodes.

        Training may go on afterwards. MergeError when another node vanished. Returns at once for a center that no other rank
        was told of (`create`, `attach`).
        """
        if self.meeting is not None:
            self.meeting.finish()

    def worker(self, rank: int = -1) -> "Worker":
        """Claim a slot for one more worker of this process. rank: a number of your own, shown by monitors."""
        return Worker(self, rank)

    def exchange(self, rule: Rule, w: np.ndarray, p: np.ndarray | None = None, **scalars: float) -> float:
        """Exchange flat arrays with the center, in place, as this process' own worker; returns the mean staleness.

        w, p: contiguous arrays of the center's size and dtype; p only for rules that name it. scalars: the rule's, but
        ``staleness`` and ``workers``, which the engine fills in. Prepare a `Worker.call` to save the checks.
        """
        call, names = self.calls.get(rule, (None, None))
        if names != scalars.keys():  # checked in full when other scalars are given than the last time
            if call is None:
                with self.claiming:
                    self.own_worker = self.own_worker or self.worker()
                call = self.own_worker.prepare(rule)
            call.set_all(rule.fill(scalars, COUNTED))
            self.calls[rule] = call, set(scalars)
        else:
            call.set_all(scalars)
        if ("p" in rule.vectors) != (p is not None):
            what = "p" if "p" in rule.vectors else "no p"
            came = "none" if p is None else "one"
            raise RuleError(expected(f"{what} for rule {rule.name!r}", came, f"It has the vectors {rule.vectors}."))
        call.set_previous(p)
        call.flat(w)
        return call.staleness

    def snapshot(self, out: np.ndarray | None = None, *, state: int = 0, timeout: float = 60.0) -> np.ndarray:
        """A copy of the center, consistent within each stripe. state: 0 the center, k its k-th state vector."""
        out = np.empty(self.size, self.dtype) if out is None else out
        self.check(out)
        if not out.flags.writeable:
            raise ValueError(expected("a writeable array", "a read-only one", "The snapshot is copied into it."))
        self.segment.snapshot(state, out, timeout)
        return out

    def copy_to(self, model) -> None:
        """Give a Keras model the weights of the center: what to evaluate and to save after `finish`."""
        from dkcore.replica import Replica

        if self.meeting is not None and self.meeting.nodes > 1 and not self.meeting.final:
            what = "center.finish() on every rank before the center is taken"
            raise MergeError(expected(what, "none since the last training", "Only then do all nodes hold the same center."))

        Replica(model).write(self.snapshot())

    def restore(self, array: np.ndarray, *, state: int = 0, timeout: float = 60.0) -> None:
        """Overwrite the center (or a state) stripe by stripe, as after a restart."""
        self.check(array)
        self.segment.restore(state, array, timeout)

    def check(self, array: np.ndarray) -> None:
        fits = array.dtype == self.dtype and array.size == self.size and array.flags.c_contiguous
        if not fits:
            raise LayoutError(expected(f"{self.size} contiguous {self.dtype}", f"{array.size} {array.dtype}", "It must fit the center."))

    @property
    def versions(self) -> np.ndarray:
        """Exchanges that each stripe has seen; shape (stripes,), uint64."""
        return self.segment.versions()

    @property
    def counts(self) -> dict[str, int]:
        """live workers, deaths (owners that never released their slot), recovered stripes."""
        return self.segment.counts()

    def slots(self) -> list[dict]:
        """What every slot that was ever claimed shows: pid, rank, state, exchanges, steps, samples, loss, staleness ..."""
        views = (self.segment.slot(index) for index in range(self.slots_count))
        return [view for view in views if view["state"] != "free"]

    def slot(self, worker: "Worker") -> dict:
        """What the slot of one worker shows."""
        return self.segment.slot(worker.slot.index)

    def close(self) -> None:
        """Release all workers of this process and let go of the shared memory.

        On several nodes the leader waits for the other ranks to finish: its node goes on merging until all are done.
        """
        if self.meeting is not None:
            self.meeting.close()
        for slot in list(self.claimed):
            slot.release()
        self.own_worker = None
        self.calls.clear()
        self.segment.close()

    def __enter__(self) -> "Center":
        return self

    def __exit__(self, kind, *error) -> None:
        if kind is not None:  # an error is on its way: the other ranks will not come
            self.meeting = None
        self.close()

    def __repr__(self) -> str:
        return f"<Center {self.name}: {self.size} {self.dtype} in {self.stripes} stripes>"


class Worker:
    """A claimed slot of a center: one worker. A context manager; a process that dies is counted by the others."""

    def __init__(self, center: Center, rank: int = -1):
        self.center = center
        self.slot = engine().Slot(center.segment, rank)
        center.claimed.add(self.slot)

    def call(self, rule: Rule, *, p: np.ndarray | None = None, check_finite: bool = False, kernel: Kernel | None = None,
             timeout: float = 60.0, max_staleness: int | None = None, patience: float = 600.0, **scalars: float) -> "Call":
        """A prepared exchange; ``call.flat(w)`` or ``call.segments(addresses, lengths)`` runs it.

        p: the previous, center's size and dtype; allocated with zeros when the rule names it and none is given.
        check_finite: refuse NaN and infinity before the center sees them. kernel: another than the best. timeout: seconds
        to wait for one stripe. max_staleness: exchanges that it may be ahead of the slowest live worker; it waits up to
        ``patience`` seconds for that. scalars: hyper-parameters; ``window`` may be set later by ``call.set("window", 12)``.
        """
        bound = {"max_ahead": max_staleness, "patience": patience}
        call = self.prepare(rule, check_finite=check_finite, kernel=kernel, timeout=timeout, **bound)
        call.set_all(rule.fill(scalars, ENGINE_SCALARS))
        if "p" in rule.vectors:
            call.p = np.zeros(self.center.size, self.center.dtype) if p is None else p
        return call

    def prepare(self, rule: Rule, *, check_finite: bool = False, kernel: Kernel | None = None, timeout: float = 60.0, **bound) -> "Call":
        """A call without its scalars and its p."""
        if not isinstance(rule, Rule):
            advice = "Decorate the formula with @dkcore.rule; synchronous methods are for dkcore.Exchange."
            raise RuleError(expected("a rule", repr(rule), advice))
        kernel = kernel or compile_kernel(rule, self.center.dtype)
        if len(rule.states) > self.center.states:
            what = f"a center with {len(rule.states)} state vectors for rule {rule.name!r}"
            advice = f"Create it with states={len(rule.states)}, or Center.of(..., rule=rule)."
            raise RuleError(expected(what, f"{self.center.states}", advice))
        if self.center.meeting is not None:
            self.center.meeting.begin(rule)
        roles = [ROLES.get(name, 3 + rule.states.index(name) if name in rule.states else 0) for name in rule.vectors]
        return self.native_call(kernel, roles, rule.scalars, check_finite, timeout, **bound)

    def pull_call(self, p: np.ndarray | None = None, *, timeout: float = 60.0) -> "Call":
        """A prepared pull, w = c (and p = c when given): how a worker joins."""
        call = self.native_call(None, [], (), False, timeout)
        call.p = p
        return call

    def native_call(self, kernel, roles, names, check_finite, timeout, **bound) -> "Call":
        settings = {"typenum": self.center.dtype.num, "check_finite": check_finite, "timeout": timeout}
        return engine().Call(self.slot, kernel, roles, names, **settings, **bound)

    def report(self, *, steps: int = 0, samples: int = 0, epoch: int = 0, total_samples: int = 0, loss: float = float("nan")) -> None:
        """Tell monitors how far this worker is."""
        self.slot.report(steps, samples, epoch, total_samples, loss)

    def release(self) -> None:
        """Give the slot back."""
        self.slot.release()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error) -> None:
        self.release()


def itemsize_of(dtype: np.dtype) -> int:
    """4 or 8; LayoutError for what no center can be of."""
    if dtype not in (np.float32, np.float64):
        raise LayoutError(expected("float32 or float64", dtype, "A center is of one of them."))
    return dtype.itemsize


def full_name(name: str) -> str:
    """The name in /dev/shm; ValueError when it could not be one."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", name):
        raise ValueError(expected("a name of letters, digits, '.', '_' and '-'", repr(name), "Leave it out to have one made."))
    return name if name.startswith(PREFIX) else PREFIX + name


def sweep_orphans() -> list[str]:
    """Remove the segments of dkcore that no process holds; the names of those removed."""
    names = [name for name in os.listdir(SHARED_MEMORY) if name.startswith(PREFIX)]
    mine = [name for name in names if os.access(f"{SHARED_MEMORY}/{name}", os.W_OK)]
    return [name for name in mine if engine().sweep(name)]
