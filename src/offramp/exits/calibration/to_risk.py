"""Calibration to a risk: fitted on one half of the samples, tested on the other."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch

from offramp.errors import UserError
from offramp.exits.calibration._achieved import achieved
from offramp.exits.calibration._bounds import clopper_pearson
from offramp.exits.calibration._risk import (
    enough_samples,
    in_expectation,
    least_risk,
    least_with,
    with_confidence,
)
from offramp.exits.calibration._risk_path import Loss, find_path
from offramp.exits.calibration.reading import Reader
from offramp.exits.decisions import Paths
from offramp.exits.exit_logits import ExitLogits
from offramp.exits.path_costs import PathCosts
from offramp.exits.policy import Policy
from offramp.nets import MultiExitNet
from offramp.say import say

__all__ = ["Loss", "costs_if_known", "to_risk"]


def to_risk(
    recorded: ExitLogits,
    reader: Reader,
    costs: Paths | None,
    *,
    risk: float,
    delta: float | None = 0.05,
    loss: Loss = "wrong",
) -> Policy:
    """The cheapest policy of a path that keeps to a risk, or the full network; see :func:`offramp.calibrate`.

    Args:
        recorded: The samples; a random half of them fits what there is to fit and the path, the other half
            tests it.
        reader: What is to be fitted besides thresholds.
        costs: What it takes to leave at each exit; None: unknown, and no exit is left out.
        risk: Between 0 and 1.
        delta: Between 0 and 1, for confidence ``1 - delta``; None: in expectation.
        loss: ``"wrong"`` or ``"brier"``.
    """
    order = torch.randperm(len(recorded), generator=torch.Generator().manual_seed(0))
    fitting, testing = (order[len(order) // 2 :], order[: len(order) // 2])
    promise = f"a risk of {risk:g} " + ("in expectation" if delta is None else f"at delta={delta:g}")
    note: dict[str, Any] = {"target": {"risk": risk, "delta": delta, "loss": loss}}
    needed = enough_samples(risk, delta)
    if len(testing) < needed:
        least = least_with(len(testing), delta)
        why = (
            f"{promise} takes {2 * needed} samples, half of them to test it, "
            f"and there are {len(order)}, which show {least:.3g} at best"
        )
        return _full(recorded, reader, costs, why, note)
    path = find_path(recorded.take(fitting), reader, loss, costs or _Free(), risk)
    losses, _ = path.outcomes(recorded.take(testing))
    if delta is None:
        passed = in_expectation(losses, risk)
    else:
        passed = with_confidence(losses, risk, delta, binary=loss == "wrong")
    if passed < 2:  # at the first, nobody leaves
        least = least_risk(losses, delta, binary=loss == "wrong")
        why = (
            f"no threshold shows {promise} on the {len(testing)} samples that test it, "
            f"the least is {least:.3g}"
        )
        return _full(recorded, reader, costs, why, note)
    policy, lost = path.policy(passed - 1), losses[passed - 1]
    test: dict[str, Any] = {"tested_on": len(testing), "risk": float(lost.mean())}
    if delta is not None and loss == "wrong":
        test["bound"] = clopper_pearson(int(lost.sum()), len(lost), delta)
    test |= achieved(policy, recorded.take(testing), costs)
    return replace(policy, calibration=note | {"achieved": test})


def costs_if_known(net: MultiExitNet, convention: str | None) -> PathCosts | None:
    """The operations of a net, unless some are unknown."""
    try:
        return PathCosts(net, convention)
    except UserError:
        return None


class _Free:
    """Costs where none are known."""

    def of(self, evaluated: Collection[int]) -> list[float]:
        return [0.0] * len(evaluated)


def _full(
    recorded: ExitLogits, reader: Reader, costs: Paths | None, why: str, note: dict[str, Any]
) -> Policy:
    """The policy by which nobody leaves early, and a line that says why; nothing is fitted for it."""
    say(f"{why}: every sample goes through the full network")
    policy = replace(reader, temperatures=False).full(recorded)
    return replace(policy, calibration=note | {"full": why, "achieved": achieved(policy, recorded, costs)})
