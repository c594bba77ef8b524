"""A trainer with one worker is ``fit``: the table of what users set on a model, an optimizer or a fit, each trained both ways.

``python fit_contract_rank.py BACKEND`` prints a line of JSON a case: the largest difference between the weights of both, how far they
moved, and what else has to be alike. The rank runs in this process: a launch would add nothing but time.
"""

import json
import os
import sys

BACKEND = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("KERAS_BACKEND", "jax")
os.environ["KERAS_BACKEND"] = BACKEND
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402

import dkcore as dk  # noqa: E402
from dkcore.training.job import Job  # noqa: E402

ROWS, BATCH, EPOCHS = 44, 8, 2  # the last batch has 4 rows
RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((ROWS, 4)).astype("float32")
CLASSES = (X[:, 0] > 0).astype("int64") + (X[:, 1] > 0)
VALUES = X.sum(1, keepdims=True)
WEIGHTS = RANDOM.uniform(0, 2, ROWS).astype("float32")
o, losses, schedules = keras.optimizers, keras.losses, keras.optimizers.schedules


def dense(units: int = 3, activation: str | None = "softmax") -> keras.Model:
    last = keras.layers.Dense(units, activation, dtype=keras.config.floatx())  # as the guide to mixed precision has it
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, activation="tanh"), keras.layers.BatchNormalization(), last])


def regression() -> keras.Model:
    return dense(1, None)


def two_outputs() -> keras.Model:
    x = keras.Input((4,))
    hidden = keras.layers.Dense(5, activation="tanh")(x)
    a, b = keras.layers.Dense(1, name="a"), keras.layers.Dense(3, activation="softmax", name="b")
    return keras.Model(x, {"a": a(hidden), "b": b(hidden)})


def noisy() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(5), keras.layers.Dropout(0.4, seed=7), keras.layers.Dense(1)])


def without_decay() -> o.Optimizer:
    optimizer = o.AdamW(0.05, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def classes(optimizer: o.Optimizer, **more) -> dict:
    return {"optimizer": optimizer, "loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"], **more}


def values(loss, **more) -> dict:
    return {"optimizer": o.SGD(0.02), "loss": loss, **more}


def several(optimizer, loss) -> dict:
    """For `two_outputs`."""
    return {"optimizer": optimizer, "loss": {"a": loss, "b": "sparse_categorical_crossentropy"}}


def case(make=dense, settings=None, y=CLASSES, weights=None, **more) -> dict:
    """settings: called anew for each side, since optimizers have state. more: arguments of fit, and ``policy``, ``floatx``."""
    return {"make": make, "settings": settings, "y": y, "weights": weights, **more}


MULTIPLE = {"a": VALUES, "b": CLASSES}
OPTIMIZERS = {name: getattr(o, name) for name in ("SGD", "RMSprop", "Adam", "AdamW", "Adadelta", "Adagrad", "Adamax", "Adafactor", "Nadam",
                                                  "Ftrl", "Lion", "Lamb", "Muon") if hasattr(o, name)}  # fmt: skip
CASES = {f"optimizer {name}": case(settings=lambda kind=kind: classes(kind(0.01))) for name, kind in OPTIMIZERS.items()}
CASES |= {
    "momentum": case(settings=lambda: classes(o.SGD(0.05, momentum=0.9, nesterov=True))),
    "clipnorm": case(settings=lambda: classes(o.SGD(0.5, clipnorm=0.01))),
    "global_clipnorm": case(settings=lambda: classes(o.Adam(0.01, global_clipnorm=0.01))),
    "clipvalue": case(settings=lambda: classes(o.SGD(0.5, clipvalue=0.001))),
    "use_ema": case(settings=lambda: classes(o.SGD(0.05, use_ema=True, ema_momentum=0.9))),
    "ema_overwrite_frequency": case(settings=lambda: classes(o.Adam(0.05, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3))),
    "schedule": case(settings=lambda: classes(o.SGD(schedules.CosineDecay(0.1, 7, warmup_steps=3, warmup_target=0.3)))),
    "accumulation": case(settings=lambda: classes(o.SGD(0.1, gradient_accumulation_steps=4))),
    "weight_decay": case(settings=lambda: classes(o.SGD(0.05, weight_decay=0.1))),
    "exclude_from_weight_decay": case(settings=lambda: classes(without_decay())),
    "loss scale": case(settings=lambda: classes(o.LossScaleOptimizer(o.SGD(0.05), initial_scale=8.0))),
    "loss_scale_factor": case(settings=lambda: classes(o.SGD(0.05, loss_scale_factor=16.0))),
    "mixed_float16": case(settings=lambda: classes(o.SGD(0.05)), policy="mixed_float16"),
    "mixed_bfloat16": case(settings=lambda: classes(o.SGD(0.05)), policy="mixed_bfloat16"),
    "float64": case(regression, lambda: values("mse"), VALUES, floatx="float64"),
    "huber": case(regression, lambda: values(losses.Huber(0.3)), VALUES),
    "a loss by name": case(regression, lambda: values("log_cosh"), VALUES),
    "from_logits": case(lambda: dense(3, None),
                        lambda: classes(o.Adam(0.01)) | {"loss": losses.SparseCategoricalCrossentropy(from_logits=True)}),
    "label smoothing": case(settings=lambda: classes(o.Adam(0.01)) | {"loss": losses.CategoricalCrossentropy(label_smoothing=0.2)},
                            y=np.eye(3, dtype="float32")[CLASSES]),
    "ignore_class": case(settings=lambda: classes(o.Adam(0.01)) | {"loss": losses.SparseCategoricalCrossentropy(ignore_class=0)}),
    "several losses": case(two_outputs, lambda: several(o.Adam(0.01), losses.Huber(0.5)) | {
        "loss_weights": {"a": 0.3, "b": 2.0}, "metrics": {"a": ["mae"], "b": ["accuracy"]}}, MULTIPLE),
    "sample weights": case(settings=lambda: classes(o.SGD(0.05), weighted_metrics=["accuracy"]), weights=WEIGHTS),
    "sample weights of outputs": case(two_outputs, lambda: several("sgd", "mse"), MULTIPLE, {"a": WEIGHTS, "b": WEIGHTS[::-1].copy()}),
    "class weights": case(settings=lambda: classes(o.SGD(0.05)), class_weight={0: 0.2, 1: 1.0, 2: 5.0}),
    "initial_epoch": case(settings=lambda: classes(o.SGD(0.05)), initial_epoch=1),
    "dropout": case(noisy, lambda: values("mse"), VALUES),
    "run_eagerly": case(settings=lambda: classes(o.SGD(0.05), run_eagerly=True)),
    "jit_compile off": case(settings=lambda: classes(o.SGD(0.05), jit_compile=False)),
    "optimizer by name": case(settings=lambda: classes("rmsprop")),
    "frozen layers": case(lambda: frozen(dense()), lambda: classes(o.SGD(0.05))),
}  # fmt: skip


