"""The settings of a simulated job, and what follows from them: seconds of an exchange, bytes of a merge."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from dkcore.engine.codec import Codec
from dkcore.engine.emit import stores
from dkcore.errors import expected, nearest
from dkcore.formula.additive import adds_up
from dkcore.formula.rule import ENGINE_SCALARS, Rule, validate_not_counted
from dkcore.formula.synchronous import Synchronous, check_staleness
from dkcore.registry import KNOWN
from dkcore.rules import METHODS, REGISTRY
from dkcore.simulation.link import Link

__all__ = ["Settings"]

STREAMS = 4  # of memory, in an exchange of a synchronous method: read and write center and worker


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a simulated job; times in seconds, speeds in bytes a second.

    rule: a rule or a synchronous method, or the name of one. scalars: its hyper-parameters.
    step_time: of one step of one worker; jitter: its standard deviation over its mean. stragglers: worker to how many times
    longer its steps take. weights: elements of the model, float32. exchange_time: of one exchange that has a lane of memory for
    itself; None for that of the rule's memory streams at ``memory_bandwidth``, a core's. lanes: exchanges that a node's memory
    carries side by side at that speed. merge_every: exchanges of a node (int), seconds (float), or ``auto``: rounds take
    ``merge_share`` of the leader's core. merge_compression: none, bf16, fp16, int8 or topk:FRACTION. merge_scale: what
    the nodes' differences are multiplied with when they are added up; None for 1 where the rule commits progress (its center
    depends on p), 1 / nodes where it commits positions. bandwidth, latency: of the link between nodes. max_staleness: exchanges that a
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

    def __post_init__(self) -> None:
        if isinstance(self.rule, str):
            if self.rule not in KNOWN:
                advice = nearest(self.rule, KNOWN, "") + f" Rules are {', '.join(REGISTRY)}; synchronous methods {', '.join(METHODS)}."
                raise ValueError(expected("the name of a rule", repr(self.rule), advice.strip()))
            object.__setattr__(self, "rule", KNOWN[self.rule])
        check(self)

    @property
    def method(self) -> Rule | Synchronous:
        """The rule itself, whether it was given by its name or not."""
        assert not isinstance(self.rule, str)  # __post_init__ has looked it up
        return self.rule

    @property
    def synchronous(self) -> bool:
        return isinstance(self.rule, Synchronous)

    @cached_property
    def exchange_seconds(self) -> float:
        """Of one exchange that waits for nobody."""
        if self.exchange_time is not None:
            return self.exchange_time
        method = self.method
        streams = STREAMS if isinstance(method, Synchronous) else len(method.vectors) + len(stores(method))
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
        method = self.method
        return 1.0 if isinstance(method, Synchronous) or adds_up(method, 0) else 1 / self.nodes

    def node_of(self, worker: int) -> int:
        return worker * self.nodes // self.workers

    def workers_of(self, node: int) -> range:
        """The workers of a node: neighbours, and as many on each node as can be."""
        return range(-(-node * self.workers // self.nodes), -(-(node + 1) * self.workers // self.nodes))


def check(settings: Settings) -> None:
    """ValueError unless such a job could be."""
    whole = {"workers": 1, "nodes": 1, "window": 1, "batch_size": 1, "weights": 1, "lanes": 1, "seed": 0}
    for name, least in whole.items():
        value = getattr(settings, name)
        require(settings, name, is_whole(value) and value >= least, f"a whole number of {least} or more")
    for name in ("step_time", "memory_bandwidth", "bandwidth"):
        require(settings, name, 0 < getattr(settings, name) < math.inf, "a number above 0")
    for name in ("jitter", "latency", "exchange_time"):
        require(settings, name, getattr(settings, name) is None or 0 <= getattr(settings, name) < math.inf, "a number of 0 or more")
    require(settings, "nodes", settings.nodes <= settings.workers, f"at most one node a worker ({settings.workers})")
    check_staleness(settings.max_staleness, settings.method)
    for worker, factor in settings.stragglers.items():
        what = f"workers of 0 to {settings.workers - 1} that take so many times longer, above 0"
        require(settings, "stragglers", is_whole(worker) and 0 <= worker < settings.workers and 0 < factor < math.inf, what)
    pace = settings.merge_every
    require(
        settings,
        "merge_every",
        pace == "auto" or (not isinstance(pace, str | bool) and 0 < pace < math.inf),
        "'auto', a whole number of exchanges, or seconds as a float",
    )
    require(settings, "merge_share", 0 < settings.merge_share <= 1, "a share above 0, and 1 at most")
    Codec.of(settings.merge_compression)
    validate_not_counted(settings.scalars, ENGINE_SCALARS)
    if not isinstance(method := settings.method, Synchronous):  # whose scalars change nothing about time
        method.fill(settings.scalars, ENGINE_SCALARS)


def is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def require(settings: Settings, name: str, good: bool, what: str) -> None:
    if not good:
        raise ValueError(expected(f"{name}: {what}", repr(getattr(settings, name)), "Change it, or leave it out for the default."))
