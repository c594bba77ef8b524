"""A peer: one process, possibly of another virtual environment, that does what it is asked, one line of JSON at a time.

Unlike a `bench.harness.crew.Crew` it shares no Python with us, and nothing but the standard library with what it runs. Both sides of a
comparison that needs two environments are peers, so that neither has an advantage.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from select import select
from typing import Any

__all__ = ["Peer", "serve"]

ROOT = Path(__file__).parents[2]
PATIENCE = 1200.0  # seconds for one answer, where nothing else is said
ENDING = 30.0  # seconds to end after its input has


class Peer:
    """``python -m module``, whose main part calls `serve`. A context manager; it ends with us, for its input does.

    python: of its environment. environment: variables besides ours. patience: seconds for one answer. prefix: a command
    that becomes it. Its words and its children's go to a log, of which an error shows the end.
    """

    def __init__(
        self,
        python: str | Path,
        module: str,
        environment: dict[str, str] | None = None,
        patience: float = PATIENCE,
        prefix: Sequence[str] = (),
    ):
        self.patience = patience
        self.module, self.log = module, os.fdopen(os.memfd_create("log"), "r+b")
        inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
        options = {"cwd": ROOT, "env": inherited | (environment or {}), "start_new_session": True}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.log}
        self.process = subprocess.Popen([*prefix, str(python), "-m", module], **pipes, **options)

    def ask(self, method: str, **settings) -> Any:
        """What ``subject.method(**settings)`` returns there."""
        with contextlib.suppress(BrokenPipeError):  # the missing answer tells more
            self.process.stdin.write(f"{json.dumps([method, settings])}\n".encode())
            self.process.stdin.flush()
        ready, *_ = select([self.process.stdout], [], [], self.patience)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            how = f"exit code {self.process.wait(ENDING)}" if ready else f"silence for {self.patience:g} s"
            raise RuntimeError(f"Expected an answer of {self.module} to {method}. Received: {how}.\n{self.last_words()}")
        answer, error = json.loads(line)
        if error:
            raise RuntimeError(f"{self.module}, asked to {method}: {error}\n{self.last_words()}")
        return answer

    def last_words(self) -> str:
        self.log.seek(0)
        return "\n".join(self.log.read().decode(errors="replace").splitlines()[-40:])

    def close(self) -> None:
        """End it; by force if it does not end."""
        self.process.stdin.close()
        try:
            self.process.wait(ENDING)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process.stdout.close()
        self.log.close()

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *error) -> None:
        self.close()


def serve(subject: Any) -> None:
    """In the peer: obey until the input ends. What anything else prints goes to the standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        method, settings = json.loads(line)
        try:
            answer = [getattr(subject, method)(**settings), None]
        except Exception as error:
            traceback.print_exc()
            answer = [None, f"{type(error).__name__}: {error}"]
        answers.write(f"{json.dumps(answer)}\n")
        answers.flush()
    subject.close()
