"""The checkpoints of a job: made ready for a rank, ended with it, and told to the launcher and to the report."""

import contextlib
import dataclasses
import json
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from dkcore.checkpoints.folder import Folder, number_of
from dkcore.checkpoints.schedule import Every, every_of
from dkcore.ranks.agreement import attempt, raise_once
from dkcore.ranks.seated import SeatedWorld
from dkcore.training.atomic_files import write_whole
from dkcore.training.checkpoint import Checkpoint
from dkcore.training.recorder import Recorder
from dkcore.training.stopping import CHECKPOINTS, StopSignals

if TYPE_CHECKING:
    from dkcore.ranks.world import World
    from dkcore.training.exchange import Exchange
    from dkcore.training.job import Job
    from dkcore.training.resuming import Beginning

__all__ = ["finish_recording", "recorder_of", "stop_signals"]

EPOCH = Every(1, "epochs")


def recorder_of(job: "Job", world: "World", exchange: "Exchange", begin: "Beginning", per_epoch: int) -> Checkpoint | None:
    """The callback that writes a job's checkpoints; None where it has none. All ranks call it; one without room ends the job."""
    location = job.checkpoint_location
    if location is None:
        return None
    settings = {name: value for name, value in dataclasses.asdict(job).items() if name not in ("directory", "keras", "compiled")}
    every = EPOCH if job.checkpoint_every is None else every_of(job.checkpoint_every)
    after = max(job.last_checkpoint, number_of(begin.location.rpartition("/")[2]) if begin.location is not None else 0)
    folder, failure = attempt(lambda: Folder(location))
    raise_once(world, failure)
    assert folder is not None  # or that has ended the job
    recorder = Recorder(
        folder, world, exchange.center, settings, every=every, keep=job.keep, after=after, home=job.home, travels=job.travels
    )
    raise_once(world, attempt(recorder.prepare)[1])
    return Checkpoint(exchange, recorder, begin.origin, per_epoch)


def stop_signals(checkpoint: Checkpoint | None, world: "World") -> AbstractContextManager[Any]:
    """While a job trains that has checkpoints, SIGTERM and SIGUSR1 ask for the last one."""
    if checkpoint is None:
        return contextlib.nullcontext()
    own = () if world.liveness is None else (world.liveness.signals.handle,)
    return StopSignals(world.requests.ask, own)


def finish_recording(checkpoint: Checkpoint | None, job: "Job", world: "World", begin: "Beginning") -> bool:
    """Wait for the checkpoints under way; whether a signal has ended the training. All ranks call it, when all are through.

    OSError on rank 0 when the last one could not be written.
    """
    if checkpoint is None:
        if world.rank == 0 and begin.location is not None:
            tell(job, begin, world, None, "")
        return False
    recorder = checkpoint.recorder
    recorder.no_more()
    stopped = (
        recorder.requests.checkpoint[1]
        if world.tolerant or isinstance(world, SeatedWorld)
        else any(world.comm.allgather(checkpoint.stopped))
    )
    recorder.close()
    if world.rank != 0:
        return stopped
    written = recorder.written
    if stopped and not recorder.travels and (not written.names or number_of(written.names[-1]) != recorder.number):
        raise written.error or OSError(f"dkcore: no last checkpoint in {recorder.folder.location}")
    tell(job, begin, world, recorder, written.names[-1] if stopped and written.names else "")
    return stopped


def tell(job: "Job", begin: "Beginning", world: "World", recorder: Recorder | None, last: str) -> None:
    """Leave word for the launcher and the report."""
    where = "" if recorder is None else recorder.folder.location
    said = {
        "resumed_from": begin.location,
        "resumed": begin.line(world.size),
        "checkpoints": [] if recorder is None else [f"{where}/{name}" for name in recorder.written.names],
        "checkpoints_failed": 0 if recorder is None else recorder.written.failed,
        "stopped_at": f"{where}/{last}" if last else None,
    }
    write_whole(json.dumps(said), job.home / CHECKPOINTS)
