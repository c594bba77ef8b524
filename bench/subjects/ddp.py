"""The demo's perceptron under torch DDP, for torchrun: data from a job's directory, a checkpoint each epoch, from which it goes on.

torchrun ... ddp.py DIRECTORY EPOCHS BATCH: each rank leaves a file ``training-RANK`` with its pid once it trains.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


def store_of_this_start() -> distributed.Store:
    """Where ranks find each other's addresses.

    torchrun has one store for all of its restarts (torch 2.13). Under the same names a rank finds the addresses of the ranks before it,
    which are dead, and no connection comes about: the job would not go on after a death.
    """
    store = distributed.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    return distributed.PrefixStore(f"start-{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)


def main() -> None:
    home, epochs, batch = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    distributed.init_process_group("gloo", store=store_of_this_start(), rank=rank, world_size=size)
    x, y = (torch.from_numpy(np.load(home / f"{name}.npy")[rank::size]) for name in ("x", "y"))
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(784, 500), nn.ReLU(), nn.Linear(500, 500), nn.ReLU(), nn.Linear(500, 10)]
    model = DistributedDataParallel(nn.Sequential(*layers))
    optimizer, loss_of = torch.optim.Adam(model.parameters()), nn.CrossEntropyLoss()
    saved, first = home / "ddp.pt", 0
    if saved.exists():
        state = torch.load(saved)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["epoch"]
    word = home / f"training-{rank}"
    for epoch in range(first, epochs):
        order = torch.from_numpy(np.random.default_rng([epoch, rank]).permutation(len(x)))
        for rows in order.split(batch):
            optimizer.zero_grad()
            loss = loss_of(model(x[rows].float() / 255), y[rows].long())
            loss.backward()
            optimizer.step()
            if not word.exists() or word.read_text() != str(os.getpid()):
                word.write_text(str(os.getpid()))
        if rank == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch + 1}
            torch.save(state, home / "ddp.draft")
            (home / "ddp.draft").replace(saved)
        distributed.barrier()
    if rank == 0:
        (home / "loss").write_text(str(float(loss)))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
