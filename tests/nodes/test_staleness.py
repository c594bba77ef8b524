"""Bounded staleness: nobody is more than so many exchanges ahead of the slowest worker that lives."""

import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from mpi_ranks import KINDS

import dkcore as dk
from dkcore import errors, rules

SCRIPT = str(Path(__file__).with_name("merge_rank.py"))


class Runner:
    """A worker in a thread that makes as many exchanges as it may."""

    def __init__(self, center: dk.Center, bound: int, exchanges: int = 50, patience: float = 30.0):
        self.worker, self.error = center.worker(), None
        self.call = self.worker.call(rules.downpour, max_staleness=bound, patience=patience)
        self.thread = threading.Thread(target=self.run, args=(center.size, exchanges))
        self.thread.start()

    def run(self, size: int, exchanges: int) -> None:
        try:
            for _ in range(exchanges):
                self.call.flat(np.zeros(size))
        except errors.DkcoreError as error:
            self.error = error

    def settled(self, center: dk.Center) -> int:
        """Its exchanges, once it makes no more."""
        before = -1
        while (now := center.slot(self.worker)["exchanges"]) != before:
            before = now
            time.sleep(0.15)
        return now


@pytest.fixture
def center():
    with dk.Center.create(np.zeros(100)) as made:
        yield made


@pytest.mark.parametrize("bound", [0, 1, 4])
def test_it_waits_while_it_is_too_far_ahead(center, bound):
    slow = center.worker()
    call = slow.call(rules.downpour)
    fast = Runner(center, bound, exchanges=bound + 3)
    assert fast.settled(center) == bound + 1  # the last one began when it was not more than the bound ahead
    call.flat(np.zeros(100))
    assert fast.settled(center) == bound + 2
    call.flat(np.zeros(100))
    fast.thread.join(10)
    assert not fast.thread.is_alive() and fast.error is None


def test_who_is_done_is_not_waited_for(center):
    slow = center.worker()
    fast = Runner(center, 2)
    assert fast.settled(center) == 3
    slow.release()
    fast.thread.join(10)
    assert center.slot(fast.worker)["exchanges"] == 50


def test_the_dead_are_not_waited_for(center, script):
    other = script("center = dk.Center.attach(sys.argv[1])\nworker = center.worker()\nprint('up', flush=True)\ninput()", center.name)
    assert other.line() == "up"
    fast = Runner(center, 2)
    assert fast.settled(center) == 3
    other.kill()
    fast.thread.join(10)
    assert center.slot(fast.worker)["exchanges"] == 50
    assert center.counts["deaths"] == 1


def test_patience_has_an_end_that_names_what_was_waited_for(center):
    slow = center.worker()
    fast = Runner(center, 2, patience=0.3)
    fast.thread.join(10)
    assert isinstance(fast.error, errors.StripeTimeoutError)
    assert "stood at 0 exchanges for 0.3 s, and none may be more than 2 ahead" in str(fast.error)
    slow.release()


def test_a_broken_center_ends_the_wait(center):
    slow = center.worker()
    fast = Runner(center, 2)
    assert fast.settled(center) == 3
    center.segment.declare_broken("node7 is gone")
    fast.thread.join(10)
    assert isinstance(fast.error, errors.MergeError) and "node7 is gone" in str(fast.error)
    slow.release()


@pytest.mark.parametrize("bound", [-1, 1.5, True, "2"])
def test_a_bound_that_cannot_be_meant_is_refused(center, bound):
    with pytest.raises(ValueError, match="max_staleness of 0 or more"):
        dk.Exchange(center, rules.adag, max_staleness=bound)


def test_it_holds_over_nodes_though_they_would_merge_seldom(two_nodes, tmp_path):
    """Who waits for a worker of another node hears of it by a merge only, and asks for one: nothing stands still."""
    settings = ["staleness=3", "merge_every=1000000", "nap=0.002"]
    done = two_nodes.run("mpich", SCRIPT, str(tmp_path), "1000", "40", *settings, ranks_per_node=2)
    assert done.returncode == 0, done.stderr
    told = [json.loads(path.read_text().splitlines()[-1]) for path in sorted(tmp_path.glob("told-*"))]
    assert len(told) == 4
    assert all(one["exact"] and one["equal"] for one in told)
    assert max(one["apart"] for one in told) <= 4  # 3 ahead when it began, and that one
    assert told[0]["merges"] > 5


BOUNDS = {  # the last rank is the slow one; no merge would bring news of it
    0: "100 60 staleness=0 drag=0.005 merge_every=1000000",
    1: "100 60 staleness=1 drag=0.005 merge_every=1",
    3: "100 60 staleness=3 drag=0.005 merge_every=1000000 phases=2",
    1000: "100 60 staleness=1000 drag=0.005 merge_every=1000000",
}


@pytest.mark.parametrize("ranks_per_node", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_it_holds_between_nodes_from_the_first_exchange_on(two_nodes, kind, ranks_per_node, tmp_path):
    words = " + ".join(f"{case} name={bound}" for bound, case in BOUNDS.items()).split()
    done = two_nodes.run(kind, SCRIPT, str(tmp_path), *words, ranks_per_node=ranks_per_node)
    assert done.returncode == 0, done.stderr
    apart = dict.fromkeys(BOUNDS, 0)
    for path in tmp_path.glob("told-*"):
        for told in map(json.loads, path.read_text().splitlines()):
            assert told["exact"] and told["equal"]
            apart[int(told["name"])] = max(apart[int(told["name"])], told["apart"])
    assert apart.pop(1000) > 30  # what they do when they may
    # One more, since the last one began within the bound; who looks may miss the moment when they were farthest apart.
    assert all(bound <= found <= bound + 1 for bound, found in apart.items()), apart
