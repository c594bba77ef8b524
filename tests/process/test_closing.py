"""A center is closed under somebody's feet: by another thread, a signal's handler, an error, twice at once, or by nobody at all."""

import gc
import os
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest
from mpi_ranks import environment, write_script

import dkcore as dk
from dkcore.engine.compile import compile_kernel
from dkcore.engine.load import engine
from dkcore.engine.merge_formulas import FORMULAS
from dkcore.merge.rounds import GATE

SIZE = 300_000
ROLES = [engine().Role.CENTER, engine().Role.OUTSIDE]


def exchanges(center):
    with center.worker() as worker:
        w, call = np.zeros(SIZE, np.float32), worker.call(dk.rules.downpour)
        while True:
            w += 1
            call.flat(w)


def claims(center):
    while True:
        with center.worker() as worker:
            worker.report(steps=1)
            worker.pull_call().flat(np.zeros(SIZE, np.float32))


def merges(center):
    formula, total = FORMULAS["merge_put_back"], np.zeros(SIZE, np.float32)
    native = engine().Pass(center.segment, compile_kernel(formula, center.dtype), ROLES, formula.scalars, 60.0, 0, SIZE)
    while True:
        native.run(0, center.stripes, (total,))


def meets(center):
    center.segment.set_members(GATE, 9)
    center.segment.wait(GATE, center.segment.arrive(GATE), 1e6)


def waits_for_slower_ones(center):
    with center.worker() as slow, center.worker() as fast:
        slow.report(steps=1)
        call = fast.call(dk.rules.downpour, max_staleness=0, patience=1e6)
        while True:
            call.flat(np.zeros(SIZE, np.float32))


def forever(look):
    def use(center):
        while True:
            look(center)

    return use


LOOKS = (
    lambda center: center.snapshot(),
    lambda center: center.restore(np.zeros(SIZE, np.float32)),
    lambda center: (center.versions, center.counts, center.slots()),
    lambda center: (center.segment.pulse(), center.segment.check(), center.segment.address(0)),
    lambda center: center.exchange(dk.rules.aeasgd, np.zeros(SIZE, np.float32)),
)
USES = (*map(forever, LOOKS), exchanges, claims, merges, meets, waits_for_slower_ones)


def test_a_close_waits_for_what_other_threads_do_and_refuses_what_they_begin():
    """In every order of threads that a few rounds give; a segment that was unmapped too early would end this process."""
    for _ in range(8):
        center = dk.Center.create(np.zeros(SIZE, np.float32), stripe_bytes=1 << 16)
        errors: list[str] = []

        def use(function, center=center, errors=errors) -> None:
            try:
                function(center)
            except BaseException as error:
                errors.append(f"{type(error).__name__}: {error}")

        threads = [threading.Thread(target=use, args=(function,)) for function in USES]
        for thread in threads:
            thread.start()
        time.sleep(0.05)
        closers = [threading.Thread(target=center.close) for _ in range(2)]
        for closer in closers:
            closer.start()
        for closer in closers:
            closer.join()
        assert not os.path.exists(f"/dev/shm/{center.name}")
        for thread in threads:
            thread.join()
        assert len(errors) == len(USES)
        assert {text.split(":")[0] for text in errors} == {"ValueError"}, errors
        assert all("Expected an open center" in text or "Expected a live worker" in text for text in errors), errors


def test_what_was_made_before_a_close_is_refused_after_it():
    center = dk.Center.create(np.zeros(SIZE, np.float32))
    worker = center.worker()
    call, pull, slot, segment = worker.call(dk.rules.adag), worker.pull_call(), worker.slot, center.segment
    formula, w = FORMULAS["merge_put_back"], np.zeros(SIZE, np.float32)
    native = engine().Pass(segment, compile_kernel(formula, center.dtype), ROLES, formula.scalars, 60.0, 0, SIZE)
    center.close()
    uses = {
        "call": [lambda: call.flat(w), lambda: pull.flat(w), lambda: call.address, lambda: setattr(call, "p", w), lambda: call.set_all({})],
        "slot": [lambda: slot.index, lambda: slot.report(1, 1, 1, 1, 1.0), lambda: center.slot(worker)],
        "pass": [lambda: native.run(0, 1, (w,))],
        "segment": [segment.check, segment.pulse, segment.versions, segment.counts, lambda: segment.address(0), lambda: segment.slot(0),
                    lambda: segment.arrive(0), lambda: segment.wait(0, 0, 1.0), lambda: segment.await_members(0, 1.0),
                    lambda: segment.open_gate(0, 0), lambda: segment.set_members(0, 1), lambda: segment.set_others(1, 1),
                    lambda: segment.declare_rule("x"), lambda: segment.declare_broken("x"), lambda: segment.snapshot(0, w, 1.0)],
        "center": [center.worker, center.snapshot, lambda: center.exchange(dk.rules.aeasgd, w)],
    }  # fmt: skip
    for name, several in uses.items():
        for use in several:
            with pytest.raises(ValueError, match=r"Expected (an open center|a live worker)\. Received: "):
                use()
            assert name
    worker.release()
    assert segment.layout()["length"] == SIZE  # what it was can still be told


