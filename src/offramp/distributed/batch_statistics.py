"""Batch norm over the batches of all processes, so that N of them compute what one would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from offramp.autograd import Function
from offramp.distributed.collectives import mean as mean_over_processes

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["batch_statistics_together"]


@contextmanager
def batch_statistics_together(net: nn.Module, fabric: Fabric) -> Iterator[None]:
    """Every batch norm layer in training mode takes its statistics over all processes' equal shares.

    ``nn.SyncBatchNorm`` does the same, but on accelerators only.
    """
    layers = [m for m in net.modules() if isinstance(m, _BatchNorm)] if fabric.world_size > 1 else []
    for layer in layers:
        layer.forward = partial(_forward, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _forward(layer: _BatchNorm, x: Tensor) -> Tensor:
    if not layer.training:
        return type(layer).forward(layer, x)
    wide = x.detach().to(torch.promote_types(x.dtype, torch.float32))
    variance, mean = torch.var_mean(wide, [axis for axis in range(x.dim()) if axis != 1], correction=0)
    moments = [torch.empty_like(mean).repeat(2) for _ in range(dist.get_world_size())]
    dist.all_gather(moments, torch.cat([mean, variance]))
    means, variances = torch.stack(moments).chunk(2, dim=1)
    common = means.mean(0)
    variance = (variances + (means - common).square()).mean(0)
    _count(layer, common, variance, x.numel() // x.shape[1] * dist.get_world_size())
    normalised: Tensor = _Norm.apply(x, layer.weight, layer.bias, common, variance, layer.eps)
    return normalised


def _count(layer: _BatchNorm, mean: Tensor, variance: Tensor, samples: int) -> None:
    """Move the running statistics towards those of a batch."""
    if layer.running_mean is None or layer.running_var is None or layer.num_batches_tracked is None:
        return
    layer.num_batches_tracked.add_(1)
    share = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean.to(layer.running_mean), share)
    layer.running_var.lerp_((variance * samples / (samples - 1)).to(layer.running_var), share)


class _Norm(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps = eps
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        # with the statistics as constants ...
        grad_x, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        # ... and through them, by the gradients of all processes
        shape = [1, -1, *(1,) * (x.dim() - 2)]
        scale = (var + ctx.eps).rsqrt()
        means = mean_over_processes(torch.stack([grad_weight, grad_bias])) / (x.numel() // x.shape[1])
        factor = scale if weight is None else scale * weight
        slope = factor * means[0] * scale
        offset = factor * means[1] - slope * mean
        grad_x = grad_x - (x * slope.reshape(shape) + offset.reshape(shape)).to(grad_x)
        if weight is None:
            return grad_x, None, None, None, None, None
        return grad_x, grad_weight, grad_bias, None, None, None
