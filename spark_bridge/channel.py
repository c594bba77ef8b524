"""The line between the driver and each rank's task: files of a job's directory go to the driver as they change.

Design:
(a) The driver listens, each task connects once and stays connected; both know a secret that Spark carried there.
(b) What comes is files, for the driver's own directory of the job: so what explains a failure, and what collects the results
    of a job on this machine, serves here too.
(c) The line's end is the sign of an end. The driver shuts its half to have the tasks end; a task that is gone, or whose executor
    is, ends its own. The reaper of a task's processes holds the line too: once it has ended, nothing of that rank is left.
"""

import contextlib
import json
import os
import secrets
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any

from dkcore.errors import MissingError, expected

__all__ = ["Channel", "Line"]

CONNECTING = 10.0  # seconds
GRACE = 1.5  # seconds from the first bad news to the end of all tasks, so that what the others have to say arrives
GONE = 10.0  # seconds for all of them to be gone then
PIECE = 4 << 20  # bytes of a file that go at once


class Line:
    """A task's end. ``fileno()`` is for a reaper to inherit."""

    def __init__(self, address: tuple[str, int], key: bytes, **hello: Any):
        try:
            connected = socket.create_connection(address, timeout=CONNECTING)
        except OSError as error:
            advice = "Set spark.driver.host (and spark.driver.bindAddress) to an address of the driver that the executors reach."
            what = f"a way from {socket.gethostname()} to the driver at {address[0]}:{address[1]}"
            raise MissingError(expected(what, error, advice)) from error
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connected.setblocking(True)
        self.connection = Connection(connected.detach())
        answer_challenge(self.connection, key)
        deliver_challenge(self.connection, key)
        self.address = own_address(self.connection.fileno())
        self.sent: dict[Path, int] = {}
        self.say("hello", **hello)

    def fileno(self) -> int:
        return self.connection.fileno()

    def say(self, kind: str, payload: bytes = b"", **header: Any) -> None:
        """Tell the driver; nothing happens when it no longer listens, for `over` tells that."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send_bytes(json.dumps({"kind": kind, **header}).encode())
            self.connection.send_bytes(payload)

    def replace(self, path: Path, name: str) -> None:
        """Have the driver hold the same file under that name, whatever it held; a big one goes in pieces."""
        with path.open("rb") as file:
            first = True
            while (piece := file.read(PIECE)) or first:
                self.say("file", piece, name=name, append=not first, whole=file.tell() == os.fstat(file.fileno()).st_size)
                first = False

    def follow(self, path: Path, name: str) -> None:
        """Send what a growing file has grown by since the last call, or the end of that, if it is much."""
        if path.exists():
            with path.open("rb") as file:
                file.seek(max(self.sent.get(path, 0), path.stat().st_size - PIECE))
                if piece := file.read(PIECE):
                    self.say("file", piece, name=name, append=True, whole=True)
                self.sent[path] = file.tell()

    def gather(self, text: str) -> list[str]:
        """What all tasks said here, in rank order. EOFError when the driver has ended this instead, or is gone."""
        self.say("gather", text.encode())
        addresses: list[str] = json.loads(self.connection.recv_bytes())
        return addresses

    @property
    def over(self) -> bool:
        """Whether the driver has ended this, or is gone."""
        return self.connection.poll(0)  # it only answers: what can be read otherwise is the end

    def close(self) -> None:
        self.say("bye")
        self.connection.close()


class Channel:
    """The driver's end: a context manager around one launch.

    Args:
        directory: of the job; files go there.
        host: on which to listen; port 0: any.
        on_log: called with (rank, line) for each line that a rank prints.

    Attributes:
        news: what came, in its order: (seconds since the epoch, kind, header).
    """

    def __init__(self, directory: Path, host: str, port: int = 0, on_log: Callable[[int, str], None] | None = None):
        self.directory, self.on_log = directory, on_log
        self.key = secrets.token_bytes(32)
        self.news: list[tuple[float, str, dict[str, Any]]] = []
        self.lines: set[socket.socket] = set()
        self.gathered: dict[int, tuple[str, Connection]] = {}
        self.lock = threading.Condition()
        self.ended = self.bad = False
        channel = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                channel.serve(self.request)

        try:
            self.server = socketserver.ThreadingTCPServer((host, port), Handler)
        except OSError as error:
            advice = "Set spark.driver.bindAddress to an address of this machine, and spark.dkcore.port to a free port or 0."
            raise MissingError(expected(f"to listen on {host}:{port}", error, advice)) from error
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]

    def __enter__(self) -> "Channel":
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.1,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.end()
        self.await_all()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def end(self) -> None:
        """Have all tasks end: those that still are on the line take down what they started."""
        with self.lock:
            self.ended = True
            for line in self.lines:
                with contextlib.suppress(OSError):  # its other end is gone
                    line.shutdown(socket.SHUT_WR)

    def await_all(self) -> bool:
        """Wait for all lines to end, and with them what the tasks had started; False when some have not in time."""
        with self.lock:
            return self.lock.wait_for(lambda: not self.lines, GONE)

    def serve(self, request: socket.socket) -> None:
        """Listen to one task, in a thread of its own."""
        connection = Connection(os.dup(request.fileno()))
        who: dict[str, Any] = {}
        try:
            deliver_challenge(connection, self.key)
            answer_challenge(connection, self.key)
            with self.lock:
                self.lines.add(request)
                if self.ended:
                    request.shutdown(socket.SHUT_WR)
            while True:
                header = json.loads(connection.recv_bytes())
                payload = connection.recv_bytes()
                if header["kind"] == "gather":
                    self.gather(who, payload.decode(), connection)
                else:
                    self.receive(who, header, payload)
        except (EOFError, OSError, AssertionError):  # its end; or a stranger, who does not know the secret
            if who and not who.get("parted"):
                self.tell("connection_lost", who)
        except Exception as error:  # of a stranger (a wrong digest), or ours: neither may pass unseen
            if who:
                self.tell("refused", {**who, "type": type(error).__name__, "text": str(error)})
        finally:
            connection.close()
            with self.lock:
                self.lines.discard(request)
                self.lock.notify_all()

    def gather(self, who: dict[str, Any], text: str, connection: Connection) -> None:
        """Note what a task says to all; the last one's word is the answer to each. Spark's own allGather sleeps whole seconds."""
        with self.lock:
            self.gathered[who["rank"]] = text, connection
            if len(self.gathered) == who["ranks"]:
                answer = json.dumps([self.gathered[rank][0] for rank in range(who["ranks"])]).encode()
                for _, waiting in self.gathered.values():
                    with contextlib.suppress(OSError):  # it is gone, which `serve` notices
                        waiting.send_bytes(answer)
                self.gathered = {}

    def receive(self, who: dict[str, Any], header: dict[str, Any], payload: bytes) -> None:
        kind = header.pop("kind")
        if kind == "hello":
            who.update(header)
            self.tell(kind, who)
        elif kind == "file":
            self.write(who["rank"], payload, **header)
        elif kind == "bye":
            who["parted"] = True
        else:
            self.tell(kind, {**who, **header})

    def tell(self, kind: str, header: dict[str, Any]) -> None:
        """Note what came; bad news ends the job a moment later."""
        with self.lock:
            self.news.append((time.time(), kind, dict(header)))
            if kind != "hello" and not self.bad:
                self.bad = True
                timer = threading.Timer(GRACE, self.end)
                timer.daemon = True
                timer.start()

    def write(self, rank: int, payload: bytes, *, name: str, append: bool, whole: bool) -> None:
        """A piece of a file; it appears under its name when it is whole."""
        path = (self.directory / name).resolve()
        if not path.is_relative_to(self.directory.resolve()):
            raise ValueError(expected("a file in the job's directory", name, "The executor's dkcore may be another one."))
        path.parent.mkdir(parents=True, exist_ok=True)
        log = path.suffix == ".log"
        draft = path if log else path.with_name(f".{path.name}.{rank}")
        with draft.open("ab" if append else "wb") as file:
            file.write(payload)
        if whole and not log:
            draft.replace(path)
        if self.on_log and path.name == f"rank-{rank}.log":
            for line in payload.decode(errors="replace").splitlines():
                self.on_log(rank, line)


def own_address(file: int) -> str:
    """The address of this machine by which it reached the driver, and so others may reach it."""
    with socket.socket(fileno=os.dup(file)) as line:
        address: str = line.getsockname()[0]
        return address
