# status.pxi: what C returns as an exception of dkcore/errors.py.

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
    DK_NAMESPACE: errors.NamespaceError,
    DK_BUSY: RuntimeError,
}


cdef int CHK(dk_status status) except -1 with gil:
    if status == DK_INTERRUPTED:
        reraise()
    if status == DK_SYSTEM:
        raise errors.of_system(dk_errno(), dk_error().decode())
    if status != DK_OK:
        raise CLASSES[status](dk_error().decode())
    return 0
