"""Run a command on another host, as mpiexec asks for it: ``python -m dkcore.agent PLAN [OPTIONS] HOST COMMAND...``.

Design:
(a) It calls ssh, or what is named in DKCORE_LAUNCH_AGENT, as ``ssh HOST COMMAND``, with a guard around the command: a host
    that we cannot see takes down by itself what came of the job there (guard.py).
(b) As long as it lives, a byte goes down the line now and then. When ssh, this process, its host or the network dies, the
    guard at the other end hears no more, and acts.
(c) When the line ends, it leaves word of that for the launcher, who could not tell a lost host from a slow one.
"""

import contextlib
import json
import secrets
import shlex
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

from dkcore.guard import leave_word

__all__ = ["AGENT", "SSH", "write_agent"]

AGENT = "DKCORE_LAUNCH_AGENT"
# No questions to a terminal; a host that is switched off is one that is lost.
SSH = "ssh -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=10 -o ServerAliveCountMax=3"
BEAT = 5.0  # seconds between two bytes


def main() -> int:
    """Run the command there; its exit code."""
    plan, words = json.loads(sys.argv[1]), sys.argv[2:]
    host, *command = words[len(list(takewhile(lambda word: word.startswith("-"), words))) :]  # options are ssh's: -x of hydra
    there = guarded(host, " ".join(command), plan)
    with subprocess.Popen([*shlex.split(plan["agent"]), host, there], stdin=subprocess.PIPE, bufsize=0) as line:
        code = beat(line)
    leave_word(plan["directory"], host, code)
    return code


def beat(line: subprocess.Popen) -> int:
    """Send bytes until the command ends; its exit code, 128 + n when signal n killed it."""
    while True:
        try:
            line.stdin.write(b".")
        except BrokenPipeError:  # it reads no more: it has ended, or is about to
            line.wait()
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = line.wait(BEAT)
            return code if code >= 0 else 128 - code


def guarded(host: str, command: str, plan: dict) -> str:
    """The words for the other host's shell that run a command of its shell under a guard of its own."""
    mark = secrets.token_hex(8)
    scratch = f"{plan['scratch']}-{mark}"  # the path here may be another host's as well, if they share their /tmp
    there = {"launcher": None, "mark": mark, "variable": "DKCORE_GUARDED", "directory": plan["directory"], "scratch": scratch,
             "host": host, "temporary": False, "command": ["/bin/sh", "-c", command.replace(plan["scratch"], scratch)]}  # fmt: skip
    return shlex.join([plan["python"], "-I", "-S", plan["guard"], json.dumps(there)])


def write_agent(plan: dict) -> str:
    """The path of a program for mpiexec that calls this one with a plan; it is in the plan's scratch folder."""
    path = Path(plan["scratch"], "agent")
    path.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, "-P", "-m", "dkcore.agent", json.dumps(plan)])} "$@"\n')
    path.chmod(0o700)
    return str(path)


if __name__ == "__main__":
    sys.exit(main())
