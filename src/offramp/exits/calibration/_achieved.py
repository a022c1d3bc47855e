"""What a policy achieves on samples, as its file notes it."""

from __future__ import annotations

from typing import Any

from offramp.exits.decisions import Paths, decide
from offramp.exits.exit_logits import ExitLogits
from offramp.exits.policy import Policy

__all__ = ["achieved"]


def achieved(policy: Policy, recorded: ExitLogits, costs: Paths | None) -> dict[str, Any]:
    """Accuracies from 0 to 1, the share of the samples at each exit, and the mean cost if costs are known.

    Args:
        policy: The policy.
        recorded: The samples.
        costs: What it takes to leave at each exit, in operations or seconds.
    """
    decided = decide(recorded, policy, costs)
    return {
        "accuracy": decided.accuracy,
        "full_accuracy": decide(recorded, Policy.full(recorded.num_exits)).accuracy,
        **({} if costs is None else {"cost": decided.mean_cost}),
        "exits": decided.shares(recorded.num_exits),
    }
