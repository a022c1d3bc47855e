"""Backbones of torchvision, timm and transformers get exits, are trained, counted and looked at, unharmed."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from backbones import BACKBONES, CLASSES, PROVED, logits_of, prepared
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

import offramp
from offramp.exits import Policy, Router
from offramp.forks import partition, remove
from offramp.nets import MultiExitNet, attach, last_linear

METHODS = ("joint", "dfs", "kd", "ge", "byot", "cagrad")


def state(net: nn.Module) -> dict[str, Any]:
    """All of a net that a look leaves as it was, and torch's random state."""
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    return {
        "random": torch.get_rng_state(),
        **{name: tensor.detach().clone() for name, tensor in tensors.items()},
        **{f"mode of {name}": torch.tensor(module.training) for name, module in net.named_modules()},
    }


def assert_same(after: dict[str, Any], before: dict[str, Any]) -> None:
    assert after.keys() == before.keys()
    assert [name for name in before if not torch.equal(after[name], before[name])] == []


def train_one_step(net: MultiExitNet, x: torch.Tensor | dict[str, torch.Tensor]) -> None:
    net.train()
    sum(F.cross_entropy(z, torch.tensor([1, 2])) for z in net(x)).backward()
    for k, stage in enumerate(net.stages):
        grads = [p.grad for p in stage.parameters() if p.grad is not None]
        assert all(grad.isfinite().all() for grad in grads), k
        assert any(grad.any() for grad in grads), k
    torch.optim.SGD(net.parameters(), lr=1e-3).step()
    assert all(p.isfinite().all() for p in net.parameters())


@torch.no_grad()
def tell_apart(net: MultiExitNet, x: torch.Tensor | dict[str, torch.Tensor]) -> None:
    """Give norm layers their statistics and inner heads logits that differ, as a trained net has them."""
    for module in net.modules():
        if isinstance(module, _NormBase):
            module.reset_running_stats()
            module.momentum = None  # a mean over all batches
    net.train()(x)
    for head, logits in zip(net.heads[:-1], net.eval()(x), strict=False):
        std, mean = torch.std_mean(logits, 0)
        head[-1].weight.mul_(2 / std[:, None])
        head[-1].bias.sub_(mean).mul_(2 / std)


@torch.no_grad()
def assert_routed(net: MultiExitNet, x: torch.Tensor | dict[str, torch.Tensor]) -> None:
    """At each exit half of the samples leave that came so far, and those that a loop over exits says."""
    sure, prediction = torch.stack(net(x)).softmax(-1).max(-1)
    thresholds, inside = [], torch.ones(sure.shape[1], dtype=torch.bool)
    for confidences in sure[:-1]:
        low, high = confidences[inside].sort().values.unflatten(0, (2, -1)).unbind()
        thresholds.append((low[-1].item() + high[0].item()) / 2)
        inside &= confidences < thresholds[-1]
    answer = Router(net, Policy(thresholds))(x)
    clear = ((sure[:-1] - torch.tensor(thresholds)[:, None]).abs() > 1e-4).all(0)
    assert clear.sum() > len(clear) / 2
    for n in range(len(clear)):
        if clear[n]:
            k = next((k for k, t in enumerate(thresholds) if sure[k, n] >= t), len(thresholds))
            assert (answer.exit[n], answer.prediction[n]) == (k + 1, prediction[k, n]), n
            assert abs(answer.confidence[n] - sure[k, n]) < 1e-3, n


@pytest.mark.slow
@pytest.mark.parametrize("entry", BACKBONES)
def test_a_backbone_gets_exits_and_stays_what_it_is(entry):
    backbone, x, how = prepared(entry.build), entry.inputs(2), entry.how()
    before = state(backbone)
    net = attach(backbone, entry.at, **how)
    after = state(backbone)
    torch.set_rng_state(before["random"])
    for head in net.heads[:-1]:  # only their first weights are drawn
        drawn = nn.Linear(head[-1].in_features, CLASSES)
        assert torch.equal(drawn.weight, head[-1].weight)
    assert_same(after, before | {"random": torch.get_rng_state()})

    with torch.no_grad():
        whole, exits = logits_of(backbone.eval(), x), net.eval()(x)
        assert torch.equal(exits[-1], whole)
        assert [z.shape for z in exits] == [(2, CLASSES)] * (len(entry.at) + 1)
        assert all(map(torch.equal, partition(net)(x), exits))
        feature = net(x, keep=True).features[-1]
        if any(isinstance(module, nn.Linear) for module in backbone.modules()):
            assert feature.shape == (2, last_linear(net, net.num_exits).in_features)
        else:  # it ends in a convolution
            assert feature is None
    tell_apart(net, several := entry.inputs(8))
    assert_routed(net, several)
    train_one_step(net, x)

    net.stages[0].eval()
    before = state(net)
    flops = [exit.flops for exit in offramp.cost(net).exits]
    owned = net.owners()
    assert_same(state(net), before)
    assert None not in flops and flops == sorted(flops) and flops[0] > 0
    for k in range(len(entry.at)):
        assert {owned[name] for name in owned if name.startswith(f"heads.{k}.")} == {frozenset({k})}

    remove(net)
    before = state(net)
    assert_same(state(remove(partition(net))), before)


@pytest.mark.slow
@pytest.mark.parametrize("entry", PROVED)
def test_every_method_takes_a_step(entry):
    """A backbone that has run, exits at equal shares of its FLOPs, and a step of each method on a copy."""
    backbone, x, y = prepared(entry.build).eval(), entry.inputs(2), torch.tensor([1, 2])
    before = logits_of(backbone, x)  # some keep what they computed, with its graph
    net = attach(backbone, "auto:3", **entry.how())
    flops = [exit.flops for exit in offramp.cost(net).exits]
    assert None not in flops and flops == sorted(flops) and flops[0] > 0
    assert torch.equal(net(x)[-1], before)
    weights = {
        key: value * 1.01 if value.is_floating_point() else value
        for key, value in backbone.state_dict().items()
    }
    backbone.load_state_dict(weights)  # as pretrained ones are, before or after
    after = logits_of(backbone.train().eval(), x)
    assert torch.equal(net(x)[-1], after) and not torch.equal(after, before)
    for name in METHODS:
        twin = copy.deepcopy(net).train()
        method = offramp.method(name).bind(twin)
        parameters = [*twin.parameters(), *method.parameters()]
        optimizer = torch.optim.SGD(parameters, lr=1e-3)
        losses = method.backward(x, y)
        assert len(losses) == 3 and losses.isfinite().all()
        assert all(p.grad.isfinite().all() for p in parameters if p.grad is not None), name
        moving = {key for key, p in twin.named_parameters() if p.grad is not None and p.grad.any()}
        assert {key.split(".")[1] for key in moving if key.startswith("stages.")} >= {"0", "1"}, name
        assert {key.split(".")[1] for key in moving if key.startswith("heads.")} >= {"0", "1"}, name
        optimizer.step()
        assert all(p.isfinite().all() for p in parameters), name
