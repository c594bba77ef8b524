"""launch over two hosts: it places ranks as told, and whatever happens on either host, the error names it and nothing is left."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults import DATA, NAN
from mpi_ranks import KINDS, ROOT, mpi_of, write_script
from network import Network, Node

from dkcore.launch.launch import importable

LAUNCHER = """
import sys
from dkcore.launch.launch import launch
directory, mpi, hosts, ranks, output, *arguments = sys.argv[1:]
launch(arguments, int(ranks), directory=directory, mpi=mpi, hosts=hosts, rendezvous=15, output=output, temporary=True)
"""
HOSTS = "node0:2,node1:2"
UP = "print('up', flush=True)\nworld.comm.Barrier()\n"


class Launched:
    """A launch in a process of node 0."""

    def __init__(
        self,
        network: Network,
        folder: Path,
        kind: str,
        script: str,
        *arguments: str,
        hosts: str = HOSTS,
        ranks: int = 4,
        job: Path | None = None,
        output: str = "logs",
        agent: str | None = None,
    ):
        self.network, self.job, self.scratch = network, job or folder / "job", folder / "scratch"
        self.scratch.mkdir()
        more = {"DKCORE_LAUNCH_AGENT": agent or str(network.agent), "TMPDIR": str(self.scratch)}
        command = [sys.executable, "-c", LAUNCHER, str(self.job), mpi_of(kind), hosts, str(ranks), output, script, *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(network.nodes[0].command(*command), env=importable({**os.environ, **more}), **pipes)

    def await_ranks(self, ranks: int = 4) -> list[dict]:
        """What all ranks say of themselves, once they have passed the script's first barrier."""
        deadline = time.monotonic() + 20
        while not all((self.job / "logs" / f"rank-{rank}.log").exists() for rank in range(ranks)) or not all(
            "up" in (self.job / "logs" / f"rank-{rank}.log").read_text() for rank in range(ranks)
        ):
            assert self.process.poll() is None and time.monotonic() < deadline, self.process.communicate(timeout=5)
            time.sleep(0.02)
        time.sleep(0.3)
        return [json.loads((self.job / "status" / f"rank-{rank}.json").read_text()) for rank in range(ranks)]

    def end(self, timeout: float = 20) -> str:
        """Wait for its end, and that nothing is left on any node; what it said on its standard error."""
        error = self.process.communicate(timeout=timeout)[1]
        if self.job.parent == Path("/dev/shm"):  # a directory that the nodes do not share: the caller's
            for node in self.network.nodes:
                shutil.rmtree(f"/proc/{node.pid}/root{self.job}", ignore_errors=True)
        self.network.gone(within=3)
        assert list(self.scratch.iterdir()) == []
        return error


@pytest.fixture
def launched(two_nodes, tmp_path):
    """``launched(kind, script, ...)`` starts a `Launched`."""
    started = []

    def start(kind: str, script: str, *arguments: str, **options) -> Launched:
        started.append(Launched(two_nodes, tmp_path, kind, script, *arguments, **options))
        return started[-1]

    yield start
    two_nodes.clear()  # for a test that failed before it ended
    for each in started:
        each.process.communicate(timeout=10)


def named(node: Node, name: str) -> int:
    """The process of a node whose program, or whose script, has that name."""
    found = [pid for pid, line in node.processes().items() if name in {Path(word).name for word in line.split()[:5]}]
    return found[0]


# ---------------------------------------------------------------------- good ends

PLACE = """
import socket
open(f"{sys.argv[1]}/{world.rank}", "w").write(f"{socket.gethostname()} {world.node_rank} {world.node_size} {os.environ.get('COLOUR')}")
"""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("hosts", "ranks", "placed"),
    [
        (HOSTS, 4, ["node0 0 2", "node0 1 2", "node1 0 2", "node1 1 2"]),
        ("node1:2,node0:2", 3, ["node1 0 2", "node1 1 2", "node0 0 1"]),
        ("10.77.0.2,10.77.0.2", 2, ["node1 0 2", "node1 1 2"]),
    ],
)
def test_ranks_are_placed_in_the_order_of_hosts(kind, hosts, ranks, placed, launched, tmp_path, monkeypatch):
    monkeypatch.setenv("COLOUR", "red")  # goes along, which ssh does not do by itself
    job = launched(kind, write_script(tmp_path, PLACE), str(tmp_path), hosts=hosts, ranks=ranks)
    assert (job.end(), job.process.returncode) == ("", 0)
    assert [(tmp_path / str(rank)).read_text() for rank in range(ranks)] == [f"{place} red" for place in placed]


