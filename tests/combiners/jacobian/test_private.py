"""What one loss has to itself runs backward once, in lean steps and in steps of known weights."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from jacobian_cases import PLAIN, batch, build, forward, losses_of
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from offramp.combiners.jacobian import Jacobian
from offramp.combiners.jacobian.private import settle


class Backwards(TorchDispatchMode):
    """Counts how often each convolution runs backward, by its weight."""

    def __init__(self, net):
        super().__init__()
        self.names = {m.weight.data_ptr(): n for n, m in net.named_modules() if isinstance(m, nn.Conv2d)}
        self.count = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution_backward.default:
            self.count[self.names[args[2].data_ptr()]] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture
def net():
    return build("resnet18")


def owners_of_convolutions(net):
    owned = net.owners()
    return {n: len(owned[f"{n}.weight"]) for n, m in net.named_modules() if isinstance(m, nn.Conv2d)}


def test_a_lean_step_runs_it_once(net):
    step = forward(net, *batch("resnet18", net))
    jacobian = Jacobian(net, "union", lean=True)
    with Backwards(net) as seen:
        for block in jacobian.blocks(losses_of(step), step, PLAIN):
            block.combine(torch.ones(len(block.owners)))
    # A shared one: a row for each owner, and the weighted pass.
    wanted = {n: 1 if count == 1 else count + 1 for n, count in owners_of_convolutions(net).items()}
    assert seen.count == wanted
    assert {1, 3, 4, 5} == set(wanted.values())


def test_known_weights_run_everything_once(net):
    step = forward(net, *batch("resnet18", net))
    jacobian = Jacobian(net, "union")
    with Backwards(net) as seen:
        jacobian.weighted(losses_of(step), step, PLAIN, {(0, 1, 2, 3): {0: 2.0, 3: -1.0}})
    assert seen.count == dict.fromkeys(owners_of_convolutions(net), 1)


def private(net):
    """For each loss, as its need, the parameters that it reaches."""
    owned = net.owners()
    return [{p: None for n, p in net.named_parameters() if j in owned[n]} for j in range(net.num_exits)]


def test_the_graph_above_is_freed(net):
    step = forward(net, *batch("resnet18", net))
    losses = losses_of(step)
    stand_ins, settled = settle(losses, step.trunk, private(net), 1.0)
    assert settled == {*net.stages[-1].parameters(), *net.heads.parameters()}
    torch.testing.assert_close(torch.stack(stand_ins), torch.stack(losses))
    for loss in losses:
        with pytest.raises(RuntimeError, match="second time"):
            torch.autograd.grad(loss, step.trunk[0])


def test_a_head_that_keeps_less_than_its_gradient_waits():
    net = build("vgg7")  # its heads are a mean and a linear layer
    step = forward(net, *batch("vgg7", net))
    losses = losses_of(step)
    stand_ins, settled = settle(losses, step.trunk, private(net), 1.0)
    assert [a is b for a, b in zip(stand_ins, losses, strict=True)] == [True] * 5 + [False]
    assert settled == {*net.stages[-1].parameters(), *net.heads[-1].parameters()}


def test_a_loss_scale_is_taken_off_again(net):
    net.double()
    images, targets = batch("resnet18", net)
    found = []
    for scale in (1.0, 1024.0):
        step = forward(net, images, targets)
        stand_ins, _ = settle(losses_of(step), step.trunk, private(net), scale)
        found.append(torch.autograd.grad(sum(stand_ins), list(net.stages[0].parameters())))
    torch.testing.assert_close(found[0], found[1])


def test_losses_that_share_operations_are_left_alone(net):
    step = forward(net, *batch("resnet18", net))
    losses = losses_of(step)
    both = (step.outputs[0] * step.outputs[1]).sum()  # the products of two heads, which both losses need
    losses[0], losses[1] = losses[0] + both, losses[1] + 2 * both
    need = private(net)
    need[0] = need[1] = {**need[0], **need[1]}
    stand_ins, settled = settle(losses, step.trunk, need, 1.0)
    assert [a is b for a, b in zip(stand_ins, losses, strict=True)] == [True, True, False, False]
    assert settled.isdisjoint([*net.heads[0].parameters(), *net.heads[1].parameters()])
