"""What may be trained on, and how what may not is refused before anything runs."""

import json

import numpy as np
import pytest

from dkcore.errors import DataError
from spark_bridge.columns import FLAG, Columns


@pytest.mark.parametrize(
    ("features", "label", "weight", "structure"),
    [
        ("x", "y", None, {"x": "x", "y": "y"}),
        (["a", "b"], {"out": "y"}, "w", {"x": ["a", "b"], "y": {"out": "y"}, "sample_weight": "w"}),
        ({"in": "x"}, "x", None, {"x": {"in": "x"}, "y": "x"}),
    ],
)
def test_the_plan_is_plain_data(features, label, weight, structure):
    plan = Columns(features, label, weight).plan(0.25, seed=7)
    assert json.loads(json.dumps(plan)) == plan
    assert plan == {"structure": structure, "flag": None, "fraction": 0.25, "seed": 7, "floats": "float32"}
    assert len(Columns(features, label, weight).names) == len(set(Columns(features, label, weight).names))


@pytest.mark.parametrize("columns", [(None, "y"), ([], "y"), (3, "y"), ("x", ""), ("x", "y", 3), (["x", 4], "y")])
def test_names_are_names(columns):
    with pytest.raises(TypeError, match="names of columns for"):
        Columns(*columns)


@pytest.mark.parametrize("fraction", [0, 1, 1.5, -0.1, True, "0.1", float("nan")])
def test_a_fraction_is_one(spark, fraction):
    with pytest.raises(DataError, match="a DataFrame or a fraction between 0 and 1"):
        Columns("id", "id").project(spark.range(3), fraction)


GOOD = {
    "cast(id as tinyint)": "tinyint",
    "id > 1": "boolean",
    "cast(id as double)": "double",
    "cast(id as decimal(10,2))": "float",
    "array(cast(id as decimal(10,2)))": "array<float>",
    "array(array(id, 1), array(2, 3))": "array<array<bigint>>",
}


@pytest.mark.parametrize(("expression", "kind"), GOOD.items())
def test_numbers_and_arrays_pass(spark, expression, kind):
    df = spark.range(3).selectExpr(f"{expression} as `a.b``c`", "id as other", "'text' as text")
    chosen = Columns("a.b`c", "other").project(df)
    assert chosen.dtypes == [("a.b`c", kind), ("other", "bigint")]
    assert chosen.count() == 3


def test_vectors_become_arrays(spark):
    from pyspark.ml.linalg import Vectors

    df = spark.createDataFrame([(Vectors.dense([1, 2, 3]), 0), (Vectors.sparse(3, [1], [5.0]), 1)], ["features", "label"])
    chosen = Columns().project(df)
    assert chosen.dtypes == [("features", "array<float>"), ("label", "bigint")]
    np.testing.assert_array_equal([row.features for row in chosen.collect()], [[1, 2, 3], [0, 5, 0]])


BAD = {
    "cast(id as string)": "string. Index it",
    "array('a')": "array<string>. Cast it",
    "current_date()": "date. Take numbers of it",
    "current_timestamp()": "timestamp. Take numbers",
    "named_struct('a', 1)": "struct<a:int>. Select its fields",
    "map('a', 1)": "map<string,int>. Select its",
    "cast('a' as binary)": "binary. Decode it",
    "array(named_struct('a', 1))": "array<struct<a:int>>",
}


@pytest.mark.parametrize(("expression", "message"), BAD.items())
def test_others_are_refused_by_name_type_and_way_out(spark, expression, message):
    df = spark.range(3).selectExpr(f"{expression} as odd", "id label")
    with pytest.raises(DataError, match=f"in column 'odd'. Received: {message}"):
        Columns("odd").project(df)


def test_missing_columns_are_named(spark):
    with pytest.raises(DataError, match=r"column 'weights' in the DataFrame. Received: columns \['id'\]"):
        Columns("id", "id", "weights").project(spark.range(3))
    with pytest.raises(DataError, match=r"column 'label' in the validation DataFrame"):
        Columns("id", "label").project(spark.range(3).selectExpr("id", "id label"), spark.range(3))


def test_a_validation_frame_is_added_and_flagged(spark):
    df, held_out = spark.range(5).selectExpr("id", "id label", "'no' rest"), spark.range(5, 7).selectExpr("id label", "id")
    columns = Columns("id")
    chosen = columns.project(df, held_out)
    assert sorted((row.id, row.label, row[FLAG]) for row in chosen.collect()) == [(row, row, row > 4) for row in range(7)]
    assert columns.plan(held_out)["flag"] == FLAG
    with pytest.raises(DataError, match="bigint in column 'label' of the validation DataFrame.* Received: float"):
        columns.project(df, held_out.selectExpr("id", "cast(label as float) label"))
