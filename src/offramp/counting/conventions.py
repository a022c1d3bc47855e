"""Conventions by which papers count operations: what they add to the products, which heads they include.

*Products* are the multiply-accumulates of convolutions, linear layers, matrix products and attention,
without biases; every convention counts them, one operation each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

__all__ = ["CONVENTIONS", "Convention"]


@dataclass(frozen=True)
class Convention:
    """A convention for counting operations and parameters.

    Attributes:
        all_heads: Whether an exit's cost includes the heads of the earlier exits (for an answer that tried
            them in turn) or only its own (for one that went straight there). Holds for parameters too.
        extra: Operations besides the products, by layer type: ``(layer, input, output) -> operations``.
    """

    all_heads: bool
    extra: Mapping[type[nn.Module], Callable[[Any, Tensor, Tensor], int]] = field(default_factory=dict)


def _window(layer: Any, x: Tensor, y: Tensor) -> int:
    """Operations of a pooling layer: a whole window for every output."""
    kernel = layer.kernel_size
    return y.numel() * (kernel**2 if isinstance(kernel, int) else math.prod(kernel))


_UPSAMPLE = {"linear": 5, "bilinear": 11, "bicubic": 259}

CONVENTIONS: dict[str, Convention] = {
    # thop 0.1.1, with which Deep Feature Surgery counted its VGG7.
    "thop": Convention(
        all_heads=False,
        extra={
            nn.modules.batchnorm._NormBase: lambda layer, x, y: (4 if layer.affine else 2) * y.numel(),
            nn.AvgPool2d: lambda layer, x, y: y.numel(),
            nn.AdaptiveAvgPool2d: lambda layer, x, y: y.numel(),
            nn.Upsample: lambda layer, x, y: _UPSAMPLE.get(layer.mode, 1) * y.numel(),
        },
    ),
    # op_counter.py of github.com/kalviny/MSDNet-PyTorch, behind every MSDNet table.
    "op-counter": Convention(
        all_heads=True,
        extra={
            nn.ReLU: lambda layer, x, y: y.numel(),
            nn.AvgPool2d: _window,
            nn.MaxPool2d: _window,
            nn.AdaptiveAvgPool2d: lambda layer, x, y: x.numel(),
            nn.Linear: lambda layer, x, y: 0 if layer.bias is None else y.numel(),
        },
    ),
    "macs": Convention(all_heads=True),
    "macs-own": Convention(all_heads=False),
}
