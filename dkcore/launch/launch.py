"""Start the ranks of a job, supervise them, and leave nothing behind however they end."""

import contextlib
import importlib.util
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from dkcore.errors import MissingError, expected
from dkcore.launch.allocation import spreads
from dkcore.launch.hosts import Host, parse_hosts, place
from dkcore.launch.mpi import WITHOUT, find_mpi
from dkcore.launch.requirements import check_processes, check_room, check_shared_memory
from dkcore.launch.ssh_agent import AGENT, SSH, Agent
from dkcore.launch.supervisor import Supervisor
from dkcore.ranks.processes import MARK
from dkcore.ranks.reaper import Plan
from dkcore.ranks.status import DIRECTORY, FOLDER, HEARTBEAT, LOGS, OUTPUT, StatusDirectory

__all__ = ["importable", "launch", "prepare", "scratch_folder", "search_paths"]


def launch(
    arguments: list[str],
    ranks: int,
    *,
    directory: str | os.PathLike[str],
    mpi: str = "auto",
    hosts: str | Iterable[str | Host] | None = None,
    env: dict[str, str] | None = None,
    on_tick: Callable[[], None] | None = None,
    timeout: float | None = None,
    rendezvous: float = 60.0,
    output: str = "logs",
    temporary: bool = False,
    tolerant: bool = False,
) -> None:
    """Run ``python -m dkcore.worker *arguments`` in that many ranks under mpiexec, and return when all have ended well.

    arguments: a job's directory, or a script and its arguments. directory: where the ranks leave word (``status/``) and, with
    output="logs", what they print (``logs/rank-N.log``); output="inherit" passes that through to this process' own streams.
    mpi: as for `find_mpi`. hosts: ``"a:2,b:2"`` or a list of such words, filled in this order; they are reached by ssh, or by
    what the variable DKCORE_LAUNCH_AGENT names, and must see ``directory``. None is this machine, or what a batch system
    allotted. env: variables on top of this process' own. on_tick: called about five times a second. timeout, rendezvous:
    seconds for the whole job (None: any), and for all ranks to have joined it (or, on hosts of a batch system, to give a sign
    of life again). temporary: remove ``directory`` too, should this process be killed. tolerant: go on without ranks that
    die, as long as rank 0 lives (Open MPI with ULFM).

    RankError when a rank raised, exited or was killed, when mpiexec failed, a host was lost or a time was up: ``.rank`` (or
    None) and ``.exit_code`` say which and how. Then, and after KeyboardInterrupt, no process and no shared memory of the job is
    left on any host. MissingError without an MPI; ValueError for a wrong number of ranks; FileNotFoundError when there is no
    such script.
    """
    check(arguments, ranks, output)
    placed = [] if hosts is None else place(parse_hosts(hosts), ranks)
    found, home = find_mpi(mpi), Path(directory).resolve()
    check_shared_memory()
    check_processes()
    at_home = not placed and not spreads(os.environ)
    if found.kind == "mpich" and at_home:
        check_room(ranks)
    mark = prepare(home)
    ours = {DIRECTORY: str(home), OUTPUT: output, MARK: mark, **({HEARTBEAT: "1"} if spreads(os.environ) and not placed else {})}
    with scratch_folder() as scratch:
        agent = Agent(os.environ.get(AGENT, SSH), str(home), scratch).install() if placed else None
        environment = importable({**found.environment(os.environ, scratch, agent), **(env or {}), **ours})
        worker = [sys.executable, "-m", "mpi4py", "-m", "dkcore.worker", *arguments]
        if found.kind == "mpich" and at_home:  # mpiexec's own temporary files go with the scratch folder; the ranks' are theirs
            theirs = [f"TMPDIR={environment['TMPDIR']}"] if "TMPDIR" in environment else ["-u", "TMPDIR"]
            environment["TMPDIR"], worker = scratch, ["env", *theirs, *worker]
        command = [*found.command(ranks, placed, environment, tolerant=tolerant), *worker]
        plan = Plan(command, str(home), mark, scratch, launcher=os.getpid(), temporary=temporary)
        supervisor = Supervisor(plan, ranks, placed, on_tick=on_tick, timeout=timeout, rendezvous=rendezvous, tolerant=tolerant)
        supervisor.run(environment, output)


@contextlib.contextmanager
def scratch_folder() -> Iterator[str]:
    """A folder for the temporary files of a launch, which its reaper removes; its path."""
    path = tempfile.mkdtemp(prefix="dkcore-")
    try:
        yield path
    finally:
        if os.path.exists(path):  # the reaper was not even started
            shutil.rmtree(path)


def prepare(directory: Path) -> str:
    """Make a job's directory ready for a launch; the launch's mark, which a rank finds there if it sees the same directory."""
    for folder in (directory / FOLDER, directory / LOGS):
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
    mark = secrets.token_hex(8)
    StatusDirectory(directory).write_mark(mark)
    return mark


def check(arguments: list[str], ranks: int, output: str) -> None:
    if not isinstance(ranks, int) or ranks < 1:
        raise ValueError(expected("1 or more ranks", repr(ranks), "It is the number of processes to start."))
    if output not in ("logs", "inherit"):
        raise ValueError(expected('output="logs" or "inherit"', repr(output), "See dkcore.launch.launch."))
    if not arguments or not os.path.exists(arguments[0]):
        raise FileNotFoundError(expected("a job's directory or a script", arguments[:1], "Check the path."))
    if importlib.util.find_spec("mpi4py") is None:
        raise MissingError(expected("mpi4py", "none", f'Install it with: pip install "dkcore[mpich]". {WITHOUT}'))


def importable(environment: dict[str, str]) -> dict[str, str]:
    """The environment with this dkcore as the last place to find it, for a source tree that is not installed."""
    home = str(Path(__file__).resolve().parents[2])
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**environment, "PYTHONPATH": os.pathsep.join([*paths, home])}


def search_paths() -> list[str]:
    """What can be imported here shall be found in the ranks: the modules beside the script, or beside the notebook."""
    return [str(Path(entry).resolve()) for entry in sys.path if Path(entry).is_dir()]
