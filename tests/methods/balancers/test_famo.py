"""FAMO against TorchJD's, and the second look at a batch: its draws, its statistics, its trace."""

import dataclasses

import pytest
import torch
from steps import exit_step
from tiny_runs import rows, tiny_data, tiny_net
from torchjd.scalarization import FAMO as TorchJDs

from offramp import Recipe, UserError, fit
from offramp.methods import method
from offramp.methods.balancers.famo import FAMO, BoundFAMO
from offramp.nets import vgg7

SIX, TWO = (exit_step(None, [torch.zeros(())] * count, torch.tensor([])) for count in (6, 2))


def test_steps_on_six_losses_are_torchjds():
    """Both descend six parabolas; the gradients and the logits are the same at every step."""
    torch.manual_seed(0)
    curvatures = torch.rand(6).double() + 0.2
    ours = FAMO(scaling="native").bind(vgg7(num_classes=5, width=4)).double()
    theirs = TorchJDs(6).double()
    points = [torch.full((6,), 2.0).double().requires_grad_() for _ in range(2)]
    for _ in range(20):
        losses = [(curvatures * (point - 0.1) ** 2 + 0.05) for point in points]
        found = torch.autograd.grad(torch.stack(ours(losses[0].unbind(), SIX)).sum(), points[0])[0]
        expected = torch.autograd.grad(theirs(losses[1]), points[1])[0]
        torch.testing.assert_close(found, expected)
        with torch.no_grad():
            points[0] -= 0.3 * found
            points[1] -= 0.3 * expected
            after = [(curvatures * (point - 0.1) ** 2 + 0.05) for point in points]
        ours.look_back(after[0].unbind(), SIX)
        theirs.update(after[1])
        torch.testing.assert_close(ours.logits.values, theirs._w.detach())


def test_the_first_step_of_the_logits_goes_to_the_slow_loss():
    ours = FAMO().bind(vgg7(num_classes=5, width=4))
    ours.logits.values, ours.logits.moments, ours.logits.steps = (
        torch.zeros(2), torch.zeros(2, 2), torch.zeros(2),
    )  # fmt: skip
    weighted = ours([torch.tensor(1.0), torch.tensor(1.0)], TWO)
    torch.testing.assert_close(torch.stack(weighted), torch.ones(2))  # the weights add up to 2
    ours.look_back([torch.tensor(0.5), torch.tensor(0.99)], TWO)
    torch.testing.assert_close(ours.logits.values, torch.tensor([-0.025, 0.025]))


def test_a_loss_of_zero_takes_no_part():
    """The weights of the other one, and its logit, are those of a step without it."""
    ours, alone = (FAMO().bind(tiny_net()) for _ in range(2))
    for balancer in (ours, alone):
        balancer.logits.values = torch.tensor([0.3, -0.2])
    weighted = ours([torch.tensor(0.0), torch.tensor(4.0)], TWO)
    torch.testing.assert_close(torch.stack(weighted), torch.tensor([0.0, 4.0]))
    ours.look_back([torch.tensor(0.0), torch.tensor(3.0)], TWO)
    alone([torch.tensor(4.0)], TWO.of([1]))
    alone.look_back([torch.tensor(3.0)], TWO.of([1]))
    assert torch.equal(ours.logits.values, alone.logits.values)
    assert not torch.stack(ours([torch.tensor(0.0)] * 2, TWO)).any()


def two_losses(*values):
    return [torch.tensor(value) for value in values]


def test_a_loss_that_the_step_took_to_zero_takes_no_part_either():
    ours, alone = (FAMO().bind(tiny_net()) for _ in range(2))
    ours(two_losses(2.0, 4.0), TWO)
    ours.look_back(two_losses(0.0, 3.0), TWO)
    alone(two_losses(4.0), TWO.of([1]))
    alone.look_back(two_losses(3.0), TWO.of([1]))
    assert torch.equal(ours.logits.values, alone.logits.values)


