"""What the samples of a set are labelled with: the kind of a target, who has it, and how it moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from offramp.data._moves import enlarged, enlarged_nearest, mirrored_maps, windows
from offramp.errors import UserError, guess, shown

__all__ = ["KINDS", "LABEL", "NO_LABEL", "ONE_CLASS", "Target", "cut_boxes", "only_class", "present"]

LABEL = "label"  # key of the class indices of a set that has nothing but classes
NO_CLASS = -1  # where a segmentation has none
NO_LABEL = -100  # where there is no class: torch's own ignore_index
KINDS = ("class", "labels", "values", "box", "segmentation", "depth", "normals")
DENSE = ("segmentation", "depth", "normals")
SIZES = {"box": 4, "depth": 1, "normals": 3}


@dataclass(frozen=True)
class Target:
    """The targets under one key of a batch: their kind, and their operations under augmentation.

    ================  ==============================================================================
    kind              Tensor of N samples, and what stands where there is nothing
    ================  ==============================================================================
    ``class``         class indices, int64 ``[N]``; -100
    ``labels``        several labels at once, float ``[N, L]`` of 0 and 1; NaN
    ``values``        numbers to predict, float ``[N, V]``; NaN
    ``box``           (x0, y0, x1, y1) as fractions of the image, float ``[N, 4]``; NaN
    ``segmentation``  the class of each pixel, int64 ``[N, H, W]``; -1, or another negative number
    ``depth``         metres, float ``[N, 1, H, W]``; 0
    ``normals``       unit vectors, float ``[N, 3, H, W]``, the first component along the rows; all 0
    ================  ==============================================================================

    Attributes:
        kind: One of the table.
        classes: Names of the classes (``class``, ``segmentation``) or labels (``labels``), in their order.
        size: How many numbers predict it, for a sample or a pixel: as many as there are classes, of a box 4,
            of depth 1, of normals 3. Given for ``values`` alone.

    Raises:
        UserError: No such kind, or classes that are no words.
    """

    kind: str
    classes: tuple[str, ...] = ()
    size: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(
                f"no kind of target {shown(self.kind)}{guess(self.kind, KINDS)}; there are {', '.join(KINDS)}"
            )
        if not isinstance(self.classes, (list, tuple)) or not all(
            isinstance(name, str) for name in self.classes
        ):
            raise UserError(f"classes of a target are {shown(self.classes)}, must be a tuple of words")
        object.__setattr__(self, "classes", tuple(self.classes))
        if not isinstance(self.size, int) or self.size < 1:
            raise UserError(f"size of a target is {shown(self.size)}, must be a whole number of at least 1")
        if self.kind != "values":
            object.__setattr__(self, "size", SIZES.get(self.kind, len(self.classes)))

    @property
    def dense(self) -> bool:
        """Whether every pixel has a target of its own."""
        return self.kind in DENSE

    @property
    def spatial(self) -> bool:
        """Whether augmentation that moves an image moves the target too, as of boxes and maps."""
        return self.dense or self.kind == "box"

    def present(self, target: Tensor) -> Tensor:
        """Which samples have the target: bool ``[N]``; a dense one, in some pixel."""
        if self.kind == "class":
            return target >= 0
        if self.kind == "box":
            return target.isfinite().all(1)
        if self.dense:
            valid = target >= 0 if self.kind == "segmentation" else target != 0
            return valid.flatten(1).any(1)
        return target.isfinite().any(1)

    def flipped(self, target: Tensor, mirrored: Tensor) -> Tensor:
        """The target of images of which some are mirrored left to right.

        Args:
            target: As in the table.
            mirrored: Which of the images are, bool ``[N]``.
        """
        if self.kind == "box":
            x0, y0, x1, y1 = target.unbind(1)
            return torch.where(mirrored[:, None], torch.stack([1 - x1, y0, 1 - x0, y1], 1), target)
        if not self.dense:
            return target
        moved = mirrored_maps(target, mirrored)
        if self.kind == "normals":  # what faced right faces left now
            signs = 1 - 2 * mirrored.to(moved)
            moved[:, 0] *= signs[:, None, None]
        return moved

    def cropped(self, target: Tensor, corners: Tensor, padding: int, size: tuple[int, int]) -> Tensor:
        """The target after random crops of padded images.

        A box is cut at the border of the new image; one that lies outside it is none any more.

        Args:
            target: As in the table.
            corners: Rows and columns where the cuts begin in the padded images, int64 ``[2, N]``.
            padding: Pixels of padding.
            size: Height and width of the images.
        """
        if self.kind == "box":
            top, left = (corners - padding).to(target) / target.new_tensor(size)[:, None]
            return cut_boxes(target, torch.stack([left, top, left + 1, top + 1], 1))
        if not self.dense:
            return target
        maps = target[:, None] if self.kind == "segmentation" else target
        moved = windows(maps, corners, padding, NO_CLASS if self.kind == "segmentation" else 0)
        return moved[:, 0] if self.kind == "segmentation" else moved

    def enlarged(
        self, target: Tensor, corners: Tensor, sizes: Tensor, scales: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """The target after a part of each image was resized to the size of the image.

        What is seen larger is nearer by as much: depth is divided by the scale. Depth and segmentation take
        the nearest pixel; normals are bilinear, not made unit again; a box is cut at the border of the part.

        Args:
            target: As in the table.
            corners: First row and column of each part, int64 ``[2, N]``.
            sizes: Height and width of each part, likewise.
            scales: How many times larger each part becomes, ``[N]``.
            size: Height and width of the images.
        """
        if self.kind == "box":
            whole = target.new_tensor(size)[:, None]
            (top, left), (bottom, right) = corners / whole, (corners + sizes) / whole
            return cut_boxes(target, torch.stack([left, top, right, bottom], 1))
        if self.kind == "segmentation":
            return enlarged_nearest(target[:, None], corners, sizes)[:, 0]
        if self.kind == "depth":
            return enlarged_nearest(target, corners, sizes) / scales.view(-1, 1, 1, 1)
        if self.kind == "normals":
            return enlarged(target, corners, sizes)
        return target

    def windowed(self, target: Tensor, windows: Tensor) -> Tensor:
        """The target after each image was replaced by a window of it; boxes are cut as by :meth:`cropped`.

        Args:
            target: As in the table, but not dense.
            windows: (x0, y0, x1, y1) as fractions of the images, ``[N, 4]``.
        """
        return cut_boxes(target, windows) if self.kind == "box" else target


ONE_CLASS: Mapping[str, Target] = MappingProxyType({LABEL: Target("class")})


def only_class(targets: Mapping[str, Target]) -> Target | None:
    """The target of samples that have a class as ``label`` and nothing else; None of other samples."""
    only = targets.get(LABEL) if len(targets) == 1 else None
    return only if only is not None and only.kind == "class" else None


def present(targets: Mapping[str, Tensor], kinds: Mapping[str, Target]) -> dict[str, Tensor]:
    """The targets of a batch, on the CPU, without those that none of its samples has."""
    return {key: target for key, target in targets.items() if kinds[key].present(target).any()}


def cut_boxes(boxes: Tensor, windows: Tensor) -> Tensor:
    """Boxes in windows of their images: NaN where they lie outside.

    Args:
        boxes: (x0, y0, x1, y1) as fractions of the images, ``[N, 4]``.
        windows: The same of the windows, which may reach beyond the images.

    Returns:
        Fractions of the windows, ``[N, 4]``.
    """
    origin, extent = windows[:, :2].repeat(1, 2), (windows[:, 2:] - windows[:, :2]).repeat(1, 2)
    moved = (boxes - origin) / extent
    outside = (moved[:, 2:] <= 0).any(1) | (moved[:, :2] >= 1).any(1)
    return torch.where(outside[:, None], torch.nan, moved.clamp(0, 1))
