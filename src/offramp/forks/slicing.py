"""The fork without referencing: each reader gets its own channels and nothing else (DFS, ECCV 2024, Eq 6)."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["SliceFork"]


class SliceFork(nn.Module):
    """Hands the first channels to the next stage and the rest to the head.

    It changes values, so the layers behind it are built for the narrower features they read.

    Args:
        channels: How many channels are shared with the next stage.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``[N, C, ...]`` -> ``[N, C - channels, ...]`` for the head, ``[N, channels, ...]`` to go on."""
        return x[:, self.channels :], x[:, : self.channels]

    def extra_repr(self) -> str:  # noqa: D102
        return f"channels={self.channels}"
