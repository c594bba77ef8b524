"""The parts that an agent writes of its node's checkpoints: the merge copies them, a thread of the seat takes them to the disk."""

import queue
import threading
from typing import TYPE_CHECKING, Any

from dkcore.checkpoints.folder import Folder, name_of
from dkcore.checkpoints.part import node_part
from dkcore.merge.resuming import about, write_or_tell

if TYPE_CHECKING:
    from dkcore.ranks.world import World
    from dkcore.seats.calls import Calls
    from dkcore.training.job import Job

__all__ = ["NodeParts"]


class NodeParts:
    """Of one seat; those that are no agents have none to write."""

    def __init__(self, job: "Job", world: "World"):
        self.world = world
        self.location = job.checkpoint_location
        self.queue: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        self.thread: threading.Thread | None = None

    def keep(self, calls: "Calls", number: int, merge: int, arrays: dict[str, Any], leases: dict[str, Any] | None) -> None:
        """Have a copy of the node written; the thread of the merge calls this."""
        if self.location is None or calls.center is None:
            return
        if self.thread is None:
            self.thread = threading.Thread(target=self.run, name="dkcore-node-parts", daemon=True)
            self.thread.start()
        node = self.world.leaders.rank if self.world.leaders is not None else 0
        said = about(calls.center, self.world.nodes, self.world.size, merge)
        self.queue.put((name_of(number), node_part(node), arrays, said | {"leases": leases}))

    def run(self) -> None:
        assert self.location is not None
        folder = Folder(self.location)
        while (part := self.queue.get()) is not None:
            write_or_tell(folder, *part)

    def close(self) -> None:
        """Until all is written."""
        if self.thread is not None:
            self.queue.put(None)
            self.thread.join()
