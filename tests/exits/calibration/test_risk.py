"""Risks: what a loss is, which candidates are tested, and that the promise is kept over many draws."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_logits import Costs, made_logits

from offramp.errors import UserError
from offramp.exits import ExitLogits, Policy, decide
from offramp.exits.calibration._bounds import binomial_tail, clopper_pearson, hoeffding_bentkus
from offramp.exits.calibration._risk import (
    enough_samples,
    in_expectation,
    least_risk,
    least_with,
    with_confidence,
)
from offramp.exits.calibration._risk_path import _cost_within, find_path
from offramp.exits.calibration.reading import Reader
from offramp.exits.calibration.to_risk import to_risk

COSTS = Costs((20, 30, 40, 50), (1, 1, 1, 1))


class Population:
    """A few kinds of samples, of known shares, so that the risk of every policy is known."""

    def __init__(self, kinds: int = 150, exits: int = 3, seed: int = 0):
        self.kinds = made_logits(kinds, exits=exits, classes=3, seed=seed)
        draws = torch.Generator().manual_seed(seed)
        self.shares = torch.rand(kinds, generator=draws, dtype=torch.float64)
        self.shares /= self.shares.sum()

    def draw(self, samples: int, seed: int) -> ExitLogits:
        generator = torch.Generator().manual_seed(seed)
        return self.kinds.take(torch.multinomial(self.shares, samples, replacement=True, generator=generator))

    def risk(self, policy: Policy, loss: str = "wrong") -> float:
        decided = decide(self.kinds, policy)
        if loss == "wrong":
            full = self.kinds.logits[-1].argmax(-1) == self.kinds.labels
            lost = (full & ~decided.correct).double()
        else:
            lost = (brier(self.kinds, policy, decided.exit) - brier(self.kinds, policy)).clamp(min=0)
        return (self.shares * lost).sum().item()


def brier(recorded: ExitLogits, policy: Policy, exit: torch.Tensor | None = None) -> torch.Tensor:
    """Half the Brier score of each sample, at its exit or at the last, by a slow loop."""
    scores = []
    for n, label in enumerate(recorded.labels.tolist()):
        k = recorded.num_exits if exit is None else int(exit[n])
        p = (recorded.logits[k - 1, n].double() / policy.temperatures[k - 1]).softmax(0)
        scores.append(sum((value - (c == label)) ** 2 for c, value in enumerate(p.tolist())) / 2)
    return torch.tensor(scores, dtype=torch.float64)


POPULATION = Population()


@pytest.mark.parametrize(
    ("loss", "risk", "delta", "draws"),
    [("wrong", 0.05, 0.1, 400), ("wrong", 0.1, 0.3, 100), ("brier", 0.08, 0.2, 100)],
)
def test_the_promise_is_kept(loss, risk, delta, draws):
    violated = left_early = 0
    for seed in range(draws):
        recorded = POPULATION.draw(300, seed)
        policy = to_risk(recorded, Reader(), COSTS, risk=risk, delta=delta, loss=loss)
        violated += POPULATION.risk(policy, loss) > risk
        left_early += policy.evaluated != (3,)
    assert violated / draws <= delta + 3 * math.sqrt(delta * (1 - delta) / draws)
    assert left_early / draws > 0.9  # a promise that nobody leaves early is easily kept


def test_the_promise_needs_the_test():
    """What keeps to the risk on the samples themselves breaks it far more often than every tenth time."""
    broken = 0
    for seed in range(60):
        recorded = POPULATION.draw(150, seed)
        path = find_path(recorded, Reader(), "wrong", COSTS, 0.05)
        losses, _ = path.outcomes(recorded)
        last = max(j for j, mean in enumerate(losses.mean(1)) if mean <= 0.05)
        broken += POPULATION.risk(path.policy(last)) > 0.05
    assert broken / 60 > 0.2


@pytest.mark.parametrize(("loss", "risk"), [("wrong", 0.05), ("brier", 0.05)])
def test_the_promise_in_expectation_is_kept(loss, risk):
    risks = []
    for seed in range(150):
        policy = to_risk(POPULATION.draw(200, seed), Reader(), COSTS, risk=risk, delta=None, loss=loss)
        risks.append(POPULATION.risk(policy, loss))
    assert np.mean(risks) <= risk + 3 * np.std(risks) / math.sqrt(len(risks))
    assert np.mean(risks) > risk / 2
    assert max(risks) > risk  # single draws may be above it


@pytest.mark.parametrize("loss", ["wrong", "brier"])
def test_losses_are_those_of_a_slow_loop(loss):
    recorded = made_logits(200)
    path = find_path(recorded, Reader(temperatures=True), loss, COSTS, 0.1)
    losses, means = path.outcomes(recorded)
    assert losses.shape == (len(path.thresholds), 200) and losses.min() >= 0 and losses.max() <= 1
    gains = []
    for j in range(0, len(path.thresholds), 7):
        policy = path.policy(j)
        decided = decide(recorded, policy, COSTS)
        if loss == "wrong":
            full = decide(recorded, Policy.full(4)).correct
            expected = (full & ~decided.correct).double()
        else:
            lost = brier(recorded, policy, decided.exit) - brier(recorded, policy)
            gains.append(lost.min().item())
            expected = lost.clamp(min=0)
        np.testing.assert_allclose(losses[j], expected.numpy(), atol=1e-12)
        assert means[j] == pytest.approx(decided.mean_cost)
    assert loss == "wrong" or min(gains) < -0.01  # to leave early is a gain for some, and no loss


def test_the_path_goes_from_nobody_to_everybody():
    path = find_path(made_logits(100), Reader(), "wrong", COSTS, 0.1)
    assert sorted(path.thresholds, reverse=True) == [*path.thresholds]
    assert set(decide(made_logits(50, seed=1), path.policy(0)).exit.tolist()) == {4}
    first = path.evaluated[0]
    assert set(decide(made_logits(50, seed=1), path.policy(len(path.thresholds) - 1)).exit.tolist()) == {
        first
    }


def test_a_candidate_that_loses_as_much_as_the_risk_keeps_to_it():
    path = SimpleNamespace(
        outcomes=lambda recorded: (np.array([[0, 0], [0, 1], [1, 1]]), np.array([9, 7, 5]))
    )
    assert [_cost_within(path, None, risk) for risk in (0.4, 0.5, 0.9, 1.0)] == [9, 7, 7, 5]


def test_an_exit_that_does_not_pay_is_left_out_of_the_path():
    costly = Costs((20, 30, 40, 50), (1, 100, 1, 1))
    path = find_path(made_logits(300), Reader(), "wrong", costly, 0.05)
    assert 2 not in path.evaluated and len(path.evaluated) > 1
    assert find_path(made_logits(300), Reader(), "wrong", Costs((0,) * 4, (0,) * 4), 0.05).evaluated == (
        1, 2, 3, 4,
    )  # fmt: skip


def test_candidates_are_tested_in_order_until_one_is_not_shown():
    rows = [0, 1, 0, 6, 0]
    losses = np.array([[1] * count + [0] * (60 - count) for count in rows])
    p_values = [binomial_tail(count, 60, 0.1) for count in rows]
    assert [p <= 0.05 for p in p_values] == [True, True, True, False, True]
    assert with_confidence(losses, 0.1, 0.05, binary=True) == 3  # the fifth is not looked at
    assert with_confidence(losses[:3], 0.1, 0.05, binary=True) == 3
    assert with_confidence(losses, 0.1, 0.001, binary=True) == 0
    halves = losses / 2
    shown = [hoeffding_bentkus(row.mean(), 60, 0.1) <= 0.05 for row in halves]
    assert with_confidence(halves, 0.1, 0.05, binary=False) == (shown.index(False) if False in shown else 5)


@pytest.mark.parametrize("delta", [0.05, None])
@pytest.mark.parametrize("binary", [True, False])
def test_the_least_risk_is_where_a_second_candidate_passes(delta, binary):
    losses = np.array([[0] * 60, [1] * 4 + [0] * 56, [1] * 9 + [0] * 51]) * (1 if binary else 0.5)

    def passed(risk):
        if delta is None:
            return in_expectation(losses, risk)
        return with_confidence(losses, risk, delta, binary=binary)

    least = least_risk(losses, delta, binary=binary)
    assert passed(least) >= 2 > passed(least - 2e-6)
    nothing = np.zeros((2, 60))
    assert least_with(60, delta) == pytest.approx(least_risk(nothing, delta, binary=binary), abs=2e-6)
    assert enough_samples(least_with(60, delta) + 1e-9, delta) == 60


def test_in_expectation_losses_are_made_to_grow():
    """A sample that was lost by one candidate counts as lost by all that follow."""
    losses = np.zeros((4, 19))
    losses[1, 0] = losses[2, 1] = losses[3, 2] = 1
    # (grown sums + 1) / 20: 1, 2, 3, 4 of 20
    assert [in_expectation(losses, risk) for risk in (0.04, 0.05, 0.1, 0.15, 0.2)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("risk", "delta"), [(0.01, 0.05), (0.1, 0.2), (0.05, None)])
def test_too_few_samples_give_the_full_network_and_say_so(risk, delta, capsys):
    needed = enough_samples(risk, delta)
    perfect = made_logits(2 * needed + 1, exits=2)
    logits = 9 * torch.nn.functional.one_hot(perfect.labels, 5).float().expand(2, -1, -1)
    perfect = ExitLogits(logits, perfect.labels)
    few = to_risk(perfect.take(torch.arange(2 * needed - 1)), Reader(), None, risk=risk, delta=delta)
    assert few.evaluated == (2,) and few.thresholds == (None,)
    said = capsys.readouterr().err
    assert f"takes {2 * needed} samples" in said and "full network" in said and said.count("\n") == 1
    assert few.calibration["full"] in said
    enough = to_risk(perfect, Reader(), None, risk=risk, delta=delta)
    assert enough.evaluated == (1, 2) and not capsys.readouterr().err
    assert set(decide(perfect, enough).exit.tolist()) == {1}


def test_where_no_threshold_will_do_the_full_network_is_taken(capsys):
    recorded = made_logits(400)
    wrong = recorded.logits.clone()
    wrong[:3] = -10 * wrong[3]  # surely wrong
    policy = to_risk(ExitLogits(wrong, recorded.labels), Reader(), COSTS, risk=0.05)
    assert policy.evaluated == (4,)
    said = capsys.readouterr().err
    assert "no threshold shows a risk of 0.05 at delta=0.05 on the 200 samples that test it" in said
    least = float(re.search(r"the least is ([\d.]+)", said)[1])
    assert 0.05 < least < 1
    assert to_risk(ExitLogits(wrong, recorded.labels), Reader(), COSTS, risk=1.01 * least).evaluated != (4,)


def test_a_policy_remembers_how_it_was_tested():
    recorded = made_logits(600)
    policy = to_risk(recorded, Reader(temperatures=True), COSTS, risk=0.05)
    assert len(set(policy.temperatures)) == 4
    assert policy.calibration["target"] == {"risk": 0.05, "delta": 0.05, "loss": "wrong"}
    achieved = policy.calibration["achieved"]
    assert achieved["tested_on"] == 300 and achieved["risk"] < achieved["bound"] <= 0.05
    hits = round(300 * achieved["risk"])
    assert achieved["bound"] == pytest.approx(clopper_pearson(hits, 300, 0.05))
    assert 21 <= achieved["cost"] < 141
    assert "cost" not in to_risk(recorded, Reader(), None, risk=0.05).calibration["achieved"]


def test_an_ensemble_is_held_against_the_full_network_alone(capsys):
    """Its last exit predicts together with the others, and may be wrong where the full network is right."""
    recorded = made_logits(2000, exits=3)
    policy = to_risk(recorded, Reader("ensemble"), COSTS, risk=0.03)
    full = recorded.logits[-1].argmax(-1) == recorded.labels
    assert (full & ~decide(recorded, policy).correct).double().mean() <= 0.03
    with pytest.raises(UserError, match="Brier score is of an exit's own probabilities"):
        to_risk(recorded, Reader("ensemble"), COSTS, risk=0.05, loss="brier")
