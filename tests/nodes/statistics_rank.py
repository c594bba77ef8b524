"""One rank of the tests of statistics: moves, exchanges, and tells whether statistics stayed within the range of what workers had.

``OUT EXCHANGES RULE [NAME=VALUE...] [+ RULE ...]``: one line of JSON a case in ``OUT/told-RANK``. RULE: of dkcore.rules, a rule or a
synchronous method; dtype: of the center; others are settings of `Center.of`.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

import dkcore as dk
import dkcore.merge.allreduce
import dkcore.merge.join
from dkcore.formula.synchronous import Synchronous

RULED, STATISTICS = 20_000, 30_000  # a stripe has 16384 of float64: one of them has both
FIXED, AGREED = -1, -2  # elements where all workers are at TENTH; at FIXED the center begins there, too
TENTH = 0.1
dkcore.merge.join.Flat.statistics = STATISTICS
dkcore.merge.allreduce.CHUNK_BYTES = 1  # a chunk a stripe


def start(dtype: str) -> np.ndarray:
    array = np.concatenate([np.zeros(RULED), np.sin(np.arange(STATISTICS))]).astype(dtype)
    array[FIXED] = TENTH
    return array


class Case:
    """One rule. low, high: elementwise, of what this rank's worker had; seen: the same of the center."""

    def __init__(self, name: str, *options: str):
        self.name, given = name, dict(option.split("=", 1) for option in options)
        self.rule, self.dtype = getattr(dk.rules, name), given.pop("dtype", "float64")
        self.scalars = {name: 0.25 for name in self.rule.scalars if name not in ("window", "staleness", "workers")}
        self.center = dk.Center.of(start(self.dtype), world, rule=self.rule, **given)
        first = self.center.snapshot()[RULED:]
        self.low, self.high = first.copy(), first.copy()
        self.seen = [first.copy(), first.copy()]
        self.generator = np.random.default_rng(world.rank)

    def look(self) -> np.ndarray:
        now = self.center.snapshot()[RULED:]
        self.seen = [np.minimum(self.seen[0], now), np.maximum(self.seen[1], now)]
        return now

    def move(self, w: np.ndarray) -> None:
        """Progress in whole numbers; statistics go some way to a point of the rank's own, of any sign and magnitude."""
        w[:RULED] += 1
        goal = (world.rank + 1) * np.cos(np.arange(STATISTICS)) * 10.0 ** self.generator.integers(-3, 3)
        w[RULED:] += (self.generator.random() * (goal - w[RULED:])).astype(self.dtype)
        w[AGREED] = w[FIXED] = TENTH
        self.low, self.high = np.minimum(self.low, w[RULED:]), np.maximum(self.high, w[RULED:])

    def run(self, exchanges: int) -> None:
        method, means = isinstance(self.rule, Synchronous), True
        rule = self.rule.gather if method else self.rule
        with self.center.worker(world.rank) as worker:
            call = worker.call(rule, **(self.rule.part(rule, self.scalars) if method else self.scalars))
            pull, w = worker.pull_call(call.p), start(self.dtype)
            pull.flat(w)
            self.center.membership.learn(self.rule, self.scalars)
            world.comm.Barrier()  # or whoever is the first of a synchronous method would have a round of his own
            for _ in range(exchanges):
                self.move(w)
                everyone = world.comm.allgather(w[RULED:].copy()) if method else []
                call.flat(w)
                if method:
                    self.center.membership.round(30)
                    means = means and np.allclose(self.look(), np.mean(everyone, axis=0), rtol=1e-5, atol=1e-5)
                    means = means and self.center.snapshot()[AGREED] == np.dtype(self.dtype).type(TENTH)
                    if self.rule.pull:
                        pull.flat(w)
                else:
                    self.look()
                    time.sleep(0.002)
            self.center.membership.leave_rounds()
        self.center.finish()
        self.tell(means)

    def tell(self, means: bool) -> None:
        self.look()
        mine = self.center.snapshot()
        low = np.min(world.comm.allgather(self.low), axis=0)
        high = np.max(world.comm.allgather(self.high), axis=0)
        equal = all(other == mine.tobytes() for other in world.comm.allgather(mine.tobytes()))
        told = {"name": self.name, "nodes": world.nodes, "equal": equal, "means": bool(means)}
        told |= {"within": bool((low <= self.seen[0]).all() and (self.seen[1] <= high).all())}
        told |= {"fixed": bool(mine[FIXED] == np.dtype(self.dtype).type(TENTH))}
        told |= {"moved": bool((mine[RULED:] != start(self.dtype)[RULED:]).mean() > 0.9)}
        told |= {"center": sorted(set(mine[:RULED].tolist())), "versions": sorted(set(self.center.versions.tolist()))}
        told |= {"states": max((float(np.abs(self.center.snapshot(state=k + 1)[RULED:]).max()) for k in self.own_states()), default=0.0)}
        merge = self.center.membership.merge
        told |= {"merges": merge.rounds.count if merge else 0}
        self.center.close()
        with open(out / f"told-{world.rank}", "a") as file:
            file.write(json.dumps(told) + "\n")

    def own_states(self) -> range:
        """States of the rule or of the outer step; where statistics are handed in is not one of them."""
        return range(1 if isinstance(self.rule, Synchronous) else 0, len(self.rule.states))


if __name__ == "__main__":
    world, out, exchanges = dk.init(), Path(sys.argv[1]), int(sys.argv[2])
    words: list[str] = []
    for word in [*sys.argv[3:], "+"]:
        if word != "+":
            words.append(word)
        else:
            Case(*words).run(exchanges)
            words = []
