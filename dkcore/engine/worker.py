"""A worker of a center: the slot that it claims there, and the calls that it prepares."""

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, Unpack

import numpy as np

from dkcore.arrays import Array
from dkcore.engine.compile import Kernel, compile_kernel
from dkcore.engine.emit import only_read
from dkcore.engine.leases import FOREVER
from dkcore.engine.load import engine
from dkcore.engine.merge_formulas import FORMULAS
from dkcore.engine.roles import role_of
from dkcore.errors import RuleError, expected
from dkcore.formula.rule import Rule
from dkcore.registry import rule_of

if TYPE_CHECKING:
    from dkcore._engine import Call, Segment

__all__ = ["COUNTED", "Worker"]

COUNTED = ("staleness", "workers")  # by the engine itself; the third of ENGINE_SCALARS, window, is given by who calls it


class Home(Protocol):
    """The center that a worker belongs to."""

    segment: "Segment"
    size: int
    dtype: np.dtype[Any]
    states: int
    statistics: int

    @property
    def in_rounds(self) -> bool:
        """Whether its workers meet in the rounds of a synchronous method."""

    def announce(self, rule: Rule) -> None:
        """A worker is going to exchange by this rule."""

    def snapshot(self) -> Array:
        """A copy of the center."""


class Statistic(TypedDict, total=False):
    """How an exchange treats statistics, as a `Call` takes it."""

    statistics: int
    statistic: Kernel
    statistic_looking: Kernel | None
    in_rounds: bool
    held: Array | None


def validated(rule: object) -> Rule:
    """The rule, if a worker can exchange by it; RuleError for a synchronous method or anything else."""
    if not isinstance(rule, Rule):
        advice = "Decorate the formula with @dkcore.rule; synchronous methods are for dkcore.Exchange."
        raise RuleError(expected("a rule", repr(rule), advice))
    return rule


