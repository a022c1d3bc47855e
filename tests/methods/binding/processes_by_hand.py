"""A process of several that train one net by hand; it saves the weights of each method."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from binding_cases import batches, tiny_net
from torch.nn.parallel import DistributedDataParallel

from offramp.data import Batch
from offramp.methods import method

NAMES = ["joint", "dfs", "kd", "uncertainty", "byot", "cagrad", "pcgrad", "bdl-1"]


def trained(name: str, *, wrapped: bool, rank: int = 0, world: int = 1):
    net = tiny_net().eval()  # batch norm would see another batch
    bound = method(name).bind(DistributedDataParallel(net) if wrapped else net).double()
    optimizer = torch.optim.SGD([*net.parameters(), *bound.parameters()], lr=0.05)
    for images, labels in batches():
        batch = Batch(images, {"label": labels}).share(rank, world)
        optimizer.zero_grad()
        if name == "byot":  # which needs whole batches
            bound.backward(batch)
        else:
            for k, part in enumerate(batch.split(3), 1):
                bound.backward(part, share=1 / 3, more=k < 3)
        optimizer.step()
    return [p.detach() for p in (*net.parameters(), *bound.parameters())]


if __name__ == "__main__":
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    for name in NAMES:
        for wrapped in (False, True):
            weights = trained(name, wrapped=wrapped, rank=rank, world=world)
            torch.save(weights, Path(sys.argv[1]) / f"{name}-{wrapped}-{rank}.pt")
    dist.barrier()  # a process that leaves while another still works may end it
    dist.destroy_process_group()
