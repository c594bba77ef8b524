"""Pids of another namespace: containers that share /dev/shm, but not their processes, neither break nor take anything of each other."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mpi_ranks import mpirun, write_script

import dkcore as dk
from dkcore.engine.segments import sweep_orphans
from dkcore.ranks import shm

CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a namespace of pids")


def test_a_center_of_another_namespace_is_refused(script):
    """Its locks hold thread ids: that of a neighbour who lives may be of nobody here, and then its stripe would be taken."""
    with dk.Center.create(np.arange(3.0)) as center:
        code = f"try:\n    dk.Center.attach({center.name!r})\nexcept dk.errors.NamespaceError as error:\n    print(error)"
        text = script(code, prefix=CONTAINER).end()
        assert f"Received: {center.name} of another one" in text
        assert "--pid=host" in text and "shareProcessNamespace" in text and "Center.of" in text
        assert center.counts == {"live": 0, "deaths": 0, "recovered": 0, "undone": 0, "kept": 0, "elements": 0}
        np.testing.assert_array_equal(center.snapshot(), [0, 1, 2])


HOLD = "center = dk.Center.create(np.zeros(3))\nworker = center.worker()\nprint(center.name, flush=True)\ninput()"


def test_who_lives_elsewhere_is_not_swept_and_who_died_there_is(script):
    other = script(HOLD, prefix=CONTAINER)
    name = other.line()
    assert sweep_orphans() == []
    shm.remove_orphans()
    assert os.path.exists(f"/dev/shm/{name}")
    other.kill()
    deadline = time.monotonic() + 10
    while os.path.exists(f"/dev/shm/{name}") and time.monotonic() < deadline:
        sweep_orphans()
        time.sleep(0.01)
    assert not os.path.exists(f"/dev/shm/{name}")


RANKS = """
import numpy as np
center = dk.Center.of(np.zeros(1000, np.float32), world)
w = center.snapshot()
p = w.copy()
for _ in range(5):
    w += 1
    center.exchange(dk.rules.downpour, w, p)
center.finish()
print(world.rank, world.nodes, world.node_rank, world.node_size, center.snapshot()[0], flush=True)
center.close()
"""
PLACE = f'case "$PMI_RANK$OMPI_COMM_WORLD_RANK" in 1|2) exec {" ".join(CONTAINER)} "$@";; *) exec "$@";; esac'


def test_ranks_of_several_namespaces_are_nodes_that_merge(tmp_path):
    """Here 0 and 3 share one; 1 and 2 have each its own, as in a container with one rank."""
    command = ("sh", "-c", PLACE, "sh", sys.executable, write_script(tmp_path, RANKS))
    done = mpirun("mpich", *command, ranks=4, timeout=60, UCX_TLS="tcp,self", MPIR_CVAR_NOLOCAL="1")
    assert done.returncode == 0, done.stderr
    told = ["0 3 0 2 20.0", "1 3 0 1 20.0", "2 3 0 1 20.0", "3 3 1 2 20.0"]
    assert sorted("".join(done.stdout.split())) == sorted("".join("".join(told).split())), done.stdout  # mpiexec may tear lines


def test_nobody_is_killed_by_the_pid_that_a_foreign_proc_shows(tmp_path):
    """/proc may be that of another namespace, in which a marked process has the pid that here is somebody else's."""
    mark = f"DKCORE_TEST={os.getpid()}"
    with subprocess.Popen(["env", mark, *CONTAINER, "sleep", "60"]) as other:
        deadline = time.monotonic() + 10
        children = Path(f"/proc/{other.pid}/task/{other.pid}/children")
        while not children.read_text().strip() and time.monotonic() < deadline:
            time.sleep(0.01)
        inner = int(children.read_text())
        code = f"""
import os, sys
sys.path.insert(0, {str(Path(shm.__file__).parents[2])!r})
from dkcore.ranks import processes
print(processes.kill_marked({mark.encode()!r}))
"""
        try:  # in the other's mounts, with our own pids
            enter = ["nsenter", f"--mount=/proc/{inner}/ns/mnt", "--", sys.executable, "-I", "-S", "-c", code]
            done = subprocess.run(enter, capture_output=True, text=True, timeout=30)
            assert (done.returncode, done.stdout) == (0, "None\n"), done.stderr
            os.kill(inner, 0)
            with pytest.raises(subprocess.TimeoutExpired):
                other.wait(0.3)
        finally:
            other.send_signal(signal.SIGKILL)
