"""The head that fits a feature: pool what can be pooled, then one Linear."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

__all__ = ["Last", "Mean", "pooled_head"]


class Last(nn.Module):
    """Picks the last Tensor of a feature, past those that are carried along."""

    def forward(self, feature: tuple[Tensor, ...]) -> Tensor:
        return feature[-1]


class Mean(nn.Module):
    """The mean over some axes.

    Args:
        axes: These.
    """

    def __init__(self, axes: Sequence[int]) -> None:
        super().__init__()
        self.axes = tuple(axes)

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(self.axes)


def pooled_head(output: Tensor, axis: int, classes: int, pool: nn.Module | None = None) -> nn.Module:
    """A head for features like ``output``, on its device and in its dtype.

    Args:
        output: Floats ``[N, ...]`` with channels in one axis. What is averaged over is all the others.
        axis: That of the channels, from 1.
        classes: How many logits.
        pool: What averages in place of that.
    """
    linear = nn.Linear(output.shape[axis], classes, device=output.device, dtype=output.dtype)
    if pool is not None:
        return nn.Sequential(pool, linear)
    if output.ndim == 2:
        return linear
    if output.ndim == 4 and axis == 1:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    return nn.Sequential(Mean([a for a in range(1, output.ndim) if a != axis]), linear)
