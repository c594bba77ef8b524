"""What a finished job comes to: the sums of its ranks, its merged history, its trained model."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkcore import history
from dkcore.errors import DataError, expected
from dkcore.job import Job

if TYPE_CHECKING:
    import keras
    import pyarrow

__all__ = ["collect", "deliver", "prepare", "trained_model"]


def collect(job: Job) -> tuple[dict[str, Any], "pyarrow.Table"]:
    """The summary (keys as in report.json) and the history of a job whose ranks have ended."""
    told = [job.directory / f"rank-{rank}.json" for rank in range(job.workers)]
    ranks = [json.loads(path.read_text()) for path in told if job.on_node_loss == "stop" or path.exists()]
    path = job.directory / "evaluation.json"
    test = json.loads(path.read_text()) if path.exists() else {}
    parts = [job.directory / f"rank-{rank['rank']}.parquet" for rank in ranks] + list(job.directory.glob("center.parquet"))
    return summarize(job, ranks, test), history.merge(parts, job.directory / "history.parquet")


def prepare(out: Path) -> Path:
    """Make the folder for results, before the training: OSError when nothing could be written there."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out):
        return out


def deliver(job: Job, out: Path) -> dict[str, Any]:
    """Put model.keras, history.parquet, report.json and report.png of a finished job into ``out``; returns the report."""
    from dkcore import report

    shutil.move(job.directory / "trained.keras", out / "model.keras")  # first what cannot be made again
    summary, table = collect(job)
    shutil.move(job.directory / "history.parquet", out / "history.parquet")
    report.write(out, summary, table, summary.pop("histograms"))
    return summary


def summarize(job: Job, ranks: list[dict], test: dict[str, float]) -> dict[str, Any]:
    """One flat dict. The clock runs from each rank's first exchange, when graphs are traced and compiled, to its last.

    Ranks without rows have neither. DataError when no rank had any.
    """
    busy = [rank for rank in ranks if rank["first"] is not None]
    if not busy:
        raise DataError(expected("a rank that trained", "none of them had rows", "Is the data empty?"))
    spans = [rank["last"] - rank["first"] - rank["evaluation_seconds"] for rank in busy]
    exchanges = sum(rank["exchanges"] for rank in ranks)
    timed = sum(rank["samples_timed"] for rank in ranks)
    accuracy = next((value for name, value in test.items() if "acc" in name), None)
    seconds = max(spans)
    merges = [rank["merge"] for rank in ranks if rank["merge"]]
    sent, plain = (sum(merge[name] for merge in merges) for name in ("bytes_sent", "bytes_plain"))
    return {
        "trainer": job.trainer,
        "rule": job.the_rule.name,
        "workers": job.workers,
        "window": job.window,
        "epochs": job.epochs,
        "batch_size": job.batch_size,
        "backend": job.backend,
        "replica": ranks[0]["level"],
        "weights": ranks[0]["weights"],
        "samples": sum(rank["samples"] for rank in ranks),
        "exchanges": exchanges,
        "startup_s": max(rank["first"] for rank in busy),
        "training_time_s": seconds,
        "samples_per_s": timed / seconds if seconds > 0 else None,
        "exchange_share": sum(rank["exchange_seconds"] for rank in ranks) / sum(spans) if sum(spans) > 0 else None,
        "mean_staleness": sum(rank["staleness_sum"] for rank in ranks) / max(exchanges, 1),
        "nodes": ranks[0]["nodes"],
        "workers_lost": job.workers - len(ranks),
        "merges": max((merge["merges"] for merge in merges), default=0),
        "merge_compression": job.merge_compression,
        "merge_bytes_sent": sent,
        "merge_bytes_ratio": sent / plain if plain else None,
        "merge_seconds": max((merge["seconds"] for merge in merges), default=0.0),
        "test_loss": test.get("loss"),
        "test_accuracy": accuracy,
        "histograms": [rank["histogram"] for rank in ranks],
    }


def trained_model(job: Job) -> "keras.Model":
    """The model with the center's weights; custom layers must be known to the calling process."""
    import keras

    return keras.saving.load_model(job.directory / "trained.keras")
