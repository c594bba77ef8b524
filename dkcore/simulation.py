"""A simulation of asynchronous training: what to expect of n workers on m nodes before there are any.

Design:

A. One queue of events in one process, deterministic for a seed. Its unit is an exchange, not a step: 10,000 workers take seconds.
B. Time is modelled (steps, memory, link); arithmetic is not: with a problem to train on, workers take real steps in numpy and
   exchange by the kernels of `dkcore.rules` that training runs too.
C. Staleness is counted as the engine counts it: commits to the center since one's own last exchange, those of other nodes when a
   merge applies them.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dkcore.codec import Codec
from dkcore.emit import stores
from dkcore.errors import expected
from dkcore.prediction import Prediction
from dkcore.rule import ENGINE_SCALARS, Rule
from dkcore.rules import REGISTRY
from dkcore.simulation_link import Link
from dkcore.simulation_meeting import meet
from dkcore.simulation_queue import Queue
from dkcore.synchronous import METHODS, Synchronous, check_staleness

if TYPE_CHECKING:
    from dkcore.simulation_training import Problem, Step

__all__ = ["Simulation"]

MOST_TRAINED = 1000  # workers with weights of their own
STREAMS = 4  # of memory, in an exchange of a synchronous method: read and write center and worker


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Settings of a simulated job; times in seconds, speeds in bytes a second.

    rule: a rule or a synchronous method, or the name of one. scalars: its hyper-parameters.
    step_time: of one step of one worker; jitter: its standard deviation over its mean. stragglers: worker to how many times
    longer its steps take. weights: elements of the model, float32. exchange_time: of one exchange that has a lane of memory for
    itself; None for that of the rule's memory streams at ``memory_bandwidth``, a core's. lanes: exchanges that a node's memory
    carries side by side at that speed. merge_every: exchanges of a node (int), seconds (float), or ``auto``: rounds take
    ``merge_share`` of the leader's core. merge_compression: none, bf16, fp16, int8 or topk:FRACTION. merge_scale: what
    the nodes' differences are multiplied with when they are added up; None for 1 where the rule commits progress (it names
    p), 1 / nodes where it commits positions. bandwidth, latency: of the link between nodes. max_staleness: exchanges that a
    worker may be ahead of the slowest live one. ValueError for settings that no job could have.
    """

    rule: Rule | Synchronous | str = "adag"
    workers: int = 2
    nodes: int = 1
    window: int = 12
    scalars: Mapping[str, float] = field(default_factory=dict)
    batch_size: int = 32
    step_time: float = 0.01
    jitter: float = 0.1
    stragglers: Mapping[int, float] = field(default_factory=dict)
    weights: int = 4_800_000
    exchange_time: float | None = None
    memory_bandwidth: float = 10e9
    lanes: int = 2
    merge_every: int | float | str = "auto"
    merge_share: float = 0.1
    merge_compression: str = "none"
    merge_scale: float | None = None
    bandwidth: float = 125e6
    latency: float = 50e-6
    max_staleness: int | None = None
    seed: int = 0

    def __post_init__(self):
        if isinstance(self.rule, str):
            if self.rule not in REGISTRY and self.rule not in METHODS:
                advice = f"Rules are {', '.join(REGISTRY)}; synchronous methods {', '.join(METHODS)}."
                raise ValueError(expected("the name of a rule", repr(self.rule), advice))
            object.__setattr__(self, "rule", (REGISTRY | METHODS)[self.rule])
        check(self)

    @property
    def synchronous(self) -> bool:
        return isinstance(self.rule, Synchronous)

    @cached_property
    def exchange_seconds(self) -> float:
        """Of one exchange that waits for nobody."""
        if self.exchange_time is not None:
            return self.exchange_time
        streams = STREAMS if self.synchronous else len(self.rule.vectors) + len(stores(self.rule))
        return 4 * streams * self.weights / self.memory_bandwidth

    @cached_property
    def encoded(self) -> int:
        """Bytes of the whole model as it crosses the link."""
        return Codec.of(self.merge_compression).bytes(self.weights, np.float32)

    @cached_property
    def merge_bytes(self) -> float:
        """What each leader sends in one merge."""
        return Link(self.bandwidth, self.latency).bytes(self.nodes, self.encoded)

    @cached_property
    def merge_seconds(self) -> float:
        """Of the link, in one merge."""
        return Link(self.bandwidth, self.latency).seconds(self.nodes, self.encoded)

    @property
    def scale_of_merge(self) -> float:
        """What the sum of the nodes' differences is multiplied with."""
        if self.merge_scale is not None:
            return self.merge_scale
        return 1.0 if self.synchronous or "p" in self.rule.vectors else 1 / self.nodes

    def node_of(self, worker: int) -> int:
        return worker * self.nodes // self.workers

    def workers_of(self, node: int) -> range:
        """The workers of a node: neighbours, and as many on each node as can be."""
        return range(-(-node * self.workers // self.nodes), -(-(node + 1) * self.workers // self.nodes))

    def run(self, *, duration: float = math.inf, exchanges: int = 0, problem: "Problem | None" = None,
            step: "Callable[[np.ndarray], Step] | None" = None) -> Prediction:
        """Simulate until each worker has made so many exchanges, or for so many seconds, whichever comes first; one may be left out.

        problem, step: what to train, with which local optimizer (`dkcore.simulation_step.Adam`); None for time alone.
        """
        if not (duration > 0 and exchanges >= 0 and (exchanges or duration < math.inf)):
            what = "a duration of more than 0 s, or exchanges of 1 or more"
            raise ValueError(expected(what, f"duration={duration}, exchanges={exchanges}", "Such as exchanges=100."))
        if problem is not None:
            check_trained(self, problem, step)
        return self.run_meetings(duration, exchanges) if self.synchronous else self.run_queue(duration, exchanges, problem, step)

    def run_queue(self, duration: float, exchanges: int, problem: "Problem | None", step: "Callable | None") -> Prediction:
        training = None
        if problem is not None:
            from dkcore.simulation_training import Training

            most = math.ceil(duration / (self.window * self.step_time)) if duration < math.inf else exchanges
            training = Training(self, problem, step, self.workers * min(exchanges or most, most))
        queue = Queue(self, duration, exchanges, training)
        with np.errstate(all="ignore"):  # that a job diverges is a result, not a fault
            queue.run()
            found = training.evaluate() | {"curve": training.curve} if training else {}
        stale = [total / count if count else math.nan for total, count in zip(queue.stale, queue.count, strict=True)]
        elapsed = duration if any(node.live for node in queue.nodes) else queue.end
        merged = {"merges": queue.merge.rounds, "merging": queue.merge.busy} if queue.merge else {}
        return self.prediction(elapsed, sum(queue.count), queue.busy, histogram=dict(queue.histogram), stale=stale, **merged, **found)

    def run_meetings(self, duration: float, exchanges: int) -> Prediction:
        elapsed, rounds, busy = meet(self, duration, exchanges)
        count, merges = rounds * self.workers, rounds if self.nodes > 1 else 0
        alike = {"histogram": {0: count} if count else {}, "stale": [0.0] * self.workers}
        return self.prediction(elapsed, count, busy, merges=merges, merging=merges * self.merge_seconds, **alike)

    def prediction(self, elapsed: float, exchanges: int, busy: float, *, merges: int = 0, merging: float = 0.0, **found) -> Prediction:
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
            **found,
        )


def check(plan: Simulation) -> None:
    """ValueError unless such a job could be."""
    whole = {"workers": 1, "nodes": 1, "window": 1, "batch_size": 1, "weights": 1, "lanes": 1, "seed": 0}
    for name, least in whole.items():
        require(plan, name, is_whole(getattr(plan, name)) and getattr(plan, name) >= least, f"a whole number of {least} or more")
    for name in ("step_time", "memory_bandwidth", "bandwidth"):
        require(plan, name, 0 < getattr(plan, name) < math.inf, "a number above 0")
    for name in ("jitter", "latency", "exchange_time"):
        require(plan, name, getattr(plan, name) is None or 0 <= getattr(plan, name) < math.inf, "a number of 0 or more")
    require(plan, "nodes", plan.nodes <= plan.workers, f"at most one node a worker ({plan.workers})")
    check_staleness(plan.max_staleness, plan.rule)
    for worker, factor in plan.stragglers.items():
        what = f"workers of 0 to {plan.workers - 1} that take so many times longer, above 0"
        require(plan, "stragglers", is_whole(worker) and 0 <= worker < plan.workers and 0 < factor < math.inf, what)
    pace = plan.merge_every
    require(plan, "merge_every", pace == "auto" or (not isinstance(pace, str | bool) and 0 < pace < math.inf),
            "'auto', a whole number of exchanges, or seconds as a float")
    require(plan, "merge_share", 0 < plan.merge_share <= 1, "a share above 0, and 1 at most")
    Codec.of(plan.merge_compression)
    if not plan.synchronous:  # whose scalars change nothing about time
        plan.rule.fill(plan.scalars, ENGINE_SCALARS)


def is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def require(plan: Simulation, name: str, good: bool, what: str) -> None:
    if not good:
        raise ValueError(expected(f"{name}: {what}", repr(getattr(plan, name)), "Change it, or leave it out for the default."))


def check_trained(plan: Simulation, problem: "Problem", step: object) -> None:
    """ValueError for what can be timed but not trained."""
    advice = "Leave the problem (--model) out to simulate time alone."
    if plan.synchronous:
        raise ValueError(expected("a rule of an asynchronous method, to train with", repr(plan.rule.name), advice))
    if plan.workers > MOST_TRAINED:
        raise ValueError(expected(f"at most {MOST_TRAINED} workers that train", plan.workers, advice))
    if step is None:
        raise ValueError(expected("a local optimizer for the problem", "step=None", "Such as step=dkcore.simulation_step.Adam."))
