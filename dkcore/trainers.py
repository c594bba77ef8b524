"""Trainers with the names, arguments and defaults that dist-keras' users know. Each is thin: a rule, defaults, a `Job`.

In a script::

    trainer = ADAG(model, worker_optimizer="adam", loss="sparse_categorical_crossentropy", num_workers=2)
    trained = trainer.train((x, y), validation_data=(x_test, y_test))
"""

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from dkcore.dist_keras import nesterov, rate, refuse_schedule
from dkcore.errors import expected
from dkcore.formula.rule import Rule
from dkcore.formula.synchronous import Synchronous
from dkcore.launch.hosts import count_ranks, parse_hosts
from dkcore.trainer import Trainer

if TYPE_CHECKING:
    import keras

__all__ = ["ADAG", "AEASGD", "AGN", "DOWNPOUR", "EAMSGD", "EASGD", "AveragingTrainer", "DiLoCo", "DynSGD", "EnsembleTrainer",
           "Experimental", "SingleTrainer", "Trainer"]  # fmt: skip


class SingleTrainer(Trainer):
    """One worker, plain training; the center only mirrors it."""

    rule, window, workers = "single", 12, 1


class DOWNPOUR(Trainer):
    """Dean et al. 2012, Large scale distributed deep networks."""

    rule, window = "downpour", 5


class ADAG(Trainer):
    """Accumulated gradient normalization (AGN), which dist-keras calls ADAG. Hermans et al. 2017, arXiv 1710.02368."""

    rule, window = "adag", 12


AGN = ADAG


class DynSGD(Trainer):
    """Progress damped by staleness; Hermans 2017, after Jiang et al. 2017 (SIGMOD)."""

    rule, window = "dynsgd", 5


class AEASGD(Trainer):
    """Asynchronous elastic averaging; Zhang, Choromanska, LeCun 2015, arXiv 1412.6651.

    The elastic force is ``alpha``, or ``rho * learning_rate`` as dist-keras has it (5.0 * 0.1), whose learning_rate is of the
    force alone; the paper's choice is 0.9 / num_workers. With alpha, or a rule of your own, learning_rate is the optimizer's.
    """

    rule, window, scalars = "aeasgd", 32, {"alpha": 0.5}

    def __init__(
        self,
        *arguments: Any,
        rho: float | None = None,
        learning_rate: float | None = None,
        alpha: float | None = None,
        rule: str | Rule | Synchronous | None = None,
        **options: Any,
    ):
        if rule is None and alpha is None:
            self.force = (rate(5.0 if rho is None else rho, "rho"), rate(0.1 if learning_rate is None else learning_rate))
            rho, learning_rate, alpha = None, None, self.force[0] * self.force[1]
        options |= {name: value for name, value in (("rho", rho), ("alpha", alpha)) if value is not None}
        super().__init__(*arguments, rule=rule, learning_rate=learning_rate, **options)


class EAMSGD(AEASGD):
    """AEASGD with Nesterov momentum as the local step: Keras' own SGD, which takes the gradient at the look-ahead point.

    learning_rate: of the elastic force, and of that step unless the optimizer is an SGD with its own. momentum: of the step, 0.9
    by default. A worker_optimizer that is no SGD with nesterov=True is replaced by one, and a warning says by which.
    """

    optimizer = MappingProxyType(
        {"class_name": "SGD", "module": "keras.optimizers", "config": {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}}
    )

    def __init__(
        self,
        keras_model: "keras.Model",
        worker_optimizer: Any = "default",
        *arguments: Any,
        learning_rate: float | None = None,
        momentum: float | None = None,
        **options: Any,
    ):
        worker_optimizer = getattr(keras_model, "optimizer", None) if worker_optimizer is None else worker_optimizer
        worker_optimizer = nesterov(worker_optimizer, rate(0.1 if learning_rate is None else learning_rate), momentum)
        super().__init__(keras_model, worker_optimizer, *arguments, learning_rate=learning_rate, **options)

    def set_learning_rate(self, learning_rate: float) -> None:
        refuse_schedule(self.worker_optimizer())
        super().set_learning_rate(learning_rate)
        self.change(learning_rate=rate(learning_rate))


