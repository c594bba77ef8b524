"""dist-keras' own example on Spark 4, in dkcore: MNIST as a DataFrame, prepared by transformers, trained by several trainers.

python examples/spark_mnist.py                                        # local[2]
spark-submit --master spark://HOST:7077 examples/spark_mnist.py       # a cluster
"""

import argparse
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")


def frames(spark, rows: int | None):
    """The training and the test digits: raw pixels (0 to 255) as a vector column, and the label."""
    import numpy as np
    import pyarrow as pa

    from dkcore import mnist

    made = []
    with np.load(mnist.load()) as digits:
        for part in ("train", "test"):
            x, y = digits[f"x_{part}"][:rows], digits[f"y_{part}"][:rows]
            pixels = pa.FixedSizeListArray.from_arrays(x.reshape(-1).astype("float32"), 28 * 28).cast(pa.list_(pa.float32()))
            made.append(spark.createDataFrame(pa.table({"pixels": pixels, "label": y.astype("int64")})))
    return made


def mlp():
    import keras

    layers = [keras.layers.Dense(500, activation="relu"), keras.layers.Dense(500, activation="relu")]
    return keras.Sequential([keras.Input((784,)), *layers, keras.layers.Dense(10, activation="softmax")])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, help="at most, of the training and of the test digits; all by default")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()

    from pyspark.ml import Pipeline
    from pyspark.sql import SparkSession
    from rich.console import Console
    from rich.table import Table

    import dkcore as dk
    from spark_bridge import AccuracyEvaluator, LabelIndexTransformer, MinMaxTransformer, ModelPredictor, OneHotTransformer

    master = {} if os.environ.get("SPARK_ENV_LOADED") else {"spark.master": "local[2]", "spark.driver.memory": "2g"}
    spark = SparkSession.builder.appName("dkcore MNIST").config(map=master).getOrCreate()
    spark.sparkContext.setLogLevel("WARN")
    prepare = Pipeline(stages=[
        MinMaxTransformer(o_min=0.0, o_max=255.0, n_min=0.0, n_max=1.0, input_col="pixels", output_col="features"),
        OneHotTransformer(output_dim=10, input_col="label", output_col="encoded"),
    ])  # fmt: skip
    raw, raw_test = frames(spark, arguments.rows)
    prepared = prepare.fit(raw)
    train = prepared.transform(raw).select("features", "label", "encoded").repartition(arguments.workers).cache()
    test = prepared.transform(raw_test).cache()

    table = Table("trainer", "test accuracy", "samples/s", "seconds", title="MNIST on Spark")
    for kind in (dk.SingleTrainer, dk.ADAG, dk.DynSGD, dk.AEASGD):
        workers = {} if kind is dk.SingleTrainer else {"num_workers": arguments.workers}
        trainer = kind(mlp(), "adam", "categorical_crossentropy", label_col="encoded", batch_size=32, num_epoch=arguments.epochs, **workers)
        trained = trainer.train(train, shuffle=True)
        predicted = LabelIndexTransformer(output_dim=10).transform(ModelPredictor(trained).predict(test))
        accuracy = AccuracyEvaluator(prediction_col="prediction_index").evaluate(predicted)
        speed = trainer.report["samples_per_s"]
        table.add_row(kind.__name__, f"{accuracy:.3f}", f"{speed:,.0f}" if speed else "-", f"{trainer.get_training_time():.1f}")
    Console().print(table)
    spark.stop()


if __name__ == "__main__":
    main()
