"""A job: a directory with model, data and settings in, and trained model, history and report out.

It is the one contract between every front and every launcher: the command line and the trainers write one, and
``python -m dkcore.worker DIRECTORY`` trains it, whoever started the ranks.

    job.json                  the settings (the fields of `Job`)
    model.keras               the model, unless job.json names a function that builds it
    data/                     arrays that ranks map
    center                    name of the center in shared memory, while ranks run
    logs/  status/            what each rank printed; how it fares (dkcore/launch.py)
    rank-N.json  rank-N.parquet     what rank N did: its sums, its history
    trained.keras  evaluation.json  center.parquet   the model with the center's weights, its test, and its tests on the way
"""

import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkcore.errors import DataError, expected
from dkcore.merging import Merging
from dkcore.rule import ENGINE_SCALARS, Rule
from dkcore.rules import REGISTRY
from dkcore.startup import keep_compiled, without
from dkcore.synchronous import METHODS, Synchronous, check_staleness

if TYPE_CHECKING:
    from dkcore.nodes import World

__all__ = ["JOB", "Job"]

JOB = ".dkcore-job-"  # how a directory is called that a job has for itself, where all its hosts see it


@dataclass
class Job:
    """The settings of a training; see the module for what lies beside them.

    Attributes:
        trainer: the name to report.
        rule: name of a built-in rule or synchronous method, or `to_dict` of any.
        scalars: its hyper-parameters.
        window: optimizer steps between exchanges.
        model: ``model.keras`` in the directory, or ``FILE.py:FUNCTION``.
        optimizer, loss, metrics, loss_weights: for ``compile``, as names or as serialized Keras objects. Without optimizer
            and loss a compiled model keeps its own; else they are adam, and a loss by the labels' dtype.
        learning_rate: of the optimizer, when not None.
        modules: names or files of modules that register custom layers; paths: where to look for them.
        scale: training and test images are multiplied by it, None leaves them as they are.
        steps_per_execution: None chooses it (the window on TensorFlow).
        max_staleness: exchanges that a worker may be ahead of the slowest live one; None: any.
        checkpoint: rank 0 leaves the center in the directory after each of its epochs; a job that finds one there goes on from it.
        merge_every, merge_compression, merge_timeout, on_node_loss: see `dkcore.merging.Merging`; for jobs on several nodes.
    """

    trainer: str = "ADAG"
    rule: str | dict = "adag"
    scalars: dict[str, float] = field(default_factory=dict)
    window: int = 12
    workers: int = 2
    epochs: int = 1
    batch_size: int = 32
    shuffle: bool = True
    seed: int = 0
    backend: str = "tensorflow"
    model: str = "model.keras"
    optimizer: Any = None
    learning_rate: float | None = None
    loss: Any = None
    metrics: list | dict = field(default_factory=list)
    loss_weights: Any = None
    modules: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    scale: float | None = None
    check_finite: bool = True
    steps_per_execution: int | None = None
    max_staleness: int | None = None
    merge_every: str | int = "auto"
    merge_compression: str = "none"
    merge_timeout: float = 60.0
    on_node_loss: str = "stop"
    checkpoint: bool = False
    directory: Path | None = None

    def __post_init__(self):
        for name in ("window", "workers", "epochs", "batch_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(expected(f"{name} of 1 or more", repr(value), "It is a whole number."))
        if self.backend not in ("tensorflow", "jax", "torch"):
            raise ValueError(expected("a backend of tensorflow, jax, torch", repr(self.backend), "These are what Keras 3 trains on."))
        self.the_rule.fill(self.scalars, ENGINE_SCALARS)
        check_staleness(self.max_staleness, self.the_rule)
        Merging(self.merge_every, self.merge_compression, self.merge_timeout, self.on_node_loss)
        if self.the_rule.name == "single" and self.workers != 1:  # the last writer would win, and the others' work be lost
            raise ValueError(expected("1 worker for plain training", self.workers, "Choose another trainer for more."))
        if self.the_rule.name == "independent" and self.on_node_loss != "stop":  # no member is anywhere but in its rank
            raise ValueError(expected("on_node_loss='stop' for an ensemble", repr(self.on_node_loss), "All of its members are needed."))

    @property
    def the_rule(self) -> Rule | Synchronous:
        """The rule or the synchronous method itself."""
        known = REGISTRY | METHODS
        if isinstance(self.rule, dict):
            return (Synchronous if "gather" in self.rule else Rule).from_dict(self.rule)
        if self.rule not in known:
            raise ValueError(expected(f"a rule of {', '.join(known)}", repr(self.rule), "`dkcore rules` shows them."))
        return known[self.rule]

    def save(self, directory: Path | str, data: dict | None = None) -> "Job":
        """Write job.json, and the arrays of ``data`` (keys x_train, y_train, x_test, y_test) if given."""
        from dkcore import data as data_files

        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        if data is not None:
            data_files.Shard(data, 0, self.workers)  # refuses too few samples here, and not in every rank
            data_files.write(self.directory / "data", data)
        settings = {name: value for name, value in dataclasses.asdict(self).items() if name != "directory"}
        (self.directory / "job.json").write_text(json.dumps(settings, indent=1))
        return self

    @classmethod
    def load(cls, directory: Path | str) -> "Job":
        """The job of a directory; DataError when there is none."""
        path = Path(directory) / "job.json"
        if not path.exists():
            raise DataError(expected("a job directory with job.json", str(directory), "`dkcore train` and the trainers write one."))
        return cls(**json.loads(path.read_text()), directory=Path(directory))

    def run(self, world: "World") -> None:
        """Train, as one rank of ``world``."""
        os.environ["KERAS_BACKEND"] = self.backend  # before the first import of keras
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        if self.backend == "jax":
            keep_compiled(os.environ)
        with without("matplotlib", "pandas"):
            from dkcore.training import train

        train(self, world)

    def launch(self, *, mpi: str = "auto", hosts: "str | list | None" = None, show: bool = False, temporary: bool = False,
               on_tick: Callable[[], None] | None = None) -> None:
        """Start the ranks, on this machine or on ``hosts``, and wait for them; RankError when one fails.

        hosts: as for `dkcore.launch`; they must see the directory. show: a progress bar. temporary: the directory goes with
        this process, should it be killed.
        """
        from dkcore.launch import launch
        from dkcore.progress import Progress

        with Progress(self, show=show) as progress:

            def tick() -> None:
                progress.update()
                if on_tick:
                    on_tick()

            tolerant = self.on_node_loss == "shrink"
            mpi = "openmpi" if tolerant and mpi == "auto" else mpi
            settings = {"mpi": mpi, "hosts": hosts, "temporary": temporary, "tolerant": tolerant}
            launch([str(self.directory)], self.workers, directory=self.directory, on_tick=tick, **settings)
