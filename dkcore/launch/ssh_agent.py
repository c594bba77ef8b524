"""Run a command on another host, as mpiexec asks for it: ``python -m dkcore.launch.ssh_agent AGENT [OPTIONS] HOST COMMAND...``.

Design:
(a) It calls ssh, or what is named in DKCORE_LAUNCH_AGENT, as ``ssh HOST COMMAND``, with a reaper around the command: a host
    that we cannot see takes down by itself what came of the job there (ranks/reaper.py).
(b) As long as it lives, it sends a byte now and then. When ssh, this process, its host or the network dies, the reaper at the
    other end gets no more of them, and acts.
(c) When the connection ends, it leaves word of that for the launcher, who could not tell a lost host from a slow one.
"""

import contextlib
import json
import os
import secrets
import shlex
import subprocess
import sys
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path

from dkcore.ranks.processes import REMOTE_MARK
from dkcore.ranks.reaper import Plan
from dkcore.ranks.status import StatusDirectory

__all__ = ["AGENT", "SSH", "Agent"]

AGENT = "DKCORE_LAUNCH_AGENT"
# No questions to a terminal; a host that is switched off is one that is lost.
SSH = "ssh -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=10 -o ServerAliveCountMax=3"
HEARTBEAT = 5.0  # seconds between two bytes


@dataclass(frozen=True)
class Agent:
    """What takes ssh's place for mpiexec.

    program: ssh, or what is called as it is, with its options. directory: the job's. scratch: its folder for temporary files.
    """

    program: str
    directory: str
    scratch: str

    def install(self) -> str:
        """Write a program for mpiexec into the scratch folder, which calls this module; its path."""
        path = Path(self.scratch, "agent")
        command = shlex.join([sys.executable, "-P", "-m", "dkcore.launch.ssh_agent", json.dumps(asdict(self))])
        path.write_bytes(os.fsencode(f'#!/bin/sh\nexec {command} "$@"\n'))
        path.chmod(0o700)
        return str(path)

    def run(self, host: str, command: str) -> int:
        """Run a command of the other host's shell; its exit code, 128 + n when signal n killed it."""
        remote = shlex.join(self.plan(host, command).reaper())
        with subprocess.Popen([*shlex.split(self.program), host, remote], stdin=subprocess.PIPE, bufsize=0) as connection:
            code = send_heartbeats(connection)
        StatusDirectory(self.directory).write_lost_connection(host, code)
        return code

    def plan(self, host: str, command: str) -> Plan:
        """That of the reaper there."""
        mark = secrets.token_hex(8)
        scratch = f"{self.scratch}-{mark}"  # the path here may be another host's as well, if they share their /tmp
        shell = ["/bin/sh", "-c", command.replace(self.scratch, scratch)]
        return Plan(shell, self.directory, mark, scratch, variable=REMOTE_MARK, host=host)


def send_heartbeats(connection: subprocess.Popen[bytes]) -> int:
    """Send bytes until the command ends; its exit code, 128 + n when signal n killed it."""
    assert connection.stdin is not None  # a pipe
    while True:
        try:
            connection.stdin.write(b".")
        except BrokenPipeError:  # it reads no more: it has ended, or is about to
            connection.wait()
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = connection.wait(HEARTBEAT)
            return code if code >= 0 else 128 - code


def main() -> int:
    """Run the command there; its exit code."""
    agent, words = Agent(**json.loads(sys.argv[1])), sys.argv[2:]
    host, *command = words[len(list(takewhile(lambda word: word.startswith("-"), words))) :]  # options are ssh's: -x of hydra
    return agent.run(host, " ".join(command))


if __name__ == "__main__":
    sys.exit(main())
