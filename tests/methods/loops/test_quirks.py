"""The two oversights of the authors' code, done on request; mixed gates and other forms of routes."""

from __future__ import annotations

import pytest
import torch
from context_cases import CLASSES, bench, run_epoch
from torch import nn

from offramp.data import Batch
from offramp.methods.loops.staged._importance import LATERAL, Importance
from offramp.nets import MultiExitNet


class Twice(nn.Module):
    """Calls one convolution two times."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1, bias=False)

    def forward(self, x):
        return self.conv(self.conv(x))


def net_of(first: nn.Module) -> MultiExitNet:
    heads = [nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, CLASSES)) for _ in range(2)]
    return MultiExitNet([first, nn.Conv2d(3, 3, 3)], heads, input_size=(3, 6, 6)).double()


def routes_of(net, **options):
    owners = {name: tuple(sorted(o)) for name, o in net.owners().items()}
    usual = {
        "lateral": "paper", "mixed": False, "init": "kaiming", "sign": "abs", "pointwise": False,
        "penalty": 0.0, "decay": 0.0, "seed": 0,
    }  # fmt: skip
    return Importance(net, owners, **usual | options)


@pytest.mark.parametrize("quirks", [False, True])
def test_a_module_called_twice_is_routed_once(quirks):
    torch.manual_seed(0)
    net = net_of(Twice())
    work = bench(net, official_quirks=quirks)
    name = "stages.0.conv.weight"
    work.importance.fix_defaults()
    raw = net.get_parameter(name)
    routed = work.importance.gated_weights(dict(net.named_parameters()), 0)[name]
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    seen = []
    net.forks[0].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    from offramp.methods.loops import Progress

    batch = Batch(x, {"label": torch.zeros(2, dtype=torch.int64)})
    work.training.forward(0, batch, Progress(0, 0.0, 0.1))
    second = raw if quirks else routed
    wanted = nn.functional.conv2d(nn.functional.conv2d(x, routed, padding=1), second, padding=1)
    torch.testing.assert_close(seen[-1], wanted)
    assert net.get_parameter(name) is raw  # nothing of it stays


@pytest.mark.parametrize("quirks", [False, True])
def test_convolutions_of_one_task_keep_the_norms_of_the_beginning(quirks):
    torch.manual_seed(0)
    net = net_of(nn.Conv2d(3, 3, 3, padding=1))
    weight = net.stages[1].weight
    before = weight.detach().flatten(2).norm(dim=2).clone()
    run_epoch(bench(net, official_quirks=quirks), 0, 4)
    same = torch.allclose(net.stages[1].weight.flatten(2).norm(dim=2), before, rtol=1e-6)
    assert same == quirks


def test_mixed_gates_are_ten_parts_of_their_own():
    torch.manual_seed(0)
    net = net_of(nn.Conv2d(3, 3, 3, padding=1))
    routes = routes_of(net, mixed=True, init="kaiming-apart", lateral="nyu")
    name = "stages.0.weight"
    nu = [routes.nu[f"stages/0/weight:{k}"].detach().abs() for k in (0, 1)]
    hat = [v / (1 + 1e-4 * v.sum(1, keepdim=True)) ** 0.75 for v in nu]
    torch.testing.assert_close(routes.gate(name, 0), (10 * hat[0] + hat[1]) / 11)
    torch.testing.assert_close(routes.gate(name, 1), (hat[0] + 10 * hat[1]) / 11)
    assert len(routes.trained(0)) == 2  # every stage trains all of them


def test_first_values():
    torch.manual_seed(0)
    net = net_of(nn.Conv2d(3, 3, 3, padding=1))
    key = "stages/0/weight:{}".format
    norms = net.stages[0].weight.detach().flatten(2).norm(dim=2)
    torch.testing.assert_close(routes_of(net, init="norm").nu[key(1)].detach(), norms, rtol=1e-6, atol=1e-8)
    alike, apart = routes_of(net), routes_of(net, init="kaiming-apart")
    assert torch.equal(alike.nu[key(0)], alike.nu[key(1)])
    assert not torch.equal(apart.nu[key(0)], apart.nu[key(1)])
    soft = routes_of(net, sign="softplus")
    torch.testing.assert_close(soft.of("stages.0.weight"), alike.of("stages.0.weight"))


def test_rows_of_eq_7_have_about_the_energy_of_he_s_initialisation():
    """2.2, 1.6 and 1.1 for 64, 128 and 256 inputs under Kaiming's normal distribution."""
    torch.manual_seed(0)
    for inputs, energy in ((64, 2.2), (128, 1.6), (256, 1.1)):
        nu = torch.randn(512, inputs).abs() * (2 / inputs) ** 0.5
        assert LATERAL["paper"](nu).square().sum(1).mean() == pytest.approx(energy, rel=0.05)


def test_one_by_one_kernels_are_routed_on_request_and_can_turn():
    torch.manual_seed(0)
    net = net_of(nn.Conv2d(3, 3, 1))
    assert not routes_of(net).owners
    routes = routes_of(net, pointwise=True)
    name = "stages.0.weight"
    with torch.no_grad():
        routes.nu["stages/0/weight:0"].neg_()
    weights = routes.gated_weights({name: net.stages[0].weight}, 0)[name].detach()
    assert torch.equal(weights.sign(), -net.stages[0].weight.detach().sign())
