"""The curve of a budget against loops over samples and exits."""

import math

import pytest
import torch
from torch import nn

from offramp import UserError
from offramp.exits import ExitLogits, PathCosts, decide
from offramp.exits.budget_curve import budget_curve
from offramp.nets import MultiExitNet

EXITS, CLASSES = 3, 5
# products by hand: stages of 8 x 8, 8 x 8, 8 x 4; heads of 8 x 5, 8 x 5 and 4 x 5
STAGES, HEADS = (64, 64, 32), (40, 40, 20)


@pytest.fixture(scope="module")
def net():
    stages = [nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)]
    heads = [nn.Linear(8, CLASSES), nn.Linear(8, CLASSES), nn.Linear(4, CLASSES)]
    return MultiExitNet(stages, heads, input_size=(8,))


def recorded(samples, seed):
    """Made logits, deeper exits surer and more often right."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (samples,), generator=draws)
    logits = torch.randn(EXITS, samples, CLASSES, generator=draws)
    logits += 0.7 * nn.functional.one_hot(labels, CLASSES) * torch.arange(1, EXITS + 1)[:, None, None]
    return ExitLogits(logits, labels)


@pytest.fixture(scope="module")
def curve(net):
    return budget_curve(recorded(18, 1), recorded(200, 2), PathCosts(net))


def with_all_heads(exit):
    return sum(STAGES[:exit]) + sum(HEADS[:exit])


def test_points_are_those_of_a_loop_that_leaves_at_the_first_sure_exit(curve):
    """Huang et al. (2018), written down sample by sample."""
    val, test = recorded(18, 1), recorded(200, 2)
    assert len(curve.published) == 40
    sure = val.logits.softmax(-1).amax(-1)
    for p, (_, val_top1, point) in enumerate(curve.published, 1):
        powers = [(p / 20) ** k for k in (1, 2, 3)]
        left, thresholds = set(), []
        for exit in range(EXITS - 1):
            count = math.floor(len(val) * powers[exit] / sum(powers) + 1e-4)  # published in float32
            order = [i for i in sure[exit].argsort(descending=True).tolist() if i not in left]
            threshold = sure[exit][order[count - 1]] if 0 < count <= len(order) else math.inf
            left |= {i for i in range(len(val)) if sure[exit][i] >= threshold}
            thresholds.append(threshold)
        open_exits = [threshold < math.inf for threshold in thresholds]
        right = flops = executed = 0
        for i in range(len(test)):
            sure_of = test.logits[:, i].softmax(-1).amax(-1)
            exit = next((k for k, t in enumerate(thresholds, 1) if sure_of[k - 1] >= t), EXITS)
            right += int(test.logits[exit - 1, i].argmax() == test.labels[i])
            flops += with_all_heads(exit)
            heads = sum(HEADS[k - 1] for k in range(1, exit) if open_exits[k - 1]) + HEADS[exit - 1]
            executed += sum(STAGES[:exit]) + heads
        kept = [next((k for k, t in enumerate(thresholds) if sure[k][i] >= t), EXITS - 1) for i in range(18)]
        right_val = [val.logits[k, i].argmax() == val.labels[i] for i, k in enumerate(kept)]
        assert val_top1 == pytest.approx(100 * sum(map(int, right_val)) / 18)
        assert point[:3] == pytest.approx((right / 2, flops / 200, executed / 200)), p
    assert not all(each.point.flops == each.point.executed for each in curve.published), (
        "some head shall never be needed"
    )


def test_costs_of_the_curve_rise_with_the_budget(curve):
    planned = sum(share * with_all_heads(k) for k, share in ((1, 1 / 7), (2, 2 / 7), (3, 4 / 7)))  # p = 40
    assert curve.published[0].point.flops == pytest.approx(with_all_heads(1), rel=0.2)  # of 18 samples
    assert curve.published[-1].point.flops == pytest.approx(planned, rel=0.2)
    assert all(sum(point.shares) == pytest.approx(1) for _, _, point in curve.published)


def test_exits_oracle_and_static_network(curve):
    test = recorded(200, 2)
    right = [[bool(a == b) for a, b in zip(e.argmax(-1), test.labels, strict=True)] for e in test.logits]
    for exit, point in enumerate(curve.exits, 1):
        assert point.top1 == pytest.approx(sum(right[exit - 1]) / 2)
        assert point.flops == with_all_heads(exit)
        assert point.executed == sum(STAGES[:exit]) + HEADS[exit - 1]
    assert curve.static == (curve.exits[-1].top1, sum(STAGES) + HEADS[-1], sum(STAGES) + HEADS[-1], (0, 0, 1))
    first = [next((k for k in (1, 2, 3) if right[k - 1][i]), None) for i in range(200)]
    assert curve.oracle.top1 == pytest.approx(sum(k is not None for k in first) / 2)
    assert curve.oracle.flops == pytest.approx(sum(with_all_heads(k or EXITS) for k in first) / 200)
    assert curve.oracle.executed == curve.oracle.flops
    assert curve.oracle.top1 >= max(
        point.top1 for point in (*(each.point for each in curve.published), *curve.exits)
    )


def test_the_best_thresholds_are_never_below_the_published_ones_on_validation(net):
    val, test, costs = recorded(60, 3), recorded(50, 4), PathCosts(net)
    curve = budget_curve(val, test, costs, best=True)
    assert len(curve.best) == 40
    gains = []
    for published, best in zip(curve.published, curve.best, strict=True):
        budget = decide(val, published.policy, costs).mean_cost
        assert decide(val, best.policy, costs).mean_cost <= budget * (1 + 1e-9)
        if budget < costs.static:  # from there on nobody leaves early
            gains.append(best.val_top1 - published.val_top1)
    assert len(gains) > 10
    assert min(gains) >= 0
    assert max(gains) > 1


def test_logits_of_different_nets_are_refused(net):
    val = recorded(20, 1)
    other = ExitLogits(val.logits[1:], val.labels)
    with pytest.raises(UserError, match="of different nets"):
        budget_curve(val, other, PathCosts(net))
