"""Several nodes on this machine, for tests and benchmarks: hosts that share a network and a file system, and nothing else.

Design:
(a) A node is one process in namespaces of its own for network, mounts, host name, IPC and processes; see node.py. They have no
    names and live as long as that process, which dies with us: nothing is left, however anything ends.
(b) The nodes' cables lead to a bridge in a namespace of its own. So no network of this machine is touched, and several
    networks may exist at once.
"""

import contextlib
import os
import select
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from mpi_ranks import environment, mpi_of

from dkcore.launch.mpi import find_mpi

NODE = Path(__file__).with_name("node.py")
PROGRAMS = ("ip", "tc", "nsenter", "unshare", "setpriv")
NAMESPACES = ("net", "mount", "uts", "ipc", "pid")
STARTING = 20.0  # seconds
EXPORTED = ("PYTHONPATH", "MPI4PY_LIBMPI", "KERAS_BACKEND", "OPAL_PREFIX", "PATH")  # Open MPI takes along what it is told to
SYSTEM = "/usr/sbin:/sbin"  # not on everybody's PATH


def needs() -> str:
    """What is missing to make nodes; empty when nothing is."""
    if os.geteuid() != 0:
        return "nodes are network namespaces, and only root may make them"
    missing = [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:{SYSTEM}") is None]
    return f"nodes need {', '.join(missing)} (Debian's iproute2 and util-linux)" if missing else ""


class Node:
    """One host. name: its host name. address: on the network. pid: of its first process, seen from here."""

    def __init__(self, folder: Path, name: str, address: str = ""):
        self.folder, self.name, self.address = folder, name, address
        serve = [sys.executable, "-I", "-S", str(NODE), "serve", str(folder), name]
        unshare = ["unshare", *(f"--{kind}" for kind in NAMESPACES), "--fork", "--kill-child", "--mount-proc", *serve]
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *unshare], stdin=subprocess.DEVNULL)
        try:
            self.pid = self.await_first()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        self.first = os.pidfd_open(self.pid)
        self.namespace = os.readlink(f"/proc/{self.pid}/ns/pid")

    def await_first(self) -> int:
        deadline = time.monotonic() + STARTING
        while time.monotonic() < deadline and self.process.poll() is None:
            with socket.socket(socket.AF_UNIX) as client:
                try:
                    client.connect(str(self.folder / self.name))
                except (FileNotFoundError, ConnectionRefusedError):
                    time.sleep(0.02)
                    continue
                return struct.unpack("iII", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        raise RuntimeError(f"{self.name} did not start within {STARTING:g} s")

    def command(self, *command: str, namespaces: tuple[str, ...] = NAMESPACES) -> list[str]:
        """The command that runs a command in this node, from here."""
        return ["nsenter", f"--target={self.pid}", *(f"--{kind}" for kind in namespaces), f"--wdns={os.getcwd()}", "--", *command]

    def run(self, *command: str, namespaces: tuple[str, ...] = ("net",)) -> None:
        """Run a command in this node's network; fails with what it printed."""
        # Not in its namespace of processes: by their pids cables are led from one node to another.
        done = subprocess.run(self.command(*command, namespaces=namespaces), capture_output=True, text=True)
        assert done.returncode == 0, f"{shlex.join(command)}: {done.stdout}{done.stderr}"

    def processes(self) -> dict[int, str]:
        """Pid, as seen from here, and command line of all that runs in this node beside its first process."""
        found = {}
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            try:
                if os.readlink(f"/proc/{pid}/ns/pid") == self.namespace:
                    found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone meanwhile, or none of ours
                continue
        return {pid: line for pid, line in found.items() if line and f" serve {self.folder} " not in line}

    def outer(self, pid: int) -> int:
        """The pid, as seen from here, of the process that has that pid in this node."""
        for candidate in self.processes():
            with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                if f"NSpid:\t{candidate}\t{pid}\n" in Path(f"/proc/{candidate}/status").read_text():
                    return candidate
        raise ProcessLookupError(pid)

    def files(self) -> set[str]:
        """Names in this node's shared memory."""
        return set(os.listdir(f"/proc/{self.pid}/root/dev/shm"))

    def close(self) -> None:
        """End the first process, and wait until all that ran here is gone."""
        self.process.kill()  # the first process dies with it
        select.select([self.first], [], [], STARTING)  # the kernel ends it after all others
        os.close(self.first)
        self.process.wait()


class Network:
    """Nodes that see each other; a context manager.

    nodes: how many. rate: of every cable, as `tc` has it ("1gbit"); None is as fast as this machine.
    """

    def __init__(self, nodes: int = 2, rate: str | None = None):
        if reason := needs():
            (pytest.fail if os.environ.get("CI") == "true" and os.geteuid() == 0 else pytest.skip)(reason)
        self.folder = Path(tempfile.mkdtemp(prefix="nodes-"))
        self.temporary = self.folder / "temporary"  # each node has its own there, as hosts have their own /tmp
        self.temporary.mkdir()
        self.nodes: list[Node] = []
        self.switch: Node | None = None
        try:
            self.build(nodes)
            if rate is not None:
                self.slow(rate)
        except BaseException:
            self.close()
            raise

    def build(self, nodes: int) -> None:
        addresses = {f"node{number}": f"10.77.0.{number + 1}" for number in range(nodes)}
        self.agent = self.folder / "agent"
        self.agent.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {NODE} agent {self.folder} "$@"\n')
        self.agent.chmod(0o755)
        self.switch = Node(self.folder, "switch")
        self.switch.run("ip", "link", "add", "bridge", "up", "type", "bridge")
        (self.folder / "hosts").write_text("127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in addresses.items()))
        for name, address in addresses.items():
            node = Node(self.folder, name, address)
            self.nodes.append(node)
            self.switch.run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(node.pid))
            node.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
            node.run("ip", "link", "set", "eth0", "up")
            self.switch.run("ip", "link", "set", name, "master", "bridge", "up")

    def cut(self, node: int) -> None:
        """Pull a node's cable."""
        self.switch.run("ip", "link", "set", f"node{node}", "down")

    def mend(self, node: int) -> None:
        """Plug it in again, and wait until all have noticed: that it is up, and that what they did not reach meanwhile is there."""
        self.switch.run("ip", "link", "set", f"node{node}", "up")
        command = self.nodes[node].command("ip", "link", "show", "eth0", namespaces=("net",))
        deadline = time.monotonic() + STARTING
        while b"state UP" not in subprocess.run(command, capture_output=True, check=True).stdout:
            assert time.monotonic() < deadline, f"the cable of node{node} stayed down"
            time.sleep(0.02)
        for other in self.nodes:
            other.run("ip", "neighbour", "flush", "dev", "eth0")

    def slow(self, rate: str | None) -> None:
        """Give every cable that rate, in both directions; None takes the limit away."""
        for node in self.nodes:
            if rate is not None:
                node.run("tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", rate, "burst", "64kb", "latency", "50ms")
            else:
                node.run("tc", "qdisc", "delete", "dev", "eth0", "root")

    def command(self, kind: str, ranks_per_node: int, ranks: int | None = None) -> list[str]:
        """A user's own mpiexec, as called in node 0, for that many ranks on each node."""
        mpi, ranks = find_mpi(mpi_of(kind)), ranks_per_node * len(self.nodes) if ranks is None else ranks
        addresses = [node.address for node in self.nodes]
        if kind == "mpich":
            launcher = ["-launcher", "ssh", "-launcher-exec", str(self.agent), "-localhost", addresses[0]]
            return [mpi.mpiexec, *launcher, "-hosts", ",".join(addresses), "-ppn", str(ranks_per_node), "-n", str(ranks)]
        settings = {"plm_ssh_agent": str(self.agent), "btl_tcp_if_include": "eth0", "oob_tcp_if_include": "eth0"}
        settings |= {"mpi_yield_when_idle": "1"}  # all nodes are on the cores of one machine, where ranks that spin starve each other
        mca = [word for name, value in settings.items() for word in ("--mca", name, value)]
        mca += ["--prtemca", "prte_tmpdir_base", str(self.temporary)]  # its daemons write a file of one name, each on its host
        exported = [word for name in EXPORTED if name in environment(kind) for word in ("-x", name)]
        hosts = ",".join(f"{address}:{ranks_per_node}" for address in addresses)
        prefix = str(Path(mpi.mpiexec).parent.parent)
        return [*mpi.command(ranks)[:-2], *mca, *exported, "--prefix", prefix, "--host", hosts, "-n", str(ranks)]

    def run(self, kind: str, *command: str, ranks_per_node: int = 2, ranks: int | None = None, timeout: float = 60,
            **more: str) -> subprocess.CompletedProcess:  # fmt: skip
        """Run a command, or a script of Python's, under mpiexec. ranks: fill as many nodes as they need; None: all nodes.

        more: variables of the environment.
        """
        command = (sys.executable, *command) if command[0].endswith(".py") else command
        mpiexec = self.nodes[0].command(*self.command(kind, ranks_per_node, ranks), *command)
        with subprocess.Popen(mpiexec, env=environment(kind, **more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except BaseException:
                self.clear()  # nsenter alone is our child
                raise
        return subprocess.CompletedProcess(mpiexec, process.returncode, out, err)

    def clear(self) -> None:
        """Kill what runs on the nodes, and empty their shared memory: of a test that failed the next one shall see nothing."""
        for node in self.nodes:
            while processes := node.processes():
                for pid in processes:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            node.run("sh", "-c", f"rm -rf /dev/shm/* {self.temporary}/*", namespaces=("mount",))

    def processes(self) -> dict[str, list[str]]:
        """What runs on each node, where anything does."""
        return {node.name: list(lines.values()) for node in self.nodes if (lines := node.processes())}

    def files(self) -> dict[str, set[str]]:
        """What lies in shared memory of each node, where anything does."""
        return {node.name: files for node in self.nodes if (files := node.files())}

    def gone(self, within: float = 5.0) -> float:
        """Wait until nothing runs and nothing lies in shared memory on any node; the seconds that took. Fails with what is left."""
        began = time.monotonic()
        while self.processes() or self.files():
            assert time.monotonic() < began + within, f"left: processes {self.processes()}, files {self.files()}"
            time.sleep(0.05)
        return time.monotonic() - began

    def close(self) -> None:
        """End all nodes, and with them all that runs there."""
        for node in [*self.nodes, *([self.switch] if self.switch else [])]:
            node.close()
        shutil.rmtree(self.folder)

    def __enter__(self) -> "Network":
        return self

    def __exit__(self, *error) -> None:
        self.close()


class Tolerant(Network):
    """Nodes whose mpiexec, Open MPI's, lets the others go on when a rank dies (ULFM)."""

    def command(self, kind: str, ranks_per_node: int, ranks: int | None = None) -> list[str]:
        mpiexec, *rest = super().command(kind, ranks_per_node, ranks)
        return [mpiexec, "--with-ft", "ulfm", *rest]