class Worker:
    """A claimed slot of a center: one worker. A context manager; a process that dies is counted by the others."""

    def __init__(self, center: Home, rank: int = -1):
        self.center = center
        self.slot = center.segment.claim(rank)
        self.held: Array | None = None

    def call(
        self,
        rule: Rule | str,
        *,
        p: Array | None = None,
        check_finite: bool = False,
        kernel: Kernel | None = None,
        timeout: float = 60.0,
        max_staleness: int | None = None,
        patience: float = 600.0,
        statistics: int | None = None,
        **scalars: float,
    ) -> "Call":
        """A prepared exchange; ``call.flat(w)`` or ``call.segments(addresses, lengths)`` runs it.

        rule: or the name of a built-in one. p: the previous, center's size and dtype; zeros when the rule names it and none is given.
        check_finite: refuse NaN and infinity before the center sees them. kernel: another than the best. timeout: seconds
        to wait for one stripe. max_staleness: exchanges that it may be ahead of the slowest live worker; it waits up to
        ``patience`` seconds for that. statistics: how many of the weights, if the center does not know of them. scalars:
        hyper-parameters; ``window`` may be set later by ``call.set("window", 12)``, ``staleness`` and ``workers`` are filled in
        by the engine.
        """
        found = validated(rule_of(rule) if isinstance(rule, str) else rule)
        call = self.prepare(
            found, check_finite=check_finite, kernel=kernel, timeout=timeout, statistics=statistics,
            max_ahead=max_staleness, patience=patience,
        )  # fmt: skip
        call.set_all(found.fill(dict.fromkeys({"window"} & (set(found.scalars) - set(found.defaults)), 1.0) | scalars, COUNTED))
        if "p" in found.vectors:
            call.p = np.full(self.center.size, 0, self.center.dtype) if p is None else p  # touched here, and not under locks
        return call

    def prepare(
        self,
        rule: Rule,
        *,
        check_finite: bool = False,
        kernel: Kernel | None = None,
        timeout: float = 60.0,
        statistics: int | None = None,
        max_ahead: int | None = None,
        patience: float = 0,
    ) -> "Call":
        """A call without its scalars and its p."""
        kernel = kernel or compile_kernel(rule, self.center.dtype)
        if len(rule.states) > self.center.states:
            what = f"a center with {len(rule.states)} state vectors for rule {rule.name!r}"
            advice = f"Create it with states={len(rule.states)}, or Center.of(..., rule=rule)."
            raise RuleError(expected(what, f"{self.center.states}", advice))
        self.center.announce(rule)
        roles = [role_of(name, rule.states) for name in rule.vectors]
        looking = compile_kernel(rule, self.center.dtype, kernel.made_by, looking=True) if check_finite else None
        statistic = self.statistic(rule, self.center.statistics if statistics is None else statistics, check_finite)
        return self.native_call(
            kernel, looking, roles, rule.scalars, timeout, max_ahead, patience, only_read(rule), self.hands_in(rule), **statistic
        )

    def hands_in(self, rule: Rule) -> bool:
        """Whether an exchange by this rule is a hand-in of a round."""
        return self.center.in_rounds and rule.states == ("m",)

    def statistic(self, rule: Rule, statistics: int, check_finite: bool) -> Statistic:
        """How an exchange by this rule treats statistics."""
        in_rounds = self.center.in_rounds
        if not statistics or (rule.copies and not in_rounds):  # who takes over whole workers has their statistics with them
            return {"in_rounds": in_rounds}
        formula = FORMULAS["statistic_handed" if in_rounds else "statistic"]
        kernel = compile_kernel(formula, self.center.dtype)
        looking = compile_kernel(formula, self.center.dtype, looking=True) if check_finite else None
        held = None if in_rounds or "p" in rule.vectors else self.hold(statistics)
        made: Statistic = {"statistics": statistics, "statistic": kernel, "statistic_looking": looking}
        return {**made, "in_rounds": in_rounds, "held": held}

    def hold(self, statistics: int) -> Array:
        """Where the engine keeps what this worker held of statistics after its last exchange, for rules that do not name p."""
        if self.held is None or self.held.size != statistics:
            self.held = self.center.snapshot()[-statistics:].copy()
        return self.held

    def pull_call(self, p: Array | None = None, *, timeout: float = 60.0) -> "Call":
        """A prepared pull, w = c (and p = c when given): how a worker joins."""
        statistics = self.center.statistics if self.held is None else self.held.size
        held: Statistic = {"statistics": statistics, "held": self.hold(statistics)} if statistics else {}
        call = self.native_call(None, None, [], (), timeout, **held)
        call.p = p
        return call

    def native_call(
        self,
        kernel: Kernel | None,
        looking: Kernel | None,
        roles: Sequence[int],
        names: Sequence[str],
        timeout: float,
        max_ahead: int | None = None,
        patience: float = 0,
        only_read: int = 0,
        hands_in: bool = False,
        **statistic: Unpack[Statistic],
    ) -> "Call":
        return engine().Call(
            self.slot, kernel, roles, names, typenum=self.center.dtype.num, looking=looking, timeout=timeout, max_ahead=max_ahead,
            patience=patience, only_read=only_read, hands_in=hands_in, **statistic,
        )  # fmt: skip

    def place(self, epoch: int, step: int, steps: int, samples: int = 0) -> None:
        """Where this worker will stand when its next exchange is in: batches of an epoch that are done; steps, and samples, in all.

        From one moment on both are in the center, whenever the process is killed: whoever takes over goes on from there.
        """
        self.slot.place(epoch, step, steps, samples)

    def resume(self, exchanges: int, epoch: int, step: int, steps: int, samples: int = 0) -> None:
        """Before the first exchange: take over from a worker that had made so many and stood there."""
        self.slot.resume(exchanges, epoch, step, steps, samples)

    def lease(self, most: int, until: int = FOREVER) -> tuple[int, int]:
        """The next batches to train, of one epoch, at most so many, with tickets below ``until``: (first, count); count 0 for none.

        They are trained in the order in which they are leased. An exchange whose ``call.settles`` says so settles them; what is not
        settled when this worker ends, however it does, is leased again by others.
        """
        return self.slot.lease(most, until)

    def report(self, *, steps: int = 0, samples: int = 0, epoch: int = 0, total_samples: int = 0, loss: float = float("nan")) -> None:
        """Tell monitors how far this worker is."""
        self.slot.report(steps, samples, epoch, total_samples, loss)

    def release(self) -> None:
        """Give the slot back."""
        self.slot.release()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()
