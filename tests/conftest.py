"""For all tests: shared memory and temporary files of this process' own, and a check around every test that nothing stays there.

Tests may run in several processes at once (pytest-xdist). Each has what its tests look at for itself: a mount of /dev/shm, and a
folder for temporary files. So what one of them leaves behind is never taken for another's.
"""

import ctypes
import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

collect_ignore_glob = ["*_rank.py", "*/backends/*"]  # scripts of ranks, and laws that run in a pytest for each backend
SHARED_MEMORY = Path("/dev/shm")
SCRATCH = pytest.StashKey[str]()
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000


def pytest_configure(config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what runs in the background; children must receive it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST_")]:
        del os.environ[name]  # a pytest that a test starts is no worker of ours: pytest-benchmark would refuse to measure in it
    os.environ.setdefault("KERAS_BACKEND", "jax")  # the lightest to start, for tests that are not about one
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: its threads spin while they wait for a core that others have
    if runs_tests(config):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # tmp_path stays, for whoever looks into a failure
        config.stash[SCRATCH] = os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="tests-")
        tempfile.tempdir = None


def pytest_unconfigure(config) -> None:
    if SCRATCH in config.stash:
        shutil.rmtree(config.stash[SCRATCH])


def runs_tests(config) -> bool:
    """Not so in the process that hands tests out to others."""
    return hasattr(config, "workerinput") or config.getoption("dist", "no") == "no"


def pytest_sessionstart(session) -> None:
    """Give this process, and all that it starts, an empty /dev/shm: a leak is then ours, whatever else the machine does.

    Only root may. For others the check below looks at their own files, and tests run one after the other.
    """
    libc = ctypes.CDLL(None)
    own = os.geteuid() == 0 and libc.unshare(CLONE_NEWNS) == 0 and libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) == 0
    if own:
        libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, None)
    elif hasattr(session.config, "workerinput"):
        raise pytest.UsageError("Tests beside each other need a /dev/shm each, which only root can mount. Run them with -n 0.")


def segments() -> set[str]:
    """Names of dkcore's segments that this user owns."""
    found = set()
    for path in SHARED_MEMORY.glob("dkcore-*"):
        try:
            if path.stat().st_uid == os.geteuid():
                found.add(path.name)
        except FileNotFoundError:  # removed meanwhile, by who made it
            continue
    return found


@pytest.fixture(autouse=True)
def no_segment_is_left():
    """Fails a test that leaves a segment behind: its own, or that of a process that it started."""
    before = segments()
    yield
    if segments() - before:
        gc.collect()  # a center in a cycle of garbage is none that anybody holds
    assert not segments() - before, "segments were left in /dev/shm"


class Script:
    """A Python process that runs ``code`` and talks line by line; a context manager that never leaves it behind."""

    def __init__(self, code: str, *arguments: object, prefix: tuple[str, ...] = ()):
        code = "import sys\nimport numpy as np\nimport dkcore as dk\n" + code
        command = [*prefix, sys.executable, "-c", code, *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.pid = self.process.pid

    def line(self) -> str:
        """The next line that it prints; its traceback, as a failure, when it ends instead."""
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return line.strip()

    def go(self) -> None:
        """Let it pass one ``input()``."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> str:
        """Wait for it to succeed; the rest of what it printed."""
        output, errors = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, errors
        return output

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> "Script":
        return self

    def __exit__(self, *error) -> None:
        self.kill()


@pytest.fixture
def script():
    """``script(code, *arguments)`` starts a `Script`; all of them are over when the test is."""
    started = []

    def start(code: str, *arguments: object, prefix: tuple[str, ...] = ()) -> Script:
        started.append(Script(code, *arguments, prefix=prefix))
        return started[-1]

    yield start
    for each in started:
        each.kill()


def nodes_of_a_module(number: int, kind: str = "Network"):
    """A fixture: so many hosts (see network.py), for all tests of a module."""

    @pytest.fixture(scope="module")
    def hosts():
        import network

        with getattr(network, kind)(number) as made:
            yield made

    return hosts


two_nodes, three_nodes, four_nodes = map(nodes_of_a_module, (2, 3, 4))
two_tolerant, three_tolerant = (nodes_of_a_module(number, "Tolerant") for number in (2, 3))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A folder with a small model, and data of two classes that a line divides."""
    import numpy as np

    folder = tmp_path_factory.mktemp("tiny")
    x = np.random.default_rng(0).integers(0, 255, (501, 2, 2)).astype("uint8")
    y = (x.sum((1, 2)) > 4 * 127).astype("int64")
    np.savez(folder / "data.npz", x_train=x, y_train=y, x_test=x[:100], y_test=y[:100])
    (folder / "models.py").write_text(
        "import keras\n"
        "def small():\n"
        "    return keras.Sequential([keras.Input((2, 2)), keras.layers.Flatten(), keras.layers.BatchNormalization(momentum=0.5),\n"
        "        keras.layers.Dense(8, activation='relu'), keras.layers.Dropout(0.1), keras.layers.Dense(2, activation='softmax')])\n"
        "def nothing():\n"
        "    return 42\n"
    )
    return folder
