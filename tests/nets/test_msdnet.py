import pytest
import torch
from torch import nn

from offramp.nets import msdnet_cifar, msdnet_imagenet
from offramp.nets.zoo.msdnet import Layer, Transition


def behind_stages(net, side):
    x = torch.randn(1, 3, side, side)
    for stage in net.stages:
        x = stage(x)
        yield x


@pytest.mark.parametrize(
    ("build", "read_by_heads"),
    [(msdnet_cifar, [320, 448, 320, 448, 576, 384, 512]), (msdnet_imagenet, [384, 384, 352, 304, 560])],
)
def test_channels_that_the_heads_read(build, read_by_heads):
    assert [head[1].in_channels for head in build().heads] == read_by_heads


@pytest.mark.parametrize(
    ("build", "side", "sides"),
    [
        (msdnet_cifar, 32, [(32, 16, 8)] * 2 + [(16, 8)] * 3 + [(8,)] * 2),
        (msdnet_imagenet, 224, [(56, 28, 14, 7), (28, 14, 7), (14, 7), (7,), (7,)]),
    ],
)
def test_scales_alive_behind_each_stage(build, side, sides):
    net = build(growth=2, channels=2).eval()
    found = [tuple(t.shape[-1] for t in feature) for feature in behind_stages(net, side)]
    assert found == sides


@pytest.mark.parametrize(("build", "at"), [(msdnet_cifar, [7, 13]), (msdnet_imagenet, [6, 11, 16])])
def test_transitions_follow_the_layers_that_drop_a_scale(build, at):
    layers, transitions = 0, []
    for m in build(growth=2, channels=2).modules():
        layers += isinstance(m, Layer)
        if isinstance(m, Transition):
            transitions.append(layers)
    assert transitions == at


def test_a_layer_puts_new_channels_behind_the_old_ones():
    layer = Layer(3, 2, (1, 2, 4), drop_finest=False).eval()
    scales = tuple(torch.randn(1, 3 * f, 16 // f, 16 // f) for f in (1, 2, 4))
    grown = layer(scales)
    assert [t.shape[1] for t in grown] == [5, 10, 20]
    for old, new in zip(scales, grown, strict=True):
        assert torch.equal(new[:, : old.shape[1]], old)


def test_the_channels_from_the_finer_scale_come_before_those_from_the_own_scale():
    layer = Layer(3, 2, (1, 2), drop_finest=False).eval()
    fine, coarse = torch.randn(1, 3, 8, 8), torch.randn(1, 6, 4, 4)
    plain = layer((fine, coarse))[1]
    other_fine = layer((fine + 1, coarse))[1]
    changed = (plain != other_fine).flatten(2).any(-1)[0]
    assert changed[6:8].any()
    assert not changed[8:].any()


def test_dropping_the_finest_scale_still_reads_it():
    layer = Layer(3, 2, (1, 2), drop_finest=True).eval()
    fine, coarse = torch.randn(1, 3, 8, 8), torch.randn(1, 6, 4, 4)
    (out,) = layer((fine, coarse))
    (other,) = layer((fine + 1, coarse))
    assert out.shape == (1, 10, 4, 4)
    assert not torch.equal(out, other)


def test_dropout_sits_before_each_classifier():
    net = msdnet_cifar(growth=2, channels=2, dropout=0.25)
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.25] * 7
    plain = msdnet_cifar(growth=2, channels=2)
    assert net.state_dict().keys() == plain.state_dict().keys()
