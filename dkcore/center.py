"""The center variable as users have it: that of a node, and its part in a job of many ranks and nodes."""

import os
from typing import TYPE_CHECKING, Self

from dkcore.engine.center import NodeCenter
from dkcore.engine.worker import Worker
from dkcore.errors import MergeError, expected
from dkcore.formula.rule import Rule
from dkcore.merge.join import join
from dkcore.merge.resuming import find_once, save
from dkcore.merge.settings import Merging

if TYPE_CHECKING:
    import keras

    from dkcore._engine import Segment
    from dkcore.arrays import Array
    from dkcore.checkpoints.manifest import Saved
    from dkcore.formula.synchronous import Synchronous
    from dkcore.merge.barriers import Membership
    from dkcore.ranks.world import World

__all__ = ["Center", "Worker"]


class Center(NodeCenter):
    """The center variable of a node, shared by all processes that attach to it.

    >>> import dkcore as dk, numpy as np
    >>> with dk.Center.create(np.zeros(3, np.float32)) as center:
    ...     p, w = np.zeros(3, np.float32), np.float32([1, 2, 3])
    ...     _ = center.exchange(dk.rules.downpour, w, p)
    ...     center.snapshot()
    array([1., 2., 3.], dtype=float32)

    It lives while any process holds it: the last one to close it, or to die, leaves nothing that `dkcore clean` or the
    next `Center.create` would not remove. A center that is dropped is closed. A forked child may use the center of its parent: it
    claims workers of its own.
    """

    def __init__(self, segment: "Segment", name: str):
        """Use `create`, `attach` or `of`."""
        self.membership: Membership | None = None
        self.kept: Array | None = None  # what `finish` ended with, where other ranks may train on
        super().__init__(segment, name)

    def forget(self) -> None:
        """In a forked child: give up what is its parent's."""
        self.membership = None
        super().forget()

    @classmethod
    def of(
        cls,
        model: "keras.Model | Array",
        world: "World",
        *,
        rule: "str | Rule | Synchronous | None" = None,
        timeout: float = 60.0,
        note: str = "",
        merge_every: str | int = "auto",
        merge_compression: str = "none",
        merge_timeout: float = 60.0,
        on_node_loss: str = "stop",
        undo: str | None = None,
        resume: "str | os.PathLike[str] | Saved | None" = None,
    ) -> Self:
        """The center of this node for a Keras model or a flat array, with rank 0's values; every rank of ``world`` calls it.

        On several nodes their centers are merged while workers train, see `dkcore.merge.settings.Merging` for the settings. rule:
        or its name; needed for rules with state vectors and for synchronous methods. resume: a checkpoint, as `save` or a job wrote
        it, or a folder of them, of which the newest whole one is taken: then the values, and those of the rule's states, are its. All
        leaders must see it. undo: see `create`. LayoutError, on every rank, when models differ, or the checkpoint is another model's;
        CheckpointError when it is not whole.
        """
        settings = Merging(merge_every, merge_compression, merge_timeout, on_node_loss)
        saved = find_once(world, os.fspath(resume)) if isinstance(resume, str | os.PathLike) else resume
        return join(cls, model, world, rule=rule, settings=settings, timeout=timeout, note=note, undo=undo, saved=saved)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the center and its states as a checkpoint, whole or not at all; every rank of the job calls this, and it waits for all.

        path: of the checkpoint, a new folder; or its URI, on a file system that pyarrow knows. It ends a training as `finish` does,
        so it holds the work of all nodes, and nothing of the workers' optimizers. OSError, on every rank, when there is no room:
        nothing is left of it then.
        """
        self.finish()
        save(self, os.fspath(path), None if self.membership is None else self.membership.world)

    def finish(self, *, keep: bool = True) -> None:
        """Wait until every rank of the job has called this: then the center is final, and equal bit for bit on all nodes.

        Training may go on afterwards. keep: a copy of it for `copy_to`, so that others may train on before it is called; False saves
        its memory where none will. MergeError when another node vanished. Returns at once for a center that no other rank was told
        of (`create`, `attach`).
        """
        if self.membership is None:
            return
        self.kept = None
        self.membership.finish()
        if self.membership.world.size > 1:
            self.kept = self.snapshot() if keep else None
            self.membership.barrier("all have seen the final center")  # until then nobody trains on

    def barrier(self, name: str) -> None:
        """Wait until every rank of the job has called this or has left; for what others read afterwards. name: for messages."""
        if self.membership is not None:
            self.membership.barrier(name)

    def copy_to(self, model: "keras.Model", *, final: bool = True) -> None:
        """Give a Keras model the weights of the center: what to evaluate and to save after `finish`.

        final: False takes the center as it is now, while others may still train. MergeError when it is not final, though it
        should be: before `finish`, on one rank as on many, or when this rank exchanged with it since. What others have trained since is
        not in it. A center that no other rank was told of (`create`, `attach`) is always final.
        """
        from dkcore.replica.replica import Replica

        if final and self.membership is not None and (why := self.membership.unfinished(others=self.kept is None)):
            what = "center.finish() on every rank before the center is taken"
            raise MergeError(expected(what, why, "Call it when fit returns; copy_to(model, final=False) takes what is there now."))

        Replica(model).write(self.kept if final and self.kept is not None else self.snapshot())

    @property
    def in_rounds(self) -> bool:
        """Whether workers meet in the rounds of a synchronous method."""
        return self.membership is not None and self.membership.synchronous is not None

    def announce(self, rule: Rule) -> None:
        """A worker of this process is going to exchange by this rule: the center is not final any longer."""
        self.kept = None
        if self.membership is not None:
            self.membership.begin(rule)

    def leave(self, patience: float) -> bool:
        """No other rank waits for this one; True if the merge of this node goes on, and closes the center after the last rank."""
        return self.membership is not None and self.membership.close(patience)
