"""How the passes of a step are planned, and that odd graphs get right gradients all the same."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from jacobian_cases import PLAIN, batch, build, forward, losses_of, plain_loop
from steps import exit_step
from torch import Tensor, nn

from offramp.forks import Fork
from offramp.methods.combiners.jacobian import Jacobian
from offramp.methods.combiners.jacobian._passes import plan_passes
from offramp.methods.objectives import Step
from offramp.nets import MultiExitNet


def plan(step: Step):
    losses = losses_of(step)
    need = [{p for p in step.net.parameters() if p.requires_grad}] * len(losses)
    return plan_passes(losses, step.trunk, need)


def line(fork=None, stage=nn.Tanh):
    torch.manual_seed(0)
    stages = [
        nn.Sequential(nn.Linear(4, 4), nn.Tanh()),
        *(nn.Sequential(stage(), nn.Linear(4, 4)) for _ in "ab"),
    ]
    net = MultiExitNet(stages, [nn.Linear(4, 5) for _ in range(3)], input_size=(4,)).double()
    if fork is not None:
        net.forks[0] = fork
    return net


def step_of(net) -> Step:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    return forward(net, images, torch.randint(5, (6,), generator=generator))


def check(net, objective=losses_of):
    """All weights 1: the gradient of the sum; and the rows of the plain loop."""
    rows = plain_loop(net, objective(step_of(net)))
    names = {p: n for n, p in net.named_parameters()}
    step = step_of(net)
    for block in Jacobian(net).blocks(objective(step), step, PLAIN):
        for j, row in zip(block.owners, block.rows, strict=True):
            for p, g in zip(block.parameters, row, strict=True):
                if names[p] in rows[j]:
                    torch.testing.assert_close(g, rows[j][names[p]], rtol=1e-12, atol=1e-14)
        block.combine(torch.ones(len(block.owners)))
    found = {n: p.grad for n, p in net.named_parameters()}
    torch.stack(objective(step_of(net))).sum().backward(inputs=[*net.parameters()])
    for n, p in net.named_parameters():
        assert p.grad is found[n]  # added to in place
    net.zero_grad()
    torch.stack(objective(step_of(net))).sum().backward()
    for n, p in net.named_parameters():
        torch.testing.assert_close(found[n], 2 * p.grad, rtol=1e-10, atol=1e-12)


def test_exits_in_a_row_cost_a_triangle_of_stages():
    net = build("vgg7")
    passes = plan(forward(net, *batch("vgg7", net)))
    count = net.num_exits
    stages = [one for one in passes if one.from_level is not None]
    assert [one.loss for one in passes if one.from_level is None] == [5, 4, 3, 2, 1, 0]  # deepest first
    assert [(one.from_level, one.loss) for one in stages] == [
        (k, j) for k in reversed(range(count - 1)) for j in range(k, count)
    ]
    assert all(one.frees == (one.loss == count - 1) for one in stages)  # the last one frees the stage


@pytest.mark.parametrize("name", ["resnet18", "msdnet", "attached"])
def test_the_graph_is_freed_stage_by_stage(name):
    net = build(name)
    passes = plan(forward(net, *batch(name, net)))
    assert {one.from_level for one in passes if one.frees and one.from_level is not None} == set(
        range(net.num_exits - 1)
    )


def test_no_trunk_is_a_pass_for_each_loss():
    net = build("vgg7")
    passes = plan(forward(net, *batch("vgg7", net), trunk=False))
    assert [(one.loss, one.from_level, one.frees) for one in passes] == [
        (j, None, j == 0) for j in (5, 4, 3, 2, 1, 0)
    ]


def test_features_made_from_each_other_are_no_cut():
    """Without nodes of their own, the way to one tensor of the tuple leads through the other."""
    net = build("attached").double()
    images, targets = batch("attached", net)
    x, outputs, trunk = images, [], []
    for stage, head in zip(net.stages, net.heads, strict=True):
        x = stage(x)
        trunk.append(x)
        outputs.append(head(x))
    step = exit_step(net, outputs, targets, trunk=trunk[:-1])
    assert isinstance(trunk[1], tuple)
    assert all(one.from_level is None for one in plan(step))
    rows = plain_loop(net, losses_of(forward(net, images, targets)))
    names = {p: n for n, p in net.named_parameters()}
    for block in Jacobian(net).blocks(losses_of(step), step, PLAIN):
        for j, row in zip(block.owners, block.rows, strict=True):
            for p, g in zip(block.parameters, row, strict=True):
                torch.testing.assert_close(g, rows[j][names[p]], rtol=1e-12, atol=1e-14)


class Squared(nn.Module):
    """Head and next stage read one operation that keeps its input."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = x.exp()
        return y, y


