"""Semantic segmentation: a class for every pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from offramp.errors import UserError, shown
from offramp.tasks.classification import NO_LABEL
from offramp.tasks.task import Better, Task, percent, wide

__all__ = ["Segmentation"]


@dataclass(frozen=True, kw_only=True)
class Segmentation(Task):
    """A class for every pixel: cross-entropy over the labelled pixels, mean IoU and accuracy of the pixels.

    Outputs are logits or log-probabilities ``[N, C, H, W]``: their log-softmax is the same. Targets are class
    indices ``[N, H, W]``; a negative one stands for a pixel without a class. The loss of a step is the mean
    over all labelled pixels of its batch.

    The metrics, in percent, follow from the confusion matrix of all pixels: ``miou``, the mean over the
    classes of TP / (TP + FP + FN), leaving out a class that neither occurs nor is predicted; and ``pixacc``,
    the share of pixels whose class is right. These are the published form, which is global already.
    ``image_miou`` and ``image_pixacc`` follow from the matrix of each image, averaged over images.

    Attributes:
        target: Key of the class indices among a batch's targets.
    """

    primary = "miou"
    better = "higher"
    dense = True
    target: str = "segmentation"

    @property
    def compared(self) -> dict[str, Better]:
        """``miou`` and ``pixacc``."""
        return {"miou": "higher", "pixacc": "higher"}

    def loss(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        labels = self._checked(output, target)
        labels = torch.where(labels < 0, NO_LABEL, labels)
        try:
            values = F.cross_entropy(wide(output), labels, reduction="none", ignore_index=NO_LABEL)
        except IndexError:  # on a CPU; a GPU ends the process
            raise self._beyond(output, labels) from None
        pixels = (labels != NO_LABEL).flatten(1).sum(1)
        return values.flatten(1).sum(1) / pixels.clamp(min=1), pixels

    def example_target(self, output: Tensor) -> Tensor:
        """Class 0 for every pixel."""
        return torch.zeros_like(output[:, 0], dtype=torch.int64)

    def counts(self, output: Tensor, target: Tensor) -> Tensor:
        """``[C * C + 3]``: the confusion matrix (rows: truth), sums over images: mIoU, accuracy, how many."""
        labels = self._checked(output, target).flatten(1)
        count, classes = output.shape[:2]
        if (labels >= classes).any():
            raise self._beyond(output, labels)
        image = torch.arange(count, device=labels.device)[:, None]
        index = (image * classes + labels) * classes + output.argmax(1).flatten(1)
        index = torch.where(labels < 0, count * classes**2, index)  # one more, for pixels without a class
        confusion = torch.bincount(index.flatten(), minlength=count * classes**2 + 1)[:-1]
        confusion = confusion.view(count, classes, classes).double()
        own = torch.stack([_miou(confusion), _pixacc(confusion)], 1)
        labelled = confusion.sum((1, 2)) > 0
        sums = torch.where(labelled[:, None], own, 0).sum(0)
        return torch.cat([confusion.sum(0).flatten(), sums, labelled.sum()[None]])

    def metrics(self, counts: Tensor) -> dict[str, float]:
        """``miou``, ``pixacc`` over all pixels; ``image_miou``, ``image_pixacc`` of an image on average."""
        classes = math.isqrt(len(counts) - 3)
        confusion = counts[:-3].view(classes, classes)
        miou, pixacc, images = counts[-3:].tolist()
        return {
            "miou": 100 * float(_miou(confusion)),
            "pixacc": 100 * float(_pixacc(confusion)),
            "image_miou": percent(miou, images),
            "image_pixacc": percent(pixacc, images),
        }

    def _checked(self, output: Tensor, target: Tensor) -> Tensor:
        """The class indices as int64, if they are those of such outputs."""
        if output.dim() != 4:
            raise UserError(
                f"an output for {shown(self.target)} is {[*output.shape]}, must be [N, classes, H, W]; give "
                "the net a decoder that ends in a map of the image's size"
            )
        expected = [output.shape[0], *output.shape[2:]]
        whole = not (target.is_floating_point() or target.is_complex() or target.dtype == torch.bool)
        if [*target.shape] != expected or not whole:
            raise UserError(
                f"{shown(self.target)} is {target.dtype} {[*target.shape]} for outputs {[*output.shape]}; "
                f"give one class index for each pixel, int64 {expected}"
            )
        return target.long()

    def _beyond(self, output: Tensor, labels: Tensor) -> UserError:
        """Some label is of no class that the output has."""
        classes = output.shape[1]
        return UserError(
            f"{shown(self.target)} has class {int(labels.max())} for an output of {classes} classes; give "
            f"classes from 0 to {classes - 1}, and -1 for a pixel without one"
        )


def _miou(confusion: Tensor) -> Tensor:
    """Mean over the last two axes' classes of their IoU, of those that occur or are predicted."""
    right = confusion.diagonal(dim1=-2, dim2=-1)
    union = confusion.sum(-1) + confusion.sum(-2) - right
    return (right / union).nanmean(-1)  # 0 / 0: not there


def _pixacc(confusion: Tensor) -> Tensor:
    """Share of pixels whose class is right."""
    return confusion.diagonal(dim1=-2, dim2=-1).sum(-1) / confusion.sum((-2, -1))
