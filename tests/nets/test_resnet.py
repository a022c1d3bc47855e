import math

import torch
import torch.nn.functional as F
from torch import nn

from offramp.nets import resnet18
from offramp.nets.zoo.resnet import Attention, BasicBlock


def norm(layer, x):
    return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias)


def shake(net):
    """Give the norm layers statistics of their own."""
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            for t in (m.weight, m.bias, m.running_mean):
                nn.init.normal_(t, 1, 0.3)
            nn.init.uniform_(m.running_var, 0.5, 2)
    return net.double().eval()


def test_the_features_halve_in_size_and_double_in_width():
    net, shapes = resnet18(width=4).eval(), []
    x = torch.randn(1, 3, 32, 32)
    for stage in net.stages:
        x = stage(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(4, 32, 32), (8, 16, 16), (16, 8, 8), (32, 4, 4)]


def test_a_block_by_hand():
    torch.manual_seed(0)
    block = shake(BasicBlock(3, 5, stride=2))
    x = torch.randn(2, 3, 8, 8, dtype=torch.double)
    conv1, norm1, _, conv2, norm2 = block.main
    conv0, norm0 = block.shortcut
    main = F.relu(norm(norm1, F.conv2d(x, conv1.weight, stride=2, padding=1)))
    main = norm(norm2, F.conv2d(main, conv2.weight, padding=1))
    expected = F.relu(main + norm(norm0, F.conv2d(x, conv0.weight, stride=2)))
    torch.testing.assert_close(block(x), expected)


def test_an_attention_head_by_hand():
    torch.manual_seed(0)
    head = shake(resnet18(num_classes=3, width=2)).heads[2]
    x = torch.randn(2, 8, 8, 8, dtype=torch.double)

    def separable(seq, x):
        depth1, point1, norm1, _, depth2, point2, norm2, _ = seq
        x = F.conv2d(F.conv2d(x, depth1.weight, stride=2, padding=1, groups=8), point1.weight)
        x = F.relu(norm(norm1, x))
        x = F.conv2d(F.conv2d(x, depth2.weight, padding=1, groups=8), point2.weight)
        return F.relu(norm(norm2, x))

    gate, down, _, _, linear = head
    attention = F.relu(norm(gate.map[1], separable(gate.map[0], x)))
    attention = F.interpolate(attention, scale_factor=2, mode="bilinear").sigmoid()
    torch.testing.assert_close(gate(x), attention * x)
    pooled = separable(down, attention * x).mean((2, 3))
    torch.testing.assert_close(head(x), pooled @ linear.weight.t() + linear.bias)


def test_early_heads_reach_the_width_of_the_last_stage():
    *early, _ = resnet18(width=2).heads
    separable = [
        sum(m.groups > 1 for m in head[1:].modules() if isinstance(m, nn.Conv2d)) // 2 for head in early
    ]
    assert separable == [3, 2, 1]
    assert all(isinstance(head[0], Attention) for head in early)
    assert [head[-1].in_features for head in early] == [16, 16, 16]


def test_convolutions_start_from_kaiming_fan_out():
    torch.manual_seed(0)
    for name, m in resnet18(width=32).named_modules():
        if isinstance(m, nn.Conv2d) and m.weight.numel() > 10_000:
            fan_out = m.out_channels * m.kernel_size[0] ** 2
            assert abs(m.weight.std().item() / math.sqrt(2 / fan_out) - 1) < 0.05, name
