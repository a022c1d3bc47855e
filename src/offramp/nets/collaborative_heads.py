"""Heads of IMTA's second stage: each reads what the one before says, through a layer of its own.

Li et al., "Improved Techniques for Training Adaptive Deep Networks", ICCV 2019, arXiv:1908.06294
(Inline Subnetwork Collaboration), and its public code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from offramp.nets.head_parts import HeadParts, ReplacingHead

__all__ = ["CollaborativeHead", "LastCollaborativeHead"]


class CollaborativeHead(ReplacingHead):
    """A linear classifier of [f_i, ReLU(BN(Linear(z_{i-1})))], whose second half is as wide as the first.

    f_i is the feature; z_{i-1} are the logits of the exit before, in the graph, so that the loss trains all
    classifiers so far. The first exit's reads its feature alone.

    Args:
        parts: The head in whose place it stands.
        number: Which exit, from 1.
    """

    def __init__(self, parts: HeadParts, number: int) -> None:
        super().__init__(parts)
        width, like = self.width, parts.like
        layers = [nn.Linear(parts.classes, width, **like), nn.BatchNorm1d(width, **like), nn.ReLU()]
        self.inline = nn.Sequential(*layers) if number > 1 else None
        self.linear = nn.Linear(width * (1 if number == 1 else 2), parts.classes, **like)

    @property
    def classifier(self) -> tuple[nn.Module, ...]:
        """All of it but the body."""
        return (self.linear,) if self.inline is None else (self.linear, self.inline)

    def forward(self, feature: object, before: Tensor | None) -> Tensor:
        """The logits, ``[N, classes]``."""
        x = self.body(feature)
        if self.inline is not None:
            x = torch.cat([x, self.inline(before)], 1)
        logits: Tensor = self.linear(x)
        return logits


class LastCollaborativeHead(CollaborativeHead):
    """The last exit's, which keeps the weights in whose place it stands: the teacher of the others."""

    teacher_weight: Tensor
    teacher_bias: Tensor

    def __init__(self, parts: HeadParts, number: int) -> None:
        super().__init__(parts, number)
        weight, bias = parts.linear.weight.detach(), parts.linear.bias
        self.register_buffer("teacher_weight", weight.clone())
        self.register_buffer("teacher_bias", weight[:, 0] * 0 if bias is None else bias.detach().clone())

    def teacher(self, read: Tensor) -> Tensor:
        """The logits of the old classifier, ``[N, classes]``, without gradient.

        Args:
            read: What the new one reads, ``[N, 2 D]``, the feature first.
        """
        return nn.functional.linear(read[:, : self.width].detach(), self.teacher_weight, self.teacher_bias)

    @property
    def parts(self) -> HeadParts:
        """Those of the head in whose place it stands."""
        parts = super().parts
        with torch.no_grad():
            parts.linear.weight.copy_(self.teacher_weight)
            parts.linear.bias.copy_(self.teacher_bias)
        return parts
