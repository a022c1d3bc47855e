"""Convolutions that keep their weights in the layout that the processor wants.

On a CPU, oneDNN brings a convolution's weights into blocks of its own at every call. With few samples that
takes as long as the convolution itself, and few samples are what late stages get. Packed once, the weights
stay so. ``benchmarks/inference_kernels.py`` says what that is worth.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from offramp.exits._replacing import replace

__all__ = ["pack"]


class PackedConv2d(nn.Conv2d):
    """A convolution for inference on a CPU. It keeps its plain weights too, for who reads them.

    Args:
        conv: What it computes; float32 or bfloat16, padded by zeros.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        nn.Module.__init__(self)
        self.__dict__ |= {name: value for name, value in vars(conv).items() if name != "_parameters"}
        self._parameters = dict(conv._parameters)
        self._how = (conv.padding, conv.stride, conv.dilation, conv.groups)
        self._packed = torch.ops.mkldnn._reorder_convolution_weight(conv.weight, *self._how, None)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to ``[N, C', H', W']``, channels-last."""
        if x.ndim != 4:
            return super().forward(x)
        output: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x.to(self.weight.dtype), self._packed, self.bias, *self._how, "none", [], ""
        )
        return output


def pack(module: nn.Module) -> list[Callable[[], None]]:
    """Pack the weights of all convolutions in a module, in place; return what undoes it."""
    if not torch.backends.mkldnn.is_available():
        return []
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d) and _can_be_packed(layer)]
    return [replace(module, layer, PackedConv2d(layer)) for layer in layers]


def _can_be_packed(conv: nn.Conv2d) -> bool:
    plain = type(conv) is nn.Conv2d and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    hooked = conv._forward_hooks or conv._forward_pre_hooks
    dtypes = [torch.float32]
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        dtypes.append(torch.bfloat16)
    return plain and not hooked and conv.weight.device.type == "cpu" and conv.weight.dtype in dtypes
