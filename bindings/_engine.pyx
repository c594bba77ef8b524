# cython: language_level=3, binding=True, embedsignature=True
"""The C engine (src_ext/dkcore.h) as Python objects. No logic: dkcore/center.py has it.

One idiom, without exception: C returns a status, and `CHK` turns it into an exception of dkcore/errors.py.
"""
cimport numpy as cnp
from dkcore cimport *
from libc.string cimport memset

import numpy as np

from dkcore import errors

cnp.import_array()

CLASSES = {
    DK_INVALID: ValueError,
    DK_SYSTEM: OSError,
    DK_NO_ROOM: errors.NoRoomError,
    DK_EXISTS: FileExistsError,
    DK_NOT_FOUND: errors.CenterNotFoundError,
    DK_LAYOUT: errors.LayoutError,
    DK_TIMEOUT: errors.StripeTimeoutError,
    DK_FULL: errors.NoRoomError,
    DK_NOT_FINITE: errors.NotFiniteError,
    DK_BROKEN: errors.MergeError,
}
SLOT_STATES = ("free", "claimed", "done", "dead")


cdef int CHK(dk_status status) except -1 with gil:
    if status != DK_OK:
        raise CLASSES[status](dk_error().decode())
    return 0


def instruction_sets():
    """Names of the instruction sets that were built in and run on this processor, widest first."""
    found, index = [], 0
    while dk_isa_at(index) != NULL:
        if dk_isa_runs(dk_isa_at(index)):
            found.append(dk_isa_at(index).decode())
        index += 1
    return found


def find_kernel(str rule, str dtype, str isa=None):
    """Address of the built-in kernel, or 0. isa None: the widest that runs here."""
    cdef bytes encoded = b"" if isa is None else isa.encode()
    cdef const char *wanted = NULL
    if isa is not None:
        wanted = encoded
    return <size_t>dk_kernel_find(rule.encode(), dtype.encode(), wanted)


def sweep(str name):
    """Remove the segment of that name if no process holds it; True when it was removed."""
    cdef bytes encoded = name.encode()
    cdef const char *text = encoded
    cdef int removed = 0
    with nogil:
        CHK(dk_segment_sweep(text, &removed))  # IN name, OUT removed
    return bool(removed)


