"""Modules are copied whatever their forward pass has left in them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import offramp
from offramp.copying import deep_copy
from offramp.exits import Policy, Router
from offramp.nets import MultiExitNet, Separate


class Caching(nn.Module):
    """Keeps a product of a parameter from its last forward pass, as LeViT keeps attention biases."""

    def __init__(self, branching: bool) -> None:
        super().__init__()
        self.low, self.high, self.fc = nn.Linear(6, 4), Scaled(), nn.Linear(4, 10)
        self.branching = branching

    def forward(self, x: Tensor) -> Tensor:
        if self.branching and len(x) < 1:
            raise ValueError
        return self.fc(self.high(self.low(x)))


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(4))
        self.cache: dict[str, list[Tensor]] = {}

    def forward(self, x: Tensor) -> Tensor:
        self.cache["scale"] = [self.scale.exp()]
        return x * self.cache["scale"][0]


@pytest.mark.parametrize("branching", [False, True], ids=["graph", "replay"])
def test_a_net_is_copied_after_it_ran(branching):
    torch.manual_seed(0)
    backbone, x = Caching(branching), torch.randn(3, 6)
    backbone(x)
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(backbone)
    net = offramp.attach(backbone, ["low"], input_size=(6,))
    net(x)
    for copied in (copy.deepcopy(net), deep_copy(net), deep_copy([net])[0]):
        assert all(map(torch.equal, copied(x), net(x)))
        assert type(copied) is type(net) and copied.exits_after == net.exits_after
        assert not {id(t) for t in copied.state_dict(keep_vars=True).values()} & {
            id(t) for t in net.state_dict(keep_vars=True).values()
        }
        sum(z.sum() for z in copied(x)).backward()  # the copy's cache has no history of the net's
        assert all(p.grad is None for p in net.parameters())
    assert torch.equal(Separate(net)(x)[-1], net(x)[-1])


def test_the_old_weight_norm_is_copied():
    with pytest.warns(FutureWarning, match="deprecated"):
        module = nn.Sequential(torch.nn.utils.weight_norm(nn.Linear(3, 3)))
    x = torch.randn(2, 3)
    assert torch.equal(deep_copy(module)(x), module(x))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("copied", [deep_copy, copy.deepcopy])
def test_scripted_parts_are_copied_with_parameters_that_can_be_trained(copied):
    scripted = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    dict(scripted.named_parameters())["0.bias"].requires_grad_(False)
    heads = [nn.Sequential(nn.Flatten(), nn.Linear(4 * 36, 3)) for _ in range(2)]
    net = MultiExitNet([scripted, nn.Identity()], heads, input_size=(3, 8, 8))
    found, x = copied(net), torch.randn(2, 3, 8, 8)
    for ours, theirs in zip(found.parameters(), net.parameters(), strict=True):
        assert ours.is_leaf and ours is not theirs and ours.requires_grad == theirs.requires_grad
    assert all(map(torch.equal, found(x), net(x)))
    sum(z.sum() for z in found(x)).backward()
    first, theirs = (dict(each.named_parameters())["stages.0.0.weight"] for each in (found, net))
    assert first.grad is not None and theirs.grad is None
    assert len(Router(net, Policy([0.5]))(x).exit) == 2