# Compiling each of them takes seconds on JAX and TensorFlow, and nothing on torch: there go all.
FEW = {
    "jax": ("use_ema", "schedule", "accumulation", "exclude_from_weight_decay", "mixed_float16", "several losses", "initial_epoch",
            "dropout"),
    "tensorflow": ("optimizer SGD", "optimizer Muon", "global_clipnorm", "ema_overwrite_frequency", "use_ema", "loss scale",
                   "mixed_float16", "float64", "from_logits", "sample weights of outputs", "class weights", "dropout", "run_eagerly",
                   "frozen layers"),
    "torch": tuple(name for name in CASES if "jit" not in name),
}  # fmt: skip


def frozen(model: keras.Model) -> keras.Model:
    model.layers[0].trainable = False
    return model


def train(model: keras.Model, each: dict, settings: dict, more: dict, directory: str) -> keras.Model:
    """By dkcore: settings may be among the trainer's arguments, or be those with which the model was compiled."""
    renamed = {"worker_optimizer" if name == "optimizer" else name: value for name, value in settings.items()}
    class_weight = {"class_weight": more.pop("class_weight")} if "class_weight" in more else {}
    arguments = {"num_epoch": EPOCHS, "batch_size": BATCH, "communication_window": 3, "directory": directory}
    trainer = dk.SingleTrainer(model, **{**renamed, **class_weight, **arguments})
    data = (X, each["y"]) if each["weights"] is None else (X, each["y"], each["weights"])
    return trainer.train(data, shuffle=False, **more)


def compare(name: str, compiled: bool, directory: str) -> dict:
    each = dict(CASES[name])
    more = {key: each[key] for key in ("class_weight", "initial_epoch") if key in each}
    keras.config.set_floatx(each.get("floatx", "float32"))
    keras.config.set_dtype_policy(each.get("policy", each.get("floatx", "float32")))
    keras.utils.set_random_seed(3)
    model = each["make"]()
    plain = keras.models.clone_model(model)
    plain.set_weights(model.get_weights())
    before = model.get_weights()
    plain.compile(**each["settings"]())
    plain.fit(X, each["y"], BATCH, EPOCHS, verbose=0, shuffle=False, sample_weight=each["weights"], **more)
    settings = each["settings"]()
    if compiled:
        model.compile(**settings)
    trained = train(model, each, {} if compiled else settings, dict(more), directory)
    ours, theirs = trained.get_weights(), plain.get_weights()
    same = {item: config(trained).get(item) == config(plain).get(item) for item in config(plain) if item not in ("jit_compile",)}
    return {
        "case": name,
        "compiled": compiled,
        "difference": max(float(np.max(np.abs(a.astype("f8") - b.astype("f8")), initial=0)) for a, b in zip(ours, theirs, strict=True)),
        "moved": max(float(np.max(np.abs(a.astype("f8") - b.astype("f8")), initial=0)) for a, b in zip(theirs, before, strict=True)),
        "unlike": [] if not compiled else sorted(item for item, alike in same.items() if not alike),
        "untouched": all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)),
    }


def config(model: keras.Model) -> dict:
    """What a model was compiled with, but for the state of its optimizer's learning rate."""
    return {name: value for name, value in model.get_compile_config().items() if name != "optimizer"}


def main() -> None:
    import tempfile

    world = dk.init()

    def launch(job: Job, **_options: object) -> None:
        from dkcore.training.train import train as train_rank

        train_rank(Job.load(job.directory), world)

    Job.launch = launch
    with tempfile.TemporaryDirectory() as directory:
        for index, name in enumerate(FEW[BACKEND]):
            # Half of the cases have their settings in the model's own compile, and the trainer gets none.
            print(json.dumps(compare(name, index % 2 == 1, directory)), flush=True)


if __name__ == "__main__":
    main()
