"""What a policy decides on recorded logits: where each sample leaves, with which answer, and at what cost."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from offramp.checks import described, of_kind
from offramp.errors import UserError
from offramp.exits._gate import Gate
from offramp.exits.confidence import Reading
from offramp.exits.exit_logits import ExitLogits
from offramp.exits.policy import Policy

__all__ = ["Decisions", "Paths", "decide", "readings"]


class Paths(Protocol):
    """What it takes to leave at each exit: operations (:class:`PathCosts`) or seconds."""

    def of(self, evaluated: Collection[int]) -> Sequence[float]:
        """The cost of leaving at each evaluated exit, for one sample."""


class Decisions(NamedTuple):
    """What a policy decides for N samples.

    Attributes:
        prediction: The classes, int64 ``[N]``.
        exit: The numbers of the exits at which the samples leave, from 1, int64 ``[N]``.
        confidence: How sure these are, ``[N]``.
        correct: Whether the predictions are right, bool ``[N]``.
        cost: What each sample takes, ``[N]``: int64 operations, or seconds; None where unknown.
    """

    prediction: Tensor
    exit: Tensor
    confidence: Tensor
    correct: Tensor
    cost: Tensor | None

    @property
    def accuracy(self) -> float:
        """Share of right predictions, from 0 to 1."""
        return self.correct.double().mean().item()

    @property
    def mean_cost(self) -> float | None:
        """Mean cost of a sample; None where costs are unknown."""
        return None if self.cost is None else self.cost.double().mean().item()

    def shares(self, num_exits: int) -> list[float]:
        """The share of the samples that leaves at each of the K exits."""
        counts = torch.bincount(self.exit - 1, minlength=num_exits)
        return (counts.double() / len(self.exit)).tolist()


def decide(recorded: ExitLogits, policy: Policy, costs: Paths | None = None) -> Decisions:
    """Decide as :class:`~offramp.exits.Router` does, on logits that were recorded.

    Args:
        recorded: The logits.
        policy: When samples leave.
        costs: What it takes to leave at each exit, e.g. ``PathCosts(net)``.

    Raises:
        UserError: The policy is for another number of exits or classes, or another net.
    """
    of_kind("recorded", recorded, ExitLogits, "ExitLogits, e.g. ExitLogits.of(net, batches)")
    of_kind("policy", policy, Policy, "a Policy, as offramp.calibrate returns it")
    if costs is not None and not hasattr(costs, "of"):
        raise UserError(f"costs are {described(costs)}, must be e.g. PathCosts(net)")
    if policy.num_exits != recorded.num_exits:
        raise UserError(
            f"the policy is for {policy.num_exits} exits, the logits are of {recorded.num_exits}; "
            "take those of one net"
        )
    policy.check_classes(recorded.classes)
    if None not in (policy.net, recorded.net) and policy.net != recorded.net:
        raise UserError("the policy and the recorded logits are of different nets; record this net's")
    samples = len(recorded)
    exit = torch.zeros(samples, dtype=torch.int64)
    prediction = torch.zeros(samples, dtype=torch.int64)
    confidence = torch.zeros(samples, dtype=recorded.logits.dtype)
    inside = torch.ones(samples, dtype=torch.bool)
    for gate, reading in readings(recorded, policy):
        leaves = gate.leaves(reading) & inside
        exit[leaves] = gate.exit
        prediction[leaves] = reading.prediction[leaves]
        confidence[leaves] = reading.confidence[leaves].to(confidence)
        inside &= ~leaves
    cost = None
    if costs is not None:
        table = torch.from_numpy(np.array(costs.of(policy.evaluated)))
        cost = table[torch.searchsorted(torch.tensor(policy.evaluated), exit)]
    return Decisions(prediction, exit, confidence, prediction == recorded.labels, cost)


def readings(recorded: ExitLogits, policy: Policy) -> Iterator[tuple[Gate, Reading]]:
    """What each evaluated exit says about all N samples, as if none had left before."""
    state = None
    for k in policy.evaluated:
        gate = Gate(policy, k)
        reading = gate.read(recorded.logits[k - 1], state)
        yield gate, reading
        state = reading.state
