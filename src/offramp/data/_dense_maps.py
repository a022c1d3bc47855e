"""Stored arrays of a dense sample, checked and as Tensors: image, segmentation, depth, surface normals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from offramp.data._dense_rows import MAPS, DenseSample
from offramp.errors import UserError

__all__ = ["channels_first", "check_depth", "check_normals", "dense_sample"]

CHANNELS = {"image": 3, "segmentation": 1, "depth": 1, "normals": 3}
BRIGHTEST = 10.0  # a float on the scale 0 ... 1, normalised or not, is never as large
LONGEST, SHORTEST = 1.05, 0.9  # lengths of unit vectors that were stored in few digits, or interpolated


def dense_sample(arrays: Mapping[str, np.ndarray], locations: Mapping[str, str]) -> DenseSample:
    """A sample of stored arrays, as NYUv2 has them.

    Args:
        arrays: ``image``, floats on the scale 0 ... 1 or 8-bit levels as uint8, ``[3, H, W]`` or
            ``[H, W, 3]``; ``segmentation``, whole
            numbers ``[H, W]``, negative where a pixel has no class; ``depth`` in metres, 0 where there is
            none; ``normals``, unit vectors, all 0 where there are none. One channel may be an axis or not.
        locations: Where each of them lies, for errors.

    Raises:
        UserError: An array is of another kind, size or range.
    """
    maps = {key: channels_first(array, CHANNELS[key], locations[key]) for key, array in arrays.items()}
    height, width = maps["image"].shape[1:]
    for key, values in maps.items():
        if values.shape[1:] != (height, width):
            raise UserError(
                f"{locations[key]}: {key} of {values.shape[2]}x{values.shape[1]} pixels, and the image has "
                f"{width}x{height}; give all maps of a sample one size"
            )
        if not values.float().isfinite().all():
            none = {"segmentation": -1, "depth": 0, "normals": "0, 0, 0"}
            remedy = f"write {none[key]} where there is none" if key in none else "replace them"
            raise UserError(f"{locations[key]}: {key} holds values that are not finite; {remedy}")
    image = maps["image"]
    if image.dtype != torch.uint8 and image.max() > BRIGHTEST:
        raise UserError(
            f"{locations['image']}: image values up to {float(image.max()):.4g} as {arrays['image'].dtype}; "
            "store levels 0 ... 255 as uint8, or divide them by 255"
        )
    check_depth(maps["depth"], locations["depth"])
    check_normals(maps["normals"], locations["normals"])
    return DenseSample(
        image if image.dtype == torch.uint8 else image.float(),
        {
            "segmentation": _classes(maps["segmentation"][0], locations["segmentation"]),
            "depth": maps["depth"].float(),
            "normals": maps["normals"].float(),
        },
    )


def channels_first(array: np.ndarray, channels: int, location: str) -> Tensor:
    """The array as ``[channels, H, W]``."""
    if array.dtype.kind not in "fiub":
        raise UserError(f"{location}: an array of {array.dtype}, no numbers; give one of numbers")
    if array.ndim == 2 and channels == 1:
        array = array[None]
    if array.ndim == 3 and array.shape[0] != channels and array.shape[2] == channels:
        array = array.transpose(2, 0, 1)
    if array.ndim != 3 or array.shape[0] != channels or not array.size:
        shape = f"[{channels}, height, width] or [height, width, {channels}]"
        raise UserError(f"{location}: an array of shape {list(array.shape)}; give {shape}")
    native = array.dtype.newbyteorder("=")
    if native.kind == "u" and native.itemsize == 8 and array.max() >= 2**63:
        raise UserError(f"{location}: a number of {array.max()}, beyond 63 bits; give smaller ones")
    if native.kind in "ub" and native.itemsize > 1:  # unsigned kinds that torch computes little with
        native = np.dtype(np.int64)
    return torch.from_numpy(np.array(array, native))


def _classes(labels: Tensor, location: str) -> Tensor:
    """Class indices, int64 ``[H, W]``, -1 where a pixel has none."""
    names = MAPS["segmentation"].classes
    whole = labels.long()
    if labels.is_floating_point() and not torch.equal(whole.to(labels), labels):
        raise UserError(f"{location}: labels that are no whole numbers; give classes 0 ... {len(names) - 1}")
    if whole.max() >= len(names):
        raise UserError(
            f"{location}: label {int(whole.max())}, and the classes are 0 ... {len(names) - 1}; "
            "write -1 where a pixel has no class"
        )
    return whole


def check_depth(depth: Tensor, location: str) -> None:
    """Check that no pixel is behind the eye."""
    if depth.min() < 0:
        raise UserError(f"{location}: depth of {float(depth.min()):.3g} m; write 0 where there is none")


def check_normals(normals: Tensor, location: str) -> None:
    """Check that vectors are of length 1, but for what rounding and interpolation do."""
    length = normals.double().square().sum(0).sqrt()
    valid = length[length > 0]
    if len(valid) and (valid.max() > LONGEST or valid.median() < SHORTEST):
        odd = valid.max() if valid.max() > LONGEST else valid.median()
        raise UserError(
            f"{location}: normals of length {float(odd):.3g}; divide each by its length, and write 0, 0, 0 "
            "where there is none"
        )
