"""Forked children are no ranks and no workers: they give up what is their parent's, and their end is theirs alone."""

import os
import select
import subprocess
import sys

import pytest
from mpi_ranks import KINDS, python, write_script

from dkcore.launch.launch import importable

KILLED = """
import os, time
center = dk.Center.attach(sys.argv[1])
worker = center.worker(7)
call = worker.call(dk.rules.aeasgd)
center.exchange(dk.rules.aeasgd, np.zeros(10))
if os.fork() == 0:
    try:
        call.flat(np.zeros(10))
    except ValueError as error:
        print(error, flush=True)
    center.exchange(dk.rules.aeasgd, np.zeros(10))  # by a worker of its own
    print([slot["state"] for slot in center.slots()], flush=True)
    time.sleep(60)
time.sleep(60)
"""


def test_a_forked_child_does_not_keep_a_killed_worker_alive(script):
    """A data loader has copies of the descriptors whose locks say that a worker lives."""
    import numpy as np

    import dkcore as dk

    with dk.Center.create(np.zeros(10)) as center:
        parent = script(KILLED, center.name)
        assert parent.line() == "Expected a worker of this process. Received: its parent's. Claim another with center.worker()."
        assert parent.line() == "['claimed', 'claimed', 'claimed']"
        (child,) = {slot["pid"] for slot in center.slots()} - {parent.pid}
        try:
            parent.process.kill()
            parent.process.wait()
            assert center.counts == {"live": 1, "deaths": 2, "recovered": 0, "undone": 0, "kept": 0, "elements": 0}
            with center.worker() as worker:
                call = worker.call(dk.rules.aeasgd, max_staleness=2, patience=60)
                for _ in range(3):
                    call.flat(np.zeros(10))
        finally:
            process = os.pidfd_open(child)
            os.kill(child, 9)
            select.select([process], [], [], 10)
            os.close(process)


CHILDREN = """
import atexit, multiprocessing
import numpy as np
center = dk.Center.of(np.zeros(10, np.float32), world)
def child(how):
    if how == "exit":
        sys.exit(3)
    if how == "raise":
        raise ValueError("of the child")
    if how == "close":
        center.close()
    if how == "wait":
        time.sleep(60)
for how in ("exit", "raise", "close", "end"):
    if (pid := os.fork()) == 0:
        child(how)
        sys.exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == {"exit": 3, "raise": 1}.get(how, 0), (how, code)
loader = multiprocessing.get_context("fork").Process(target=child, args=("wait",))
loader.start()
loader.terminate()  # SIGTERM, which ends a rank and its job
loader.join()
assert loader.exitcode == -signal.SIGTERM, loader.exitcode
time.sleep(1.5)  # what a watch takes to make something of it
world.comm.Barrier()
w = center.snapshot()
center.exchange(dk.rules.downpour, w + 1, w)
center.finish()
sys.stdout.write(f"{world.rank} {center.snapshot()[0]:g}" + os.linesep)
center.close()
"""


@pytest.mark.parametrize("kind", KINDS)
def test_however_a_child_of_a_rank_ends_the_job_goes_on(kind, tmp_path):
    done = python(kind, write_script(tmp_path, CHILDREN))
    assert (done.returncode, sorted(done.stdout.splitlines())) == (0, ["0 2", "1 2"]), done.stderr
    assert done.stderr.count("ValueError: of the child") == 2


def test_however_a_child_of_a_launched_rank_ends_the_job_goes_on(tmp_path):
    """There its exit would also be told to the launcher as its rank's."""
    command = [sys.executable, "-P", "-m", "dkcore", "run", "-n", "2", write_script(tmp_path, CHILDREN)]
    done = subprocess.run(command, env=importable(dict(os.environ)), capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert (done.returncode, sorted(done.stdout.splitlines())) == (0, ["0 2", "1 2"]), done.stderr
