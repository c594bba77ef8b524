import math
import os

import numpy as np
import pytest

from dkcore.errors import DataError
from dkcore.report.history import CENTER, History, averaged_history, executor_history, merge, metric_names, read


def history(worker, records, metrics=("accuracy",)):
    made = History()
    for step in range(12, 12 * records + 1, 12):
        values = {name: np.float32(step / 1000 + worker) for name in metrics}
        made.append(step, time=step / 10 + worker, epoch=step // 37, loss=1.0 / step, metrics=values, staleness=float(worker))
    return made


@pytest.fixture
def merged(tmp_path):
    """Worker 0 with 4 records, worker 1 with 3, and two evaluations of the center with a metric of their own."""
    center = History()
    center.append(step=24, time=2.4, epoch=0, loss=0.5, metrics={"accuracy": 0.9, "top5": 0.99})
    center.append(step=48, time=4.8, epoch=1, loss=0.25, metrics={"accuracy": 0.95, "top5": 1.0})
    center.write(tmp_path / "center.parquet", CENTER)
    history(1, 3).write(tmp_path / "rank-1.parquet", 1)
    history(0, 4).write(tmp_path / "rank-0.parquet", 0)
    table = merge([tmp_path / f"{name}.parquet" for name in ("rank-1", "center", "rank-0")], tmp_path / "history.parquet")
    assert sorted(os.listdir(tmp_path)) == ["center.parquet", "history.parquet", "rank-0.parquet", "rank-1.parquet"]
    assert read(tmp_path / "history.parquet").equals(table)
    return table


def test_columns_and_order(merged):
    types = {field.name: str(field.type) for field in merged.schema}
    assert types == {
        "worker": "int32",
        "epoch": "int32",
        "step": "int64",
        "time": "double",
        "loss": "double",
        "accuracy": "double",
        "top5": "double",
        "staleness": "double",
        "seconds": "double",
    }
    assert metric_names(merged) == ["accuracy", "top5"]
    assert merged["worker"].to_pylist() == [-1] * 2 + [0] * 4 + [1] * 3
    assert merged["step"].to_pylist() == [24, 48, 12, 24, 36, 48, 12, 24, 36]


def test_unknown_is_null_and_nan_is_nan(tmp_path):
    made = History()
    made.append(1, 0.1, 0)
    made.append(2, 0.2, 0, loss=math.nan, metrics={"a": 3, "vector": np.ones(3)}, staleness=2)
    made.append(3, 0.3, 0, loss=np.ones(1), metrics={"b": np.array(4)})
    made.write(tmp_path / "h", 5)
    records = read(tmp_path / "h").to_pylist()
    assert math.isnan(records[1].pop("loss"))
    assert records == [
        {"worker": 5, "epoch": 0, "step": 1, "time": 0.1, "loss": None, "a": None, "b": None, "staleness": None, "seconds": None},
        {"worker": 5, "epoch": 0, "step": 2, "time": 0.2, "a": 3.0, "b": None, "staleness": 2.0, "seconds": None},
        {"worker": 5, "epoch": 0, "step": 3, "time": 0.3, "loss": 1.0, "a": None, "b": 4.0, "staleness": None, "seconds": None},
    ]


def test_an_append_keeps_its_own_metrics():
    made, logs = History(), {"accuracy": 0.5}
    made.append(1, 0.0, 0, metrics=logs)
    logs["accuracy"] = 0.9
    assert made.table(0)["accuracy"].to_pylist() == [0.5]


@pytest.mark.parametrize("name", ["worker", "epoch", "step", "time", "loss", "staleness", "seconds"])
def test_metrics_with_taken_names_are_refused_at_once(name):
    with pytest.raises(DataError, match=name):
        History().append(1, 0.0, 0, metrics={name: 1.0})


def test_rank_without_records(tmp_path):
    History().write(tmp_path / "none", 0)
    history(1, 2).write(tmp_path / "some", 1)
    table = merge([tmp_path / "none", tmp_path / "some"], tmp_path / "out")
    assert table["worker"].to_pylist() == [1, 1]
    assert len(averaged_history(read(tmp_path / "none"))) == 0


def test_executor_history(merged):
    records = executor_history(merged.sort_by([("step", "descending")]), 1)
    assert [record["step"] for record in records] == [12, 24, 36]
    first = records[0]
    assert (first["worker_id"], first["iteration"], first["timestamp"]) == (1, 12, pytest.approx(2.2))
    assert first["history"] == [pytest.approx(1 / 12), pytest.approx(1.012), None]
    assert first["accuracy"] == pytest.approx(1.012)
    with pytest.raises(DataError, match=r"workers \[0, 1\]. Received: 2"):
        executor_history(merged, 2)


def test_averaged_history_is_over_the_workers_that_got_so_far(merged):
    averages = averaged_history(merged)
    assert averages["step"].tolist() == [12, 24, 36, 48]
    assert averages["workers"].tolist() == [2, 2, 2, 1]
    np.testing.assert_allclose(averages["loss"], [1 / 12, 1 / 24, 1 / 36, 1 / 48])
    np.testing.assert_allclose(averages["accuracy"], [0.512, 0.524, 0.536, 0.048], rtol=1e-6)
    np.testing.assert_allclose(averages["time"], [1.7, 2.9, 4.1, 4.8])
    np.testing.assert_allclose(averages["staleness"], [0.5, 0.5, 0.5, 0.0])
    assert np.isnan(averages["top5"]).all()
    assert averages[0][0] == averages["loss"][0]  # as dist-keras' users index it
    assert averages[0][1] == averages["accuracy"][0]


def test_averages_leave_out_what_is_unknown(tmp_path):
    made = [History(), History()]
    made[0].append(12, 1.0, 0, loss=2.0)
    made[1].append(12, 3.0, 0)
    for worker in range(2):
        made[worker].write(tmp_path / str(worker), worker)
    averages = averaged_history(merge([tmp_path / "0", tmp_path / "1"], tmp_path / "out"))
    assert averages["loss"].tolist() == [2.0]
    assert averages["time"].tolist() == [2.0]


def test_what_is_no_history(tmp_path):
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "text").write_text("hello")
    pyarrow.parquet.write_table(pyarrow.table({"step": [1]}), tmp_path / "other")
    with pytest.raises(DataError, match=r"a history at .*absent"):
        read(tmp_path / "absent")
    with pytest.raises(DataError, match=r"a history at .*text"):
        read(tmp_path / "text")
    with pytest.raises(DataError, match=r"columns worker, epoch, time, loss, staleness, seconds in .*other"):
        read(tmp_path / "other")
    with pytest.raises(DataError, match="histories to merge"):
        merge([], tmp_path / "out")


def test_notes_of_a_worker_that_died_within_a_line_are_gone_on_with(tmp_path):
    notes = tmp_path / "notes-0"
    first = History(notes)
    first.append(1, 0.5, 0, loss=np.float32(2), metrics={"accuracy": 1.0})
    with notes.open("a") as file:
        file.write("[0, 2, 0.")
    second = History(notes)
    second.append(2, 0.6, 0)
    assert second.records == History(notes).records == [(0, 1, 0.5, 2.0, {"accuracy": 1.0}, None, None), (0, 2, 0.6, None, {}, None, None)]
