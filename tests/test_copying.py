"""Modules are copied whatever their forward pass has left in them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import offramp
from offramp.copying import deep_copy
from offramp.nets import Separate


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
