"""The published calibration to a budget: shares of the samples that fall or grow geometrically with depth.

Huang et al., Multi-Scale Dense Networks (ICLR 2018), 3; the routine of github.com/kalviny/MSDNet-PyTorch
(``adaptive_inference.py``), with which the curves of MSDNet, gradient equilibrium, Meta-GF, DR-MGF and Deep
Feature Surgery were drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from offramp.exits.decisions import readings
from offramp.exits.exit_logits import ExitLogits
from offramp.exits.policy import Policy

__all__ = ["NOBODY", "POINTS", "planned", "published", "published_thresholds", "shares"]

NOBODY = 1e8  # the threshold of an exit that is evaluated, and at which nobody leaves
POINTS = range(1, 41)  # p of the published curves


def shares(q: float, num_exits: int) -> Tensor:
    """The share of the samples that shall leave at each exit: q^k / sum of q^j, in float32 as published."""
    powers = torch.exp(torch.log(torch.tensor([q])) * torch.arange(1, num_exits + 1))
    return powers / powers.sum()


def planned(samples: int, num_exits: int, q: float) -> list[int]:
    """How many samples shall leave at each exit; the last exit also gets the remainder of the rounding."""
    counts: list[int] = (samples * shares(q, num_exits)).floor().int().tolist()
    return counts


def published_thresholds(confidences: Iterable[Tensor], counts: Sequence[int]) -> list[float]:
    """The published thresholds.

    At each exit samples are taken in the order of their confidence, those passed over that have left before,
    until as many are taken as planned. The confidence of the last is the threshold, and all that reach it
    leave.

    Args:
        confidences: ``[N]`` for each exit but the last.
        counts: How many samples shall leave at each of them.

    Returns:
        :data:`NOBODY` where none shall leave, or fewer samples are there than shall.
    """
    left, thresholds = torch.zeros(()).bool(), []
    for confidence, count in zip(confidences, counts, strict=True):
        staying = confidence[~left.expand(len(confidence))].sort(descending=True).values
        threshold = staying[count - 1].item() if 0 < count <= len(staying) else NOBODY
        left = left | (confidence >= threshold)
        thresholds.append(threshold)
    return thresholds


def published(recorded: ExitLogits, policy: Policy, q: float) -> Policy:
    """The published policy of one point of the curve; every exit is evaluated.

    Args:
        recorded: Validation samples.
        policy: Says how confidences are read.
        q: Below 1 most samples leave early, above 1 late; the published curves have q = p / 20, p = 1 ... 40.
    """
    policy = replace(policy, thresholds=(NOBODY,) * (recorded.num_exits - 1))
    counts = planned(len(recorded), recorded.num_exits, q)
    confidences = [reading.confidence for _, reading in readings(recorded, policy)]
    return replace(policy, thresholds=published_thresholds(confidences[:-1], counts[:-1]))
