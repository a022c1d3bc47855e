"""What one training step holds, as objectives and combiners see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

__all__ = ["Step"]


@dataclass(frozen=True)
class Step:
    """One batch, or one of the micro-batches that it is cut into, after the forward pass.

    Attributes:
        net: The network that produced the outputs.
        outputs: Logits of every exit, shallow to deep: K tensors ``[N, classes]``.
        targets: Class indices ``[N]``.
        progress: Share of the training done, from 0 to 1.
        epoch: Whole epochs done.
        epochs: How many there will be.
        label_smoothing: Mass that the recipe spreads over all classes.
        features: What the last linear layer of each head reads: K tensors ``[N, D_k]``. Only for a method
            that needs them.
        trunk: The feature of every stage but the last, as its fork got it, in the graph. Only for a method
            that needs it, and not if the forward pass is compiled.
        part: The K losses of the first share (0 to 1) of the batch and the step they come from: a forward
            pass of its own that leaves the batch statistics alone.
        share: Share (0 to 1) of the batch that these samples are; 1 unless it is cut.
        more: Whether micro-batches of the same batch follow.
    """

    net: nn.Module
    outputs: Sequence[Tensor]
    targets: Tensor
    progress: float = 0.0
    epoch: int = 0
    epochs: int = 1
    label_smoothing: float = 0.0
    features: Sequence[Tensor] | None = None
    trunk: Sequence[Any] | None = None
    part: Callable[[float], tuple[list[Tensor], Step]] | None = None
    share: float = 1.0
    more: bool = False
