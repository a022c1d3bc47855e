"""Gradient equilibrium against its public implementation: logits, gradients, and the weight of every loss."""

import pytest
import torch
from parity import CHECKS, load
from torch import nn

from offramp.forks import Equilibrium, install
from offramp.nets import MultiExitNet, msdnet_cifar


@pytest.mark.parametrize("check", CHECKS)
def test_msdnet(check):
    """There the gradient of the coarsest scale alone is rescaled."""
    check(load("ge_msdnet_cifar100"), install(msdnet_cifar(), [Equilibrium()]).double())


@pytest.mark.parametrize("exits", [4, 5, 6, 7])
def test_the_weight_of_every_loss_at_every_stage(exits):
    weights = torch.tensor(load("ge_weights")[f"n{exits}"], dtype=torch.float64)
    torch.manual_seed(0)
    net = MultiExitNet(
        [nn.Sequential(nn.Linear(5, 5), nn.Tanh()) for _ in range(exits)],
        [nn.Linear(5, 3) for _ in range(exits)],
        input_size=(5,),
    ).double()
    x = torch.randn(4, 5, dtype=torch.float64)

    def gradients(k: int) -> dict[str, torch.Tensor]:
        net.zero_grad()
        net(x)[k].square().sum().backward()
        return {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in net.named_parameters()}

    plain = [gradients(k) for k in range(exits)]
    install(net, [Equilibrium()])
    for k in range(exits):
        for name, grad in gradients(k).items():
            part, at = name.split(".")[:2]
            weight = weights[int(at), k] if part == "stages" else 1
            torch.testing.assert_close(grad, weight * plain[k][name], rtol=1e-12, atol=1e-14)
            assert plain[k][name].any() == bool(weights[int(at), k] if part == "stages" else int(at) == k)
