"""Plain numpy on memory that processes share, under one lock of multiprocessing."""

import mmap
import multiprocessing
import os

import numpy as np

from bench.harness.peer import serve
from bench.peers.team import Team
from bench.peers.worker import Worker

__all__ = ["Numpy"]


class Numpy(Worker):
    """What an engineer would write who knows ``out=``."""

    def __init__(self, index: int, members: int, lock) -> None:
        super().__init__(index, members)
        self.lock = lock

    def join(self, path: str) -> None:
        if self.working:
            self.c = np.memmap(path, np.float32, "r+", shape=(len(self.sets), self.size))

    def leave(self) -> None:
        del self.c

    def given(self, place: int):
        w, d, c, lock = self.w[place], self.d[place], self.c[place].view(np.ndarray), self.lock

        def run() -> None:
            with lock:
                np.add(c, d, out=c)
                np.copyto(w, c)

        return run

    def pull(self, place: int) -> None:
        with self.lock:
            np.copyto(self.w[place], self.c[place])


class NumpyTeam(Team):
    """The memory has no name, so that it goes with the processes."""

    def where(self, size: int, sets: int, variant: str) -> tuple:
        memory = os.memfd_create("center")
        self.stack.callback(os.close, memory)
        os.truncate(memory, 4 * size * sets)
        with mmap.mmap(memory, 0) as mapped:  # so that no page comes late
            for begin in range(0, len(mapped), mmap.PAGESIZE):
                mapped[begin] = 0
        return (f"/proc/{os.getpid()}/fd/{memory}",)


if __name__ == "__main__":
    serve(NumpyTeam.of("bench.peers.numpy_lock:Numpy", multiprocessing.get_context("spawn").Lock()))
