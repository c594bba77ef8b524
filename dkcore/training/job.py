"""A job: a directory with model, data and settings in, and trained model, history and report out.

It is the one contract between every front and every launcher: the command line and the trainers write one, and
``python -m dkcore.worker DIRECTORY`` trains it, whoever started the ranks.

    job.json                  the settings (the fields of `Job`)
    model.keras               the model, unless job.json names a function that builds it
    data/                     arrays that ranks map
    center                    name of the center in shared memory, while ranks run
    logs/  status/            what each rank printed; how it fares (dkcore/launch/launch.py)
    rank-N.json  rank-N.parquet     what rank N did: its sums, its history
    trained.keras  evaluation.json  center.parquet   the model with the center's weights, its test, and its tests on the way
"""

import contextlib
import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkcore.arguments import whole
from dkcore.errors import DataError, expected
from dkcore.formula.rule import ENGINE_SCALARS, Rule
from dkcore.formula.synchronous import Synchronous, check_staleness
from dkcore.registry import rule_of
from dkcore.settings.setting import internal
from dkcore.settings.settings import SEEDS, Settings

if TYPE_CHECKING:
    from dkcore.checkpoints.manifest import Saved
    from dkcore.launch.hosts import Host

__all__ = ["JOB", "RESUME", "Job", "has_seats"]

RESUME = "resume"  # the checkpoint to go on from, in the directory of a job whose checkpoints travel
JOB = ".dkcore-job-"  # how a directory is called that a job has for itself, where all its hosts see it


def has_seats(directory: Path | str) -> bool:
    """Whether the ranks of a job in a directory run their workers as children."""
    path = Path(directory) / "job.json"
    return path.exists() and json.loads(path.read_text()).get("on_worker_loss", "stop") != "stop"


def chosen(location: str) -> "Saved":
    """The whole checkpoint of that path, or the newest one of a folder; what is skipped is said."""
    from dkcore.checkpoints.manifest import find

    saved = find(location)
    for reason in saved.skipped:
        print(f"dkcore: skipped a newer checkpoint: {reason}", file=sys.stderr)
    return saved


def path_of(_: str, value: Any) -> Path:
    return Path(value)


