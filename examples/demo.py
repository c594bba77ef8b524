"""The main job on real data: MNIST with ADAG on two ranks, and the same budget on one. ``make demo`` runs it."""

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from dkcore.cli import main as dkcore

MODEL = f"{Path(__file__).parent}/mnist.py:mlp"


def train(out: Path, data: str, trainer: str, workers: int, epochs: int) -> dict:
    """One training by the command line; its report."""
    print(f"\n{trainer}, {workers} worker{'s' * (workers > 1)}", flush=True)
    options = ["--model", MODEL, "--data", data, "--trainer", trainer, "--window", 12, "--workers", workers, "--epochs", epochs]
    dkcore(["train", *map(str, options), "--out", str(out)], standalone_mode=False)
    return json.loads((out / "report.json").read_text())


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Where results go.")
@click.option("--data", default="mnist", show_default=True, help="mnist, or FILE.npz in its shape.")
@click.option("--epochs", default=3, show_default=True, help="Of each training.")
def main(out: Path, data: str, epochs: int) -> None:
    """Train with one worker and with two, print a table, and say where the plots are."""
    columns = "trainer", "workers", "accuracy", "samples/s", "training", "exchanging"
    table = Table(*columns, title=f"{data}, {epochs} epochs", title_justify="left")
    for trainer, workers in (("SingleTrainer", 1), ("ADAG", 2), ("AEASGD", 2)):
        report = train(out / trainer.lower(), data, trainer, workers, epochs)
        share = "-" if workers == 1 else f"{report['exchange_share'] or 0:.2%}"
        numbers = f"{report['test_accuracy']:.4f}", f"{report['samples_per_s'] or 0:,.0f}", f"{report['training_time_s']:.1f} s"
        table.add_row(trainer, str(workers), *numbers, share)
    Console().print(table)
    print("accuracy of the center on the test images; exchanging: share of the training time")
    print(f"plots: {out}/adag/report.png {out}/aeasgd/report.png; reports, histories and models lie beside them")


if __name__ == "__main__":
    main()
