"""Ray: an actor as the parameter server, as its documentation has it, in an environment of its own.

A delta goes to the actor through Ray's object store, where both sides read it without a copy; the answer is the new center, by the
same way.
"""

import os
import tempfile

import numpy as np

from bench.harness.peer import serve
from bench.peers.network import raise_loopback
from bench.peers.team import Team
from bench.peers.worker import Worker

__all__ = ["Ray"]

STORE = 4 << 30  # bytes of its object store


def connect(**options):
    """Ray, quietly, in a space of names of our own."""
    import ray

    ray.init(namespace="bench", log_to_driver=False, logging_level="ERROR", **options)
    return ray


class Center:
    """The actor."""

    def prepare(self, size: int) -> None:
        self.c = np.full(size, 0, np.float32)

    def exchange(self, delta: np.ndarray) -> np.ndarray:
        self.c += delta
        return self.c

    def pull(self) -> np.ndarray:
        return self.c


class Ray(Worker):
    """A driver of its own in the same cluster."""

    def join(self, address: str) -> None:
        if not hasattr(self, "ray"):
            self.ray = connect(address=address)
            self.center = self.ray.get_actor("center")

    def given(self, place: int):
        w, d, get, exchange = self.w[place], self.d[place], self.ray.get, self.center.exchange.remote

        def run() -> None:
            np.copyto(w, get(exchange(d)))

        return run

    def pull(self, place: int) -> None:
        np.copyto(self.w[place], self.ray.get(self.center.pull.remote()))

    def close(self) -> None:
        self.ray.shutdown()


class RayTeam(Team):
    """A cluster of this machine, and the actor."""

    def __init__(self, folder: str) -> None:
        options = {"_temp_dir": folder, "_node_ip_address": "127.0.0.1", "object_store_memory": STORE, "include_dashboard": False}
        self.ray = connect(num_cpus=2, **options)
        self.center = self.ray.remote(Center).options(name="center").remote()
        super().__init__(Team.of("bench.peers.ray_actor:Ray").crew)

    def where(self, size: int, sets: int, variant: str) -> tuple:
        self.ray.get(self.center.prepare.remote(size))
        return (self.ray.get_runtime_context().gcs_address,)

    def close(self) -> None:
        super().close()
        self.ray.shutdown()


if __name__ == "__main__":
    raise_loopback()
    with tempfile.TemporaryDirectory(prefix="dkb-", ignore_cleanup_errors=True) as folder:  # short, for its sockets are in there
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": folder}
        serve(RayTeam(folder))
