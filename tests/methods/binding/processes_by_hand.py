"""A process of several that train one net by hand; it saves weights and gradients of each method."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from binding_cases import batches, tiny_net
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from offramp.data import Batch
from offramp.methods import method
from offramp.nets import Net
from offramp.tasks import Classification, Task
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


def joined_batch(parts: Sequence[Batch]) -> Batch:
    """The batches of all processes as one."""
    names = dict.fromkeys(name for part in parts for name in part.targets)
    blank = [torch.full((len(part),), NO_LABEL) for part in parts]
    return Batch(
        torch.cat([part.inputs for part in parts]),
        {
            name: torch.cat([part.targets.get(name, blank[rank]) for rank, part in enumerate(parts)])
            for name in names
        },
    )


class Depth(Task):
    """Absolute error, where the target, brought to the output's resolution, is above 0."""

    target, primary, better = "depth", "error", "lower"

    def loss(self, output, target):
        target = F.interpolate(target[:, None], output.shape[-2:], mode="nearest")
        valid = target > 0
        errors, counts = ((output - target).abs() * valid).flatten(1).sum(1), valid.flatten(1).sum(1)
        return errors / counts.clamp(min=1), counts

    def counts(self, output, target):
        return torch.zeros(1)

    def metrics(self, counts):
        return {"error": 0.0}


class TwoResolutions(Net):
    """Two outputs of one task, 2 x 2 and 8 x 8."""

    outputs: ClassVar = {"coarse": Depth(), "fine": Depth()}
    input_size = (1, 8, 8)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Conv2d(1, 2, 3, padding=1)
        self.coarse, self.fine = nn.Conv2d(2, 1, 4, stride=4), nn.Conv2d(2, 1, 1)
        self.double()

    def forward(self, x):
        feature = self.trunk(x).tanh()
        return [self.coarse(feature), self.fine(feature)]


def dense_batch(step: int, rank: int) -> Batch:
    """The batch that a process draws; samples have other numbers of valid pixels."""
    draws = torch.Generator().manual_seed(10 * step + rank)
    images, depth = torch.rand(2, SIZES[rank], 8, 8, generator=draws, dtype=torch.float64)
    depth[0, 1:] = depth[1, :, :5] = 0
    return Batch(images[:, None], {"depth": depth})


# with a weight of the features that shows
DISTILLING = {"kd": {}, "kd-msdnet": {}, "byot": {"lam": 0.3}, "byot-iccv": {"lam": 0.3}}
CASES = [((4, 4), False), ((5, 3), False), ((5, 3), True)]  # samples of each process, whether they are cut
LABELLED = [(True, True), (True, False), (False, True), (False, False), (True, True)]


def labelled_batch(step: int, rank: int, sizes: Sequence[int]) -> Batch:
    """The batch that a process draws for :func:`tiny_net`; at some steps it has no labels."""
    draws = torch.Generator().manual_seed(10 * step + rank)
    images = torch.randn(sizes[rank], 3, 8, 8, generator=draws, dtype=torch.float64)
    labels = torch.randint(3, (sizes[rank],), generator=draws)
    labels[0] = NO_LABEL
    return Batch(images, {"label": labels} if LABELLED[step][rank] else {})


def gradients(name: str, net: Net, batches, *, cut: bool = False, **options) -> list[list[Tensor | None]]:
    """Gradients of each step; a batch that is cut goes backward in two uneven parts."""
    bound = method(name, **options).bind(net).double()
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
            found = gradients(name, TwoTasks(), mine, cut=cut)
            torch.save(found, Path(sys.argv[1]) / f"{name}-cut-{cut}-{rank}.pt")
    for cut in (False, True):
        mine = [dense_batch(step, rank) for step in range(3)]
        found = gradients("joint", TwoResolutions(), mine, cut=cut)
        torch.save(found, Path(sys.argv[1]) / f"dense-cut-{cut}-{rank}.pt")
    for name, options in DISTILLING.items():
        for sizes, cut in CASES:
            mine = [labelled_batch(step, rank, sizes) for step in range(len(LABELLED))]
            found = gradients(name, tiny_net().eval(), mine, cut=cut and name != "byot", **options)
            torch.save(found, Path(sys.argv[1]) / f"{name}-{sizes[0]}-{cut}-{rank}.pt")
    dist.barrier()  # a process that leaves while another still works may end it
    dist.destroy_process_group()
