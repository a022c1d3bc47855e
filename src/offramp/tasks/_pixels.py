"""Averages over valid pixels in three forms, from sums that add up over batches and processes.

Published: the average over the valid pixels of a batch of images, then over the batches (the NYUv2 protocol
of Liu et al., "End-to-End Multi-Task Learning with Attention", CVPR 2019; its batches are of 2). Per image:
over the valid pixels of an image, then over the images, as papers on depth alone do. Global: over all pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from offramp.errors import UserError, shown
from offramp.tasks.task import wide

__all__ = ["FORMS", "averages", "check_maps", "medians", "pixel_sums"]

FORMS = ("", "image_", "pixel_")  # what the names of metrics begin with: published, per image, global


def check_maps(key: str, output: Tensor, target: Tensor, channels: int, remedy: str) -> None:
    """Check that a target is a map of numbers as large as the output's.

    Raises:
        UserError: It is not, or the output has another number of channels.
    """
    if output.dim() != 4 or output.shape[1] != channels:
        raise UserError(
            f"an output for {shown(key)} is {[*output.shape]}, must be [N, {channels}, H, W]; give the "
            f"decoder {channels} output channel{'s' if channels > 1 else ''}"
        )
    if target.shape != output.shape or not target.is_floating_point():
        raise UserError(
            f"{shown(key)} is {target.dtype} {[*target.shape]} for outputs {[*output.shape]}; give {remedy}, "
            f"float32 {[*output.shape]}"
        )


def pixel_sums(values: Tensor, valid: Tensor, together: int) -> Tensor:
    """Sums from which the :func:`averages` of measures follow.

    Args:
        values: M measures of each of P pixels of N images, ``[M, N, P]``.
        valid: Which pixels count, bool ``[N, P]``.
        together: How many consecutive images are a batch of the published form.

    Returns:
        float64 ``[3, M + 1]``, by form: the sums over batches, images, pixels, and in the last column how
        many of them there are that have a valid pixel.
    """
    sums = torch.where(valid, values, 0).sum(-1, dtype=torch.float64)
    images = torch.cat([sums, valid.sum(-1, dtype=torch.float64)[None]])
    batches = _grouped(images.T, together).sum(1).T
    means = [each / each[-1].clamp(min=1) for each in (batches, images)]  # the last row: 1, or 0 of no pixel
    return torch.stack([*(each.sum(-1) for each in means), images.sum(-1)])


def averages(sums: Tensor, names: Sequence[str]) -> dict[str, float]:
    """The averages of M measures in the three forms, by name: ``x``, ``image_x``, ``pixel_x``.

    Args:
        sums: ``[3, M + 1]``, the total of :func:`pixel_sums`.
        names: Of the measures.
    """
    values = (sums[:, :-1] / sums[:, -1:]).tolist()  # 0 / 0: not a number
    return {
        f"{form}{name}": value
        for form, row in zip(FORMS, values, strict=True)
        for name, value in zip(names, row, strict=True)
    }


def medians(values: Tensor, valid: Tensor, together: int) -> Tensor:
    """The sum of the medians of the valid pixels of every `together` consecutive images, float64 scalar.

    Of an even number of pixels it is the mean of the middle two; images without a valid pixel add 0. It is
    not a number where a valid pixel's value is none.

    Args:
        values: ``[N, P]``.
        valid: bool ``[N, P]``.
        together: How many images share a median.
    """
    known = torch.where(valid, wide(values), torch.inf)
    ordered = _grouped(known, together, torch.inf).flatten(1).sort(1).values
    count = _grouped(valid, together).flatten(1).sum(1, keepdim=True)
    middle = torch.cat([(count - 1).clamp(min=0) // 2, count // 2], 1)
    found = ordered.gather(1, middle).double().mean(1, keepdim=True)
    broken = _grouped(values.isnan() & valid, together).flatten(1).any(1, keepdim=True)
    return torch.where(count > 0, found.masked_fill(broken, torch.nan), 0).sum()


def _grouped(rows: Tensor, together: int, rest: float = 0) -> Tensor:
    """Every `together` consecutive rows of ``[N, P]``: ``[G, together, P]``, filled up with `rest`."""
    groups = -(-len(rows) // together)
    filled = F.pad(rows, (0, 0, 0, groups * together - len(rows)), value=rest)
    return filled.view(groups, together, rows.shape[1])