cdef class Segment:
    """A mapped center. Frees itself; the last process to let go removes the shared memory."""

    cdef dk_center *handle
    cdef object __weakref__

    @staticmethod
    def create(str name, cnp.ndarray initial, uint64_t stripe_length, uint32_t states, uint32_t slots, uint64_t digest, str note):
        cdef Segment self = Segment.__new__(Segment)
        cdef bytes name_bytes = name.encode(), note_bytes = note.encode()
        cdef const char *name_text = name_bytes
        cdef const char *note_text = note_bytes
        cdef const void *data = cnp.PyArray_DATA(initial)
        cdef dk_layout layout
        memset(&layout, 0, sizeof(layout))
        layout.length, layout.itemsize = cnp.PyArray_SIZE(initial), initial.itemsize
        layout.stripe_length, layout.states, layout.slots, layout.digest = stripe_length, states, slots, digest
        with nogil:
            CHK(dk_center_create(name_text, &layout, data, note_text, &self.handle))  # OUT handle
        return self

    @staticmethod
    def attach(str name, uint64_t length, uint32_t itemsize, uint64_t digest, double timeout):
        cdef Segment self = Segment.__new__(Segment)
        cdef bytes name_bytes = name.encode()
        cdef const char *name_text = name_bytes
        cdef dk_layout layout
        memset(&layout, 0, sizeof(layout))
        layout.length, layout.itemsize, layout.digest = length, itemsize, digest
        with nogil:
            CHK(dk_center_attach(name_text, &layout, timeout, &self.handle))  # OUT handle
        return self

    def close(self):
        """Let go of the segment; does nothing the second time. No `address` may be used afterwards."""
        cdef dk_center *handle = self.handle
        self.handle = NULL
        if handle != NULL:
            with nogil:
                CHK(dk_center_close(handle))

    def __dealloc__(self):
        if self.handle != NULL:
            dk_center_close(self.handle)

    cdef dk_center *open(self) except NULL:
        if self.handle == NULL:
            raise ValueError("Expected an open center. Received: a closed one. Create or attach it again.")
        return self.handle

    def layout(self):
        """length, itemsize, stripe_length, states, slots and digest, as a dict."""
        cdef dk_layout layout
        CHK(dk_center_layout(self.open(), &layout))  # OUT layout
        return {"length": layout.length, "itemsize": layout.itemsize, "stripe_length": layout.stripe_length,
                "states": layout.states, "slots": layout.slots, "digest": layout.digest,
                "stripes": dk_center_stripes(self.handle), "note": dk_center_note(self.handle).decode()}

    def snapshot(self, uint32_t vector, cnp.ndarray out, double timeout):
        cdef dk_center *handle = self.open()
        cdef void *data = cnp.PyArray_DATA(out)
        with nogil:
            CHK(dk_center_snapshot(handle, vector, data, timeout))  # OUT data

    def restore(self, uint32_t vector, cnp.ndarray data, double timeout):
        cdef dk_center *handle = self.open()
        cdef const void *source = cnp.PyArray_DATA(data)
        with nogil:
            CHK(dk_center_restore(handle, vector, source, timeout))  # IN source

    def address(self, uint32_t vector):
        """Where a vector begins in this process (0: the center, 1...: states), until close. Unlocked: to look, not to touch."""
        return <size_t>dk_center_vector(self.open(), vector)

    def versions(self):
        cdef cnp.ndarray out = np.empty(dk_center_stripes(self.open()), np.uint64)
        CHK(dk_center_versions(self.handle, <uint64_t *>cnp.PyArray_DATA(out)))  # OUT out
        return out

    def counts(self):
        cdef dk_counts counts
        CHK(dk_center_counts(self.open(), &counts))  # OUT counts
        return {"live": counts.live, "deaths": counts.deaths, "recovered": counts.recovered}

    def slot(self, uint32_t index):
        cdef dk_slot_view view
        CHK(dk_center_slot(self.open(), index, &view))  # OUT view
        seen = {"slot": index, "state": SLOT_STATES[view.state], "pid": view.pid, "rank": view.rank, "started": view.started,
                "heartbeat": view.heartbeat, "exchanges": view.exchanges, "steps": view.steps, "samples": view.samples,
                "epoch": view.epoch, "total_samples": view.total_samples, "loss": view.loss,
                "exchange_seconds": view.exchange_seconds, "staleness_sum": view.staleness_sum}
        seen["histogram"] = np.array(<uint64_t[:DK_HISTOGRAM]>view.histogram)
        return seen

    # ---------------------------------------------------------------- what leader and workers of a node tell each other

    def declare_broken(self, str reason):
        cdef bytes text = reason.encode()[:511]
        CHK(dk_center_break(self.open(), text))

    def check(self):
        """MergeError, with the reason that was given, once the center was declared broken."""
        CHK(dk_center_check(self.open()))

    def set_others(self, uint32_t workers, uint64_t slowest):
        CHK(dk_center_others(self.open(), workers, slowest))

    def declare_rule(self, str rule):
        cdef bytes text = rule.encode()[:127]
        CHK(dk_center_declare(self.open(), text))

    def pulse(self):
        """live and waiting workers, the exchanges of the slowest (2**64 - 1: there is none) and the declared rule."""
        cdef dk_pulse pulse
        CHK(dk_center_pulse(self.open(), &pulse))  # OUT pulse
        rule = (<bytes>pulse.rule).decode(errors="replace")
        return {"live": pulse.live, "waiting": pulse.waiting, "slowest": pulse.slowest, "rule": rule}

    def set_members(self, uint32_t gate, int32_t members):
        CHK(dk_gate_members(self.open(), gate, members, 1))

    def change_members(self, uint32_t gate, int32_t by):
        CHK(dk_gate_members(self.open(), gate, by, 0))

    def arrive(self, uint32_t gate):
        """Count as arrived; the ticket to wait with."""
        cdef uint32_t ticket
        CHK(dk_gate_arrive(self.open(), gate, &ticket))  # OUT ticket
        return ticket

    def wait(self, uint32_t gate, uint32_t ticket, double timeout):
        """Whether the gate was opened since the ticket; MergeError once the center is broken."""
        cdef dk_center *handle = self.open()
        cdef dk_status status
        with nogil:
            status = dk_gate_wait(handle, gate, ticket, timeout)
        if status != DK_TIMEOUT:
            CHK(status)
        return status == DK_OK

    def await_members(self, uint32_t gate, double timeout):
        """(members, arrived) when all have arrived, or after the timeout."""
        cdef dk_center *handle = self.open()
        cdef dk_gate_view view
        with nogil:
            CHK(dk_gate_await(handle, gate, timeout, &view))  # OUT view
        return view.members, view.arrived

    def open_gate(self, uint32_t gate, uint32_t arrived):
        CHK(dk_gate_open(self.open(), gate, arrived))


