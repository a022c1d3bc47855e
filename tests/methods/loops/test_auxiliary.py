"""Auxiliary rates from the losses' landscape, and factors that make gradients equally long: slow readings."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from context_cases import batches, bench, tiny_net
from torch.func import functional_call

from offramp.methods.loops import Progress
from offramp.methods.loops.staged._loss_factors import equal_norms, landscape_rates

LATER = Progress(1, 0.5, 5.0)  # a rate so high that the landscape bends within half a step


def loss(net, tensors, images, targets, k):
    kept = {n: b.clone() for n, b in net.named_buffers()}
    return F.cross_entropy(functional_call(net, tensors | kept, (images,))[k], targets)


def mean_loss(net, tensors, k):
    few = list(batches(99, LATER.epoch, 4))
    return sum(loss(net, tensors, b.inputs, b.targets["label"], k) for b in few) / len(few)


def test_rates_are_where_the_own_loss_is_lowest_on_the_way_of_each_other_task():
    net = tiny_net()
    work = bench(net, routed_share=0.0)
    net.train()
    buffers = {n: b.clone() for n, b in net.named_buffers()}
    parameters = dict(net.named_parameters())
    found = {
        task: landscape_rates(work.training, task, LATER, cap=0.5, weights=[1.0, 1.0, 0.5])
        for task in range(3)
    }
    inner = 0
    for k, rates in found.items():
        for other in {0, 1, 2} - {k}:
            grads = torch.autograd.grad(
                mean_loss(net, parameters, other), list(parameters.values()), allow_unused=True
            )
            losses = {}
            for i in range(20):
                c = -0.5 + i / 19
                moved = {
                    n: p.detach() if g is None else p.detach() - c * LATER.lr * (0.5 if other == 2 else 1) * g
                    for (n, p), g in zip(parameters.items(), grads, strict=True)
                }
                losses[c] = mean_loss(net, moved, k).item()
            best = min(losses, key=losses.get)
            assert rates[other] == pytest.approx(max(0.0, best), abs=1e-12)
            inner += 0 < best < 0.5
    assert inner  # it is not the bounds alone that were compared
    torch.testing.assert_close(dict(net.named_buffers()), buffers, rtol=0, atol=0)


def test_factors_make_shared_gradients_equally_long():
    net = tiny_net()
    work = bench(net, stage_weights="equal-norms")
    net.train()
    factors = equal_norms(work.training, LATER)
    shared = [p for n, p in net.named_parameters() if len(work.owners[n]) > 1]
    norms = []
    for k in range(3):
        grads = torch.autograd.grad(
            mean_loss(net, dict(net.named_parameters()), k), shared, allow_unused=True
        )
        norms.append(torch.stack([g.norm() for g in grads if g is not None]).norm().item())
    scaled = [f * n for f, n in zip(factors, norms, strict=True)]
    assert scaled == pytest.approx([sum(norms) / 3] * 3)
    assert max(norms) > 1.05 * min(norms)
    assert equal_norms(work.training, LATER) == factors  # once an epoch


def dropping(net):
    """With dropout before every head."""
    for head in net.heads:
        head.insert(1, torch.nn.Dropout(0.5))
    return net


def test_dropout_does_not_blur_the_landscape():
    found = []
    for net in (tiny_net(), dropping(tiny_net())):
        work = bench(net, routed_share=0.0)
        net.train()
        found += [landscape_rates(work.training, k, LATER, cap=0.5, weights=[1.0] * 3) for k in range(3)]
        assert all(module.training for module in net.modules())
    assert found[:3] == found[3:]
    assert any(0 < rate < 0.5 for rates in found for rate in rates)


@pytest.mark.parametrize("options", [{"landscape": True}, {"stage_weights": "equal-norms"}])
def test_looking_moves_nothing_that_an_objective_remembers(options):
    """kd's temperature grows with every confident batch, and so only in the fusion."""
    net = tiny_net()
    work = bench(net, "kd+dr-mgf", **options)
    with torch.no_grad():
        for head in net.heads:
            head[-1].weight.mul_(100)  # confident
    net.train()
    before = {name: value.clone() for name, value in work.context.bound.state_dict().items()}
    assert before
    work.begin(0, LATER)
    torch.testing.assert_close(dict(work.context.bound.state_dict()), before, rtol=0, atol=0)
