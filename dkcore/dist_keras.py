"""What scripts of dist-keras call on a trainer beside `train`, and what they pass that means something else here.

docs/coming-from-dist-keras.md has the whole list.
"""

import sys
import warnings
from collections.abc import Mapping
from dataclasses import replace
from numbers import Real
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from dkcore.arguments import whole
from dkcore.errors import ModelError, expected
from dkcore.training.serialization import revive

if TYPE_CHECKING:
    import keras
    import pyarrow

    from dkcore.arrays import Array
    from dkcore.training.job import Job

__all__ = ["Accessors", "Count", "Names", "ParameterServer", "check_model", "nesterov", "rate", "refuse_schedule", "tell"]

Names = str | list[str] | dict[str, str]  # of columns
Value = TypeVar("Value")

PACKAGE = str(Path(__file__).parent)


class Count(int):
    """A number that may be called, too: in dist-keras it is an attribute here and a method there.

    >>> Count(3) + 1, Count(3)()
    (4, 3)
    """

    def __call__(self) -> int:
        return int(self)


class ParameterServer:
    """What is left of it: how many updates there were. There is no server, workers meet in shared memory.

    num_updates: exchanges of all workers.
    """

    def __init__(self, num_updates: Count):
        self.num_updates = num_updates

    def get_num_updates(self) -> int:
        return int(self.num_updates)


class Accessors:
    """The getters and setters of dist-keras' trainers; a setter holds from the next `train` on. Trainers inherit them."""

    job: "Job"
    model: "keras.Model"
    columns: tuple[Names, Names]
    parallelism_factor: int
    report: dict[str, Any] | None
    history: "pyarrow.Table | None"
    force: tuple[float, float] | None = None  # rho and learning rate of an elastic trainer: alpha is their product

    def change(self, **settings: Any) -> None:
        """Other settings of the job, checked like those of the constructor."""
        self.job = replace(self.job, **settings)

    def set_model(self, model: "keras.Model") -> None:
        """Train this one next."""
        check_model(model)
        self.model = model

    def set_num_workers(self, num_workers: int) -> None:
        self.change(workers=num_workers)

    def get_num_workers(self) -> int:
        return self.job.workers

    def set_num_epoch(self, num_epoch: int) -> None:
        self.change(epochs=num_epoch)

    def get_num_epoch(self) -> int:
        return self.job.epochs

    def set_minibatch_size(self, size: int) -> None:
        self.change(batch_size=size)

    def get_minibatch_size(self) -> int:
        return self.job.batch_size

    def get_features_column(self) -> Any:
        return self.columns[0]

    def get_label_column(self) -> Any:
        return self.columns[1]

    def set_parallelism_factor(self, factor: int) -> None:
        """It changes nothing: the workers of a node pool their rows, so nobody waits for the slowest partition."""
        self.parallelism_factor = whole("parallelism_factor", factor, 1)

    def get_parallelism_factor(self) -> int:
        return self.parallelism_factor

    def set_max_prefetch(self, max_mini_batches: int) -> None:
        tell(f"set_max_prefetch({max_mini_batches}) does nothing: workers read their rows as they need them. Leave it out.")

    def get_learning_rate(self) -> float:
        """What ``learning_rate=`` sets: the workers' optimizer's, but where the trainer's own text says otherwise."""
        if self.force:
            return self.force[1]
        return float(self.worker_optimizer().learning_rate) if self.job.learning_rate is None else self.job.learning_rate

    def set_learning_rate(self, learning_rate: float) -> None:
        if self.force:
            self.force = (self.force[0], rate(learning_rate))
            return self.change(scalars={**self.job.scalars, "alpha": self.force[0] * self.force[1]})
        refuse_schedule(self.worker_optimizer())
        self.change(learning_rate=rate(learning_rate))

    def worker_optimizer(self) -> "keras.optimizers.Optimizer":
        """A copy of what workers begin with."""
        import keras

        given = revive(self.job.optimizer) or getattr(self.model, "optimizer", None) or self.job.default_optimizer
        return keras.optimizers.get(given)

    def done(self) -> dict[str, Any]:
        return trained(self.report)

    def get_history(self) -> list[dict[str, Any]]:
        """One record for each exchange of each worker: worker, step, time, epoch, loss, metrics, staleness."""
        return [record for record in trained(self.history).to_pylist() if record["worker"] >= 0]

    def get_executor_history(self, worker: int) -> list[dict[str, Any]]:
        """The records of one worker, in order."""
        from dkcore.report import history

        return history.executor_history(trained(self.history), worker)

    def get_averaged_history(self) -> "Array":
        """Loss and metrics at each step, averaged over the workers: a structured array, see `dkcore.history`."""
        from dkcore.report import history

        return history.averaged_history(trained(self.history))

    def get_training_time(self) -> float:
        """Seconds of training, without start-up and evaluation."""
        return float(self.done()["training_time_s"])

    @property
    def num_updates(self) -> Count:
        """Exchanges of all workers; may be called, as in dist-keras."""
        return Count(self.done()["exchanges"])

    def has_history(self) -> bool:
        """Whether it has trained."""
        return self.history is not None

    @property
    def parameter_server(self) -> ParameterServer | None:
        """``trainer.parameter_server.num_updates``; None before training."""
        return ParameterServer(self.num_updates) if self.has_history() else None


