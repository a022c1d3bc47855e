"""A process of several that train one net by hand; it saves weights and gradients of each method."""

import sys
from pathlib import Path
from typing import ClassVar

import torch
import torch.distributed as dist
from binding_cases import batches, tiny_net
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from offramp.data import Batch
from offramp.methods import method
from offramp.nets import Net
from offramp.tasks import Classification
from offramp.tasks.classification import NO_LABEL

LACKING = ["joint", "uncertainty", "cagrad", "pcgrad", "graddrop"]
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


class TwoTasks(Net):
    """A trunk with two classifications, whose classes count differently in the first."""

    outputs: ClassVar = {
        "kind": Classification(target="kind", class_weights=[1.0, 2.0, 0.5]),
        "shape": Classification(target="shape"),
    }
    input_size = (5,)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(6, 3) for _ in range(2))
        self.double()

    def forward(self, x):
        feature = self.trunk(x)
        return [head(feature) for head in self.heads]


SIZES = (5, 3)  # samples of each process
# what each process has targets for, step by step
PRESENT = [
    (("kind",), ("kind", "shape")),
    ((), ("shape",)),
    ((), ()),
    (("shape",), ("kind",)),
    (("kind", "shape"), ()),
    (("kind", "shape"), ("kind", "shape")),
]


def own_batch(step: int, rank: int) -> Batch:
    """The batch that a process draws, some of its samples without a label."""
    draws = torch.Generator().manual_seed(10 * step + rank)
    inputs = torch.randn(SIZES[rank], 5, generator=draws, dtype=torch.float64)
    targets = {name: torch.randint(3, (SIZES[rank],), generator=draws) for name in ("kind", "shape")}
    targets["kind"][1] = NO_LABEL
    return Batch(inputs, {name: targets[name] for name in PRESENT[step][rank]})


def joined_batch(step: int) -> Batch:
    """The batches of all processes as one."""
    parts = [own_batch(step, rank) for rank in range(len(SIZES))]
    names = dict.fromkeys(name for part in parts for name in part.targets)
    blank = [torch.full((size,), NO_LABEL) for size in SIZES]
    return Batch(
        torch.cat([part.inputs for part in parts]),
        {
            name: torch.cat([part.targets.get(name, blank[rank]) for rank, part in enumerate(parts)])
            for name in names
        },
    )


def gradients(name: str, batches, *, cut: bool) -> list[list[Tensor | None]]:
    """Gradients of each step; a batch that is cut goes backward in two uneven parts."""
    net = TwoTasks()
    bound = method(name).bind(net).double()
    parameters = [*net.parameters(), *bound.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9)
    found = []
    for batch in batches:
        optimizer.zero_grad()
        if cut:
            for part, more in zip(batch.split(2), (True, False), strict=True):
                bound.backward(part, whole=batch, more=more)
        else:
            bound.backward(batch)
        found.append([p.grad if p.grad is None else p.grad.clone() for p in parameters])
        optimizer.step()
    return found


if __name__ == "__main__":
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    for name in NAMES:
        for wrapped in (False, True):
            weights = trained(name, wrapped=wrapped, rank=rank, world=world)
            torch.save(weights, Path(sys.argv[1]) / f"{name}-{wrapped}-{rank}.pt")
    for name in LACKING:
        for cut in (False, True):
            mine = [own_batch(step, rank) for step in range(len(PRESENT))]
            torch.save(gradients(name, mine, cut=cut), Path(sys.argv[1]) / f"{name}-cut-{cut}-{rank}.pt")
    dist.barrier()  # a process that leaves while another still works may end it
    dist.destroy_process_group()
