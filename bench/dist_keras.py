"""dist-keras 0.2.1, as a peer: its own server and its own client, from its package, over loopback.

``make build/dist-keras`` installs it (GPLv3) beside this project, never into it; nothing of it is copied here. It was
written for Keras 2 and Spark, which its network code does not need: they are replaced by empty modules, in the
processes of this peer only. Its server listens on all interfaces; here it is made to listen on loopback.
"""

import importlib
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np

from bench.flat import Flat

__all__ = ["PLACE", "Client", "Server"]

PLACE = Path(__file__).parent.parent / "build" / "dist-keras"
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
    if str(PLACE) not in sys.path:
        sys.path.insert(0, str(PLACE))
    return importlib.import_module(f"distkeras.{name}")


class Server:
    """Its ADAG server, with a model that has ``shapes`` of zeros. Listens before its constructor returns."""

    def __init__(self, index: int, workers: int, shapes: Sequence[tuple[int, ...]]) -> None:
        servers = import_module("parameter_servers")
        servers.deserialize_keras_model = lambda model: model
        servers.socket = SimpleNamespace(**vars(socket) | {"socket": Loopback})
        weights = arrays(shapes, 0.0)
        model = SimpleNamespace(get_weights=lambda: weights)
        self.server = servers.ADAGParameterServer(model, None)
        self.server.initialize()
        threading.Thread(target=self.server.run, daemon=True).start()

    def port(self) -> int:
        """Where it listens."""
        return self.server.master_port

    def close(self) -> None:
        """Its threads look at this between two messages; it would spin on closed connections for ever."""
        self.server.running = False


class Client(Flat):
    """One worker of both: of dist-keras' server at ``port``, and of our centers."""

    def __init__(self, index: int, workers: int, names: list[str], shapes: Sequence[tuple[int, ...]], port: int) -> None:
        super().__init__(index, workers, names)
        client = import_module("workers").ADAGWorker
        self.client = client(None, "adam", "mse", None, master_host="127.0.0.1", master_port=port)
        self.client.connect()
        self.delta = arrays(shapes, 1.0)

    def theirs(self) -> None:
        """What its worker does at the end of a window, short of computing the delta and of giving the model its weights."""
        self.client.commit(self.delta)
        self.client.pull()

    def verify_theirs(self) -> None:
        """A commit of ones raises every weight of the server by one."""
        self.client.pull()
        before = [array.copy() for array in self.client.center_variable]
        self.theirs()
        for old, new in zip(before, self.client.center_variable, strict=True):
            assert np.array_equal(new, old + 1), "dist-keras' center differs from the sum of its commits"

    def close(self) -> None:
        """Hang up."""
        self.client.socket.close()
        super().close()


class Loopback(socket.socket):
    """A socket that can only listen on this machine."""

    def bind(self, address: tuple[str, int]) -> None:
        super().bind(("127.0.0.1", address[1]))


def arrays(shapes: Sequence[tuple[int, ...]], value: float) -> np.ndarray:
    """An array of arrays, which is what numpy made of a list of weights when dist-keras was written."""
    made = np.empty(len(shapes), object)
    made[:] = [np.full(shape, value, np.float32) for shape in shapes]
    return made
