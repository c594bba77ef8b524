# segment.pxi: a center in shared memory, and what the leader and the workers of a node tell each other through it.

SLOT_STATES = ("free", "claimed", "done", "dead")
UNDO_MODES = ("block", "stripe", "none")


def sweep(str name):
    """Remove the segment of that name if it is this user's and no process holds it; True when it was removed."""
    cdef bytes encoded = os.fsencode(name)  # others name their files as they like
    cdef const char *text = encoded
    cdef int removed = 0
    with nogil:
        CHK(dk_segment_sweep(text, &removed))  # IN name, OUT removed
    return bool(removed)


@cython.final
cdef class Segment:
    """A mapped center. Frees itself; the last process to let go removes the shared memory."""

    cdef dk_center *handle
    cdef object __weakref__

    @staticmethod
    def create(str name, cnp.ndarray initial, uint64_t stripe_length, uint32_t states, uint32_t slots, uint64_t digest, str note,
               uint64_t statistics=0, str undo="block"):
        cdef Segment self = Segment.__new__(Segment)
        cdef bytes name_bytes = name.encode(), note_bytes = note.encode()
        cdef const char *name_text = name_bytes
        cdef const char *note_text = note_bytes
        cdef const void *data = cnp.PyArray_DATA(initial)
        cdef dk_layout layout
        memset(&layout, 0, sizeof(layout))
        layout.length, layout.itemsize = cnp.PyArray_SIZE(initial), initial.itemsize
        layout.stripe_length, layout.states, layout.slots, layout.digest = stripe_length, states, slots, digest
        layout.statistics, layout.undo = statistics, UNDO_MODES.index(undo)
        with nogil:
            CHK(dk_center_create(name_text, &layout, data, note_text, &self.handle))  # OUT handle
        return self

    @staticmethod
    def attach(str name, uint64_t length, uint32_t itemsize, uint64_t digest, double timeout, uint64_t statistics=0):
        cdef Segment self = Segment.__new__(Segment)
        cdef bytes name_bytes = name.encode()
        cdef const char *name_text = name_bytes
        cdef dk_layout layout
        memset(&layout, 0, sizeof(layout))
        layout.length, layout.itemsize, layout.digest, layout.statistics = length, itemsize, digest, statistics
        with nogil:
            CHK(dk_center_attach(name_text, &layout, timeout, &self.handle))  # OUT handle
        return self

    def close(self):
        """Release this process' workers and let go of the segment, once calls in progress in other threads are through.

        Called by a signal's handler within such a call it does not wait: the call ends with a ValueError, and the segment goes then.
        Does nothing the second time. No `address` may be used afterwards.
        """
        with nogil:
            CHK(dk_center_close(self.handle))

    def claim(self, int64_t rank):
        """A `Slot` for one more worker of this process."""
        return Slot(self, rank)

    def release_workers(self):
        """Release this process' workers, once they are through with their exchanges; the segment stays open."""
        with nogil:
            CHK(dk_center_release_workers(self.handle))

    def __dealloc__(self):
        if self.handle != NULL:
            dk_center_free(self.handle)

    def layout(self):
        """length, itemsize, stripe_length, states, slots, digest, statistics and undo, as a dict."""
        cdef dk_layout layout
        CHK(dk_center_layout(self.handle, &layout))  # OUT layout
        return {"length": layout.length, "itemsize": layout.itemsize, "stripe_length": layout.stripe_length,
                "states": layout.states, "slots": layout.slots, "digest": layout.digest, "statistics": layout.statistics,
                "undo": UNDO_MODES[layout.undo],
                "stripes": dk_center_stripes(self.handle), "note": dk_center_note(self.handle).decode()}

    def snapshot(self, uint32_t vector, cnp.ndarray out, double timeout):
        cdef dk_center *handle = self.handle
        cdef void *data = cnp.PyArray_DATA(out)
        with nogil:
            CHK(dk_center_snapshot(handle, vector, data, timeout))  # OUT data

    def restore(self, uint32_t vector, cnp.ndarray data, double timeout):
        cdef dk_center *handle = self.handle
        cdef const void *source = cnp.PyArray_DATA(data)
        with nogil:
            CHK(dk_center_restore(handle, vector, source, timeout))  # IN source

    def address(self, uint32_t vector):
        """Where a vector begins in this process (0: the center, 1...: states), until close. Unlocked: to look, not to touch."""
        cdef void *begin = dk_center_vector(self.handle, vector)
        if begin == NULL:
            CHK(DK_INVALID)
        return <size_t>begin

    def versions(self):
        cdef cnp.ndarray out = np.empty(dk_center_stripes(self.handle), np.uint64)
        CHK(dk_center_versions(self.handle, <uint64_t *>cnp.PyArray_DATA(out)))  # OUT out
        return out

    def counts(self):
        cdef dk_counts counts
        CHK(dk_center_counts(self.handle, &counts))  # OUT counts
        return {"live": counts.live, "deaths": counts.deaths, "recovered": counts.recovered, "undone": counts.undone, "kept": counts.kept,
                "elements": counts.elements}

    def slot(self, uint32_t index):
        cdef dk_slot_view view
        CHK(dk_center_slot(self.handle, index, &view))  # OUT view
        seen = {"slot": index, "state": SLOT_STATES[view.state], "pid": view.pid, "rank": view.rank, "started": view.started,
                "heartbeat": view.heartbeat, "exchanges": view.exchanges, "steps": view.steps, "samples": view.samples,
                "epoch": view.epoch, "total_samples": view.total_samples, "loss": view.loss,
                "exchange_seconds": view.exchange_seconds, "staleness_sum": view.staleness_sum}
        seen["place"] = (view.place.epoch, view.place.step, view.place.steps, view.place.samples)
        seen["next"] = (view.next.epoch, view.next.step, view.next.steps, view.next.samples)
        seen["begun"], seen["stripes_in"], seen["in_part"] = view.begun, view.stripes_in, view.in_part
        seen["histogram"] = np.array(<uint64_t[:DK_HISTOGRAM]>view.histogram)
        return seen

    # ---------------------------------------------------------------- leases

    def open_leases(self, uint64_t batches):
        """Batches of an epoch; ValueError when others lease with another number."""
        CHK(dk_lease_open(self.handle, batches))

    def leases(self, uint64_t until=0, double timeout=0):
        """What became of batches so far; waits until some can be leased below ``until``, all of those are settled, or the time is up."""
        cdef dk_center *handle = self.handle
        cdef dk_leases leases
        with nogil:
            CHK(dk_lease_await(handle, until, timeout, &leases))  # OUT leases
        return leases

    def unsettled(self):
        """What is not settled below ``next``, at one moment: (first, count) of each range, shape (ranges, 2); and what `leases` says."""
        cdef uint64_t count = 0, room = 0
        cdef dk_leases leases
        cdef cnp.ndarray out = np.empty((0, 2), np.uint64)
        CHK(dk_lease_unsettled(self.handle, <dk_tickets *>cnp.PyArray_DATA(out), room, &count, &leases))  # OUT count, leases
        while count > room:  # others go on
            room = count + 8
            out = np.empty((room, 2), np.uint64)
            CHK(dk_lease_unsettled(self.handle, <dk_tickets *>cnp.PyArray_DATA(out), room, &count, &leases))  # OUT out
        return out[:count], leases

    def restore_leases(self, uint64_t batches, uint64_t next, cnp.ndarray waiting):
        """Go on at ``next``; waiting: ranges to be leased before, as of `unsettled`."""
        cdef cnp.ndarray ranges = np.ascontiguousarray(waiting, np.uint64)
        CHK(dk_lease_restore(self.handle, batches, next, <const dk_tickets *>cnp.PyArray_DATA(ranges), cnp.PyArray_SIZE(ranges) // 2))

    # ---------------------------------------------------------------- what leader and workers of a node tell each other

    def declare_broken(self, str reason):
        cdef bytes text = reason.encode()[:511]
        CHK(dk_center_break(self.handle, text))

    def check(self):
        """MergeError, with the reason that was given, once the center was declared broken."""
        CHK(dk_center_check(self.handle))

    def set_others(self, uint32_t workers, uint64_t slowest):
        CHK(dk_center_others(self.handle, workers, slowest))

    def declare_rule(self, str rule):
        cdef bytes text = rule.encode()[:127]
        CHK(dk_center_declare(self.handle, text))

    def pulse(self):
        """live and waiting workers, the exchanges of the slowest (2**64 - 1: there is none) and the declared rule."""
        cdef dk_pulse pulse
        CHK(dk_center_pulse(self.handle, &pulse))  # OUT pulse
        rule = (<bytes>pulse.rule).decode(errors="replace")
        return {"live": pulse.live, "waiting": pulse.waiting, "slowest": pulse.slowest, "rule": rule}

    def set_members(self, uint32_t gate, int32_t members):
        CHK(dk_gate_members(self.handle, gate, members, 1))

    def change_members(self, uint32_t gate, int32_t by):
        CHK(dk_gate_members(self.handle, gate, by, 0))

    def arrive(self, uint32_t gate):
        """Count as arrived; the ticket to wait with."""
        cdef uint32_t ticket
        CHK(dk_gate_arrive(self.handle, gate, &ticket))  # OUT ticket
        return ticket

    def wait(self, uint32_t gate, uint32_t ticket, double timeout):
        """Whether the gate was opened since the ticket; MergeError once the center is broken."""
        cdef dk_center *handle = self.handle
        cdef dk_status status
        with nogil:
            status = dk_gate_wait(handle, gate, ticket, timeout)
        if status != DK_TIMEOUT:
            CHK(status)
        return status == DK_OK

    def await_members(self, uint32_t gate, double timeout):
        """(members, arrived) when all have arrived, or after the timeout."""
        cdef dk_center *handle = self.handle
        cdef dk_gate_view view
        with nogil:
            CHK(dk_gate_await(handle, gate, timeout, &view))  # OUT view
        return view.members, view.arrived

    def open_gate(self, uint32_t gate, uint32_t arrived):
        CHK(dk_gate_open(self.handle, gate, arrived))

    def reach(self, uint32_t member, uint32_t phase):
        """A member has finished so often; 2**32 - 1: it left."""
        CHK(dk_member_reach(self.handle, member, phase))

    def await_phase(self, uint32_t first, uint32_t end, uint32_t phase, double timeout):
        """The phase that members ``first`` to ``end - 1`` have all reached, when it is ``phase`` or the time is up."""
        cdef dk_center *handle = self.handle
        cdef uint32_t slowest
        with nogil:
            CHK(dk_member_await(handle, first, end, phase, timeout, &slowest))  # OUT slowest
        return slowest
