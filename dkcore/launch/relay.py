"""What mpiexec prints, passed on to our own streams; the end of it is kept, for an error that it may explain."""

import contextlib
import os
import threading
from pathlib import Path

__all__ = ["Relay"]

KEPT = 65536  # bytes


class Relay:
    """Two pipes to be the standard output and the standard error of a process, and a thread that passes on what comes.

    Use ``streams`` for `subprocess.Popen`, then call `start`; `end` waits for the process' end of the pipes to be closed.
    """

    def __init__(self) -> None:
        self.ends = [os.pipe(), os.pipe()]
        self.streams = {"stdout": self.ends[0][1], "stderr": self.ends[1][1]}
        self.kept = bytearray()
        relayed = ((self.ends[0][0], 1), (self.ends[1][0], 2))
        self.threads = [threading.Thread(target=self.relay, args=way, daemon=True) for way in relayed]

    def start(self) -> None:
        for _, write in self.ends:
            os.close(write)
        for thread in self.threads:
            thread.start()

    def relay(self, source: int, target: int) -> None:
        while data := os.read(source, KEPT):
            self.kept += data
            del self.kept[:-KEPT]
            with contextlib.suppress(BrokenPipeError):  # nobody reads what we print any more; the job goes on
                view = memoryview(data)
                while view:
                    view = view[os.write(target, view) :]
        os.close(source)

    def end(self, log: Path, timeout: float) -> None:
        """Write what was kept into a log. A process that was not of the job may hold the pipes open: for ``timeout`` seconds."""
        for thread in self.threads:
            thread.join(timeout)
        log.write_bytes(self.kept)
