"""Deep Feature Surgery against its public implementation: logits, gradients, and the reach of every loss."""

import pytest
from parity import CHECKS, check_each_exit, check_evaluation, check_training, load

from offramp.forks import partition
from offramp.nets import msdnet_cifar, vgg7


@pytest.mark.parametrize("impl", ["fused", "split", "cat"])
@pytest.mark.parametrize("check", CHECKS)
def test_vgg7(check, impl):
    check(load("dfs_vgg7"), partition(vgg7(), impl=impl).double())


@pytest.mark.parametrize("check", [check_evaluation, check_training, check_each_exit])
def test_vgg7_without_referencing_by_zeros(check):
    """Layers that are fed zeros and layers that are sliced compute the same."""
    check(load("dfs_vgg7_nofr"), partition(vgg7(), reference="zero").double())


@pytest.mark.parametrize("impl", ["fused", "cat"])
@pytest.mark.parametrize("check", CHECKS)
def test_msdnet_as_published_in_code(check, impl):
    """There the own loss also trains the shared channels, and the finer scales are left alone."""
    check(load("dfs_msdnet_cifar100"), partition(msdnet_cifar(), own_to_shared=1, impl=impl).double())
