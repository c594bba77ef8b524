# kernel.pxi: the kernels that were printed from the rules and built in.

def instruction_sets():
    """Names of the instruction sets that were built in and run on this processor, widest first."""
    found, index = [], 0
    while dk_isa_at(index) != NULL:
        if dk_isa_runs(dk_isa_at(index)):
            found.append(dk_isa_at(index).decode())
        index += 1
    return found


def find_kernel(str rule, str dtype, str isa=None, bint looking=False):
    """Address of the built-in kernel, or 0. isa None: the widest that runs here. looking: of that which looks at the worker."""
    cdef bytes encoded = b"" if isa is None else isa.encode()
    cdef const char *wanted = NULL
    if isa is not None:
        wanted = encoded
    if looking:
        return <size_t>dk_looking_find(rule.encode(), dtype.encode(), wanted)
    return <size_t>dk_kernel_find(rule.encode(), dtype.encode(), wanted)
