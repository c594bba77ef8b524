"""A Keras model on its way to Spark's executors: bytes, and what its custom layers need there."""

import dataclasses
import importlib
import importlib.util
import json
import os
import sys
import tempfile
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkcore.errors import MissingError, ModelError, expected
from dkcore.frameworks import hide_tensorflow, keep_compiled, quieten
from dkcore.training import keras_state
from spark_bridge.signature import End, Port, given, taken

if TYPE_CHECKING:
    import keras

__all__ = ["FILE", "SIDECAR", "ModelPayload", "source", "start_keras"]

FILE, SIDECAR = "model.keras", "parcel.json"
KEPT = 2  # models that a Python worker, which Spark uses for many tasks, keeps
LOADED: "dict[ModelPayload, keras.Model]" = {}


@dataclass(frozen=True)
class ModelPayload:
    """A Keras model as plain data.

    content: the .keras file. backend: that of the driver. inputs, outputs: what the model takes and gives; None for a subclass of
    Model, of which nobody knows before it ran. modules: names of the modules that register custom layers, each with its source;
    None where it is a package's, which has to be installed on the executors. config: the state of the driver's Keras, see
    `dkcore.training.keras_state`. safe_mode: False lets layers run code that is stored in the model, as for ``keras.saving.load_model``.
    """

    content: bytes
    backend: str
    inputs: End | None = None
    outputs: End | None = None
    modules: tuple[tuple[str, str | None], ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    safe_mode: bool = True

    @property
    def floats(self) -> str:
        """Keras' ``floatx`` where it was packed."""
        floats: str = self.config.get("floatx", "float32")
        return floats

    @classmethod
    def pack(cls, model: "keras.Model", modules: list[str] | tuple[str, ...] = (), *, safe_mode: bool = True) -> "ModelPayload":
        """The payload of a built model. modules: names or files, as the trainers' ``custom_modules``."""
        import keras

        if not isinstance(model, keras.Model):
            raise ModelError(expected("a Keras model", type(model).__name__, "Pass keras.Sequential([...]) or the like."))
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, FILE)
            model.save(path)
            ends, sources = (taken(model), given(model)), tuple(map(source, modules))
            return cls(path.read_bytes(), keras.backend.backend(), *ends, sources, keras_state.note(), safe_mode)

    def write(self, directory: Path) -> None:
        """Put it into files, the custom modules by name only: what one loads shall run no code that one does not have."""
        (directory / FILE).write_bytes(self.content)
        known = {"inputs": self.inputs, "outputs": self.outputs}
        ends = {name: None if end is None else dataclasses.asdict(end) for name, end in known.items()}
        rest = {"modules": [name for name, _ in self.modules], "config": self.config, "safe_mode": self.safe_mode}
        (directory / SIDECAR).write_text(json.dumps(ends | rest))

    @classmethod
    def read(cls, directory: Path) -> "ModelPayload":
        """What `write` wrote; MissingError when a custom module is not to be found here."""
        import keras

        stated = json.loads((directory / SIDECAR).read_text())
        payload = cls((directory / FILE).read_bytes(), keras.backend.backend(), modules=tuple(map(source, stated["modules"])),
                     config=stated.get("config", {}))  # fmt: skip
        if "inputs" not in stated:  # of an earlier version, which knew only the outputs' axes
            model = payload.unpack()
            return dataclasses.replace(payload, inputs=taken(model), outputs=given(model))
        inputs, outputs = end_of(stated["inputs"]), end_of(stated["outputs"])
        return dataclasses.replace(payload, inputs=inputs, outputs=outputs, safe_mode=stated["safe_mode"])

    def __hash__(self) -> int:
        return hash((len(self.content), self.content[-64:]))  # the end of a zip file has names and sums of what is in it

    def unpack(self, compile: bool = False) -> "keras.Model":
        """A new model; compile: as the packed one was, for training."""
        start_keras(self.backend, self.modules)
        from dkcore.training.serialization import load_model

        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, FILE)
            path.write_bytes(self.content)
            return load_model(path, compile=compile, safe_mode=self.safe_mode)

    def model(self) -> "keras.Model":
        """The model of this process: `unpack` once, for all tasks that it runs; Keras then computes as it did for the driver."""
        start_keras(self.backend, self.modules, self.config)
        model = LOADED.pop(self, None) or self.unpack()
        while len(LOADED) >= KEPT:
            del LOADED[next(iter(LOADED))]
        LOADED[self] = model  # the last one is the last to go
        return model


def start_keras(backend: str, modules: tuple[tuple[str, str | None], ...], state: dict[str, Any] | None = None) -> None:
    """Import Keras, on the backend of the driver unless it is imported already, with its state, and the custom modules."""
    quieten(os.environ)
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = backend
        if backend == "jax":
            keep_compiled(os.environ)
    import keras

    hide_tensorflow(keras.backend.backend())
    keras_state.apply(state or {})
    for name, text in modules:
        install(name, text)


def end_of(stated: dict[str, Any] | None) -> End | None:
    """An end of the plain data that was made of it."""
    if stated is None:
        return None
    ports = (Port(port["name"], tuple(port["shape"]), port["dtype"]) for port in stated["ports"])
    return End(stated["what"], tuple(ports), stated["keys"])


def source(module: str) -> tuple[str, str | None]:
    """The name of a module, and its text if it is one file."""
    if module.endswith(".py"):
        if not Path(module).is_file():
            raise ModelError(expected("a Python file", module, "Its path is taken as the driver sees it."))
        return Path(module).stem, Path(module).read_text()
    found = importlib.util.find_spec(module)
    if found is None:
        raise MissingError(expected(f"the custom module {module!r}", "none on the driver", "Pass the path of its file."))
    origin = found.origin or ""
    alone = "." not in module and found.submodule_search_locations is None and origin.endswith(".py")
    return module, Path(origin).read_text() if alone else None


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
