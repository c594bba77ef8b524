"""Slots: what the world sees of a worker, and what becomes of one that dies."""

import os
import time

import numpy as np
import pytest

import dkcore as dk
from dkcore import rules

WORK = """
center = dk.Center.attach(sys.argv[1])
workers = [center.worker(rank=rank) for rank in range(int(sys.argv[2]))]
print('claimed', flush=True)
input()
"""


def states(center) -> list[str]:
    return [slot["state"] for slot in center.slots()]


def test_a_slot_shows_how_its_worker_fares():
    start = time.time()
    with dk.Center.create(np.zeros(50), stripe_bytes=64, slots=4) as center:
        assert center.slots() == []  # nobody claimed one
        with center.worker(rank=11) as worker:
            slot = center.slot(worker)
            assert (slot["slot"], slot["state"], slot["pid"], slot["rank"]) == (0, "claimed", os.getpid(), 11)
            assert (slot["exchanges"], slot["steps"], slot["samples"], slot["epoch"]) == (0, 0, 0, 0)
            assert np.isnan(slot["loss"]) and start <= slot["started"] <= slot["heartbeat"] <= time.time()
            call = worker.call(rules.aeasgd)
            for _ in range(3):
                call.flat(np.zeros(50))
            worker.report(steps=36, samples=1152, epoch=2, total_samples=4000, loss=0.25)
            slot = center.slot(worker)
            assert (slot["exchanges"], slot["steps"], slot["samples"], slot["epoch"]) == (3, 36, 1152, 2)
            assert (slot["total_samples"], slot["loss"], slot["histogram"][0]) == (4000, 0.25, 3 * center.stripes)
            assert 0 < call.seconds < slot["exchange_seconds"] < 1
        (slot,) = center.slots()
        assert (slot["state"], slot["exchanges"], slot["loss"]) == ("done", 3, 0.25)  # still there to be read


def test_fresh_slots_are_claimed_before_used_ones():
    with dk.Center.create(np.zeros(3), slots=3) as center:
        for wanted in (0, 1, 2, 0):
            with center.worker(rank=wanted) as worker:
                assert worker.slot.index == wanted
                assert center.counts["live"] == 1
        assert states(center) == ["done"] * 3


def test_slots_run_out():
    with dk.Center.create(np.zeros(3), slots=2) as center, center.worker(), center.worker() as second:
        with pytest.raises(dk.errors.NoRoomError, match=f"all 2 slots of center {center.name} are claimed"):
            center.worker()
        second.release()
        center.worker().release()


def test_a_slot_begins_anew():
    with dk.Center.create(np.zeros(3), slots=1) as center:
        for rank in range(2):
            with center.worker(rank) as worker:
                slot = center.slot(worker)
                assert (slot["rank"], slot["exchanges"], slot["steps"], slot["histogram"].sum()) == (rank, 0, 0, 0)
                assert (slot["exchange_seconds"], slot["staleness_sum"], slot["epoch"], slot["total_samples"]) == (0, 0, 0, 0)
                assert np.isnan(slot["loss"])
                worker.call(rules.aeasgd).flat(np.zeros(3))
                worker.report(steps=5, samples=6, epoch=7, total_samples=8, loss=9)


def test_states_of_those_who_left_and_those_who_died(script):
    with dk.Center.create(np.zeros(3), slots=6) as center, center.worker() as mine:
        killed, leaving = script(WORK, center.name, 2), script(WORK, center.name, 1)
        assert killed.line() == leaving.line() == "claimed"
        assert states(center) == ["claimed"] * 4
        assert center.counts == {"live": 4, "deaths": 0, "recovered": 0, "undone": 0, "kept": 0, "elements": 0}
        leaving.go()
        leaving.end()
        killed.kill()
        assert sorted(states(center)) == ["claimed", "dead", "dead", "done"]  # whoever looks sees it
        assert center.counts == {"live": 1, "deaths": 2, "recovered": 0, "undone": 0, "kept": 0, "elements": 0}
        assert {slot["pid"] for slot in center.slots() if slot["state"] == "dead"} == {killed.pid}
        assert center.slot(mine)["state"] == "claimed"


