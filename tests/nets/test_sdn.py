"""Shallow-Deep Networks: where their exits are, what these read, and how everything starts."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from offramp import UserError
from offramp.counting import cost
from offramp.nets import create, resnet_sdn, vgg_sdn, wideresnet_sdn
from offramp.nets.zoo._sdn import MixedPool, internal_classifier
from offramp.nets.zoo.resnet import BasicBlock
from offramp.nets.zoo.wideresnet_sdn import PreActivationBlock

NAMES = ["vgg_sdn", "resnet_sdn", "wideresnet_sdn"]


def shape_only(name, **arguments):
    with torch.device("meta"):
        return create(name, **arguments)


def kinds(module, kind):
    return [m for m in module.modules() if isinstance(m, kind)]


def test_mixed_pooling_by_hand():
    pool = MixedPool(3).double()
    x = torch.randn(2, 4, 7, 6, dtype=torch.double)
    windows = x[:, :, :6].unflatten(3, (2, 3)).unflatten(2, (2, 3)).movedim(3, 4).flatten(4)
    alpha = pool.alpha.item()
    expected = alpha * windows.max(-1).values + (1 - alpha) * windows.mean(-1)
    torch.testing.assert_close(pool(x), expected)
    grad = torch.autograd.grad(pool(x).sum(), pool.alpha)[0]
    torch.testing.assert_close(grad, (windows.max(-1).values - windows.mean(-1)).sum().reshape(1))


def test_the_share_of_max_pooling_starts_anywhere_between_0_and_1():
    torch.manual_seed(0)
    shares = torch.stack([MixedPool(2).alpha.detach() for _ in range(200)])
    assert shares.min() >= 0 and shares.max() < 1
    assert abs(shares.mean().item() - 0.5) < 0.1 and abs(shares.std().item() - math.sqrt(1 / 12)) < 0.03


@pytest.mark.parametrize(
    ("side", "window", "reads"),
    [(32, 8, 16), (18, 4, 16), (8, 2, 16), (7, 1, 49), (4, 1, 16), (3, None, 9), (2, None, 4)],
)
def test_classifiers_pool_by_a_quarter_of_the_side(side, window, reads):
    head = internal_classifier(3, side, num_classes=5)
    pools = kinds(head, MixedPool)
    assert [pool.max.kernel_size for pool in pools] == [pool.average.kernel_size for pool in pools]
    assert [pool.max.kernel_size for pool in pools] == ([] if window is None else [window])
    assert head[-1].in_features == 3 * reads
    assert head(torch.randn(2, 3, side, side)).shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "layers", "reads"),
    [
        ("vgg_sdn", [2, 2, 2, 1, 2, 1, 3], [1024, 2048, 4096, 4096, 8192, 2048, 512]),
        ("resnet_sdn", [4, 4, 4, 4, 4, 4, 3], [256, 256, 512, 512, 1024, 1024, 64]),
        ("wideresnet_sdn", [3, 2, 2, 2, 2, 2, 2], [1024, 1024, 2048, 2048, 4096, 4096, 256]),
    ],
)
def test_exits_and_what_their_last_layers_read(name, layers, reads):
    net = shape_only(name)
    kind = {"vgg_sdn": nn.Conv2d, "resnet_sdn": BasicBlock}.get(name, PreActivationBlock)
    assert [len(kinds(stage, kind)) for stage in net.stages] == layers
    assert [head[-1].in_features for head in net.heads] == reads
    assert len(kinds(net.heads, MixedPool)) == (5 if name == "vgg_sdn" else 6)


def test_a_layer_of_vgg_pools_before_its_exit():
    vgg = vgg_sdn(width=2)
    unit = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    parts = [[type(p) for p in layer] for stage in vgg.stages for layer in stage]
    pooled = [i for i, p in enumerate(parts, start=1) if p == [*unit, nn.MaxPool2d]]
    assert pooled == [2, 4, 7, 10, 13]
    assert [p for p in parts if nn.MaxPool2d not in p] == [unit] * 8
    names = [type(layer).__name__ for layer in vgg.heads[-1]]
    assert names == ["Flatten", "Linear", "ReLU", "Dropout", "Linear", "Dropout", "Linear"]
    assert {layer.p for layer in kinds(vgg, nn.Dropout)} == {0.5}


@pytest.mark.parametrize(("reads", "stride"), [(5, 1), (3, 1), (3, 2)])
def test_a_pre_activation_block_by_hand(reads, stride):
    torch.manual_seed(0)
    block = PreActivationBlock(reads, 5, stride).double().eval()
    norm1, _, conv1, dropout, norm2, _, conv2 = block.main
    for norm in (norm1, norm2):
        for t in (norm.weight, norm.bias, norm.running_mean):
            nn.init.normal_(t, 1, 0.3)
    x = torch.randn(2, reads, 8, 8, dtype=torch.double)

    def activated(norm, x):
        return F.relu(F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias))

    y = F.conv2d(activated(norm1, x), conv1.weight, conv1.bias, padding=1)
    y = F.conv2d(activated(norm2, y), conv2.weight, conv2.bias, stride=stride, padding=1)
    if reads == 5:
        assert not list(block.shortcut.parameters())
        expected = x + y
    else:
        expected = F.conv2d(x, block.shortcut.weight, block.shortcut.bias, stride=stride) + y
    torch.testing.assert_close(block(x), expected)
    assert block(x).min() < 0  # no ReLU after the sum
    assert dropout.p == 0.3


@pytest.mark.parametrize("name", NAMES)
def test_owners(name):
    """Shares over windows of one pixel change nothing, so no loss owns them."""
    torch.manual_seed(0)
    net = create(name, num_classes=3, width=1)
    inert = {
        f"heads.{k}.0.alpha"
        for k, head in enumerate(net.heads)
        if isinstance(head[0], MixedPool) and head[0].max.kernel_size == 1
    }
    assert len(inert) == (2 if name == "vgg_sdn" else 0)
    for parameter, indices in net.owners().items():
        part, k = parameter.split(".")[0], int(parameter.split(".")[1])
        expected = set(range(k, 7)) if part == "stages" else {k}
        assert indices == (set() if parameter in inert else expected), parameter


@pytest.mark.parametrize(("build", "biases"), [(vgg_sdn, True), (resnet_sdn, False), (wideresnet_sdn, True)])
def test_convolutions_start_from_kaiming_fan_out(build, biases):
    torch.manual_seed(0)
    for name, m in build(num_classes=10).named_modules():
        if isinstance(m, nn.Conv2d):
            assert (m.bias is not None) == biases, name
            if m.weight.numel() > 10_000:
                fan_out = m.out_channels * m.kernel_size[0] ** 2
                assert abs(m.weight.std().item() / math.sqrt(2 / fan_out) - 1) < 0.05, name


def test_what_else_starts_as_published():
    torch.manual_seed(0)
    vgg, resnet, wide = (create(name, num_classes=10) for name in NAMES)
    assert not any(m.bias.any() for m in kinds(vgg, nn.Conv2d | nn.Linear))
    assert all(abs(m.weight.std().item() / 0.01 - 1) < 0.05 for m in kinds(vgg, nn.Linear))
    narrow = vgg_sdn(num_classes=10, width=16)
    assert all(abs(m.weight.std().item() / 0.02 - 1) < 0.05 for m in kinds(narrow, nn.Linear))
    assert not any(m.bias.any() for m in kinds(wide, nn.Linear))
    assert all(m.bias.any() for m in kinds(wide, nn.Conv2d) + kinds(resnet, nn.Linear))
    for linear in kinds(wide.heads[0], nn.Linear) + kinds(resnet.heads[0], nn.Linear):
        assert abs(linear.weight.std().item() * math.sqrt(3 * linear.in_features) - 1) < 0.05


@pytest.mark.parametrize("head_reads", ["sum", "relu"])
def test_internal_classifiers_of_a_resnet_read_the_sum_before_or_after_its_relu(head_reads):
    torch.manual_seed(0)
    net = resnet_sdn(num_classes=3, width=2, head_reads=head_reads).double().eval()
    x = torch.randn(2, 3, 32, 32, dtype=torch.double)
    blocks = kinds(net.stages, BasicBlock)
    assert len(blocks) == 27
    h, read = net.stages[0][0](x), []
    for number, block in enumerate(blocks, start=1):
        total = block.main(h) + block.shortcut(h)
        h = total.clamp(min=0)
        if number in (4, 8, 12, 16, 20, 24):
            read.append(total if head_reads == "sum" else h)
    assert (min(map(torch.min, read)) < 0) == (head_reads == "sum")
    expected = [head(feature) for head, feature in zip(net.heads, [*read, h], strict=True)]
    torch.testing.assert_close(net(x), expected, rtol=1e-12, atol=1e-12)


def test_both_readings_of_a_resnet_have_the_same_weights_and_last_exit():
    torch.manual_seed(0)
    published, other = resnet_sdn(width=2).eval(), resnet_sdn(width=2, head_reads="relu").eval()
    other.load_state_dict(published.state_dict())
    x = torch.randn(2, 3, 32, 32)
    ours, theirs = published(x), other(x)
    assert [torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)] == [False] * 6 + [True]
    assert cost(published) == cost(other)


def test_a_reading_that_is_none_is_refused():
    with pytest.raises(UserError, match="head_reads of resnet_sdn is sum or relu, got 'both'"):
        resnet_sdn(head_reads="both")
