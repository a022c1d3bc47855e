"""Rows of a net with two tasks at each of two exits, against a plain loop."""

import pytest
import torch
from jacobian_cases import PLAIN
from torch import nn

from offramp.methods.combiners.jacobian import Jacobian
from offramp.methods.objectives import Step, TaskLoss
from offramp.nets import MultiTaskNet
from offramp.tasks import Boxes, Classification


def grid() -> MultiTaskNet:
    torch.manual_seed(0)
    stages = [nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(2)]
    outputs = {
        f"exit {k} {name}": task
        for k in (1, 2)
        for name, task in (("color", Classification(target="color")), ("box", Boxes()))
    }
    decoders = [nn.Linear(6, size) for _ in range(2) for size in (5, 4)]
    return MultiTaskNet(stages, decoders, outputs, input_size=(6,)).double()


@pytest.mark.parametrize(
    ("lacking", "wanted"),
    [
        ((), {"stages.0": (0, 1, 2, 3), "stages.1": (2, 3)}),
        (("color",), {"stages.0": (1, 3)}),  # of the second stage one row is left: its plain gradient
    ],
)
@pytest.mark.parametrize("shared", ["per_stage", "union"])
def test_rows_of_each_stage_are_those_of_the_outputs_behind_it(shared, lacking, wanted):
    net = grid()
    draws = torch.Generator().manual_seed(1)
    x = torch.randn(8, 6, generator=draws, dtype=torch.float64)
    targets = {
        "color": torch.randint(5, (8,), generator=draws),
        "box": torch.rand(8, 4, generator=draws, dtype=torch.float64),
    }
    for key in lacking:
        del targets[key]
    step = Step(net, net(x), [*net.outputs.values()], targets)
    losses = TaskLoss()(step)
    named = dict(net.named_parameters())
    rows = {
        k: dict(
            zip(
                named,
                torch.autograd.grad(loss, [*named.values()], retain_graph=True, allow_unused=True),
                strict=True,
            )
        )
        for k, loss in zip(step.present, losses, strict=True)
    }
    names = {p: n for n, p in named.items()}
    seen = set()
    for block in Jacobian(net, shared).blocks(losses, step, PLAIN):
        for k, row in zip(block.owners, block.rows, strict=True):
            for p, gradient in zip(block.parameters, row, strict=True):
                stage = names[p].rpartition(".")[0].rpartition(".")[0]
                seen.add((stage, k))
                if k in wanted[stage]:
                    torch.testing.assert_close(gradient, rows[k][names[p]])
                else:
                    assert gradient is None  # a gap in the union's row
        block.combine(torch.ones(len(block.owners), dtype=torch.float64))
    owners = {(stage, k) for stage, ks in wanted.items() for k in ks}
    assert owners <= seen
    for name, p in named.items():
        parts = [row[name] for row in rows.values() if row[name] is not None]
        assert (p.grad is None) == (not parts), name
        if parts:
            torch.testing.assert_close(p.grad, sum(parts), msg=name)
