"""A job under way: its launcher starts mpiexec, sees when it is time to end the job, and ends it."""

import enum
import select
import time
from collections.abc import Callable
from pathlib import Path

from dkcore.launch.diagnosis import AGENT, MPIEXEC, explain
from dkcore.launch.hosts import Host
from dkcore.launch.rank_monitor import RankMonitor
from dkcore.launch.reaped_command import ReapedCommand
from dkcore.launch.relay import Relay
from dkcore.ranks.processes import Process
from dkcore.ranks.reaper import Plan
from dkcore.ranks.status import LOGS

__all__ = ["AGENT", "Supervisor"]

TICK = 0.2  # seconds between two calls of on_tick
GRACE = 1.5  # seconds for mpiexec to end by itself once a rank failed, so that all that the ranks said arrives
ENDING = 30.0  # seconds for mpiexec to end once all ranks have
STOPPING = 20.0  # seconds for the reapers to take everything down

State = enum.Enum("State", ["STARTING", "RUNNING", "FINISHING", "FAILING", "ENDED"])
Event = enum.Enum("Event", ["EXITED", "FAILED", "JOINED", "DONE", "WRONG_WORLD", "NO_RENDEZVOUS", "TIMEOUT", "STUCK", "GONE", "GRACE_OVER"])

TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.STARTING, Event.FAILED): State.FAILING,
    (State.STARTING, Event.JOINED): State.RUNNING,
    (State.STARTING, Event.DONE): State.FINISHING,
    (State.STARTING, Event.WRONG_WORLD): State.ENDED,
    (State.STARTING, Event.NO_RENDEZVOUS): State.ENDED,
    (State.STARTING, Event.TIMEOUT): State.ENDED,
    (State.RUNNING, Event.FAILED): State.FAILING,
    (State.RUNNING, Event.DONE): State.FINISHING,
    (State.RUNNING, Event.WRONG_WORLD): State.ENDED,
    (State.RUNNING, Event.TIMEOUT): State.ENDED,
    (State.FINISHING, Event.FAILED): State.FAILING,
    (State.FINISHING, Event.WRONG_WORLD): State.ENDED,
    (State.FINISHING, Event.TIMEOUT): State.ENDED,
    (State.FINISHING, Event.STUCK): State.ENDED,
    (State.FINISHING, Event.GONE): State.ENDED,
    (State.FAILING, Event.GRACE_OVER): State.ENDED,
    **{(state, Event.EXITED): State.ENDED for state in State if state is not State.ENDED},
}