def trained(left: Value | None) -> Value:
    """What a training leaves on its trainer; ValueError before there was one."""
    if left is None:
        raise ValueError(expected("a trainer that has trained", "one that has not", "Call train first."))
    return left


def check_model(model: Any) -> None:
    """ModelError for what is no Keras model."""
    import keras

    if not isinstance(model, keras.Model):
        raise ModelError(expected("a Keras model", type(model).__name__, "Pass keras.Sequential([...]) or the like."))


def rate(value: Any, name: str = "learning_rate") -> float:
    """A learning rate, or what is like one; ValueError for what is none."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not 0 < value < float("inf"):
        advice = f"Such as {name}=0.1; a schedule of the learning rate belongs to the optimizer."
        raise ValueError(expected(f"{name} as a number above 0", repr(value), advice))
    return float(value)


def refuse_schedule(optimizer: Any) -> None:
    """ValueError when an optimizer's learning rate follows a schedule, which nobody can set."""
    import keras

    if isinstance(getattr(optimizer, "_learning_rate", None), keras.optimizers.schedules.LearningRateSchedule):
        what = "an optimizer without a schedule beside learning_rate="
        raise ValueError(expected(what, type(optimizer._learning_rate).__name__, "Leave learning_rate out, or the schedule."))


def nesterov(optimizer: Any, learning_rate: float, momentum: float | None) -> "keras.optimizers.SGD":
    """EAMSGD's local step: Keras' SGD with Nesterov momentum, as far as possible of the optimizer that was given.

    optimizer: of the user's; ``default``, or None, for one of that learning rate. What is replaced is told by a warning.
    """
    import keras

    plain = {"learning_rate": learning_rate, "momentum": 0.9, "nesterov": True}
    changed = {} if momentum is None else {"momentum": momentum}
    if optimizer is None or (isinstance(optimizer, str) and optimizer.lower() in ("default", "sgd")):
        return keras.optimizers.SGD(**plain | changed)
    given = keras.optimizers.get(dict(optimizer) if isinstance(optimizer, Mapping) else optimizer)
    if not isinstance(given, keras.optimizers.SGD):
        made = keras.optimizers.SGD(**plain | changed)
        why = f"{type(given).__name__} is not used; to keep it, use AEASGD"
    else:
        own = given.get_config()
        made = keras.optimizers.SGD.from_config(own | {"nesterov": True, "momentum": own["momentum"] or plain["momentum"]} | changed)
        why = "made of the SGD that was given" if made.get_config() != own else ""
    if why:
        settings = f"learning_rate={float(made.learning_rate):.6g}, momentum={made.momentum:g}, nesterov=True"
        tell(f"The local step of EAMSGD is keras.optimizers.SGD({settings}): {why}.")
    return made


def tell(text: str) -> None:
    """Warn the line of the user's script that called."""
    level = 1
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, UserWarning, stacklevel=level)
