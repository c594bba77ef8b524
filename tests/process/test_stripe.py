"""Stripes: each a small parameter server whose lock, version and data go together, whatever other processes do."""

import os
import signal
import time

import numpy as np
import pytest

import dkcore as dk
from dkcore import rules
from dkcore.errors import StripeTimeoutError

TOGETHER = """
import time
def together():  # all begin in the same instant, or they would hardly meet
    print('up', flush=True)
    at = float(input())
    while time.time() < at:
        pass
center = dk.Center.attach(sys.argv[1])
worker = center.worker(rank=int(sys.argv[2]))
w = np.empty(center.size, center.dtype)
call = worker.call(dk.rules.downpour)
worker.pull_call(call.p).flat(w)
together()
"""


def start_together(scripts) -> None:
    for each in scripts:
        assert each.line() == "up"
    at = time.time() + 0.02
    for each in scripts:
        each.process.stdin.write(f"{at}\n")
        each.process.stdin.flush()


ADD = (
    TOGETHER
    + """
for k in range(int(sys.argv[3])):
    w += worker.slot.index + 1
    call.flat(w)
center.close()
"""
)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_processes_that_add_integers_lose_nothing(dtype, script):
    workers, times = 4, 400
    with dk.Center.create(np.zeros(30_000, dtype), stripe_bytes=2048) as center:
        scripts = [script(ADD, center.name, rank, times) for rank in range(workers)]
        start_together(scripts)
        for each in scripts:
            each.end()
        np.testing.assert_array_equal(center.snapshot(), times * (1 + 2 + 3 + 4))  # below 2^24: exact in float32
        np.testing.assert_array_equal(center.versions, workers * times)
        assert [slot["state"] for slot in center.slots()] == ["done"] * workers
        late = sum(slot["histogram"][1:].sum() for slot in center.slots())
        assert late > workers * center.stripes, "they worked one after the other: this proved nothing"


POWERS = (
    TOGETHER
    + """
times, seen = int(sys.argv[3]), []
for k in range(times):
    w += 2.0 ** (times * int(sys.argv[2]) + k)
    call.flat(w)
    seen.append(w.copy())
np.save(sys.argv[4], seen)
center.close()
"""
)


def test_exchanges_are_linearizable(script, tmp_path):
    """Every exchange adds a power of two of its own, so that a value of the center is the set of the exchanges before it.

    Of one stripe there must be one order of all exchanges: what the k-th of them returns is the set of the first k. A
    lost update is a bit that is missing afterwards, a doubled one carries into a bit of another, a torn one is a stripe
    whose elements differ. Each of the 10,000 stripes is a trial of its own.
    """
    workers, times, stripes, length = 4, 12, 10_000, 8
    with dk.Center.create(np.zeros(stripes * length), stripe_bytes=64) as center:
        files = [tmp_path / f"{rank}.npy" for rank in range(workers)]
        scripts = [script(POWERS, center.name, rank, times, files[rank]) for rank in range(workers)]
        start_together(scripts)
        for each in scripts:
            each.end()
        final = center.snapshot()
    seen = np.stack([np.load(file) for file in files]).reshape(workers, times, stripes, length)
    assert (final == 2.0 ** (workers * times) - 1).all(), "lost or doubled"
    assert (seen == seen[..., :1]).all(), "torn"
    sets = seen[..., 0].astype(np.uint64)
    own = np.uint64(1) << np.arange(workers * times, dtype=np.uint64).reshape(workers, times, 1)
    assert (sets & own == own).all(), "an exchange that does not see itself"
    history = np.sort(sets.reshape(workers * times, stripes), axis=0)
    before = np.vstack([np.zeros((1, stripes), np.uint64), history[:-1]])
    added = history & ~before
    assert (history & before == before).all(), "no order of all"
    assert (added & (added - np.uint64(1)) == 0).all() and (added > 0).all(), "two exchanges at once"
    assert (history != history[:, :1]).any(), "all stripes saw one order: the workers never met"


CHANGE = (
    TOGETHER
    + """
print('changing', flush=True)
while True:
    w += 1
    call.flat(w)
"""
)


def test_a_snapshot_is_consistent_within_each_stripe(script):
    with dk.Center.create(np.zeros(1 << 17, np.float32), stripe_bytes=1 << 17) as center:
        other = script(CHANGE, center.name, 0)
        start_together([other])
        other.line()
        seen = set()
        while len(seen) < 30:
            stripes = center.snapshot().reshape(center.stripes, -1)
            assert (stripes == stripes[:, :1]).all(), "a torn stripe"
            seen.add(stripes[0, 0])
        other.kill()


