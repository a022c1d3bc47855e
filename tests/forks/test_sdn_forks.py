"""Deep Feature Surgery on Shallow-Deep Networks, where a mixed pooling or a norm may read the fork first."""

import pytest
import torch
from handing import detached, handed
from nets import batch, by_hand, gradients, losses
from torch import nn

from offramp.counting import training_macs
from offramp.forks import Partition, partition, remove
from offramp.forks.feature import cut_of
from offramp.nets import create
from offramp.nets.zoo._sdn import MixedPool, internal_classifier

WIDTHS = {"vgg_sdn": 4, "resnet_sdn": 4, "wideresnet_sdn": 1}


def small(name):
    torch.manual_seed(0)
    net = create(name, num_classes=5, width=WIDTHS[name]).double()
    for layer in net.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return net


def test_mixed_pooling_needs_the_gradient_for_its_own_share():
    """Also of channels that nobody before it wants: whatever reads the mix must compute all of it."""
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64, requires_grad=True)
    pool = internal_classifier(4, 8, num_classes=3).double()[0]
    assert isinstance(pool, MixedPool)
    ours, theirs = pool(handed(x, [1, 0, 1, 1])), pool(detached(x, [1, 0, 1, 1]))
    assert cut_of(ours) is None
    got, expected = (torch.autograd.grad(y.square().sum(), [x, pool.alpha]) for y in (ours, theirs))
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("impl", ["fused", "split", "cat"])
@pytest.mark.parametrize("name", WIDTHS)
def test_gradients_are_those_of_surgery_by_hand(name, impl):
    net = small(name)
    options = Partition()
    x, masks = batch()[0], {}
    with torch.no_grad():
        for exit, stage in enumerate(net.stages[:-1], start=1):
            x = stage(x)
            masks[exit] = options.mask(x.shape[1], exit)
    expected = gradients(net, torch.stack(by_hand(net, masks)).sum())
    values = [loss.detach() for loss in by_hand(net, masks)]
    partition(net, impl=impl)
    found = losses(net)
    torch.testing.assert_close(torch.stack(found), torch.stack(values), rtol=1e-12, atol=0)
    grads = gradients(net, torch.stack(found).sum())
    scale = max(float(g.abs().max()) for g in expected.values())
    for key, grad in expected.items():
        torch.testing.assert_close(grads[key], grad, rtol=1e-9, atol=1e-12 * scale, msg=key)
    assert any(grads[f"heads.{k}.0.alpha"].any() for k in range(3))


def of_layer(conv, side):
    """Multiply-accumulates of the whole input gradient."""
    return side**2 * conv.weight.numel()


@pytest.mark.parametrize("beta", [0.25, 0.5])
def test_vgg_saves_what_the_same_rule_predicts(beta):
    """The convolution behind each exit, and the one classifier that does not pool."""
    net = create("vgg_sdn", num_classes=10, width=8)
    joint = training_macs(net)
    behind = zip([16, 8, 8, 4, 4, 2], net.stages[1:], strict=True)
    saved = sum((1 - beta) * of_layer(stage[0][0], side) for side, stage in behind)
    saved += beta * net.heads[5][-1].weight.numel()
    assert not any(isinstance(layer, MixedPool) for layer in net.heads[5])
    assert joint - training_macs(partition(net, beta=beta)) == saved
    assert training_macs(remove(net)) == joint


def test_resnet_saves_in_the_first_convolution_behind_each_exit():
    net = create("resnet_sdn", num_classes=10, width=8)
    joint = training_macs(net)
    behind = zip([32, 32, 16, 16, 8, 8], net.stages[1:], strict=True)
    saved = sum(of_layer(stage[1].main[0], side) for side, stage in behind) // 2
    assert joint - training_macs(partition(net)) == saved > 0


def test_wideresnet_saves_in_one_shortcut():
    """Elsewhere a norm is the first to read the fork, and needs the whole gradient for its parameters."""
    net = create("wideresnet_sdn", num_classes=10, width=2)
    joint = training_macs(net)
    saved = of_layer(net.stages[2][0].shortcut, 16) // 2
    assert joint - training_macs(partition(net)) == saved > 0