def test_output_of_other_hosts_passes_through(launched, tmp_path):
    job = launched("mpich", write_script(tmp_path, "print('out', world.rank)\nprint('err', world.rank, file=sys.stderr)"), output="inherit")
    out, err = job.process.communicate(timeout=20)
    assert sorted(out.splitlines()) == [f"out {rank}" for rank in range(4)]
    assert sorted(err.splitlines()) == [f"err {rank}" for rank in range(4)]


# ---------------------------------------------------------------------- ranks that fail on another host

ENDS = {
    "raise": ("raise ValueError('boo')", "Error: rank 3 on node1: ValueError: boo"),
    "sys.exit": ("sys.exit(3)", "Error: rank 3 on node1: sys.exit(3)"),
    "os._exit": ("os._exit(3)", "3 on node1: "),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", "{pid} died without an exception."),
    "NaN": (NAN, "Error: rank 3 on node1: NotFiniteError: NaN or infinity in the worker's element 0"),
    "bad data": (DATA, "Error: rank 3 on node1: DataError: Expected a sample for each of 2 workers. Received: 1 samples."),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ENDS)
def test_a_rank_that_fails_on_another_host_is_named(kind, end, launched, tmp_path):
    code, message = ENDS[end]
    body = f"print('last words of', world.rank)\n{UP}if world.rank == 3:\n    time.sleep(0.7)\n    {code}\nworld.comm.Barrier()\n"
    job = launched(kind, write_script(tmp_path, body))
    pid = job.await_ranks()[3]["pid"]
    error = job.end(timeout=10)
    assert job.process.returncode == 1
    assert error.splitlines()[-1].startswith("Error: rank")
    assert message.format(pid=pid) in error.splitlines()[-1]  # its neighbour, whom mpiexec ended with it, may be named beside it
    assert f"ank 3 (pid {pid} on node1)" in error
    assert "last words of 3" in error


