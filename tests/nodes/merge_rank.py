"""One rank of the tests of the merge: exchanges whole numbers with centers, one after another, and tells what came of each.

``OUT SIZE EXCHANGES [NAME=VALUE...] [+ SIZE EXCHANGES ...]``: one line of JSON a case in ``OUT/told-RANK``. Who exchanges
``forever`` is ended by something else. Names:

    name          of the case
    dtype, rule   rule: of dkcore.rules, or ``heavy`` below; given=0: `Center.of` is not told of it
    uneven        ranks of the first node exchange so many times as often; idle=1: those of the last node never
    nap, doze     seconds between exchanges; seconds that rank 0 sleeps once
    phases        trainings, each with a finish
    place=1       the worker is put where its step leads, before each exchange, rather than moved by it
    late          seconds that leaders take to begin to merge
    chunk         bytes of a chunk; it has a stripe at least
    learn=0       nobody but the exchanges themselves tells the center of the rule
    together=1    no rank finishes before all have trained
    leave         ``close``, or ``nothing``: without a finish; ``alone``: rank 0 alone calls it; ``others``: all but rank 0
    staleness     the bound; drag: seconds that the last rank takes for each exchange
    odd           a setting that the last rank alone has
    others        settings of `Center.of`
"""

import hashlib
import itertools
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

import dkcore as dk
import dkcore.merge.allreduce
import dkcore.merge.barriers
import dkcore.merge.validation

Merge = dkcore.merge.barriers.Merge
NEVER = 2**62
if "odd=threads" in sys.argv and "1" in (os.environ.get("PMI_RANK"), os.environ.get("OMPI_COMM_WORLD_RANK")):
    import mpi4py

    mpi4py.rc.thread_level = "funneled"
world = dk.init()
last = world.rank == world.size - 1
out = Path(sys.argv[1])
(out / f"pid-{world.rank}").write_text(str(os.getpid()))


@dk.rule
def heavy(c, w, p, v):
    """DOWNPOUR with momentum at the center: v is no sum, for it fades."""
    v = 0.5 * v + (w - p)
    return c + v, c + v, v


def slowly(function, seconds: float):
    """The function, begun so much later."""

    def slow(*arguments):
        time.sleep(seconds)
        return function(*arguments)

    return slow


