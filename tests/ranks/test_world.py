"""World, and what happens under a user's own mpiexec; dkcore.launch plays no part here."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mpi_ranks import KINDS, Traces, environment, mpi_of, mpirun, python, write_script

FACTS = """
import json
facts = {name: getattr(world, name) for name in ("rank", "size", "node_rank", "node_size", "leader", "id", "cores")}
facts |= {"again": dk.init() is world, "sum": world.comm.allreduce(world.rank), "beside": world.node.allgather(world.rank)}
facts |= {"shard": world.shard(list(range(11))), "affinity": sorted(os.sched_getaffinity(0))}
facts |= {"threads": os.environ.get("OMP_NUM_THREADS"), "left": [n for n in os.listdir("/dev/shm") if world.id in n]}
open(f"{sys.argv[1]}/{world.rank}", "w").write(json.dumps(facts))
"""


def facts_of(folder: Path, ranks: int) -> list[dict]:
    return [json.loads((folder / str(rank)).read_text()) for rank in range(ranks)]


@pytest.fixture
def traces(tmp_path):
    return Traces(tmp_path)


@pytest.mark.parametrize(("kind", "ranks"), [("mpich", 2), ("mpich", 3), ("openmpi", 3)])
def test_ranks_of_one_machine_are_one_node(kind, ranks, tmp_path, traces):
    done = python(kind, write_script(tmp_path, FACTS), str(tmp_path), ranks=ranks)
    assert done.returncode == 0, done.stderr
    facts = facts_of(tmp_path, ranks)
    assert [(fact["rank"], fact["size"], fact["node_rank"], fact["node_size"]) for fact in facts] == [
        (rank, ranks, rank, ranks) for rank in range(ranks)
    ]
    assert [fact["leader"] for fact in facts] == [True] + [False] * (ranks - 1)
    assert len({fact["id"] for fact in facts}) == 1
    assert all(fact["again"] and fact["sum"] == ranks * (ranks - 1) / 2 for fact in facts)
    assert all(fact["left"] == [] for fact in facts)  # the probe's files are gone before init returns
    assert sorted(row for fact in facts for row in fact["shard"]) == list(range(11))  # every row once
    assert all(fact["cores"] == len(fact["affinity"]) for fact in facts)  # each keeps to its share ...
    assert set.union(*(set(fact["affinity"]) for fact in facts)) == os.sched_getaffinity(0)  # ... and no core is idle
    assert all(fact["threads"] == str(fact["cores"]) for fact in facts)
    assert traces.gone() < 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a process a /dev/shm of its own")
@pytest.mark.parametrize("kind", KINDS)
def test_ranks_are_one_node_only_if_they_see_the_same_shared_memory(kind, tmp_path):
    """Host name and COMM_TYPE_SHARED call these four ranks one node; they are two, and not in the order of the ranks."""
    shm = "mount -t tmpfs tmpfs /dev/shm && echo up && exec sleep 60"
    with subprocess.Popen(["unshare", "--mount", "sh", "-c", shm], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout.readline() == b"up\n"
            enter = f"nsenter --mount=/proc/{other.pid}/ns/mnt --"
            place = f'case "$PMI_RANK$OMPI_COMM_WORLD_RANK" in 1|3) exec {enter} "$@";; *) exec "$@";; esac'
            network = {"MPIR_CVAR_NOLOCAL": "1", "OMPI_MCA_btl": "self,tcp"}
            command = ("sh", "-c", place, "sh", sys.executable, write_script(tmp_path, FACTS), str(tmp_path))
            done = mpirun(kind, *command, ranks=4, **network)
        finally:
            other.kill()
    assert done.returncode == 0, done.stderr
    facts = facts_of(tmp_path, 4)
    assert [fact["beside"] for fact in facts] == [[0, 2], [1, 3], [0, 2], [1, 3]]
    assert [(fact["node_rank"], fact["node_size"], fact["leader"]) for fact in facts] == [
        (0, 2, True), (0, 2, True), (1, 2, False), (1, 2, False)
    ]  # fmt: skip
    assert all(fact["left"] == [] for fact in facts)


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_script_is_a_world_of_one(kind, tmp_path, traces):
    command = [sys.executable, write_script(tmp_path, FACTS), str(tmp_path)]
    env = {**environment(kind), "TMPDIR": str(tmp_path)}  # where Open MPI leaves a folder behind when it runs alone
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    fact = facts_of(tmp_path, 1)[0]
    assert (fact["rank"], fact["size"], fact["node_rank"], fact["node_size"], fact["leader"]) == (0, 1, 0, 1, True)
    assert fact["shard"] == list(range(11))
    assert set(fact["affinity"]) == os.sched_getaffinity(0)
    assert fact["threads"] == os.environ.get("OMP_NUM_THREADS")  # nobody to share with: everything stays as it is
    assert traces.shared() == set()


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shards_cover_every_row_once_without_a_copy(size):
    from dkcore.ranks.world import World

    rows = np.arange(20).reshape(10, 2)
    worlds = [World(rank, size, 0, 1, "", 1, None, None, []) for rank in range(size)]
    shards = [world.shard(rows) for world in worlds]
    assert sorted(np.concatenate(shards)[:, 0]) == list(rows[:, 0])
    assert all(np.shares_memory(shard, rows) for shard in shards)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_a_close_is_final_and_init_joins_anew(tmp_path):
    body = """
with world:
    assert dk.init() is world
