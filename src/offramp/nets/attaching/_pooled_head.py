"""The head that fits a feature: pool what can be pooled, then layers up to the logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from offramp.errors import UserError

__all__ = ["HEADS", "LastTensor", "Mean", "pooled_head"]

HEADS = ("linear", "mlp", "sepconv", "norm")
_LAYERS: dict[int, tuple[type[nn.Module], type[nn.Module]]] = {  # by the number of axes of what they read
    3: (nn.Conv1d, nn.BatchNorm1d),
    4: (nn.Conv2d, nn.BatchNorm2d),
    5: (nn.Conv3d, nn.BatchNorm3d),
}


class LastTensor(nn.Module):
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


class ChannelsFirst(nn.Module):
    """Moves the axis of the channels to where convolutions read it.

    Args:
        axis: Where it is.
    """

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return x.movedim(self.axis, 1)


def pooled_head(
    output: Tensor, axis: int, classes: int, kind: str = "linear", pool: nn.Module | None = None
) -> nn.Module:
    """A head for features like ``output``, on its device and in its dtype.

    Args:
        output: Floats ``[N, ...]`` with channels in one axis.
        axis: That of the channels, from 1.
        classes: How many logits.
        kind: One of ``HEADS``. Before pooling ``"sepconv"`` has two depthwise-separable convolutions with
            BatchNorm and ReLU, the first of stride 2: the SepConv of Zhang, Bao, Ma, *Self-Distillation:
            Towards Efficient and Compact Neural Networks*, TPAMI 2022. Between pooling and the Linear
            ``"mlp"`` has a hidden layer as wide as the feature and ReLU, ``"norm"`` LayerNorm.
        pool: What pools, in place of the mean over all axes but the channels'.

    Raises:
        UserError: Convolutions do not fit the feature, or the pooling.
    """
    channels = output.shape[axis]
    like: dict[str, Any] = {"device": output.device, "dtype": output.dtype}
    linear = nn.Linear(channels, classes, **like)
    before: list[nn.Module] = []
    behind: list[nn.Module] = []
    if kind == "sepconv":
        if pool is not None or output.ndim not in _LAYERS or (output.ndim, axis) == (3, 2):
            raise UserError(
                "a 'sepconv' head convolves over a grid such as [N, C, H, W]; give head='norm' or 'linear'"
            )
        before, axis = _separable(output, axis, like), 1
    elif kind == "mlp":
        behind = [nn.Linear(channels, channels, **like), nn.ReLU()]
    elif kind == "norm":
        behind = [nn.LayerNorm(channels, **like)]
    layers = [*before, *(_mean(output.ndim, axis) if pool is None else [pool]), *behind, linear]
    return nn.Sequential(*layers) if len(layers) > 1 else linear


def _mean(ndim: int, axis: int) -> list[nn.Module]:
    """Layers that average over all axes but the batch and the channels."""
    if ndim == 2:
        return []
    if ndim == 4 and axis == 1:
        return [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return [Mean([a for a in range(1, ndim) if a != axis])]


def _separable(output: Tensor, axis: int, like: dict[str, Any]) -> list[nn.Module]:
    """Two depthwise-separable convolutions over whatever is not channels."""
    conv, norm = _LAYERS[output.ndim]
    channels = output.shape[axis]
    layers: list[nn.Module] = [] if axis == 1 else [ChannelsFirst(axis)]
    for stride in (2, 1):
        layers += [
            conv(channels, channels, 3, stride, padding=1, groups=channels, bias=False, **like),
            conv(channels, channels, 1, bias=False, **like),
            norm(channels, **like),
            nn.ReLU(),
        ]
    return layers
