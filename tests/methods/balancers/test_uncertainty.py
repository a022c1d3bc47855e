"""Uncertainty weighting against closed forms and TorchJD's UW; with every kind of combiner; in training."""

import pytest
import torch
from steps import exit_step
from torchjd.scalarization import UW

from offramp import Recipe, UserError, fit
from offramp.data import open_data
from offramp.methods import METHODS, method
from offramp.methods.balancers.uncertainty import Uncertainty
from offramp.methods.bound import BoundMethod
from offramp.methods.combiners import Backward
from offramp.methods.objectives import Step
from offramp.nets import vgg7
from offramp.runs.checkpoint import last
from offramp.tasks import Classification
from offramp.training._groups import grouped

LOSSES = torch.tensor([3.0, 1.0, 0.25, 0.5, 2.0, 1.5], dtype=torch.float64)

SIX, TWO = (exit_step(None, [torch.zeros(())] * count, torch.tensor([])) for count in (6, 2))


def small():
    torch.manual_seed(0)
    return vgg7(num_classes=5, width=4).double()


def at_work(log_variances=None, **options):
    learned = Uncertainty(**options).bind(small()).double()
    if log_variances is not None:
        learned.log_variances.data = log_variances.clone()
    return learned


def step_of(net):
    torch.manual_seed(1)
    outputs, features, trunk = net(torch.randn(4, 3, 32, 32).double(), keep=True)
    return exit_step(net, outputs, torch.arange(4), features=features, trunk=trunk)


@pytest.mark.parametrize(("form", "factor"), [("regression", 1.0), ("classification", 2.0)])
def test_the_log_variances_of_fixed_losses_go_to_the_logarithms(form, factor):
    learned = at_work(form=form)
    adam = torch.optim.Adam(learned.parameters(), lr=0.05)
    for k in range(3000):
        adam.param_groups[0]["lr"] = 0.05 * 0.997**k
        adam.zero_grad()
        torch.stack(learned(LOSSES.unbind(), SIX)).sum().backward()
        adam.step()
    assert torch.allclose(learned.log_variances, (factor * LOSSES).log(), atol=1e-6)


def test_the_sum_and_its_gradients_are_torchjds():
    learned, theirs = at_work(torch.linspace(-1, 1, 6).double()), UW(6).double()
    theirs.log_var.data = learned.log_variances.detach().clone()
    ours_of, theirs_of = (LOSSES.clone().requires_grad_() for _ in range(2))
    total = torch.stack(learned(ours_of.unbind(), SIX)).sum()
    expected = theirs(theirs_of)
    total.backward()
    expected.backward()
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(learned.log_variances.grad, theirs.log_var.grad)
    torch.testing.assert_close(ours_of.grad, theirs_of.grad)


def test_the_weight_of_a_loss_in_closed_form():
    s = torch.linspace(-1, 1, 6).double()
    for form, factor in (("regression", 0.5), ("classification", 1.0)):
        losses = LOSSES.clone().requires_grad_()
        torch.stack(at_work(s, form=form)(losses.unbind(), SIX)).sum().backward()
        torch.testing.assert_close(losses.grad, factor * torch.exp(-s))


def test_fixed_weights_come_on_top():
    """Of what is learned the variance of a loss without weight stays, too."""
    net, weights = small(), [2, 1, 0, 1, 3, 1]
    bound, plain = (
        BoundMethod(method(name, {"weights": weights}), net).double() for name in ("uncertainty", "joint")
    )
    step, s = step_of(net), torch.linspace(-1, 1, 6).double()
    bound.balancer.log_variances.data = s.clone()
    losses = bound.losses_of(step)
    assert torch.equal(torch.stack(losses), torch.stack(plain.losses_of(step)))  # what the log shows
    own = torch.stack(BoundMethod(method("joint"), net).losses_of(step))
    found = torch.stack(bound.balanced(losses, step))
    torch.testing.assert_close(found, torch.tensor(weights) * (0.5 * torch.exp(-s) * own + 0.5 * s))
    found.sum().backward()
    assert bound.balancer.log_variances.grad[2] == 0
    assert net.heads[2][-1].weight.grad is None


