"""`shallow-kd` is the composition of gradient equilibrium and distillation that was measured."""

import copy

import pytest
import torch

from offramp import UserError, method
from offramp.nets import MultiExitNet, vgg7

MEASURED = {"alpha": [0.5, 0.5, 0.5, 0, 0, 0], "weights": [1.5, 1, 1, 1, 1, 1]}


def steps(net: MultiExitNet, name: str, options: dict) -> dict[str, torch.Tensor]:
    """Weights after three steps on random images."""
    net = copy.deepcopy(net)
    bound = method(name, options).bind(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    draw = torch.Generator().manual_seed(1)
    for _ in range(3):
        images, labels = torch.rand(6, 3, 32, 32, generator=draw), torch.randint(3, (6,), generator=draw)
        optimizer.zero_grad()
        bound.backward(images, labels)
        optimizer.step()
    return dict(net.state_dict())


def test_on_six_exits_it_is_what_was_measured():
    torch.manual_seed(0)
    net = vgg7(width=2, num_classes=3)
    found = steps(net, "shallow-kd", {})
    torch.testing.assert_close(found, steps(net, "ge+kd", MEASURED), rtol=0, atol=0)
    for other in ("ge", "kd", "ge+kd"):
        assert not torch.equal(found["heads.0.2.weight"], steps(net, other, {})["heads.0.2.weight"])


def test_a_teacher_is_named_once():
    with pytest.raises(UserError, match=r"an alpha for each exit says which are taught; give `taught=.all.`"):
        method("kd", {"alpha": [0.5, 0], "taught": "half"})
    with pytest.raises(UserError, match=r"give `taught=.all.`"):
        method("shallow-kd", {"alpha": [0.5, 0.5, 0.5, 0, 0, 0]})
    with pytest.raises(UserError, match=r"taught is .deep., must be all, half or all-but-two"):
        method("kd", {"taught": "deep"})
