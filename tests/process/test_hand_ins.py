"""Rounds of synchronous methods count hand-ins stripe by stripe: a mean is the mean of what is in it, deaths included."""

import ctypes
import os
import signal

import numpy as np
import pytest

import dkcore as dk
from dkcore.engine.center import NodeCenter
from dkcore.engine.compile import KERNEL
from dkcore.merge.hand_ins import HandIns

STRIPE, STRIPES = 64, 3
SIZE = STRIPE * STRIPES


class Meeting(NodeCenter):
    """A center whose workers meet in rounds."""

    in_rounds = True


def hand_in(center: NodeCenter, value: float, kernel=None) -> None:
    with center.worker() as worker:
        worker.call(dk.rules.averaging.gather, kernel=kernel).flat(np.full(SIZE, value))


def killed_in(center: NodeCenter, stripe: int, value: float) -> None:
    """A process hands in, and is killed when it has written a part of that stripe."""
    pid = os.fork()
    if pid:
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
        return
    calls = []

    @KERNEL
    def half(n, vectors, scalars):
        calls.append(n)
        dies = len(calls) == stripe + 1
        values = np.ctypeslib.as_array(ctypes.cast(vectors[2], ctypes.POINTER(ctypes.c_double)), (n,))
        values[: n // 2 if dies else n] += value
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)

    class Kernel:
        address = ctypes.cast(half, ctypes.c_void_p).value

    hand_in(center, value, Kernel())


def take_round(center: NodeCenter) -> list[int]:
    """What a merge does with the hand-ins of one node; how many there were in each stripe."""
    hand_ins, (chunk,) = HandIns(center, dk.rules.averaging), HandIns(center, dk.rules.averaging).chunks
    values, counts = np.empty(SIZE), np.zeros(STRIPES, np.uint64)
    hand_ins.contribute(chunk, values, counts)
    hand_ins.apply(chunk, values, values, counts, counts)
    return counts.tolist()


@pytest.mark.parametrize("stripe", range(STRIPES))
def test_the_mean_of_a_stripe_is_of_what_was_handed_in_there(stripe):
    with Meeting.create(np.zeros(SIZE), stripe_bytes=STRIPE * 8, rule="averaging") as center:
        assert center.undo == "stripe"
        hand_in(center, 1.0)
        killed_in(center, stripe, 5.0)
        hand_in(center, 2.0)
        assert center.counts["undone"] == 1 and center.counts["kept"] == 0
        reached = np.arange(STRIPES) < stripe
        assert take_round(center) == np.where(reached, 3, 2).tolist()
        np.testing.assert_array_equal(center.snapshot(), np.repeat(np.where(reached, 8 / 3, 3 / 2), STRIPE))
        assert take_round(center) == [0] * STRIPES  # all are taken out
        np.testing.assert_array_equal(center.snapshot(), np.repeat(np.where(reached, 8 / 3, 3 / 2), STRIPE))


def test_what_comes_after_the_leader_has_looked_is_counted_in_the_next_round():
    with Meeting.create(np.zeros(SIZE), stripe_bytes=STRIPE * 8, rule="averaging") as center:
        hand_in(center, 1.0)
        hand_ins = HandIns(center, dk.rules.averaging)
        values, counts = np.empty(SIZE), np.zeros(STRIPES, np.uint64)
        hand_ins.contribute(hand_ins.chunks[0], values, counts)
        hand_in(center, 4.0)
        hand_ins.apply(hand_ins.chunks[0], values, values.copy(), counts, counts)
        np.testing.assert_array_equal(center.snapshot(), np.ones(SIZE))
        assert take_round(center) == [1] * STRIPES
        np.testing.assert_array_equal(center.snapshot(), np.full(SIZE, 5.0))
