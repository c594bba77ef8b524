# call.pxi: a prepared exchange, or pull.

cdef int64_t run_exchange(void *call, int64_t count, void **addresses, const uint64_t *lengths) noexcept nogil:
    return dk_exchange(<dk_call *>call, count, addresses, lengths)


cdef int64_t run_pull(void *call, int64_t count, void **addresses, const uint64_t *lengths) noexcept nogil:
    return dk_pull(<dk_call *>call, count, addresses, lengths)


@cython.final
cdef class Call:
    """A prepared exchange (or, without a kernel, a pull) of one worker. Not for two threads at once."""

    cdef dk_call call
    cdef Slot slot
    cdef cnp.ndarray previous, held
    cdef tuple kernels  # keeps the code of numba kernels alive
    cdef readonly tuple names
    cdef tuple accepted  # names of scalars; None: none were accepted yet
    cdef bint takes_previous
    cdef uint64_t length
    cdef int typenum

    def __init__(self, Slot slot, kernel, roles, names, *, typenum, double timeout, max_ahead=None, double patience=0,
                 uint64_t statistics=0, statistic=None, looking=None, statistic_looking=None, bint in_rounds=False,
                 cnp.ndarray held=None, uint32_t only_read=0, bint hands_in=False):
        """statistics: how many elements, the last ones, the kernel ``statistic`` is for; held: as many, see dk_statistic.

        looking: takes the kernel's place, and looks for NaN and infinity; statistic_looking: that of ``statistic``, where there is one.
        only_read: bits of the vectors that the kernel does not write. hands_in: it is counted among the hand-ins of a round.
        """
        memset(&self.call, 0, sizeof(self.call))
        self.slot, self.kernels, self.names = slot, (kernel, looking, statistic, statistic_looking), tuple(names)
        CHK(dk_worker_check(slot.handle, 0))
        self.call.worker = slot.handle
        self.call.kernel = <dk_kernel><size_t>(0 if kernel is None else kernel.address)
        self.call.looking = <dk_looking><size_t>(0 if looking is None else looking.address)
        self.call.vectors = len(roles)
        for index, role in enumerate(roles):
            if role < DK_CENTER:
                raise ValueError(errors.expected("a vector that an exchange has", f"the role {role}", "Use those of Role but OUTSIDE."))
            self.call.role[index] = role
        self.call.only_read, self.call.hands_in = only_read, hands_in
        self.takes_previous = DK_PREVIOUS in roles
        self.call.staleness_at = names.index("staleness") if "staleness" in names else -1
        self.call.workers_at = names.index("workers") if "workers" in names else -1
        self.call.timeout_s = timeout
        self.call.bounded, self.call.max_ahead, self.call.patience_s = max_ahead is not None, max_ahead or 0, patience
        self.call.statistic.length, self.call.statistic.in_rounds, self.held = statistics, in_rounds, held
        self.call.statistic.kernel = <dk_kernel><size_t>(0 if statistic is None else statistic.address)
        self.call.statistic.looking = <dk_looking><size_t>(0 if statistic_looking is None else statistic_looking.address)
        self.call.statistic.held = NULL if held is None else cnp.PyArray_DATA(held)
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
        CHK(dk_worker_check(self.slot.handle, 1))
        self.previous = None if array is None else self.check(array, "p")
        self.call.previous = NULL if array is None else cnp.PyArray_DATA(self.previous)

    def set(self, str name, double value):
        """Set one scalar by name, for all runs to come."""
        cdef int index = self.names.index(name)
        if index == self.call.staleness_at or index == self.call.workers_at:
            raise errors.RuleError(errors.expected("a scalar that is given", name, "The engine counts it at every exchange."))
        self.call.scalars[index] = value

    def set_previous(self, array):
        """As p = array; None keeps what was there."""
        if array is not None and array is not self.previous:
            self.p = array

    cpdef set_all(self, dict scalars):
        """Set those scalars that are given; the others keep their values."""
        cdef int index = 0
        cdef dk_status status = dk_worker_check(self.slot.handle, 1)
        if status != DK_OK:
            CHK(status)
        for name in self.names:
            if name in scalars:
                self.call.scalars[index] = scalars[name]
            index += 1

    def accept(self, scalars):
        """From now on `Exchanging.exchange` repeats this call when it is given scalars of just these names."""
        self.accepted = tuple(scalars)

    cdef bint accepts(self, dict scalars, p) except -1:
        if self.accepted is None or len(scalars) != len(self.accepted) or (p is not None) != self.takes_previous:
            return False
        for name in self.accepted:
            if name not in scalars:
                return False
        return True

    cpdef flat(self, w):
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
        cdef dk_status status
        with nogil:
            if self.call.kernel != NULL:
                status = dk_exchange(&self.call, count, addresses, lengths)
            else:
                status = dk_pull(&self.call, count, addresses, lengths)
        if status != DK_OK:
            self.check_status(status)
        return 0

    def check_status(self, dk_status returned=DK_OK):
        """Raise the error of the last run, wherever it ran. returned: what `function` did."""
        if returned == DK_BUSY:  # the other thread's run is not over
            advice = "Give each its own center.worker()."
            raise RuntimeError(errors.expected("one thread at a time", "another within an exchange", advice))
        if returned == DK_INTERRUPTED:
            reraise()
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
        CHK(dk_worker_check(self.slot.handle, 0))
        return <size_t>&self.call

    @property
    def settles(self):
        """Leased batches that each run from now on commits: the first ones of this worker that are not settled."""
        return self.call.settles

    @settles.setter
    def settles(self, uint64_t batches):
        self.call.settles = batches

    @property
    def staleness(self):
        """Mean staleness over the stripes of the last run, in commits."""
        return self.call.staleness

    @property
    def seconds(self):
        """Duration of the last run."""
        return self.call.seconds


@cython.auto_pickle(False)
cdef class Exchanging:
    """What a center inherits: exchanges by calls that were prepared before, without Python between. calls: by rule, and by its name."""

    cdef public dict calls

    def exchange(self, rule, w, p=None, **scalars):
        """Exchange flat arrays with the center, in place, as this process' own worker; returns the mean staleness.

        rule: or the name of a built-in one. w, p: contiguous arrays of the center's size and dtype; p only for rules that name
        it. scalars: the rule's, but ``staleness`` and ``workers``, which the engine fills in. Prepare a `Worker.call` to save the checks.
        """
        cdef Call call = self.calls.get(rule)
        if call is None or not call.accepts(scalars, p):
            return self.exchange_checked(rule, w, p, scalars)
        call.set_all(scalars)
        if p is not None and p is not call.previous:
            call.p = p
        call.flat(w)
        return call.call.staleness