def test_staleness_is_exact():
    """Two workers take turns by a script; each is told how many exchanges of others came since its own last one."""
    with dk.Center.create(np.zeros(100), stripe_bytes=64) as center, center.worker() as one, center.worker() as two:
        calls = [worker.call(rules.dynsgd, p=np.zeros(100)) for worker in (one, two)]
        weights = [np.zeros(100), np.zeros(100)]
        seen, value = [], 0.0
        for turn in (0, 0, 1, 0, 1, 1, 0, 0, 0, 1):
            weights[turn] += 1
            calls[turn].flat(weights[turn])
            seen.append(calls[turn].staleness)
            value += 1 / (seen[-1] + 1)  # the damping is that of this very staleness
            np.testing.assert_allclose(center.snapshot(), value)
        assert seen == [0, 0, 2, 1, 1, 0, 2, 0, 0, 3]
        slots = center.slots()
        assert [slot["staleness_sum"] for slot in slots] == [3, 6]
        assert [list(slot["histogram"][:5]) for slot in slots] == [
            [times * center.stripes for times in counts] for counts in ([4, 1, 1, 0, 0], [1, 1, 1, 1, 0])
        ]
        one.pull_call().flat(weights[0])  # to pull is to know all: nothing is stale
        calls[0].flat(weights[0])
        assert calls[0].staleness == 0


def test_staleness_beyond_the_histogram_is_counted_in_its_last_bin():
    with dk.Center.create(np.zeros(8)) as center, center.worker() as one, center.worker() as two:
        w = np.zeros(8)
        calls = [worker.call(rules.aeasgd) for worker in (one, two)]
        for late in (62, 63, 100):
            for _ in range(late):
                calls[0].flat(w)
            calls[1].flat(w)
            assert calls[1].staleness == late
        histogram = center.slots()[1]["histogram"]
        assert (len(histogram), histogram[62], histogram[63], histogram.sum()) == (64, 1, 2, 3)


HOLD = (
    TOGETHER
    + """
@dk.rule
def slow(c, w):
    for _ in range(20):
        c = np.sqrt(c * c + 1)
    return c, w
call = worker.call(slow)
print('holding', flush=True)
while True:
    call.flat(w)
"""
)


def test_a_stopped_holder_gives_a_timeout_that_names_stripe_and_pid(script):
    """It lives, so that nobody may take its lock: the others are told whom to look at."""
    with dk.Center.create(np.zeros(1 << 18), stripe_bytes=1 << 20) as center, center.worker() as worker:
        other = script(HOLD, center.name, 0)
        start_together([other])
        other.line()
        w = np.zeros(center.size)
        call = worker.call(rules.aeasgd, timeout=0.1)
        for _ in range(100):  # it is stopped within an exchange, but seldom between two
            os.kill(other.pid, signal.SIGSTOP)
            try:
                call.flat(w)
            except StripeTimeoutError as caught:
                error = str(caught)
                break
            os.kill(other.pid, signal.SIGCONT)
            time.sleep(0.003)
        assert f"of center {center.name} was locked for 0.1 s, last by the worker in slot 1 (pid {other.pid})" in error
        stripe = int(error.split()[1])
        assert error.startswith("stripe ") and 0 <= stripe < center.stripes
        with pytest.raises(StripeTimeoutError, match=f"stripe {stripe} of"):
            center.snapshot(timeout=0.01)
        with pytest.raises(StripeTimeoutError, match=f"stripe {stripe} of"):
            worker.pull_call(timeout=0.01).flat(w)
        os.kill(other.pid, signal.SIGCONT)
        endless = worker.call(rules.aeasgd, timeout=float("inf"))
        endless.flat(w)  # it goes on as if nothing had happened
        other.kill()
        endless.flat(w)  # the lock of the dead is taken over at once
        assert center.counts["deaths"] == 1


def test_a_stripe_that_is_held_is_passed_by_and_the_others_are_exchanged(script):
    """Who holds it may have lost its core: nobody shall wait for that with other work left to do."""
    with dk.Center.create(np.zeros(1 << 18), stripe_bytes=1 << 17) as center, center.worker() as worker:
        other = script(HOLD, center.name, 0)
        start_together([other])
        other.line()
        w = np.zeros(center.size)
        call = worker.call(rules.aeasgd, timeout=0.1)
        for _ in range(100):
            os.kill(other.pid, signal.SIGSTOP)
            os.waitpid(other.pid, os.WUNTRACED)
            before = center.versions
            try:
                call.flat(w)
            except StripeTimeoutError:
                break
            os.kill(other.pid, signal.SIGCONT)
            time.sleep(0.003)
        assert sorted(center.versions - before) == [0] + [1] * (center.stripes - 1)
        os.kill(other.pid, signal.SIGCONT)
        other.kill()
