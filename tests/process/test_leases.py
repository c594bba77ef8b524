"""Leased batches, with real workers that are killed, leave, join and are slow: each batch of each epoch is in the center once."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dkcore as dk

HERD = Path(__file__).parents[1] / "herd.py"
BATCHES = 97


def herd(**options):
    """What tests/herd.py says: how often batches are in the center, what became of leases, and the steps of each worker."""
    command = [sys.executable, str(HERD), json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0 and not done.stderr, done.stderr
    said = json.loads(done.stdout)
    assert said["failed"] == 0 and said["leases"]["held"] == said["leases"]["waiting"] == 0
    assert said["leases"]["next"] == sum(said["times"].values())
    return said


@pytest.mark.parametrize("slots", [64, 4])
def test_each_batch_is_in_once_or_in_doubt_when_workers_are_killed(slots):
    """Most of their time these workers exchange or lease. Few slots are claimed by one after the other."""
    said = herd(kills=250, epochs=160, naps=[0], stripe_bytes=64, seed=slots, slots=slots)
    assert said["killed"] >= 100, "fewer only if the batches were at their end before"
    assert said["leases"]["returned"] > 50
    assert set(said["times"]) <= {"0.0", "1.0"}, "a batch is in twice"
    assert said["times"].get("0.0", 0) <= said["leases"]["doubtful"]


def test_nothing_is_in_doubt_when_workers_are_killed_while_they_train():
    said = herd(kills=60, epochs=12, naps=[5e-4], seed=2)
    assert said["leases"]["returned"] > 0 and said["leases"]["doubtful"] <= 5 * 3, "about one in a hundred dies within an exchange"
    assert said["times"].get("1.0", 0) >= 12 * BATCHES - said["leases"]["doubtful"]


def test_who_is_half_as_fast_trains_half_as_much():
    """A law of counting: of sleepers, whose pace is not the machine's."""
    said = herd(workers=2, epochs=6, naps=[0.002, 0.004])
    assert said["times"] == {"1.0": 6 * BATCHES}
    assert 0.35 < said["steps"]["1"] / said["steps"]["0"] < 0.65


def test_who_leaves_within_a_window_gives_it_back_and_who_joins_takes_part():
    said = herd(workers=3, epochs=10, leave_after=52)
    assert said["times"] == {"1.0": 10 * BATCHES}
    assert said["leases"]["returned"] == 5 and said["steps"]["0"] > 0


def test_a_failed_exchange_settles_nothing():
    with dk.Center.create(np.zeros(4)) as center, center.worker() as worker:
        center.open_leases(10)
        call = worker.call("downpour", check_finite=True)
        assert worker.lease(4) == (0, 4)
        call.settles = 4
        with pytest.raises(dk.errors.NotFiniteError):
            call.flat(np.array([1.0, 2.0, 3.0, np.nan]))
        assert center.leases["held"] == 4
        call.flat(np.arange(4.0))
        assert center.leases["held"] == 0 and center.leases["next"] == 4


def test_waiting_ends_when_all_before_a_ticket_is_settled_or_something_can_be_leased():
    """What others hold beyond it does not matter."""
    with dk.Center.create(np.zeros(4)) as center, center.worker() as first, center.worker() as second:
        center.open_leases(10)
        assert [first.lease(10), second.lease(9)] == [(0, 10), (10, 9)]
        seen = center.await_leases(10, 0.1)
        assert (seen["open"], seen["busy"]) == (0, 1)
        first.release()
        assert center.await_leases(10, 60.0)["open"] == 1
        call = second.call("downpour")
        call.settles = 9
        call.flat(np.zeros(4))
        assert second.lease(10, until=10) == (0, 10)
        call.settles = 10
        call.flat(np.zeros(4))
        second.lease(1)
        seen = center.await_leases(10, 60.0)
        assert (seen["open"], seen["busy"], seen["held"]) == (0, 0, 1)


def test_what_is_unsettled_is_told_at_one_moment():
    with dk.Center.create(np.zeros(4)) as center, center.worker() as first, center.worker() as second:
        center.open_leases(10)
        assert [first.lease(3), second.lease(3), first.lease(9), second.lease(9, until=20)] == [(0, 3), (3, 3), (6, 4), (10, 9)]
        second.release()
        ranges, seen = center.unsettled()
        assert sorted(map(tuple, ranges.tolist())) == [(0, 3), (3, 3), (6, 4), (10, 9)]
        assert (seen["next"], seen["held"], seen["waiting"], seen["returned"]) == (19, 7, 12, 12)
    with dk.Center.create(np.zeros(4)) as center, center.worker() as worker:
        center.restore_leases(10, seen["next"], ranges)
        assert [worker.lease(20) for _ in range(4)] == [(0, 3), (3, 3), (6, 4), (10, 9)]


@pytest.mark.parametrize(("wrong", "text"), [(lambda c: c.open_leases(9), "Expected 10 batches an epoch"),
                                             (lambda c: c.open_leases(0), "Received: 0"),
                                             (lambda c: c.worker().lease(0), "Expected one batch or more")])  # fmt: skip
def test_what_cannot_be_leased_is_refused(wrong, text):
    with dk.Center.create(np.zeros(4)) as center:
        center.open_leases(10)
        with pytest.raises(ValueError, match=text):
            wrong(center)
