"""Surface normals: which way the surface that each pixel shows faces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from offramp.checks import whole
from offramp.tasks._pixels import FORMS, averages, check_maps, medians, pixel_sums
from offramp.tasks.task import Better, Task, wide

__all__ = ["Normals"]

_LIMITS = (11.25, 22.5, 30.0)  # degrees
_MEANS = ("mean_angle", *(f"within_{limit:g}" for limit in _LIMITS))  # what sums over pixels give
_BINS = 18000  # of the angles from 0 to 180 degrees


@dataclass(frozen=True, kw_only=True)
class Normals(Task):
    """Surface normals, unit vectors: 1 - their mean cosine is the loss, the angle between them is measured.

    Outputs and targets are ``[N, 3, H, W]``; the nets make outputs of length 1, here nothing is normalised. A
    target of three zeros, or one that is not finite, stands for a pixel without a normal (the published code
    also leaves out normals whose components add up to 0). The loss of a step is 1 - sum(M n'.n) / sum(M) over
    the pixels of its batch, with M the mask of the valid ones (Liu et al., "End-to-End Multi-Task Learning
    with Attention", CVPR 2019).

    Metrics: the angle acos(n'.n) in degrees, ``mean_angle`` and ``median_angle``, and the percentage of
    pixels within 11.25, 22.5 and 30 degrees, ``within_11.25`` and so on: each of the valid pixels of a batch,
    then averaged over batches, as published. With ``image_`` before the name: of an image, then averaged over
    images. With ``pixel_``: of all valid pixels, the median to 0.005 degrees.

    Attributes:
        target: Key of the normals among a batch's targets.
        together: How many consecutive images are a batch of the published form, however many are evaluated at
            once.
    """

    primary = "mean_angle"
    better = "lower"
    dense = True
    target: str = "normals"
    together: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self, "together", 1)

    @property
    def compared(self) -> dict[str, Better]:
        """All five metrics, and which way each is better."""
        shares: dict[str, Better] = {f"within_{limit:g}": "higher" for limit in _LIMITS}
        return {"mean_angle": "lower", "median_angle": "lower", **shares}

    def loss(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        cosine, valid = self._cosines(output, target)
        pixels = valid.sum(1)
        return 1 - cosine.sum(1) / pixels.clamp(min=1), pixels

    def ensemble(self, outputs: Sequence[Tensor]) -> Tensor:
        """The mean direction, again of length 1."""
        return F.normalize(super().ensemble(outputs), dim=1)

    def counts(self, output: Tensor, target: Tensor) -> Tensor:
        """``[15 + 2 + 18000]``: by form sums of angle and shares, and how many; of medians; a histogram."""
        cosine, valid = self._cosines(output, target)
        angle = cosine.clamp(-1, 1).acos().rad2deg()
        measures = torch.stack([angle, *(100.0 * (angle < limit) for limit in _LIMITS)])
        sums = pixel_sums(measures, valid, self.together)
        middles = torch.stack([medians(angle, valid, self.together), medians(angle, valid, 1)])
        bins = (angle * (_BINS / 180)).long().clamp(0, _BINS - 1)  # also of what is not a number
        bins = torch.where(valid, bins, _BINS).flatten()  # one more, for pixels without a normal
        histogram = torch.bincount(bins, minlength=_BINS + 1)[:-1]
        return torch.cat([sums.flatten(), middles, histogram])

    def metrics(self, counts: Tensor) -> dict[str, float]:
        """``mean_angle``, ``median_angle`` and ``within_11.25``, ``_22.5``, ``_30``, in three forms."""
        sums, middles, histogram = counts.split([3 * (len(_MEANS) + 1), 2, _BINS])
        sums = sums.view(3, -1)
        values = averages(sums, _MEANS)
        batch, image = (middles / sums[:2, -1]).tolist()
        # the sum of all angles tells of one that is not a number, and the histogram does not
        pixel = math.nan if math.isnan(values["pixel_mean_angle"]) else _median(histogram)
        found = {"median_angle": batch, "image_median_angle": image, "pixel_median_angle": pixel}
        order = [f"{form}{name}" for form in FORMS for name in self.compared]
        return {name: (values | found)[name] for name in order}

    def _cosines(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine of each pixel's angle, 0 of an unknown normal, and whether it is known: ``[N, H W]``."""
        check_maps(self.target, output, target, 3, "unit vectors (three zeros: unknown)")
        valid = target.isfinite().all(1) & (target != 0).any(1)
        cosine = (wide(output) * torch.where(valid[:, None], target, 0)).sum(1)
        return cosine.flatten(1), valid.flatten(1)


def _median(histogram: Tensor) -> float:
    """The median of a histogram of angles, in degrees; each angle counts as the middle of its bin."""
    up_to = histogram.cumsum(0)
    if not (count := int(up_to[-1])):
        return math.nan
    middle = torch.tensor([(count - 1) // 2, count // 2]).to(up_to)
    bins = torch.searchsorted(up_to, middle, right=True)
    return float((bins.double() + 0.5).mean() * (180 / _BINS))
