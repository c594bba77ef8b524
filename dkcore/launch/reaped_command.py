"""A command under a reaper: with it, or with this process, everything goes that came of it."""

import subprocess
import time
from typing import Any

from dkcore.ranks.reaper import Plan, tear_down

__all__ = ["ReapedCommand"]


class ReapedCommand:
    """Starts a plan's command, which lives as long as this process, at most.

    environment: of the command. streams: where it prints, and what the reaper shall hold open, as for `subprocess.Popen`.
    """

    def __init__(self, plan: Plan, environment: dict[str, str], **streams: Any):
        self.plan = plan
        plan.since = plan.since or time.time()
        # A session of its own: Ctrl-C comes to us, and we end the job in order.
        self.process = subprocess.Popen(plan.reaper(), stdin=subprocess.DEVNULL, env=environment, start_new_session=True, **streams)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The command's, -n when signal n killed it; None while it runs, and when the reaper had to end it."""
        return self.plan.status.exit_code

    def stop(self, patience: float) -> None:
        """Have the reaper end everything, within so many seconds; if it cannot, do what it would have done."""
        if self.alive:
            self.process.terminate()
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.returncode < 0:  # somebody killed it, so it could not do this
            tear_down(self.plan)
