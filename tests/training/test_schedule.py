"""Learning rates against torch's own schedulers, which step one by one."""

from __future__ import annotations

import pytest
import torch
from torch.optim import lr_scheduler

from offramp import Recipe
from offramp.training._schedule import learning_rate

STEPS, EPOCHS = 40, 50  # 40 steps in each of 50 epochs

ORACLES = {
    "constant": lambda o: lr_scheduler.LambdaLR(o, lambda step: 1.0),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS * EPOCHS),
    "multistep": lambda o: lr_scheduler.MultiStepLR(o, [STEPS * 20, STEPS * 35], gamma=0.2),
    "onecycle": lambda o: lr_scheduler.OneCycleLR(o, 0.4, STEPS * EPOCHS, cycle_momentum=False),
}


@pytest.mark.parametrize("name", ORACLES)
def test_schedule_equals_torchs(name):
    recipe = Recipe(epochs=EPOCHS, lr=0.4, schedule=name, milestones=(20, 35), gamma=0.2)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    oracle = ORACLES[name](optimizer)
    # torch's one cycle starts and ends exactly on a step, ours half a step beside
    tolerance = 1e-3 * 0.4 if name == "onecycle" else 1e-9
    for step in range(STEPS * EPOCHS):
        assert learning_rate(recipe, step, STEPS) == pytest.approx(oracle.get_last_lr()[0], abs=tolerance), (
            step
        )
        optimizer.step()
        oracle.step()


@pytest.mark.parametrize("total", range(1, 8))
def test_one_cycle_of_very_few_steps_trains(total):
    rates = [learning_rate(Recipe(epochs=total, lr=0.4), step, 1) for step in range(total)]
    assert all(0 < rate <= 0.4 for rate in rates)
    assert max(rates) > 0.1


def test_published_drops():
    recipe = Recipe.load("paper")
    rates = {
        epoch: learning_rate(recipe, epoch * 100 + 99, 100)
        for epoch in (0, 249, 250, 279, 280, 294, 295, 299)
    }
    expected = {0: 0.1, 249: 0.1, 250: 0.01, 279: 0.01, 280: 1e-3, 294: 1e-3, 295: 1e-4, 299: 1e-4}
    assert rates == pytest.approx(expected)
