"""Cross-entropy of every exit: the objective of joint training (Deep Feature Surgery, Eq 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from offramp.objectives.objective import Objective
from offramp.objectives.step import Step

__all__ = ["CrossEntropy", "cross_entropy"]


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(Objective):
    """K losses, each the batch mean of one exit's cross-entropy."""

    whole_batch = ""

    def __call__(self, step: Step) -> list[Tensor]:  # noqa: D102
        return [cross_entropy(logits, step) for logits in step.outputs]


def cross_entropy(logits: Tensor, step: Step) -> Tensor:
    """The batch mean of one exit's cross-entropy, in float32 or wider."""
    wide = logits.float() if logits.itemsize < 4 else logits
    return F.cross_entropy(wide, step.targets, label_smoothing=step.label_smoothing)
