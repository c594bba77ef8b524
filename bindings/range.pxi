# range.pxi: files as one range of memory.

@cython.final
cdef class Range:
    """Addresses in a row over which files are mapped, read-only: a buffer of bytes, zeros at first. It unmaps itself."""

    cdef dk_range native

    def __cinit__(self, uint64_t size):
        CHK(dk_range_reserve(size, &self.native))  # OUT native

    def map(self, int file, uint64_t at, uint64_t size):
        """Map the first ``size`` bytes of an open file, ``at`` bytes from the begin: at a page's begin."""
        CHK(dk_range_map(&self.native, at, file, size))

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.native.begin, self.native.bytes, 1, flags)

    def __dealloc__(self):
        dk_range_free(&self.native)
