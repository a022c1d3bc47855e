"""Random loss weighting: the distribution of the weights, and draws that repeat where they must."""

import dataclasses

import torch
from steps import exit_step
from torch import nn

from offramp.methods.balancers.random_weights import RandomWeights
from offramp.methods.objectives import Step
from offramp.tasks import Classification

ONES = torch.ones(6).unbind()
SIX = exit_step(None, [torch.zeros(())] * 6, torch.tensor([]))


def drawn(balancer, step=SIX, steps=1):
    return torch.stack([torch.stack(balancer(ONES[: len(step.present)], step)) for _ in range(steps)])


def bound(seed=0, **options):
    return RandomWeights(**options).bind(nn.Linear(1, 1), seed)


def test_the_weights_are_a_softmax_of_normal_draws():
    """Their logarithms differ by normal draws: of variance 2, and 3,000 of them tell it to 5 %."""
    weights = drawn(bound(scaling="native"), steps=3000)
    torch.testing.assert_close(weights.sum(1), torch.ones(3000))
    assert (weights.mean(0) - 1 / 6).abs().max() < 0.015  # of a standard deviation of 0.17 / 55
    differences = weights[:, 0].log() - weights[:, 1].log()
    assert abs(float(differences.var()) - 2) < 0.25


def test_by_default_they_add_up_to_the_number_of_losses():
    torch.testing.assert_close(drawn(bound(), steps=5), 6 * drawn(bound(scaling="native"), steps=5))


def test_a_seed_draws_the_same_and_leaves_torchs_generator_alone():
    balancers = [bound(seed) for seed in (3, 3, 4)]
    torch.manual_seed(1)
    first, again, other = (drawn(balancer, steps=4) for balancer in balancers)
    after = torch.rand(1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)


def test_what_goes_on_draws_what_the_whole_run_would_have():
    whole = drawn(bound(), steps=6)
    first, second = bound(), bound()
    drawn(first, steps=4)
    second.load_state_dict(first.state_dict())
    assert torch.equal(drawn(second, steps=2), whole[4:])


def test_micro_batches_and_trials_have_the_weights_of_their_batch():
    more, trial = (dataclasses.replace(SIX, **{name: True}) for name in ("more", "trial"))
    balancer = bound()
    found = [drawn(balancer, step) for step in (more, SIX, trial, trial, more, SIX)]
    first, second = drawn(bound(), steps=2)
    expected = [first, first, first, first, second, second]
    assert all(torch.equal(a[0], b) for a, b in zip(found, expected, strict=True))


def test_absent_outputs_have_no_share():
    tasks = [Classification(target=f"label {k}") for k in range(6)]
    step = Step(None, [torch.zeros(())] * 6, tasks, {tasks[k].target: torch.tensor([]) for k in (1, 4)})
    torch.testing.assert_close(drawn(bound(), step).sum(), torch.tensor(2.0))