@dataclass(kw_only=True)
class Job(Settings):
    """The settings of a training, and the directory that they lie in; see the module for what lies beside them.

    The settings, with what each of them means, are the fields of `dkcore.settings.settings.Settings`.
    """

    directory: Path | None = internal(None, "Where job.json lies; it is not in it.", check=path_of)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.seed = whole("seed", self.seed, 0, SEEDS - self.workers)  # each rank has its own
        self.the_rule.fill(self.scalars, ENGINE_SCALARS)
        check_staleness(self.max_staleness, self.the_rule)
        if self.rule == "single" and self.workers != 1:  # the last writer would win, and the others' work be lost
            raise ValueError(expected("1 worker for plain training", self.workers, "Choose another trainer for more."))
        if self.apart and self.on_node_loss != "stop":  # no member is anywhere but in its rank
            raise ValueError(expected("on_node_loss='stop' for an ensemble", repr(self.on_node_loss), "All of its members are needed."))

        if self.apart and self.on_worker_loss != "stop":
            advice = "A member's weights die with its worker."
            raise ValueError(expected("on_worker_loss='stop' for an ensemble", repr(self.on_worker_loss), advice))
        if self.stall_timeout is not None and self.on_worker_loss == "stop":
            advice = "Pass on_worker_loss='restart', or 'shrink', too."
            raise ValueError(expected("on_worker_loss for stall_timeout", f"stall_timeout={self.stall_timeout:g} alone", advice))
        if self.checkpoint_every is not None and self.checkpoint is None and not self.travels:
            advice = "Pass checkpoint=, too."
            raise ValueError(expected("a folder for checkpoints", f"checkpoint_every={self.checkpoint_every!r} alone", advice))
        if self.apart and self.sharding != "fixed":
            raise ValueError(expected("sharding='fixed' for an ensemble", repr(self.sharding), "Each member has its own part of the rows."))
        self.refuse_two_beginnings()

    def refuse_two_beginnings(self) -> None:
        """ValueError for a checkpoint and an initial epoch."""
        if self.resume is not None and self.initial_epoch:
            raise ValueError(expected("resume or initial_epoch", "both", "The checkpoint says which epochs are done."))

    @property
    def checkpoint_location(self) -> str | None:
        """Where a rank writes its part of checkpoints; None where none are written."""
        return str(self.home / "checkpoints") if self.travels else self.checkpoint

    @property
    def resume_location(self) -> str:
        """The checkpoint that a rank goes on from."""
        return str(self.home / RESUME) if self.travels else str(self.resume)

    @property
    def home(self) -> Path:
        """The directory of a job that lies in one; ValueError for another."""
        if self.directory is None:
            raise ValueError(expected("a job that lies in a directory", "one that was not saved", "Call job.save(directory) first."))
        return self.directory

    @property
    def the_rule(self) -> Rule | Synchronous:
        """The rule or the synchronous method itself."""
        return rule_of(self.rule)

    @property
    def leases(self) -> bool:
        """Whether workers lease batches from each other."""
        return self.sharding == "dynamic"

    @property
    def apart(self) -> bool:
        """Whether workers are members of an ensemble; a user's own rule of that name is another one."""
        return self.rule == "independent"

    def save(self, directory: Path | str, data: dict[str, Any] | None = None) -> "Job":
        """Write job.json, and the arrays of ``data`` (keys x_train, y_train, x_test, y_test) if given."""
        from dkcore.data import arrays as data_files
        from dkcore.data.shard import Shard

        self.directory = home = Path(directory)
        home.mkdir(parents=True, exist_ok=True)
        if data is not None:
            Shard(data, 0, self.workers)  # refuses too few samples here, and not in every rank
            data_files.write(home / "data", data)
        settings = {name: value for name, value in dataclasses.asdict(self).items() if name != "directory"}
        if self.resume is not None:
            settings["resume"] = chosen(self.resume).location
        (home / "job.json").write_text(json.dumps(settings, indent=1))
        return self

    @classmethod
    def load(cls, directory: Path | str) -> "Job":
        """The job of a directory; DataError when there is none."""
        path = Path(directory) / "job.json"
        if not path.exists():
            raise DataError(expected("a job directory with job.json", str(directory), "`dkcore train` and the trainers write one."))
        return cls(**json.loads(path.read_text()), directory=Path(directory))

    def launch(
        self,
        *,
        mpi: str = "auto",
        hosts: "str | Iterable[str | Host] | None" = None,
        show: bool = False,
        temporary: bool = False,
        on_tick: Callable[[], None] | None = None,
    ) -> None:
        """Start the ranks, on this machine or on ``hosts``, and wait for them; RankError when one fails.

        With workers that may be lost, on this machine alone and with mpi="auto", they are children of one agent, without MPI.
        hosts: as for `dkcore.launch`; they must see the directory. show: a progress bar. temporary: the directory goes with
        this process, should it be killed.
        """
        from dkcore.launch.launch import launch
        from dkcore.launch.node_agent import launch_agent, suits
        from dkcore.training.agent_restarts import train_by_agents
        from dkcore.training.progress import Progress
        from dkcore.training.stopping import STOP, StopSignals

        home = self.home
        if show and self.on_worker_loss != "stop":
            print(f"dkcore: more workers may join: dkcore join {home}", file=sys.stderr)
        stops = contextlib.nullcontext() if self.checkpoint is None else StopSignals((home / STOP).touch)
        with stops, Progress(home, self.trainer, self.workers, show=show) as progress:

            def tick() -> None:
                progress.update()
                if on_tick:
                    on_tick()

            if self.on_worker_loss != "stop" and suits(mpi, hosts):
                by_one = functools.partial(launch_agent, home, self.workers, on_tick=tick, temporary=temporary)
                return train_by_agents(self, by_one, progress.forget)
            tolerant = self.on_node_loss == "shrink"
            mpi = "openmpi" if tolerant and mpi == "auto" else mpi
            launch([str(home)], self.workers, directory=home, on_tick=tick, mpi=mpi, hosts=hosts, temporary=temporary, tolerant=tolerant)