def test_a_worker_is_not_released_under_its_exchange():
    """That exchange waits here for a slower worker, until the center is closed."""
    center = dk.Center.create(np.zeros(SIZE, np.float32))
    slow, fast = center.worker(), center.worker()
    call = fast.call(dk.rules.downpour, max_staleness=0, patience=1e6)
    errors: list[str] = []

    def exchange() -> None:
        try:
            while True:
                call.flat(np.zeros(SIZE, np.float32))
        except ValueError as error:
            errors.append(str(error))

    thread = threading.Thread(target=exchange)
    thread.start()
    while not center.segment.pulse()["waiting"]:
        time.sleep(0.001)
    for use in (fast.release, lambda: call.flat(np.zeros(SIZE, np.float32)), lambda: call.set_all({})):
        with pytest.raises(RuntimeError, match="Expected one thread at a time. Received: another within an exchange"):
            use()
    slow.release()  # its neighbour goes on
    center.close()
    thread.join()
    assert len(errors) == 1


IN_A_HANDLER = """
import signal, threading, os, time
center = dk.Center.create(np.zeros(1000))
def close(number, frame):
    center.close()
    print("closing", flush=True)
signal.signal(signal.SIGUSR1, close)
def kick():
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGUSR1)
threading.Thread(target=kick).start()
with center.worker() as slow, center.worker() as fast:
    call = fast.call(dk.rules.aeasgd, max_staleness=0, patience=60)
    try:
        while True:
            call.flat(np.zeros(1000))
    except ValueError as error:
        print(error, os.path.exists("/dev/shm/" + center.name))
"""


def test_a_signal_s_handler_closes_within_a_call(script):
    """The close cannot wait for the call that it interrupts."""
    output = script(IN_A_HANDLER).end().splitlines()
    assert output[0] == "closing"
    assert output[1].startswith("Expected an open center. Received: one that was closed during the call.")
    assert output[1].endswith("False")


def test_a_dropped_center_is_freed():
    """At once, and not when the garbage is collected."""
    before = len(os.listdir("/proc/self/fd"))
    center = dk.Center.create(np.zeros(1000))
    center.exchange(dk.rules.aeasgd, np.zeros(1000))
    name, gone = center.name, weakref.ref(center)
    gc.disable()
    try:
        del center
        assert gone() is None
        assert not os.path.exists(f"/dev/shm/{name}")
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        gc.enable()


DROPPED = """
import gc, os, threading
import numpy as np
from dkcore.rules import METHODS
def names():
    return [name for name in os.listdir("/dev/shm") if name.startswith("dkcore-")]
def mapped():
    return sum("/dev/shm/dkcore-" in line for line in open("/proc/self/maps"))
for rule in (None, METHODS["averaging"]):
    for _ in range(3):
        center = dk.Center.of(np.zeros(1000, np.float32), world, rule=rule)
        center.snapshot()
    del center
    gc.collect()
    world.comm.Barrier()
    deadline = time.monotonic() + 20
    while (mapped() or threading.active_count() > 2) and time.monotonic() < deadline:  # of a merge, its thread ends when all have heard
        time.sleep(0.01)
    sys.stdout.write(f"{world.rank} {names()} {mapped()} {len(world.closers) < 4}" + os.linesep)
    sys.stdout.flush()
world.comm.Barrier()
"""


def run(script: str, ranks: int = 2, each: tuple[str, ...] = (), **more: str) -> subprocess.CompletedProcess:
    from dkcore.launch.mpi import find_mpi

    command = [*find_mpi("mpich").command(ranks), *each, sys.executable, script]
    return subprocess.run(command, env=environment("mpich", **more), capture_output=True, text=True, timeout=60)


def test_centers_of_a_job_that_are_dropped_are_freed(tmp_path):
    done = run(write_script(tmp_path, DROPPED))
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [f"{rank} [] 0 True" for rank in (0, 0, 1, 1)]


ERROR = """
import numpy as np
with dk.Center.of(np.zeros(5_000_000, np.float32), world, merge_every=1) as center:
    w = center.snapshot()
    p = w.copy()
    for _ in range(20):
        w += 1
        center.exchange(dk.rules.downpour, w, p)
    if world.rank == 1:
        raise RuntimeError("boom")
    time.sleep(20)
"""
OWN_MEMORY = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs tmpfs /dev/shm && exec "$@"', "sh")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a rank a /dev/shm of its own")
def test_an_error_on_one_of_several_nodes_is_what_is_told(tmp_path):
    """Its center is closed while the thread that merges is at work."""
    done = run(write_script(tmp_path, ERROR), each=OWN_MEMORY, MPIR_CVAR_NOLOCAL="1")
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert "RuntimeError: boom" in done.stderr
    assert "MergeError" not in done.stderr and "ValueError" not in done.stderr
