"""Why a job failed, told from what its ranks, mpiexec and the kernel left: one RankError with all that helps, its last line the cause."""

from collections.abc import Iterable
from pathlib import Path

from dkcore.errors import RankError, counted, silent_death
from dkcore.frameworks import without_chatter
from dkcore.launch.mpi import read_log
from dkcore.ranks.status import LOGS, Status, StatusDirectory

__all__ = ["AGENT", "MPIEXEC", "explain", "rank_error"]

MPIEXEC, AGENT = "mpiexec", "agent"  # what runs the ranks
TAIL = 20  # lines of a log that a message shows
TRACEBACK = "Traceback (most recent call last)"


def explain(
    statuses: dict[int, Status],
    ranks: int,
    lost: tuple[float, list[int]] | None,
    reason: str,
    disconnected: tuple[str, int, list[int]] | None,
    directory: Path,
    program: str = MPIEXEC,
) -> RankError | None:
    """The error of a job that has ended, or None when all its ranks ended well.

    lost: when, and which ranks, died first without a word. reason: why the launcher ended the job, if it was that. disconnected:
    the host to which a line ended before its ranks, its exit code, and those ranks. program: what ran the ranks.
    """
    code = StatusDirectory(directory).exit_code  # None: we ended mpiexec
    failed = sorted((status for status in statuses.values() if status.state == "failed"), key=lambda status: status.time)
    if failed and (lost is None or failed[0].time <= lost[0]):
        return of_failed(failed[0], directory)
    if reason:
        return of_job(reason, directory, program)
    if code is not None and code < 0:
        return of_job(f"{program} killed by signal {-code}. Nothing of the job is left.", directory, program, 128 - code)
    if disconnected and disconnected[1] > 128:  # killed by a signal, or ssh's own end: what else died, died of that
        return of_disconnected(*disconnected, statuses, directory)
    if lost is not None:
        return of_lost([statuses[rank] for rank in causes(lost[1], statuses, directory)], code, directory)
    if disconnected:
        return of_disconnected(*disconnected, statuses, directory)
    silent = [rank for rank in range(ranks) if rank not in statuses or statuses[rank].state != "done"]
    if silent or code:
        cause = f"{program} ended with exit code {code}" + (
            f", and {counted('rank', silent)} left no word of a good end." if silent else "."
        )
        return of_job(cause, directory, program, code or 1)
    return None


def of_failed(status: Status, directory: Path) -> RankError:
    log = tail(directory, f"rank-{status.rank}.log", tracebacks=status.trace.count(TRACEBACK))  # the status has these
    cause = f"rank {status.rank} on {status.host}: {status.error}"
    return rank_error(cause, f"{named(status)} failed.", [log, status.trace], status.rank, status.code or 1)


def of_lost(dead: list[Status], code: int | None, directory: Path) -> RankError:
    cause = silent_death([(status.rank, status.host, status.pid) for status in dead])
    cause += f" Exit code {code} from mpiexec." if code else ""
    cause += " One of them died first, or mpiexec's proxy was killed." if len(dead) > 1 else ""
    logs = [tail(directory, f"rank-{status.rank}.log") for status in dead]
    return rank_error(cause, f"{' and '.join(map(named, dead))} died.", logs, dead[0].rank if len(dead) == 1 else None, code or 1)


def of_disconnected(host: str, code: int, left: list[int], statuses: dict[int, Status], directory: Path) -> RankError:
    lost = f"{counted('rank', left)} on {host}"
    cause = f"{lost}: the connection to the host ended with exit code {code}. Is the host, or ssh to it, down? Or killed, out of memory?"
    known = [statuses[rank] for rank in left if rank in statuses]
    names = " and ".join(map(named, known)) or lost
    logs = [tail(directory, name) for name in [*(f"rank-{status.rank}.log" for status in known), "mpiexec.log"]]
    return rank_error(cause, f"{names} lost.", logs, left[0] if len(left) == 1 else None, code or 1)


def of_job(cause: str, directory: Path, program: str, code: int = 1) -> RankError:
    """When no rank alone is to blame."""
    return rank_error(cause, "The job failed.", [tail(directory, f"{program}.log")], None, code)


def named(status: Status) -> str:
    return f"rank {status.rank} (pid {status.pid} on {status.host})"


def rank_error(cause: str, heading: str, parts: Iterable[str], rank: int | None = None, code: int = 1) -> RankError:
    """The error whose message begins with a heading, and ends with the cause, after all that helps to understand it."""
    heading = heading[0].upper() + heading[1:]
    error = RankError("\n\n".join(filter(None, [heading, *(part.strip("\n") for part in parts), f"Error: {cause}"])))
    error.rank, error.exit_code, error.cause = rank, code, cause
    return error


def causes(lost: list[int], statuses: dict[int, Status], directory: Path) -> list[int]:
    """Of the ranks that died without a word, wherever they ran, those that began it, as far as mpiexec's log and neighbours tell."""
    found = read_log((directory / LOGS / "mpiexec.log").read_text(errors="replace"))
    ended = [rank for rank, status in statuses.items() if status.state in ("running", "lost") and rank not in found.reporters]
    for pid, host in found.processes:
        alike = [rank for rank in ended if statuses[rank].pid == pid]  # hosts may have processes of the same number
        lost_ranks = [rank for rank in alike if statuses[rank].state == "lost"]
        if named := [rank for rank in alike if statuses[rank].host == host] or lost_ranks or alike[:1]:
            return named
    for rank in found.ranks:
        if rank in ended:
            return [rank]
    lost_ranks = [rank for rank in ended if statuses[rank].state == "lost"]
    return [rank for rank in lost if rank in ended] or lost_ranks or ended or lost


def tail(directory: Path, name: str, tracebacks: int = 0) -> str:
    """The last lines of a log, without what frameworks say of themselves and its last so many tracebacks, under its path.

    Nothing when it is empty or was never written.
    """
    log = directory / LOGS / name
    text = log.read_text(errors="replace") if log.exists() else ""
    if tracebacks and TRACEBACK in text:
        text = TRACEBACK.join(text.split(TRACEBACK)[:-tracebacks])
    lines = without_chatter(text.splitlines())[-TAIL:]
    return "\n".join([f"{log}:", *lines]) if lines else ""
