"""The main job on real data: MNIST with ADAG on two ranks, and the same budget on one. ``make demo`` runs it."""

import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dkcore import outcome
from dkcore.front import job_of

HERE = Path(__file__).parent
DEFAULTS = {"optimizer": "adam", "loss": "sparse_categorical_crossentropy", "metrics": ("accuracy",), "scalars": (), "modules": ()}
DEFAULTS |= {"learning_rate": None, "scale": None, "seed": 0, "shuffle": True, "check_finite": True, "backend": None, "batch_size": 32}


def train(out: Path, trainer: str, workers: int, epochs: int) -> dict:
    """One training, as `dkcore train` does it; its report."""
    with tempfile.TemporaryDirectory(prefix="dkcore-demo-") as directory:
        options = {"model": f"{HERE}/mnist.py:mlp", "data": "mnist", "window": 12, "workers": workers, "epochs": epochs}
        job = job_of(directory, trainer=trainer, **options, **DEFAULTS)
        outcome.prepare(out)
        job.launch(show=True, temporary=True)
        return outcome.deliver(job, out)


def main(out: Path, epochs: int = 3) -> None:
    """Train both, print the table, and say where the plots are."""
    columns = "trainer", "workers", "accuracy", "samples/s", "training", "exchanging"
    table = Table(*columns, title=f"MNIST, {epochs} epochs", title_justify="left")
    for trainer, workers in (("SingleTrainer", 1), ("ADAG", 2), ("AEASGD", 2)):
        report = train(out / trainer.lower(), trainer, workers, epochs)
        share = "-" if workers == 1 else f"{report['exchange_share'] or 0:.2%}"
        numbers = f"{report['test_accuracy']:.4f}", f"{report['samples_per_s']:,.0f}", f"{report['training_time_s']:.1f} s"
        table.add_row(trainer, str(workers), *numbers, share)
    Console().print(table)
    print("accuracy of the center on the 10,000 test images; exchanging: share of the training time")
    print(f"plots: {out}/adag/report.png {out}/aeasgd/report.png; reports, histories and models lie beside them")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
