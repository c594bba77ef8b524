# listener.pxi: waits in the engine hear signals: Python runs their handlers between two slices of a wait.

cdef extern from "<pthread.h>" nogil:
    unsigned long pthread_self()

cdef unsigned long main_thread
cdef object pending = None  # what a signal's handler raised within a wait


cdef int hear() noexcept nogil:
    """The listener: has Python run the handlers of signals that came; only its main thread does that."""
    return hear_signals() if pthread_self() == main_thread else 0


cdef int hear_signals() noexcept with gil:
    global pending
    try:
        PyErr_CheckSignals()
    except BaseException as error:  # raised from the call, once it is through
        pending = error
        return 1
    return 0


cdef int reraise() except -1:
    global pending
    error, pending = pending, None
    raise error


def listen():
    """Let waits hear signals; once more in a forked child, whose main thread may be another."""
    global main_thread
    main_thread = threading.main_thread().ident
    dk_listen(hear)


listen()
os.register_at_fork(after_in_child=listen)
