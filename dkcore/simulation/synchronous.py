"""Synchronous methods, as far as time goes: every window all workers of all nodes meet."""

import numpy as np

from dkcore.simulation.settings import Settings

__all__ = ["run_rounds"]


def run_rounds(plan: Settings, limit: float, exchanges: int) -> tuple[float, int, float]:
    """Rounds until the limit, or so many unless that is 0; seconds elapsed, rounds, and the workers' seconds in steps.

    In a round all compute a window, the slowest is waited for, all exchange, the nodes merge, and all go on.
    An exchange has two halves with a barrier between them: together they take the time of one.
    """
    random = np.random.default_rng(plan.seed)
    pace = np.array([plan.stragglers.get(worker, 1.0) for worker in range(plan.workers)])
    most = max(len(plan.workers_of(node)) for node in range(plan.nodes))
    exchange = -(-most // plan.lanes) * plan.exchange_seconds + (plan.merge_seconds if plan.nodes > 1 else 0.0)
    mean, shape = plan.window * plan.step_time, plan.window / plan.jitter**2 if plan.jitter else 0.0
    now = busy = 0.0
    rounds = 0
    while not exchanges or rounds < exchanges:
        spans = pace * (mean / shape * random.standard_gamma(shape, plan.workers) if shape else mean)
        end = now + float(spans.max()) + exchange
        if end > limit:
            busy += float(np.minimum(spans, limit - now).sum())
            return limit, rounds, busy
        now, busy, rounds = end, busy + float(spans.sum()), rounds + 1
    return now, rounds, busy
