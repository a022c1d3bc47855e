"""Rows of a batch that comes in micro-batches: kept raw, and handed out once, as those of the whole batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from jacobian_cases import PLAIN, batch, build, forward, losses_of, plain_loop, weights
from torch import nn

from offramp.methods.combiners import Backward
from offramp.methods.combiners.jacobian import Jacobian
from offramp.methods.combiners.windows import Windows
from offramp.nets import MultiExitNet

COUNT = 5


def pieces(net, name="vgg7", accumulate=2, run=forward):
    """Losses and steps of micro-batches, one after the other as they are asked for."""
    images, targets = (whole.tensor_split(accumulate) for whole in batch(name, net, COUNT))
    for i, (some, labels) in enumerate(zip(images, targets, strict=True), 1):
        step = replace(run(net, some, labels), share=len(labels) / COUNT, more=i < accumulate)
        yield [step.share * loss for loss in losses_of(step)], step


def gradients(net):
    return {n: None if p.grad is None else p.grad.clone() for n, p in net.named_parameters()}


@pytest.mark.parametrize("shared", ["per_stage", "union", "first", "all"])
@pytest.mark.parametrize("name", ["vgg7", "attached", "decoders"])
def test_the_gramian_is_that_of_the_whole_batch_without_the_loss_scale(name, shared):
    net = build(name).double().eval()  # batch statistics would differ
    found, jacobian = [], Jacobian(net, shared)
    for losses, step in pieces(net, name, accumulate=3):
        blocks = list(jacobian.blocks(losses, step, Backward(scale=2.0**16)))
        assert bool(blocks) != step.more
        found += [(block.owners, block.gramian()) for block in blocks]
    step = forward(net, *batch(name, net, COUNT))
    wanted = {b.owners: b.gramian() for b in Jacobian(net, shared).blocks(losses_of(step), step, PLAIN)}
    assert len(found) == len(wanted)
    for owners, gramian in found:
        torch.testing.assert_close(gramian, wanted[owners], rtol=1e-9, atol=1e-12)


def test_an_overflow_in_the_first_micro_batch_stays_visible():
    """A scaler skips the step when it meets a number that is not finite."""
    net = build("vgg7")
    jacobian = Jacobian(net)
    for losses, step in pieces(net):
        factor = float("inf") if step.more else 1.0
        for block in jacobian.blocks([factor * loss for loss in losses], step, PLAIN):
            assert not block.gramian().isfinite().all()
            block.combine(torch.zeros(len(block.owners), dtype=torch.float64))
    assert not all(p.grad.isfinite().all() for p in net.stages[0].parameters())


def test_rows_of_a_net_in_bfloat16_add_up_in_float32():
    net = build("vgg7").to(torch.bfloat16).eval()
    wanted = torch.zeros(())
    for losses, _ in pieces(net, accumulate=COUNT):
        wanted = wanted + plain_loop(net, losses)[-1]["stages.0.0.weight"].float()
    jacobian, first = Jacobian(net), net.stages[0][0].weight
    for losses, step in pieces(net, accumulate=COUNT):
        found = [b.rows[-1][0] for b in jacobian.blocks(losses, step, PLAIN) if b.parameters[0] is first]
    assert torch.equal(found[0], wanted)


@pytest.mark.parametrize("kind", ["rows", "windows"])
def test_processes_are_averaged_over_once(kind):
    """A stand-in doubles what it averages: whatever was averaged twice, or never, shows."""
    net = build("vgg7").double().eval()
    jacobian, windows, calls = Jacobian(net), Windows(window="overlap-3-final").bind(net), []

    def doubled(tensor):
        calls.append(tensor.numel())
        tensor.mul_(2)

    def run(given, backward):
        net.zero_grad()
        for losses, step in given:
            if kind == "rows":
                for block in jacobian.blocks(losses, step, backward):
                    block.combine(weights(block.owners))
            else:
                windows(losses, step, backward)
            assert bool(calls) == (backward is not PLAIN and not step.more)
        return gradients(net)

    step = forward(net, *batch("vgg7", net, COUNT))
    wanted = run([(losses_of(step), step)], PLAIN)
    found = run(pieces(net, accumulate=3), Backward(average=doubled))
    torch.testing.assert_close(found, {n: 2 * g for n, g in wanted.items()}, rtol=1e-9, atol=1e-12)
    owners = net.owners()
    rows = {n: len(owners[n]) if kind == "rows" else 1 for n in owners}
    assert sum(calls) == sum(rows[n] * p.numel() for n, p in net.named_parameters())


@pytest.mark.parametrize("kind", ["rows", "windows"])
def test_a_head_without_a_loss_gets_no_gradient_of_zeros_from_the_other_processes(kind):
    """Decay and momentum would move it."""
    net = build("vgg7")
    step = forward(net, *batch("vgg7", net))
    losses, backward = losses_of(step), Backward(average=lambda tensor: None)
    losses[0] = losses[0].detach()
    if kind == "rows":
        for block in Jacobian(net).blocks(losses, step, backward):
            block.combine(weights(block.owners))
    else:
        Windows(window="local").bind(net)(losses, step, backward)
    assert all(p.grad is None for p in net.heads[0].parameters())


def test_a_stage_that_the_last_micro_batch_skips_keeps_its_rows():
    """As of nets that drop layers at random."""

    class Sometimes(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.on = nn.Linear(4, 4), True

        def forward(self, x):
            return self.layer(x) if self.on else x

    torch.manual_seed(0)
    stages, heads = [nn.Linear(4, 4), Sometimes(), nn.Linear(4, 4)], [nn.Linear(4, 5) for _ in range(3)]
    net = MultiExitNet(stages, heads, input_size=(4,)).double()
    jacobian = Jacobian(net)
    images, targets = torch.randn(6, 4).double(), torch.arange(6) % 5

    def halves():
        for half in (slice(0, 3), slice(3, 6)):
            net.stages[1].on = half.start == 0
            step = replace(forward(net, images[half], targets[half]), share=0.5, more=half.start == 0)
            yield losses_of(step), step

    for losses, _ in halves():
        sum(losses).backward()
    wanted = gradients(net)
    net.zero_grad()
    for losses, step in halves():
        for block in jacobian.blocks(losses, step, PLAIN):
            block.combine(torch.ones(len(block.owners), dtype=torch.float64))
    torch.testing.assert_close(gradients(net), wanted, rtol=1e-9, atol=1e-12)


def test_micro_batches_that_read_other_outputs_are_refused():
    net = build("vgg7")
    jacobian = Jacobian(net)
    with pytest.raises(ValueError, match="micro-batches of one batch reach different parameters"):
        for losses, step in pieces(net):
            given = losses if step.more else [loss.detach() for loss in losses[:-1]] + losses[-1:]
            for block in jacobian.blocks(given, step, PLAIN):
                block.combine(weights(block.owners))


def test_a_lean_engine_takes_whole_batches():
    net = build("vgg7")
    losses, step = next(pieces(net))
    with pytest.raises(ValueError, match="cannot be added up"):
        list(Jacobian(net, "union", lean=True).blocks(losses, step, PLAIN))
