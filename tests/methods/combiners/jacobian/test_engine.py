"""The engine against a plain loop of autograd.grad in float64."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from jacobian_cases import (
    NETS,
    PLAIN,
    batch,
    build,
    cut_everywhere,
    expected,
    forward,
    groups,
    losses_of,
    plain_loop,
    weights,
)
from torch import nn

from offramp.errors import UserError
from offramp.forks import partition
from offramp.methods.combiners.jacobian import Jacobian, engine
from offramp.methods.combiners.jacobian.row_block import RowBlock
from offramp.nets import MultiExitNet

SCOPES = ["per_stage", "union", "first", "all"]
ENGINES = [*((shared, False) for shared in SCOPES), ("union", True), ("first", True), ("all", True)]
DFS = ["fused", "split", "cat"]


def close(found, wanted, name="", tolerance=1e-10):
    if wanted is None:
        assert found is None, name
    else:
        assert found is not None, name
        assert (found - wanted).abs().max() <= tolerance * wanted.abs().max().clamp(min=1), name


def double(name, dfs=None):
    net = build(name).double().train()
    if dfs is not None:
        partition(net, beta=0.5, impl=dfs)
    owned = net.owners()
    net.owners = lambda: owned  # it takes as long as all the rest
    images, targets = batch(name, net)
    rows = plain_loop(net, losses_of(forward(net, images, targets, trunk=False)))
    return net, images, targets, rows


CASES = [(name, None) for name in NETS] + [("vgg7", dfs) for dfs in DFS]
CASES += [("resnet18", "fused"), ("msdnet", "fused"), ("refining", "fused"), ("refining", "cat")]


@pytest.mark.parametrize(("name", "dfs"), CASES)
def test_equals_the_plain_loop(name, dfs, monkeypatch):
    net, images, targets, rows = double(name, dfs)
    names = {p: n for n, p in net.named_parameters()}
    for (shared, lean), trunk in itertools.product(ENGINES, ("", "chosen", "everywhere")):
        if trunk == "everywhere":
            monkeypatch.setattr(engine, "choose_cuts", cut_everywhere)
        elif trunk:
            monkeypatch.undo()
        jacobian = Jacobian(net, shared, lean=lean)
        wanted = expected(net, rows, shared)
        net.zero_grad()
        step = forward(net, images, targets, trunk=bool(trunk))
        seen = {}
        for block in jacobian.blocks(losses_of(step), step, PLAIN):
            seen[block.owners] = [names[p] for p in block.parameters]
            dense = torch.stack(
                [
                    torch.cat(
                        [rows[j].get(names[p], torch.zeros_like(p)).flatten() for p in block.parameters]
                    )
                    for j in block.owners
                ]
            )
            close(block.gramian(), dense @ dense.T)
            if not lean:
                close(block.matrix(), dense)
            block.combine(weights(block.owners))
        assert seen == groups(net, shared)
        for n, p in net.named_parameters():
            close(p.grad, wanted[n], n)


@pytest.mark.parametrize("name", ["vgg7", "decoders"])
def test_assign_takes_a_direction_in_the_order_of_the_matrix(name):
    net, images, targets, rows = double(name)
    step = forward(net, images, targets)
    for block in Jacobian(net).blocks(losses_of(step), step, PLAIN):
        block.assign(weights(block.owners) @ block.matrix())
    for n, wanted in expected(net, rows, "per_stage").items():
        close(net.get_parameter(n).grad, wanted, n)


@pytest.mark.parametrize(("shared", "lean"), [("per_stage", False), ("union", True)])
def test_gradients_accumulate(shared, lean):
    net, images, targets, rows = double("vgg7")
    jacobian = Jacobian(net, shared, lean=lean)
    for _ in range(2):
        step = forward(net, images, targets)
        for block in jacobian.blocks(losses_of(step), step, PLAIN):
            block.combine(weights(block.owners))
    for n, wanted in expected(net, rows, shared).items():
        close(net.get_parameter(n).grad, 2 * wanted, n)


def test_all_weights_one_is_the_sum():
    net, images, targets, _ = double("msdnet")
    step = forward(net, images, targets)
    for block in Jacobian(net).blocks(losses_of(step), step, PLAIN):
        block.combine(torch.ones(len(block.owners)))
    reference = build("msdnet").double()
    torch.stack(losses_of(forward(reference, images, targets))).sum().backward()
    for (n, p), q in zip(net.named_parameters(), reference.parameters(), strict=True):
        close(p.grad, q.grad, n)


@pytest.mark.parametrize("name", ["vgg7", "resnet18", "msdnet", "decoders"])
def test_no_row_is_zero_by_construction(name):
    net, images, targets, _ = double(name)
    step = forward(net, images, targets)
    for block in Jacobian(net).blocks(losses_of(step), step, PLAIN):
        assert len(block.owners) > 1
        assert all(g is not None and g.any() for row in block.rows for g in row if g.dim() > 1)


def test_msdnet_has_groups_that_are_not_stages():
    """The finer scales of a stage's last layers are read by later exits only."""
    net = build("msdnet")
    owned = net.owners()
    stages = {k: {owned[n] for n in owned if n.startswith(f"stages.{k}.")} for k in range(net.num_exits)}
    assert any(len(found) > 1 for found in stages.values())
    found = {group.owners for group in Jacobian(net).groups}
    assert found == {tuple(sorted(o)) for o in owned.values() if len(o) > 1}


