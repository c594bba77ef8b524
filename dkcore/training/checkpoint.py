"""The center after each epoch, in a file: what a job that was broken off goes on from."""

import os
from pathlib import Path

import keras
import numpy as np

from dkcore.errors import LayoutError, expected
from dkcore.replica.replica import Replica
from dkcore.training.callback import Callback, Logs
from dkcore.training.exchange import Exchange

__all__ = ["Checkpoint", "resume"]

FILE = "checkpoint.npz"


class Checkpoint(Callback):
    """Saves the center and the number of epochs done, as rank 0 counts them, whenever an epoch of rank 0 ends."""

    def __init__(self, exchange: Exchange, directory: Path):
        super().__init__()
        self.exchange, self.directory = exchange, directory

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        draft = self.directory / ".checkpoint"
        try:
            with draft.open("wb") as file:
                digest = np.uint64(self.exchange.replica.digest)
                np.savez(file, weights=self.exchange.center.snapshot(), epochs=epoch + 1, digest=digest)
            os.replace(draft, self.directory / FILE)
        finally:
            draft.unlink(missing_ok=True)


def resume(directory: Path, model: keras.Model) -> int:
    """Give the model the weights of a checkpoint, if there is one; how many epochs are done. LayoutError when it is another model's.

    The optimizer begins anew.
    """
    if not (directory / FILE).exists():
        return 0
    with np.load(directory / FILE) as saved:
        replica = Replica(model)
        if int(saved["digest"]) != replica.digest:
            advice = "Its weights are in another order, or another model's: remove it, or train the model that it is of."
            raise LayoutError(expected("a checkpoint of this model", f"{directory / FILE}, which is of another", advice))
        replica.write(saved["weights"])
        return int(saved["epochs"])
