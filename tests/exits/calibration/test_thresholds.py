"""Thresholds for a budget: against all there are on small problems, and against the published ones."""

import itertools

import numpy as np
import pytest
import torch
from made_logits import Costs, made_logits

from offramp.exits import Policy, decide
from offramp.exits.calibration import POINTS, published
from offramp.exits.calibration._ascent import ascend, within
from offramp.exits.calibration._budget import best, cheapest, published_within
from offramp.exits.calibration._table import tabulate
from offramp.exits.calibration.reading import Reader

STAGES, HEADS = (20, 30, 40, 50), (1, 1, 1, 1)
COSTS = Costs(STAGES, HEADS)
DEAR = Costs(STAGES, (8, 12, 8, 8))


def every_policy(recorded, reading):
    """All that decide differently on the samples: each exit left out, or cut at one of the confidences."""
    cuts = []
    for k in range(1, recorded.num_exits):
        table = tabulate(recorded, reading, (k, recorded.num_exits), COSTS)
        cuts.append([None, -1e8, *sorted(set(table.confidence[0].tolist()))])
    for thresholds in itertools.product(*cuts):
        yield Policy(thresholds, reading.confidence)


@pytest.mark.parametrize("confidence", ["max-softmax", "patience"])
@pytest.mark.parametrize("seed", range(4))
def test_nearly_as_many_are_right_as_can_be(seed, confidence):
    recorded = made_logits(11, exits=3, seed=seed)
    reading, costs = Policy.full(3), Costs(STAGES[:3], HEADS[:3])
    reading = Policy(reading.thresholds, confidence)
    decided = [decide(recorded, policy, costs) for policy in every_policy(recorded, reading)]
    right = np.array([each.correct.sum().item() for each in decided])
    cost = np.array([each.mean_cost for each in decided])
    for limit in (22, 30, 45, 60, 80):
        found = decide(recorded, best(recorded, reading, costs, limit), costs)
        assert found.mean_cost <= limit * (1 + 1e-9)
        assert found.correct.sum().item() >= right[cost <= limit].max() - 1


@pytest.mark.parametrize("seed", range(3))
def test_a_single_threshold_is_the_best_there_is(seed):
    recorded = made_logits(60, exits=2, seed=seed)
    reading, costs = Policy.full(2), Costs((20, 30), (1, 1))
    decided = [decide(recorded, policy, costs) for policy in every_policy(recorded, reading)]
    for limit in (21, 28, 35, 50):
        found = decide(recorded, best(recorded, reading, costs, limit), costs)
        assert found.accuracy == max(each.accuracy for each in decided if each.mean_cost <= limit)


READERS = [
    Reader(),
    Reader("margin", temperatures=True),
    Reader("entropy"),
    Reader("patience"),
    Reader("ensemble"),
]


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.confidence)
@pytest.mark.parametrize("costs", [COSTS, DEAR], ids=["cheap", "dear"])
@pytest.mark.parametrize("seed", range(3))
def test_never_fewer_are_right_than_by_the_published_thresholds(reader, costs, seed):
    recorded = made_logits(150 + 50 * seed, seed=seed)
    reading = reader.fit(recorded)
    for p in (4, 12, 20, 32):
        rival = decide(recorded, published(recorded, reading, p / 20), costs)
        for per_class in (False, True):
            policy = best(recorded, reading, costs, rival.mean_cost, per_class=per_class)
            found = decide(recorded, policy, costs)
            assert found.accuracy >= rival.accuracy
            assert found.mean_cost <= rival.mean_cost * (1 + 1e-9)


@pytest.mark.parametrize(("exits", "seed", "share"), [(3, 0, 0.4), (4, 2, 0.5)])
def test_exits_that_all_pay_are_no_reason_for_fewer_right_ones(exits, seed, share):
    """The published points are a beginning of this search too; by prices alone it ended below the other."""
    recorded, costs = made_logits(300, exits=exits, seed=seed), Costs(STAGES[:exits], HEADS[:exits])
    limit = share * costs.of([exits])[0]
    one, other = (
        decide(recorded, best(recorded, Policy.full(exits), costs, limit, must_pay=must_pay), costs)
        for must_pay in (False, True)
    )
    assert other.correct.sum() >= one.correct.sum() and other.mean_cost <= limit


