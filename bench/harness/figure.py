"""A figure: one number that answers a question, with its spread and its goal."""

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

__all__ = ["GOALS", "Figure", "Goal"]

NOISY = 0.2  # a spread beyond it is said to be noise


@dataclass(frozen=True)
class Goal:
    """What a figure should be: ``at_least`` or ``at_most`` a number."""

    at_least: float = -math.inf
    at_most: float = math.inf

    def met(self, value: float) -> bool:
        return self.at_least <= value <= self.at_most

    def __str__(self) -> str:
        if math.isfinite(self.at_least) and math.isfinite(self.at_most):
            return f"{self.at_least:g} to {self.at_most:g}"
        return f">= {self.at_least:g}" if math.isfinite(self.at_least) else f"<= {self.at_most:g}"


GOALS = {
    "exchange_vs_unlocked/*": Goal(at_least=0.95),
    "exchange_vs_triad/*": Goal(at_least=0.95),
    "numba_vs_c/*": Goal(at_least=0.8),
    "codec_vs_memcpy/int8/encode*": Goal(at_least=0.6),
    "codec_gbps/topk:0.01/encode*": Goal(at_least=0.5),
    "merge_bytes_ratio/bf16": Goal(at_most=0.5),
    "merge_bytes_ratio/fp16": Goal(at_most=0.5),
    "merge_bytes_ratio/int8": Goal(at_most=0.255),
    "merge_bytes_ratio/topk:0.01": Goal(at_most=0.03),
    "merge_vs_allreduce/*": Goal(at_most=1.1),
    "throughput_while_merging/*": Goal(at_least=0.95),
    "exchange_us/1000*": Goal(at_most=2),
    "replica_vs_flat/tensorflow/*": Goal(at_most=1.3),
    "replica_us/tensorflow/200variables": Goal(at_most=1000),
    "vs_dist_keras/4798010/2workers": Goal(at_least=25),
    "vs_dist_keras/1000000/2workers": Goal(at_least=40),
    "vs_best_peer/*/2workers": Goal(at_least=2),
    "vs_best_peer/*/1workers": Goal(at_least=1.5),
    "leases/throughput/*": Goal(at_least=0.98),
    "leases/throughput_per_core/*": Goal(at_least=0.98),
    "leases/slow_worker/*": Goal(at_most=1.05),
    "exchange_share/demo": Goal(at_most=0.008),
    "fairness/*/8workers": Goal(at_least=0.8),
    "latency_tail/100000/2workers": Goal(at_most=10),
    "throughput_vs_no_exchange/demo": Goal(at_least=0.97),
    "throughput_vs_plain_fit/tensorflow": Goal(at_least=1.5),
    "memory/bytes_per_parameter_per_*": Goal(at_most=4.2),  # float32: one p a worker, one center a node
    "import_s/dkcore": Goal(at_most=0.3),
    "spark_ingest_vs_arrow/first": Goal(at_least=0.5),
    "spark_ingest_vs_arrow/later": Goal(at_least=0.9),
    "vs_elephas/samples_per_s*": Goal(at_least=5),
    "spark_launch_s": Goal(at_most=3),
    "chaos/goodput_vs_startup/15s": Goal(at_least=0.9),
    "chaos/survivors_p99_s/*": Goal(at_most=0.05),
    "chaos/loss_ratio/*": Goal(at_least=0.9, at_most=1.1),
    "chaos/rows_lost/*": Goal(at_most=0),
    "simulation/*": Goal(at_least=0.9, at_most=1.1),
}


@dataclass(frozen=True)
class Figure:
    """The median of some rounds.

    key: parts joined by slashes, the question first. spread: the quartiles' distance over the median. unit: empty for a
    ratio. note: what a reader should know, such as the level of a replica.
    """

    key: str
    value: float
    spread: float = 0.0
    unit: str = ""
    note: str = ""

    @classmethod
    def of(cls, key: str, rounds, unit: str = "", note: str = "") -> "Figure":
        """The figure of one value a round."""
        low, middle, high = np.percentile(np.asarray(rounds, float), [25, 50, 75])
        return cls(key, float(middle), float((high - low) / abs(middle)) if middle else 0.0, unit, note)

    @property
    def goal(self) -> Goal | None:
        return next((goal for pattern, goal in GOALS.items() if fnmatchcase(self.key, pattern)), None)

    @property
    def verdict(self) -> str:
        """``pass``, ``miss`` or nothing, and ``noisy`` where the rounds disagree."""
        words = [] if self.goal is None else ["pass" if self.goal.met(self.value) else "miss"]
        return " ".join([*words, *(["noisy"] if self.spread > NOISY else [])])
