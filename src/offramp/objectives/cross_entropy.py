"""Cross-entropy of every exit: the objective of joint training (Deep Feature Surgery, Eq 3)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from offramp.objectives.step import Step

__all__ = ["cross_entropy"]


def cross_entropy(step: Step) -> list[Tensor]:
    """K losses, each the batch mean of one exit's cross-entropy in float32 or wider."""
    return [
        F.cross_entropy(
            logits.float() if logits.itemsize < 4 else logits,
            step.targets,
            label_smoothing=step.label_smoothing,
        )
        for logits in step.outputs
    ]
