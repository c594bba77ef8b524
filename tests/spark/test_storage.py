"""Models on file systems of Hadoop's: what was saved is loaded, and nothing else is left."""

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