COUNT = """
center = dk.Center.attach(sys.argv[1])
print('up', flush=True)
input()
for _ in range(200):
    center.counts, center.slots()
print(center.counts['deaths'], center.counts['live'])
"""


def test_a_death_is_counted_once_though_all_look_at_it(script):
    with dk.Center.create(np.zeros(3), slots=8) as center:
        killed = script(WORK, center.name, 3)
        killed.line()
        lookers = [script(COUNT, center.name) for _ in range(3)]
        assert [each.line() for each in lookers] == ["up"] * 3
        for each in lookers:
            each.go()
        killed.kill()
        for each in lookers:
            each.end()
        assert center.counts == {"live": 0, "deaths": 3, "recovered": 0, "undone": 0, "kept": 0, "elements": 0}


def test_the_slot_of_the_dead_is_claimed_again(script):
    with dk.Center.create(np.zeros(3), slots=2) as center:
        killed = script(WORK, center.name, 2)
        killed.line()
        with pytest.raises(dk.errors.NoRoomError):
            center.worker()
        killed.kill()
        with center.worker() as worker:  # nobody looked meanwhile: who claims it counts the death
            assert worker.slot.index == 0
            assert center.counts == {"live": 1, "deaths": 2, "recovered": 0, "undone": 0, "kept": 0, "elements": 0}
            assert states(center) == ["claimed", "dead"]


def test_workers_is_the_number_of_those_who_live(script):
    """consgd divides by it: each progress of 12 moves the center by 12 / workers."""
    with dk.Center.create(np.zeros(3)) as center, center.worker() as worker:
        w, p = np.zeros(3), np.zeros(3)
        call = worker.call(rules.consgd, p=p)

        def moved() -> float:
            before = center.snapshot()[0]
            w[:] += 12
            call.flat(w)
            return center.snapshot()[0] - before

        assert moved() == 12
        other = script(WORK, center.name, 2)
        other.line()
        assert moved() == 4
        other.kill()
        assert center.counts["live"] == 1
        assert moved() == 12
        with center.worker():
            assert moved() == 6
        assert moved() == 12


def test_own_workers_and_others_count_alike():
    with dk.Center.create(np.zeros(3)) as center:
        center.exchange(rules.consgd, np.full(3, 2.0), np.zeros(3))
        assert center.counts["live"] == 1
        assert center.snapshot()[0] == 2
        with center.worker():
            center.exchange(rules.consgd, np.full(3, 6.0), np.full(3, 2.0))
        assert center.snapshot()[0] == 4


def test_place_and_center_agree_whenever_a_worker_is_killed(script):
    """Each exchange adds 1 to all elements of a center of one stripe, and says how many there will have been."""
    code = """
center = dk.Center.attach(sys.argv[1])
worker = center.worker(1)
call, w, steps = worker.call("downpour"), np.zeros(center.size, np.float32), 0
print("ready", flush=True)
while True:
    steps += 1
    w += 1
    worker.place(steps // 10, steps % 10, steps, 4 * steps)
    call.flat(w)
"""
    with dk.Center.create(np.zeros(300, np.float32)) as center:
        for life in range(8):
            before = center.snapshot()[0]
            process = script(code, center.name)
            assert process.line() == "ready"
            time.sleep(0.01 + 0.0137 * life)
            process.kill()
            slot = next(slot for slot in center.slots() if slot["pid"] == process.pid)
            values = set((center.snapshot() - before).tolist())
            epoch, step, steps, samples = slot["place"]
            under_way = slot["begun"] == slot["exchanges"] + 1 and slot["stripes_in"] == 1
            assert 4 * steps == samples and steps == 10 * epoch + step == slot["exchanges"] and values == {float(steps + under_way)}
