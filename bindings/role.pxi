# role.pxi: what a vector of a formula is to the engine.

class Role(enum.IntEnum):
    """What a vector of a formula is: the center, the worker, the previous, a state (STATE + k: the k-th) or memory of the caller."""

    OUTSIDE = DK_OUTSIDE
    CENTER = DK_CENTER
    WORKER = DK_WORKER
    PREVIOUS = DK_PREVIOUS
    STATE = DK_STATE
