"""A simulation of asynchronous training: what to expect of n workers on m nodes before there are any.

Design:

A. One queue of events in one process, deterministic for a seed. Its unit is an exchange, not a step: 10,000 workers take seconds.
B. Time is modelled (steps, memory, link); arithmetic is not: with a problem to train on, workers take real steps in numpy and
   exchange by the kernels of `dkcore.rules` that training runs too.
C. Staleness is counted as the engine counts it: commits to the center since one's own last exchange, those of other nodes when a
   merge applies them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dkcore.arrays import Array
from dkcore.errors import expected
from dkcore.simulation.events import Queue
from dkcore.simulation.prediction import Prediction
from dkcore.simulation.settings import Settings
from dkcore.simulation.synchronous import run_rounds
from dkcore.simulation.training import Problem, Step, Training

__all__ = ["Simulation"]

MOST_TRAINED = 1000  # workers with weights of their own


@dataclass(frozen=True, kw_only=True)
class Simulation(Settings):
    """A simulated job; its settings are those of `Settings`."""

    def run(
        self,
        *,
        duration: float = math.inf,
        exchanges: int = 0,
        problem: Problem | None = None,
        step: Callable[[Array], Step] | None = None,
    ) -> Prediction:
        """Simulate until each worker has made so many exchanges, or for so many seconds, whichever comes first; one may be left out.

        problem, step: what to train, with which local optimizer (`dkcore.simulation.optimizers.Adam`); None for time alone.
        """
        if not (duration > 0 and exchanges >= 0 and (exchanges or duration < math.inf)):
            what = "a duration of more than 0 s, or exchanges of 1 or more"
            raise ValueError(expected(what, f"duration={duration}, exchanges={exchanges}", "Such as exchanges=100."))
        if problem is not None:
            check_trained(self, problem, step)
        return self.run_meetings(duration, exchanges) if self.synchronous else self.run_queue(duration, exchanges, problem, step)

    def run_queue(self, duration: float, exchanges: int, problem: Problem | None, step: Callable[[Array], Step] | None) -> Prediction:
        training = None
        if problem is not None and step is not None:
            most = math.ceil(duration / (self.window * self.step_time)) if duration < math.inf else exchanges
            training = Training(self, problem, step, self.workers * min(exchanges or most, most))
        queue = Queue(self, duration, exchanges, training)
        with np.errstate(all="ignore"):  # that a job diverges is a result, not a fault
            queue.run()
            found = training.evaluate() if training else {}
        stale = [total / count if count else math.nan for total, count in zip(queue.stale, queue.count, strict=True)]
        elapsed = duration if any(node.live for node in queue.nodes) else queue.end
        merges, merging = (queue.merge.rounds, queue.merge.busy) if queue.merge else (0, 0.0)
        predicted = self.prediction(elapsed, sum(queue.count), queue.busy, merges, merging, dict(queue.histogram), stale)
        if training is None:
            return predicted
        return replace(predicted, loss=found.get("loss"), accuracy=found.get("accuracy"), curve=training.curve)

    def run_meetings(self, duration: float, exchanges: int) -> Prediction:
        elapsed, rounds, busy = run_rounds(self, duration, exchanges)
        count, merges = rounds * self.workers, rounds if self.nodes > 1 else 0
        histogram, stale = {0: count} if count else {}, [0.0] * self.workers
        return self.prediction(elapsed, count, busy, merges, merges * self.merge_seconds, histogram, stale)

    def prediction(
        self,
        elapsed: float,
        exchanges: int,
        busy: float,
        merges: int,
        merging: float,
        histogram: Mapping[int, int],
        stale: Sequence[float],
    ) -> Prediction:
        samples = exchanges * self.window * self.batch_size
        alone = self.window * self.batch_size / (self.window * self.step_time + self.exchange_seconds)
        return Prediction(
            workers=self.workers,
            nodes=self.nodes,
            elapsed=elapsed,
            exchanges=exchanges,
            samples=samples,
            merges=merges,
            bytes_per_leader=merges * self.merge_bytes,
            bytes_per_merge=self.merge_bytes,
            utilisation=busy / (self.workers * elapsed),
            link_share=min(merging / elapsed, 1.0),
            efficiency=samples / elapsed / (self.workers * alone),
            histogram=histogram,
            stale=stale,
        )


def check_trained(plan: Simulation, problem: Problem, step: object) -> None:
    """ValueError for what can be timed but not trained."""
    advice = "Leave the problem (--model) out to simulate time alone."
    if plan.synchronous:
        raise ValueError(expected("a rule of an asynchronous method, to train with", repr(plan.method.name), advice))
    if plan.workers > MOST_TRAINED:
        raise ValueError(expected(f"at most {MOST_TRAINED} workers that train", plan.workers, advice))
    if step is None:
        raise ValueError(expected("a local optimizer for the problem", "step=None", "Such as step=dkcore.simulation.optimizers.Adam."))
