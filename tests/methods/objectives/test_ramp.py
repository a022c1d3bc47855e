"""The ramp against the public code's weights, and its shares of operations counted by hand."""

import pytest
import torch
from steps import exit_step
from torch import nn

from offramp.errors import UserError
from offramp.methods.objectives import TaskLoss
from offramp.methods.objectives.ramp import Ramp


def step_of(net, **when):
    generator = torch.Generator().manual_seed(0)
    outputs = [torch.randn(4, 10, dtype=torch.float64, generator=generator) for _ in range(net.num_exits)]
    return exit_step(net, outputs, torch.arange(4), **when)


def factors(losses, step):
    return [(a / b).item() for a, b in zip(losses(step), TaskLoss()(step), strict=True)]


@pytest.mark.parametrize("net_name", ["vgg_sdn", "resnet_sdn", "wideresnet_sdn"])
@pytest.mark.parametrize("first_epoch, column", [(1, "sdn_original"), (0, "metagf")])
def test_ramp_is_the_public_code(schedule, line, first_epoch, column, net_name):
    net = line(*[2] * 7)
    net.spec = {"net": net_name}
    losses = Ramp(first_epoch=first_epoch).bind(net)
    for epoch, expected in enumerate(schedule[column]):
        found = factors(losses, step_of(net, epoch=epoch, epochs=schedule["epochs"]))
        torch.testing.assert_close(found, [*expected, 1.0], rtol=1e-12, atol=0)


def test_elsewhere_the_largest_weight_is_the_share_of_operations(line):
    net = line(8, 4, 6)
    # stage and head, multiply-accumulates, heads on the way included
    at = [8 * 8 + 80, 8 * 8 + 80 + 8 * 4 + 40, 8 * 8 + 80 + 8 * 4 + 40 + 4 * 6 + 60]
    shares = [at[0] / at[2], at[1] / at[2]]
    losses = Ramp().bind(net)
    found = factors(losses, step_of(net, epoch=9, epochs=10))
    torch.testing.assert_close(found, [*shares, 1.0], rtol=1e-12, atol=0)
    found = factors(losses, step_of(net, epoch=1, epochs=10))
    torch.testing.assert_close(found, [*(0.01 + 0.2 * tau for tau in shares), 1.0], rtol=1e-12, atol=0)


def test_an_sdn_of_another_depth_has_no_published_weights(line):
    net = line(2, 2)
    net.spec = {"net": "vgg_sdn"}
    torch.testing.assert_close(
        factors(Ramp().bind(net), step_of(net, epoch=9, epochs=10)), [0.5, 1.0], rtol=1e-12, atol=0
    )


def test_counting_anew_gives_the_same(line):
    step = step_of(net := line(8, 4, 6), epoch=3, epochs=10, label_smoothing=0.1)
    assert torch.equal(torch.stack(Ramp()(step)), torch.stack(Ramp().bind(net)(step)))


def test_a_net_without_stages_is_refused():
    with pytest.raises(UserError, match="Linear have none"):
        Ramp().bind(nn.Linear(4, 10))
