"""The communicator of threads: each call does what mpi4py's does, shown by one program that runs over both."""

import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from mpi_ranks import mpirun

from dkcore.errors import RankError
from dkcore.ranks.thread_comm import ThreadRoll, communicators

SIZE = 3


def program(comm) -> list:
    """All calls that seats make, and what came of them; as JSON has it."""
    rank, said = comm.rank, []
    said.append([comm.size, comm.allgather({"rank": rank, "tuple": (1, 2)})])
    shared = ["of root"] if rank == 1 else None
    received = comm.bcast(shared, root=1)
    received.append(rank)  # each has an object of its own
    said.append([received, comm.allgather(received), comm.bcast(f"of {rank}")])
    numbers, data = np.full((2, 3), rank, np.float32), bytearray([rank] * 4)
    comm.Bcast(numbers, root=2)
    comm.Bcast(data, root=0)
    said.append([numbers.tolist(), list(data)])
    right, left = (rank + 1) % comm.size, (rank - 1) % comm.size
    for number in range(3):
        comm.send([rank, number], right, tag=7)
        comm.send({"other tag": number}, right)
    said.append([[comm.recv(source=left, tag=7) for _ in range(3)], [comm.recv(source=left) for _ in range(3)]])
    other = comm.Dup()  # its calls are apart: one on each, in another order on each rank
    request = comm.Ibarrier()
    gathered = other.allgather(rank * 10)
    while not request.Test():
        time.sleep(0.001)
    said.append([other.size, other.rank, gathered, request.Test()])
    other.send("first", right)
    comm.send("second", right)
    said.append([comm.recv(source=left), other.recv(source=left)])
    early = comm.Ibarrier() if rank else None
    if early is not None:
        said.append(early.Test() and "early")  # rank 0 waits for the others' word before it comes
        comm.send("asked", 0, tag=1)
    else:
        said.append([comm.recv(source=other, tag=1) for other in (1, 2)] and False)
        early = comm.Ibarrier()
    comm.Barrier()
    while not early.Test():
        time.sleep(0.001)
    other.Free()
    return json.loads(json.dumps(said))


def in_threads(run, size: int = SIZE) -> list:
    """What a function of a rank's communicator returns, by rank."""
    results: list = [None] * size
    ranks = [threading.Thread(target=lambda comm: results.__setitem__(comm.rank, run(comm)), args=(each,)) for each in communicators(size)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(20)
        assert not rank.is_alive(), "a call that waits for ever"
    return results


def test_each_call_does_what_mpi4py_says(tmp_path):
    head = f"import sys\nsys.path[:0] = {[path for path in sys.path if path]!r}\n"
    body = "from mpi4py import MPI\nfrom test_thread_comm import program\nsaid = MPI.COMM_WORLD.gather(program(MPI.COMM_WORLD))\n"
    (tmp_path / "script.py").write_text(head + body + "if said:\n    import json\n    print(json.dumps(said))\n")
    done = mpirun("mpich", sys.executable, str(tmp_path / "script.py"), ranks=SIZE)
    assert done.returncode == 0, done.stderr
    assert in_threads(program) == json.loads(done.stdout)


def test_a_barrier_waits_for_all():
    """Also the last of many: nobody is a call ahead."""
    came = [0] * SIZE

    def run(comm) -> bool:
        together = True
        for number in range(1, 300):
            came[comm.rank] = number
            comm.Barrier()
            together &= min(came) >= number
            comm.Barrier()
        return together

    assert in_threads(run) == [True] * SIZE


def test_buffers_of_other_sizes_are_refused():
    def run(comm) -> str:
        try:
            comm.Bcast(bytearray(4 + comm.rank), root=0)
        except ValueError as error:
            return str(error)
        return ""

    first, second = in_threads(run, 2)
    assert not first and "a buffer of 4 bytes, as rank 0 has. Received: 5" in second


def test_a_roll_call_names_who_has_ended():
    """Who ended after it had answered is no culprit."""

    def run(comm) -> str:
        roll = ThreadRoll(comm)
        roll.call("the first")
        if comm.rank == 1:
            roll.leave()
            return ""
        with pytest.raises(RankError, match="every rank at the second. Received: the end of rank 1 without it") as failed:
            roll.call("the second")
        return f"{failed.value.rank} {roll.open}"

    assert in_threads(run) == ["1 True", "", "1 True"]


def test_it_needs_no_mpi():
    code = "import sys\nfrom dkcore.ranks import agent_world\nprint(sorted(name for name in sys.modules if 'mpi4py' in name))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