class SharedLayer(Fork):
    """The same with parameters, which the first two exits and all later ones share."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        y = self.layer(feature).tanh()
        return y, y


@pytest.mark.parametrize("fork", [Squared, SharedLayer])
def test_a_fork_that_computes_is_not_freed_too_early(fork):
    check(line(fork().double()))


def test_a_stage_may_write_to_its_input():
    """The head has read the feature before; what the step holds is the feature afterwards."""
    net = line(stage=lambda: nn.ReLU(inplace=True))
    net.stages[0] = net.stages[0][:1]  # nothing may have kept its output
    for k, head in enumerate(net.heads):
        net.heads[k] = nn.Sequential(Doubled(), head)
    check(net)


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def test_losses_may_share_operations():
    def objective(step):
        """Both of the first losses read one log-softmax, of output 0 and detached of output 1."""
        together = torch.cat([step.outputs[0], step.outputs[1].detach()]).log_softmax(1)
        first = F.nll_loss(together, step.targets["label"].repeat(2))
        return [first, losses_of(step)[1], first.square() + losses_of(step)[2]]

    check_sum(line(), objective)


def test_a_loss_may_read_several_stages():
    def objective(step):
        hint = (step.trunk[0] - step.trunk[1]).square().mean()
        losses = losses_of(step)
        return [losses[0], losses[1], losses[2] + hint]

    check_sum(line(), objective)


def test_a_loss_may_be_a_penalty():
    def objective(step):
        losses = losses_of(step)
        return [losses[0] + step.net.stages[2][1].weight.square().sum(), *losses[1:]]

    check_sum(line(), objective)


def check_sum(net, objective):
    for trunk in (True, False):
        for shared, lean in (("per_stage", False), ("union", False), ("union", True), ("first", False)):
            net.zero_grad()
            step = step_of(net)
            losses = objective(step)
            step = step if trunk else dataclasses.replace(step, trunk=None)
            for block in Jacobian(net, shared, lean=lean).blocks(losses, step, PLAIN):
                block.combine(torch.ones(len(block.owners)))
            found = {n: p.grad for n, p in net.named_parameters()}
            net.zero_grad()
            torch.stack(objective(step_of(net))).sum().backward()
            for n, p in net.named_parameters():
                torch.testing.assert_close(found[n], p.grad, rtol=1e-10, atol=1e-12, msg=n)


def test_gradients_that_share_memory_are_parted():
    """a + b sends one and the same gradient to both; combining must not scale it twice."""

    class Biases(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.ones(6, 4)), nn.Parameter(torch.ones(6, 4))

        def forward(self, x):
            return (self.a + self.b) * x

    net = line()
    net.stages[0] = Biases().double()
    net.owners = lambda: {  # its parameters have the shape of a batch
        n: frozenset(range(int(n.split(".")[1]), 3))
        if n.startswith("stages")
        else frozenset({int(n.split(".")[1])})
        for n, _ in net.named_parameters()
    }
    rows = plain_loop(net, losses_of(step_of(net)))
    step = step_of(net)
    for block in Jacobian(net).blocks(losses_of(step), step, PLAIN):
        block.combine(torch.full((len(block.owners),), 3.0))
    for name in ("stages.0.a", "stages.0.b"):
        torch.testing.assert_close(net.get_parameter(name).grad, 3 * sum(row[name] for row in rows))
