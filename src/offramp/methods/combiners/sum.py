"""The plain sum of the losses, one backward pass (Deep Feature Surgery, Eq 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from offramp.methods.combiners.backward import Backward
from offramp.methods.combiners.combiner import Combiner
from offramp.methods.objectives.step import Step

__all__ = ["Sum"]


@dataclass(frozen=True, kw_only=True)
class Sum(Combiner):
    """The gradient of the sum of the losses."""

    whole_batch = ""

    def __call__(self, losses: Sequence[Tensor], step: Step, backward: Backward) -> None:  # noqa: D102
        if losses:
            backward(torch.stack(list(losses)).sum())
