import torch

import offramp
from offramp.nets import Separate, vgg7


def test_nothing_is_shared():
    torch.manual_seed(0)
    net = vgg7(num_classes=5, width=4)
    alone = Separate(net)
    x = torch.randn(4, 3, 32, 32)
    assert all(torch.equal(a, b) for a, b in zip(alone.eval()(x), net.eval()(x), strict=True))
    assert alone.num_exits == 6
    parameters = list(alone.parameters())
    for k, output in enumerate(alone(x)):
        grads = torch.autograd.grad(output.sum(), parameters, allow_unused=True)
        reached = {
            name for (name, _), g in zip(alone.named_parameters(), grads, strict=True) if g is not None
        }
        owned = {name for name, owners in alone.owners().items() if owners == {k}}
        assert reached == owned
    with torch.no_grad():
        parameters[0].zero_()
    assert net.stages[0][0].weight.any()  # the net it was made of is left alone


def test_each_network_costs_what_its_exit_alone_would():
    net = vgg7(num_classes=5, width=4)
    alone = offramp.cost(Separate(net))
    own_head = offramp.cost(net)  # thop's convention: the exit's own head only
    assert alone.exits == own_head.exits
    assert alone.params == sum(exit.params for exit in own_head.exits)
    assert alone.convention == own_head.convention
