import numpy as np
import pyarrow
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from dkcore.report import plot
from dkcore.report.history import CENTER, History


def table(workers=2, records=100, center=2, metrics=("accuracy",), loss=lambda step: 2.0 / (1 + step)):
    tables = []
    for worker in range(workers):
        made = History()
        for step in range(records):
            made.append(step, step / 10, 0, loss(step), dict.fromkeys(metrics, 0.5 + worker / 10))
        tables.append(made.table(worker))
    made = History()
    for step in range(center):
        made.append(step, step * 5.0, 0, 0.3 - 0.1 * step, dict.fromkeys(metrics, 0.9 + 0.05 * step))
    return pyarrow.concat_tables([*tables, made.table(CENTER)], promote_options="default")


@pytest.fixture
def axes():
    return Figure().subplots()


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def title(axes):
    return axes.get_title(loc="left") or axes.get_title()


def test_workers_are_smoothed_and_the_center_comes_last_as_it_is():
    noise = np.random.default_rng(0).standard_normal(100)
    lines = plot.curves(table(loss=lambda step: noise[step]), "loss", {})
    assert [line.worker for line in lines] == [0, 1, CENTER]
    assert lines[0].value.std() < 0.7 * noise.std()
    assert lines[0].value.mean() == pytest.approx(noise.mean(), abs=0.05)
    np.testing.assert_allclose(lines[2].value, [0.3, 0.2])


def test_unknown_values_are_left_out():
    unknown = {1: None, 4: np.nan, 8: -np.inf}
    lines = plot.curves(table(records=50, center=0, loss=lambda step: unknown.get(step, 1.0)), "loss", {})
    assert [len(line.value) for line in lines] == [47, 47]
    assert plot.curves(None, "loss", {}) == []


def test_final_test_stands_in_for_evaluations():
    lines = plot.curves(table(center=0), "loss", {"test_loss": 0.4})
    assert (lines[-1].worker, lines[-1].time.tolist(), lines[-1].value.tolist()) == (CENTER, [9.9], [0.4])
    assert len(plot.curves(table(center=2), "loss", {"test_loss": 0.4})[-1].value) == 2


def test_loss_panel(axes):
    plot.draw_loss(axes, plot.curves(table(), "loss", {}))
    assert title(axes) == "The center's test loss ends at 0.2"
    assert labels(axes) == ["worker 0", "worker 1", "center, on test data"]
    assert axes.get_yscale() == "log"
    assert axes.get_xlabel() == "time since start (s)"
    assert axes.lines[2].get_linewidth() > axes.lines[0].get_linewidth()


def test_loss_that_is_negative_or_without_center(axes):
    plot.draw_loss(axes, plot.curves(table(center=0, loss=lambda step: 1.0 - step), "loss", {}))
    assert axes.get_yscale() == "linear"
    assert title(axes).startswith("Training loss ends at -9")


def test_metric_panel(axes):
    plot.draw_metric(axes, plot.curves(table(), "accuracy", {}), "accuracy")
    assert title(axes) == "The center reaches 95.0 % on test data"
    assert axes.get_ylabel() == "accuracy (%)"
    assert axes.lines[0].get_ydata()[0] == pytest.approx(50)


def test_accuracy_is_preferred_and_other_metrics_are_no_percentages(axes):
    assert plot.main_metric(table(metrics=("mae", "sparse_categorical_accuracy"))) == "sparse_categorical_accuracy"
    assert plot.main_metric(table(metrics=("mae", "mse"))) == "mae"
    assert plot.main_metric(table(metrics=())) is plot.main_metric(None) is None
    plot.draw_metric(axes, plot.curves(table(metrics=("mae",)), "mae", {}), "mae")
    assert axes.get_ylabel() == "mae"
    assert title(axes) == "The center reaches 0.95 on test data"


def test_many_workers_are_one_entry_of_the_legend(axes):
    plot.draw_loss(axes, plot.curves(table(workers=9), "loss", {}))
    assert labels(axes) == ["9 workers", "center, on test data"]
    assert len(axes.lines) == 10


def test_staleness_panel(axes):
    plot.draw_staleness(axes, plot.nonzero({1: [10, 30, 0, 0], 0: [20, 20, 20, 0], 2: [0, 0, 0, 0]}), None)
    heights = [patch.get_height() for patch in axes.patches]
    np.testing.assert_allclose(heights, [20, 20, 20, 0, 10, 30, 0, 0])
    assert [patch.get_y() for patch in axes.patches][4] == pytest.approx(20)  # stacked
    assert title(axes) == "An exchange finds 0.9 commits by others"
    assert labels(axes) == ["mean, 0.90", "worker 0", "worker 1"]
    assert [to_hex(axes.patches[index].get_facecolor(), keep_alpha=False).upper() for index in (0, 4)] == list(plot.COLOURS[:2])
    assert not axes.texts


def test_last_bin_says_that_it_holds_all_beyond(axes):
    plot.draw_staleness(axes, plot.nonzero([[1, 1, 5]]), 2.5)
    assert [text.get_text() for text in axes.texts] == ["and more"]
    assert "2.5" in title(axes)


def test_setting():
    figures = {"trainer": "ADAG", "workers": 1, "window": 12, "epochs": 3}
    assert plot.setting(figures) == "ADAG  ·  1 worker  ·  window 12  ·  3 epochs"
    assert plot.setting({}) == "Training"
