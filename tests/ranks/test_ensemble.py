"""EnsembleTrainer: each member is trained alone, and the result is the mean of what they say."""

import keras
import numpy as np
import pytest

import dkcore as dk
from dkcore import errors
from dkcore.data.batches import dataset
from dkcore.data.shard import Shard
from dkcore.training import ensemble

SAMPLES, WORKERS = 301, 3


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).standard_normal((SAMPLES, 4)).astype("float32")
    return x, (x.sum(1) > 0).astype("int32")


def model(dropout: float = 0.2) -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dropout(dropout), keras.layers.Dense(2, activation="softmax")])


def options(**more) -> dict:
    return {"loss": "sparse_categorical_crossentropy", "batch_size": 8, "worker_optimizer": keras.optimizers.SGD(0.1), **more}


@pytest.fixture(scope="module")
def trained(data) -> tuple:
    """A trainer, what it returned, and the model it began with."""
    start = model()
    trainer = dk.EnsembleTrainer(start, num_ensembles=WORKERS, **options(num_epoch=2))
    return trainer, trainer.train(data, validation_data=data), start


def test_the_result_is_the_mean_of_members_that_differ(data, trained):
    trainer, together, start = trained
    apart = [member.predict(data[0], verbose=0) for member in trainer.models]
    assert len(apart) == WORKERS
    np.testing.assert_allclose(together.predict(data[0], verbose=0), np.mean(apart, 0), rtol=1e-5)
    for index, one in enumerate(apart):
        assert all(np.abs(one - two).max() > 1e-4 for two in apart[:index])
        assert np.abs(one - start.predict(data[0], verbose=0)).max() > 1e-2


def test_members_are_trained_alone(data):
    """One of them is what plain training on its shard, in its order, comes to: no other had a hand in it."""
    trainer = dk.EnsembleTrainer(model(dropout=0.0), num_workers=WORKERS, **options(num_epoch=2))
    trainer.train(data)
    shard = Shard({"x_train": data[0], "y_train": data[1]}, 1, WORKERS)
    alone = model(dropout=0.0)
    alone.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    now = [0]
    follow = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: now.__setitem__(0, epoch))
    rows = dataset(shard, keras.backend.backend(), 8, epoch=lambda: now[0])
    alone.fit(rows, epochs=2, verbose=0, shuffle=False, callbacks=[follow])
    for one, two in zip(trainer.models[1].get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def test_the_report_is_of_the_ensemble(data, trained):
    trainer, together, _ = trained
    found = together.evaluate(*data, verbose=0, return_dict=True)  # it came compiled
    assert trainer.report["test_loss"] == pytest.approx(found["loss"], rel=1e-4)
    assert trainer.report["test_accuracy"] == pytest.approx(found["accuracy"])
    assert trainer.report["workers"] == WORKERS and trainer.report["samples"] == 2 * SAMPLES
    assert trainer.get_averaged_history()["workers"].max() == WORKERS


def test_it_can_be_saved(data, trained, tmp_path):
    _, together, _ = trained
    together.save(tmp_path / "ensemble.keras")
    loaded = keras.saving.load_model(tmp_path / "ensemble.keras")
    assert len(ensemble.members(loaded)) == WORKERS
    np.testing.assert_array_equal(loaded.predict(data[0], verbose=0), together.predict(data[0], verbose=0))


def several(kind: type) -> keras.Model:
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    c = keras.layers.Dense(2, name="late")(keras.layers.Concatenate()([a, b]))
    d = keras.layers.Dense(1, name="early")(b)
    return keras.Model([a, b] if kind is list else {"a": a, "b": b}, [c, d] if kind is list else {"z": c, "y": d})


@pytest.mark.parametrize("kind", [list, dict])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_models_of_several_inputs_and_outputs(kind, number):
    models = [several(kind) for _ in range(number)]
    a, b = np.random.default_rng(0).standard_normal((2, 5, 3)).astype("float32")
    x = [a[:, :2], b] if kind is list else {"b": b, "a": a[:, :2]}
    wanted = keras.tree.map_structure(lambda *each: np.mean(each, 0), *[model.predict_on_batch(x) for model in models])
    together = ensemble.average(models)
    found = together.predict_on_batch(x)
    assert type(found) is kind and sorted(together.output_names) == sorted(models[0].output_names)
    keras.tree.map_structure(lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6), found, wanted)


class Bare(keras.Model):
    """A subclass."""

    def call(self, x):
        return x


def test_what_cannot_be_an_ensemble_is_refused_before_any_rank_starts(data):
    with pytest.raises(errors.ModelError, match=r"keras.Model\(x, model\(x\)\)"):
        dk.EnsembleTrainer(Bare(), **options())
    with pytest.raises(ValueError, match="on_node_loss='stop' for an ensemble"):
        dk.EnsembleTrainer(model(), on_node_loss="shrink", **options())
