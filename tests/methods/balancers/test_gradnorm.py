"""GradNorm against autograd through the norm, its fixed points, and a step done by hand."""

import gc

import pytest
import torch
from steps import exit_step
from torch import nn

from offramp import UserError
from offramp.methods import method
from offramp.methods.balancers.gradnorm import GradNorm
from offramp.nets import Net, vgg7
from offramp.tasks import Classification


class Shared(Net):
    """A weight that K losses read: loss k is scale k times half of its squared distance to a point."""

    input_size = (3, 4, 4)

    def __init__(self, scales, points):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 3, dtype=torch.float64))
        self.scales, self.points = scales, points
        self.outputs = {f"exit {k}": Classification() for k in range(len(scales))}

    def owners(self):
        return {"weight": frozenset(range(len(self.outputs)))}

    def losses(self):
        return [
            scale * 0.5 * ((self.weight - point) ** 2).sum()
            for scale, point in zip(self.scales, self.points, strict=True)
        ]

    @property
    def step(self):
        return exit_step(self, [torch.zeros(())] * len(self.outputs), torch.tensor([]))


def made(scales):
    torch.manual_seed(0)
    return Shared(scales, [torch.randn(2, 3).double() for _ in scales])


def test_one_step_of_the_weights_is_that_of_autograd_through_the_norms():
    """Alg 1 to the letter: a graph of the gradients, the target held constant, Adam, then the sum K."""
    net = made([1.0, 5.0, 0.2])
    balancer = GradNorm(alpha=0.7, weight_lr=0.1).bind(net).double()
    weights = torch.ones(3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([weights], lr=0.1)
    first = torch.stack(net.losses()).detach()
    for number in range(6):
        losses = net.losses()
        found = torch.autograd.grad(torch.stack(balancer(losses, net.step)).sum(), net.weight)[0]
        losses = net.losses()
        weighted = (weights * torch.stack(losses)).sum()
        expected = torch.autograd.grad(weighted, net.weight, retain_graph=True)[0]
        torch.testing.assert_close(found, expected, msg=f"step {number}")
        norms = torch.stack(
            [
                torch.autograd.grad(w * loss, net.weight, create_graph=True)[0].norm()
                for w, loss in zip(weights, losses, strict=True)
            ]
        )
        share = torch.stack(losses).detach() / first
        target = norms.mean().detach() * (share / share.mean()) ** 0.7
        weights.grad = torch.autograd.grad((norms - target).abs().sum(), weights)[0]
        adam.step()
        with torch.no_grad():
            weights *= 3 / weights.sum()
            net.weight -= 0.05 * expected
        torch.testing.assert_close(balancer.weights.values, weights.detach())


def test_without_alpha_the_weights_go_to_the_inverse_of_the_norms():
    net = made([1.0, 4.0, 0.5])
    balancer = GradNorm(alpha=0.0, weight_lr=0.01).bind(net).double()
    for k in range(2000):
        balancer.weights.lr = 0.01 * 0.996**k
        balancer(net.losses(), net.step)
    norms = torch.stack([torch.autograd.grad(loss, net.weight)[0].norm() for loss in net.losses()])
    expected = 3 * (1 / norms) / (1 / norms).sum()
    torch.testing.assert_close(balancer.weights.values, expected, rtol=1e-3, atol=0)


def test_equal_losses_keep_equal_weights():
    net = Shared([1.0, 1.0], [torch.ones(2, 3).double()] * 2)
    balancer = GradNorm().bind(net).double()
    for _ in range(5):
        balancer(net.losses(), net.step)
    assert torch.equal(balancer.weights.values, torch.ones(2).double())


def test_no_weight_falls_to_zero():
    net = made([1.0, 1e9])
    balancer = GradNorm(weight_lr=3.0).bind(net).double()
    for _ in range(4):
        balancer(net.losses(), net.step)
        assert balancer.weights.values.min() > 0
        assert float(balancer.weights.values.sum()) == pytest.approx(2)


@pytest.mark.parametrize("bad", [torch.inf, torch.nan])
def test_an_overflow_moves_no_weight(bad):
    """As where a scaler skips the step: at the first step, when the first losses are noted, and later."""
    net = made([1.0, 5.0])
    balancer, same = (GradNorm().bind(net).double() for _ in range(2))
    for _ in range(3):
        losses = net.losses()
        balancer([losses[0], bad * losses[1]], net.step)
        balancer(net.losses(), net.step)
        same(net.losses(), net.step)
        assert torch.equal(balancer.weights.values, same.weights.values)


def test_a_loss_of_zero_takes_no_part():
    """Not in the first step, whose losses are what later ones are measured by, nor in a later one."""
    net, pair = made([1.0, 5.0, 2.0]), made([1.0, 5.0])
    pair.points = net.points[:2]
    balancer, same = GradNorm().bind(net).double(), GradNorm().bind(pair).double()
    for _ in range(3):
        losses = net.losses()
        weighted = balancer([*losses[:2], 0 * losses[2]], net.step)
        torch.testing.assert_close(weighted[:2], same(pair.losses(), pair.step))
    balancer(net.losses(), net.step)
    torch.testing.assert_close(balancer.first, torch.stack(net.losses()).detach())
    assert balancer.weights.values.min() > 0.8


def test_it_keeps_no_graph():
    """Tensors that are alive after 3 steps and after 203 are as many."""
    net = made([1.0, 5.0])
    balancer = GradNorm().bind(net).double()

    def alive(steps):
        for _ in range(steps):
            torch.stack(balancer(net.losses(), net.step)).sum().backward()
            net.zero_grad()
        gc.collect()
        return sum(type(each) in (torch.Tensor, nn.Parameter) for each in gc.get_objects())

    assert alive(3) == alive(200)


def test_it_compares_the_last_weight_that_all_losses_reach():
    net = vgg7(num_classes=5, width=4)
    compared = GradNorm().bind(net)._compared[0]
    of_stage = [p for p in net.stages[0].parameters() if p.dim() > 1]
    assert compared is of_stage[-1]
    for parameter in net.stages[0].parameters():
        parameter.requires_grad_(False)
    with pytest.raises(UserError, match="the net trains none; unfreeze one"):
        GradNorm().bind(net)


def test_what_cannot_be():
    for options, words in (({"alpha": -1}, "alpha is -1"), ({"weight_lr": 0}, "weight_lr is 0")):
        with pytest.raises(UserError, match=words):
            method("gradnorm", options)
    net = made([1.0, -5.0])
    with pytest.raises(UserError, match="gradnorm divides each loss by its size, and loss 2 is -"):
        GradNorm().bind(net)(net.losses(), net.step)
    assert method("gradnorm").whole_batch
