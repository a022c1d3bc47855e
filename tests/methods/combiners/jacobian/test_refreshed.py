"""Weights kept for some steps, or made from a part of the batch."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from jacobian_cases import PLAIN, batch, build, expected, forward, groups, losses_of, plain_loop, weights

from offramp.methods.combiners.jacobian import Jacobian, RefreshedWeights


class Weigh:
    """Weights that say how often they were asked for, and what they saw."""

    def __init__(self):
        self.gramians = []

    def __call__(self, block):
        self.gramians.append(block.gramian())
        return len(self.gramians) * weights(block.owners)


def step_with_part(net, name="vgg7", asked=None):
    images, targets = batch(name, net, 8)

    def part(share):
        if asked is not None:
            asked.append(share)
        count = round(share * len(images))
        found = forward(net, images[:count], targets[:count])
        return losses_of(found), found

    return dataclasses.replace(forward(net, images, targets), part=part)


def scaled(net, rows, shared, factor):
    """The expected gradient where the weights of the helper are multiplied by a factor."""
    shares = {n for names in groups(net, shared).values() for n in names}
    return {n: factor * g if n in shares else g for n, g in expected(net, rows, shared).items()}


@pytest.fixture
def net():
    made = build("vgg7").double()
    owned = made.owners()
    made.owners = lambda: owned
    return made


@pytest.mark.parametrize("shared", ["union", "first"])
def test_weights_are_kept_for_some_steps(net, shared):
    refreshed, weigh = RefreshedWeights(Jacobian(net, shared), every=3), Weigh()
    step = step_with_part(net)
    rows = plain_loop(net, losses_of(step))
    for count, times in enumerate((1, 1, 1, 2, 2)):
        net.zero_grad()
        step = step_with_part(net)
        refreshed(losses_of(step), step, PLAIN, weigh)
        assert len(weigh.gramians) == times, count
        for n, wanted in scaled(net, rows, shared, times).items():
            torch.testing.assert_close(net.get_parameter(n).grad, wanted, rtol=1e-9, atol=1e-10, msg=n)


def test_the_gramian_of_a_part(net):
    refreshed, weigh, asked = RefreshedWeights(Jacobian(net, "union"), part=0.5), Weigh(), []
    step = step_with_part(net, asked=asked)
    refreshed(losses_of(step), step, PLAIN, weigh)
    assert asked == [0.5]
    images, targets = batch("vgg7", net, 8)
    half = forward(net, images[:4], targets[:4])
    (wanted,) = Jacobian(net, "union").gramians(losses_of(half), half, PLAIN)
    torch.testing.assert_close(weigh.gramians[0], wanted.gramian(), rtol=1e-9, atol=1e-12)
    whole = plain_loop(net, losses_of(forward(net, images, targets)))
    for n, gradient in expected(net, whole, "union").items():  # the step itself is of the whole batch
        torch.testing.assert_close(net.get_parameter(n).grad, gradient, rtol=1e-9, atol=1e-10, msg=n)


def test_a_checkpoint_holds_the_weights_and_their_age(net):
    weigh = Weigh()
    first = RefreshedWeights(Jacobian(net, "union"), every=4)
    for _ in range(2):
        step = step_with_part(net)
        first(losses_of(step), step, PLAIN, weigh)
    second = RefreshedWeights(Jacobian(net, "union"), every=4)
    second.load_state_dict(first.state_dict())
    assert second.weights == first.weights
    for _ in range(2):
        step = step_with_part(net)
        second(losses_of(step), step, PLAIN, weigh)
    assert len(weigh.gramians) == 1
    step = step_with_part(net)
    second(losses_of(step), step, PLAIN, weigh)
    assert len(weigh.gramians) == 2


def test_weights_that_are_not_finite_are_not_kept(net):
    refreshed = RefreshedWeights(Jacobian(net, "union"), every=4)
    answers = iter([float("inf"), 2.0])
    seen = []
    for _ in range(3):
        net.zero_grad()
        step = step_with_part(net)
        refreshed(losses_of(step), step, PLAIN, lambda b: torch.full((len(b.owners),), next(answers)))
        seen.append({w for known in refreshed.weights[()].values() for w in known.values()})
        assert all(p.grad.isfinite().all() for p in net.parameters())
    assert seen == [set(), {2.0}, {2.0}]
