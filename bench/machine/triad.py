"""The machine's own triad, a = b + s * c (McCalpin's STREAM, 1995): the roof of what moves through memory."""

import numba

__all__ = ["BYTES", "triad", "triad_in_place"]

# Bytes an element. b and c are read and a is written; and before a line of a can be written in part, it is read too.
# STREAM does not count that read, but the memory does, and so must we: an exchange works in place and has no such read.
# In place there is none either. Which of the two moves more differs between machines; the roof is the better one.
BYTES = {"triad": 4 * 4, "triad_in_place": 3 * 4}


@numba.njit("void(float32[::1], float32[::1], float32[::1], float32)", fastmath=True, nogil=True, cache=True)
def triad(a, b, c, s):
    """All of one size; a must not overlap the others."""
    for i in range(a.size):
        a[i] = b[i] + s * c[i]


@numba.njit("void(float32[::1], float32[::1], float32)", fastmath=True, nogil=True, cache=True)
def triad_in_place(a, b, s):
    """Both of one size; they must not overlap."""
    for i in range(a.size):
        a[i] = b[i] + s * a[i]
