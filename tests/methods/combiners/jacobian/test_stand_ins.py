"""What one loss has to itself runs backward once, in lean steps and in steps of known weights."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import torch
from jacobian_cases import PLAIN, batch, build, forward, losses_of
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from offramp.methods.combiners import Backward
from offramp.methods.combiners.jacobian import Jacobian
from offramp.methods.combiners.jacobian._stand_ins import fill_private_gradients


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
    stand_ins, settled = fill_private_gradients(losses, step.trunk, private(net), 1.0)
    assert settled == {*net.stages[-1].parameters(), *net.heads.parameters()}
    torch.testing.assert_close(torch.stack(stand_ins), torch.stack(losses))
    for loss in losses:
        with pytest.raises(RuntimeError, match="second time"):
            torch.autograd.grad(loss, step.trunk[0])


def test_a_head_that_keeps_less_than_its_gradient_waits():
    net = build("vgg7")  # its heads are a mean and a linear layer
    step = forward(net, *batch("vgg7", net))
    losses = losses_of(step)
    stand_ins, settled = fill_private_gradients(losses, step.trunk, private(net), 1.0)
    assert [a is b for a, b in zip(stand_ins, losses, strict=True)] == [True] * 5 + [False]
    assert settled == {*net.stages[-1].parameters(), *net.heads[-1].parameters()}


def test_a_loss_scale_is_taken_off_again(net):
    net.double()
    images, targets = batch("resnet18", net)
    found = []
    for scale in (1.0, 1024.0):
        step = forward(net, images, targets)
        stand_ins, _ = fill_private_gradients(losses_of(step), step.trunk, private(net), scale)
        found.append(torch.autograd.grad(sum(stand_ins), list(net.stages[0].parameters())))
    torch.testing.assert_close(found[0], found[1])


def test_losses_that_share_operations_are_left_alone(net):
    step = forward(net, *batch("resnet18", net))
    losses = losses_of(step)
    both = (step.outputs[0] * step.outputs[1]).sum()  # the products of two heads, which both losses need
    losses[0], losses[1] = losses[0] + both, losses[1] + 2 * both
    need = private(net)
    need[0] = need[1] = {**need[0], **need[1]}
    stand_ins, settled = fill_private_gradients(losses, step.trunk, need, 1.0)
    assert [a is b for a, b in zip(stand_ins, losses, strict=True)] == [True, True, False, False]
    assert settled.isdisjoint([*net.heads[0].parameters(), *net.heads[1].parameters()])


def test_a_parameter_that_a_loss_uses_twice_counts_once(net):
    net.double()
    step = forward(net, *batch("resnet18", net))
    losses = losses_of(step)
    losses[2] = losses[2].detach()  # so that the last loss has two stages to itself
    losses[3] = losses[3] + sum(p.square().sum() for p in net.stages[2].parameters())
    wanted = torch.autograd.grad(losses[3], list(net.stages[2].parameters()), retain_graph=True)
    fill_private_gradients(losses, step.trunk, private(net), 1.0)
    for parameter, gradient in zip(net.stages[2].parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_a_parameter_below_the_level_stays_in_the_graph():
    """Two lanes of which one goes past the first exit: the last loss alone wants it, and penalises it."""
    torch.manual_seed(0)
    lanes, heads = (nn.Linear(4, 4), nn.Linear(4, 4)), (nn.Linear(4, 3), nn.Linear(4, 64))
    x = torch.randn(2, 4)
    one, two = (lane(x).tanh() for lane in lanes)
    losses = [heads[0](one).sum(), heads[1](one * two).exp().tanh().mean() + lanes[1].weight.square().sum()]
    past = [*lanes[0].parameters(), *lanes[1].parameters()]
    need = [
        dict.fromkeys([*lanes[0].parameters(), *heads[0].parameters()]),
        dict.fromkeys([*past, *heads[1].parameters()]),
    ]
    wanted = torch.autograd.grad(losses[1], past, retain_graph=True)
    stand_ins, _ = fill_private_gradients(losses, [(one, two)], need, 1.0)
    assert stand_ins[1] is losses[1]
    torch.testing.assert_close(torch.autograd.grad(stand_ins[1], past), wanted)


def test_a_stand_in_is_made_also_where_gradients_are_off(net):
    step = forward(net, *batch("resnet18", net))
    losses = losses_of(step)
    with torch.no_grad():
        stand_ins, _ = fill_private_gradients(losses, step.trunk, private(net), 1.0)
    assert all(loss.requires_grad for loss in stand_ins)


def test_a_feature_with_a_hook_is_no_level(net):
    net.double()
    images, targets = batch("resnet18", net)
    step = forward(net, images, targets)
    step.trunk[2].register_hook(lambda g: g / 2)
    wanted = torch.autograd.grad(sum(losses_of(step)), list(net.parameters()), retain_graph=True)
    for shared, lean in (("per_stage", False), ("union", True)):
        net.zero_grad()
        step = forward(net, images, targets)
        step.trunk[2].register_hook(lambda g: g / 2)
        for block in Jacobian(net, shared, lean=lean).blocks(losses_of(step), step, PLAIN):
            block.combine(torch.ones(len(block.owners)))
        for (name, parameter), gradient in zip(net.named_parameters(), wanted, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, msg=name)


def test_processes_average_the_same_numbers_whatever_is_settled(net):
    """Processes wait for each other, so that a head that is settled on one only must not matter."""
    sizes = []
    for count in (1, 3):
        sizes.append([])
        step = forward(net, *batch("resnet18", net, count))
        backward = Backward(average=lambda t: sizes[-1].append(t.numel()))
        trunk = step.trunk if count == 3 else None  # with none nothing is settled
        one = dataclasses.replace(step, trunk=trunk)
        Jacobian(net, "union").weighted(losses_of(step), one, backward, {})
    assert sizes[0] == sizes[1]
    assert sum(sizes[0]) == sum(p.numel() for p in net.parameters())
