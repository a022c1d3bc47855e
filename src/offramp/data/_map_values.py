"""Maps that Python data sets give, a target for every pixel: segmentation, depth, surface normals."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from offramp.data._dense_maps import channels_first, check_depth, check_normals
from offramp.data._stored import StoredColumn
from offramp.data.targets import NO_CLASS, Target
from offramp.errors import UserError

__all__ = ["maps"]

CHANNELS = {"segmentation": 1, "depth": 1, "normals": 3}


def maps(column: StoredColumn, target: Target, like: Tensor | None = None) -> Tensor:
    """The maps of a column as one Tensor, of the form that :class:`~offramp.data.targets.Target` says.

    Args:
        column: Arrays ``[H, W]``, ``[C, H, W]`` or ``[H, W, C]``; None where a sample has none.
        target: What they are; a segmentation without classes takes any number.
        like: Maps of the size that these must have; None: of the first one's.

    Raises:
        UserError: A value is no such map, of another size, or out of range.
    """
    found: list[Tensor | None] = []
    for row, value in enumerate(column.values):
        if value is None:
            found.append(None)
            continue
        if not isinstance(value, np.ndarray):
            raise UserError(f"{column.where(row)} is no map; give an array [height, width] ({target.kind})")
        values = _checked(
            channels_first(value, CHANNELS[target.kind], column.where(row)), target, column.where(row)
        )
        like = values if like is None else like
        if values.shape[-2:] != like.shape[-2:]:
            (height, width), (other_height, other_width) = values.shape[-2:], like.shape[-2:]
            raise UserError(
                f"{column.where(row)} is {width}x{height} pixels where others are "
                f"{other_width}x{other_height}; give all maps one size"
            )
        found.append(values)
    if like is None:
        raise UserError(f"{column.where(0)} and on: no sample has a map; leave the target out of `tasks`")
    none = torch.full_like(like, NO_CLASS if target.kind == "segmentation" else 0)
    return torch.stack([none if values is None else values for values in found])


def _checked(values: Tensor, target: Target, location: str) -> Tensor:
    if target.kind == "segmentation":
        whole = values[0].long()
        if values.is_floating_point() and not torch.equal(whole.to(values), values[0]):
            raise UserError(f"{location}: classes that are no whole numbers; give 0, 1, ..., and -1 for none")
        if target.classes and whole.max() >= len(target.classes):
            raise UserError(
                f"{location}: class {int(whole.max())}, and there are 0 ... {len(target.classes) - 1}; give "
                "-1 where a pixel has none, or say how many there are by `classes=...`"
            )
        return whole
    values = torch.where(values.isnan(), 0, values.float())
    if not values.isfinite().all():
        raise UserError(f"{location} is not finite; give 0 where a pixel has no {target.kind}")
    if target.kind == "depth":
        check_depth(values, location)
    else:
        check_normals(values, location)
    return values
