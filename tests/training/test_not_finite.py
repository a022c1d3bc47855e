"""Weights and outputs that are no numbers get no accuracy: with a run folder and without, while and after."""

from __future__ import annotations

import pytest
import torch
from tiny_dense import dense_data, dense_net
from tiny_runs import tiny_data, tiny_net
from torch import nn

from offramp import Recipe, Router, UserError, calibrate, fit
from offramp.exits import ExitLogits, Policy

RECIPE = Recipe(epochs=2, batch_size=8, lr=0.05, augment="none", average=0.5, last_epochs=2)


class Poison(nn.Module):
    """The identity, with a statistic that gets a value in the n-th step (from 0)."""

    def __init__(self, step, value):
        super().__init__()
        self.step, self.value, self.calls = step, value, 0
        self.register_buffer("running_mean", torch.zeros(1))

    def forward(self, x):
        if torch.is_grad_enabled() and self.training:
            if self.calls == self.step:
                self.running_mean.fill_(self.value)
            self.calls += 1
        return x


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("method", ["joint", "separate", "pcgrad"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_in_the_last_step(value, method, folder, tmp_path):
    """No loss has seen it, and no step follows."""
    net = tiny_net()
    net.heads[0].append(Poison(9, value))
    out = tmp_path / "run" if folder else None
    with pytest.raises(UserError, match=r"running_mean is no longer finite .*: train anew"):
        fit(net, tiny_data(), method, RECIPE, out, quiet=True)
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_net_that_comes_with_them():
    net = tiny_net()
    net.heads[1][-1].weight.data[0, 0] = torch.nan
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(UserError, match=r"^heads\.1\.3\.weight of the net is not finite; give a net"):
        fit(net, tiny_data(), "joint", RECIPE, quiet=True)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor.nan_to_num(), before[name].nan_to_num())


class Overflow(nn.Module):
    """Too large a number in evaluation mode."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return x if self.training else torch.where(x == x[:, :1], self.value, x)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_outputs_in_evaluation_mode(value):
    net = tiny_net()
    net.heads[1].append(Overflow(value))
    with pytest.raises(UserError, match=r"no finite numbers to samples .*, exit 2 for 7 of them"):
        fit(net, tiny_data(), "joint", RECIPE, quiet=True)
    images = torch.zeros(4, 3, 8, 8)
    with pytest.raises(UserError, match="exit 2 are not finite"):
        ExitLogits.of(net, [(images, torch.zeros(4, dtype=torch.int64))])
    with pytest.raises(UserError, match="logits of sample 0 are not numbers"):
        Router(net, Policy.full(2))(images)
    with pytest.raises(UserError, match="exit 2 are not finite"):
        calibrate(net, [(images, torch.zeros(4, dtype=torch.int64))], budget="100%")


def test_minus_infinity_rules_a_class_out():
    net = tiny_net()
    net.heads[1].append(Overflow(-torch.inf))
    assert fit(net, tiny_data(), "joint", RECIPE, quiet=True).result.outputs


def test_a_net_of_maps():
    net = dense_net(plain=True)
    run = fit(net, dense_data(), "joint", Recipe(epochs=1, batch_size=4, last_epochs=0), quiet=True)
    with torch.no_grad():
        next(iter(run.net.parameters())).fill_(torch.nan)
    with pytest.raises(UserError, match="no finite numbers to samples"):
        run.evaluate()
