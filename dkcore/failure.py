"""Why a job failed, told from what its ranks, mpiexec and the kernel left: one RankError with all that helps."""

import re
from pathlib import Path

from dkcore.errors import RankError, expected
from dkcore.status import FOLDER, LOGS, Status

__all__ = ["explain"]

TAIL = 20  # lines of a log that a message shows


def explain(
    statuses: dict[int, Status], ranks: int, lost: tuple[float, list[int]] | None, reason: str,
    severed: tuple[str, int, list[int]] | None, directory: Path,
) -> RankError | None:
    """The error of a job that has ended, or None when all its ranks ended well.

    lost: when, and which ranks, died first without a word. reason: why the launcher ended the job, if it was that. severed:
    the host to which a line ended before its ranks, its exit code, and those ranks.
    """
    told = directory / FOLDER / "mpiexec"
    code = int(told.read_text()) if told.exists() else None  # None: we ended mpiexec
    failed = sorted((status for status in statuses.values() if status.state == "failed"), key=lambda status: status.time)
    if failed and (lost is None or failed[0].time <= lost[0]):
        return of_failed(failed[0], ranks, directory)
    if reason:
        return error(ranks, reason, "The end of mpiexec's log follows.", tail(directory, "mpiexec.log"))
    if code is not None and code < 0:
        return error(ranks, f"mpiexec killed by signal {-code}", "Nothing of the job is left.", "", code=128 - code)
    if severed and severed[1] > 128:  # killed by a signal, or ssh's own end: what else died, died of that
        return of_severed(*severed, statuses, ranks, directory)
    if lost is not None:
        return of_lost([statuses[rank] for rank in causes(lost[1], statuses, directory)], ranks, code, directory)
    if severed:
        return of_severed(*severed, statuses, ranks, directory)
    silent = [rank for rank in range(ranks) if rank not in statuses or statuses[rank].state != "done"]
    if silent or code:
        received = f"exit code {code} from mpiexec" + (f", and no word of a good end from ranks {silent}" if silent else "")
        return error(ranks, received, "The end of mpiexec's log follows.", tail(directory, "mpiexec.log"), code=code or 1)
    return None


def of_failed(status: Status, ranks: int, directory: Path) -> RankError:
    log = tail(directory, f"rank-{status.rank}.log", until="Traceback (most recent call last)")  # the status has that
    received = f"{named(status)} ended by {status.error}"
    advice = "Its traceback and the end of its log follow."
    return error(ranks, received, advice, f"{status.trace}\n{log}", status.rank, status.code)


def of_lost(statuses: list[Status], ranks: int, code: int | None, directory: Path) -> RankError:
    names = " and ".join(map(named, statuses))
    received = f"{names} dead without a word" + (f", exit code {code} from mpiexec" if code else "")
    advice = "Killed, out of memory, or os._exit? With all ranks at once: was mpiexec's proxy killed?"
    logs = "\n".join(tail(directory, f"rank-{status.rank}.log") for status in statuses)
    return error(ranks, received, advice, logs, statuses[0].rank if len(statuses) == 1 else None, code or 1)


def of_severed(host: str, code: int, left: list[int], statuses: dict[int, Status], ranks: int, directory: Path) -> RankError:
    known = [statuses[rank] for rank in left if rank in statuses]
    names = " and ".join([named(status) for status in known] or [f"rank {rank}" for rank in left])
    received = f"{names} lost with the line to host {host!r}, which ended with exit code {code}"
    advice = "Killed, out of memory, os._exit, or no way to that host? The ends of the logs follow."
    logs = "\n".join(tail(directory, name) for name in [*(f"rank-{status.rank}.log" for status in known), "mpiexec.log"])
    return error(ranks, received, advice, logs, left[0] if len(left) == 1 else None, code or 1)


def named(status: Status) -> str:
    return f"rank {status.rank} (pid {status.pid} on {status.host})"


def error(ranks: int, received: str, advice: str, more: str, rank: int | None = None, code: int | None = 1) -> RankError:
    text = expected(f"{ranks} {'ranks' if ranks > 1 else 'rank'} to end well", received, advice)
    failure = RankError(f"{text}\n{more}".strip())
    failure.rank, failure.exit_code = rank, code
    return failure


def causes(lost: list[int], statuses: dict[int, Status], directory: Path) -> list[int]:
    """Of the ranks that died without a word, wherever they ran, those that began it, as far as mpiexec's log and neighbours tell."""
    log = (directory / LOGS / "mpiexec.log").read_text(errors="replace")
    # Open MPI has a rank whose peer is gone say the first and call abort, which the second tells: consequences.
    reported = set(map(int, re.findall(r"reported by process \[\d+,(\d+)\]", log)))
    reported |= set(map(int, re.findall(r"process rank (\d+) with PID \d+ on node \S+ calling", log)))
    ended = [rank for rank, status in statuses.items() if status.state in ("running", "lost") and rank not in reported]
    for process, host in re.findall(r"\bPID (\d+) (?:RUNNING AT|on node) (\S+)(?!\S| calling)", log):
        alike = [rank for rank in ended if str(statuses[rank].pid) == process]  # hosts may have processes of the same number
        mourned = [rank for rank in alike if statuses[rank].state == "lost"]
        if named := [rank for rank in alike if statuses[rank].host == host] or mourned or alike[:1]:
            return named
    for rank in map(int, re.findall(r"Process name: \[\S+,(\d+)\]", log)):
        if rank in ended:
            return [rank]
    mourned = [rank for rank in ended if statuses[rank].state == "lost"]
    return [rank for rank in lost if rank in ended] or mourned or ended or lost


def tail(directory: Path, name: str, until: str = "") -> str:
    """The last lines of a log, before the last ``until``, under its path; nothing when it is empty or was never written."""
    log = directory / LOGS / name
    text = log.read_text(errors="replace") if log.exists() else ""
    lines = (text.rpartition(until)[0] if until and until in text else text).splitlines()[-TAIL:]
    return "\n".join([f"{log}:", *lines]) if lines else ""