def test_a_loss_goes_with_the_variance_of_its_own_output():
    """Where outputs are absent, their variances have no part in the step."""
    s = torch.linspace(-1, 1, 6).double()
    present = [1, 4]
    tasks = [Classification(target=f"label {k}") for k in range(6)]
    targets = {tasks[k].target: torch.tensor([]) for k in present}
    step = Step(None, [torch.zeros(())] * 6, tasks, targets)
    learned = at_work(s)
    found = torch.stack(learned(LOSSES[present].unbind(), step))
    torch.testing.assert_close(found, 0.5 * torch.exp(-s[present]) * LOSSES[present] + 0.5 * s[present])
    found.sum().backward()
    assert learned.log_variances.grad.nonzero().flatten().tolist() == present
    with pytest.raises(UserError, match="loss 5 is -3"):
        at_work()([torch.tensor(1.0), torch.tensor(-3.0)], step)


def test_the_order_of_the_losses_does_not_matter():
    s, order = torch.linspace(-1, 1, 6).double(), [3, 0, 5, 1, 4, 2]
    plain = torch.stack(at_work(s)(LOSSES.unbind(), SIX))
    permuted = torch.stack(at_work(s[order])(LOSSES[order].unbind(), SIX))
    assert torch.equal(permuted, plain[order])


@pytest.mark.parametrize("other", ["pcgrad", "cagrad", "graddrop", "bdl-2", "aggregate"])
def test_a_combiner_gets_the_weighted_losses(other):
    """Heads are those of the weighted losses, and the log variances get the gradient of their sum."""
    net, found = small(), []
    for name in ("uncertainty", f"{other}+uncertainty"):
        bound = BoundMethod(method(name), net).double()
        bound.balancer.log_variances.data = torch.linspace(-1, 1, 6).double()
        step = step_of(net)
        net.zero_grad()
        bound.combine(bound.losses_of(step), step, Backward())
        found.append([bound.balancer.log_variances.grad, *(p.grad for p in net.heads[0].parameters())])
    torch.testing.assert_close(found[1], found[0])


def test_what_cannot_be():
    for options, words in (
        ({"form": "both"}, "form is 'both', must be regression or classification"),
        ({"log_variance_lr": 0}, "log_variance_lr is 0, must be a number above 0"),
    ):
        with pytest.raises(UserError, match=words):
            method("uncertainty", options)
    for name in ("uncertainty+dr-mgf", "uncertainty+meta-gf", "separate+uncertainty"):
        with pytest.raises(UserError):
            method(name)
    with pytest.raises(UserError, match="loss 2 is -1; take an objective whose losses are positive"):
        at_work()([torch.tensor(1.0), torch.tensor(-1.0)], TWO)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("uncertainty", {}),
        ("uncertainty", {"log_variance_lr": 0.02}),
        ("imtl-l", {}),
        ("imtl-l", {"log_scale_lr": 0.02}),
    ],
)
def test_what_is_learned_has_no_decay_and_perhaps_a_rate_of_its_own(name, options):
    net, recipe = small(), Recipe(lr=0.1, weight_decay=5e-4, norm_decay=1e-3, norm_lr_factor=3.0)
    bound = BoundMethod(method(name, options), net)
    parameters, (learned,) = [*net.parameters(), *bound.parameters()], bound.parameters()
    groups = grouped(parameters, recipe, net, bound)
    of = next(g for g in groups if learned in set(g["params"]))
    assert len(of["params"]) == 1
    assert (of["weight_decay"], of["lr_factor"]) == (0.0, pytest.approx(0.2 if options else 1.0))
    assert sum(len(group["params"]) for group in groups) == len(parameters)


def test_it_learns_them_and_the_net_has_no_more_weights(tmp_path):
    torch.manual_seed(0)
    data = open_data("digits", train_limit=80, test_limit=40)
    recipe = Recipe(epochs=2, batch_size=20, schedule="constant", val_fraction=0)
    run = fit(vgg7(num_classes=10, width=4), data, "uncertainty", recipe, tmp_path / "run", quiet=True)
    assert run.net.state_dict().keys() == vgg7(num_classes=10, width=4).state_dict().keys()
    values = torch.load(last(tmp_path / "run") / "state.pt", weights_only=True)
    s = values["loop"][0]["method"]["balancer.log_variances"]
    assert s.abs().min() > 1e-3


def test_the_row():
    row = METHODS["uncertainty"]
    assert row.axes == {"balancer": "Uncertainty"}
    assert row.needs == {"losses"}
    assert row.options == {"weights": None, "form": "regression", "log_variance_lr": None}
