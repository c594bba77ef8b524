"""Checkpoints when a worker follows one that died in its seat: it answers for what is under way, and no number is given twice."""

import time
from typing import TYPE_CHECKING

from dkcore.checkpoints.folder import name_of
from dkcore.checkpoints.manifest import find
from dkcore.checkpoints.part import rank_part
from dkcore.errors import CheckpointError

if TYPE_CHECKING:
    from dkcore.arrays import Array
    from dkcore.training.job import Job
    from dkcore.training.recorder import Recorder

__all__ = ["LOST", "newest_part", "take_up"]

LOST = "lost-{}"  # a file in the job's directory: no worker of that rank trains any longer


def take_up(recorder: "Recorder") -> None:
    """Go on with what the other worker had begun, or was to answer for; before this one trains. OSError."""
    number, last = recorder.requests.checkpoint
    if number:
        name = name_of(number)
        written = recorder.folder.whole(name) or rank_part(recorder.world.rank) in recorder.folder.records(name)
        recorder.seen = number if written and not last else number - 1  # who has heard of the last one ends with it
    if recorder.world.rank == 0:
        take_up_first(recorder, number, last)


def take_up_first(recorder: "Recorder", number: int, last: bool) -> None:
    """What the first rank keeps for itself: which checkpoint is under way, and which there are."""
    folder, before = recorder.folder, recorder.number
    begun = max(number, recorder.requests.wanted >> 1)
    numbers = folder.numbers()
    recorder.number = max([before, begun, *numbers])
    recorder.written.names = [name_of(each) for each in numbers if each > before and folder.whole(name_of(each))]
    under_way = begun > before and not folder.whole(name_of(begun))
    if under_way and (begun > number or begun in folder.numbers(drafts=True)):
        recorder.open, recorder.began = begun, time.monotonic()
    recorder.asked = last


def newest_part(job: "Job", rank: int) -> "dict[str, Array] | None":
    """What the newest whole checkpoint of a job that runs has of a rank; None where there is none, or where they travel."""
    if job.checkpoint_location is None or job.travels:
        return None
    try:
        return find(job.checkpoint_location, verify=False).part(rank_part(rank))
    except (CheckpointError, OSError):
        return None
