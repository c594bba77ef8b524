"""How much memory does a worker take for each parameter of the model?

Measured, not counted: a crew exchanges, and /proc says what grew. Each worker needs a ``p``; all share one center.
"""

import numpy as np

from bench.harness.case import Case
from bench.harness.crew import Crew
from bench.machine.memory import own_memory, peak, shared_memory
from dkcore.center import Center
from dkcore.rules import REGISTRY

SIZE = 16_777_216
WORKERS = 2
EXCHANGES = 20


def cases(quick: bool) -> list[Case]:
    """One."""
    return [Case("memory/bytes_per_parameter_per_worker", "memory/bytes_per_parameter_per_node")]


def bench_memory(case, turns):
    free = shared_memory()
    with Center.create(np.ones(SIZE, np.float32)) as center, Crew(WORKERS, "bench.questions.bench_memory:Worker", center.name) as crew:
        node = (shared_memory() - free) / SIZE

        def verify() -> None:
            crew.ask("exchange")
            crew.seconds("exchange")
            assert np.all(center.versions == WORKERS * 2), "a stripe missed an exchange"

        grown = []

        def exchanges() -> float:
            seconds = crew.seconds("exchange", EXCHANGES)
            grown.append(max(crew.ask("grown")))
            return seconds

        turns({"exchange": exchanges}, rounds=3, verify=verify)
        note = f"adag, float32, after {EXCHANGES} exchanges: one p"
        turns.figure(case.keys[0], np.array(grown) / SIZE, unit="bytes", note=note)
        turns.figure(case.keys[1], [node], unit="bytes", note="of /dev/shm: one center")


class Worker:
    """Its weights are there before, as a model's are; what it takes beyond them is the engine's."""

    def __init__(self, index: int, workers: int, name: str) -> None:
        self.center = Center.attach(name)
        self.w = np.ones(self.center.size, self.center.dtype)
        self.before = own_memory()
        self.call = self.center.worker(index).call(REGISTRY["adag"], check_finite=True, window=12)

    def exchange(self) -> None:
        """One exchange."""
        self.call.flat(self.w)

    def grown(self) -> int:
        """Bytes of this process' own memory beyond what it had before it prepared the exchange, with an exchange's temporaries."""
        return own_memory() - self.before + peak(self.exchange)

    def close(self) -> None:
        """Leave the center."""
        self.center.close()
