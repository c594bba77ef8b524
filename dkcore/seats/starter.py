"""Starts the workers of seats: a process that is there before MPI is, for the drivers of fast networks dislike forks after it.

Design:
(a) A seat asks over a socket; with the request come the descriptors that the worker inherits. The starter tells the worker's pid, and
    when it has ended, by which exit code or signal. The seats of one process share a starter; each has a thread and a socket in it.
(b) The starter dies with its seats, and workers die with the starter: the kernel sees to it (PR_SET_PDEATHSIG).
(c) Each worker has a session of its own, as MPI's ranks have. Linux shares busy processors between sessions (autogroup). Two workers in
    one, kept to a processor each, were found to get nearly all of both, and to starve their own threads and everybody else's.
(d) It runs by its path, without site-packages (``python -I -S``), to be there at once and to weigh little.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1
REQUEST = 1 << 22  # bytes at most
FILES = 8  # descriptors at most
MEANT_FOR_RANKS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = int(sys.argv[1])
    if os.getppid() != parent:
        os._exit(1)
    for number in MEANT_FOR_RANKS:  # those who end the job kill
        signal.signal(number, signal.SIG_IGN)
    seats = [threading.Thread(target=serve, args=(int(file),)) for file in sys.argv[2:]]
    for seat in seats:
        seat.start()
    for seat in seats:
        seat.join()


def serve(file: int) -> None:
    """Start what one seat asks for, until it has closed its end. Its workers die with this thread."""
    with socket.socket(fileno=file) as seat:
        while True:
            data, files, _, _ = socket.recv_fds(seat, REQUEST, FILES)
            if not data:
                return
            start(seat, json.loads(data), files)


def start(seat: socket.socket, request: dict[str, object], files: list[int]) -> None:
    """request: command, environment, cpus."""
    os.sched_setaffinity(0, request["cpus"])  # type: ignore[arg-type]  # of this thread, and so of what it starts
    command = [*request["command"], *map(str, files), str(os.getpid())]  # type: ignore[misc]
    worker = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, env=request["environment"], pass_fds=files, start_new_session=True,  # type: ignore[call-overload]
        preexec_fn=lambda: [signal.signal(number, signal.SIG_DFL) for number in MEANT_FOR_RANKS],
    )  # fmt: skip
    for file in files:
        os.close(file)
    seat.send(json.dumps({"pid": worker.pid}).encode())
    threading.Thread(target=wait, args=(seat, worker), daemon=True).start()


def wait(seat: socket.socket, worker: "subprocess.Popen[bytes]") -> None:
    code = worker.wait()
    seat.send(json.dumps({"ended": worker.pid, "code": code}).encode())


if __name__ == "__main__":
    main()
