"""What a seat does for its worker: the calls of MPI, and its part in the center; and what it keeps of them for a worker that follows."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dkcore.center import Center
from dkcore.errors import DkcoreError, expected
from dkcore.merge.barriers import Membership, take_part
from dkcore.merge.cut import Start, start_of
from dkcore.merge.recovery import start_together
from dkcore.merge.settings import Merging
from dkcore.merge.validation import validate_job
from dkcore.registry import rule_of

if TYPE_CHECKING:
    from dkcore.ranks.world import World
    from dkcore.training.job import Job

__all__ = ["Calls", "Kept"]


@dataclass(frozen=True)
class Kept:
    """A call that was made, and what came of it."""

    name: str
    answer: Any


class Calls:
    """The calls of one seat; its main thread makes them.

    Attributes:
        kept: those that a worker that follows is answered from, in their order.
        center, membership: from the moment on that workers share a center. before_finish: called before this rank finishes.
    """

    def __init__(self, job: "Job", world: "World", keep_cut: Callable[["Calls", int, int, dict[str, Any], dict[str, Any] | None], None]):
        self.job, self.world, self.keep_cut = job, world, keep_cut
        self.kept: list[Kept] = []
        self.merging = Merging()
        self.center: Center | None = None
        self.membership: Membership | None = None
        self.gated = False
        self.before_finish: Callable[[], None] = lambda: None
        self.made: dict[str, Callable[..., Any]] = {
            "comm": self.comm, "roll": world.call_roll, "validate": self.validate, "take_part": self.take_part, "time": time.time,
            "gate": self.gate, "barrier": self.barrier, "begun": self.begun,
        }  # fmt: skip
        self.asked: dict[str, Callable[..., Any]] = {
            "broadcast": self.broadcast, "learn": self.learn, "leave_rounds": self.leave_rounds, "sums": self.sums, "abort": world.abort,
        }  # fmt: skip
        self.beginning: dict[str, Any] | None = None  # what a worker said when its training began

    def keeps(self, name: str) -> bool:
        """Whether a call of that name is kept, and never made twice."""
        return name in self.made

    def answer(self, place: int, name: str, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        """Make a call, the place-th of those that are kept; whether it failed, and what it returned or raised."""
        try:
            if name in self.asked:
                return False, self.asked[name](*arguments)
            if place == len(self.kept):
                self.kept.append(Kept(name, self.made[name](*arguments)))
            return False, self.kept_answer(place, name)
        except Exception as error:
            return True, portable(error)

    def kept_answer(self, place: int, name: str) -> Any:
        kept = self.kept[place]
        if kept.name != name:
            advice = "Does the model's function, or a module, depend on what changes?"
            raise DkcoreError(expected(f"{kept.name!r} as call {place} of a worker, as of the one before it", repr(name), advice))
        return kept.answer

    # ------------------------------------------------------------------ calls that are kept

    def comm(self, which: str, call: str, value: Any = None, *more: Any) -> Any:
        communicator: Any = getattr(self.world, which)
        if call == "Barrier":
            return communicator.Barrier()
        return communicator.recv(source=more[0], tag=more[1]) if call == "recv" else getattr(communicator, call)(value, *more)

    def validate(self, rule: dict[str, Any] | None, settings: Merging) -> None:
        self.merging = settings
        validate_job(self.world, self.job.the_rule, settings)

    def take_part(self, name: str) -> None:
        """Attach to the center that a worker of this node has made, and be its member, on the leader its agent."""
        rule = rule_of(self.job.the_rule)
        self.center = center = Center.attach(name, rule=rule)
        self.membership = center.membership = take_part(center, self.world, rule, self.merging, self.start(center))
        if self.membership.cut is not None:
            self.membership.cut.keep = lambda *copied: self.keep_cut(self, *copied)

    def start(self, center: Center) -> Start | None:
        """What a checkpoint says of the merge, on leaders that merge."""
        if self.job.resume is None or self.world.leaders is None:
            return None
        from dkcore.checkpoints.manifest import find

        saved = find(self.job.resume_location, verify=False)
        return start_of(saved, self.world.leaders.rank, self.world.nodes, rule_of(self.job.the_rule), center.digest)

    def begun(self, said: dict[str, Any]) -> None:
        """All ranks are ready to train."""
        self.world.comm.Barrier()
        self.beginning = said

    def gate(self) -> None:
        """Wait until all workers have taken their first step."""
        if self.gated:
            return
        self.gated = True
        start_together(self.world)

    def barrier(self, name: str) -> None:
        assert self.membership is not None
        if name == "finish()":
            self.before_finish()
            self.membership.finish()
        else:
            self.membership.barrier(name)

    # ------------------------------------------------------------------ calls that are made anew

    def broadcast(self, which: str, data: Any, root: int) -> bytes | None:
        communicator: Any = getattr(self.world, which)
        mine = communicator.rank == root
        buffer = bytearray(data)  # as many bytes as its number says, elsewhere
        communicator.Bcast(buffer, root=root)
        return None if mine else bytes(buffer)

    def learn(self, scalars: dict[str, float]) -> None:
        assert self.membership is not None
        self.membership.learn(self.job.the_rule, scalars)

    def leave_rounds(self) -> None:
        if self.membership is not None:
            self.membership.leave_rounds()

    def sums(self) -> Any:
        return None if self.membership is None else self.membership.sums


def portable(error: Exception) -> Exception:
    """An error as a worker without MPI can have it."""
    ours = type(error).__module__.partition(".")[0] in ("dkcore", "builtins")
    return error if ours else DkcoreError(f"{type(error).__name__}: {error}")
