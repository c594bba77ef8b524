"""A network of its own for a peer that listens on all interfaces and trusts everybody: there is nothing in it but loopback."""

import fcntl
import os
import shutil
import socket
import struct
import subprocess

__all__ = ["OWN", "raise_loopback", "why_not"]

# As a user, who is root in there only.
OWN = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--net", "--"]
SET_FLAGS, UP = 0x8914, 0x1  # SIOCSIFFLAGS, IFF_UP


def raise_loopback() -> None:
    """In there, before anything else: loopback is down at first."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh14x", b"lo", UP))


def why_not() -> str | None:
    """Why such a network cannot be made here."""
    if shutil.which(OWN[0]) is None:
        return "it needs unshare (util-linux) for a network of its own, since it listens on all interfaces"
    done = subprocess.run([*OWN, "true"], capture_output=True, text=True, check=False)
    return f"it listens on all interfaces, and gets no network of its own: {done.stderr.strip()}" if done.returncode else None
