"""Decisions on recorded logits against the router, which runs the net."""

import pytest
import torch
from test_router import CLASSES, ENSEMBLE, Refining, build, head, images

from offramp.errors import UserError
from offramp.exits import ExitLogits, PathCosts, Policy, Router, decide
from offramp.exits._gate import Gate
from offramp.exits.confidence import Reading
from offramp.exits.leaving import leaves, threshold_rows

LABELS = torch.arange(33) % CLASSES


@pytest.mark.parametrize(
    "policy",
    [
        Policy((0.8, 0.66, 0.65)),
        Policy((0.8, None, 0.65), temperatures=(0.5, 2.0, 1.5, 3.0)),
        Policy((0.8, (0.5, 0.9, 0.4, 0.7, 0.6), None), "margin"),
        Policy((0.8, 0.6, 0.5), "entropy"),
        Policy((2, None, 2), "patience"),
        Policy((0.7, 0.6, 0.6), "ensemble", ensemble=ENSEMBLE),
        Policy((None, 0.6, 0.6), "ensemble", ensemble=ENSEMBLE),
        Policy.full(4),
    ],
)
@pytest.mark.parametrize("refining", [False, True])
def test_recorded_logits_are_decided_on_as_the_router_does(policy, refining):
    heads = [head(), Refining(), Refining(), head()] if refining else []
    net, x = build(*heads), images(33)
    recorded = ExitLogits.of(net, [(x[:20], LABELS[:20]), (x[20:], LABELS[20:])])
    decided, answer = decide(recorded, policy, PathCosts(net)), Router(net, policy)(x)
    assert torch.equal(decided.exit, answer.exit)
    assert torch.equal(decided.prediction, answer.prediction)
    assert torch.equal(decided.cost, answer.cost)
    torch.testing.assert_close(decided.confidence, answer.confidence.double())
    assert torch.equal(decided.correct, answer.prediction == LABELS)
    assert decided.shares(4) == [(answer.exit == k).sum().item() / 33 for k in range(1, 5)]
    assert decided.mean_cost == pytest.approx(answer.cost.double().mean().item())


def test_policies_and_logits_of_different_nets_are_refused():
    recorded = ExitLogits.of(build(), [(images(3), LABELS[:3])])
    with pytest.raises(UserError, match="for 2 exits, the logits are of 4"):
        decide(recorded, Policy((0.5,)))
    with pytest.raises(UserError, match="of different nets"):
        decide(recorded, Policy((0.5,) * 3, net="0" * 16))
    assert decide(recorded, Policy((0.5,) * 3)).cost is None


@pytest.mark.parametrize("threshold", [0.7, (0.7, 0.7), (0.7000000001, 0.7)])
def test_a_confidence_that_is_the_threshold_leaves_in_torch_as_in_a_bundle(threshold):
    """0.7 is no float32: the next one, which is below, reaches it, be it for all classes or for each."""
    policy, prediction = Policy([threshold]), torch.tensor([0, 1, 0])
    reading = Reading(torch.tensor([0.7, 0.7, 0.6999999]), prediction)
    (row,) = threshold_rows({"thresholds": policy.thresholds})
    for of in (Gate(policy, 1).leaves(reading).tolist(), Gate(policy, 1).leaving(reading)):
        assert of == leaves(reading.confidence.numpy(), prediction.numpy(), row).tolist()
        assert of == [True, True, False]
