"""The exchange as a Keras callback: every ``window`` steps, one pass between a replica and the center."""

import time
from typing import TYPE_CHECKING

import keras
import numpy as np

from dkcore.center import Center, Worker
from dkcore.engine.merge_formulas import settle
from dkcore.errors import NotFiniteError, expected
from dkcore.formula.additive import adds_up
from dkcore.formula.rule import ENGINE_SCALARS, Rule
from dkcore.formula.synchronous import Synchronous, check_staleness
from dkcore.registry import rule_of
from dkcore.replica.replica import Replica
from dkcore.report.history import History
from dkcore.training.belonging import check_replica, check_rule
from dkcore.training.callback import Callback, Logs, numbers_of
from dkcore.training.leasing import Leases

if TYPE_CHECKING:
    from dkcore._engine import Call
    from dkcore.arrays import Array

__all__ = ["Exchange"]


class Exchange(Callback):
    """Exchanges the model's weights with a center every ``window`` optimizer steps, inside any ``model.fit``.

    The last, partial window of an epoch is exchanged too, with its real length, and so is what `fit` and other callbacks change
    when training ends (an optimizer's moving averages, the weights of the best epoch); a History callback of your own goes last.
    The worker joins at the begin of training: its weights become the center's. With ``steps_per_execution = k`` steps are still
    counted truly, and the exchange takes place at the first execution that completes the window.

    Args:
        center: the center of this node; its size, dtype and layout must fit the model.
        rule: a rule of `dkcore.rules` or its name, or your own; or a synchronous method, for a center made by
            ``Center.of(..., rule=rule)``.
        window: optimizer steps between exchanges, 1 or more.
        check_finite: stop training, naming worker and step, before NaN or infinity reaches the center.
        rank: this worker's number, for monitors and messages.
        samples_per_epoch, batch_size, epochs: what a progress bar needs; unknown when 0.
        timeout: seconds to wait for one stripe of the center.
        max_staleness: exchanges that this worker may be ahead of the slowest live one of all nodes; it waits then. None: any.
        patience: seconds to wait for slower workers, at such a bound or at a round.
        scalars: hyper-parameters of the rule (``alpha=0.1``), but those that the engine fills in (staleness, workers).

    Attributes:
        history: what each exchange saw (`dkcore.report.history.History`): step, time, epoch, loss, metrics, staleness.
        steps: optimizer steps taken. exchanges: exchanges made. durations: seconds of each.
        histogram: after training, how often a stripe had staleness 0, 1, ... 62, and 63 or more.
    """

    worker: Worker  # these four from the begin of training on
    replica: Replica
    call: "Call"
    pull: "Call"

    def __init__(
        self,
        center: Center,
        rule: str | Rule | Synchronous,
        window: int = 12,
        *,
        check_finite: bool = True,
        rank: int = -1,
        samples_per_epoch: int = 0,
        batch_size: int = 0,
        epochs: int = 0,
        timeout: float = 60.0,
        max_staleness: int | None = None,
        patience: float = 600.0,
        **scalars: float,
    ):
        super().__init__()
        if not isinstance(window, int | np.integer) or window < 1:
            raise ValueError(expected("a window of 1 or more steps", repr(window), "Pass window=12."))
        rule = rule_of(rule)
        check_staleness(max_staleness, rule)
        self.synchronous = rule if isinstance(rule, Synchronous) else None
        check_rule(center, rule)
        self.filled = rule.fill(scalars, ENGINE_SCALARS)
        self.formula = rule.gather if isinstance(rule, Synchronous) else rule  # of an exchange
        self.max_staleness, self.patience = max_staleness, patience
        self.center, self.rule, self.window, self.scalars = center, rule, int(window), scalars
        self.check_finite, self.rank, self.timeout = check_finite, rank, timeout
        self.samples_per_epoch, self.batch_size, self.epochs = samples_per_epoch, batch_size, epochs
        self.history = History()
        self.steps = self.exchanges = self.pending = self.epoch = self.epoch_steps = 0
        self.staleness_sum = 0.0
        self.durations: list[float] = []
        self.steps_before = 0
        self.started = time.time()
        self.histogram = np.zeros(0, np.uint64)
        self.held: Array | None = None  # the weights after the last exchange of an epoch
        self.resting = False  # whether the batch that comes was trained before, see `dkcore.training.position`
        self.leases: Leases | None = None  # of this worker, where batches are leased
        self.done = (-1, 0)  # an epoch, and the steps of it that were taken before this training

    def on_train_begin(self, logs: Logs = None) -> None:
        if not hasattr(self, "replica") or self.replica.model is not self._model:
            self.replica = Replica(self._model)
        check_replica(self.center, self.replica)
        self.worker = self.center.worker(self.rank) if self.leases is None else self.leases.join(self.rank)
        scalars = self.synchronous.part(self.formula, self.scalars) if self.synchronous else self.scalars
        self.call = self.worker.call(
            self.formula, p=None, kernel=None, check_finite=self.check_finite, timeout=self.timeout, max_staleness=self.max_staleness,
            patience=self.patience, statistics=self.replica.statistics, **scalars,
        )  # fmt: skip
        self.pull = self.worker.pull_call(self.call.p, timeout=self.timeout)
        self.replica.run(self.pull)
        if self.center.membership is not None:
            own = {name: value for name, value in self.filled.items() if name not in ENGINE_SCALARS}
            self.center.membership.learn(self.rule, own)
        self.steps_before = (self.replica.steps() or 0) - self.steps
        self.report(float("nan"))
        # Callbacks after this one may still change the weights when training ends, as EarlyStopping does. Keras' own history is
        # the last of all. One of an earlier training, which has epochs already, would never be called.
        self.ended: set[keras.callbacks.Callback] = {self}
        history = getattr(self._model, "history", None)
        if isinstance(history, keras.callbacks.History) and history.params is self.params and not getattr(history, "epoch", None):
            self.ended.add(history)
            history.on_train_end = lambda logs=None: self.end(history, logs)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self.epoch = epoch if self.leases is None else min(epoch, self.epochs - 1)
        self.epoch_steps = self.done[1] if epoch == self.done[0] else 0

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        if self.resting:
            return
        taken = 1 if self._model.steps_per_execution == 1 else self.count()
        self.steps += taken
        self.epoch_steps += taken
        self.pending += taken
        if self.leases is not None:
            self.leases.step(taken)
        # At the end of an epoch at once, so that validation sees the center; on_epoch_end is for unknown lengths.
        if self.pending >= self.window or self.epoch_steps == (self.params or {}).get("steps"):
            self.exchange(logs)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if self.pending:
            self.exchange(logs)
        self.held = self.replica.read(self.held)

    def on_train_end(self, logs: Logs = None) -> None:
        self.end(self, logs)

    def end(self, callback: keras.callbacks.Callback, logs: Logs) -> None:
        """Leave the center, when this one and Keras' history have both come to the end of training."""
        self.ended.discard(callback)
        if self.ended:
            return
        if self.pending:  # fit was stopped within an epoch
            self.exchange(logs)
        elif self.held is not None and not np.array_equal(self.held, self.replica.read(), equal_nan=True):
            self.settle()
        self.histogram = self.center.slot(self.worker)["histogram"]
        if self.synchronous:
            self.histogram = np.concatenate([[self.histogram.sum()], np.zeros(len(self.histogram) - 1)]).astype(np.uint64)
            assert self.center.membership is not None  # a synchronous method has one, see __init__
            self.center.membership.leave_rounds()
        self.worker.release()

    def leave(self) -> None:
        """Take part in no exchange any longer, though training is not at its end: others do not wait for this worker."""
        if self.center.membership is not None:
            self.center.membership.leave_rounds()
        self.worker.release()

    def settle(self) -> None:
        """Take over what `fit` and its callbacks made of the weights after the last step: averages over time, the best epoch's.

        They are positions, not progress: the center becomes the mean of those of all workers that have come to their end.
        """
        ended = sum(slot["state"] == "done" and slot["exchanges"] > 0 for slot in self.center.slots())
        membership = self.center.membership
        adding = membership.nodes if membership is not None and not self.synchronous and adds_up(self.formula, 0) else 1
        share, statistics = 1.0 / ((1 + ended) * adding), self.replica.statistics
        self.replica.run(self.worker.call(settle, timeout=self.timeout, statistics=statistics, share=share))

    def count(self) -> int:
        """Steps since the last call: several an execution, and Keras' own ``batch`` is nominal in the last one."""
        taken = self.replica.steps()
        if taken is None:
            raise ValueError(expected("a compiled model", "no optimizer", "With steps_per_execution > 1 steps are counted by it."))
        return taken - self.steps_before - self.steps

    def exchange(self, logs: Logs) -> None:
        """One exchange now, of the steps since the last one."""
        numbers = numbers_of(logs)  # waits for the step, where steps are asynchronous
        if "window" in self.call.names:
            self.call.set("window", self.pending)
        self.worker.place(self.epoch, self.epoch_steps, self.steps, 0 if self.leases is None else self.leases.samples_done)
        self.call.settles = 0 if self.leases is None else self.pending
        start = time.perf_counter()
        try:
            self.replica.run(self.call)
        except NotFiniteError as error:
            raise NotFiniteError(self.explain(error)) from error
        if self.leases is not None:
            self.leases.settle(self.pending)
        staleness = self.call.staleness
        if self.synchronous:
            staleness = 0.0  # all move from the same center
            assert self.center.membership is not None
            self.center.membership.round(self.patience)
            if self.synchronous.pull:
                self.replica.run(self.pull)
        self.durations.append(time.perf_counter() - start)
        self.exchanges, self.pending = self.exchanges + 1, 0
        self.staleness_sum += staleness
        loss = numbers.pop("loss", float("nan"))
        self.history.append(
            step=self.steps, time=time.time() - self.started, epoch=self.epoch, loss=loss, metrics=numbers, staleness=staleness,
            seconds=self.durations[-1],
        )  # fmt: skip
        self.report(loss)

    def report(self, loss: float) -> None:
        """Tell monitors how far this worker is."""
        seen = min(self.epoch_steps * self.batch_size, self.samples_per_epoch)
        samples, total = self.epoch * self.samples_per_epoch + seen, self.epochs * self.samples_per_epoch
        if self.leases is not None:
            samples, total = self.leases.progress()
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