cdef class Pass:
    """A formula prepared to run over stripes of a center, each under its lock. Not for two threads at once.

    roles: for each vector 0 (the center), 3 + k (its k-th state) or -1 (an array that `run` is given).
    """

    cdef dk_pass native
    cdef Segment segment
    cdef object kernel  # keeps the code of a numba kernel alive
    cdef tuple names
    cdef uint64_t length, stripe_length
    cdef uint32_t itemsize

    def __init__(self, Segment segment, kernel, roles, names, double timeout):
        memset(&self.native, 0, sizeof(self.native))
        layout = segment.layout()
        self.segment, self.kernel, self.names = segment, kernel, tuple(names)
        self.length, self.stripe_length, self.itemsize = layout["length"], layout["stripe_length"], layout["itemsize"]
        self.native.kernel = <dk_kernel><size_t>kernel.address
        self.native.vectors, self.native.timeout_s = len(roles), timeout
        for index, role in enumerate(roles):
            self.native.role[index] = role

    def set(self, str name, double value):
        self.native.scalars[self.names.index(name)] = value

    def run(self, uint64_t first, uint64_t end, arrays, cnp.ndarray versions=None, cnp.ndarray raised=None):
        """Over stripes ``first`` to ``end - 1``. arrays: of those vectors that are outside, beginning with stripe ``first``.

        versions: uint64, receives the versions of the stripes, before they are raised. raised: uint64, is added to them.
        """
        cdef dk_center *center = self.segment.open()
        cdef uint64_t needed = min(end * self.stripe_length, self.length) - first * self.stripe_length
        cdef cnp.ndarray array
        outside = iter(arrays)
        for index in range(self.native.vectors):
            if self.native.role[index] == DK_OUTSIDE:
                array = next(outside)
                fits = <uint64_t>cnp.PyArray_SIZE(array) >= needed and array.itemsize == self.itemsize
                if not fits or not cnp.PyArray_IS_C_CONTIGUOUS(array):
                    received = f"{array.size} {array.dtype}"
                    raise ValueError(errors.expected(f"{needed} contiguous elements", received, "As the stripes have."))
                self.native.outside[index] = cnp.PyArray_DATA(array)
        for given in (versions, raised):
            if given is not None and (given.dtype != np.uint64 or given.size < end - first or not given.flags.c_contiguous):
                raise ValueError(errors.expected(f"{end - first} contiguous uint64", f"{given.size} {given.dtype}", "One a stripe."))
        self.native.first, self.native.end = first, end
        self.native.versions = NULL if versions is None else <uint64_t *>cnp.PyArray_DATA(versions)
        self.native.raise_ = NULL if raised is None else <uint64_t *>cnp.PyArray_DATA(raised)
        with nogil:
            CHK(dk_center_pass(center, &self.native))


cdef class Slot:
    """A claimed slot. Frees itself; a process that dies without doing so is counted as dead by the others."""

    cdef bint busy
    cdef dk_worker *handle
    cdef readonly Segment segment
    cdef object __weakref__

    def __init__(self, Segment segment, int64_t rank):
        self.segment = segment
        cdef dk_center *center = segment.open()
        with nogil:
            CHK(dk_worker_claim(center, rank, &self.handle))  # OUT handle

    def release(self):
        """Give the slot back; does nothing the second time."""
        if self.busy:
            self.idle()
        cdef dk_worker *handle = self.handle
        self.handle = NULL
        if handle != NULL and self.segment.handle != NULL:
            CHK(dk_worker_release(handle))

    def __dealloc__(self):
        if self.handle != NULL and self.segment is not None and self.segment.handle != NULL:
            dk_worker_release(self.handle)

    cdef dk_worker *open(self) except NULL:
        if self.handle == NULL or self.segment.handle == NULL:
            raise ValueError("Expected a live worker. Received: one that was released. Claim another with center.worker().")
        return self.handle

    cdef int idle(self) except -1:
        self.open()
        if self.busy:  # the GIL is free during an exchange, so another thread may come here
            raise RuntimeError("Expected one thread at a time. Received: another within an exchange. Give each its own center.worker().")
        return 0

    @property
    def index(self):
        return dk_worker_slot(self.open())

    def report(self, uint64_t steps, uint64_t samples, uint64_t epoch, uint64_t total_samples, double loss):
        CHK(dk_worker_report(self.open(), steps, samples, epoch, total_samples, loss))


