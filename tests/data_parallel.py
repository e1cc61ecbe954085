"""One process of a data-parallel training over the loopback device: FOLDER [unsynchronised]."""

import sys

import torch
import torch.distributed
from torch import nn
from torch.nn import functional as F  # noqa: N812  (the name that everybody uses)
from torch.nn.parallel import DistributedDataParallel

from training_data import digits
from unstuck.sources.ranks import RankRecorder, rank_and_size, rank_folder
from unstuck.sources.torch.record import record


def main(folder: str, fault: str) -> None:
    rank, size = rank_and_size()
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=size)
    torch.manual_seed(rank if fault == "unsynchronised" else 0)
    model: nn.Module = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    if fault != "unsynchronised":
        model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    inputs, labels = digits()
    inputs, labels = inputs[rank::size], labels[rank::size]
    with RankRecorder(record(model, optimizer, folder=rank_folder(folder, rank)), folder) as run:
        for step in range(60):
            batch = torch.arange(step * 64, (step + 1) * 64) % len(inputs)
            optimizer.zero_grad()
            F.cross_entropy(model(inputs[batch]), labels[batch]).backward()
            optimizer.step()
    if rank == 0:
        sys.stdout.write(f"{run.diagnose().status}\n" + "\n".join(run.warnings) + "\n")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
