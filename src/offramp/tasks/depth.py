"""Depth: how far away what each pixel shows is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from offramp.checks import whole
from offramp.tasks._pixels import averages, check_maps, pixel_sums
from offramp.tasks.task import Better, Task, wide

__all__ = ["Depth"]

_NAMES = ("abs_err", "rel_err")


@dataclass(frozen=True, kw_only=True)
class Depth(Task):
    """Depth of every pixel in metres: mean absolute error as the loss, absolute and relative error measured.

    Outputs and targets are ``[N, 1, H, W]``. A target that is not above 0, or not finite, stands for a pixel
    without a depth. The loss of a step is sum(M |d' - d|) / sum(M) over the pixels of its batch, with M the
    mask of the valid ones (Liu et al., "End-to-End Multi-Task Learning with Attention", CVPR 2019).

    Metrics: ``abs_err`` |d' - d| in metres and ``rel_err`` |d' - d| / d, averaged over the valid pixels of a
    batch and then over batches, as published; ``image_abs_err``, ``image_rel_err`` over the valid pixels of
    an image and then over images; ``pixel_abs_err``, ``pixel_rel_err`` over all valid pixels.

    Attributes:
        target: Key of the depths among a batch's targets.
        together: How many consecutive images are a batch of the published form, however many are evaluated at
            once.
    """

    primary = "abs_err"
    better = "lower"
    dense = True
    target: str = "depth"
    together: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self, "together", 1)

    @property
    def compared(self) -> dict[str, Better]:
        """``abs_err`` and ``rel_err``."""
        return {"abs_err": "lower", "rel_err": "lower"}

    def loss(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        error, _, valid = self._errors(output, target)
        pixels = valid.sum(1)
        return torch.where(valid, error, 0).sum(1) / pixels.clamp(min=1), pixels

    def counts(self, output: Tensor, target: Tensor) -> Tensor:
        """``[9]``: by form (batches, images, pixels) the sums of both errors, and how many."""
        error, truth, valid = self._errors(output, target)
        return pixel_sums(torch.stack([error, error / truth]), valid, self.together).flatten()

    def metrics(self, counts: Tensor) -> dict[str, float]:
        """``abs_err`` in metres and ``rel_err``, in three forms."""
        return averages(counts.view(3, 3), _NAMES)

    def _errors(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Absolute error, true depth (1 where unknown) and whether it is known, ``[N, H W]`` each."""
        check_maps(self.target, output, target, 1, "metres (0: unknown)")
        valid = target.isfinite() & (target > 0)
        truth = torch.where(valid, target, 1)
        return (wide(output) - truth).abs().flatten(1), truth.flatten(1), valid.flatten(1)
