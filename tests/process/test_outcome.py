"""What a report says of the time, and what is kept when something goes wrong at the end."""

import pytest
from click.testing import CliRunner

from dkcore.cli import main
from dkcore.errors import DataError
from dkcore.report import report
from dkcore.training import atomic_files, results
from dkcore.training.job import Job


def rank(**more) -> dict:
    sums = {"rank": 0, "samples": 100, "samples_timed": 80, "steps": 10, "exchanges": 5, "exchange_seconds": 0.5, "staleness_sum": 5.0}
    sums |= {"histogram": [5], "first": 2.0, "last": 12.0, "evaluation_seconds": 0.0, "level": "assign", "weights": 7, "cores": 1}
    sums |= {"nodes": 1, "merge": None}
    return sums | more


def test_the_clock_runs_from_the_first_exchange_to_the_last_without_evaluations():
    ranks = [rank(), rank(last=18.0, evaluation_seconds=8.0)]
    summary = results.summarize(Job(), ranks, {"loss": 0.25, "accuracy": 0.5})
    assert summary["training_time_s"] == 10.0
    assert summary["samples_per_s"] == 160 / 10.0
    assert summary["exchange_share"] == 1.0 / 18.0
    assert summary["mean_staleness"] == 1.0
    assert (summary["test_loss"], summary["test_accuracy"]) == (0.25, 0.5)


def test_what_crossed_the_wire_is_added_up_over_leaders():
    merge = {"merges": 7, "seconds": 2.0, "bytes_sent": 100, "bytes_plain": 400, "lost": []}
    leaders = [rank(nodes=2, merge=merge), rank(nodes=2), rank(nodes=2, merge={**merge, "seconds": 3.0}), rank(nodes=2)]
    summary = results.summarize(Job(workers=5, merge_compression="int8"), leaders, {})
    assert (summary["nodes"], summary["workers_lost"], summary["merges"], summary["merge_seconds"]) == (2, 1, 7, 3.0)
    assert (summary["merge_bytes_sent"], summary["merge_bytes_ratio"], summary["merge_compression"]) == (200, 0.25, "int8")


def test_one_exchange_is_no_span_of_time():
    summary = results.summarize(Job(workers=1), [rank(first=3.0, last=3.0, exchange_seconds=0.0)], {})
    assert (summary["training_time_s"], summary["samples_per_s"], summary["exchange_share"]) == (0.0, None, None)
    assert (summary["test_loss"], summary["test_accuracy"]) == (None, None)


def test_a_rank_without_rows_is_no_part_of_the_clock():
    idle = rank(samples=0, samples_timed=0, steps=0, exchanges=0, first=None, last=None, exchange_seconds=0, histogram=[0])
    summary = results.summarize(Job(), [idle, rank()], {})
    assert (summary["training_time_s"], summary["samples_per_s"], summary["startup_s"], summary["samples"]) == (10.0, 8.0, 2.0, 100)
    with pytest.raises(DataError, match="a rank that trained"):
        results.summarize(Job(), [idle, idle], {})


def test_the_model_is_kept_when_the_report_fails(tmp_path, monkeypatch):
    job = Job(directory=tmp_path / "job")
    job.directory.mkdir()
    (job.directory / "trained.keras").write_text("weights of a week")
    monkeypatch.setattr(results, "collect", lambda job: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        results.deliver(job, tmp_path)
    assert (tmp_path / "model.keras").read_text() == "weights of a week"


def test_the_results_are_kept_where_there_is_room(tmp_path, monkeypatch):
    job, out = Job(directory=tmp_path / "job"), tmp_path / "out"
    job.directory.mkdir()
    out.mkdir()
    for name in ("trained.keras", "history.parquet"):
        (job.directory / name).write_text(name)
    monkeypatch.setattr(results, "collect", lambda job: ({"histograms": []}, None))
    monkeypatch.setattr(report, "write", lambda folder, *_: (folder / "report.json").write_text("report"))
    monkeypatch.setattr(atomic_files.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(results, "put", lambda *_: atomic_files.os.open("/dev/full/none", 0))
    with pytest.raises(OSError, match="Nothing is lost: model.keras, history.parquet, report.json of this training are in ") as caught:
        results.deliver(job, out)
    (kept,) = tmp_path.glob("dkcore-kept-*")
    assert str(kept) in str(caught.value)
    assert (kept / "model.keras").read_text() == "trained.keras"
    assert not list(out.iterdir())


def test_a_folder_that_cannot_be_written_is_found_before_the_training(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(Job, "launch", lambda *_, **__: pytest.fail("the ranks were started"))
    result = CliRunner().invoke(main, ["train", "--model", "a.py:b", "--data", "mnist", "--out", str(tmp_path / "file" / "out")])
    assert result.exit_code == 1
    assert "Not a directory" in result.output
