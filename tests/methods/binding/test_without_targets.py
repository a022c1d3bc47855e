"""A batch without any target: every method has no losses for it, and leaves the gradients alone."""

from __future__ import annotations

import copy

import pytest
import torch
from binding_cases import batches, grads_of, tiny_net
from torch.testing import assert_close

from offramp.methods import method
from offramp.methods.loops import Minibatch
from offramp.methods.table import METHODS

COMBINED = ["dfs+kd", "ge+byot-iccv", "uncertainty+kd", "kd-msdnet+cagrad", "dfs+byot+pcgrad"]


OWN_LOOP = [
    name
    for name, row in METHODS.items()
    if isinstance(row.loop, Minibatch)
    and not row.separate
    and not row.balancer.looks_back
    and "regime" not in row.axes
]


@pytest.mark.parametrize("name", [*OWN_LOOP, *COMBINED])
def test_no_losses_and_no_gradients(name):
    net = tiny_net()
    bound = method(name).bind(net).double()
    bound.optimizer(torch.optim.Adam(net.parameters()))
    bound.progress(0, 2)
    ((images, labels),) = batches(1)
    before = copy.deepcopy(bound.state_dict())
    assert list(bound.losses(images, {})) == []
    assert bound.backward(images, {}).isnan().all()
    assert not any(grad is not None for grad in grads_of(net, bound))
    assert_close(bound.state_dict(), before)
    assert bound.backward(images, labels).isfinite().all()  # and goes on
