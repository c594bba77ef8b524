"""A real Slurm over the hosts of a `network.Network`: its own munged, slurmctld and one slurmd a host, in a folder of their own."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from network import Network

DAEMONS = ("munged", "slurmctld", "slurmd", "slurmscriptd", "slurmstepd:")
STARTING = 30.0  # seconds
CONF = """
ClusterName=dkcore
SlurmctldHost=node0
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmctldPort=6817
SlurmdPort=6818
SrunPortRange=60001-60063
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1
KillWait=2
TmpFS={folder}/tmp.%n
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """A context manager. network: whose hosts make the cluster, with two CPUs each."""

    def __init__(self, network: Network):
        self.network = network
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.environment = {"SLURM_CONF": str(self.folder / "slurm.conf"), "MUNGE_SOCKET": str(self.folder / "munge.socket")}
        self.started: list[subprocess.Popen] = []

    def __enter__(self) -> "Slurm":
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def start(self) -> None:
        nodes = "\n".join(f"NodeName={node.name} NodeAddr={node.address} CPUs=2 State=UNKNOWN" for node in self.network.nodes)
        (self.folder / "slurm.conf").write_text(CONF.format(folder=self.folder, nodes=nodes))
        for name in ["state", *(f"{kind}.{node.name}" for kind in ("spool", "tmp") for node in self.network.nodes)]:
            (self.folder / name).mkdir()
        (self.folder / "munge.key").write_bytes(os.urandom(1024))
        (self.folder / "munge.key").chmod(0o600)
        files = {name: f"{self.folder}/munge.{name}" for name in ("socket", "pid", "log", "seed")}
        options = {"socket": "--socket", "pid": "--pid-file", "log": "--log-file", "seed": "--seed-file"}
        munge = [f"{options[name]}={path}" for name, path in files.items()]
        self.daemon(0, "munged", "--foreground", "--force", f"--key-file={self.folder}/munge.key", *munge)
        self.wait("munged", lambda: Path(files["socket"]).exists())
        self.daemon(0, "slurmctld", "-D", "-i")
        for number, node in enumerate(self.network.nodes):
            self.daemon(number, "slurmd", "-D", "-N", node.name)
        self.wait("slurmctld and slurmd", self.idle)

    def daemon(self, node: int, *command: str) -> None:
        with open(self.folder / f"{command[0]}.{node}.out", "wb") as out:
            self.started.append(self.popen(*command, node=node, stdout=out, stderr=out))

    def wait(self, what: str, there) -> None:
        deadline = time.monotonic() + STARTING
        while not there():
            told = [*self.folder.glob("*.out"), *self.folder.glob("*.log")]
            logs = "\n".join(f"{path.name}: {path.read_text()[-2000:]}" for path in told)
            assert time.monotonic() < deadline, f"{what} did not start\n{logs}"
            time.sleep(0.1)

    def idle(self) -> bool:
        done = self.run("sinfo", "--noheader", "--format=%D %T")
        return done.stdout.split() == [str(len(self.network.nodes)), "idle"]

    def popen(self, *command: str, node: int = 0, **options) -> subprocess.Popen:
        env = {**os.environ, **self.environment, **options.pop("env", {})}
        env["PATH"] += ":/usr/sbin:/sbin"
        return subprocess.Popen(self.network.nodes[node].command(*command), env=env, stdin=subprocess.DEVNULL, **options)

    def run(self, *command: str, timeout: float = 60, **more: str) -> subprocess.CompletedProcess:
        """A command on the first host, where a user would log in. more: variables of the environment."""
        with self.popen(*command, env=more, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                out, error = process.communicate(timeout=timeout)
            except BaseException:
                self.network.clear()  # nsenter alone is our child; what comes after this finds no Slurm
                raise
        return subprocess.CompletedProcess(command, process.returncode, out, error)

    def gone(self, within: float = 5.0) -> None:
        """Wait until nothing runs on the hosts but Slurm itself, and nothing lies in their shared memory."""
        deadline = time.monotonic() + within
        while left := [*self.jobs(), *self.network.files().items()]:
            assert time.monotonic() < deadline, f"left: {left}"
            time.sleep(0.05)

    def jobs(self) -> list[str]:
        """The command lines of what runs on the hosts, beside Slurm itself."""
        lines = [line for node in self.network.nodes for line in node.processes().values()]
        return [line for line in lines if not {Path(word).name for word in line.split()[:2]} & set(DAEMONS)]

    def close(self) -> None:
        self.network.clear()
        for process in self.started:
            process.wait()
        shutil.rmtree(self.folder)

    def __exit__(self, *error) -> None:
        self.close()
