"""The exchange as a Keras callback: every ``window`` steps, one pass between a replica and the center."""

import time
from collections.abc import Mapping

import keras
import numpy as np

from dkcore.center import Center, Worker
from dkcore.errors import LayoutError, NotFiniteError, RuleError, expected
from dkcore.history import History
from dkcore.replica import Replica
from dkcore.rule import ENGINE_SCALARS, Rule
from dkcore.synchronous import Synchronous, check_staleness

__all__ = ["Exchange"]


class Exchange(keras.callbacks.Callback):
    """Exchanges the model's weights with a center every ``window`` optimizer steps, inside any ``model.fit``.

    The last, partial window of an epoch is exchanged too, with its real length. The worker joins at the begin of
    training: its weights become the center's. With ``steps_per_execution = k`` steps are still counted truly, and the
    exchange takes place at the first execution that completes the window.

    Args:
        center: the center of this node; its size, dtype and layout must fit the model.
        rule: a rule of `dkcore.rules`, or your own; or a synchronous method, for a center made by ``Center.of(..., rule=rule)``.
        window: optimizer steps between exchanges, 1 or more.
        check_finite: stop training, naming worker and step, before NaN or infinity reaches the center.
        rank: this worker's number, for monitors and messages.
        samples_per_epoch, batch_size, epochs: what a progress bar needs; unknown when 0.
        timeout: seconds to wait for one stripe of the center.
        max_staleness: exchanges that this worker may be ahead of the slowest live one of all nodes; it waits then. None: any.
        patience: seconds to wait for slower workers, at such a bound or at a round.
        scalars: hyper-parameters of the rule (``alpha=0.1``).

    Attributes:
        history: what each exchange saw (`dkcore.history.History`): step, time, epoch, loss, metrics, staleness.
        steps: optimizer steps taken. exchanges: exchanges made. durations: seconds of each.
        histogram: after training, how often a stripe had staleness 0, 1, ... 62, and 63 or more.
    """

    def __init__(self, center: Center, rule: Rule | Synchronous, window: int = 12, *, check_finite: bool = True, rank: int = -1,
                 samples_per_epoch: int = 0, batch_size: int = 0, epochs: int = 0, timeout: float = 60.0,
                 max_staleness: int | None = None, patience: float = 600.0, **scalars: float):
        super().__init__()
        if not isinstance(window, int | np.integer) or window < 1:
            raise ValueError(expected("a window of 1 or more steps", repr(window), "Pass window=12."))
        if not isinstance(rule, Rule | Synchronous):
            raise RuleError(expected("a rule, such as dkcore.rules.adag", repr(rule), "Decorate your formula with @dkcore.rule."))
        check_staleness(max_staleness, rule)
        self.synchronous = rule if isinstance(rule, Synchronous) else None
        made = None if center.meeting is None else center.meeting.synchronous
        if (made or self.synchronous) and (made is None or self.synchronous is None or made.to_dict() != rule.to_dict()):
            received = f"one for {made.name!r}" if made else "one for asynchronous rules"
            raise RuleError(expected(f"a center made for {rule.name!r}", received, "Make it by Center.of(model, world, rule=rule)."))
        self.filled = rule.fill(scalars, ENGINE_SCALARS)
        self.bound = {"max_staleness": max_staleness, "patience": patience}
        self.center, self.rule, self.window, self.scalars = center, rule, int(window), scalars
        self.check_finite, self.rank, self.timeout = check_finite, rank, timeout
        self.samples_per_epoch, self.batch_size, self.epochs = samples_per_epoch, batch_size, epochs
        self.history = History()
        self.worker: Worker | None = None
        self.replica: Replica | None = None
        self.steps = self.exchanges = self.pending = self.epoch = self.epoch_steps = 0
        self.staleness_sum = 0.0
        self.durations: list[float] = []
        self.steps_before = 0
        self.started = time.time()
        self.histogram = np.zeros(0, np.uint64)

    def on_train_begin(self, logs: Mapping | None = None) -> None:
        if self.replica is None or self.replica.model is not self._model:
            self.replica = Replica(self._model)
        digest = self.center.digest
        if self.replica.size != self.center.size or self.replica.dtype != self.center.dtype or digest not in (0, self.replica.digest):
            what = f"a model of {self.center.size} {self.center.dtype} like that of the center"
            raise LayoutError(expected(what, f"{self.replica.size} {np.dtype(self.replica.dtype)}", "Make it by Center.of(model, world)."))
        self.worker = self.center.worker(self.rank)
        rule, scalars = self.rule, self.scalars
        if self.synchronous:
            rule, scalars = rule.gather, rule.part(rule.gather, scalars)
        self.call = self.worker.call(rule, check_finite=self.check_finite, timeout=self.timeout, **self.bound, **scalars)
        self.pull = self.worker.pull_call(self.call.p, timeout=self.timeout)
        self.replica.run(self.pull)
        if self.center.meeting is not None:
            own = {name: value for name, value in self.filled.items() if name not in ENGINE_SCALARS}
            self.center.meeting.learn(self.rule, own)
        self.steps_before = (self.replica.steps() or 0) - self.steps
        self.report(float("nan"))

    def on_epoch_begin(self, epoch: int, logs: Mapping | None = None) -> None:
        self.epoch, self.epoch_steps = epoch, 0

    def on_train_batch_end(self, batch: int, logs: Mapping | None = None) -> None:
        taken = 1 if self._model.steps_per_execution == 1 else self.count()
        self.steps += taken
        self.epoch_steps += taken
        self.pending += taken
        # At the end of an epoch at once, so that validation sees the center; on_epoch_end is for unknown lengths.
        if self.pending >= self.window or self.epoch_steps == (self.params or {}).get("steps"):
            self.exchange(logs)

    def on_epoch_end(self, epoch: int, logs: Mapping | None = None) -> None:
        if self.pending:
            self.exchange(logs)

    def on_train_end(self, logs: Mapping | None = None) -> None:
        if self.pending:  # fit was stopped within an epoch
            self.exchange(logs)
        self.histogram = self.center.slot(self.worker)["histogram"]
        if self.synchronous:
            self.histogram = np.concatenate([[self.histogram.sum()], np.zeros(len(self.histogram) - 1)]).astype(np.uint64)
            self.center.meeting.leave_rounds()
        self.worker.release()

    def count(self) -> int:
        """Steps since the last call: several an execution, and Keras' own ``batch`` is nominal in the last one."""
        taken = self.replica.steps()
        if taken is None:
            raise ValueError(expected("a compiled model", "no optimizer", "With steps_per_execution > 1 steps are counted by it."))
        return taken - self.steps_before - self.steps

    def exchange(self, logs: Mapping | None) -> None:
        """One exchange now, of the steps since the last one."""
        numbers = numbers_of(logs)  # waits for the step, where steps are asynchronous
        if "window" in self.call.names:
            self.call.set("window", self.pending)
        start = time.perf_counter()
        try:
            self.replica.run(self.call)
        except NotFiniteError as error:
            raise NotFiniteError(self.explain(error)) from error
        staleness = self.call.staleness
        if self.synchronous:
            staleness = 0.0  # all move from the same center
            self.center.meeting.round(self.bound["patience"])
            if self.synchronous.pull:
                self.replica.run(self.pull)
        self.durations.append(time.perf_counter() - start)
        self.exchanges += 1
        self.pending = 0
        self.staleness_sum += staleness
        loss = numbers.pop("loss", float("nan"))
        self.history.append(
            step=self.steps, time=time.time() - self.started, epoch=self.epoch, loss=loss, metrics=numbers, staleness=staleness
        )
        self.report(loss)

    def report(self, loss: float) -> None:
        """Tell monitors how far this worker is."""
        seen = min(self.epoch_steps * self.batch_size, self.samples_per_epoch)
        samples = self.epoch * self.samples_per_epoch + seen
        total = self.epochs * self.samples_per_epoch
        self.worker.report(steps=self.steps, samples=samples, epoch=self.epoch, total_samples=total, loss=loss)

    @property
    def seconds(self) -> float:
        """Time spent in exchanges so far."""
        return sum(self.durations)

    def explain(self, error: NotFiniteError) -> str:
        """Names the worker, the step and the weight."""
        sizes = np.cumsum([int(np.prod(shape)) for _, shape in self.replica.layout])
        path = self.replica.layout[int(np.searchsorted(sizes, error.element, side="right"))][0]
        who = f"worker {self.rank}" if self.rank >= 0 else "a worker"
        what = f"finite weights of {who} at step {self.steps}"
        advice = "The center is unharmed. Lower the learning rate, or pass check_finite=False."
        return expected(what, f"NaN or infinity in {path}", advice)


def numbers_of(logs: Mapping | None) -> dict[str, float]:
    """The logs of Keras that are one number each; a metric may be a vector (F1Score without average)."""
    return {name: float(value) for name, value in (logs or {}).items() if np.size(value) == 1}
