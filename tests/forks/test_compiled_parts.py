"""A head, a stage or a part of one that is compiled by itself has the gradients of detached halves."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from offramp.forks import partition
from offramp.nets import MultiExitNet

# Dynamo instantiates every autograd.Function that it traces and looks for .grad of every input; torch warns.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning"),
]


class Block(nn.Module):
    """Reads its input by two layers, one of them behind a function of the input."""

    def __init__(self, between) -> None:
        super().__init__()
        self.conv, self.other = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.body = Body(self.other)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.body(self.between(x))


class Body(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + x.mean((2, 3), keepdim=True)


class Scaled(nn.Module):
    """Writes in place to what a function has made of the feature."""

    def __init__(self, make) -> None:
        super().__init__()
        self.conv, self.linear, self.make = nn.Conv2d(4, 4, 1), nn.Linear(4, 4), make

    def forward(self, x: Tensor) -> Tensor:
        y = self.make(x)
        y.mul_(self.conv(x).mean())
        return self.conv(x) + self.linear(y.reshape(len(x), 4, -1).mean(2))[:, :, None, None]


class Broken(nn.Module):
    """A compiler cannot follow it to its end."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(x)
        torch._dynamo.graph_break()
        return self.conv(y) + self.conv(x)


def build(block: nn.Module) -> MultiExitNet:
    torch.manual_seed(0)
    stages = [nn.Conv2d(3, 4, 3), block, nn.Conv2d(4, 4, 3)]
    heads = [nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)) for _ in stages]
    return MultiExitNet(stages, heads, input_size=(3, 8, 8)).double()


def gradients(net: MultiExitNet) -> list[Tensor]:
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    loss = torch.stack([z.square().sum() for z in net(x)]).sum()
    return list(torch.autograd.grad(loss, list(net.parameters())))


def whole(net: MultiExitNet, **options) -> MultiExitNet:
    net.compile(**options)
    return net


def head(net: MultiExitNet, **options) -> MultiExitNet:
    net.heads[0] = torch.compile(net.heads[0], **options)
    return net


def stage(net: MultiExitNet, **options) -> MultiExitNet:
    net.stages[1] = torch.compile(net.stages[1], **options)
    return net


def in_place(net: MultiExitNet, **options) -> MultiExitNet:
    for part in (*net.stages, *net.heads):
        part.compile(**options)
    return net


def inner(net: MultiExitNet, **options) -> MultiExitNet:
    net.stages[1].body.compile(**options)
    net.heads[0][1].compile(**options)
    return net


def check(net: MultiExitNet, compile, impl: str = "fused", **options) -> None:
    """Two steps, since a compiler treats the first one in its own way."""
    torch._dynamo.reset()
    wanted = gradients(partition(copy.deepcopy(net), impl="cat"))
    compiled = compile(partition(net, impl=impl), **options)
    for _ in range(2):
        for ours, theirs in zip(gradients(compiled), wanted, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("impl", ["fused", "split"])
@pytest.mark.parametrize("part", [head, stage])
def test_parts_compiled_by_themselves(part, impl, backend):
    check(build(Block(F.relu)), part, impl, backend=backend, fullgraph=True)


def test_parts_compiled_in_place():
    check(build(Block(F.relu)), in_place, backend="aot_eager")


BETWEEN = {
    "relu": F.relu,
    "pooling": lambda x: F.avg_pool2d(x, 1),
    "view": lambda x: x[:, :],
    "cat": lambda x: torch.cat([x[:, :2], F.relu(x)[:, 2:]], 1),
    "sum": lambda x: x + F.relu(x),
}


@pytest.mark.parametrize("between", BETWEEN.values(), ids=BETWEEN)
def test_a_module_inside_a_stage_compiled_by_itself(between):
    check(build(Block(between)), inner, backend="aot_eager", fullgraph=True)


MADE = {
    "mean": lambda x: x.mean((2, 3), keepdim=True),
    "flattened": lambda x: F.avg_pool2d(x, 1).flatten(1),
    "joined": lambda x: torch.cat([x[:, :2], x[:, 2:]], 1),
    "pooled": lambda x: F.avg_pool2d(x, 1),
}


@pytest.mark.parametrize("part", [whole, stage])
@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_what_is_made_of_a_feature_is_written_to_in_a_compiled_program(make, part):
    check(build(Scaled(make)), part, backend="aot_eager", fullgraph=True)


@pytest.mark.parametrize("part", [whole, stage])
def test_a_program_that_breaks_between_fork_and_reader(part):
    check(build(Broken()), part, backend="aot_eager")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("part", [whole, head, stage, inner])
def test_compiled_by_inductor(part):
    check(build(Block(F.relu)), part, backend="inductor", fullgraph=True)