# Open MPI may end all ranks before it has heard of the first death, and then any of those that it did not end may be it.
ALONE = {"mpich": "Error: rank 3 on node1: process", "openmpi": "Error: .*rank.* 3 on node1: process"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_rank_is_named_too_when_output_passes_through(kind, launched, two_nodes, tmp_path):
    body = "time.sleep(1)\nif world.rank == 3:\n    os.kill(os.getpid(), signal.SIGKILL)\nworld.comm.Barrier()\n"
    job = launched(kind, write_script(tmp_path, body), output="inherit")
    assert re.search(ALONE[kind] + r".* died without an exception", job.end(timeout=10).splitlines()[-1])


def test_a_death_that_mpiexec_does_not_see_is_told_by_the_neighbours(launched, tmp_path, monkeypatch):
    """Between mpiexec and this rank stands another process, which outlives it."""
    fork = "import os, time\nif os.environ.get('PMI_RANK') == '3' and (child := os.fork()):\n"
    (tmp_path / "sitecustomize.py").write_text(f"{fork}    os.waitpid(child, 0)\n    time.sleep(30)\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    body = f"print('last words of', world.rank)\n{UP}if world.rank == 3:\n    time.sleep(0.7)\n    os._exit(3)\nworld.comm.Barrier()\n"
    job = launched("mpich", write_script(tmp_path, body))
    pid = job.await_ranks()[3]["pid"]
    error = job.end(timeout=10)
    assert f"Error: rank 3 on node1: process {pid} died without an exception" in error.splitlines()[-1]
    assert "last words of 3" in error


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_rank_that_is_alone_on_its_host_is_missed(kind, end, launched, tmp_path):
    """No neighbour sees it die."""
    body = f"print('last words of', world.rank)\n{UP}if world.rank == 1:\n    time.sleep(0.7)\n    {end}\nworld.comm.Barrier()\n"
    job = launched(kind, write_script(tmp_path, body), hosts="node0,node1", ranks=2)
    pid = job.await_ranks(2)[1]["pid"]
    error = job.end(timeout=10)
    assert f"Rank 1 (pid {pid} on node1)" in error
    assert error.splitlines()[-1].startswith("Error: rank 1 on node1: ")
    assert "last words of 1" in error


# ---------------------------------------------------------------------- kills from outside

# 141: the shell there had to say what was killed to an mpiexec that had gone by then.
LOST = r"Error: ranks 2 and 3 on node1: the connection to the host ended with exit code 1(37|41)\."
PROXIES = {"mpich": "hydra_pmi_proxy", "openmpi": "prted"}
SLEEP = UP + "time.sleep(60)"


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_proxy_on_another_host_ends_the_job(kind, launched, two_nodes, tmp_path):
    job = launched(kind, write_script(tmp_path, SLEEP))
    job.await_ranks()
    os.kill(named(two_nodes.nodes[1], PROXIES[kind]), signal.SIGKILL)
    error = job.end(timeout=10)
    assert re.search(LOST, error.splitlines()[-1])


LINE = {"reaper.py": 1, "node.py": 0, "dkcore.launch.ssh_agent": 0}  # the reaper at the other end, what takes ssh's place, who called it


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LINE)
def test_a_killed_line_to_a_host_ends_the_job(kind, name, launched, two_nodes, tmp_path):
    job = launched(kind, write_script(tmp_path, SLEEP))
    job.await_ranks()
    os.kill(named(two_nodes.nodes[LINE[name]], name), signal.SIGKILL)
    error = job.process.communicate(timeout=15)[1]
    two_nodes.gone(within=1)
    assert "RankError" in error
    assert name == "dkcore.launch.ssh_agent" or re.search(LOST, error.splitlines()[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_mpiexec_takes_the_other_host_along(kind, launched, two_nodes, tmp_path):
    job = launched(kind, write_script(tmp_path, SLEEP))
    job.await_ranks()
    os.kill(named(two_nodes.nodes[0], {"mpich": "mpiexec.hydra", "openmpi": "prterun"}[kind]), signal.SIGKILL)
    assert "mpiexec killed by signal 9" in job.end(timeout=10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_ended_launcher_takes_everything_along(kind, number, launched, two_nodes, tmp_path):
    body = f"import subprocess\nsubprocess.Popen(['setsid', 'sleep', '60'])\n{SLEEP}"  # that child is in no group of the proxy's
    job = launched(kind, write_script(tmp_path, body))
    job.await_ranks()
    os.kill(next(pid for pid, line in two_nodes.nodes[0].processes().items() if "from dkcore.launch.launch" in line), number)
    job.end(timeout=10)
    assert number == signal.SIGINT or not job.job.exists()  # it was temporary


HASTY = f"""
import sys
sys.path.append({str(ROOT)!r})
from dkcore.ranks import reaper
reaper.SILENCE = 2.0
sys.exit(reaper.main())
"""


def test_a_host_falls_silent(launched, two_nodes, tmp_path, monkeypatch):
    """Its reaper gets no more bytes of us, as when a network is cut: it must not wait for an end that nobody sends."""
    silence = tmp_path / "reaper.py"
    silence.write_text(HASTY)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(f"from dkcore.ranks import reaper\nreaper.__file__ = {str(silence)!r}\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}/site:{os.environ.get('PYTHONPATH', '')}")
    job = launched("mpich", write_script(tmp_path, SLEEP))
    job.await_ranks()
    began = time.monotonic()  # the agent's bytes are 5 s apart
    assert "node1" in job.end(timeout=10)
    assert time.monotonic() - began < 8


# ---------------------------------------------------------------------- what cannot be started


@pytest.mark.parametrize("kind", KINDS)
def test_a_host_that_does_not_exist(kind, launched, tmp_path):
    began = time.monotonic()
    error = launched(kind, write_script(tmp_path, UP), hosts="node0:2,nowhere:1", ranks=3).end()
    assert time.monotonic() - began < 8
    assert "agent: no host 'nowhere'" in error
    assert "Error: rank 2 on nowhere: the connection to the host ended with exit code 255." in error.splitlines()[-1]


def test_what_ssh_says_is_shown(launched, tmp_path, monkeypatch):
    if shutil.which("ssh") is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("no ssh (Debian's openssh-client)")
    from dkcore.launch.ssh_agent import SSH

    job = launched("mpich", write_script(tmp_path, UP), hosts="node0:2,no-such-host.invalid:1", ranks=3, agent=SSH)
    assert "Could not resolve hostname no-such-host.invalid" in job.end()


@pytest.mark.parametrize("kind", KINDS)
def test_a_directory_that_one_host_does_not_see(kind, launched, tmp_path):
    job = launched(kind, write_script(tmp_path, UP), job=Path("/dev/shm/not-shared"))
    last = job.end().splitlines()[-1]
    assert "FileNotFoundError: Expected the job's directory on every host (/dev/shm/not-shared). Received: none on node1." in last


def test_a_directory_of_the_same_name_is_not_taken_for_the_job_s(launched, two_nodes, tmp_path):
    path = Path(f"/proc/{two_nodes.nodes[1].pid}/root/dev/shm/not-shared/status")
    path.mkdir(parents=True)
    (path / "mark").write_text("of another launch")
    error = launched("mpich", write_script(tmp_path, UP), job=Path("/dev/shm/not-shared")).end()
    assert "Received: none on node1." in error
