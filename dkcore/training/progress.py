"""A progress bar over all workers of a job, read from the center's slots: no rank sends a message for it."""

import contextlib
import math
from pathlib import Path

from rich import progress as bars

from dkcore.center import Center
from dkcore.errors import CenterNotFoundError, NamespaceError
from dkcore.ranks.status import StatusDirectory

__all__ = ["Progress"]


class Progress:
    """A context manager around the ranks of a job; `update` is called now and then.

    directory: of the job. trainer: the name to show. workers: ranks of the job, on all nodes.
    """

    def __init__(self, directory: Path, trainer: str, workers: int, *, show: bool):
        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.TextColumn("{task.fields[stage]}"),
            bars.TextColumn("{task.fields[rate]}"),
            bars.TimeElapsedColumn(),
            bars.TextColumn("{task.fields[loss]}"),
        )
        self.bar = bars.Progress(*columns, disable=not show)
        self.directory, self.note = directory, directory / "center"
        self.name, self.workers = f"{trainer} x{workers}", workers
        self.task = self.bar.add_task(self.name, total=None, stage="starting ranks", rate="", loss="")
        self.center: Center | None = None

    def update(self) -> None:
        """Look at the slots once."""
        if self.center is None and self.note.exists():
            with contextlib.suppress(CenterNotFoundError, NamespaceError):  # the ranks are done already, or in containers
                self.center = Center.attach(self.note.read_text(), timeout=0)
        if self.bar.disable:
            return
        if self.center is None:
            self.bar.update(self.task, stage=self.before_the_center())
            return
        slots = self.center.slots()
        samples, total = sum(slot["samples"] for slot in slots), sum(slot["total_samples"] for slot in slots)
        if not samples:
            self.bar.update(self.task, stage="compiling")
            return
        losses = [slot["loss"] for slot in slots if not math.isnan(slot["loss"])]
        speed = self.bar.tasks[0].speed
        here = f" ({len(slots)} on this node)" if len(slots) < self.workers else ""
        self.bar.update(
            self.task, completed=samples, total=max(total, 1), description=f"{self.name}{here}", stage=f"{samples:,}/{total:,} samples",
            rate=f"{speed:,.0f}/s" if speed else "", loss=f"loss {sum(losses) / len(losses):.3f}" if losses else "",
        )  # fmt: skip

    def forget(self) -> None:
        """Let go of the center: there will be another one."""
        if self.center is not None:
            self.center.close()
            self.center = None

    def before_the_center(self) -> str:
        """What goes on until there is a center."""
        joined = len(StatusDirectory(self.directory).ranks())
        if joined < self.workers:
            return f"starting ranks, {joined} of {self.workers}" if joined else "starting ranks"
        return "loading framework, model and data"

    def __enter__(self) -> "Progress":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()
        self.forget()