def test_more_are_right_than_by_the_published_thresholds_on_new_samples_too():
    """By how much depends on the net; `Costs` and logits here are made."""
    gains = []
    for seed in range(4):
        val, test = made_logits(2000, seed=seed), made_logits(4000, seed=100 + seed)
        rival = published(val, Policy.full(4), 0.6)
        found = best(val, Policy.full(4), COSTS, decide(val, rival, COSTS).mean_cost)
        measured, theirs = decide(test, found, COSTS), decide(test, rival, COSTS)
        assert abs(measured.mean_cost / theirs.mean_cost - 1) < 0.03
        gains.append(measured.accuracy - theirs.accuracy)
    assert np.mean(gains) > 0


def test_thresholds_per_class_leave_classes_that_never_come_as_they_are():
    recorded = made_logits(200)
    recorded = recorded.take(recorded.logits[0].argmax(-1) != 2)
    table = tabulate(recorded, Policy.full(4), (1, 4), COSTS)
    start = np.full((1, 5), 0.375)
    found = ascend(table, start, within(60.0 * len(recorded)))
    assert found[0, 2] == 0.375 and len(set(found[0])) > 2


def test_classes_have_thresholds_of_their_own():
    recorded = made_logits(400)
    one = best(recorded, Policy.full(4), COSTS, 40)
    own = best(recorded, Policy.full(4), COSTS, 40, per_class=True)
    assert own.evaluated == one.evaluated
    assert all(t is None or len(t) == 5 for t in own.thresholds)
    one, own = decide(recorded, one, COSTS), decide(recorded, own, COSTS)
    assert own.accuracy > one.accuracy and own.mean_cost <= 40


def test_exits_that_are_not_evaluated_cost_nothing():
    recorded = made_logits(300)
    costly = Costs(STAGES, (1, 500, 1, 1))  # nothing can pay for the head of exit 2
    policy = best(recorded, Policy.full(4), costly, 80)
    assert 2 not in policy.evaluated
    assert decide(recorded, policy, costly).mean_cost <= 80


def test_the_cheapest_answer_need_not_be_the_first_exit_s():
    recorded = made_logits(200)
    for heads, exit, least in (((500, 1, 1, 1), 2, 51), ((500, 600, 1, 1), 3, 91)):
        costs = Costs(STAGES, heads)
        assert cheapest(costs, 4) == (least, exit)
        for must_pay in (False, True):
            policy = best(recorded, Policy.full(4), costs, least, must_pay=must_pay)
            found = decide(recorded, policy, costs)
            assert set(found.exit.tolist()) == {exit} and found.mean_cost == least


@pytest.mark.parametrize("heads", [(1, 1, 1, 1), (8, 12, 8, 8), (1, 30, 1, 1), (15, 25, 35, 5)])
@pytest.mark.parametrize("limit", [0.5, 0.75, 0.95])
def test_exits_that_are_left_pay(heads, limit):
    recorded, costs = made_logits(300), Costs(STAGES, heads)
    policy = best(recorded, Policy.full(4), costs, limit * costs.of([4])[0], must_pay=True)
    mine = decide(recorded, policy, costs)
    assert mine.mean_cost <= limit * costs.of([4])[0] * (1 + 1e-9)
    for k in policy.evaluated[:-1]:
        without = list(policy.thresholds)
        without[k - 1] = None
        assert decide(recorded, Policy(without), costs).mean_cost > mine.mean_cost


def test_the_published_point_next_below_the_budget():
    recorded, reading = made_logits(300), Policy.full(4)
    points = [published(recorded, reading, p / 20) for p in POINTS]
    costs = [decide(recorded, point, COSTS).mean_cost for point in points]
    for limit in (min(costs), 60, 90, 1000):
        expected = max(cost for cost in costs if cost <= limit)
        found = published_within(recorded, reading, COSTS, limit)
        assert found in points and decide(recorded, found, COSTS).mean_cost == expected
    assert published_within(recorded, reading, COSTS, min(costs) - 1) is None


def test_neighbouring_floats_are_told_apart():
    above = torch.tensor(0.7)
    below = torch.nextafter(above, torch.tensor(0.0))
    recorded = made_logits(2, exits=2)
    table = tabulate(recorded, Policy.full(2), (1, 2), Costs((20, 30), (1, 1)))
    confidence = np.stack([torch.stack([below, above]).numpy(), table.confidence[1]])
    right = np.array([[0, 1], [1, 0]])
    pair = type(table)(table.evaluated, confidence, table.prediction, right, table.costs)
    found = ascend(pair, np.full((1, 1), np.inf), within(1e9))
    assert pair.taken(found).tolist() == [1, 0]
