"""What one training step holds, as objectives and combiners see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

__all__ = ["Step"]


@dataclass(frozen=True)
class Step:
    """One batch after the forward pass.

    Attributes:
        net: The network that produced the outputs.
        outputs: Logits of every exit, shallow to deep: K tensors ``[N, classes]``.
        targets: Class indices ``[N]``.
        progress: Share of the training done, from 0 to 1.
        label_smoothing: Mass that the recipe spreads over all classes.
    """

    net: nn.Module
    outputs: Sequence[Tensor]
    targets: Tensor
    progress: float = 0.0
    label_smoothing: float = 0.0
