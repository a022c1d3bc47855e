"""What crosses from one stage to its head and to the next stage."""

from __future__ import annotations

from torch import nn

__all__ = ["Fork"]


class Fork(nn.Module):
    """The plain fork: head and next stage read the same feature, and both send their gradient back."""

    def forward(self, feature):  # noqa: D102
        return feature, feature
