"""Gated kernels and weighted means, with gradients that are cheaper by hand than by autograd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from offramp.autograd import Function

__all__ = ["gated", "weighted_mean"]

TINY = 1e-12  # below this a kernel has no direction


def gated(weight: Tensor, gate: Tensor) -> Tensor:
    """Scale kernels to unit length and multiply each by its gate (DR-MGF, Eq 8).

    Args:
        weight: ``[m, n, ...]``; the kernel of output i and input j is ``weight[i, j]``.
        gate: ``[m, n]``.

    Returns:
        ``gate * weight / ||weight||``, in the shape and memory format of the weight. Its gradient with
        respect to the weight is orthogonal to each kernel, and zero for a kernel of one element.
    """
    product: Tensor = _Gated.apply(weight, gate)
    return product


def weighted_mean(tensors: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Mean of equally shaped constants under learned positive weights (DR-MGF, Eq 9 and 10).

    Since the weights are normalised, ``w0 + sum_k a_k (W_k - w0) / sum_k a_k`` is the same for every w0.

    Args:
        tensors: m Tensors ``[d_1, d_2, ...]``; no gradient reaches them.
        weights: a, ``[m, d_1, ..., d_u]``: one weight for all that lies behind the first u axes.

    Returns:
        ``sum_k a_k W_k / sum_k a_k``, in the shape and memory format of the first Tensor.
    """
    mean: Tensor = _WeightedMean.apply(weights, *tensors)
    return mean


class _Gated(Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, gate: Tensor) -> Tensor:
        norm = weight.square().flatten(2).sum(2).sqrt_().clamp_(min=TINY)
        ctx.save_for_backward(weight, gate, norm)
        return weight * _over(gate / norm, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        weight, gate, norm = ctx.saved_tensors
        along = (grad * weight).flatten(2).sum(2).div_(norm)
        scale = (gate / norm).masked_fill_(norm <= TINY, 0.0)  # no direction to turn
        grad_weight = grad * _over(scale, weight)
        grad_weight.addcmul_(weight, _over(scale * along / norm, weight), value=-1)
        return grad_weight, along


class _WeightedMean(Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, *tensors: Tensor) -> Tensor:
        fractions = weights / weights.sum(0)
        ctx.save_for_backward(weights, fractions, *tensors)
        first, *others = tensors
        mean = first * _over(fractions[0], first)
        for fraction, tensor in zip(fractions[1:], others, strict=True):
            mean.addcmul_(tensor, _over(fraction, tensor))
        return mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weights, fractions, *tensors = ctx.saved_tensors
        axes = tuple(range(weights.dim() - 1, grad.dim()))
        along = torch.stack([(grad * tensor).sum(axes) if axes else grad * tensor for tensor in tensors])
        along -= (fractions * along).sum(0)
        return along / weights.sum(0), *(None for _ in tensors)


def _over(small: Tensor, large: Tensor) -> Tensor:
    """Append axes of length 1, for a product with a Tensor of more axes."""
    return small.reshape([*small.shape, *(1,) * (large.dim() - small.dim())])
