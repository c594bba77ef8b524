"""What all trainers share: arguments that become a `Job`, checks on the driver, and the training by the source of the data."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dkcore.arguments import listed, plain, whole
from dkcore.dist_keras import Accessors, Names, check_model, rate, refuse_schedule, tell
from dkcore.errors import expected, nearest
from dkcore.formula.rule import Rule
from dkcore.formula.synchronous import Synchronous
from dkcore.frameworks import tensorflow_hidden
from dkcore.launch.hosts import count_ranks, parse_hosts, place
from dkcore.registry import rule_of
from dkcore.settings.keywords import divided, documented, names_of, with_settings
from dkcore.settings.setting import settings_of
from dkcore.settings.settings import Settings
from dkcore.training import sources
from dkcore.training.job import Job
from dkcore.training.serialization import ITEMS, excluded_from_decay, own_items, serialize

if TYPE_CHECKING:
    import keras
    import pyarrow

__all__ = ["Names", "Trainer"]

LATER = {
    "callbacks": "Trainers take no callbacks yet: call fit in a script of your own, with dkcore.Exchange among its callbacks.",
    "optimizer": "It is called worker_optimizer.",
    "validation_split": "Pass validation_data to train.",
    "sample_weight": "Pass train((x, y, sample_weight)).",
}


@documented()
class Trainer(Accessors):
    """What all trainers share; also the trainer for a rule of your own: ``Trainer(model, rule=mine, alpha=0.2)``.

    Args:
        keras_model: a built Keras model.
        {arguments of settings}
        rule, scalars: a rule of `dkcore.rules` or its name, or your own, and its hyper-parameters by their names. It keeps its own
            defaults, whatever those of the trainer, and the report has its name for the trainer's.
        master_port: for scripts of dist-keras; it does nothing, and warns.
        mpi: ``auto``, ``mpich``, ``openmpi`` or ``site``, see `dkcore.launch`.
        hosts: such as ``"a:2,b:2"``, see `dkcore.launch`; then num_workers is the sum of the slots by default.
        directory: an existing folder that all hosts see, for the job's files while it runs; the current one by default.
        features_col, label_col: names of the columns, for DataFrames: one, a list in the order of the model's inputs or outputs,
            or a dict from their names. weight_col: of the column of sample weights, if there is one.
        parallelism_factor: for scripts of dist-keras, which dealt out so many partitions to each worker; here the workers of a
            node pool their rows, so it changes nothing.
        max_restarts: for DataFrames: how often to start again, from the last epoch's center, when ranks fail.

    Raises:
        ModelError: no Keras model. ValueError, TypeError: an argument that cannot be meant.
    """

    rule: ClassVar[str] = "adag"
    window: ClassVar[int] = 12
    workers: ClassVar[int] = 2
    scalars: ClassVar[dict[str, float]] = {}
    optimizer: ClassVar[Any] = "adam"

    @with_settings(start="metrics")
    def __init__(self, keras_model: "keras.Model", worker_optimizer: Any = "default", loss: Any = None,
                 metrics: list[Any] | tuple[Any, ...] | dict[str, Any] | None = None, *,
                 features_col: Names = "features", label_col: Names = "label", rule: str | Rule | Synchronous | None = None,
                 mpi: str = "auto", hosts: str | list[str] | None = None, directory: str | Path | None = None, parallelism_factor: int = 1,
                 max_restarts: int = 0, weight_col: str | None = None, master_port: int | None = None, **scalars: Any):  # fmt: skip
        check_model(keras_model)
        if master_port is not None:
            tell("master_port does nothing: there is no server, and no port. Leave it out.")
        self.model, self.mpi, self.columns = keras_model, mpi, (features_col, label_col)
        self.weight_col = weight_col
        self.set_parallelism_factor(parallelism_factor)
        self.max_restarts = whole("max_restarts", max_restarts, 0)
        self.hosts, self.directory = None if hosts is None else parse_hosts(hosts), directory
        positional = {"worker_optimizer": worker_optimizer, "loss": loss, "metrics": metrics}
        settings, scalars = divided(positional | scalars)
        self.seed = settings["seed"]
        chosen = rule_of(self.rule if rule is None else rule)
        if rule is None:
            scalars = {**self.scalars, **scalars}
        if settings["learning_rate"] is not None and "learning_rate" in chosen.scalars:
            scalars, settings["learning_rate"] = {**scalars, "learning_rate": settings["learning_rate"]}, None
        self.refuse_unknown(chosen, scalars)
        self.given_optimizer = self.chosen_optimizer(settings)
        trainer = type(self).__name__ if rule is None else chosen.name
        self.job = Job(trainer=trainer, rule=chosen, scalars=scalars, **self.completed(settings))
        if self.hosts:
            place(self.hosts, self.job.workers)  # refuses too many
        self.report: dict[str, Any] | None = None
        self.history: pyarrow.Table | None = None

    def refuse_unknown(self, rule: Rule | Synchronous, scalars: dict[str, Any]) -> None:
        """TypeError for a keyword that is neither an argument of the trainer nor a scalar of its rule."""
        unknown = [name for name in scalars if name not in rule.scalars]
        if not unknown:
            return
        name = unknown[0]
        if name in LATER:
            raise TypeError(expected(f"no {name}= of {type(self).__name__}", f"{name}=", LATER[name]))
        what = f"an argument of {type(self).__name__}, or a scalar of rule {rule.name!r} ({', '.join(rule.scalars) or 'it has none'})"
        known = [each for each in (*names_of(type(self)), *rule.scalars) if each != name]  # of another rule: none here
        advice = nearest(name, known, "help() of the trainer lists them.")
        raise TypeError(expected(what, f"unknown: {name}", advice))

    def chosen_optimizer(self, settings: dict[str, Any]) -> Any:
        """The optimizer that was given, None when none was; ValueError for one that Keras does not know."""
        import keras

        given = settings["optimizer"]
        if isinstance(given, str) and given == "default":
            given = None
        if given is not None:
            keras.optimizers.get(given)
        if settings["learning_rate"] is not None:
            refuse_schedule(getattr(self.model, "optimizer", None) if given is None else keras.optimizers.get(given))
        return given

    def completed(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The settings as a Job takes them: objects of Keras as plain data, and what the trainer itself chooses."""
        import keras

        from dkcore.training.custom_objects import module_of

        settings = settings | {"optimizer": self.given_optimizer}
        for each in settings_of(Settings):
            if each.objects and each.name in settings:
                settings[each.name] = serialize(settings[each.name])
        learning_rate = settings["learning_rate"]
        return settings | {
            "learning_rate": None if learning_rate is None else rate(learning_rate),
            "window": self.window if settings["window"] is None else settings["window"],
            "workers": count_ranks(self.hosts, plain(settings["workers"]), self.workers),
            "seed": 0 if self.seed is None else self.seed,
            "backend": keras.backend.backend(),
            "default_optimizer": self.optimizer if isinstance(self.optimizer, str) else "adam",
            "modules": listed("custom_modules", settings["modules"], module_of),
        }

    def train(
        self, data: Any, shuffle: bool = True, validation_data: Any = None, *, initial_epoch: int = 0, show: bool = False
    ) -> "keras.Model":
        """Start the ranks, wait for them, and return a new Keras model with the center's weights, compiled as it was trained.

        Args:
            data: (x, y) or (x, y, sample_weight), numpy arrays (or nested lists, dicts of them) of as many rows each; or a Spark
                DataFrame, whose executors then train.
            shuffle: anew each epoch.
            validation_data: on which the center is evaluated after each epoch: a tuple like ``data``; for a DataFrame another one,
                or the fraction of its rows to hold out.
            initial_epoch: as of ``fit``: the epochs before it count as done.
            show: a progress bar; for a DataFrame, what the ranks print.

        Raises:
            ModelError, DataError: model, settings and data do not fit together; no rank was started.
            RankError: a rank raised or died; its traceback is in the message.
        """
        source, request = sources.source_of(data), self.request(data, validation_data, show=show)
        arrays = source.arrays_of(request)
        self.prepare(shuffle, initial_epoch, arrays)
        trained, self.report, self.history = source.train(request, arrays)
        return trained

    def request(self, data: Any = None, validation: Any = None, *, show: bool = False) -> sources.Request:
        """What this trainer asks of a source of data."""
        names = ("job", "model", "columns", "weight_col", "hosts", "mpi", "directory", "max_restarts")
        return sources.Request(data=data, validation=validation, show=show, **{name: getattr(self, name) for name in names})

    def prepare(self, shuffle: bool, initial_epoch: int, arrays: "dict[str, Any] | None" = None) -> None:
        """Complete the job by what the driver knows, and refuse here what every rank would fail at.

        arrays: by `dkcore.data.npz.KEYS`, if the driver has them.
        """
        from dkcore.data.shard import Shard
        from dkcore.launch.launch import search_paths

        job = self.job
        job.shuffle, job.paths = shuffle, search_paths()
        job.initial_epoch = whole("initial_epoch", initial_epoch, 0)
        job.refuse_two_beginnings()
        if job.initial_epoch >= job.epochs:
            advice = "num_epoch is the number of the last epoch, as epochs= of fit."
            raise ValueError(expected(f"an initial_epoch below num_epoch ({job.epochs})", initial_epoch, advice))
        known = [] if arrays is None else [Shard(arrays, 0, job.workers).arrays]
        with tensorflow_hidden(job.backend):
            self.examine(*known)

    def examine(self, arrays: tuple[Any, ...] | None = None) -> None:
        """The part of `prepare` that asks Keras: (x, y) or (x, y, sample_weight), if the driver has them."""
        from dkcore.training import custom_objects, dry_run, keras_state

        job = self.job
        job.keras = keras_state.note()
        if self.seed is None:
            job.seed = keras_state.driver_seed() or 0
        own = own_items(self.model)
        job.compiled = None if own is None else {name: serialize(own[name]) for name in ITEMS}
        optimizer = (own or {}).get("optimizer") if self.given_optimizer is None else self.given_optimizer
        job.excluded_from_decay = excluded_from_decay(self.model, optimizer)
        job.modules = list(dict.fromkeys([*job.modules, *custom_objects.modules_of(job, self.model)]))
        dry_run.check(job, self.model, arrays)

    @classmethod
    def scalars_for(cls, workers: int) -> dict[str, float]:
        """The scalars of the rule where none are given."""
        return dict(cls.scalars)
