"""Fixed weights beside a balancer: they come on top, and an output whose weight is 0 is as if absent."""

import pytest
import torch
from steps import exit_step
from tiny_runs import tiny_data, tiny_net

from offramp import Recipe, fit
from offramp.methods import METHODS, method
from offramp.methods.balancers import Equal
from offramp.methods.bound import BoundMethod

BALANCERS = [name for name, made in METHODS.items() if not isinstance(made.balancer, Equal)]
RECIPE = Recipe(epochs=3, batch_size=8, lr=0.05, schedule="constant", augment="none")


def test_there_are_balancers():
    assert {"uncertainty", "imtl-l", "dwa", "random", "dtp", "famo", "gradnorm", "scalarize"} <= {*BALANCERS}


@pytest.mark.parametrize("name", BALANCERS)
def test_an_output_without_weight_gets_no_share(name):
    """The other loss is weighted as where it is the only one."""
    net = tiny_net(dropout=0.0)
    torch.manual_seed(0)
    outputs = net(torch.randn(6, 3, 8, 8))
    found = []
    for weights in ([0, 1], None):
        bound = BoundMethod(method(name, {"weights": weights} if weights else {}), net)
        step = exit_step(net, outputs, torch.arange(6) % 3)
        if weights is None:
            step = step.of([1])
            found.append(bound.balanced([step.loss(1)], step))
        else:
            losses = bound.balanced(bound.losses_of(step), step)
            assert not losses[0]
            found.append(losses[1:])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("name", BALANCERS)
def test_the_other_outputs_train(name):
    before = tiny_net(dropout=0.0).state_dict()
    recipe = RECIPE.replace(options={"weights": [1, 0]}, weight_decay=0)
    net = fit(tiny_net(dropout=0.0), tiny_data(), name, recipe, quiet=True).net
    moved = {key: float((value - before[key]).abs().max()) for key, value in net.state_dict().items()}
    assert moved["heads.1.3.weight"] == 0
    assert moved["heads.0.3.weight"] > 0.05