def test_what_a_step_did_is_measured_from_its_own_losses_over_all_processes():
    """A trial pass in between is not what the losses afterwards are compared with."""
    theirs = {2: [3.0, 1.0], 5: [1.0] * 5}  # losses of another process; weights, presence, samples
    together = exit_step(
        None,
        [torch.zeros(4, 3)] * 2,
        torch.zeros(4, dtype=torch.long),
        average=lambda t: (t + torch.tensor(theirs[len(t)]).to(t)) / 2,
        processes=2,
    )
    ours, whole = (FAMO().bind(tiny_net()) for _ in range(2))
    weighted = ours(two_losses(1.0, 2.0), together)
    expected = whole(two_losses(2.0, 1.5), TWO)  # the means, which the weights are of
    torch.testing.assert_close(weighted, [expected[0] / 2.0, expected[1] / 1.5 * 2.0])
    ours(two_losses(9.0, 0.1), dataclasses.replace(together, trial=True))
    ours.look_back(two_losses(0.2, 1.9), together)
    whole.look_back(two_losses(1.6, 1.45), TWO)
    assert torch.equal(ours.logits.values, whole.logits.values)


def test_an_overflow_moves_no_logit():
    ours = FAMO().bind(tiny_net())
    for bad in (torch.inf, torch.nan):
        ours([torch.tensor(bad), torch.tensor(4.0)], TWO)
        ours.look_back([torch.tensor(bad), torch.tensor(3.0)], TWO)
        assert torch.equal(ours.logits.values, torch.zeros(2))


@pytest.fixture
def looks(monkeypatch):
    """Every (losses before a step, losses of the look back) of a training."""
    seen = []
    look_back = BoundFAMO.look_back

    def noted(self, losses, step):
        seen.append((self.before.clone(), torch.stack(losses).clone()))
        look_back(self, losses, step)

    monkeypatch.setattr(BoundFAMO, "look_back", noted)
    return seen


@pytest.mark.parametrize("plain", ["joint", "kd"])
def test_where_the_step_moves_nothing_the_losses_are_those_before(looks, tmp_path, plain):
    """Dropout draws the same, batch norm takes the batch's statistics, and they move once a step.

    So does the temperature of distillation, by 1.05 after each batch: the teacher is sure at 0.05.
    """
    name, options = {"joint": ("famo", {}), "kd": ("kd+famo", {"temperature": 0.05})}[plain]
    recipe = Recipe(
        epochs=1, batch_size=8, lr=1e-30, schedule="constant", augment="none", weight_decay=0, options=options
    )
    nets = {each: tiny_net() for each in (name, plain)}
    for each, net in nets.items():
        fit(net, tiny_data(), each, recipe, tmp_path / each, quiet=True)
    assert len(looks) >= 2
    for before, after in looks:
        torch.testing.assert_close(after, before, rtol=1e-6, atol=1e-7)
    statistics = {each: dict(net.named_buffers()) for each, net in nets.items()}
    assert len(statistics[plain]) > 0
    for key, value in statistics[plain].items():
        assert torch.equal(statistics[name][key], value), key
    losses = [[row[f"train_loss_{k}"] for row in rows(tmp_path / each) for k in (1, 2)] for each in nets]
    assert losses[0] == losses[1]


def test_what_cannot_be():
    for options, words in (({"logit_lr": 0}, "logit_lr is 0"), ({"logit_decay": -1}, "logit_decay is -1")):
        with pytest.raises(UserError, match=words):
            method("famo", options)
    with pytest.raises(UserError, match="famo divides each loss by its size, and loss 1 is -2"):
        FAMO().bind(vgg7(num_classes=5, width=4))([torch.tensor(-2.0), torch.tensor(1.0)], TWO)
    with pytest.raises(UserError, match=r"a loop of your own takes; use offramp\.fit"):
        method("famo").bind(vgg7(num_classes=5, width=4))
    assert method("famo").whole_batch
    assert str(method("famo").passes) == "F + B + F"
