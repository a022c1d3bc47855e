"""Thresholds by precision against a loop that tries every confidence of the samples that come to an exit."""

import numpy as np
import pytest
import torch
from made_logits import Costs, made_logits

from offramp import UserError
from offramp.exits import ExitLogits, Policy, decide
from offramp.exits.calibration._budget import precise_within
from offramp.exits.calibration._precision import PRECISIONS, precise_thresholds
from offramp.exits.calibration._table import tabulate
from offramp.exits.calibration.reading import Reader
from offramp.exits.calibration.to_cost import to_budget
from offramp.reports.policy_text import policy_text

COSTS = Costs((20, 30, 40, 50), (1, 1, 1, 1))
CLASSES = 5


def by_trying(table, precision, classes):
    """Of every exit and class the lowest confidence that keeps to the precision, among those still there."""
    thresholds = np.full((len(table.evaluated) - 1, classes), np.inf)
    there = list(range(table.samples))
    for exit in range(len(thresholds)):
        for group in range(classes):
            mine = [n for n in there if classes == 1 or table.prediction[exit, n] == group]
            for threshold in sorted({table.confidence[exit, n] for n in mine}, reverse=True):
                leaving = [n for n in mine if table.confidence[exit, n] >= threshold]
                if sum(table.right[exit, n] for n in leaving) / len(leaving) >= precision:
                    thresholds[exit, group] = threshold
        there = [
            n
            for n in there
            if table.confidence[exit, n] < thresholds[exit, table.prediction[exit, n] if classes > 1 else 0]
        ]
    return thresholds


@pytest.mark.parametrize("classes", [1, CLASSES])
@pytest.mark.parametrize("confidence", ["max-softmax", "entropy", "patience"])
@pytest.mark.parametrize("seed", range(3))
def test_every_threshold_is_the_lowest_that_keeps_to_the_precision(seed, confidence, classes):
    recorded = made_logits(120, seed=seed)
    recorded = recorded.take(recorded.logits[1].argmax(-1) != 2)  # a class that comes to exit 2 in no sample
    table = tabulate(recorded, Policy((None,) * 3, confidence), (1, 2, 3, 4), COSTS)
    for precision in (1.0, 0.9, 0.75, 0.5, 0.0):
        found = precise_thresholds(table, precision, classes=classes)
        assert (found == by_trying(table, precision, classes)).all()


def test_what_left_before_does_not_count():
    """At exit 2 the sure samples are right, but exit 1 has let them go; of those that come half are wrong."""
    first = [[9.0, 0.0], [9.0, 0.0], [0.0, 0.1], [0.0, 0.1]]
    second = [[9.0, 0.0], [8.0, 0.0], [5.0, 0.0], [5.0, 0.0]]
    labels = torch.tensor([0, 0, 0, 1])
    recorded = ExitLogits(torch.tensor([first, second, second]), labels, net="00")
    table = tabulate(recorded, Policy.full(3), (1, 2, 3), Costs((1, 1, 1), (0, 0, 0)))
    found = precise_thresholds(table, 0.7, classes=2)
    assert found[0, 0] == table.confidence[0, 1] and found[1, 0] == np.inf
    alone = tabulate(recorded, Policy.full(3), (2, 3), Costs((1, 1, 1), (0, 0, 0)))
    assert precise_thresholds(alone, 0.7, classes=2)[0, 0] == alone.confidence[0, 2]  # all: 3 of 4 are right


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("limit", [30.0, 60.0, 100.0])
def test_the_precision_whose_cost_is_next_below_the_budget(limit, per_class):
    recorded, reading = made_logits(300), Policy.full(4)
    classes = CLASSES if per_class else 1
    table = tabulate(recorded, reading, (1, 2, 3, 4), COSTS)
    costs = [
        table.outcome(precise_thresholds(table, each, classes=classes))[1] / len(recorded)
        for each in PRECISIONS
    ]
    policy, precision = precise_within(recorded, reading, COSTS, limit, per_class=per_class)
    decided = decide(recorded, policy, COSTS)
    assert decided.mean_cost == pytest.approx(max(cost for cost in costs if cost <= limit))
    assert policy.evaluated == (1, 2, 3, 4)
    for k in range(1, 4):
        for group in range(classes):
            left = (decided.exit == k) & ((decided.prediction == group) | (not per_class))
            if left.any():
                assert decided.correct[left].double().mean() >= precision


def test_the_policy_says_which_precision_it_has():
    recorded = made_logits(300)
    costs = type("", (Costs,), {"static": 141.0, "convention": "macs"})(COSTS.stages, COSTS.heads)
    policy = to_budget(recorded, Reader(), costs, 60, rule="precision", per_class=True)
    assert all(len(thresholds) == CLASSES for thresholds in policy.thresholds)
    precision = policy.calibration["target"]["precision"]
    noted = {**policy.calibration, "samples": 300}
    told = policy_text(Policy(policy.thresholds, calibration=noted))
    assert f"precision thresholds, {100 * precision:g} % of those that leave right" in told
    with pytest.raises(UserError, match=r"curve of all precisions begins above budget=21.*rule='best'"):
        to_budget(made_logits(40, seed=3), Reader(), costs_without_first(), 21, rule="precision")


def costs_without_first():
    """Costs of which the cheapest answer is that of exit 2, since the head of exit 1 is dear."""
    return type("", (Costs,), {"static": 141.0, "convention": "macs"})((5, 5, 40, 50), (500, 10, 1, 1))
