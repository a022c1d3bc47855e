"""Scalarizations of TorchJD: gradients are those of its functions, at the scale of the sum."""

import dataclasses

import pytest
import torch
import torchjd.scalarization
from steps import exit_step

from offramp import UserError
from offramp.methods import method
from offramp.methods.balancers.scalarize import ELSEWHERE, KNOWN, Scalarize
from offramp.methods.objectives import Step
from offramp.nets import vgg7
from offramp.tasks import Classification

SIX = exit_step(None, [torch.zeros(())] * 6, torch.tensor([]))
ONE_EACH = [1.0, 2.0, 0.5, 1.0, 3.0, 0.25]
CASES = {
    "STCH": {"mu": 0.3, "weights": ONE_EACH, "reference": [0.1] * 6},
    "GeometricMean": {},
    "PBI": {"theta": 2.0, "weights": ONE_EACH},
    "COSMOS": {"lambda_": 0.5, "weights": ONE_EACH},
    "Mean": {},
    "Sum": {},
}


def gradient(balancer, losses, step=SIX):
    losses = losses.clone().requires_grad_()
    torch.stack(balancer(losses.unbind(), step)).sum().backward()
    return losses.grad


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_that_of_torchjds_function(name):
    torch.manual_seed(0)
    losses = torch.rand(6, dtype=torch.float64) + 0.2
    arguments = {
        key: torch.tensor(value).double() if isinstance(value, list) else value
        for key, value in CASES[name].items()
    }
    function = getattr(torchjd.scalarization, name)(**arguments)
    theirs = losses.clone().requires_grad_()
    function(theirs).backward()
    balancer = Scalarize(scalarization=name, arguments=CASES[name], scaling="native")
    torch.testing.assert_close(gradient(balancer, losses), theirs.grad)


@pytest.mark.parametrize("name", CASES)
def test_equal_losses_weigh_as_many_as_they_are(name):
    ones = torch.ones(6, dtype=torch.float64)
    found = gradient(Scalarize(scalarization=name, arguments=CASES[name]), ones)
    torch.testing.assert_close(found.sum(), torch.tensor(6.0).double())


def test_outputs_that_are_absent_have_no_part_and_take_their_numbers_along():
    tasks = [Classification(target=f"label {k}") for k in range(6)]
    step = Step(None, [torch.zeros(())] * 6, tasks, {tasks[k].target: torch.tensor([]) for k in (1, 4)})
    losses = torch.tensor([0.3, 0.8], dtype=torch.float64)
    found = gradient(Scalarize(arguments={"mu": 0.3, "weights": ONE_EACH}, scaling="native"), losses, step)
    theirs = losses.clone().requires_grad_()
    torchjd.scalarization.STCH(0.3, torch.tensor([2.0, 3.0]).double())(theirs).backward()
    torch.testing.assert_close(found, theirs.grad)


def test_by_default_it_is_the_smooth_maximum_with_a_mu_of_a_tenth():
    losses = torch.tensor([0.3, 0.8, 0.1, 0.5, 0.7, 0.2], dtype=torch.float64)
    # the slopes of mu log sum_k exp(L_k / (6 mu)), times what makes those of equal losses 1 each
    torch.testing.assert_close(gradient(Scalarize(), losses), 6 * (losses / 0.6).softmax(0))


def test_the_slopes_are_those_at_the_losses_over_all_processes():
    theirs = torch.tensor([0.9, 0.4, 0.3, 0.1, 0.5, 0.6], dtype=torch.float64)
    together = dataclasses.replace(SIX, average=lambda t: (t + theirs) / 2, processes=2)
    together.__dict__["present"] = SIX.present
    losses = torch.tensor([0.3, 0.8, 0.1, 0.5, 0.7, 0.2], dtype=torch.float64)
    found = gradient(Scalarize(), losses, together)
    torch.testing.assert_close(found, gradient(Scalarize(), (losses + theirs) / 2))


def test_all_of_torchjds_are_known_or_elsewhere():
    theirs = {*torchjd.scalarization.__all__} - {"Scalarizer"}
    assert theirs == {*KNOWN} | {*ELSEWHERE}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scalarization": "STHC"}, "no scalarization 'STHC' of TorchJD .did you mean 'STCH'"),
        ({"scalarization": "UW"}, "use the method uncertainty"),
        ({"scalarization": 3}, "scalarization is a class of TorchJD"),
        ({"arguments": [1]}, "arguments are the scalarization's"),
        ({"arguments": {"nu": 1}}, "STCH has no argument 'nu'.*it has: mu, weights, reference"),
        ({"arguments": {"mu": 0}}, "STCH with .*strictly positive"),
        ({"arguments": {"mu": "a"}}, "mu of STCH must be a number"),
        ({"arguments": {"weights": "ab"}}, "weights of STCH must be one number for each output"),
        (
            {"arguments": {"weights": [1, 1, 1], "reference": [0, 0]}},
            "STCH got 3 of weights and 2 of reference; give one number for each output in both",
        ),
        ({"arguments": {"weights": [1, 1], "reference": 3}}, "reference of STCH must be one number for each"),
        ({"scalarization": "PBI"}, "PBI needs theta and weights; .*{'theta': 1.0, 'weights': .1.0, 1.0.}"),
        ({"scalarization": "PBI", "arguments": {"theta": 1}}, "PBI needs weights; "),
        ({"scaling": "mean"}, "scaling is 'mean'"),
    ],
)
def test_what_cannot_be(options, words):
    with pytest.raises(UserError, match=words):
        method("scalarize", options)


def test_as_many_numbers_as_outputs():
    with pytest.raises(UserError, match="weights of STCH are 2, outputs 6; give one each"):
        method("scalarize", {"arguments": {"weights": [1, 2]}}).bind(vgg7(num_classes=5, width=4))
