# pass.pxi: a formula over stripes, for the merge of nodes.

@cython.final
cdef class Pass:
    """A formula prepared to run over stripes of a center, each under its lock. Not for two threads at once.

    roles: for each vector 0 (the center), 3 + k (its k-th state) or -1 (an array that `run` is given). only_read: bits of those that the
    kernel does not write. begin, until: it leaves the elements before and from there on alone.
    """

    cdef dk_pass native
    cdef Segment segment
    cdef object kernel  # keeps the code of a numba kernel alive
    cdef tuple names
    cdef uint64_t stripe_length
    cdef uint32_t itemsize

    def __init__(self, Segment segment, kernel, roles, names, double timeout, uint64_t begin, uint64_t until, uint32_t only_read=0):
        memset(&self.native, 0, sizeof(self.native))
        layout = segment.layout()
        self.segment, self.kernel, self.names = segment, kernel, tuple(names)
        self.stripe_length, self.itemsize = layout["stripe_length"], layout["itemsize"]
        self.native.begin, self.native.until, self.native.only_read = begin, until, only_read
        self.native.kernel = <dk_kernel><size_t>kernel.address
        self.native.vectors, self.native.timeout_s = len(roles), timeout
        for index, role in enumerate(roles):
            self.native.role[index] = role

    def set(self, str name, double value):
        self.native.scalars[self.names.index(name)] = value

    def run(self, uint64_t first, uint64_t end, arrays, cnp.ndarray versions=None, cnp.ndarray raised=None,
            cnp.ndarray arrivals=None, cnp.ndarray taken=None):
        """Over stripes ``first`` to ``end - 1``. arrays: of those vectors that are outside, beginning with the first element of it.

        versions: uint64, receives the commits of the stripes, before they are raised. raised: uint64, is added to them.
        arrivals: uint64, receives the hand-ins that are in the stripes; taken: uint64, how many of them the pass takes out.
        """
        cdef dk_center *center = self.segment.handle
        cdef uint64_t needed = min(end * self.stripe_length, self.native.until) - max(first * self.stripe_length, self.native.begin)
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
        for given in (versions, raised, arrivals, taken):
            if given is not None and (given.dtype != np.uint64 or given.size < end - first or not given.flags.c_contiguous):
                raise ValueError(errors.expected(f"{end - first} contiguous uint64", f"{given.size} {given.dtype}", "One a stripe."))
        self.native.first, self.native.end = first, end
        self.native.versions = NULL if versions is None else <uint64_t *>cnp.PyArray_DATA(versions)
        self.native.raise_ = NULL if raised is None else <uint64_t *>cnp.PyArray_DATA(raised)
        self.native.arrivals = NULL if arrivals is None else <uint64_t *>cnp.PyArray_DATA(arrivals)
        self.native.taken = NULL if taken is None else <uint64_t *>cnp.PyArray_DATA(taken)
        with nogil:
            CHK(dk_center_pass(center, &self.native))