cdef int64_t run_exchange(void *call, int64_t count, void **addresses, const uint64_t *lengths) noexcept nogil:
    return dk_exchange(<dk_call *>call, count, addresses, lengths)


cdef int64_t run_pull(void *call, int64_t count, void **addresses, const uint64_t *lengths) noexcept nogil:
    return dk_pull(<dk_call *>call, count, addresses, lengths)


cdef class Call:
    """A prepared exchange (or, without a kernel, a pull) of one worker. Not for two threads at once."""

    cdef dk_call call
    cdef Slot slot
    cdef cnp.ndarray previous
    cdef object kernel  # keeps the code of a numba kernel alive
    cdef readonly tuple names
    cdef uint64_t length
    cdef int typenum

    def __init__(self, Slot slot, kernel, roles, names, *, typenum, bint check_finite, double timeout, max_ahead=None, double patience=0):
        memset(&self.call, 0, sizeof(self.call))
        self.slot, self.kernel, self.names = slot, kernel, tuple(names)
        self.call.worker = slot.open()
        self.call.kernel = <dk_kernel><size_t>(0 if kernel is None else kernel.address)
        self.call.vectors = len(roles)
        for index, role in enumerate(roles):
            self.call.role[index] = role
        self.call.staleness_at = names.index("staleness") if "staleness" in names else -1
        self.call.workers_at = names.index("workers") if "workers" in names else -1
        self.call.check_finite, self.call.timeout_s = check_finite, timeout
        self.call.bounded, self.call.max_ahead, self.call.patience_s = max_ahead is not None, max_ahead or 0, patience
        self.length, self.typenum = slot.segment.layout()["length"], typenum

    cdef cnp.ndarray check(self, object array, str what):
        if not isinstance(array, cnp.ndarray):
            raise TypeError(errors.expected(f"{what} as a numpy array", type(array).__name__, "It is changed in place."))
        cdef cnp.ndarray vector = array
        if (cnp.PyArray_TYPE(vector) != self.typenum or not cnp.PyArray_ISNOTSWAPPED(vector)
                or <uint64_t>cnp.PyArray_SIZE(vector) != self.length):
            wanted = f"{what} of {self.length} {cnp.PyArray_DescrFromType(self.typenum)}"
            raise errors.LayoutError(errors.expected(wanted, f"{array.size} {array.dtype}", "It must fit the center."))
        if not cnp.PyArray_CHKFLAGS(vector, cnp.NPY_ARRAY_CARRAY):
            raise ValueError(errors.expected(f"{what} contiguous, aligned and writeable", str(array.flags), "It is changed in place."))
        return vector

    @property
    def p(self):
        """The previous: what the worker held after its last exchange; None when the rule does not name it."""
        return self.previous

    @p.setter
    def p(self, array):
        self.slot.idle()
        self.previous = None if array is None else self.check(array, "p")
        self.call.previous = NULL if array is None else cnp.PyArray_DATA(self.previous)

    def set(self, str name, double value):
        """Set one scalar by name, for all runs to come."""
        self.call.scalars[self.names.index(name)] = value

    def set_previous(self, array):
        """As p = array; None keeps what was there."""
        if array is not None and array is not self.previous:
            self.p = array

    def set_all(self, dict scalars):
        """Set those scalars that are given; the others keep their values."""
        cdef int index = 0
        self.slot.idle()
        for name in self.names:
            if name in scalars:
                self.call.scalars[index] = scalars[name]
            index += 1

    def flat(self, w):
        """Run on one flat array (length of the center, its dtype), in place."""
        cdef cnp.ndarray vector = self.check(w, "w")
        cdef void *address = cnp.PyArray_DATA(vector)
        cdef size_t here = <size_t>address, there = <size_t>self.call.previous, size = cnp.PyArray_NBYTES(vector)
        if there != 0 and here < there + size and there < here + size:
            raise ValueError("Expected w and p in memory of their own. Received: arrays that overlap. Pass p=w.copy().")
        self.run(1, &address, &self.length)

    def segments(self, cnp.ndarray addresses, cnp.ndarray lengths):
        """Run on native segments: addresses and lengths (elements), both uint64 and of one size, in the center's order."""
        cdef size_t count = cnp.PyArray_SIZE(addresses)
        if (cnp.PyArray_TYPE(addresses) != cnp.NPY_UINT64 or cnp.PyArray_TYPE(lengths) != cnp.NPY_UINT64
                or <size_t>cnp.PyArray_SIZE(lengths) != count or not cnp.PyArray_IS_C_CONTIGUOUS(addresses)
                or not cnp.PyArray_IS_C_CONTIGUOUS(lengths)):
            given = f"{addresses.dtype} {addresses.size}, {lengths.dtype} {lengths.size}"
            raise ValueError(errors.expected("two contiguous uint64 arrays of one size", given, "One address and one length a segment."))
        self.run(count, <void **>cnp.PyArray_DATA(addresses), <const uint64_t *>cnp.PyArray_DATA(lengths))

    cdef int run(self, size_t count, void **addresses, const uint64_t *lengths) except -1:
        self.slot.idle()
        self.slot.busy = True
        try:
            with nogil:
                if self.call.kernel != NULL:
                    dk_exchange(&self.call, count, addresses, lengths)
                else:
                    dk_pull(&self.call, count, addresses, lengths)
        finally:
            self.slot.busy = False
        self.check_status()
        return 0

    def check_status(self):
        """Raise the error of the last run, wherever it ran."""
        if self.call.status != DK_OK:
            error = CLASSES[self.call.status](self.call.message.decode())
            error.element = self.call.bad_element
            raise error

    @property
    def function(self):
        """Address of ``int64_t f(void *call, int64_t n, void *const *addresses, const uint64_t *lengths)``."""
        return <size_t>&run_exchange if self.call.kernel != NULL else <size_t>&run_pull

    @property
    def address(self):
        """Address of the dk_call, the first argument of `function`; ValueError once the worker was released."""
        self.slot.open()
        return <size_t>&self.call

    @property
    def staleness(self):
        """Mean staleness over the stripes of the last run, in commits."""
        return self.call.staleness

    @property
    def seconds(self):
        """Duration of the last run."""
        return self.call.seconds


