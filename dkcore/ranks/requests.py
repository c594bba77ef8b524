"""What the ranks of a node tell each other while they train, without a message: a checkpoint is due, all shall end, one shall leave."""

from typing import Protocol

__all__ = ["Requests"]

ASKED, NUMBER, WANTED, LEAVING = 0, 1, 2, 3  # places in the node's file; from the last on one for each rank of the node


class Shared(Protocol):
    """Numbers that the ranks of a node share: a `dkcore.ranks.liveness.Liveness`, or `dkcore.ranks.numbers.Numbers`."""

    def number(self, place: int) -> int: ...
    def set_number(self, place: int, value: int) -> None: ...


class Requests:
    """Numbers of a node, in the file that its ranks share. Each is read by one system call, so a look every step costs nothing.

    shared: has the file; None for a rank that is alone, which keeps them for itself.
    """

    def __init__(self, shared: Shared | None = None):
        self.shared = shared
        self.own = [0, 0, 0]

    def read(self, place: int) -> int:
        return self.own[place] if self.shared is None else self.shared.number(place)

    def write(self, place: int, value: int) -> None:
        if self.shared is None:
            self.own[place] = value
        else:
            self.shared.set_number(place, value)

    @property
    def asked(self) -> bool:
        """Whether a rank of this node was told by a signal to write a checkpoint and to end."""
        return bool(self.read(ASKED))

    def ask(self) -> None:
        """Have all ranks write a checkpoint and end; from any thread, and from a signal's handler."""
        self.write(ASKED, 1)

    @property
    def checkpoint(self) -> tuple[int, bool]:
        """The number of the checkpoint that ranks shall write their parts of, 0 before the first one; and whether they end with it.

        Both of one moment: another one may be begun at any time.
        """
        value = self.read(NUMBER)
        return value >> 1, bool(value & 1)

    def clear(self) -> None:
        """Nothing is asked for, and no checkpoint is due: a job begins, perhaps after another one in the same processes."""
        self.write(ASKED, 0)
        self.write(NUMBER, 0)
        self.write(WANTED, 0)

    @property
    def wanted(self) -> int:
        """The number of the checkpoint that the first rank wants the merge of its node to begin, twice, and 1 more for the last; or 0."""
        return self.read(WANTED)

    def want(self, number: int, last: bool) -> None:
        self.write(WANTED, number << 1 | last)

    def begin(self, number: int, last: bool) -> None:
        """Have the ranks of this node write their parts of a checkpoint; its leader alone calls this."""
        self.write(NUMBER, number << 1 | last)

    def ask_to_leave(self, place: int) -> None:
        """Have the worker of the rank of that place in the node finish its window, and go."""
        self.write(LEAVING + place, 1)

    def leaving(self, place: int) -> bool:
        """Whether that worker was asked to."""
        return bool(self.read(LEAVING + place))
