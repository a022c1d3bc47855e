"""Deep Feature Surgery wherever the channels lie: series, volumes, tokens, maps with their channels last."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from offramp.counting import training_macs
from offramp.forks import partition, remove
from offramp.nets import MultiExitNet


class Moved(nn.Module):
    """Moves the last axis to place 1, or back."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.source, self.target = source, target

    def forward(self, x: Tensor) -> Tensor:
        return x.movedim(self.source, self.target)


class Mean(nn.Module):
    def __init__(self, *dims: int) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(self.dims)


def series():
    stages = [nn.Conv1d(3, 6, 3), nn.Sequential(nn.ReLU(), nn.Conv1d(6, 6, 3)), nn.Conv1d(6, 6, 3)]
    heads = [nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 4)) for _ in stages]
    return MultiExitNet(stages, heads, input_size=(3, 12)), 1


def volumes():
    stages = [nn.Conv3d(3, 6, 2), nn.Conv3d(6, 6, 2), nn.Conv3d(6, 6, 2)]
    heads = [nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(6, 4)) for _ in stages]
    return MultiExitNet(stages, heads, input_size=(3, 5, 5, 5)), 1


def tokens():
    stages = [nn.Linear(3, 6), nn.Sequential(nn.Linear(6, 6), nn.GELU()), nn.Linear(6, 6)]
    heads = [nn.Sequential(Mean(1), nn.Linear(6, 4)) for _ in stages]
    return MultiExitNet(stages, heads, input_size=(7, 3)), 2


def maps_channels_last():
    stages = [
        nn.Sequential(nn.Conv2d(3, 6, 3), Moved(1, -1), nn.LayerNorm(6)),
        nn.Linear(6, 6),
        nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6)),
    ]
    heads = [nn.Sequential(Mean(1, 2), nn.Linear(6, 4)) for _ in stages]
    return MultiExitNet(stages, heads, input_size=(3, 6, 6)), 3


def told_by_the_user():
    """Nothing that reads or writes the first feature says where its channels lie."""
    stages = [
        nn.Sequential(nn.Conv1d(3, 6, 3), nn.Unflatten(1, (6, 1)), nn.Flatten(1, 2)),
        nn.Sequential(nn.Softmax(2), nn.Conv1d(6, 6, 3)),
    ]
    heads = [
        nn.Sequential(nn.Softmax(2), nn.Flatten(), nn.Linear(60, 4)),
        nn.Sequential(Mean(2), nn.Linear(6, 4)),
    ]
    return MultiExitNet(stages, heads, input_size=(3, 12), channel_axis=1), 1


BUILDERS = [series, volumes, tokens, maps_channels_last, told_by_the_user]


def by_hand(net: MultiExitNet, x: Tensor, axis: int) -> list[Tensor]:
    """The outputs of a plain net whose features are detached by half on both ways."""
    outputs = []
    for k, (stage, head) in enumerate(zip(net.stages, net.heads, strict=True)):
        to_head = x = stage(x)
        if k < net.num_exits - 1:
            shape = [-1 if d == axis else 1 for d in range(x.dim())]
            shared = (torch.arange(6) < 3).reshape(shape)
            to_head, x = torch.where(shared, x.detach(), x), torch.where(shared, x, x.detach())
        outputs.append(head(to_head))
    return outputs


@pytest.mark.parametrize("impl", ["fused", "split", "cat"])
@pytest.mark.parametrize("build", BUILDERS)
def test_gradients_equal_detaching_by_hand(build, impl):
    torch.manual_seed(0)
    net, axis = build()
    net = net.double()
    x = torch.randn(3, *net.input_size, dtype=torch.float64)
    loss = torch.stack([z.square().sum() for z in by_hand(net, x, axis)]).sum()
    expected = torch.autograd.grad(loss, list(net.parameters()))
    loss = torch.stack([z.square().sum() for z in partition(net, impl=impl)(x)]).sum()
    for got, want in zip(torch.autograd.grad(loss, list(net.parameters())), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("build", [series, volumes, tokens])
def test_half_of_the_input_gradients_of_readers_is_saved(build):
    """Each reader of a fork, layer or head, computes 3 of 6 input gradients."""
    net, _ = build()
    joint = training_macs(net)
    x, saved = net.sample(1), 0
    for stage, head, following in zip(net.stages[:-1], net.heads[:-1], net.stages[1:], strict=True):
        x = stage(x)
        reader = next(m for m in following.modules() if getattr(m, "weight", None) is not None)
        out = reader(x)
        positions = out.numel() // 6
        saved += positions * reader.weight.numel() // 2 + head[-1].weight.numel() // 2
    assert joint - training_macs(partition(net)) == saved
    assert training_macs(remove(net)) == joint


def test_zero_referencing_on_tokens():
    net, _ = tokens()
    blind = copy.deepcopy(net)
    with torch.no_grad():
        for stage, head in zip(blind.stages[1:], blind.heads[:-1], strict=True):
            layer = stage[0] if isinstance(stage, nn.Sequential) else stage
            layer.weight[:, 3:] = 0
            head[-1].weight[:, :3] = 0
    x = net.sample(2)
    for ours, theirs in zip(partition(net, reference="zero")(x), blind(x), strict=True):
        torch.testing.assert_close(ours, theirs)