class EASGD(Trainer):
    """Synchronous elastic averaging; Zhang, Choromanska, LeCun 2015, arXiv 1412.6651.

    All workers meet every window. ``alpha`` is the elastic force, by default the paper's beta / num_workers with beta = 0.9; with
    ``rho``, it is ``rho * learning_rate`` as in dist-keras.
    """

    rule, window = "easgd", 10
    beta: float | None = None

    def __init__(
        self,
        *arguments: Any,
        alpha: float | None = None,
        beta: float | None = None,
        rho: float | None = None,
        learning_rate: float | None = None,
        num_workers: int | None = None,
        rule: str | Rule | Synchronous | None = None,
        **options: Any,
    ):
        hosts = options.get("hosts")
        asked = count_ranks(hosts and parse_hosts(hosts), num_workers, None)
        workers = self.workers if asked is None else asked
        if rule is None and alpha is None and rho is not None:
            self.force = (rate(rho, "rho"), rate(0.1 if learning_rate is None else learning_rate))
            rho, learning_rate, alpha = None, None, self.force[0] * self.force[1]
        elif rule is None and alpha is None:
            self.beta, beta = 0.9 if beta is None else beta, None
            alpha = self.scalars_for(workers, self.beta)["alpha"]
        options |= {name: value for name, value in (("alpha", alpha), ("beta", beta), ("rho", rho)) if value is not None}
        super().__init__(*arguments, num_workers=workers, rule=rule, learning_rate=learning_rate, **options)

    @classmethod
    def scalars_for(cls, workers: int, beta: float = 0.9) -> dict[str, float]:
        return {"alpha": beta / max(workers, 1)}

    def set_num_workers(self, num_workers: int) -> None:
        super().set_num_workers(num_workers)
        if self.beta is not None:
            self.change(scalars=self.job.scalars | self.scalars_for(num_workers, self.beta))


class AveragingTrainer(Trainer):
    """Model averaging: every window steps (SparkNet's tau) all workers go on from their mean. Moritz et al. 2015, arXiv 1511.06051."""

    rule, window = "averaging", 50


class EnsembleTrainer(Trainer):
    """As many models as workers, each trained by itself on its own shard in its own order; `train` returns their average.

    All start from the given model. num_ensembles: dist-keras' name of num_workers.

    Attributes:
        models: after training, the members: what `train` returned has them for layers, and the mean of their outputs.
    """

    rule, window = "independent", 12

    def __init__(self, *arguments: Any, num_ensembles: int | None = None, num_workers: int | None = None, **options: Any):
        from dkcore.training import ensemble

        if options.get("rule") is not None:
            raise ValueError(expected("no rule for an ensemble", repr(options["rule"]), "Use Trainer(model, rule=...)."))
        super().__init__(*arguments, num_workers=num_ensembles if num_workers is None else num_workers, **options)
        ensemble.check(self.model)
        self.models: list[keras.Model] = []

    def set_model(self, model: "keras.Model") -> None:
        from dkcore.training import ensemble

        super().set_model(model)
        ensemble.check(model)

    def train(self, *arguments: Any, **options: Any) -> "keras.Model":
        from dkcore.training import ensemble

        trained = super().train(*arguments, **options)
        self.models = ensemble.members(trained)
        return trained


class DiLoCo(Trainer):
    """Outer Nesterov momentum on the mean progress of many local AdamW steps. Douillard et al. 2023, arXiv 2311.08105.

    ``lr`` and ``momentum`` are those of the outer step. On small data choose a window that leaves some rounds.
    """

    rule, window, optimizer, scalars = "diloco", 500, "adamw", {"lr": 0.7, "momentum": 0.9}


class Experimental(Trainer):
    """The thesis' ADAG: accumulated gradient normalization, damped by how far the center has moved. Hermans 2017.

    ``learning_rate`` is the distance that halves a step (gamma in the thesis).
    """

    rule, window, scalars = "adag_distance", 5, {"lr": 1e-4}

    def __init__(self, *arguments: Any, learning_rate: float | None = None, rule: str | Rule | Synchronous | None = None, **options: Any):
        if rule is None and learning_rate is not None:
            options, learning_rate = {"lr": rate(learning_rate), **options}, None
        super().__init__(*arguments, rule=rule, learning_rate=learning_rate, **options)

    def get_learning_rate(self) -> float:
        return self.job.scalars["lr"] if self.job.rule == self.rule else super().get_learning_rate()

    def set_learning_rate(self, learning_rate: float) -> None:
        if self.job.rule != self.rule:
            return super().set_learning_rate(learning_rate)
        self.change(scalars={**self.job.scalars, "lr": rate(learning_rate)})


TRAINERS: dict[str, type[Trainer]] = {
    name: kind for name, kind in list(globals().items()) if isinstance(kind, type) and issubclass(kind, Trainer) and kind is not Trainer
}