def codec_bytes(int kind, uint32_t itemsize, double fraction, uint64_t n):
    """Bytes of n encoded elements."""
    return dk_codec_bytes(<dk_codec>kind, itemsize, fraction, n)


def encode(int kind, double fraction, cnp.ndarray values, cnp.ndarray residual, cnp.ndarray data):
    """As dk_encode; residual may be None."""
    cdef uint64_t n = cnp.PyArray_SIZE(values)
    cdef uint32_t itemsize = values.itemsize
    cdef void *numbers = cnp.PyArray_DATA(values)
    cdef void *rest = NULL if residual is None else cnp.PyArray_DATA(residual)
    cdef void *stored = cnp.PyArray_DATA(data)
    with nogil:
        CHK(dk_encode(<dk_codec>kind, itemsize, fraction, n, numbers, rest, stored))  # IN OUT numbers, rest, OUT stored


def decode(int kind, double fraction, cnp.ndarray data, cnp.ndarray values, bint add):
    """As dk_decode, or dk_decode_add."""
    cdef uint64_t n = cnp.PyArray_SIZE(values)
    cdef uint32_t itemsize = values.itemsize
    cdef const void *stored = cnp.PyArray_DATA(data)
    cdef void *numbers = cnp.PyArray_DATA(values)
    with nogil:
        if add:
            CHK(dk_decode_add(<dk_codec>kind, itemsize, fraction, n, stored, numbers))  # IN stored, IN OUT numbers
        else:
            CHK(dk_decode(<dk_codec>kind, itemsize, fraction, n, stored, numbers))  # IN stored, OUT numbers
