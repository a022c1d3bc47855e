"""States of optimisers that are put back."""

import pytest
import torch

from offramp.restoring import load_optimizer


def sgd(lr=0.1):
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    optimizer = torch.optim.SGD([parameter], lr=lr, momentum=0.9)
    optimizer.step()
    return optimizer


@pytest.mark.parametrize("name", ["dampening", "maximize", "weight_decay"])
def test_a_setting_that_the_state_lacks_is_the_optimiser_s_own(name):
    state, optimizer = sgd().state_dict(), sgd()
    del state["param_groups"][0][name]
    load_optimizer(optimizer, state)
    assert optimizer.param_groups[0][name] == sgd().param_groups[0][name]
    optimizer.step()
