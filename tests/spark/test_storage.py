"""Models on file systems of Hadoop's: what was saved is loaded, and nothing else is left."""

import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest

from dkcore import errors
from spark_bridge.storage import load_model, save_model


@pytest.fixture
def model() -> keras.Model:
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


@pytest.fixture(params=["path", "file", "viewfs"])
def folder(request, spark, tmp_path):
    """The same directory by a plain path, by a URI, and through another of Hadoop's file systems."""
    (tmp_path / "a folder").mkdir()
    if request.param == "viewfs":
        table = f"tests{uuid.uuid4().hex}"  # Hadoop caches file systems, with their mounts, by name
        spark.conf.set(f"fs.viewfs.mounttable.{table}.link./models", (tmp_path / "a folder").as_uri())
        yield f"viewfs://{table}/models"
        spark.conf.unset(f"fs.viewfs.mounttable.{table}.link./models")
    else:
        yield f"file://{tmp_path}/a folder" if request.param == "file" else str(tmp_path / "a folder")


def same(one: keras.Model, two: keras.Model) -> bool:
    return all(map(np.array_equal, one.get_weights(), two.get_weights()))


def test_there_and_back(spark, folder, model, tmp_path):
    save_model(model, f"{folder}/deep/er/my model.keras", spark)
    assert same(load_model(f"{folder}/deep/er/my model.keras"), model)
    left = {path.name for path in (tmp_path / "a folder/deep/er").iterdir()}
    assert left - {".my model.keras.crc"} == {"my model.keras"}
    assert same(keras.saving.load_model(tmp_path / "a folder/deep/er/my model.keras"), model)


def test_a_thread_of_its_own_has_no_active_session_and_needs_none(spark, model, tmp_path):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(save_model, model, tmp_path / "a.keras").result()
        assert same(pool.submit(load_model, tmp_path / "a.keras").result(), model)


def test_what_is_there_is_replaced_only_on_request(folder, model):
    save_model(model, f"{folder}/a.keras")
    other = keras.models.clone_model(model)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save_model(other, f"{folder}/a.keras")
    assert same(load_model(f"{folder}/a.keras"), model)
    save_model(other, f"{folder}/a.keras", overwrite=True)
    assert same(load_model(f"{folder}/a.keras"), other) and not same(other, model)


def test_what_cannot_be_written_leaves_nothing_and_harms_nothing(folder, model, tmp_path, monkeypatch):
    save_model(model, f"{folder}/a.keras")
    before = sorted((tmp_path / "a folder").iterdir())
    with pytest.raises(Exception, match="a.keras"):
        save_model(model, f"{folder}/a.keras/b.keras")  # below a file
    monkeypatch.setattr(keras.Model, "save", lambda self, path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_model(model, f"{folder}/a.keras", overwrite=True)
    assert sorted((tmp_path / "a folder").iterdir()) == before
    assert same(load_model(f"{folder}/a.keras"), model)


def test_a_copy_that_breaks_off_is_not_seen(spark, folder, model, tmp_path, monkeypatch):
    from spark_bridge import storage

    class Refuses:
        """A file system on which renaming fails."""

        def __init__(self, system):
            self.system = system

        def __getattr__(self, name):
            return getattr(self.system, name)

        def rename(self, draft, path):
            assert self.system.exists(draft) and not self.system.exists(path)
            return False

    class Place(storage.Place):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.system = Refuses(self.system)

    monkeypatch.setattr(storage, "Place", Place)
    with pytest.raises(OSError, match="to rename"):
        save_model(model, f"{folder}/a.keras", spark)
    assert not list((tmp_path / "a folder").iterdir())


def test_what_is_no_model_is_refused(spark, folder):
    with pytest.raises(FileNotFoundError, match="a model at"):
        load_model(f"{folder}/none.keras", spark)
    with pytest.raises(errors.ModelError, match="a Keras model"):
        save_model("model", f"{folder}/a.keras", spark)


@pytest.mark.parametrize("name", ["model-10:00.keras", "a b%20c.keras", "a#b?c.keras", "größe.keras", "[a]{b}*,c.keras"])
def test_names_and_temporary_folders_may_have_any_character(spark, model, tmp_path, monkeypatch, name):
    from spark_bridge import AccuracyEvaluator, KerasEstimator

    folder = tmp_path / f"t {name}"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    for place in (folder / name, f"file://{folder}/uri {name}"):
        save_model(model, place)
        save_model(model, place, overwrite=True)
        assert same(load_model(place), model)
    KerasEstimator(model).write().overwrite().save(f"{folder}/stage {name}")
    assert same(KerasEstimator.load(f"{folder}/stage {name}").payload.unpack(), model)
    AccuracyEvaluator("l.y").save(f"{folder}/evaluator {name}")
    assert AccuracyEvaluator.load(f"{folder}/evaluator {name}").getLabelCol() == "l.y"
    kept = {name, f"uri {name}", f"stage {name}", f"evaluator {name}"}
    assert {path.name for path in folder.iterdir()} == kept


def test_only_what_we_wrote_is_replaced(spark, model, tmp_path):
    from spark_bridge import AccuracyEvaluator, KerasEstimator

    (tmp_path / "models").mkdir()
    (tmp_path / "models/precious.txt").write_text("other work")
    (tmp_path / "file").write_text("other work")
    for place in ("models", "file"):
        with pytest.raises(FileExistsError, match="a Keras model at .* to replace"):
            save_model(model, tmp_path / place, overwrite=True)
        for stage in (KerasEstimator(model), AccuracyEvaluator()):
            with pytest.raises(FileExistsError, match="a saved stage of spark_bridge at .* to replace"):
                stage.write().overwrite().save(str(tmp_path / place))
    assert (tmp_path / "models/precious.txt").read_text() == (tmp_path / "file").read_text() == "other work"
    KerasEstimator(model).save(str(tmp_path / "stage"))
    AccuracyEvaluator().write().overwrite().save(str(tmp_path / "stage"))
    (tmp_path / "stage/precious.txt").write_text("other work")
    with pytest.raises(FileExistsError, match="Received: something else"):
        AccuracyEvaluator().write().overwrite().save(str(tmp_path / "stage"))
    with pytest.raises(FileExistsError, match="no stage at .* Received: something that exists"):
        AccuracyEvaluator().save(str(tmp_path / "stage"))
    with pytest.raises(errors.DataError, match=r"AccuracyEvaluator. Load it with AccuracyEvaluator.load.$"):
        KerasEstimator.load(str(tmp_path / "stage"))
    with pytest.raises(errors.DataError, match="a saved stage at .* Received: none"):
        KerasEstimator.load(str(tmp_path / "models"))
    assert {path.name for path in tmp_path.iterdir()} == {"models", "file", "stage"}


def test_what_cannot_be_renamed_leaves_the_old_one(spark, model, tmp_path, monkeypatch):
    from spark_bridge import storage

    save_model(model, tmp_path / "a.keras")
    rename = []

    class Refuses:
        def __init__(self, system):
            self.system = system

        def __getattr__(self, name):
            return getattr(self.system, name)

        def rename(self, one, two):
            rename.append(two)
            return False if len(rename) == 2 else self.system.rename(one, two)

    class Place(storage.Place):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.system = Refuses(self.system)

    with monkeypatch.context() as patched:
        patched.setattr(storage, "Place", Place)
        with pytest.raises(OSError, match="to rename"):
            save_model(keras.models.clone_model(model), tmp_path / "a.keras", overwrite=True)
    assert same(load_model(tmp_path / "a.keras"), model)
    assert [path.name for path in tmp_path.iterdir()] == ["a.keras"]
