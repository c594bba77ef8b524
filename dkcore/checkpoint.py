"""The center after each epoch, in a file: what a job that was broken off goes on from."""

import os
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from dkcore.exchange import Exchange
from dkcore.replica import Replica

__all__ = ["Checkpoint", "resume"]

FILE = "checkpoint.npz"


class Checkpoint(keras.callbacks.Callback):
    """Saves the center and the number of epochs done, as rank 0 counts them, whenever an epoch of rank 0 ends."""

    def __init__(self, exchange: Exchange, directory: Path):
        super().__init__()
        self.exchange, self.directory = exchange, directory

    def on_epoch_end(self, epoch: int, logs: Mapping | None = None) -> None:
        draft = self.directory / ".checkpoint"
        with draft.open("wb") as file:
            np.savez(file, weights=self.exchange.center.snapshot(), epochs=epoch + 1)
        os.replace(draft, self.directory / FILE)


def resume(directory: Path, model: keras.Model) -> int:
    """Give the model the weights of a checkpoint, if there is one; how many epochs are done. LayoutError when it is another model's.

    The optimizer begins anew.
    """
    if not (directory / FILE).exists():
        return 0
    with np.load(directory / FILE) as saved:
        Replica(model).write(saved["weights"])
        return int(saved["epochs"])
