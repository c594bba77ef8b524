"""Messages between a seat and its worker, two processes of one machine: Python objects over a socket, each whole or not at all."""

import pickle
import socket
import struct
from typing import Any

__all__ = ["Channel"]

LENGTH = struct.Struct("Q")


class Channel:
    """One end. A message that its sender died in is none: `receive` raises EOFError instead."""

    def __init__(self, end: socket.socket):
        self.end = end

    def send(self, message: Any) -> None:
        """OSError when the other end is gone."""
        data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        self.end.sendall(LENGTH.pack(len(data)) + data)

    def receive(self) -> Any:
        """The next message; EOFError when the other end is gone."""
        (length,) = LENGTH.unpack(self.exactly(LENGTH.size))
        return pickle.loads(self.exactly(length))

    def exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            try:
                piece = self.end.recv(min(count - len(data), 1 << 20))
            except ConnectionResetError:
                piece = b""
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)

    def close(self) -> None:
        self.end.close()