class Supervisor:
    """Runs a plan of `dkcore.ranks.reaper`, monitors its ranks, and ends the job when that is due.

    The states of a job, and what takes it from each to the next:

    =========  ==========================================  =====================================================================
    state      meaning                                     next state, by event
    =========  ==========================================  =====================================================================
    STARTING   mpiexec runs, not all ranks have joined     JOINED: RUNNING. DONE: FINISHING. FAILED: FAILING.
                                                           WRONG_WORLD, NO_RENDEZVOUS, TIMEOUT, EXITED: ENDED
    RUNNING    all ranks have joined                       DONE: FINISHING. FAILED: FAILING. WRONG_WORLD, TIMEOUT, EXITED: ENDED
    FINISHING  all ranks are done, mpiexec still runs      FAILED: FAILING. WRONG_WORLD, TIMEOUT, STUCK, GONE, EXITED: ENDED
    FAILING    a rank or a host is lost, or a rank failed  GRACE_OVER, EXITED: ENDED
    ENDED      what is left is taken down                  none
    =========  ==========================================  =====================================================================

    =============  =============================================================================================================
    event          it happens when
    =============  =============================================================================================================
    EXITED         mpiexec has ended by itself, or its reaper was killed
    FAILED         a rank failed or was lost, or the connection to a host
    JOINED         all ranks have said that they run
    DONE           all ranks have ended well, as they say
    WRONG_WORLD    a rank is in a world of another size
    NO_RENDEZVOUS  not all ranks have joined within ``rendezvous`` seconds
    TIMEOUT        the job has not ended within ``timeout`` seconds
    STUCK          mpiexec has not ended 30 s after the ranks were done
    GONE           it has not 1.5 s after them, and all their processes are gone: it waits for one that they left behind
    GRACE_OVER     1.5 s have passed, so that all that the ranks said has arrived
    =============  =============================================================================================================

    hosts: with as many slots as ranks were placed there. tolerant: the job goes on without ranks that die, as long as rank 0 lives.
    program: what the plan runs, in the place of mpiexec, for messages and for the name of its log.
    """

    def __init__(self, plan: Plan, ranks: int, hosts: list[Host], *, on_tick: Callable[[], None] | None = None,
                 timeout: float | None = None, rendezvous: float = 60.0, tolerant: bool = False,
                 program: str = MPIEXEC):  # fmt: skip
        self.plan, self.ranks, self.hosts, self.program = plan, ranks, hosts, program
        self.on_tick, self.timeout, self.rendezvous = on_tick, timeout, rendezvous
        self.directory = Path(plan.directory)
        self.log = self.directory / LOGS / f"{program}.log"
        self.monitor = RankMonitor(plan.status, ranks, hosts, silence=rendezvous, tolerant=tolerant)
        self.command: ReapedCommand | None = None
        self.relay: Relay | None = None
        self.state = State.STARTING
        self.began = self.since = time.monotonic()  # since: when the state was entered
        self.reason = ""  # why the job was ended though no rank failed

    def run(self, environment: dict[str, str], output: str) -> None:
        """Start mpiexec and stay until everything is gone; RankError if it did not end well."""
        self.command = self.start(environment, output)
        try:
            with Process(self.command.process.pid) as reaper:
                self.monitor.poller.register(reaper, select.POLLIN)  # its end ends the wait
                while self.advance(time.monotonic()) is not State.ENDED:
                    self.monitor.wait(TICK)
                    if self.on_tick is not None:
                        self.on_tick()
        finally:
            self.stop()
        self.judge()

    def start(self, environment: dict[str, str], output: str) -> ReapedCommand:
        self.began = self.since = time.monotonic()
        if output == "logs":
            with open(self.log, "wb") as log:
                return ReapedCommand(self.plan, environment, stdout=log, stderr=log)
        if not self.hosts:  # we see every rank ourselves, and need no word of mpiexec
            self.log.touch()
            return ReapedCommand(self.plan, environment)
        self.relay = Relay()
        command = ReapedCommand(self.plan, environment, **self.relay.streams)
        self.relay.start()
        return command

    def advance(self, now: float) -> State:
        """Take the job from state to state, as far as what is known of it goes; the state in which it is then."""
        while (event := next((event for event in Event if self.happens(event, now)), None)) is not None:
            self.reason = self.reason_of(event)
            self.state, self.since = TRANSITIONS[self.state, event], now
        return self.state

    def happens(self, event: Event, now: float) -> bool:
        """Whether it is one of the state's, and the case."""
        if (self.state, event) not in TRANSITIONS:
            return False
        conditions: dict[Event, Callable[[], bool]] = {
            Event.EXITED: lambda: self.command is not None and not self.command.alive,
            Event.FAILED: lambda: self.monitor.failed,
            Event.JOINED: lambda: not self.monitor.missing,
            Event.DONE: lambda: self.monitor.done,
            Event.WRONG_WORLD: lambda: bool(self.monitor.wrong_sizes),
            Event.NO_RENDEZVOUS: lambda: now > self.began + self.rendezvous,
            Event.TIMEOUT: lambda: self.timeout is not None and now > self.began + self.timeout,
            Event.STUCK: lambda: now > self.since + ENDING,
            Event.GONE: lambda: self.monitor.gone and now > self.since + GRACE,
            Event.GRACE_OVER: lambda: now > self.since + GRACE,
        }
        return conditions[event]()

    def reason_of(self, event: Event) -> str:
        """Why the job is ended by an event that is no failure of a rank; empty for all others."""
        if event is Event.WRONG_WORLD:
            return f"a world of {self.monitor.wrong_sizes.pop()}: mpiexec and the MPI library that mpi4py loads do not belong together"
        if event is Event.NO_RENDEZVOUS:
            return f"no word from ranks {self.monitor.missing} within {self.rendezvous:g} s"
        if event is Event.TIMEOUT:
            return f"no end within the timeout of {self.timeout:g} s"
        return f"all ranks done, but {self.program} not ended {ENDING:g} s later" if event is Event.STUCK else ""

    def stop(self) -> None:
        """Have the reaper end everything that is left."""
        if self.command is not None:
            self.command.stop(STOPPING)
        if self.relay is not None:
            self.relay.end(self.log, GRACE)
        self.monitor.close()

    def judge(self) -> None:
        """RankError if the job did not end well."""
        monitor = self.monitor
        monitor.look_last()
        if monitor.missed and all(monitor.statuses[rank].state == "done" for rank in set(monitor.statuses) - monitor.missed):
            return
        if error := explain(monitor.statuses, self.ranks, monitor.lost, self.reason, monitor.lost_connection, self.directory, self.program):
            raise error
