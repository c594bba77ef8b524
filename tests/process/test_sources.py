"""Sources of data: a trainer asks a table which module trains on what it was given."""

import sys
from types import ModuleType

import keras
import numpy as np
import pytest

import dkcore as dk
from dkcore.training import array_source, sources


def trainer(**options) -> dk.ADAG:
    return dk.ADAG(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]), loss="mse", **options)


@pytest.fixture
def table(monkeypatch):
    """A class of a package that is not ours, with a module in the table that trains on it; the requests that it got."""
    seen = []
    package, mine = ModuleType("tables"), ModuleType("source_of_tables")
    package.Table = type("Table", (), {"__module__": "tables.core"})
    mine.arrays_of = lambda request: {"x_train": np.zeros((4, 2)), "y_train": np.zeros(4)}
    mine.train = lambda request, arrays: seen.append((request, arrays)) or ("trained", {"exchanges": 3}, None)
    monkeypatch.setitem(sys.modules, "source_of_tables", mine)
    monkeypatch.setitem(sources.SOURCES, "tables", "source_of_tables")
    return package.Table(), seen


def test_data_of_another_package_goes_to_its_source(table):
    data, seen = table
    mine = trainer(features_col="f", label_col="l", max_restarts=2)
    assert mine.train(data, initial_epoch=0, show=True) == "trained"
    assert mine.num_updates == 3
    ((request, arrays),) = seen
    assert (request.data, request.columns, request.max_restarts, request.show) == (data, ("f", "l"), 2, True)
    assert list(arrays) == ["x_train", "y_train"] and request.job is mine.job


def test_what_a_source_sees_of_the_data_is_checked_against_the_model(table, monkeypatch):
    data, seen = table
    monkeypatch.setattr(sys.modules["source_of_tables"], "arrays_of", lambda _: {"x_train": np.zeros((4, 3)), "y_train": np.zeros(4)})
    with pytest.raises(dk.errors.DataError, match="samples of shape"):
        trainer().train(data)
    assert seen == []


@pytest.mark.parametrize("data", [([[0.0, 1.0]], [1.0]), "a string", type("Other", (), {"__module__": "tablesque"})()])
def test_arrays_are_what_no_other_source_knows(table, data):
    assert sources.source_of(data) is array_source


def test_a_dataframe_of_spark_has_a_source():
    pytest.importorskip("pyspark")
    from spark_bridge import dataframe

    for home in ("pyspark.sql", "pyspark.sql.dataframe", "pyspark.sql.classic.dataframe"):
        assert sources.source_of(type("DataFrame", (), {"__module__": home})()) is dataframe
