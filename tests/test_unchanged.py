"""Looking at a network leaves no trace."""

import random

import numpy as np
import pytest
import torch
from tiny_runs import tiny_data, tiny_net
from torch import nn
from torch.nn.modules import module as of_all_modules
from torch.nn.utils.parametrizations import weight_norm

import offramp
from offramp.forks import partition
from offramp.modes import buffers_kept
from offramp.unchanged import restored_on_error, unchanged


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


RUNNING = ("forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook")
BUILDING = ("module_registration_hook", "parameter_registration_hook", "buffer_registration_hook")


@pytest.fixture
def fired():
    """Which hooks on all modules have run, in order."""
    names, handles = [], []
    for kind in (*RUNNING, *BUILDING):
        register = getattr(of_all_modules, f"register_module_{kind}")
        handles.append(register(lambda *_, kind=kind: names.append(kind)))
    yield names
    for handle in handles:
        handle.remove()


def test_hooks_on_all_modules_do_not_run_and_are_back_even_after_an_error(fired):
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    fired.clear()
    with pytest.raises(RuntimeError), unchanged(net):
        net(torch.randn(4, 3)).sum().backward()
        nn.Linear(2, 2)
        assert fired == []
        net(torch.randn(4, 7))
    assert fired == []
    net(torch.randn(4, 3).requires_grad_()).sum().backward()
    assert {*fired} == {*RUNNING}
    nn.BatchNorm1d(3), nn.ModuleList([net])
    assert {*fired} == {*RUNNING, *BUILDING}


def test_a_hook_registered_meanwhile_runs_meanwhile_alone():
    seen = []
    with unchanged(net := nn.Linear(3, 3)):
        handle = of_all_modules.register_module_forward_hook(lambda *_: seen.append(1))
        net(torch.ones(1, 3))
    net(torch.ones(1, 3))
    handle.remove()
    assert seen == [1]


class Flow(nn.Sequential):
    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)


@pytest.mark.parametrize("kind", [nn.Sequential, Flow])
def test_nobody_counts_the_looks_of_the_library(fired, kind):
    backbone = kind(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 5)
    )
    fired.clear()
    net = offramp.attach(backbone, ["1"], input_size=(3, 8, 8))
    partition(net)
    net.channel_axes()
    assert not {*RUNNING} & {*fired}
    fired.clear()
    net.owners(), offramp.cost(net), net.sample(2)
    assert fired == []
    backbone[:4](torch.randn(2, 3, 8, 8, requires_grad=True)).sum().backward()
    assert {*fired} >= {*RUNNING}


def expanded(net):
    """Give a net buffers and a gradient, of which several elements lie in one place of memory each."""
    net.register_buffer("row", torch.zeros(1).expand(5))
    net.register_buffer("matrix", torch.arange(3.0)[:, None].expand(3, 4))
    net.register_buffer("middle", torch.ones(2, 1, 3).expand(2, 5, 3))
    parameter = next(net.parameters())
    parameter.grad = torch.ones(()).expand(parameter.shape)
    return net


@pytest.mark.parametrize("keep", [unchanged, restored_on_error, buffers_kept])
def test_places_in_memory_that_several_elements_share(keep):
    net = expanded(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))
    with torch.inference_mode():
        net.register_buffer("inferred", torch.ones(1).expand(2))
    before, layout = state(net), {name: (b.shape, b.stride()) for name, b in net.named_buffers()}
    with pytest.raises(KeyError), keep(net):
        net(torch.randn(4, 3))
        for buffer in net.buffers():
            buffer.data = torch.full_like(buffer, 7, memory_format=torch.contiguous_format)
        net.matrix[0, 0] = 8
        raise KeyError
    after = state(net)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert {name: (b.shape, b.stride()) for name, b in net.named_buffers()} == layout


def test_a_net_with_expanded_buffers_is_bound_trained_and_refused(tmp_path):
    net = expanded(tiny_net())
    offramp.method("cagrad").bind(net)
    with pytest.raises(offramp.UserError, match="give one weight per output"):
        offramp.method("joint", weights=[1.0]).bind(net)
    recipe = offramp.Recipe(epochs=1, batch_size=8, augment="none")
    run = offramp.fit(net, tiny_data(), "joint", recipe, tmp_path / "run", quiet=True)
    opened = offramp.Run.open(run.folder, expanded(tiny_net()))
    assert torch.equal(opened.net.matrix, net.matrix)


def test_the_rest_is_restored_where_a_part_cannot_be(capsys):
    class Stubborn(dict):
        def update(self, *args):
            raise ValueError("no")

    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    net[0].notes = Stubborn(a=1)
    before = state(net)
    with pytest.raises(KeyError), restored_on_error(net):
        net(torch.randn(4, 3))
        net[0].weight.data += 1
        raise KeyError
    assert all(torch.equal(value, before[name]) for name, value in state(net).items())
    assert capsys.readouterr().err == "a part of Sequential could not be put back as it was: no\n"
    net[0].notes = Stubborn(a=1)
    with pytest.raises(ValueError, match="no"), unchanged(net):
        net(torch.randn(4, 3))
    assert all(torch.equal(value, before[name]) for name, value in state(net).items())
