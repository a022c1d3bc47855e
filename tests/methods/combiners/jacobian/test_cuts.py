"""Where the engine cuts the graph."""

from __future__ import annotations

import pytest
import torch
from jacobian_cases import forward, losses_of
from torch import nn

from offramp.methods.combiners.jacobian._cuts import choose_cuts
from offramp.nets import MultiExitNet


def cuts(widths, images, **options):
    stages = [nn.Sequential(nn.Linear(a, b), nn.Tanh()) for a, b in zip((4, *widths), widths, strict=False)]
    net = MultiExitNet(stages, [nn.Linear(width, 5) for width in widths], input_size=(4,))
    step = forward(net, torch.randn(images, 4), torch.zeros(images, dtype=torch.long))
    losses = losses_of(step)
    need = [dict.fromkeys([*net.stages[: j + 1].parameters(), *net.heads[j].parameters()]) for j in range(4)]
    return choose_cuts(losses, step.trunk, need, **options)


@pytest.mark.parametrize("options", [{}, {"graph_stays": True}])
def test_many_parameters_and_small_features_are_cut(options):
    assert cuts((256, 256, 256, 256), 2, **options) == [0, 1, 2]


def test_large_features_and_few_parameters_are_not():
    assert cuts((8, 8, 8, 8), 4096, graph_stays=True) == []


def test_where_features_are_small_only():
    assert 0 not in cuts((512, 8, 8, 8), 4096) and 2 in cuts((512, 8, 8, 8), 4096)


def test_a_cut_that_drops_no_rows_and_frees_nothing_is_left_out():
    assert cuts((64, 64, 64, 64), 64, graph_stays=True, rows_stay=True) == []
