"""Box regression: where in its image an object is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from offramp.checks import number
from offramp.errors import UserError, shown
from offramp.tasks.task import Task, percent, wide

__all__ = ["Boxes"]


@dataclass(frozen=True, kw_only=True)
class Boxes(Task):
    """One box per image, (x0, y0, x1, y1) as fractions of the image: smooth L1 loss, mean IoU in percent.

    Outputs and targets are ``[N, 4]``. A target that is not finite stands for an image without a box. The
    loss of a sample is the mean of its four coordinates' (Girshick, "Fast R-CNN", ICCV 2015, Eq 3).

    Attributes:
        target: Key of the boxes among a batch's targets.
        beta: Distance, in fractions of the image, at which the loss turns from squared to absolute.
    """

    primary = "iou"
    better = "higher"
    target: str = "box"
    beta: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self, "beta", "above 0", lambda v: v > 0)

    def loss(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        if output.shape[1:] != (4,) or output.shape != target.shape:
            raise UserError(
                f"{shown(self.target)} is {[*target.shape]} for outputs {[*output.shape]}; both have four "
                f"numbers for each sample, [{len(output)}, 4]"
            )
        known = target.isfinite().all(1)
        values = F.smooth_l1_loss(
            wide(output), torch.where(known[:, None], target, 0), beta=self.beta, reduction="none"
        )
        return values.mean(1), known.to(values)

    def counts(self, output: Tensor, target: Tensor) -> Tensor:
        """``[2]``: the sum of the IoUs, images with a box."""
        known = target.isfinite().all(1)
        overlap = _area(
            torch.cat([torch.maximum(output, target)[:, :2], torch.minimum(output, target)[:, 2:]], 1)
        )
        union = _area(output) + _area(target) - overlap
        iou = torch.where(union > 0, overlap / union, 0)  # two boxes without area have nothing in common
        return torch.stack([torch.where(known, iou, 0).sum(), known.sum()]).double()

    def metrics(self, counts: Tensor) -> dict[str, float]:
        """``iou`` in percent, the mean over all images with a box."""
        total, images = counts.tolist()
        return {"iou": percent(total, images)}


def _area(boxes: Tensor) -> Tensor:
    """Areas of boxes ``[N, 4]``, 0 of one that is turned inside out."""
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)
