"""Looking at a network leaves no trace."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from offramp.unchanged import unchanged


class Counting(nn.Module):
    """Remembers in every way that a module of a user's own may."""

    def __init__(self):
        super().__init__()
        self.calls, self.log, self.seen = 0, [], {"sizes": [], "last": None}
        self.register_buffer("total", torch.zeros(3))
        self.linear = weight_norm(nn.Linear(3, 3))
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x):
        self.calls += 1
        self.log.append(x.shape)
        self.seen["last"] = x
        self.total += x.sum(0)
        self.cache = x
        if not hasattr(self, "late"):
            self.register_buffer("late", torch.ones(1))
        return self.norm(self.linear(x)) + torch.randn(3) + random.random() + np.random.rand()


def state(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def test_everything_is_as_it_was():
    net, hooked = Counting().eval(), []
    net.linear.register_forward_hook(lambda *_: hooked.append(1))
    net.norm.train()
    before, modes = state(net), [m.training for m in net.modules()]
    draws = (torch.get_rng_state().clone(), random.getstate(), np.random.get_state()[1].copy())
    with unchanged(net):
        net.train()
        net(torch.randn(4, 3))
        assert net.calls == 1 and not torch.equal(net.total, before["total"])
    assert [m.training for m in net.modules()] == modes
    after = state(net)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert (net.calls, net.log, net.seen) == (0, [], {"sizes": [], "last": None})
    assert not hasattr(net, "cache") and hooked == []
    assert torch.equal(torch.get_rng_state(), draws[0]) and random.getstate() == draws[1]
    assert (np.random.get_state()[1] == draws[2]).all()
    net(torch.randn(4, 3))
    assert hooked == [1]  # the hook is back


def test_an_error_inside_restores_all_the_same():
    net = Counting()
    with pytest.raises(RuntimeError), unchanged(net):
        net(torch.randn(4, 7))
    assert (net.calls, net.log) == (0, [])


def test_hooks_of_torch_go_on_working():
    net = nn.utils.spectral_norm(nn.Linear(3, 3))  # its weight is made by a forward pre-hook
    u = net.weight_u.clone()
    with unchanged(net):
        (grad,) = torch.autograd.grad(net(torch.ones(1, 3)).sum(), net.weight_orig)
    assert grad.abs().sum() > 0 and torch.equal(net.weight_u, u)
