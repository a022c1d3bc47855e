"""Operations of a training step: the counts of every layer's shapes, and the paper's model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from offramp.counting import paper_operations, training_macs
from offramp.forks import partition, remove
from offramp.nets import MultiExitNet, create

BETAS = (0.1, 0.3, 0.5, 0.7, 0.9)


def test_vgg7_saves_what_the_layers_shapes_say():
    """Forward and weight gradient F each; input gradient F round(beta C) / C, heads (C - C+) K (by hand)."""
    net = create("vgg7")
    maps = {1: 32, 2: 32, 3: 16, 4: 16, 5: 8, 6: 8}
    conv = {i: maps[i] ** 2 * s[0].weight.numel() for i, s in enumerate(net.stages, 1)}
    head = {i: h[2].weight.numel() for i, h in enumerate(net.heads, 1)}
    joint = 3 * sum(conv.values()) - conv[1] + 3 * sum(head.values())
    assert training_macs(net) == joint == 456_792_576
    for beta, published in zip(BETAS, (320.684, 350.753, 381.263, 411.774, 441.842), strict=True):
        kept = {i: round(beta * s[0].out_channels) / s[0].out_channels for i, s in enumerate(net.stages, 1)}
        saved = sum((1 - kept[i - 1]) * conv[i] for i in range(2, 7)) + sum(
            kept[i] * head[i] for i in range(1, 6)
        )
        partition(net, beta=beta)
        counted = training_macs(net)
        assert counted == pytest.approx(joint - saved, abs=1)
        assert counted / 1e6 == pytest.approx(published, abs=5e-4)
        remove(net)


@pytest.mark.parametrize(
    ("name", "own_to_shared", "percent"),
    [
        ("resnet18", 0, {0.1: 3.3, 0.5: 1.8}),
        ("msdnet_cifar", 0, {0.5: 6.7, 0.9: 5.1}),
        ("msdnet_cifar", 1, {0.1: 7.7, 0.5: 4.9}),
    ],
)
def test_the_fused_fork_finds_its_layers_elsewhere(name, own_to_shared, percent):
    """Against upper bounds counted by hand for channel-aware nets, to their last printed digit."""
    net = create(name)
    joint = training_macs(net)
    for beta, expected in percent.items():
        saved = 100 * (1 - training_macs(partition(net, beta=beta, own_to_shared=own_to_shared)) / joint)
        assert saved == pytest.approx(expected, abs=0.06)
        remove(net)


def test_cat_saves_nothing_and_split_as_much_as_fused():
    net = create("vgg7", width=16)
    joint = training_macs(net)
    counts = {}
    for impl in ("fused", "split", "cat"):
        counts[impl] = training_macs(partition(net, impl=impl))
        remove(net)
    assert counts["cat"] == joint
    assert counts["fused"] == counts["split"] < joint


def test_a_user_s_net_saves_what_the_same_rule_predicts():
    """A block and a head whose first convolutions read the fork, one of them through a ReLU."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main, self.deeper = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
            self.relu = nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.deeper(self.relu(x + self.main(self.relu(x))))

    def head() -> nn.Module:
        return nn.Sequential(nn.Conv2d(8, 6, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))

    net = MultiExitNet([nn.Conv2d(3, 8, 3, padding=1), Block()], [head(), head()], input_size=(3, 4, 4))
    joint = training_macs(net)
    partition(net, beta=0.25)
    # The block's main convolution needs 2 of 8 input gradients, the head's convolution the other 6.
    saved = 16 * (8 * 8 * 9 * 6 // 8 + 8 * 6 * 2 // 8)
    assert joint - training_macs(net) == saved


def test_counting_leaves_no_trace():
    net = create("vgg7", width=8).eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    training_macs(net)
    assert not net.training
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize(("exits", "percent"), [(4, 13.04), (5, 13.79), (6, 14.29), (7, 14.63), (13, 15.58)])
def test_the_paper_s_model(exits, percent):
    count = paper_operations(exits)
    assert (count.joint, count.dfs) == (12 * exits - 2, 10 * exits)
    assert round(100 * count.saving, 2) == percent
