"""The life of a segment: how others find it, what they refuse, and that nothing outlives those who hold it."""

import gc
import os
import re
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

import dkcore as dk
from dkcore import rules
from dkcore.engine.segments import sweep_orphans
from dkcore.errors import CenterNotFoundError, LayoutError

SHARED_MEMORY = Path("/dev/shm")
HOLD = """
center = dk.Center.{}
worker = center.worker(rank=7)
print(center.name, flush=True)
input()
"""


def test_who_attaches_sees_the_same_numbers(script):
    with dk.Center.create(np.arange(10.0), name="shared", digest=5, note="hello") as center:
        code = "c = dk.Center.attach('shared', size=10, dtype=float, digest=5)\nc.restore(c.snapshot() + 1)\nprint(c.note, c.digest)"
        assert script(code).end() == "hello 5\n"
        np.testing.assert_array_equal(center.snapshot(), np.arange(10.0) + 1)


def test_attach_waits_for_the_center(script):
    other = script("print('up', flush=True)\nprint(dk.Center.attach('late').snapshot().sum())")
    assert other.line() == "up"
    time.sleep(0.05)
    with dk.Center.create(np.ones(3), name="late"):
        assert other.line() == "3.0"
        other.end()


def test_attach_gives_up():
    start = time.monotonic()
    with pytest.raises(CenterNotFoundError, match=r"no center dkcore-never appeared in 0.1 s"):
        dk.Center.attach("never", timeout=0.1)
    assert 0.1 <= time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ({"size": 99}, "has 100 elements of 4 bytes .*this side has 99 of 0"),
        ({"dtype": np.float64}, "has 100 elements of 4 bytes .*this side has 0 of 8"),
        ({"dtype": np.int32}, "Expected float32 or float64. Received: int32"),
        ({"digest": 2}, r"\(digest 0000000000000001\); this side has .*\(0000000000000002\)"),
    ],
)
def test_another_layout_is_refused(wanted, text):
    with dk.Center.create(np.zeros(100, np.float32), digest=1) as center:
        with pytest.raises(LayoutError, match=text):
            dk.Center.attach(center.name, **wanted)
        dk.Center.attach(center.name, size=100, dtype="float32", digest=1).close()
        dk.Center.attach(center.name).close()


def test_what_is_no_center_is_refused():
    path = SHARED_MEMORY / "dkcore-foreign"
    for content, error, text in ((b"\1" * 8192, LayoutError, "none of its segments"), (b"", CenterNotFoundError, "appeared")):
        path.write_bytes(content)
        with pytest.raises(error, match=text):
            dk.Center.attach("foreign", timeout=0.05)
    assert path.name not in sweep_orphans()
    path.unlink()  # it is its owner's to remove


@pytest.mark.parametrize("first", ["creator", "other"])
def test_the_last_to_close_removes_it(first, script):
    center = dk.Center.create(np.zeros(3))
    other = script(HOLD.format(f"attach({center.name!r})"))
    assert other.line() == center.name
    if first == "other":
        other.go()
        other.end()
        assert (SHARED_MEMORY / center.name).exists()
        center.close()
    else:
        center.close()
        assert (SHARED_MEMORY / center.name).exists()
        other.go()
        other.end()
    assert not (SHARED_MEMORY / center.name).exists()


def test_a_script_that_forgets_to_close_leaves_nothing(script):
    name = script("center = dk.Center.create(np.zeros(3))\nworker = center.worker()\nprint(center.name)").end().strip()
    assert not (SHARED_MEMORY / name).exists()


@pytest.mark.parametrize("sweeper", ["sweep", "create", "create of that name"])
def test_the_orphan_of_a_killed_process_is_swept(sweeper, script):
    killed, alive = script(HOLD.format("create(np.zeros(3))")), script(HOLD.format("create(np.zeros(3))"))
    orphan, held = killed.line(), alive.line()
    killed.kill()
    assert (SHARED_MEMORY / orphan).exists()
    if sweeper == "sweep":
        assert sweep_orphans() == [orphan]
    else:
        with dk.Center.create(np.ones(3), name=orphan if sweeper == "create of that name" else None) as center:
            assert center.snapshot().sum() == 3
    assert not (SHARED_MEMORY / orphan).exists()
    assert (SHARED_MEMORY / held).exists()
    alive.go()
    alive.end()


def test_a_survivor_keeps_the_center_of_a_killed_creator(script):
    killed = script(HOLD.format("create(np.arange(3.0))"))
    with dk.Center.attach(killed.line()) as center:
        killed.kill()
        assert sweep_orphans() == []
        np.testing.assert_array_equal(center.snapshot(), [0, 1, 2])
        assert center.counts == {"live": 0, "deaths": 1, "recovered": 0, "undone": 0, "kept": 0, "elements": 0}


FORK = """
import gc, os
center = dk.Center.create(np.zeros(3))
worker = center.worker()
pid = os.fork()
if pid == 0:
    {}
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert os.path.exists('/dev/shm/' + center.name)
assert center.counts['live'] == 1 and center.slots()[0]['state'] == 'claimed', center.slots()
dk.Center.attach(center.name).close()
center.exchange(dk.rules.aeasgd, np.ones(3))
assert center.snapshot().sum() == 1.5
center.close()
assert not os.path.exists('/dev/shm/' + center.name)
"""


@pytest.mark.parametrize("ending", ["center.close()", "del center, worker; gc.collect()", "worker.release()", "pass"])
def test_a_forked_child_removes_nothing(ending, script):
    """It inherits the parent's locks, and must give away neither the segment nor the slot."""
    script(FORK.format(ending)).end()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("order", ["center first", "worker first", "nobody closes", "in a cycle"])
def test_nothing_stays_open(order):
    before = descriptors()
    center = dk.Center.create(np.zeros(100))
    worker = center.worker()
    call = worker.call(rules.downpour)
    center.exchange(rules.aeasgd, np.zeros(100))
    if order == "worker first":
        worker.release()
    if order == "in a cycle":
        center.cycle = [center, worker, call]
        worker.cycle = center.cycle
    elif order != "nobody closes":
        center.close()
        assert descriptors() == before, "close left a worker's slot locked"
    del center, worker, call
    gc.collect()
    assert descriptors() == before


ROOM = """
import os
from dkcore.errors import NoRoomError
try:
    dk.Center.create(np.zeros(1 << 20))
except NoRoomError as error:
    print(error)
print(os.listdir('/dev/shm'))
with dk.Center.create(np.zeros(1000)) as first:  # 64 slots of 768 bytes are most of it
    try:
        dk.Center.create(np.zeros(125_000))
    except NoRoomError as error:
        print(error)
    print(os.listdir('/dev/shm') == [first.name])
    first.exchange(dk.rules.aeasgd, np.ones(1000))
    print(first.snapshot().sum())
"""


def test_too_little_room_is_an_error_that_says_have_and_need(script):
    shell = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"'
    if os.geteuid() or subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("only root may give a process a small /dev/shm of its own")
    lines = script(ROOM, prefix=("unshare", "--mount", "sh", "-c", shell, "sh")).end().splitlines()
    for line, need in ((lines[0], 8 << 20), (lines[2], 1_000_000)):
        have, needed = map(int, re.match(r"have (\d+) bytes free in /dev/shm, need (\d+): enlarge it", line).groups())
        assert have <= 1 << 20
        assert need < needed < need + (1 << 17)
    assert lines[1] == "[]"
    assert lines[3:] == ["True", "500.0"]
