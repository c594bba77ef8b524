"""elephas 7.3.0: its own socket server and client, and its HTTP server and client, over loopback, from its own environment.

A worker of it exchanges as its ``AsynchronousSparkWorker`` does: it sends what to subtract from the center's model, then gets its
weights. By socket the first is not acknowledged, so that what comes back may lack it. One defect is mended in its favour: a thread of
its socket server spins for ever on each connection that was closed, and each exchange closes two.
"""

import logging
import os
import socket
from types import SimpleNamespace

import numpy as np

from bench.harness.peer import serve
from bench.peers.team import Team
from bench.peers.tensorflow_server import free_port
from bench.peers.worker import Worker, views

__all__ = ["Elephas"]


class Elephas(Worker):
    """Its client."""

    sign = -1

    def join(self, variant: str, port: int) -> None:
        from elephas.parameter import HttpClient, SocketClient

        self.acknowledged = variant == "http"
        self.client = {"http": HttpClient, "socket": SocketClient}[variant](port)

    def given(self, place: int):
        client, w, d = self.client, views(self.w[place]), views(self.d[place])

        def run() -> None:
            client.update_parameters(d)
            for mine, center in zip(w, client.get_parameters(), strict=True):
                np.copyto(mine, center)

        return run

    def pull(self, place: int) -> None:
        for mine, center in zip(views(self.w[place]), self.client.get_parameters(), strict=True):
            np.copyto(mine, center)


class ElephasTeam(Team):
    """Its servers, as it starts them in Spark's driver."""

    def where(self, size: int, sets: int, variant: str) -> tuple:
        from elephas.parameter import HttpServer, SocketServer, server
        from elephas.utils.serialization import model_to_dict

        server.socket = SimpleNamespace(**vars(socket) | {"socket": Mended})
        port, model = free_port(), model_to_dict(model_of(views(np.full(size, 0, np.float32))))
        kind, options = {"http": (HttpServer, {"debug": False}), "socket": (SocketServer, {})}[variant]
        started = kind(model, port, "asynchronous", **options)
        started.start()
        self.stack.callback(started.stop)
        return variant, port


def model_of(weights: list[np.ndarray]):
    """A model with those weights: its servers want one."""
    import keras

    matrices = [array.shape for array in weights[::2]]
    model = keras.Sequential([keras.Input((matrices[0][0],)), *(keras.layers.Dense(units) for _, units in matrices)])
    model.set_weights(weights)
    return model


class Mended(socket.socket):
    """A connection whose end ends the thread that waits for more from it."""

    def accept(self):
        connection, address = super().accept()
        return Mended(fileno=connection.detach()), address

    def recv(self, count: int, *flags) -> bytes:
        got = super().recv(count, *flags)
        if not got and count == 1:
            self.close()
            raise SystemExit  # of this thread
        return got


if __name__ == "__main__":
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"  # where its servers listen
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not a line for each request
    serve(ElephasTeam.of("bench.peers.elephas_server:Elephas"))
