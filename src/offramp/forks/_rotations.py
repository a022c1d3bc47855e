"""The rotations at one fork: what they turn, the gradient that the trunk gets, and how they learn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from offramp.distributed.collectives import mean_all, total
from offramp.forks._gradient_sum import memory_format
from offramp.forks.rotation import Rotation
from offramp.own_adam import OwnAdam

__all__ = ["Rotations", "rotation_of", "turned"]


def rotation_of(angles: Tensor) -> Tensor:
    """The rotations exp(A - A^T), ``[..., m, m]``, A the part of ``angles`` below the diagonal."""
    with torch.autocast(angles.device.type, enabled=False):
        lower = angles.tril(-1)
        return torch.matrix_exp(lower - lower.mT)


def turned(x: Tensor, rotation: Tensor, axis: int) -> Tensor:
    """A Tensor whose first channels are rotated, in the memory format that it has.

    Args:
        x: ``[N, ..., C, ...]``.
        rotation: ``[m, m]``, of the first m channels.
        axis: The axis of the channels.
    """
    size = len(rotation)
    with torch.autocast(x.device.type, enabled=False):
        first = torch.tensordot(x.narrow(axis, 0, size), rotation.to(x.dtype), ([axis], [1]))
    parts = first.movedim(-1, axis), x.narrow(axis, size, x.shape[axis] - size)
    return torch.cat(parts, axis).contiguous(memory_format=memory_format(x))


class Rotations(nn.Module):
    """Rotations of one feature, one for each head that reads it; all state is in buffers.

    Args:
        options: How they learn.
        heads: How many heads there are, H.
        consumers: How many consumers the feature has, S: the heads, and perhaps the next stage.
        channels: Of the feature.
        like: Of the dtype and on the device that the state shall have.

    Attributes:
        matrices: The rotations R_k, ``[H, m, m]``.
        scale: What the losses are multiplied by before they go backward.
    """

    matrices: Tensor
    first: Tensor
    steps: Tensor

    def __init__(self, options: Rotation, heads: int, consumers: int, channels: int, like: Tensor) -> None:
        super().__init__()
        self.burn_in, self.scale = options.burn_in, 1.0
        size = min(options.rotated or channels, channels)
        self.angles = OwnAdam(
            like.new_zeros(heads, size, size), options.rotation_lr, lr_decay=options.rotation_decay
        )
        self.register_buffer("matrices", rotation_of(self.angles.values))
        self.register_buffer("first", like.new_zeros(consumers))  # N_k(0); 0 before any gradient
        self.register_buffer("steps", like.new_zeros(()))
        self._heard: tuple[Tensor, Tensor] | None = None  # slopes and norms of the last backward pass

    def expect(self, scale: float) -> None:
        """Prepare for the backward pass of a step whose losses are multiplied by ``scale``."""
        self.scale, self._heard = scale, None

    def gradient(self, sent: Sequence[Tensor | None], axis: int) -> Tensor:
        """The feature's gradient; what it tells the rotations is kept for :meth:`learn`.

        Args:
            sent: What each consumer sends back, the heads first: gradients of what it has read, not all None.
            axis: The axis of the channels.
        """
        like = next(gradient for gradient in sent if gradient is not None)
        wide = torch.promote_types(like.dtype, self.first.dtype)
        back: list[Tensor | None] = [*self.matrices.mT, *[None] * (len(sent) - len(self.matrices))]
        streams = [
            None if gradient is None else _back(gradient.to(wide), matrix, axis)
            for gradient, matrix in zip(sent, back, strict=True)
        ]
        there = [(k, stream) for k, stream in enumerate(streams) if stream is not None]
        sizes = torch.zeros(len(sent) + 1, dtype=wide, device=like.device)
        for k, stream in (*there, (-1, reduce(torch.add, (stream for _, stream in there)))):
            sizes[k] = stream.square().sum()
        *each, of_sum = total(sizes).sqrt().unbind()
        norms = torch.stack(each)
        counts = norms > 0
        inverse = torch.where(counts, 1 / norms, 0)
        units = reduce(torch.add, (inverse[k] * stream for k, stream in there))
        ratios = torch.where(counts, norms / self._references(norms), 0)
        length = (ratios * norms).sum() / ratios.sum().clamp(min=torch.finfo(wide).tiny)
        self._heard = self._slopes(sent, of_sum / counts.sum().clamp(min=1) ** 2 * units, axis), norms
        return (length * units).to(like.dtype)

    def _references(self, norms: Tensor) -> Tensor:
        """The norms N_k(0) that those of this step are compared with, at the scale of the losses."""
        renewed = (self.first == 0) | (self.steps == self.burn_in)
        return torch.where(renewed & (norms > 0), norms / self.scale, self.first)

    def _slopes(self, sent: Sequence[Tensor | None], target: Tensor, axis: int) -> Tensor:
        """The gradient of each rotation's loss in the entries of its matrix, ``[H, m, m]``.

        That of -2 <R_k v, dL_k/dr_k>: the rest of the loss does not change while R_k stays a rotation.

        Args:
            sent: What the heads send back, and perhaps the next stage.
            target: v.
            axis: The axis of the channels.
        """
        size = self.matrices.shape[-1]
        v = target.narrow(axis, 0, size).movedim(axis, -1).reshape(-1, size)
        slopes = torch.zeros_like(self.matrices)
        for slope, gradient in zip(slopes, sent, strict=False):
            if gradient is not None:
                g = gradient.narrow(axis, 0, size).movedim(axis, -1).reshape(-1, size)
                slope.copy_(-2 / len(target) * g.to(v).mT @ v)
        return slopes

    def learn(self) -> None:
        """Turn the rotations by what the last backward pass has told; after an overflow they stay."""
        if self._heard is None:  # no gradient reached the feature
            return
        (slopes, norms), self._heard = self._heard, None
        mean_all([slopes])
        usable = norms.isfinite().all()
        self.first.copy_(torch.where(usable, self._references(norms), self.first))
        self.steps += usable
        slopes = torch.where(slopes.isfinite(), slopes, 0) / self.scale**2
        with torch.enable_grad(), self.angles.differentiated() as angles:
            (gradient,) = torch.autograd.grad(rotation_of(angles), angles, slopes)
        moves = usable & (norms[: len(gradient)] > 0)
        self.angles.descend(torch.where(moves[:, None, None], gradient, torch.nan), range(len(gradient)))
        self.matrices.copy_(rotation_of(self.angles.values))


def _back(gradient: Tensor, matrix: Tensor | None, axis: int) -> Tensor:
    return gradient if matrix is None else turned(gradient, matrix, axis)
