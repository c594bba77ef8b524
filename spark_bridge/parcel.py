"""A Keras model on its way to Spark's executors: bytes, and what its custom layers need there."""

import importlib
import importlib.util
import json
import os
import sys
import tempfile
import types
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dkcore.errors import MissingError, ModelError, expected
from dkcore.startup import keep_compiled, spare_tensorflow

if TYPE_CHECKING:
    import keras

__all__ = ["FILE", "SIDECAR", "Parcel", "source", "start_keras"]

FILE, SIDECAR = "model.keras", "parcel.json"
KEPT = 2  # models that a Python worker, which Spark uses for many tasks, keeps
LOADED: "dict[Parcel, keras.Model]" = {}


@dataclass(frozen=True)
class Parcel:
    """A Keras model as plain data.

    content: the .keras file. backend: that of the driver. axes: of each output, beside that of the samples, in their order or by
    name; None for a subclass of Model, of which nobody knows before it ran. modules: names of the modules that register custom
    layers, each with its source; None where it is a package's, which has to be installed on the executors.
    """

    content: bytes
    backend: str
    axes: list[int] | dict[str, int] | None = None
    modules: tuple[tuple[str, str | None], ...] = ()

    @classmethod
    def pack(cls, model: "keras.Model", modules: list[str] | tuple[str, ...] = ()) -> "Parcel":
        """The parcel of a built model. modules: names or files, as the trainers' ``custom_modules``."""
        import keras

        if not isinstance(model, keras.Model):
            raise ModelError(expected("a Keras model", type(model).__name__, "Pass keras.Sequential([...]) or the like."))
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, FILE)
            model.save(path)
            return cls(path.read_bytes(), keras.backend.backend(), axes_of(model), tuple(map(source, modules)))

    def write(self, directory: Path) -> None:
        """Put it into files, the custom modules by name only: what one loads shall run no code that one does not have."""
        (directory / FILE).write_bytes(self.content)
        (directory / SIDECAR).write_text(json.dumps({"axes": self.axes, "modules": [name for name, _ in self.modules]}))

    @classmethod
    def read(cls, directory: Path) -> "Parcel":
        """What `write` wrote; MissingError when a custom module is not to be found here."""
        import keras

        told = json.loads((directory / SIDECAR).read_text())
        return cls((directory / FILE).read_bytes(), keras.backend.backend(), told["axes"], tuple(map(source, told["modules"])))

    def __hash__(self) -> int:
        return hash((len(self.content), self.content[-64:]))  # the end of a zip file has names and sums of what is in it

    def unpack(self, compile: bool = False) -> "keras.Model":
        """A new model; compile: as the packed one was, for training."""
        start_keras(self.backend, self.modules)
        import keras

        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, FILE)
            path.write_bytes(self.content)
            return keras.saving.load_model(path, compile=compile)

    def model(self) -> "keras.Model":
        """The model of this process: `unpack` once, for all tasks that it runs."""
        model = LOADED.pop(self, None) or self.unpack()
        while len(LOADED) >= KEPT:
            del LOADED[next(iter(LOADED))]
        LOADED[self] = model  # the last one is the last to go
        return model


def start_keras(backend: str, modules: tuple[tuple[str, str | None], ...]) -> None:
    """Import Keras, on the backend of the driver unless it is imported already, and the custom modules."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = backend
        if backend == "jax":
            keep_compiled(os.environ)
    import keras

    spare_tensorflow(keras.backend.backend())
    for name, text in modules:
        install(name, text)


def axes_of(model: "keras.Model") -> list[int] | dict[str, int] | None:
    import keras

    outputs = getattr(model, "output", None)  # with the names of a dict; only functional models have it
    outputs = getattr(model, "outputs", None) if outputs is None else outputs
    if isinstance(outputs, dict):
        return {name: len(output.shape) - 1 for name, output in outputs.items()}
    return None if outputs is None else [len(output.shape) - 1 for output in keras.tree.flatten(outputs)]


def source(module: str) -> tuple[str, str | None]:
    """The name of a module, and its text if it is one file."""
    if module.endswith(".py"):
        if not Path(module).is_file():
            raise ModelError(expected("a Python file", module, "Is the path right, seen from the driver?"))
        return Path(module).stem, Path(module).read_text()
    found = importlib.util.find_spec(module)
    if found is None:
        raise MissingError(expected(f"the custom module {module!r}", "none on the driver", "Pass the path of its file."))
    alone = "." not in module and found.submodule_search_locations is None and (found.origin or "").endswith(".py")
    return module, Path(found.origin).read_text() if alone else None


def install(name: str, text: str | None) -> None:
    """Have a module in this process, of its text if it came with one."""
    if name in sys.modules:
        return
    if text is None:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise MissingError(expected(f"the custom module {name!r}", error, "Install it on the executors.")) from error
        return
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(text, f"{name}.py", "exec"), module.__dict__)
