"""dist-keras' schemes: trainings in several rounds, with a look at the loss between them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dkcore.arguments import whole
from dkcore.dist_keras import tell

if TYPE_CHECKING:
    import keras

    from dkcore.trainers import Trainer

__all__ = ["Emperor", "Scheme"]

SETTLED = 0.5  # two losses that are closer than this have settled
LESS = 10  # what the learning rate is divided by then


class Scheme:
    """Training in rounds: `optimize` trains, looks, and decides how the next round is to be.

    Args:
        optimizer: a trainer.
        num_epoch: epochs of all rounds together.
        evaluation_frequency: epochs of a round; the last one has what is left.
    """

    def __init__(self, optimizer: "Trainer", num_epoch: int = 15, evaluation_frequency: int = 5):
        self.optimizer = optimizer
        self.num_epoch = whole("num_epoch", num_epoch, 1)
        self.evaluation_frequency = whole("evaluation_frequency", evaluation_frequency, 1)

    def optimize(self, training_set: Any, validation_set: Any) -> "keras.Model":
        """The trained model. training_set: what the trainer trains on. validation_set: what `decide` looks at."""
        for done in range(0, self.num_epoch, self.evaluation_frequency):
            self.optimizer.set_num_epoch(min(self.evaluation_frequency, self.num_epoch - done))
            trained = self.optimizer.train(training_set)
            self.optimizer.set_model(trained)
            self.decide(trained, validation_set)
        return trained

    def decide(self, trained: "keras.Model", validation_set: Any) -> None:
        """Called after each round; sets what shall be other in the next one."""
        raise NotImplementedError


class Emperor(Scheme):
    """Lowers the trainer's learning rate tenfold after a round whose validation loss is within 0.5 of that of the round before.

    Each round starts ranks anew, whose optimizers begin without their moments.

    Args:
        evaluate_loss: a function of a model and the validation set; it returns a number.
        optimizer, num_epoch, evaluation_frequency: see `Scheme`.
    """

    def __init__(
        self, optimizer: "Trainer", evaluate_loss: Callable[[Any, Any], float], num_epoch: int = 15, evaluation_frequency: int = 5
    ):
        super().__init__(optimizer, num_epoch, evaluation_frequency)
        tell("Emperor starts all ranks anew every evaluation_frequency epochs. A schedule of the worker_optimizer needs no restart.")
        self.evaluate_loss, self.previous_loss = evaluate_loss, float("inf")

    def decide(self, trained: "keras.Model", validation_set: Any) -> None:
        loss = self.evaluate_loss(trained, validation_set)
        if abs(loss - self.previous_loss) <= SETTLED:
            self.optimizer.set_learning_rate(self.optimizer.get_learning_rate() / LESS)
        self.previous_loss = loss
