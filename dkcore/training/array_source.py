"""Arrays as training data: ranks on this machine, or on hosts that share a folder with it, map them from files."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkcore.data.npz import ROLES
from dkcore.errors import expected
from dkcore.frameworks import tensorflow_hidden
from dkcore.launch.allocation import shared_folder
from dkcore.training.job import JOB
from dkcore.training.sources import Request
from dkcore.training.stopping import end_if_stopped

if TYPE_CHECKING:
    import keras
    import pyarrow

__all__ = ["arrays_of", "train"]


def arrays_of(request: Request) -> dict[str, Any]:
    """x, y and weights of the training and of the validation data; TypeError for anything else."""
    if request.weight_col is not None:
        received = type(request.data).__name__
        raise TypeError(expected("a DataFrame for weight_col", received, "Arrays have no columns: leave weight_col out."))
    arrays = parts("data", request.data, "train")
    return arrays if request.validation is None else arrays | parts("validation_data", request.validation, "test")


def train(request: Request, arrays: dict[str, Any]) -> tuple["keras.Model", dict[str, Any], "pyarrow.Table"]:
    """Train in ranks that the launcher starts; the trained model, the report and the history."""
    from dkcore.training import results

    job = request.job
    where = shared_folder(request.hosts, request.directory or Path.cwd())
    with tempfile.TemporaryDirectory(prefix=JOB, dir=where) as directory:
        job.save(directory, arrays)
        with tensorflow_hidden(job.backend):
            request.model.save(Path(directory) / "model.keras")
        job.launch(mpi=request.mpi, hosts=request.hosts, show=request.show, temporary=True)
        end_if_stopped(job.home)
        report, history = results.collect(job)
        return results.trained_model(job), report, history


def parts(what: str, data: Any, suffix: str) -> dict[str, Any]:
    """{"x_train": x, "y_train": y} of a tuple, and its weights, if there are any, as sample_weight_train."""
    if not isinstance(data, tuple) or len(data) not in (2, 3):
        advice = "x, y and weights are arrays."
        received = f"a tuple of {len(data)}" if isinstance(data, tuple) else type(data).__name__
        raise TypeError(expected(f"{what} as a tuple (x, y) or (x, y, sample_weight), or a Spark DataFrame", received, advice))
    return {f"{role}_{suffix}": part for role, part in zip(ROLES, data, strict=False) if part is not None}
