"""One peer against ours at one size, in turn."""

import tempfile
from contextlib import ExitStack

import numpy as np

from bench.harness.case import Case
from bench.harness.peer import Peer
from bench.machine.caches import sets_beyond
from bench.peers.table import Entry

__all__ = ["Contest", "side_of"]

PATIENCE = 180.0  # seconds for one answer of a peer
SECONDS = 0.15  # of measuring, for each side and line
ROUNDS = 9
FEWEST = 3  # exchanges of a slow peer
SLOW = 1.0  # seconds of an exchange
MOST = 2500  # exchanges a round


def side_of(entry: Entry, stack: ExitStack) -> Peer:
    """Its processes; their temporary files go with them, even if they must be killed."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="dkb-", ignore_cleanup_errors=True))
    return stack.enter_context(Peer(entry.python, entry.module, entry.environment | {"TMPDIR": folder}, PATIENCE, entry.prefix))


class Contest:
    """Both sides prepared, verified, and run: whole exchanges of each, then those that are given their delta."""

    def __init__(self, case: Case, theirs: Peer, ours: Peer, entry: Entry) -> None:
        self.case, self.sides = case, {"theirs": theirs, "ours": ours}
        self.variants = {"theirs": entry.variant, "ours": ""}
        self.sets = sets_beyond(12 * case.size) if entry.rotates else 1
        self.seconds: dict[tuple[str, bool], list[list[list[float]]]] = {}  # a round, a worker, an exchange

    def hold(self, turns) -> None:
        """Measure."""
        self.about = {}
        for side in self.sides:
            self.prepare(side)
        slowest = max(max(about) for about in self.about.values())
        fewest = FEWEST if slowest < SLOW else -(-FEWEST // self.case.workers)
        rounds = int(np.clip(SECONDS / slowest, fewest, ROUNDS))
        self.counts = {name: [int(np.clip(SECONDS / rounds / each, 1, MOST)) for each in about] for name, about in self.about.items()}
        pairs = [(side, given) for given in (False, True) for side in ("theirs", "ours")]
        many, once = (pairs, []) if slowest < SLOW else (pairs[:2], pairs[2:])  # a slow one is handed its delta only once
        turns({pair: lambda pair=pair: self.run(*pair) for pair in many}, rounds=rounds, verify=lambda: None)
        for pair in once:
            self.run(*pair)

    def prepare(self, side: str) -> None:
        """Both sides are verified at this size, before anything is timed."""
        settings = {"size": self.case.size, "workers": self.case.workers, "sets": self.sets, "variant": self.variants[side]}
        self.sides[side].ask("prepare", **settings)
        self.about[side] = self.sides[side].ask("verify")

    def run(self, side: str, given: bool) -> float:
        """One round of one side; the mean seconds of its slowest worker."""
        workers = self.sides[side].ask("run", count=self.counts[side][given], given=given)
        self.seconds.setdefault((side, given), []).append(workers)
        return max(float(np.mean(each)) for each in workers)

    def of(self, side: str, given: bool, kind: str) -> np.ndarray:
        """The seconds of an exchange in each round: the "median" of all, or the "mean" of the slowest worker."""
        rounds = self.seconds[side, given]
        if kind == "median":
            return np.array([np.median(np.concatenate(workers)) for workers in rounds])
        return np.array([max(map(np.mean, workers)) for workers in rounds])
