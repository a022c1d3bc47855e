"""What the Tensors of a split are: images, and targets of each kind; those made by hand too."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from offramp.data.targets import NO_LABEL, Target
from offramp.errors import UserError, an_object, cut, shown

__all__ = ["check_images", "check_shape", "check_values"]

AT_ONCE = 1000  # samples
# Axes behind that of the samples, a number for each that has a fixed length.
SHAPES: dict[str, tuple[str, ...]] = {
    "class": (),
    "labels": ("labels",),
    "values": ("values",),
    "box": ("4",),
    "segmentation": ("height", "width"),
    "depth": ("1", "height", "width"),
    "normals": ("3", "height", "width"),
}
WHOLE = ("class", "segmentation")


def check_images(images: object) -> None:
    """Check that images are ``[N, C, H, W]``, uint8 or float32, of one pixel at least, and finite.

    Raises:
        UserError: They are not.
    """
    if not isinstance(images, Tensor) or images.ndim != 4 or not all(images.shape[1:]):
        raise UserError(f"images are {_described(images)}; give a Tensor [N, channels, height, width]")
    if images.dtype not in (torch.uint8, torch.float32):
        raise UserError(
            f"images are {_described(images)}; give levels 0 ... 255 as torch.uint8, or torch.float32"
        )
    _check_device(images, "images")
    if images.is_floating_point():
        _refuse_where(
            lambda part: ~part.isfinite(), images, "image", "has values that are not finite; replace them"
        )


def check_shape(key: str, target: object, kind: str) -> None:
    """Check that a target is a Tensor of the type and shape of its kind.

    Raises:
        UserError: It is not.
    """
    axes = SHAPES[kind]
    if not isinstance(target, Tensor) or not _is_of(target, axes):
        raise UserError(
            f"target {shown(key)} is {_described(target)}; of kind {kind} it is [{', '.join(['N', *axes])}]"
        )
    dtype = torch.int64 if kind in WHOLE else torch.float32
    if target.dtype != dtype:
        raise UserError(f"target {shown(key)} is {_described(target)}; of kind {kind} it is {dtype}")
    _check_device(target, f"target {shown(key)}")


def _is_of(target: Tensor, axes: tuple[str, ...]) -> bool:
    if target.ndim != 1 + len(axes):
        return False
    pairs = zip(axes, target.shape[1:], strict=True)
    return all(length == int(axis) for axis, length in pairs if axis.isdecimal())


def check_values(where: str, target: Tensor, meaning: Target) -> None:
    """Check that a target of every sample lies in the range of its kind, or is absent.

    Args:
        where: Begins an error.
        target: Of a split, of the right shape.
        meaning: What it is.

    Raises:
        UserError: It is out of range, or of another number of labels or values; the line names the sample.
    """
    if meaning.kind in ("labels", "values") and target.shape[1] != meaning.size:
        raise UserError(
            f"{where}: {target.shape[1]} {meaning.kind} for a sample, and its set says {meaning.size}; "
            "give as many"
        )
    wrong, rule = RULES[meaning.kind]
    remedy = rule.format(last=meaning.size - 1)
    _refuse_where(lambda part: wrong(part, meaning), target, f"{where}: sample", f"is out of range; {remedy}")


def _beyond(values: Tensor, low: float, high: float) -> Tensor:
    """Where values that are not NaN lie outside of a range."""
    return (values < low) | (values > high)


def _wrong_box(box: Tensor, _: Target) -> Tensor:
    part = box.isnan().any(1) & ~box.isnan().all(1)
    return part | _beyond(box, 0, 1).any(1) | (box[:, 2:] < box[:, :2]).any(1)


# Where a target is wrong, and what it must be.
RULES: dict[str, tuple[Callable[[Tensor, Target], Tensor], str]] = {
    "class": (
        lambda t, of: (t >= of.size) | ((t < 0) & (t != NO_LABEL)),
        f"give classes 0 ... {{last}}, and {NO_LABEL} to samples without one",
    ),
    "segmentation": (
        lambda t, of: t >= of.size,
        "give classes 0 ... {last}, and -1 to pixels without one",
    ),
    "labels": (
        lambda t, _: (t != 0) & (t != 1) & ~t.isnan(),
        "give each label as 0 or 1, and NaN where it is not known",
    ),
    "values": (lambda t, _: t.isinf(), "give finite numbers, and NaN where there is none"),
    "box": (
        _wrong_box,
        "give (x0, y0, x1, y1) as growing fractions of the image, and NaN to samples without a box",
    ),
    "depth": (
        lambda t, _: ~(t.isfinite() & (t >= 0)),
        "give metres, and 0 to pixels without depth",
    ),
    "normals": (lambda t, _: ~t.isfinite(), "give unit vectors, and 0 to pixels without one"),
}


def _refuse_where(wrong: Callable[[Tensor], Tensor], samples: Tensor, what: str, fault: str) -> None:
    """Refuse samples by the first that is wrong, looked at some at a time: masks of all may be large.

    Args:
        wrong: Where some samples are, bool ``[n, ...]``.
        samples: ``[N, ...]``.
        what: What each of them is, before its number.
        fault: What is wrong with it, and what to do.
    """
    for start in range(0, len(samples), AT_ONCE):
        odd = wrong(samples[start : start + AT_ONCE])
        if odd.any():
            number = start + int(odd.nonzero()[0, 0])
            raise UserError(f"{what} {number} {fault}")


def _check_device(tensor: Tensor, name: str) -> None:
    if tensor.is_meta or tensor.layout != torch.strided:
        raise UserError(f"{name}: a Tensor without values (meta or sparse); give a dense one with values")


def _described(found: object) -> str:
    if not isinstance(found, Tensor):
        return cut(an_object(found), 60)
    return f"a Tensor {[*found.shape]} of {str(found.dtype).removeprefix('torch.')}"