def test_what_is_frozen_or_unused_keeps_no_gradient():
    net, images, targets, _ = double("vgg7")
    net.stages[0].requires_grad_(False)
    net.heads[2].requires_grad_(False)
    step = forward(net, images, targets)
    for block in Jacobian(net).blocks(losses_of(step), step, PLAIN):
        block.combine(torch.ones(len(block.owners)))
    for n, p in net.named_parameters():
        assert (p.grad is None) == n.startswith(("stages.0.", "heads.2.")), n


def test_a_loss_without_gradient_has_no_row():
    net, images, targets, _ = double("vgg7")
    step = forward(net, images, targets)
    losses = losses_of(step)
    losses[1] = losses[1].detach()
    for block in Jacobian(net).blocks(losses, step, PLAIN):
        assert 1 not in block.owners
        block.combine(torch.ones(len(block.owners)))
    assert all(p.grad is None for p in net.heads[1].parameters())


def test_a_teacher_with_gradient_makes_parameters_shared():
    """Loss 0 reads the last output too: it gets a row wherever that output comes from."""
    net, images, targets, _ = double("vgg7")
    last = net.num_exits - 1

    def coupled(step):
        losses = losses_of(step)
        return [losses[0] + (step.outputs[0] - step.outputs[last]).square().mean(), *losses[1:]]

    for lean in (False, True):
        net.zero_grad()
        step = forward(net, images, targets)
        jacobian = Jacobian(net, "union" if lean else "per_stage", lean=lean)
        owners = {}
        for block in jacobian.blocks(coupled(step), step, PLAIN):
            owners.update(dict.fromkeys(block.parameters, block.owners))
            block.combine(torch.ones(len(block.owners)))
        assert lean or owners[net.heads[last][-1].weight] == (0, last)
        reference = copy.deepcopy(net)
        reference.zero_grad()
        torch.stack(coupled(forward(reference, images, targets))).sum().backward()
        for (n, p), q in zip(net.named_parameters(), reference.parameters(), strict=True):
            close(p.grad, q.grad, n)


def test_parameters_of_the_objective_get_their_gradient():
    net, images, targets, rows = double("vgg7")
    temperature = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    step = forward(net, images, targets)
    losses = losses_of(step)
    losses[1] = losses[1] * temperature
    for block in Jacobian(net).blocks(losses, step, PLAIN):
        block.combine(torch.ones(len(block.owners)))
    close(temperature.grad, losses_of(forward(net, images, targets))[1].detach())
    n = "heads.1." + [name for name, _ in net.heads[1].named_parameters()][-1]
    close(net.get_parameter(n).grad, 2 * rows[1][n])


def test_tied_parameters_add_up_over_the_stages():
    torch.manual_seed(0)
    stages = [nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(3)]
    stages[2][0].weight = stages[0][0].weight
    net = MultiExitNet(stages, [nn.Linear(4, 5) for _ in range(3)], input_size=(4,)).double()
    images, targets = torch.randn(6, 4, dtype=torch.float64), torch.randint(5, (6,))
    rows = plain_loop(net, losses_of(forward(net, images, targets)))
    for lean in (False, True):
        net.zero_grad()
        shared = "union" if lean else "per_stage"
        step = forward(net, images, targets)
        for block in Jacobian(net, shared, lean=lean).blocks(losses_of(step), step, PLAIN):
            block.combine(weights(block.owners))
        for n, wanted in expected(net, rows, shared).items():
            close(net.get_parameter(n).grad, wanted, n)


@pytest.mark.parametrize("name", ["msdnet", "attentive", "decoders", "refining"])
def test_weights_that_are_known_cost_no_rows(name):
    net, images, targets, rows = double(name)
    for shared in ("union", "first", "all"):
        net.zero_grad()
        step = forward(net, images, targets)
        jacobian = Jacobian(net, shared)
        known = {
            g.owners: dict(zip(g.owners, weights(g.owners).tolist(), strict=True)) for g in jacobian.groups
        }
        jacobian.weighted(losses_of(step), step, PLAIN, known)
        for n, wanted in expected(net, rows, shared).items():
            close(net.get_parameter(n).grad, wanted, n)


def test_an_unknown_reading_is_refused_in_one_line():
    with pytest.raises(
        UserError, match=r"shared must be one of per_stage, union, first, all, got 'per_stag'.*mean"
    ):
        Jacobian(build("decoders"), "per_stag")


@pytest.mark.parametrize("how", ["combine", "assign"])
def test_what_a_block_adds_has_the_scale_of_the_loss(how):
    """Rows are free of it, and ``.grad`` is not: 4 (2 r_1 - r_2) beside what was there."""
    parameters = [torch.zeros(2, dtype=torch.bfloat16), torch.zeros(1, dtype=torch.bfloat16)]
    parameters[0].grad = torch.tensor([1.0, 1.0], dtype=torch.bfloat16)
    rows = [[torch.tensor([1.0, 2.0]), torch.tensor([3.0])], [torch.tensor([1.0, -1.0]), None]]
    block = RowBlock((0, 1), (0, 1), parameters, rows, scale=4.0)
    expected = torch.tensor([[1.0, 2.0, 3.0], [1.0, -1.0, 0.0]])  # in float32, whatever the parameters are
    assert torch.equal(block.matrix(), expected)
    weights = torch.tensor([2.0, -1.0])
    if how == "combine":
        block.combine(weights)
    else:
        block.assign(weights @ expected)
    assert [p.grad.tolist() for p in parameters] == [[1 + 4.0, 1 + 20.0], [24.0]]
    assert block.rows == []
