"""Which batches this worker trains, where workers of a node lease them from each other (``sharding="dynamic"``).

Design:
(a) A lease is as long as a window, a whole number of executions; it is taken when its first batch is asked for. The exchange that
    commits the window settles it, in the same call of the engine.
(b) Batches are trained in the order in which they are leased. So three numbers say everything: how many were leased, how many of them
    Keras was given, and how many were trained. What was given ahead, and not trained, is given again.
(c) An epoch of Keras is an epoch of the data. It is over for this worker when there is nothing to lease in it; nobody waits for the others.
    Only after the last epoch it waits until all batches are settled: what a worker that dies leaves behind is trained in one more.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from dkcore.errors import StripeTimeoutError, expected
from dkcore.training.callback import Callback, Logs

if TYPE_CHECKING:
    from dkcore.center import Center, Worker
    from dkcore.data.shard import NodeShard
    from dkcore.training.resuming import Beginning

__all__ = ["MORE_EPOCHS", "Leases"]

MORE_EPOCHS = 2**31  # of Keras, after the last one of the data: training ends when all is settled
PATIENCE = 3600.0  # seconds: longer than a window takes
LOOK = 0.5  # seconds between two looks whether others get on


class Leases(Callback):
    """What this worker has leased. A callback, which comes after the exchange; and a `dkcore.data.leased.Source`.

    shard: of all workers of the node. epochs: of the data. waits: whether to wait for what others may leave behind; not where they
    wait for this one in rounds. patience: seconds to wait while nobody gets on.
    """

    def __init__(self, center: "Center", shard: "NodeShard", batch_size: int, window: int, epochs: int, *, waits: bool = True,
                 patience: float = PATIENCE):  # fmt: skip
        super().__init__()
        self.center, self.batch_size, self.window, self.epochs = center, batch_size, window, epochs
        self.waits, self.patience = waits, patience
        self.sharers = shard.sharers
        self.samples, self.batches = shard.samples, shard.steps(batch_size)
        self.until = epochs * self.batches
        self.execution = 1  # batches that Keras takes at a time
        self.worker: Worker | None = None
        self.lock = threading.Lock()  # TensorFlow asks for batches in a thread of its own
        self.ranges: deque[tuple[int, int, int]] = deque()  # how many were leased before, first, count: what is not settled
        self.leased = self.given = self.trained = self.settled = 0
        self.before_this = 0  # of those that were trained, in the run that this one goes on from
        self.epoch, self.ended = 0, False
        self.leaving: Callable[[], bool] = lambda: False  # whether this worker is asked to go: then it waits for nobody
        self.before = -1  # trained, one epoch of Keras ago
        self.last_batches: list[int] = []  # of epochs, by the steps of this seat until then: they may be short
        self.start_steps = self.steps_before = self.lacked = 0  # of the seat, when its first worker began, and this one

    # ------------------------------------------------------------------ before training

    def join(self, rank: int) -> "Worker":
        """The slot of this worker, claimed when it is first asked for."""
        if self.worker is None:
            self.center.open_leases(self.batches)
            self.worker = self.center.worker(rank)
        return self.worker

    def follow(self, begin: "Beginning") -> None:
        """Go on counting from the workers before this one in its seat."""
        self.start_steps = (begin.before or begin).steps
        self.steps_before = begin.steps - self.start_steps
        self.lacked = 0 if begin.again is None else self.steps_before * self.batch_size - begin.again.samples

    def resume(self, ranges: list[tuple[int, int]]) -> None:
        """Hold these batches again: the weights have them, the center does not."""
        assert self.worker is not None  # it joined first
        for first, count in ranges:
            self.worker.slot.resume_lease(first, count)
            self.ranges.append((self.leased, first, count))
            self.leased += count
        self.given = self.trained = self.before_this = self.leased

    def first(self) -> int | None:
        """Lease the first batches; their epoch. None when there are none to lease now."""
        with self.lock:
            self.epoch = self.epochs - 1
            if self.leased == self.trained and not self.lease():
                return None
            return next(first for begin, first, count in self.ranges if begin + count > self.trained) // self.batches

    # ------------------------------------------------------------------ for the data

    def begin(self) -> None:
        with self.lock:
            self.given, self.ended = self.trained, False

    def more(self) -> bool:
        with self.lock:
            return self.given > self.trained or (not self.ended and (self.leased > self.given or self.lease()))

    def take(self, most: int) -> tuple[int, int, int]:
        with self.lock:
            if self.given == self.leased and not self.lease():
                self.ended = True
                return 0, 0, 0
            begin, first, count = next(each for each in self.ranges if each[0] + each[2] > self.given)
            first, count = first + self.given - begin, min(begin + count - self.given, most)
            self.given += count
            return first // self.batches, first % self.batches, count

    def lease(self) -> bool:
        """Lease what is left of the window, or the next one; whether there was something. Under the lock."""
        assert self.worker is not None  # it joined first
        window = -(-self.window // self.execution) * self.execution
        until = min((self.epoch + 1) * self.batches, self.until)
        first, count = self.worker.lease(window - (self.leased - self.settled) % window, until)
        if count:
            self.ranges.append((self.leased, first, count))
            self.leased += count
        return count > 0

    # ------------------------------------------------------------------ for the exchange, and for the report

    def step(self, batches: int) -> None:
        """So many more batches are trained."""
        with self.lock:
            until = self.trained + batches
            for begin, first, count in self.ranges:
                if self.trained < begin + count <= until and (first + count) % self.batches == 0:
                    self.last_batches.append(self.steps_before + begin + count - self.before_this)
            self.trained = until

    def settle(self, batches: int) -> None:
        """An exchange has settled the first ones."""
        with self.lock:
            self.settled += batches
            while self.ranges and sum(self.ranges[0][::2]) <= self.settled:
                self.ranges.popleft()

    def samples_in(self, steps: int) -> int:
        """Samples in the first steps of this seat; of those of its former workers no further back than all of them."""
        lacking = self.batches * self.batch_size - self.samples
        before = self.lacked if steps >= self.steps_before else 0
        return steps * self.batch_size - before - lacking * sum(last <= steps for last in self.last_batches)

    def pending(self) -> list[tuple[int, int]]:
        """What is trained, and not settled: (first, count) of each range."""
        with self.lock:
            skipped = [(first + max(self.settled - begin, 0), begin, first, count) for begin, first, count in self.ranges]
            ends = [first + min(count, self.trained - begin) for _, begin, first, count in skipped]
            return [(start, end - start) for (start, *_), end in zip(skipped, ends, strict=True) if end > start]

    def progress(self) -> tuple[int, int]:
        """Samples of this seat in this run, and how many there would be if all did as much."""
        return self.samples_done, self.epochs * self.samples // self.sharers

    @property
    def samples_done(self) -> int:
        """Samples of this seat in this run, until now: `samples_in` all of its steps, in a late epoch as fast as in an early one."""
        lacking = self.batches * self.batch_size - self.samples
        steps = self.steps_before + self.trained - self.before_this
        return steps * self.batch_size - self.lacked - lacking * len(self.last_batches)

    # ------------------------------------------------------------------ a callback

    def on_train_begin(self, logs: Logs = None) -> None:
        self.execution = self._model.steps_per_execution

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self.epoch = min(epoch, self.epochs - 1)
        self.begin()  # Keras asks for more before it begins to iterate

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if epoch + 1 < self.epochs:
            return
        idle, self.before = self.trained == self.before, self.trained
        if not self.wait():
            self._model.stop_training = True
        elif idle and epoch >= self.epochs + 1:
            what = "an epoch of fit in which leased batches are trained"
            raise RuntimeError(expected(what, "one without a step", "Another callback may have taken them; pass sharding='fixed'."))

    def wait(self) -> bool:
        """After the last epoch: whether there is something to train once more. It returns when there is, or when all is settled."""
        since, before = time.monotonic(), None
        while not self.leaving():
            if self.leased > self.trained:
                return True
            with self.lock:
                if self.lease():
                    return True
            seen = self.center.await_leases(self.until, LOOK if self.waits else 0.0)
            if not self.waits or not (seen["open"] or seen["busy"]):
                return False
            if seen != before:
                since, before = time.monotonic(), seen
            if time.monotonic() > since + self.patience:
                what = f"all batches settled within {self.patience:g} s after the last progress"
                raise StripeTimeoutError(expected(what, f"{seen['held']} that others hold", "Is a worker stopped, or does it hang?"))
        return False
