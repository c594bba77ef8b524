"""Is more of a figure better, or less? By its goal, its unit, or its question; of what nothing is known, a change is only a change."""

import math
from fnmatch import fnmatchcase

from bench.harness.figure import Figure

__all__ = ["better"]

UNITS = {"s": "less", "ms": "less", "us": "less", "ns": "less", "bytes": "less", "GB/s": "more", "MB/s": "more", "samples/s": "more"}
QUESTIONS = {  # the first that matches a key; ratios to others are how many times faster we are
    "simulation/*": None,  # as near to 1 as it can be
    "staleness/*": None,
    "roof/*": None,  # the machine's
    "peer_us/dkcore*": "less",
    "peer_us/*": None,  # others'
    "*/accuracy/elephas*": None,
    "exchange_share*": "less",
    "latency_*": "less",
    "leases/throughput*": "more",
    "leases/slow_worker*": "less",
    "replica_vs_flat/*": "less",
    "merge_vs_allreduce/*": "less",
    "merge_bytes_*": "less",
    "spark_ingest_*": "more",
    "fairness/*": "more",
    "scaling/*": "more",
    "throughput_*": "more",
    "vs_*": "more",
    "*_vs_*": "more",
    "*_gbps/*": "more",
    "*_per_s*": "more",
    "*_us/*": "less",
    "*_s/*": "less",
    "*_s": "less",
}


def better(figure: Figure) -> str | None:
    """``more``, ``less`` or None, if neither is known to be.

    >>> better(Figure("exchange_us/1000", 1.0)), better(Figure("vs_peer/1000", 9.0)), better(Figure("peer_us/ray/1000", 9.0, unit="us"))
    ('less', 'more', None)
    """
    goal = figure.goal
    if goal and math.isfinite(goal.at_least) != math.isfinite(goal.at_most):
        return "more" if math.isfinite(goal.at_least) else "less"
    patterns = [pattern for pattern in QUESTIONS if fnmatchcase(figure.key, pattern)]
    if patterns and QUESTIONS[patterns[0]] is None:
        return None
    return UNITS.get(figure.unit) or (QUESTIONS[patterns[0]] if patterns else None)
