"""A progress bar over all workers of a job, read from the center's slots: no rank sends a message for it."""

import contextlib
import math
from typing import TYPE_CHECKING

from rich import progress as bars

from dkcore.center import Center
from dkcore.errors import CenterNotFoundError

if TYPE_CHECKING:
    from dkcore.job import Job

__all__ = ["Progress"]


class Progress:
    """A context manager around the ranks of a job; `update` is called now and then."""

    def __init__(self, job: "Job", *, show: bool):
        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.TextColumn("{task.completed:,.0f}/{task.total:,.0f} samples"),
            bars.TextColumn("{task.fields[rate]}"),
            bars.TimeElapsedColumn(),
            bars.TextColumn("{task.fields[loss]}"),
        )
        self.bar = bars.Progress(*columns, disable=not show)
        self.note = job.directory / "center"
        self.name, self.workers = f"{job.trainer} x{job.workers}", job.workers
        self.task = self.bar.add_task(self.name, total=1, rate="starting", loss="")
        self.center: Center | None = None

    def update(self) -> None:
        """Look at the slots once."""
        if self.center is None and self.note.exists():
            with contextlib.suppress(CenterNotFoundError):  # the ranks are done already
                self.center = Center.attach(self.note.read_text(), timeout=0)
        if self.center is None or self.bar.disable:
            return
        slots = self.center.slots()
        samples, total = (sum(slot[name] for slot in slots) for name in ("samples", "total_samples"))
        losses = [slot["loss"] for slot in slots if not math.isnan(slot["loss"])]
        speed = self.bar.tasks[0].speed
        here = f" ({len(slots)} on this node)" if len(slots) < self.workers else ""
        fields = {"rate": f"{speed:,.0f}/s" if speed else "", "loss": f"loss {sum(losses) / len(losses):.3f}" if losses else ""}
        fields["description"] = f"{self.name}{here}"
        self.bar.update(self.task, completed=samples, total=max(total, 1), **fields)

    def __enter__(self) -> "Progress":
        self.bar.start()
        return self

    def __exit__(self, *error) -> None:
        self.bar.stop()
        if self.center is not None:
            self.center.close()