world.close()
again = dk.init()
assert again is not world and again.id != world.id
assert again.comm.allreduce(1) == world.size
"""
    done = python("mpich", write_script(tmp_path, body))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_missing_mpi_names_the_command_that_mends_it(tmp_path):
    script = write_script(tmp_path, "")
    env = {**environment("mpich"), "MPI4PY_LIBMPI": "/nonexistent/libmpi.so"}
    done = subprocess.run([sys.executable, script], env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "MissingError: Expected mpi4py and an MPI library. Received: " in done.stderr
    assert 'pip install "dkcore[mpich]"' in done.stderr


def test_ranks_that_loaded_another_mpi_than_their_mpiexec_are_told(tmp_path, traces):
    """Otherwise each would be a world of one, and train alone."""
    library = environment("openmpi")["MPI4PY_LIBMPI"]
    done = python("mpich", write_script(tmp_path, "print('alone')"), MPI4PY_LIBMPI=library, TMPDIR=str(tmp_path))
    assert done.returncode != 0
    assert "Expected a job of 2 ranks, as mpiexec says. Received: 1 in Open MPI" in done.stderr
    assert "alone" not in done.stdout
    assert traces.shared() == set()


# ---------------------------------------------------------------------- ends
# `sh` stands between mpiexec and the rank, and outlives it: so MPI itself sees nothing, as with ranks on other hosts,
# and it is dkcore's watch that is tested.

HIDDEN = ("sh", "-c", '"$@" || sleep 30', "sh", sys.executable)
WAIT = "world.comm.Barrier()\n"


def hidden(kind: str, script: str) -> tuple[subprocess.CompletedProcess, float]:
    """Run two hidden ranks; also the seconds from the moment that the script writes down as its injury."""
    done = mpirun(kind, *HIDDEN, script)
    return done, time.time() - float(Path(f"{script}.when").read_text())


INJURE = """
def note():
    open(f"{sys.argv[0]}.when", "w").write(str(time.time()))
"""


@pytest.mark.parametrize(("kind", "death"), [("mpich", "os._exit(3)"), ("openmpi", "os.kill(os.getpid(), signal.SIGKILL)")])
def test_a_silent_death_ends_the_job_and_is_named(kind, death, tmp_path, traces):
    body = f"{INJURE}\nif world.rank == 1:\n    note()\n    print('pid', os.getpid(), flush=True)\n    {death}\n{WAIT}"
    done, seconds = hidden(kind, write_script(tmp_path, body))
    pid = re.search(r"pid (\d+)", done.stdout)[1]
    assert done.returncode != 0
    assert len(re.findall(rf"^Error: rank 1 on \S+: process {pid} died without an exception", done.stderr, re.M)) == 1
    assert seconds < 5
    assert traces.gone() < 3


def test_a_death_that_mpi_itself_sees_leaves_no_shared_memory(tmp_path, traces):
    """MPICH kills the others at once then, and nobody is left to clean up."""
    body = f"if world.rank == 1:\n    os.kill(os.getpid(), signal.SIGKILL)\n{WAIT}"
    assert python("mpich", write_script(tmp_path, body)).returncode != 0
    assert traces.shared() == set()


def test_a_death_is_seen_though_a_forked_child_lives_on(tmp_path):
    """The child has inherited the file with the lock."""
    body = f"{INJURE}\nif world.rank == 1:\n    note()\n    os.fork() or time.sleep(20)\n    os._exit(3)\n{WAIT}"
    done, seconds = hidden("mpich", write_script(tmp_path, body))
    assert "rank 1" in done.stderr
    assert done.returncode != 0
    assert seconds < 5


def test_a_death_is_seen_by_ranks_that_have_ended_already(tmp_path):
    """They wait for the dead one inside MPI_Finalize, which never returns."""
    body = f"{INJURE}\nif world.rank == 1:\n    time.sleep(1)\n    note()\n    os._exit(3)\n"
    done, seconds = hidden("mpich", write_script(tmp_path, body))
    assert "rank 1" in done.stderr
    assert done.returncode != 0
    assert seconds < 5


@pytest.mark.parametrize("kind", KINDS)
def test_an_uncaught_exception_ends_the_job_without_mpi4py_s_runner(kind, tmp_path, traces):
    body = f"if world.rank == 1:\n    raise ValueError('a rank of its own mind')\n{WAIT}"
    began = time.monotonic()
    done = python(kind, write_script(tmp_path, body))
    assert done.returncode == 1
    assert "ValueError: a rank of its own mind" in done.stderr
    assert time.monotonic() - began < 6
    assert traces.gone() < 3


@pytest.mark.parametrize("where", ["time.sleep(30)", "world.comm.recv(source=world.rank)"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_job_even_inside_mpi(where, number, code, tmp_path, traces):
    body = f"open(f'{{sys.argv[0]}}.{{world.rank}}', 'w').close()\n{where}\n"
    script = write_script(tmp_path, body)
    from dkcore.launch.mpi import find_mpi

    command = [*find_mpi(mpi_of("mpich")).command(2), sys.executable, script]
    with subprocess.Popen(command, env=environment("mpich"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as mpiexec:
        try:
            while not all(os.path.exists(f"{script}.{rank}") for rank in range(2)):
                assert mpiexec.poll() is None
                time.sleep(0.05)
            began = time.monotonic()
            mpiexec.send_signal(number)
            error = mpiexec.communicate(timeout=10)[1].decode()
        finally:
            mpiexec.kill()  # for a test that failed before it ended
    assert mpiexec.returncode == code, error
    assert time.monotonic() - began < 5
    assert traces.gone() < 3


def test_functions_that_would_clean_up_run_when_the_job_is_torn_down(tmp_path):
    body = f"""
world.at_abort(lambda: open(f"{{sys.argv[0]}}.{{world.rank}}", "w").close())
if world.rank == 0:
    world.abort(7, "enough")
{WAIT}"""
    script = write_script(tmp_path, body)
    done = python("mpich", script)
    assert done.returncode == 7
    assert f"Error: rank 0 on {os.uname().nodename}: enough" in done.stderr
    assert os.path.exists(f"{script}.0")
