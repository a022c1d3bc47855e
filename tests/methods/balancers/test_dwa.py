"""Dynamic weight average against numbers worked out by hand and TorchJD's DWA."""

import dataclasses

import pytest
import torch
from steps import exit_step
from torchjd.scalarization import DWA as TorchJDs

from offramp import UserError
from offramp.methods import method
from offramp.methods.balancers.dwa import DWA
from offramp.methods.objectives import Step
from offramp.nets import Net, vgg7
from offramp.tasks import Classification


class TwoOutputs(Net):
    """What a balancer reads of a net with two outputs."""

    outputs = {"a": Classification(target="a"), "b": Classification(target="b")}  # noqa: RUF012


def two(epoch=0, present=("a", "b"), **when):
    tasks = [*TwoOutputs.outputs.values()]
    targets = dict.fromkeys(present, torch.tensor([0]))
    return Step(None, [torch.zeros(1, 2)] * 2, tasks, targets, epoch=epoch, **when)


def bound(**options):
    return DWA(**options).bind(TwoOutputs()).double()


def weights(balancer, losses, step):
    losses = [torch.tensor(loss, dtype=torch.float64, requires_grad=True) for loss in losses]
    torch.stack(balancer(losses, step)).sum().backward()
    return torch.stack([loss.grad for loss in losses])


def test_the_weights_of_the_third_and_fourth_epoch():
    """Means (1, 1), (.5, .9), (.4, .8): ratios (.5, .9), then (.8, .8889), over T = 2."""
    balancer, found = bound(), []
    for epoch, means in enumerate([(1.0, 1.0), (0.5, 0.9), (0.4, 0.8), (1.0, 1.0)]):
        steps = ([factor * mean for mean in means] for factor in (0.5, 1.5))  # two with this mean
        found += [weights(balancer, losses, two(epoch)) for losses in steps]
    assert all(torch.equal(each, torch.ones(2).double()) for each in found[:4])
    ratio = 2 * torch.tensor([0.5 / 2, 0.9 / 2]).double().softmax(0)
    torch.testing.assert_close(found[4], ratio)
    torch.testing.assert_close(found[4], found[5])
    torch.testing.assert_close(found[6], torch.tensor([0.97778, 1.02222]).double(), atol=5e-6, rtol=0)


def test_it_is_torchjds():
    torch.manual_seed(0)
    ours, theirs = DWA(temperature=1.3).bind(vgg7(num_classes=5, width=4)).double(), TorchJDs(temperature=1.3)
    six = exit_step(None, [torch.zeros(())] * 6, torch.tensor([]))
    for epoch in range(5):
        for _ in range(3):
            losses = torch.rand(6, dtype=torch.float64) + 0.1
            found = torch.stack(ours(losses.unbind(), dataclasses.replace(six, epoch=epoch))).sum()
            torch.testing.assert_close(found, theirs(losses))
        theirs.step()


def test_micro_batches_are_their_batch_and_trials_are_not_counted():
    whole, parts = bound(), bound()
    for epoch, losses in enumerate([(1.0, 2.0), (0.5, 1.9), (1.0, 1.0)]):
        whole_weights = weights(whole, losses, two(epoch))
        for share, more in ((0.25, True), (0.75, False)):
            found = weights(parts, losses, two(epoch, share=share, more=more))
            torch.testing.assert_close(found, whole_weights)
        weights(parts, (9.0, 3.0), two(epoch, trial=True))
    torch.testing.assert_close(parts.sums, whole.sums)


def test_an_output_without_targets_in_an_epoch_keeps_its_means():
    balancer = bound()
    weights(balancer, (1.0, 1.0), two(0))
    weights(balancer, (0.5, 0.8), two(1))
    weights(balancer, (0.4,), two(2, present=("a",)))
    weights(balancer, (1.0, 1.0), two(3))
    torch.testing.assert_close(balancer.means, torch.tensor([[0.4, 0.8], [0.5, 1.0]]).double())


def test_processes_share_their_sums():
    """The other process sees 3 where this one sees 1; what a checkpoint of one keeps is right for both."""
    other = [torch.tensor(3.0), torch.tensor(3.0)]
    balancers = [bound(), bound()]
    for balancer, losses in zip(balancers, ([torch.tensor(1.0)] * 2, other), strict=True):
        mean = torch.tensor([[2.0, 2.0], [1.0, 1.0]]).double()
        balancer(losses, two(0, average=lambda values, mean=mean: mean.clone()))
    torch.testing.assert_close(balancers[0].sums, torch.tensor([[2.0, 2.0], [1.0, 1.0]]).double())
    assert torch.equal(balancers[0].sums, balancers[1].sums)


def test_an_overflow_is_not_counted():
    balancer, same = bound(), bound()
    for epoch, pair in enumerate([(1.0, 1.0), (0.5, 0.9), (0.4, 0.8)]):
        weights(balancer, (torch.inf, torch.nan), two(epoch))
        weights(balancer, pair, two(epoch))
        weights(same, pair, two(epoch))
    torch.testing.assert_close(weights(balancer, (1.0, 1.0), two(3)), weights(same, (1.0, 1.0), two(3)))


def test_it_goes_on_within_an_epoch():
    losses = [(1.0, 2.0), (0.5, 1.9), (0.3, 1.0), (0.2, 0.9)]
    whole, first, second = bound(), bound(), bound()
    for epoch, pair in enumerate(losses):
        expected = weights(whole, pair, two(epoch)), weights(whole, pair, two(epoch))
        found = weights(first, pair, two(epoch))
        second.load_state_dict(first.state_dict())
        assert torch.equal(found, expected[0])
        assert torch.equal(weights(second, pair, two(epoch)), expected[1])
        first, second = second, bound()


def test_what_cannot_be():
    with pytest.raises(UserError, match="temperature is 0, must be a number above 0"):
        method("dwa", {"temperature": 0})


def test_a_loop_of_ones_own_says_the_epoch():
    own = method("dwa").bind(vgg7(num_classes=5, width=4))
    with pytest.raises(UserError, match=r"depends on the epoch; call progress\(epoch, epochs\)"):
        own.losses(torch.randn(2, 3, 32, 32), torch.tensor([0, 1]))
