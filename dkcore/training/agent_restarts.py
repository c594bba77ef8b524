"""An agent that is killed is followed by another one, which goes on from the newest checkpoint: what the launcher does for it."""

import contextlib
import dataclasses
import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from dkcore.checkpoints.folder import Folder, number_of
from dkcore.checkpoints.manifest import Saved, find
from dkcore.errors import CheckpointError, RankError
from dkcore.ranks.status import StatusDirectory
from dkcore.training.stopping import CHECKPOINTS, STOP

if TYPE_CHECKING:
    from dkcore.training.job import Job

__all__ = ["RESTARTS", "train_by_agents"]

RESTARTS = "agent-restarts"  # a file in the job's directory, for the report
OF_A_RUN = ("center", "center.*", "rank-*", "notes-*", "lost-*", "requests", "evaluation.json", CHECKPOINTS)  # what ranks leave there


def train_by_agents(job: "Job", launch: Callable[[], None], forget: Callable[[], None]) -> None:
    """Have a job trained by an agent, and by another one when that is killed, as often as the job says and a checkpoint is there.

    launch: trains it by one agent; RankError when that ends otherwise than well. forget: lets go of the center of the agent before.
    """
    begun = newest_number(job)
    for restart in range(1, job.restarts + 2):
        try:
            return launch()
        except RankError as error:
            saved = None if restart > job.restarts or not was_killed(job) else to_go_on_from(job, begun)
            if saved is None:
                raise
            forget()
            print(f"dkcore: {error.cause} Restart {restart} of {job.restarts}, from {saved.location}.", file=sys.stderr, flush=True)
        make_ready(job, saved.location)
        (job.home / RESTARTS).write_text(str(restart))


def was_killed(job: "Job") -> bool:
    """Whether the agent ended by a signal, without a word of what failed, and nobody has asked for the end."""
    status = StatusDirectory(job.home)
    failed = any(each.state == "failed" for each in status.ranks().values())
    return status.exit_code is not None and status.exit_code < 0 and not failed and not (job.home / STOP).exists()


def newest_number(job: "Job") -> int:
    return 0 if job.checkpoint is None else max(Folder(job.checkpoint).numbers(), default=0)


def to_go_on_from(job: "Job", begun: int) -> Saved | None:
    """The newest whole checkpoint that this job has written, or else that it began with. begun: the last one before it."""
    if job.on_worker_loss != "restart" or job.checkpoint is None:
        return None
    for place in filter(None, (job.checkpoint, job.resume)):
        with contextlib.suppress(CheckpointError):  # none is there, or none is whole
            saved = find(place)
            if place == job.resume or number_of(saved.name) > begun:
                return saved
    return None


def make_ready(job: "Job", checkpoint: str) -> None:
    """Have the job's directory be as before its ranks were started, but for where they begin."""
    for path in [path for pattern in OF_A_RUN for path in job.home.glob(pattern)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    dataclasses.replace(job, resume=checkpoint, initial_epoch=0).save(job.home)
