"""A worker in its own process: ``python -m dkcore.seats.worker CHANNEL NUMBERS STARTER``, which its seat has started."""

import ctypes
import os
import signal
import socket
import sys
from pathlib import Path

from dkcore.errors import one_line
from dkcore.ranks.abort import exit_code, print_error, printed
from dkcore.ranks.channel import Channel
from dkcore.ranks.seated import Brief, Departure, SeatedWorld
from dkcore.training.rank import by_lines, print_into, run

__all__ = ["main"]

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Do a rank's work, and leave word how that ended: without it the worker counts as lost."""
    channel_file, numbers, parent = map(int, sys.argv[1:4])
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    os.set_inheritable(channel_file, False)
    os.set_inheritable(numbers, False)
    channel = Channel(socket.socket(fileno=channel_file))
    brief: Brief = channel.receive()
    if brief.log is not None:
        print_into(Path(brief.log))
    by_lines()
    world = SeatedWorld.of(brief, channel, numbers)
    try:
        run(brief.directory, world)
        world.close()
    except Departure:
        channel.send(("left", ()))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # as one that is killed, between two windows: its slot, and what it has leased, are found and taken back
    except BaseException as error:
        if not (code := exit_code(error)):
            channel.send(("done", ()))
            raise
        if not isinstance(error, SystemExit):
            print_error(error)
        channel.send(("failed", (code, one_line(error), printed(error))))
        sys.exit(code)
    channel.send(("done", ()))


if __name__ == "__main__":
    main()
