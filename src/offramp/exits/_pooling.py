"""Max pooling over 2x2 blocks, on a CPU, without the places of the maxima.

Torch's max pooling notes for each maximum where it was, for a backward pass. Two maxima of neighbouring rows
and columns take less time (``benchmarks/inference_kernels.py``).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from offramp.exits._replacing import replace

__all__ = ["pool_pairwise"]


class _PairwiseMaxPool2d(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to ``[N, C, H // 2, W // 2]``."""
        if x.shape[-2] % 2 or x.shape[-1] % 2 or not x.is_contiguous(memory_format=torch.channels_last):
            return F.max_pool2d(x, 2)
        rows = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
        return torch.maximum(rows[..., ::2], rows[..., 1::2])


def pool_pairwise(module: nn.Module) -> list[Callable[[], None]]:
    """Replace the max pooling over 2x2 blocks in a module, in place; return what undoes it."""
    undo = []
    for layer in [*module.modules()]:
        if type(layer) is nn.MaxPool2d and not (layer._forward_hooks or layer._forward_pre_hooks):
            shape = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
            wanted = all(
                value in (number, (number, number)) for value, number in zip(shape, (2, 2, 0, 1), strict=True)
            )
            if wanted and not layer.ceil_mode and not layer.return_indices:
                undo.append(replace(module, layer, _PairwiseMaxPool2d()))
    return undo
