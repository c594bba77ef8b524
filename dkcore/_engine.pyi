"""The types of the compiled engine: bindings/_engine.pyx and the files that it includes."""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Any, Protocol, TypedDict, final, type_check_only

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

from dkcore.formula import rule as formula

CLASSES: dict[int, type[Exception]]
SLOT_STATES: tuple[str, ...]
UNDO_MODES: tuple[str, ...]

@type_check_only
class Compiled(Protocol):
    """What has native code: `dkcore.kernels.Kernel`."""

    @property
    def address(self) -> int: ...

class Role(IntEnum):
    OUTSIDE = -1
    CENTER = 0
    WORKER = 1
    PREVIOUS = 2
    STATE = 3

@type_check_only
class Layout(TypedDict):
    length: int
    itemsize: int
    stripe_length: int
    states: int
    slots: int
    digest: int
    statistics: int
    undo: str
    stripes: int
    note: str

@type_check_only
class Counts(TypedDict):
    live: int
    deaths: int
    recovered: int
    undone: int
    kept: int
    elements: int

@type_check_only
class LeasesView(TypedDict):
    batches: int
    next: int
    held: int
    waiting: int
    returned: int
    doubtful: int
    under_way: int
    open: int
    busy: int

@type_check_only
class Pulse(TypedDict):
    live: int
    waiting: int
    slowest: int
    rule: str

@type_check_only
class SlotView(TypedDict):
    slot: int
    state: str
    pid: int
    rank: int
    started: float
    heartbeat: float
    exchanges: int
    steps: int
    samples: int
    epoch: int
    total_samples: int
    loss: float
    exchange_seconds: float
    staleness_sum: float
    place: tuple[int, int, int, int]
    next: tuple[int, int, int, int]
    begun: int
    stripes_in: int
    in_part: int
    histogram: NDArray[np.uint64]

def listen() -> None: ...
def instruction_sets() -> list[str]: ...
def find_kernel(rule: str, dtype: str, isa: str | None = None, looking: bool = False) -> int: ...
def sweep(name: str) -> bool: ...
def codec_bytes(kind: int, itemsize: int, fraction: float, n: int) -> int: ...
def encode(kind: int, fraction: float, values: NDArray[Any], residual: NDArray[Any] | None, data: NDArray[np.uint8]) -> None: ...
def decode(kind: int, fraction: float, data: NDArray[np.uint8], values: NDArray[Any], add: bool) -> None: ...

@final
class Segment:
    @staticmethod
    def create(
        name: str,
        initial: NDArray[Any],
        stripe_length: int,
        states: int,
        slots: int,
        digest: int,
        note: str,
        statistics: int = 0,
        undo: str = "block",
    ) -> Segment: ...
    @staticmethod
    def attach(name: str, length: int, itemsize: int, digest: int, timeout: float, statistics: int = 0) -> Segment: ...
    def close(self) -> None: ...
    def claim(self, rank: int) -> Slot: ...
    def release_workers(self) -> None: ...
    def layout(self) -> Layout: ...
    def snapshot(self, vector: int, out: NDArray[Any], timeout: float) -> None: ...
    def restore(self, vector: int, data: NDArray[Any], timeout: float) -> None: ...
    def address(self, vector: int) -> int: ...
    def versions(self) -> NDArray[np.uint64]: ...
    def counts(self) -> Counts: ...
    def slot(self, index: int) -> SlotView: ...
    def open_leases(self, batches: int) -> None: ...
    def leases(self, until: int = 0, timeout: float = 0.0) -> LeasesView: ...
    def unsettled(self) -> tuple[NDArray[np.uint64], LeasesView]: ...
    def restore_leases(self, batches: int, next: int, waiting: NDArray[np.uint64]) -> None: ...
    def declare_broken(self, reason: str) -> None: ...
    def check(self) -> None: ...
    def set_others(self, workers: int, slowest: int) -> None: ...
    def declare_rule(self, rule: str) -> None: ...
    def pulse(self) -> Pulse: ...
    def set_members(self, gate: int, members: int) -> None: ...
    def change_members(self, gate: int, by: int) -> None: ...
    def arrive(self, gate: int) -> int: ...
    def wait(self, gate: int, ticket: int, timeout: float) -> bool: ...
    def await_members(self, gate: int, timeout: float) -> tuple[int, int]: ...
    def open_gate(self, gate: int, arrived: int) -> None: ...
    def reach(self, member: int, phase: int) -> None: ...
    def await_phase(self, first: int, end: int, phase: int, timeout: float) -> int: ...

@final
class Pass:
    def __init__(
        self,
        segment: Segment,
        kernel: Compiled,
        roles: Sequence[int],
        names: Iterable[str],
        timeout: float,
        begin: int,
        until: int,
        only_read: int = 0,
    ) -> None: ...
    def set(self, name: str, value: float) -> None: ...
    def run(
        self,
        first: int,
        end: int,
        arrays: Iterable[NDArray[Any]],
        versions: NDArray[np.uint64] | None = None,
        raised: NDArray[np.uint64] | None = None,
        arrivals: NDArray[np.uint64] | None = None,
        taken: NDArray[np.uint64] | None = None,
    ) -> None: ...

@final
class Slot:
    def __init__(self, segment: Segment, rank: int) -> None: ...
    @property
    def segment(self) -> Segment: ...
    @property
    def index(self) -> int: ...
    def release(self) -> None: ...
    def resume(self, exchanges: int, epoch: int, step: int, steps: int, samples: int) -> None: ...
    def place(self, epoch: int, step: int, steps: int, samples: int) -> None: ...
    def lease(self, most: int, until: int) -> tuple[int, int]: ...
    def resume_lease(self, first: int, count: int) -> None: ...
    def report(self, steps: int, samples: int, epoch: int, total_samples: int, loss: float) -> None: ...

@final
class Call:
    def __init__(
        self,
        slot: Slot,
        kernel: Compiled | None,
        roles: Sequence[int],
        names: Sequence[str],
        *,
        typenum: int,
        timeout: float,
        max_ahead: int | None = None,
        patience: float = 0,
        statistics: int = 0,
        statistic: Compiled | None = None,
        looking: Compiled | None = None,
        statistic_looking: Compiled | None = None,
        in_rounds: bool = False,
        held: NDArray[Any] | None = None,
        only_read: int = 0,
        hands_in: bool = False,
    ) -> None: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def p(self) -> NDArray[Any] | None: ...
    @p.setter
    def p(self, array: NDArray[Any] | None) -> None: ...
    @property
    def function(self) -> int: ...
    @property
    def address(self) -> int: ...
    settles: int
    @property
    def staleness(self) -> float: ...
    @property
    def seconds(self) -> float: ...
    def set(self, name: str, value: float) -> None: ...
    def set_previous(self, array: NDArray[Any] | None) -> None: ...
    def set_all(self, scalars: dict[str, float]) -> None: ...
    def accept(self, scalars: Iterable[str]) -> None: ...
    def flat(self, w: NDArray[Any]) -> None: ...
    def segments(self, addresses: NDArray[np.uint64], lengths: NDArray[np.uint64]) -> None: ...
    def check_status(self, returned: int = 0) -> None: ...

@disjoint_base
class Exchanging:
    calls: dict[formula.Rule | str, Call]
    def exchange(self, rule: formula.Rule | str, w: NDArray[Any], p: NDArray[Any] | None = None, **scalars: float) -> float: ...

@final
class Range:
    def __new__(cls, size: int) -> Range: ...
    def map(self, file: int, at: int, size: int) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
