"""Pooling, on a CPU, by functions that take less time than the ones torch's layers call.

Torch's max pooling notes for each maximum where it was, for a backward pass: over 2x2 blocks two maxima of
neighbouring rows and columns are quicker. Its adaptive pooling to one value sums a channels-last map one
channel after another, plain average pooling sums all channels at a time. ``benchmarks/inference_kernels.py``
says what both are worth.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from offramp.exits._replacing import replace

__all__ = ["replace_pooling"]


class _PairwiseMaxPool2d(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to ``[N, C, H // 2, W // 2]``."""
        if x.shape[-2] % 2 or x.shape[-1] % 2 or not _is_channels_last(x):
            return F.max_pool2d(x, 2)
        rows = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
        return torch.maximum(rows[..., ::2], rows[..., 1::2])


class _GlobalAvgPool2d(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to ``[N, C, 1, 1]``."""
        return F.avg_pool2d(x, x.shape[-2:]) if _is_channels_last(x) else F.adaptive_avg_pool2d(x, 1)


def replace_pooling(module: nn.Module) -> list[Callable[[], None]]:
    """Replace max pooling over 2x2 blocks and average pooling over whole maps in a module, in place.

    Returns:
        What undoes it.
    """
    pairs = [(layer, _quicker(layer)) for layer in [*module.modules()]]
    return [replace(module, layer, quicker) for layer, quicker in pairs if quicker is not None]


def _quicker(layer: nn.Module) -> nn.Module | None:
    """A quicker layer in place of a pooling layer; None: there is none."""
    if layer._forward_hooks or layer._forward_pre_hooks:
        return None
    if type(layer) is nn.AdaptiveAvgPool2d and layer.output_size in (1, (1, 1)):
        return _GlobalAvgPool2d()
    if type(layer) is nn.MaxPool2d and not layer.ceil_mode and not layer.return_indices:
        shape = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        if all(value in (one, (one, one)) for value, one in zip(shape, (2, 2, 0, 1), strict=True)):
            return _PairwiseMaxPool2d()
    return None


def _is_channels_last(x: Tensor) -> bool:
    """Whether a Tensor is a batch of maps ``[N, C, H, W]`` in the channels-last format."""
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
