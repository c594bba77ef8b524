"""dist-keras 0.2.1: its own ADAG server and its own client, over loopback.

``python -m bench.peers dist_keras`` installs it (GPLv3) beside this project, never into it; nothing of it is copied here. It was
written for Keras 2 and Spark, which its network code does not need: they are replaced by empty modules, in the
processes of this peer only. Its server listens on all interfaces; here it is made to listen on loopback.
"""

import importlib
import socket
import sys
import threading
from types import ModuleType, SimpleNamespace

import numpy as np

from bench.harness.peer import serve
from bench.peers.table import DIST_KERAS
from bench.peers.team import Team
from bench.peers.worker import Worker, views

__all__ = ["DistKeras"]

STANDINS = {
    "keras": ("backend",),
    "keras.backend": (),
    "keras.models": ("model_from_json",),
    "keras.optimizers": ("Optimizer", "serialize", "deserialize"),
    "pyspark": (),
    "pyspark.mllib": (),
    "pyspark.mllib.linalg": ("DenseVector",),
    "pyspark.sql": ("Row",),
    "pyspark.sql.functions": ("rand",),
    "tensorflow": (),
}


def import_module(name: str) -> ModuleType:
    """A module of dist-keras, among stand-ins for what it imports and does not need."""
    for standin, names in STANDINS.items():
        made = sys.modules[standin] = ModuleType(standin)
        for attribute in names:
            setattr(made, attribute, type(attribute, (), {}))
    if str(DIST_KERAS) not in sys.path:
        sys.path.insert(0, str(DIST_KERAS))
    return importlib.import_module(f"distkeras.{name}")


class DistKeras(Worker):
    """One of its workers, with its model taken away; a window ends with a commit and a pull."""

    def join(self, port: int) -> None:
        if self.working:
            worker = import_module("workers").ADAGWorker
            self.client = worker(None, "adam", "mse", None, master_host="127.0.0.1", master_port=port)
            self.client.connect()

    def leave(self) -> None:
        self.client.socket.close()

    def given(self, place: int):
        client, w, d = self.client, views(self.w[place]), objects(views(self.d[place]))

        def run() -> None:
            client.commit(d)
            client.pull()
            for mine, center in zip(w, client.center_variable, strict=True):
                np.copyto(mine, center)

        return run

    def pull(self, place: int) -> None:
        self.client.pull()
        for mine, center in zip(views(self.w[place]), self.client.center_variable, strict=True):
            np.copyto(mine, center)


class DistKerasTeam(Team):
    """Its server in threads of this process, as it lives in Spark's driver."""

    def where(self, size: int, sets: int, variant: str) -> tuple:
        servers = import_module("parameter_servers")
        servers.deserialize_keras_model = lambda model: model
        servers.socket = SimpleNamespace(**vars(socket) | {"socket": Loopback})
        weights = objects(views(np.full(size, 0, np.float32)))
        server = servers.ADAGParameterServer(SimpleNamespace(get_weights=lambda: weights), None)
        server.initialize()
        threading.Thread(target=server.run, daemon=True).start()
        self.stack.callback(setattr, server, "running", False)  # or its threads would spin on closed connections for ever
        return (server.master_port,)


class Loopback(socket.socket):
    """A socket that can only listen on this machine."""

    def bind(self, address: tuple[str, int]) -> None:
        super().bind(("127.0.0.1", address[1]))


def objects(arrays: list[np.ndarray]) -> np.ndarray:
    """An array of arrays, which is what numpy made of a list of weights when dist-keras was written."""
    made = np.empty(len(arrays), object)
    made[:] = arrays
    return made


if __name__ == "__main__":
    serve(DistKerasTeam.of("bench.peers.dist_keras:DistKeras"))
