"""TensorFlow's own parameter server: ``tf.distribute.Server``, a variable on it, and ``assign_add`` through gRPC.

This is the plain server beneath ``ParameterServerStrategy``, without its coordinator: each worker is a server of the cluster, too,
and runs its sessions there, so that a delta goes from one to the other as a tensor.
"""

import os
import socket

from bench.harness.peer import serve
from bench.peers.network import raise_loopback
from bench.peers.team import MEMBERS, Team
from bench.peers.worker import Worker

__all__ = ["TensorFlow", "free_port"]


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start(jobs: dict[str, list[str]], job: str, index: int):
    """One server of the cluster."""
    import tensorflow as tf

    return tf.distribute.Server(tf.train.ClusterSpec(jobs), job_name=job, task_index=index, protocol="grpc")


class TensorFlow(Worker):
    """A task "worker"; the last member is the task "ps", which works in threads of its own."""

    def __init__(self, index: int, members: int, jobs: dict[str, list[str]]) -> None:
        super().__init__(index, members)
        self.server = start(jobs, *(("worker", index) if index < MEMBERS else ("ps", 0)))

    def join(self, variant: str) -> None:
        if not self.working:
            return
        import tensorflow as tf

        with tf.Graph().as_default() as graph:
            with tf.device("/job:ps/task:0"):
                zeros = tf.zeros([self.size])
                center = tf.compat.v1.get_variable(f"center{self.size}", initializer=zeros, use_resource=True)
            with tf.device(f"/job:worker/task:{self.index}"):
                delta = tf.compat.v1.placeholder(tf.float32, [self.size])
            with tf.device("/job:ps/task:0"):
                added = center.assign_add(delta, read_value=True)
            seen = tf.compat.v1.ConfigProto(device_filters=["/job:ps", f"/job:worker/task:{self.index}"])
            self.session = tf.compat.v1.Session(self.server.target, graph=graph, config=seen)
            self.session.run(center.initializer)
            self.add = self.session.make_callable(added, [delta])
            self.read = self.session.make_callable(center.read_value())

    def leave(self) -> None:
        self.session.close()

    def close(self) -> None:
        super().close()
        os._exit(0)  # its server cannot be shut down, and would be waited for

    def given(self, place: int):
        w, d, add = self.w[place], self.d[place], self.add

        def run() -> None:
            w[:] = add(d)

        return run

    def pull(self, place: int) -> None:
        self.w[place][:] = self.read()


if __name__ == "__main__":
    raise_loopback()
    jobs = {job: [f"127.0.0.1:{free_port()}" for _ in range(count)] for job, count in (("ps", 1), ("worker", MEMBERS))}
    serve(Team.of("bench.peers.tensorflow_server:TensorFlow", jobs, members=MEMBERS + 1))
