"""Shallow-Deep Networks against their public implementation."""

import pytest
from parity import CHECKS, check_training, load
from torch import nn

from offramp.counting import cost
from offramp.nets import vgg_sdn
from offramp.nets.zoo._sdn import MixedPool


def without_dropout(net):
    for layer in net.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return net.double()


@pytest.mark.parametrize("check", CHECKS)
def test_vgg_sdn(check):
    check(load("vgg16_sdn_cifar100"), without_dropout(vgg_sdn()))


def test_the_number_of_parameters():
    assert cost(vgg_sdn()).params == load("vgg16_sdn_cifar100")["structure"]["n_params"]


def test_the_comparison_notices_shares_the_wrong_way_round():
    net = without_dropout(vgg_sdn())
    for layer in net.modules():
        if isinstance(layer, MixedPool):
            layer.max, layer.average = layer.average, layer.max
    with pytest.raises(AssertionError, match="exit 1"):
        check_training(load("vgg16_sdn_cifar100"), net)
