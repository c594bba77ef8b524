"""Checkpoints of a training on a DataFrame: ranks' parts come to the driver over their tasks' lines, and become checkpoints here.

Executors may share no file system, neither with each other nor with the driver. So a rank writes its parts into its task's directory,
`spark_bridge.monitor` sends them, and a thread on the driver makes checkpoints of them, in the job's directory and in the user's folder.
"""

import json
import logging
import shutil
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from dkcore.checkpoints.copies import copy, remove_begun, tidy
from dkcore.checkpoints.folder import Folder, name_of
from dkcore.checkpoints.manifest import Saved, assemble, find
from dkcore.errors import CheckpointError
from dkcore.training.job import RESUME

if TYPE_CHECKING:
    from dkcore.training.job import Job

__all__ = ["Gathering"]

FOLDER = "checkpoints"  # in the job's directory, and in that of each task
LOOK = 0.1  # seconds between two looks of the thread
JOB = "job.json"

logger = logging.getLogger(__name__)


class Gathering:
    """The checkpoints of one training; a context manager around its launches. files: of each rank's directory, by name.

    Attributes: written: locations of those that came to be; failed: how many did not; resumed_from: that the ranks went on from last.
    """

    def __init__(self, job: "Job", directory: Path, files: dict[str, bytes]):
        self.job, self.files = job, files
        self.here = Folder(str(directory / FOLDER))
        self.target = None if job.checkpoint is None else Folder(job.checkpoint)
        self.written: list[str] = []
        self.failed = 0
        self.resumed_from: str | None = None
        self.number = max([0, *(self.target.numbers() if self.target else [])])
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run, name="dkcore-checkpoints", daemon=True)

    def __enter__(self) -> Self:
        self.here.make()
        if self.target is not None:
            self.target.make()
        self.begin(None if self.job.resume is None else find(json.loads(self.files[JOB])["resume"], verify=False))
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.ending.set()
        self.thread.join()
        self.gather()

    def restart(self) -> None:
        """Before another launch: have the ranks begin with the newest whole checkpoint, if there is one; else as before."""
        self.gather()
        for number in self.here.numbers(drafts=True):
            self.number = max(self.number, number)
            self.here.remove(self.here.draft(name_of(number)))
        try:
            self.begin(find(self.here.location))
        except CheckpointError:
            self.begin(None)

    def begin(self, saved: Saved | None) -> None:
        """Have each rank's directory hold a checkpoint, and its settings say so."""
        settings = json.loads(self.files[JOB])
        settings["travels"] = True
        settings["last_checkpoint"] = max(self.number, settings["last_checkpoint"])
        if saved is not None:
            settings["resume"], self.resumed_from = RESUME, saved.location
            names = saved.folder.names(saved.name)
            self.files |= {f"{RESUME}/{name}": saved.folder.read(saved.name, name) for name in names}
        self.files[JOB] = json.dumps(settings).encode()

    def run(self) -> None:
        while not self.ending.wait(LOOK):
            self.gather()

    def gather(self) -> None:
        """Make checkpoints of the drafts that have all of their parts."""
        for number in self.here.numbers(drafts=True):
            name = name_of(number)
            try:
                if assemble(self.here, name, json.loads(self.files[JOB])):
                    self.publish(number)
            except (OSError, CheckpointError) as failure:
                self.failed += 1
                logger.warning("No %s: %s", name, failure)
                shutil.rmtree(self.here.at(self.here.draft(name)), ignore_errors=True)

    def publish(self, number: int) -> None:
        """Put a new one where the user wants it; of those here the newest is enough."""
        self.number = max(self.number, number)
        tidy(self.here, 1)
        remove_begun(self.here, number)
        if self.target is not None:
            copy(self.here, name_of(number), self.target)
            tidy(self.target, self.job.keep)
        self.written.append(f"{(self.target or self.here).location}/{name_of(number)}")

    def report(self) -> dict[str, object]:
        """What the report says of checkpoints."""
        return {
            "resumed_from": self.resumed_from,
            "checkpoints": self.written if self.target is not None else [],
            "checkpoints_failed": self.failed,
        }