class Case:
    """What one case says, and what this rank does of it."""

    def __init__(self, size: str, exchanges: str, *options: str):
        given = dict(option.split("=", 1) for option in options)
        self.forever = exchanges == "forever"
        self.size, self.exchanges, self.phases = int(size), 0 if self.forever else int(exchanges), int(given.pop("phases", 1))
        self.name, self.dtype = given.pop("name", ""), given.pop("dtype", "float32")
        self.nap, self.doze, self.bound = float(given.pop("nap", 0)), float(given.pop("doze", 0)), given.pop("staleness", None)
        self.bound = None if self.bound is None else int(self.bound)
        drag = float(given.pop("drag", 0))
        self.nap += drag if last else 0
        rule = given.pop("rule", "downpour")
        self.rule = heavy if rule == "heavy" else getattr(dk.rules, rule)
        self.scalars = {name: 0.25 for name in self.rule.scalars if name not in ("window", "staleness", "workers")}
        self.chunk = int(given.pop("chunk", dkcore.merge.allreduce.CHUNK_BYTES))
        self.late = float(given.pop("late", 0))
        self.together, self.learn = given.pop("together", ""), given.pop("learn", "1") == "1"
        self.place, self.leave, self.odd = given.pop("place", ""), given.pop("leave", "finish"), given.pop("odd", None)
        given |= {"merge_compression": "bf16"} if last and self.odd == "compression" else {}
        node = next(index for index, name in enumerate(world.names) if str(world.rank) in name.partition("rank")[2])
        uneven, idle = int(given.pop("uneven", 1)), given.pop("idle", "")
        self.exchanges *= uneven if node == 0 else 0 if idle and node == world.nodes - 1 else 1
        if given.pop("given", "1") == "1":
            given["rule"] = heavy if last and self.odd == "rule" else self.rule
        if "merge_timeout" in given:
            given["merge_timeout"] = float(given["merge_timeout"])
        self.settings = given
        self.step = (np.arange(self.size) % 7 + world.rank + 1).astype(self.dtype)

    def run(self) -> None:
        version, order = dkcore.merge.validation.VERSION, sys.byteorder
        dkcore.merge.validation.VERSION = "0.0.0" if last and self.odd == "version" else version
        sys.byteorder = "other" if last and self.odd == "byteorder" else order
        array = np.zeros(self.size + (last and self.odd == "size"), "float64" if last and self.odd == "dtype" else self.dtype)
        dkcore.merge.barriers.Merge = slowly(Merge, self.late)
        dkcore.merge.allreduce.CHUNK_BYTES = self.chunk
        self.begun = time.monotonic()
        try:
            self.center = dk.Center.of(array, world, **self.settings)
        except dk.errors.DkcoreError as error:
            return self.tell({"error": f"{type(error).__name__} {error}"})
        finally:
            dkcore.merge.validation.VERSION, sys.byteorder = version, order
        self.highest, self.apart, self.board = 0.0, 0, out / f"counts-{self.name}"
        if self.bound is not None and world.rank == 0:
            np.full(world.size, NEVER).tofile(self.board)
        wanted = [self.wanted(phase + 1) for phase in range(self.phases)]  # now: nobody spins in MPI beside a merge later
        try:
            for phase in range(self.phases):
                self.train()
                told = self.before_finish()
                if self.together:
                    world.comm.Barrier()
                if self.leave == "finish" or (self.leave == "alone" and world.rank == 0) or (self.leave == "others" and world.rank > 0):
                    self.center.finish()
                told |= self.look(phase + 1, wanted[phase]) if self.leave == "finish" else {}
            if self.leave != "nothing":
                self.center.close()
        except dk.errors.DkcoreError as error:
            (out / f"error-{world.rank}").write_text(str(error))
            raise
        merge = self.center.membership.merge
        told |= merge.rounds.sums() | {"agreed": bool((merge.rounds.contributions.agreed[0] == wanted[-1][0]).all())} if merge else {}
        self.tell(told)

    def train(self) -> None:
        center, rule, bound = self.center, self.rule, self.bound
        with center.worker(world.rank) as worker:
            if bound is not None:
                self.counts = np.memmap(self.board, "i8", "r+", shape=(world.size,))
                self.counts[world.rank] = 0
                world.comm.Barrier()
            w, p = np.zeros(self.size, self.dtype), np.zeros(self.size, self.dtype)
            previous = {"p": p} if "p" in rule.vectors else {}
            call = worker.call(rule, **previous, max_staleness=bound, **self.scalars)
            worker.pull_call(p if previous else None).flat(w)
            named = dk.rules.adag if last and self.odd == "worker" else rule
            if self.learn:
                center.membership.learn(named, self.scalars)
            for number in itertools.count() if self.forever else range(self.exchanges):
                w[:] = self.step if self.place else w + self.step
                self.foretell(number + 1)
                call.flat(w)
                time.sleep(self.nap + (self.doze if world.rank == 0 and number == 2 else 0))
                if number == 5:
                    (out / f"begun-{world.rank}").touch()
                self.observe(number + 1)
            self.foretell(NEVER)

    def foretell(self, exchanges: int) -> None:
        """Tell the ranks of all nodes how many this one may have made by now."""
        if self.bound is not None:
            self.counts[world.rank] = exchanges

    def observe(self, exchanges: int) -> None:
        if self.place:
            self.highest = max(self.highest, float((self.center.snapshot() / (np.arange(self.size) % 7 + world.size)).max()))
        if self.bound is not None:
            self.apart = max(self.apart, exchanges - int(self.counts.min()))

    def before_finish(self) -> dict:
        """Bytes of the rounds before the last one, as parts of what they would have been."""
        if (merge := self.center.membership.merge) is None or not merge.rounds.reduction.bytes_plain:
            return {}
        ratio = merge.rounds.reduction.bytes_sent / merge.rounds.reduction.bytes_plain
        return {"ratio": ratio, "merges before": merge.rounds.count, "elapsed": time.monotonic() - self.begun}

    def wanted(self, phases: int) -> list[np.ndarray]:
        """Center and states as numpy has them, if nodes merged at the end alone; for sums, whenever they did."""
        from dkcore.formula.additive import adds_up

        vectors = {name: np.zeros(self.size, self.dtype) for name in self.rule.vectors}
        scalars = self.scalars | {name: 0.0 if name == "staleness" else 1.0 for name in self.rule.scalars if name not in self.scalars}
        for _ in range(self.exchanges * phases):
            vectors["w"] = self.step if self.place else vectors["w"] + self.step
            vectors |= dict(zip(("c", "w", *self.rule.states), self.rule(*vectors.values(), **scalars), strict=True))
            vectors |= {"p": vectors["w"].copy()} if "p" in vectors else {}
        names = ("c", *self.rule.states)
        everyone = world.comm.allgather([vectors[name] for name in names])
        sums = [sum(mine[index] for mine in everyone) for index in range(len(names))]
        return [total if adds_up(self.rule, index) else total / world.nodes for index, total in enumerate(sums)]

    def look(self, phases: int, wanted: list[np.ndarray]) -> dict:
        """What the center holds after a finish."""
        mine = [self.center.snapshot(state=index) for index in range(1 + len(self.rule.states))]
        digest = hashlib.sha256(b"".join(vector.tobytes() for vector in mine)).hexdigest()
        errors = [float(np.abs(one - two).max() / max(np.abs(two).max(), 1)) for one, two in zip(mine, wanted, strict=True)]
        told = {"nodes": world.nodes, "equal": len(set(world.comm.allgather(digest))) == 1, "errors": errors}
        told |= {"exact": bool((mine[0] == wanted[0]).all()), "versions": sorted(set(self.center.versions.tolist()))}
        told |= {"exchanges": phases * world.comm.allreduce(self.exchanges), "apart": self.apart, "highest": self.highest}
        told |= {"final": self.center.membership.final}
        if merge := self.center.membership.merge:
            held = [float(np.abs(residual).max(initial=0)) for residual in merge.rounds.reduction.held.values()]
            told |= {"held": max(held, default=0.0)}
        return told

    def tell(self, told: dict) -> None:
        with open(out / f"told-{world.rank}", "a") as file:
            file.write(json.dumps({"name": self.name, **told}) + "\n")


words: list[str] = []
for word in [*sys.argv[2:], "+"]:
    if word != "+":
        words.append(word)
    else:
        Case(*words).run()
        words = []
