"""The path of candidates from "nobody leaves" on, and what samples lose under each of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from offramp.errors import UserError
from offramp.exits.calibration._table import Array, Table, tabulate
from offramp.exits.calibration.published import NOBODY
from offramp.exits.calibration.reading import Reader
from offramp.exits.decisions import Paths
from offramp.exits.exit_logits import ExitLogits
from offramp.exits.policy import Policy

__all__ = ["Loss", "RiskPath", "find_path"]

Loss = Literal["wrong", "brier"]
CANDIDATES = 100


@dataclass(frozen=True)
class RiskPath:
    """Candidates that differ in one number: the threshold that all evaluated exits share.

    Attributes:
        reading: Says how confidences are read.
        evaluated: The exits, the last among them.
        thresholds: From high to low; at the first nobody leaves.
        loss: What is lost by leaving early.
        costs: What it takes to leave at each exit.
    """

    reading: Policy
    evaluated: tuple[int, ...]
    thresholds: tuple[float, ...]
    loss: Loss
    costs: Paths

    def policy(self, candidate: int) -> Policy:
        """One of the candidates, from 0."""
        threshold = self.thresholds[candidate]
        rows = [threshold if k in self.evaluated else None for k in range(1, self.reading.num_exits)]
        return replace(self.reading, thresholds=rows)

    def outcomes(self, recorded: ExitLogits) -> tuple[Array, Array]:
        """What each sample loses under each candidate, in [0, 1], ``[J, N]``; and the mean costs, ``[J]``."""
        table = tabulate(recorded, self.reading, self.evaluated, self.costs)
        lost = _losses(recorded, table, self.reading, self.loss)
        leaves = table.confidence[:-1, None] >= np.array(self.thresholds)[:, None]  # [m - 1, J, N]
        taken = np.where(leaves.any(0), leaves.argmax(0), len(leaves))
        return lost[taken, np.arange(table.samples)], table.costs[taken].mean(1)


def find_path(recorded: ExitLogits, reader: Reader, loss: Loss, costs: Paths, risk: float) -> RiskPath:
    """Choose a path on samples that do not test it.

    Temperatures and ensemble weights are fitted on them. Thresholds are quantiles of the confidences. From
    all exits on, those are left out one by one without which the last candidate that keeps to the risk on
    these samples costs less.

    Raises:
        UserError: The Brier score of an ensemble.
    """
    if loss == "brier" and reader.confidence == "ensemble":
        raise UserError(
            "the Brier score is of an exit's own probabilities, and an ensemble has others; "
            "give `loss='wrong'`, or another confidence"
        )
    reading = reader.fit(recorded)
    found = _path(recorded, reading, tuple(range(1, recorded.num_exits + 1)), loss, costs)
    cheapest = _cost_within(found, recorded, risk)
    improved = True
    while improved and len(found.evaluated) > 2:
        improved = False
        for exit in found.evaluated[:-1]:
            fewer = tuple(k for k in found.evaluated if k != exit)
            path = _path(recorded, reading, fewer, loss, costs)
            if (cost := _cost_within(path, recorded, risk)) < cheapest:
                found, cheapest, improved = path, cost, True
                break
    return found


def _path(
    recorded: ExitLogits, reading: Policy, evaluated: tuple[int, ...], loss: Loss, costs: Paths
) -> RiskPath:
    confidence = tabulate(recorded, reading, evaluated, costs).confidence[:-1]
    levels = np.linspace(1, 0, CANDIDATES)
    quantiles = np.unique(np.quantile(confidence, levels, method="higher"))[::-1]
    return RiskPath(reading, evaluated, (NOBODY, *quantiles.tolist(), -NOBODY), loss, costs)


def _cost_within(path: RiskPath, recorded: ExitLogits, risk: float) -> float:
    """The mean cost of the last candidate before the first whose loss is above the risk."""
    losses, costs = path.outcomes(recorded)
    above = losses.mean(1) > risk
    last = int(above.argmax()) - 1 if above.any() else len(above) - 1
    return float(costs[last]) if last >= 0 else np.inf


def _losses(recorded: ExitLogits, table: Table, reading: Policy, loss: Loss) -> Array:
    """What each sample loses by leaving at an exit, not going through the full network: ``[m, N]``."""
    if loss == "wrong":
        full = (recorded.logits[-1].argmax(-1) == recorded.labels).numpy()
        return np.asarray(full & (table.right == 0))
    labels = torch.nn.functional.one_hot(recorded.labels, recorded.classes)
    temperatures = [reading.temperatures[k - 1] for k in table.evaluated]
    logits = [recorded.logits[k - 1].double() / t for k, t in zip(table.evaluated, temperatures, strict=True)]
    scores = torch.stack([(z.softmax(-1) - labels).square().sum(-1) / 2 for z in logits])
    return np.asarray((scores - scores[-1]).clamp(min=0))
