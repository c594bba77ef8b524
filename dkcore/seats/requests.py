"""What somebody asks of a running job: files in the job's directory, which the agents of its nodes look for and answer."""

import json
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from dkcore.errors import DkcoreError, expected
from dkcore.ranks.processes import machine
from dkcore.ranks.status import StatusDirectory
from dkcore.training.atomic_files import write_whole
from dkcore.training.job import Job, has_seats

__all__ = ["Request", "answer_requests", "ask"]

FOLDER = "requests"  # in the job's directory; the first agent makes it
PATIENCE = 10.0  # seconds for an agent to answer


@dataclass(frozen=True)
class Request:
    """kind: ``join`` or ``leave``. workers: how many. machine: where, see `dkcore.ranks.processes.machine`."""

    kind: str
    workers: int
    machine: str


def ask(directory: Path, kind: str, workers: int) -> str:
    """Ask the agent of this machine's node of a job; its answer, a sentence. DkcoreError, which says why, when it cannot be."""
    job = Job.load(directory)
    if not has_seats(directory):
        advice = "Start the job with on_worker_loss='restart' or 'shrink'."
        raise DkcoreError(expected("a job with seats", f"{directory}, whose ranks train themselves", advice))
    ranks = StatusDirectory(directory).ranks().values()
    running = [status for status in ranks if status.state == "running" and (status.machine != machine() or status.process() is not None)]
    if not running:
        raise DkcoreError(expected("a job that runs", f"{directory}, of which no rank does", "Has it ended?"))
    here = [status for status in running if status.machine == machine()]
    if not here:
        hosts = ", ".join(sorted({status.host for status in running}))
        raise DkcoreError(expected("a job with ranks on this machine", f"one on {hosts}", "Call it there."))
    folder = job.home / FOLDER
    if not folder.is_dir() or not (job.home / "center").exists():
        raise DkcoreError(expected("a job that trains", "one that has not begun yet", "Try again in a moment."))
    return asked(folder, Request(kind, workers, machine()))


def asked(folder: Path, request: Request) -> str:
    name = f"{request.kind}-{secrets.token_hex(6)}"
    path, answer = folder / f"{name}.json", folder / f"{name}.answer"
    write_whole(json.dumps(asdict(request)), path)
    until = time.monotonic() + PATIENCE
    try:
        while not answer.exists():
            if time.monotonic() > until:
                raise DkcoreError(
                    expected(f"an answer of the job within {PATIENCE:g} s", "none", "Does its first rank of this machine live?")
                )
            time.sleep(0.02)
        said = json.loads(answer.read_text())
    finally:
        path.unlink(missing_ok=True)
        answer.unlink(missing_ok=True)
    if said["failed"]:
        raise DkcoreError(said["text"])
    text: str = said["text"]
    return text


def answer_requests(home: Path, handle: Callable[[Request], str]) -> None:
    """Answer what is asked of this machine's agent; what handle raises is told. The first agent that takes a request answers it."""
    folder = home / FOLDER
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.json"):
        taken = folder / f".taken-{path.stem}-{os.getpid()}"
        try:
            request = Request(**json.loads(path.read_text()))
            if request.machine != machine():
                continue
            path.rename(taken)
        except FileNotFoundError:  # another one was faster, or nobody waits any longer
            continue
        try:
            said = {"failed": False, "text": handle(request)}
        except (DkcoreError, ValueError) as error:
            said = {"failed": True, "text": str(error)}
        write_whole(json.dumps(said), folder / f"{path.stem}.answer")
        taken.unlink()
