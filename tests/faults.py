"""What goes wrong in a rank: statements for scripts, indented as the body of an ``if``."""

NAN = """import numpy as np
    with dk.Center.create(np.zeros(9, "f")) as center:
        center.worker(0).call("single", check_finite=True).flat(np.full(9, np.nan, "f"))"""
DATA = """import numpy as np
    from dkcore.data.shard import Shard
    Shard({"x_train": np.zeros((1, 2))}, 0, 2)"""
