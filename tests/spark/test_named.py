"""Names of columns are names: any stage works on any of them, and what it does not use is nothing to it."""

import keras
import numpy as np
import pytest
from pyspark.sql import functions as F

import dkcore as dk
from dkcore.errors import DataError
from spark_bridge import (
    AccuracyEvaluator,
    BinaryLabelTransformer,
    DenseTransformer,
    KerasEstimator,
    LabelIndexTransformer,
    LossEvaluator,
    MinMaxTransformer,
    ModelPredictor,
    OneHotTransformer,
    ReshapeTransformer,
    StandardTransformer,
)
from spark_bridge.named import Named

ODD = ["iris.width", "a blank", "back`quote", "'quotes\"", "größe", "Label", "LABEL", "twice", "twice", "a,b", "%d"]


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])


def table(spark, x: str, y: str, p: str):
    """Rows of features, labels and predictions by these names, among columns that nobody uses."""
    df = spark.createDataFrame([([1.0, 2.0], 1.0, [0.75])] * 8, "x array<double>, y double, p array<double>").repartition(2)
    intervals = [F.make_interval(F.lit(1), F.lit(2)), F.make_ym_interval(F.lit(1))]
    unused = [F.lit(1)] * len(ODD) + [F.struct(F.lit(1).alias("x.y")), *intervals, F.lit(None)]
    return df.select("x", "y", "p", *unused).toDF(x, y, p, *ODD, "struct", "interval", "months", "void")


@pytest.mark.parametrize(("x", "y", "p"), [("f.x", "lABEL", "`p`"), ("Ä;` .", "y\n", "p[0].q")])
def test_every_stage_takes_every_name(spark, model, x, y, p):
    df = table(spark, x, y, p)
    kept = df.columns
    for stage in (MinMaxTransformer(0, 1, 0, 2, x, "o.x"), OneHotTransformer(2, y, "o.x"), BinaryLabelTransformer(y, "o.x", 1.0),
                  LabelIndexTransformer(1, p, "o.x"), DenseTransformer(x, "o.x"), ReshapeTransformer(x, "o.x", (1, 2)),
                  ModelPredictor(model, x, "o.x")):  # fmt: skip
        out = stage.transform(df)
        assert out.columns == [*kept, "o.x"], stage
        assert out.select(Named(out).column("o.x")).distinct().count() == 1 if Named(out).frame is out else out.count() == 8
    assert StandardTransformer([x, y]).transform(df).columns == [*kept, f"{x}_normalized", f"{y}_normalized"]
    assert MinMaxTransformer(0, 1, 0, 2, x, x).transform(df).columns == kept
    assert AccuracyEvaluator(y, p).evaluate(df) == 1
    assert LossEvaluator("mse", y, p).evaluate(df) == pytest.approx(0.0625)


def test_trainer_and_estimator_take_every_name(spark, model):
    df = table(spark, "f.x", "l.y", "lAbel")
    trainer = dk.ADAG(model, "sgd", "mse", features_col="f.x", label_col="l.y", num_workers=2)
    trainer.train(df, validation_data=df)
    assert trainer.report["samples"] == 8
    fitted = KerasEstimator(model, "ADAG", "sgd", "mse", features_col="f.x", label_col="l.y", prediction_col="p.q", num_workers=2,
                            weight_col="lAbel.w", metrics=[])  # fmt: skip
    frame = df.select("*", F.lit(0.5).alias("lAbel.w"))
    assert fitted.fit(frame).transform(frame).columns == [*frame.columns, "p.q"]


def test_names_are_found_as_the_schema_has_them_and_then_as_spark_would(spark):
    rows = [(1, 2, (3, (4, 5)), 6)]
    df = spark.createDataFrame(rows, "`s.a` int, A int, s struct<a: int, `in.ner`: struct<a: int, `b.c`: int>>, `x``y` int")
    found = Named(df)
    names = ["s.a", "a", "s.in.ner.a", "s.in.ner.b.c", "`s`.`a`", "x`y", "`x``y`", "S.IN.NER.a"]
    assert found.frame.select(*(found.column(name).alias(str(i)) for i, name in enumerate(names))).first() == (1, 2, 4, 5, 3, 6, 6, 4)
    doubled = Named(spark.createDataFrame([(1, 2, 3)], "a int, B int, b int").toDF("a", "B", "b"))
    assert doubled.frame.select(doubled.column("B").alias("1"), doubled.column("b").alias("2")).first() == (2, 3)
    with pytest.raises(DataError, match="one column 'twice' in the DataFrame. Received: 2 of that name"):
        Named(spark.range(1).selectExpr("id twice", "id twice")).column("twice")
    with pytest.raises(DataError, match="a column 'c' in the DataFrame. Received: columns"):
        Named(df).column("c")


def test_other_columns_keep_their_identity(spark):
    """What was selected of the old DataFrame is found in the new one."""
    df = spark.range(3).withColumn("a.b", F.lit(1.0))
    out = MinMaxTransformer(0, 1, 0, 2, "a.b", "c.d").transform(df)
    assert out.where(df.id > 0).count() == 2


def test_scalars_are_put_together_or_refused(spark):
    three = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    three.set_weights([np.array([[1.0], [10.0], [100.0]], "float32")])
    df = spark.createDataFrame([(1, 2.0, True, [3.0, 4.0], "t")], "a int, b double, c boolean, d array<float>, t string")
    for names, wanted in ((["a", "b", "c"], 121.0), (["b", "d"], 432.0), ([["a", "b", "c"]], 121.0)):
        assert ModelPredictor(three, names).predict(df).first()["prediction"] == [wanted]
    for names, message in ((["a", "b"], r"input .* of shape \(3,\). Received: 2 columns \['a', 'b'\]"),
                           ("a", "numbers in column 'a'"),
                           (["a", "b", "t"], "column 't'. Received: string"),
                           ({"no": "a"}, r"Received: columns for \['no'\]")):  # fmt: skip
        with pytest.raises(DataError, match=message):
            ModelPredictor(three, names).predict(df)
        with pytest.raises(DataError, match=message):
            dk.ADAG(three, "sgd", "mse", features_col=names, label_col="a").train(df)
    with pytest.raises(Exception, match=r"elements of shape \(3,\) in column 'd', as the model's input"):
        ModelPredictor(three, "d").predict(df).collect()
    two = two_inputs()
    with pytest.raises(DataError, match=r"a column for each of the model's 2 inputs \['p', 'q'\]"):
        dk.ADAG(two, "sgd", "mse", features_col="d", label_col="a").train(df)
    with pytest.raises(DataError, match=r"a column for each of the model's 2 outputs"):
        dk.ADAG(two, "sgd", "mse", features_col=["d", "a"], label_col="a").train(df)


def two_inputs() -> keras.Model:
    p, q = keras.Input((2,), name="p"), keras.Input((1,), name="q")
    return keras.Model([p, q], [keras.layers.Dense(1)(p), keras.layers.Dense(1)(q)])


def test_scalars_are_trained_on(spark):
    three = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    df = spark.createDataFrame([(1.0, 2, True, 4.0)] * 16, "a double, b int, `c.d` boolean, label double")
    trainer = dk.ADAG(three, "adam", "mse", features_col=["a", "b", "c.d"], num_workers=2, metrics=[])
    trainer.train(df)
    assert trainer.report["samples"] == 16
