"""The states of a job under way: what happens takes it where the supervisor's table says."""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from dkcore.launch.supervisor import ENDING, GRACE, TRANSITIONS, Event, State, Supervisor
from dkcore.ranks.reaper import Plan
from dkcore.ranks.status import LOGS, Status, StatusDirectory


class Job:
    """Two ranks as their launcher sees them: real status files, one real process for both, and a clock that we set."""

    def __init__(self, directory: Path):
        self.status = StatusDirectory(directory)
        self.status.path.mkdir()
        (directory / LOGS).mkdir()
        (directory / "scratch").mkdir()
        self.process = subprocess.Popen(["sleep", "60"])
        plan = Plan(["/bin/true"], str(directory), "a mark", str(directory / "scratch"), launcher=os.getpid())
        self.supervisor = Supervisor(plan, 2, [], timeout=1000.0, rendezvous=60.0)
        self.now = time.monotonic()

    def say(self, state: str, ranks: tuple[int, ...] = (0, 1), size: int = 2) -> None:
        for rank in ranks:
            self.status.write(Status(rank, size, state=state, pid=self.process.pid, shared=[]))

    def advance(self) -> State:
        self.supervisor.monitor.wait(0)
        return self.supervisor.advance(self.now)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def exit(self) -> None:
        """mpiexec ends: here /bin/true under a real reaper."""
        self.kill()  # or the reaper would wait for the ranks
        self.supervisor.command = self.supervisor.start({}, "logs")
        self.supervisor.command.process.wait(10)

    def happen(self, event: Event) -> None:
        acts = {
            Event.EXITED: self.exit,
            Event.FAILED: lambda: self.say("failed", (1,)),
            Event.JOINED: lambda: self.say("running"),
            Event.DONE: lambda: self.say("done"),
            Event.WRONG_WORLD: lambda: self.say("running", (0,), size=1),
            Event.NO_RENDEZVOUS: lambda: self.pass_time(61),
            Event.TIMEOUT: lambda: self.pass_time(1001),
            Event.STUCK: lambda: self.pass_time(ENDING + 0.1),
            Event.GONE: lambda: (self.kill(), self.pass_time(GRACE + 0.1)),
            Event.GRACE_OVER: lambda: self.pass_time(GRACE + 0.1),
        }
        acts[event]()

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def close(self) -> None:
        self.kill()
        self.supervisor.stop()


@pytest.fixture
def job(tmp_path):
    job = Job(tmp_path)
    yield job
    job.close()


REACHED = {State.STARTING: [], State.RUNNING: [Event.JOINED], State.FINISHING: [Event.DONE], State.FAILING: [Event.FAILED],
           State.ENDED: [Event.WRONG_WORLD]}  # fmt: skip


def reach(job: Job, state: State) -> None:
    for event in REACHED[state]:
        job.happen(event)
    assert job.advance() is state


@pytest.mark.parametrize(("state", "event"), TRANSITIONS, ids=lambda each: each.name)
def test_each_event_takes_a_job_where_the_table_says(state, event, job):
    if event is Event.TIMEOUT:
        job.supervisor.rendezvous = 2000.0
    reach(job, state)
    job.happen(event)
    assert job.advance() is TRANSITIONS[state, event]
    told = {Event.WRONG_WORLD: "a world of 1", Event.NO_RENDEZVOUS: "no word from ranks [0, 1]", Event.TIMEOUT: "no end within the timeout",
            Event.STUCK: "mpiexec not ended"}.get(event, "")  # fmt: skip
    assert told in job.supervisor.reason and bool(told) == bool(job.supervisor.reason)


IGNORED = [(State.RUNNING, Event.NO_RENDEZVOUS), (State.RUNNING, Event.STUCK), (State.RUNNING, Event.GRACE_OVER),
           (State.FINISHING, Event.GRACE_OVER), (State.STARTING, Event.STUCK), (State.FAILING, Event.DONE), (State.ENDED, Event.DONE),
           (State.ENDED, Event.FAILED)]  # fmt: skip


@pytest.mark.parametrize(("state", "event"), IGNORED, ids=lambda each: each.name)
def test_what_is_not_in_the_table_changes_nothing(state, event, job):
    assert (state, event) not in TRANSITIONS
    reach(job, state)
    job.happen(event)
    assert job.advance() is state


def test_a_death_without_a_word_is_a_failure(job):
    reach(job, State.RUNNING)
    job.kill()
    assert job.advance() is State.FAILING
    assert job.supervisor.monitor.lost[1] == [0, 1]


def test_a_tolerant_job_goes_on_without_a_rank_and_ends_with_the_others(job):
    job.supervisor.monitor.tolerant = True
    reach(job, State.RUNNING)
    job.status.mark_lost(1, time.time())
    assert job.advance() is State.RUNNING
    job.say("done", (0,))
    assert job.advance() is State.FINISHING
    assert job.supervisor.monitor.missed == {1}
    job.supervisor.judge()  # raises nothing


def test_every_job_ends():
    for state in State:
        ways, seen = [state], set()
        while ways:
            seen.add(now := ways.pop())
            ways += [after for (before, _), after in TRANSITIONS.items() if before is now and after not in seen]
        assert State.ENDED in seen
    assert not [event for (state, event) in TRANSITIONS if state is State.ENDED]


def rows(title: str) -> dict[str, str]:
    """A table of the supervisor's docstring: the first word of each row, and what follows it."""
    table = re.search(rf"(?s)\n    {title} .*?\n    =[= ]+\n(.*?)\n    =", Supervisor.__doc__)[1]
    return {row.split()[0]: " ".join(row.split()[1:]) for row in re.split(r"\n    (?=[A-Z])", table)}


def test_the_docstring_has_the_table():
    told = {}
    for state, text in rows("state").items():
        for names, after in re.findall(r"((?:[A-Z_]{4,}, )*[A-Z_]{4,}): ([A-Z]+)", text):
            told |= {(State[state], Event[name]): State[after] for name in names.split(", ")}
    assert told == TRANSITIONS
    assert list(rows("state")) == [state.name for state in State]
    assert list(rows("event")) == [event.name for event in Event]
