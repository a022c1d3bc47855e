"""Known weights on any graph: one backward pass gives shared and unshared parameters their gradients."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from jacobian_cases import PLAIN, batch, build, forward, losses_of, plain_loop
from test_stand_ins import Backwards
from torch import nn

from offramp.methods.combiners import Backward
from offramp.methods.combiners.jacobian import Jacobian
from offramp.methods.combiners.jacobian._borders import borders_of, weighing

WEIGHTS = {0: -0.5, 1: 0.0, 2: 3.0}


@pytest.fixture
def net():
    return build("attentive").double()


def step_of(net, name="attentive"):
    return forward(net, *batch(name, net), trunk=False)


def calls(net):
    """How often joint training runs each convolution backward."""
    losses = losses_of(step_of(net))
    with Backwards(net) as seen:
        torch.stack(losses).sum().backward()
    return seen.count


def test_every_operation_runs_backward_once(net):
    step, jacobian = step_of(net), Jacobian(net, "union")
    with Backwards(net) as seen:
        jacobian.weighted(losses_of(step), step, PLAIN, {(0, 1, 2): WEIGHTS})
    assert seen.count == calls(net)
    assert seen.count["trunk.attention.0"] == 3  # once for each task


def test_a_lean_step_is_one_of_rows_where_the_graph_cannot_be_cut(net):
    """All rows are there before one could be dropped: a further pass would buy nothing."""
    joint, step, jacobian = calls(net), step_of(net), Jacobian(net, "union", lean=True)
    with Backwards(net) as seen:
        (block,) = jacobian.blocks(losses_of(step), step, PLAIN)
        assert len(block.rows) == 3
        block.combine(torch.ones(3))
    trunk = {"trunk.first.0": 3, "trunk.second.0": 3}
    assert seen.count == Counter({n: trunk.get(n, count) for n, count in joint.items()})


@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_gradients_are_those_of_a_plain_loop(net, scale):
    step = step_of(net)
    rows = plain_loop(net, losses_of(step))
    Jacobian(net, "union").weighted(losses_of(step), step, Backward(scale=scale), {(0, 1, 2): WEIGHTS})
    owned = net.owners()
    for name, p in net.named_parameters():
        shared = len(owned[name]) > 1
        terms = [(WEIGHTS[k] if shared else 1.0) * row[name] for k, row in enumerate(rows) if name in row]
        assert (p.grad is None) == (not terms), name
        if terms:
            torch.testing.assert_close(p.grad, scale * sum(terms), rtol=1e-9, atol=1e-9 * scale, msg=name)


def made_of_another(losses):
    return [losses[0], losses[1] + 0.5 * losses[0], losses[2]]


def test_losses_made_of_each_other_have_no_borders(net):
    """And get two passes: loss 1 reaches the first decoder as well, which so becomes a shared one."""
    step = step_of(net)
    losses = made_of_another(losses_of(step))
    shared = {p for n, p in net.named_parameters() if len(net.owners()[n]) > 1}
    assert borders_of(losses, shared, {p for p in net.parameters() if p not in shared}) == {}
    rows = plain_loop_of_all(net, made_of_another(losses_of(step_of(net))))
    jacobian = Jacobian(net, "union")
    jacobian.weighted(losses, step, PLAIN, {(0, 1, 2): WEIGHTS})
    for name, p in net.named_parameters():
        mine = {k: row[name] for k, row in enumerate(rows) if row[name] is not None}
        if mine:
            wanted = sum((WEIGHTS[k] if len(mine) > 1 else 1.0) * g for k, g in mine.items())
            torch.testing.assert_close(p.grad, wanted, rtol=1e-9, atol=1e-9, msg=name)


def plain_loop_of_all(net, losses):
    named = dict(net.named_parameters())
    trained = {n: p for n, p in named.items() if p.requires_grad}
    rows = []
    for loss in losses:
        grads = torch.autograd.grad(loss, [*trained.values()], retain_graph=True, allow_unused=True)
        rows.append(dict.fromkeys(named) | dict(zip(trained, grads, strict=True)))
    return rows


def test_plain_parameters_behind_a_joint_have_no_borders(net):
    """``pair`` belongs to two losses and is not weighed: only their sum could be, as it leaves."""
    pair = nn.Linear(3, 3).double()
    trunk = nn.Linear(3, 3).double()
    h = pair(trunk(torch.randn(4, 3, dtype=torch.float64))).tanh()
    losses = [h.sum(), h.square().sum()]
    assert borders_of(losses, {*trunk.parameters()}, {*pair.parameters()}) == {}
    assert borders_of(losses, {*trunk.parameters(), *pair.parameters()}, set())


def test_nothing_stays_on_the_graph(net):
    step = step_of(net)
    losses = losses_of(step)
    shared = {p for n, p in net.named_parameters() if len(net.owners()[n]) > 1}
    weight = net.trunk["first"][0].weight
    total = torch.stack(losses).sum()
    (plain,) = torch.autograd.grad(total, [weight], retain_graph=True)
    with weighing(borders_of(losses, shared, set()), {0: 2.0, 1: 2.0, 2: 2.0}):
        (weighted,) = torch.autograd.grad(total, [weight], retain_graph=True)
    torch.testing.assert_close(weighted, 2 * plain)
    (after,) = torch.autograd.grad(total, [weight])
    assert torch.equal(after, plain)
