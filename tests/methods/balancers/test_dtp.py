"""Dynamic task prioritization against its formula and a slow count of right answers."""

import dataclasses

import pytest
import torch
from steps import exit_step

from offramp import UserError
from offramp.methods import method
from offramp.methods.balancers.dtp import DTP
from offramp.nets import MultiTaskNet, vgg7
from offramp.tasks import Boxes, Classification, Depth


class ThreeExits:
    """What the balancer reads of a net with three exits."""

    outputs = {f"exit {k}": Classification() for k in range(3)}  # noqa: RUF012


def step(right, samples=10, **when):
    """A step whose outputs are right for so many of the samples each."""
    labels = torch.zeros(samples, dtype=torch.long)
    outputs = []
    for count in right:
        logits = torch.tensor([[0.0, 1.0]]).repeat(samples, 1)
        logits[:count, 0] = 2
        outputs.append(logits)
    return exit_step(None, outputs, labels, **when)


def weights(balancer, a_step):
    return torch.stack(balancer(torch.ones(len(a_step.present)).unbind(), a_step))


def test_the_weights_in_closed_form():
    balancer = DTP(focus=2.0).bind(ThreeExits())
    found = weights(balancer, step([5, 0, 10]))
    kappa = torch.tensor([0.5, 0.1, 0.99])  # clipped
    torch.testing.assert_close(found, -((1 - kappa) ** 2) * kappa.log())
    assert float(found[0]) == pytest.approx(0.173287, abs=1e-6)


def test_the_better_the_less_they_weigh():
    found = weights(DTP().bind(ThreeExits()), step([2, 5, 8]))
    assert found[0] > found[1] > found[2]


def test_the_average_moves_by_its_share():
    balancer = DTP(ema=0.25).bind(ThreeExits())
    weights(balancer, step([2, 4, 6]))
    weights(balancer, step([10, 0, 6]))
    torch.testing.assert_close(balancer.kappa, torch.tensor([0.4, 0.3, 0.6]))
    weights(balancer, step([0, 0, 0], trial=True))
    torch.testing.assert_close(balancer.kappa, torch.tensor([0.4, 0.3, 0.6]))


@pytest.mark.parametrize("present", [[0, 1, 2], [0, 2]])
def test_normalised_weights_add_up_to_the_number_of_losses(present):
    a_step = step([2, 5, 8]).of(present)
    plain, found = (weights(DTP(normalise=on).bind(ThreeExits()), a_step) for on in (False, True))
    torch.testing.assert_close(found, plain * len(present) / plain.sum())


def test_over_processes_it_is_the_share_of_all_their_samples():
    """The other one has 1 of 30 right at each exit; here the targets may be absent altogether."""
    theirs = {3: [1, 30, 30], 7: [30, 30, 30, 1, 1, 1, 30]}  # what is counted; weights, presence, samples
    here = step([8, 0, 10], average=lambda t: (t + torch.tensor(theirs[len(t)]).to(t)) / 2, processes=2)
    for a_step, shares in (
        (here, [9 / 40, 1 / 40, 11 / 40]),
        (dataclasses.replace(here, targets={}), [1 / 30] * 3),
    ):
        balancer = DTP().bind(ThreeExits())
        weights(balancer, a_step)
        torch.testing.assert_close(balancer.kappa, torch.tensor(shares))


def test_a_batch_without_labels_moves_no_average():
    balancer = DTP().bind(ThreeExits())
    weights(balancer, step([2, 4, 6]))
    weights(balancer, exit_step(None, step([10, 10, 10]).outputs, torch.full((10,), -100)))
    torch.testing.assert_close(balancer.kappa, torch.tensor([0.2, 0.4, 0.6]))


def test_no_gradient_goes_through_the_weights():
    loss = torch.tensor(2.0, requires_grad=True)
    balancer = DTP(focus=1.0).bind(ThreeExits())
    weighted = balancer([loss, loss, loss], step([5, 5, 5]))
    torch.stack(weighted).sum().backward()
    torch.testing.assert_close(loss.grad, torch.tensor(3 * 0.5 * 0.693147))


def test_what_it_cannot_prioritise():
    class Dense(MultiTaskNet):
        outputs = {"box": Boxes(target="box"), "depth": Depth(target="depth")}  # noqa: RUF012

        def __init__(self):
            torch.nn.Module.__init__(self)

    class Points(Classification):
        def metrics(self, counts):
            return {"top1": 120.0}

    a_step = step([2, 5, 8])
    with pytest.raises(
        UserError, match="needs metrics in percent, and top1 of output 1 is 120; take another"
    ):
        weights(DTP().bind(ThreeExits()), dataclasses.replace(a_step, tasks=[Points()] * 3))
    with pytest.raises(UserError, match="output 'depth' is measured by abs_err, which is better the lower"):
        DTP().bind(Dense())
    for options, words in (
        ({"focus": -1}, "focus is -1"),
        ({"ema": 0}, "ema is 0"),
        ({"normalise": 1}, "true"),
    ):
        with pytest.raises(UserError, match=words):
            method("dtp", options)
    assert method("dtp").whole_batch
    assert method("dtp").bind(vgg7(num_classes=5, width=4))
