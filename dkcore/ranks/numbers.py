"""Whole numbers that several processes of a node share in a file, each read and written by one system call."""

import os
import struct

__all__ = ["COUNT", "Numbers"]

COUNT = struct.Struct("Q")


class Numbers:
    """file: its descriptor. first: the byte of the first number."""

    def __init__(self, file: int, first: int = 0):
        self.file, self.first = file, first

    def number(self, place: int) -> int:
        """One of them; 0 before it is set."""
        value: int = COUNT.unpack(os.pread(self.file, COUNT.size, self.first + COUNT.size * place).ljust(COUNT.size, b"\0"))[0]
        return value

    def set_number(self, place: int, value: int) -> None:
        os.pwrite(self.file, COUNT.pack(value), self.first + COUNT.size * place)
