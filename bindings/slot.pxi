# slot.pxi: a claimed slot: one worker.

@cython.final
cdef class Slot:
    """A claimed slot. Frees itself; a process that dies without doing so is counted as dead by the others."""

    cdef dk_worker *handle
    cdef readonly Segment segment
    cdef object __weakref__

    def __init__(self, Segment segment, int64_t rank):
        self.segment = segment
        cdef dk_center *center = segment.handle
        with nogil:
            CHK(dk_worker_claim(center, rank, &self.handle))  # OUT handle

    def release(self):
        """Give the slot back; does nothing the second time."""
        CHK(dk_worker_release(self.handle))

    def __dealloc__(self):
        if self.handle != NULL:
            dk_worker_free(self.handle)

    def lease(self, uint64_t most, uint64_t until):
        """(first, count) of at most so many batches below ``until`` to train next; count 0: there are none."""
        cdef dk_tickets tickets
        cdef dk_worker *handle = self.handle
        with nogil:
            CHK(dk_lease_take(handle, most, until, &tickets))  # OUT tickets
        return tickets.first, tickets.count

    def resume_lease(self, uint64_t first, uint64_t count):
        """Hold just these batches, which wait: CenterNotFoundError when they do not."""
        cdef dk_worker *handle = self.handle
        with nogil:
            CHK(dk_lease_resume(handle, first, count))

    @property
    def index(self):
        CHK(dk_worker_check(self.handle, 0))
        return dk_worker_slot(self.handle)

    def place(self, uint64_t epoch, uint64_t step, uint64_t steps, uint64_t samples):
        cdef dk_place place
        place.epoch, place.step, place.steps, place.samples = epoch, step, steps, samples
        CHK(dk_worker_place(self.handle, &place))  # IN place

    def resume(self, uint64_t exchanges, uint64_t epoch, uint64_t step, uint64_t steps, uint64_t samples):
        cdef dk_place place
        place.epoch, place.step, place.steps, place.samples = epoch, step, steps, samples
        CHK(dk_worker_resume(self.handle, exchanges, &place))  # IN place

    def report(self, uint64_t steps, uint64_t samples, uint64_t epoch, uint64_t total_samples, double loss):
        CHK(dk_worker_report(self.handle, steps, samples, epoch, total_samples, loss))
