"""A tiny net in float64, its batches, and a loop at work on them."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from offramp import Recipe
from offramp.data import Batch
from offramp.distributed.launch import launch
from offramp.methods import method
from offramp.methods.bound import BoundMethod
from offramp.methods.loops import LoopContext, Progress
from offramp.nets import MultiExitNet
from offramp.training._optimizer import build_optimizer
from offramp.training._placement import model_of

RECIPE = Recipe(lr=0.05, batch_size=6, momentum=0.9, nesterov=False, weight_decay=1e-4, epochs=2)
CLASSES = 3


class Scale(nn.Module):
    """A factor that is learned; its parameter has no axes."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x


def tiny_net(seed: int = 0, exits: int = 3) -> MultiExitNet:
    """Convolutions with and without bias, one of them 1x1, batch norm, a factor; float64."""
    torch.manual_seed(seed)
    stages = [
        nn.Sequential(
            nn.Conv2d(4 if k else 3, 5, 3, padding=1, bias=k == 0),
            nn.BatchNorm2d(5),
            nn.ReLU(),
            nn.Conv2d(5, 4, 1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            Scale(),
        )
        for k in range(exits)
    ]
    heads = [
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES)) for _ in range(exits)
    ]
    return MultiExitNet(stages, heads, input_size=(3, 6, 6)).double()


def batches(epoch: int, draw: int, count: int, size: int = 6):
    """Noise and labels, a pure function of epoch and draw."""
    random = torch.Generator().manual_seed(1000 * epoch + draw)
    for _ in range(count):
        images = torch.randn(size, 3, 6, 6, generator=random, dtype=torch.float64)
        yield Batch(images, {"label": torch.randint(CLASSES, (size,), generator=random)})


def bench(net, name: str = "dr-mgf", recipe: Recipe = RECIPE, **options):
    """The named method's loop at work on the net."""
    row = method(name, options)
    fabric, net = launch("fp32", "cpu"), row.prepare(net)
    return row.loop.bind(
        LoopContext(
            model=model_of(net, recipe, fabric, plain_backward=False),
            net=net,
            bound=BoundMethod(row, net, recipe.seed).double(),
            fabric=fabric,
            optimizer=lambda groups: fabric.setup_optimizers(build_optimizer(groups, recipe)),
            batches=lambda number, count: batches(99, number, count),
            outer=lambda number: (next(batches(77, k, 1)) for k in itertools.count(number)),
            tasks=[*net.outputs.values()],
            epochs=recipe.epochs,
            seed=recipe.seed,
            clip=recipe.clip,
        )
    )


def run_epoch(work, epoch: int, count: int, epochs: int = RECIPE.epochs, lr: float = RECIPE.lr):
    """One epoch: every part with `count` batches, or its share of them."""
    work.context.net.train()
    for part, one in enumerate(work.phases):
        progress = Progress(epoch, epoch / epochs, lr)
        work.begin(part, progress)
        for batch in batches(epoch, one.draw, max(1, round(one.share * count))):
            work.step(part, batch, progress)
        work.end(part, progress)
