"""Several hosts, real ones as far as one machine has them: what tests and benchmarks run on, and what dkcore launches there."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mpi_ranks import KINDS, write_script
from network import Network, needs

FACTS = """
import json, socket
facts = {name: getattr(world, name) for name in ("rank", "size", "node_rank", "node_size", "leader", "id", "cores")}
facts |= {"host": socket.gethostname(), "pid": os.getpid(), "sum": world.comm.allreduce(world.rank)}
facts |= {"beside": world.node.allgather(world.rank), "left": [n for n in os.listdir("/dev/shm") if world.id in n]}
open(f"{sys.argv[1]}/{world.rank}", "w").write(json.dumps(facts))
"""


def facts_of(folder: Path, ranks: int) -> list[dict]:
    return [json.loads((folder / str(rank)).read_text()) for rank in range(ranks)]


# ---------------------------------------------------------------------- the nodes themselves


@pytest.mark.parametrize("kind", KINDS)
def test_four_ranks_on_two_nodes(kind, two_nodes, tmp_path):
    done = two_nodes.run(kind, write_script(tmp_path, FACTS), str(tmp_path), ranks_per_node=2)
    assert done.returncode == 0, done.stderr
    facts = facts_of(tmp_path, 4)
    assert [fact["host"] for fact in facts] == ["node0", "node0", "node1", "node1"]
    assert [(fact["size"], fact["node_rank"], fact["node_size"], fact["leader"]) for fact in facts] == [
        (4, 0, 2, True), (4, 1, 2, False), (4, 0, 2, True), (4, 1, 2, False)
    ]  # fmt: skip
    assert [fact["beside"] for fact in facts] == [[0, 1], [0, 1], [2, 3], [2, 3]]
    assert all(fact["sum"] == 6 and fact["left"] == [] for fact in facts)
    assert all(fact["pid"] < 1000 for fact in facts)  # each host counts its own
    assert two_nodes.gone(within=2) < 2


@pytest.mark.parametrize("kind", KINDS)
def test_three_ranks_on_three_nodes(kind, three_nodes, tmp_path):
    done = three_nodes.run(kind, write_script(tmp_path, FACTS), str(tmp_path), ranks_per_node=1)
    assert done.returncode == 0, done.stderr
    facts = facts_of(tmp_path, 3)
    assert [(fact["host"], fact["node_size"], fact["leader"], fact["sum"]) for fact in facts] == [
        (f"node{rank}", 1, True, 3) for rank in range(3)
    ]
    assert three_nodes.gone(within=2) < 2


def test_temporary_files_of_a_node_are_its_own(two_nodes):
    """Open MPI's daemons each write a file of the same name there; what two of them wrote at once made either fail."""
    first, second = two_nodes.nodes
    first.run("touch", f"{two_nodes.temporary}/one", namespaces=("mount",))
    second.run("test", "!", "-e", f"{two_nodes.temporary}/one", namespaces=("mount",))
    assert list(two_nodes.temporary.iterdir()) == []
    two_nodes.clear()
    first.run("test", "!", "-e", f"{two_nodes.temporary}/one", namespaces=("mount",))


LISTEN = """
import socket
with socket.create_server(("10.77.0.2", 7777)) as server:
    print("up", flush=True)
    connection, _ = server.accept()
    while connection.recv(1 << 20):
        pass
    connection.sendall(b"!")
"""
SPEAK = """
import socket, sys, time
with socket.create_connection(("node1", 7777), timeout=1) as server:
    began = time.monotonic()
    server.settimeout(20)
    server.sendall(bytes(int(sys.argv[1])))
    server.shutdown(socket.SHUT_WR)
    server.recv(1)
    print(time.monotonic() - began)
"""


def seconds(network: Network, size: int = 1) -> float | None:
    """To carry that many bytes from node 0 to node 1; None when the way is cut."""
    python = (sys.executable, "-I", "-S", "-c")
    with subprocess.Popen(network.nodes[1].command(*python, LISTEN), stdout=subprocess.PIPE) as listener:
        assert listener.stdout.readline() == b"up\n"
        done = subprocess.run(network.nodes[0].command(*python, SPEAK, str(size)), capture_output=True, text=True)
        network.clear()
    assert done.returncode == 0 or "timed out" in done.stderr or "No route" in done.stderr, done.stderr
    return float(done.stdout) if done.returncode == 0 else None


def test_a_cable_can_be_pulled_and_made_slow(two_nodes):
    assert seconds(two_nodes) is not None
    two_nodes.cut(1)
    assert seconds(two_nodes) is None
    two_nodes.mend(1)
    two_nodes.slow("100mbit")
    size = 5_000_000
    slow = seconds(two_nodes, size)
    assert slow > 0.8 * 8 * size / 100e6  # and longer on a machine that does other things too
    two_nodes.slow(None)
    assert min(seconds(two_nodes, size) for _ in range(3)) < slow / 2


def test_nothing_is_left_of_a_network_whatever_ran_in_it():
    with Network(1) as network:
        (node,), folder = network.nodes, network.folder
        asked = subprocess.Popen(node.command("setsid", "sh", "-c", f"sleep 60; : {folder}"))
        while not node.processes():
            time.sleep(0.01)
        assert len(processes(folder)) >= 4  # two nodes' first processes, nsenter, and what it started
    asked.wait(5)
    assert not folder.exists()
    assert processes(folder) == []


def test_nothing_runs_on_when_who_made_a_network_is_killed():
    code = "import time\nfrom network import Network\nnetwork = Network(2)\nprint(network.folder, flush=True)\ntime.sleep(60)"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [Path(__file__).parents[1], Path(__file__).parents[2]]))}
    with subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True) as maker:
        folder = maker.stdout.readline().strip()
        assert len(processes(folder)) >= 3
        maker.kill()
    shutil.rmtree(folder)
    deadline = time.monotonic() + 5
    while left := processes(folder):
        assert time.monotonic() < deadline, f"left: {left}"
        time.sleep(0.05)


def processes(folder: Path | str) -> list[str]:
    """The command lines on this machine that name a network's folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # gone meanwhile
            found.append(path.read_bytes().replace(b"\0", b" ").decode())
    return [line for line in found if str(folder) in line]


def test_who_cannot_make_nodes_is_told_what_they_need(monkeypatch):
    monkeypatch.setattr("network.PROGRAMS", ("ip", "no-such-program"))
    assert needs() == "nodes need no-such-program (Debian's iproute2 and util-linux)"
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "only root may make them" in needs()
    with pytest.raises(pytest.skip.Exception, match="only root"):
        Network(2)
