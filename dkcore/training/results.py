"""What a finished job comes to: the sums of its ranks, its merged history, its trained model."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkcore.errors import DataError, expected
from dkcore.ranks.agreement import attempt
from dkcore.report import history
from dkcore.training.agent_restarts import RESTARTS
from dkcore.training.atomic_files import keep, put
from dkcore.training.job import Job
from dkcore.training.serialization import load_model
from dkcore.training.stopping import CHECKPOINTS

if TYPE_CHECKING:
    import keras
    import pyarrow

NONE: dict[str, Any] = {"resumed_from": None, "resumed": "", "checkpoints": [], "checkpoints_failed": 0}

ACCOUNT = {  # of a rank's seat, see dkcore/seats/account.py, and what the report calls it
    "deaths": "worker_deaths", "restarts": "worker_restarts", "exchanges_in_doubt": "exchanges_in_doubt",
    "rows_in_doubt": "samples_in_doubt", "rows_lost": "samples_lost", "joined": "workers_joined",
    "left": "workers_left",
}  # fmt: skip

__all__ = ["collect", "deliver", "prepare", "trained_model"]


def collect(job: Job) -> tuple[dict[str, Any], "pyarrow.Table"]:
    """The summary (keys as in report.json) and the history of a job whose ranks have ended."""
    paths = [job.home / f"rank-{rank}.json" for rank in range(job.workers)]
    ranks = [json.loads(path.read_text()) for path in paths if job.on_node_loss == "stop" or path.exists()]
    joined = [json.loads(path.read_text()) for path in sorted(set(job.home.glob("rank-*.json")) - set(paths))]
    path = job.home / "evaluation.json"
    test = json.loads(path.read_text()) if path.exists() else {}
    parts = [job.home / f"rank-{rank['rank']}.parquet" for rank in [*ranks, *joined]] + list(job.home.glob("center.parquet"))
    path = job.home / CHECKPOINTS
    said = json.loads(path.read_text()) if path.exists() else NONE
    restarts = {"agent_restarts": int(path.read_text()) if (path := job.home / RESTARTS).exists() else 0}
    summary = summarize(job, ranks, test, joined) | restarts | {name: said[name] for name in NONE}
    return summary, history.merge(parts, job.home / "history.parquet")


def prepare(out: Path) -> Path:
    """Make the folder for results, before the training: OSError when nothing could be written there."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out):
        return out


def deliver(job: Job, out: Path) -> dict[str, Any]:
    """Put model.keras, history.parquet, report.json and report.png of a finished job into ``out``; returns the report.

    OSError when they do not fit there: its message says where the model is instead.
    """
    from dkcore.report import report

    made = job.home / "results"
    made.mkdir()
    (job.home / "trained.keras").rename(made / "model.keras")
    _, failure = attempt(lambda: put(made / "model.keras", out))  # first what cannot be made again
    try:
        summary, table = collect(job)
        (job.home / "history.parquet").rename(made / "history.parquet")
        report.write(made, summary, table, summary.pop("histograms"))
        if failure is not None:
            raise failure
        for name in ("history.parquet", "report.json", "report.png"):
            put(made / name, out)
    except Exception as error:
        cause = error if failure is None else failure
        if not isinstance(cause, OSError):
            raise
        names = ("model.keras", "history.parquet", "report.json", "report.png")
        raise keep([made / name for name in names], out, cause) from error
    return summary


def summarize(job: Job, ranks: list[dict[str, Any]], test: dict[str, float], joined: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """One flat dict. The clock runs from the first exchange of any rank, when all are traced and compiled, to the last of any.

    The time that rank 0 spends in evaluations is no training: its last exchange counts as so much earlier. Samples are those
    between each rank's own first and last exchange. Ranks without rows have neither. DataError when no rank had any.
    joined: of workers that came later; they are counted with the others.
    """
    lost = job.workers - sum(not rank.get("lost") or rank["account"]["left"] for rank in ranks)
    ranks = [*ranks, *(joined or [])]
    busy = [rank for rank in ranks if rank["first"] is not None]
    if not busy:
        raise DataError(expected("a rank that trained", "none of them had rows", "Is the data empty?"))
    spans = [rank["last"] - rank["first"] - rank["evaluation_seconds"] for rank in busy]
    exchanges = sum(rank["exchanges"] for rank in ranks)
    timed = sum(rank["samples_timed"] for rank in ranks)
    accuracy = next((value for name, value in test.items() if "acc" in name), None)
    seconds = max(rank["last"] - rank["evaluation_seconds"] for rank in busy) - min(rank["first"] for rank in busy)
    merges = [rank["merge"] for rank in ranks if rank["merge"]]
    leases = [rank["leases"] for rank in ranks if rank.get("leases")]
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
        "workers_lost": lost,
        **{key: sum(rank.get("account", {}).get(name, 0) for rank in ranks) for name, key in ACCOUNT.items()},
        "merges": max((merge["merges"] for merge in merges), default=0),
        "merge_compression": job.merge_compression,
        "merge_bytes_sent": sent,
        "merge_bytes_ratio": sent / plain if plain else None,
        "merge_seconds": max((merge["seconds"] for merge in merges), default=0.0),
        "batches_returned": sum(each["returned"] for each in leases),
        "batches_in_doubt": sum(each["doubtful"] for each in leases),
        "batches_left": sum(each["waiting"] + each["held"] for each in leases),
        "test_loss": test.get("loss"),
        "test_accuracy": accuracy,
        "histograms": [rank["histogram"] for rank in ranks],
    }


def trained_model(job: Job) -> "keras.Model":
    """The model with the center's weights; custom layers must be known to the calling process."""
    return load_model(job.home / "trained.keras", safe_mode=job.safe_mode)
