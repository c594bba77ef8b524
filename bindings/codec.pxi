# codec.pxi: what crosses the wire between nodes.

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
