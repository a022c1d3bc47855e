"""The networks against their public implementations."""

import pytest
from parity import CHECKS, check_training, load

from offramp.counting import cost
from offramp.nets import create, msdnet_cifar, vgg7


@pytest.mark.parametrize("check", CHECKS)
def test_vgg7(check):
    check(load("dfs_vgg7_plain"), vgg7().double())


@pytest.mark.parametrize("check", CHECKS)
def test_msdnet_cifar(check):
    check(load("msdnet_cifar100"), msdnet_cifar().double())


@pytest.mark.parametrize("check", CHECKS)
def test_vgg7_without_referencing(check):
    """The reference keeps the halves that nobody reads; here they do not exist."""
    net = vgg7(slice_beta=0.5).double()
    slices = {}
    for i, full in enumerate(vgg7().stages):
        channels = full[0].out_channels
        if i < 5:
            slices[f"heads.{i}.2.weight"] = ((100, channels), slice(channels // 2, None))
        if i > 0:
            slices[f"stages.{i}.0.weight"] = (tuple(full[0].weight.shape), slice(full[0].in_channels // 2))
    check(load("dfs_vgg7_nofr"), net, slices)


def test_the_comparison_notices_a_wrong_gradient():
    """Same logits, but one stage does not learn from the later exits."""
    net = vgg7().double()
    forward = net.forks[2].forward
    net.forks[2].forward = lambda x: (forward(x)[0], x.detach())
    with pytest.raises(AssertionError, match="norms of"):
        check_training(load("dfs_vgg7_plain"), net)


@pytest.mark.parametrize(
    ("golden", "name", "num_classes"),
    [
        ("msdnet_cifar100", "msdnet_cifar", 100),
        ("msdnet_cifar10", "msdnet_cifar", 10),
        ("msdnet_imagenet", "msdnet_imagenet", 1000),
    ],
)
def test_operations_of_msdnet(golden, name, num_classes):
    reference = load("op_counts")[golden]
    found = cost(create(name, num_classes=num_classes))
    assert [e.flops for e in found.exits] == reference["ops"]
    assert [e.params for e in found.exits] == reference["params"]
