"""The numbers of a column as a Tensor: labels, values and boxes, checked row by row."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from offramp.data._stored import StoredColumn
from offramp.errors import UserError, shown

__all__ = ["matrix", "width_of"]

LARGEST = torch.finfo(torch.float32).max


def width_of(column: StoredColumn) -> int:
    """How many numbers a value of the column has, as its first one."""
    first = next((value for value in column.values if value is not None), None)
    return len(first) if isinstance(first, list) else 1


def matrix(column: StoredColumn, kind: str, width: int) -> Tensor:
    """The values of a column, float32 ``[N, width]``; NaN where there are none.

    Args:
        column: The column.
        kind: ``"labels"``, ``"values"`` or ``"box"``.
        width: How many numbers each value has.

    Raises:
        UserError: A value is no such numbers; the line names its row.
    """
    check = {"labels": _check_labels, "values": _check_values, "box": _check_box}[kind]
    none = [math.nan] * width
    rows = []
    for row, value in enumerate(column.values):
        if value is None:
            rows.append(none)
            continue
        numbers = value if isinstance(value, list) else [value]
        if not all(part is None or isinstance(part, (bool, int, float)) for part in numbers):
            raise UserError(
                f"{column.where(row)} is {shown(value)}, and numbers are needed ({kind}); mend it, or say "
                f"what else the column holds, e.g. `{column.name}:class`"
            )
        if kind == "box" and len(numbers) != width:
            raise UserError(
                f"{column.where(row)} is {shown(value)}, and a box is four numbers (x0, y0, x1, y1); mend "
                f"it, or say what else the column holds, e.g. `{column.name}:values`"
            )
        if len(numbers) != width:
            raise UserError(
                f"{column.where(row)} has {len(numbers)} numbers where others have {width}; make all as "
                "long, and null where there is none"
            )
        check(numbers, column, row)
        rows.append([math.nan if part is None else float(part) for part in numbers])
    return torch.tensor(rows, dtype=torch.float32).view(len(rows), width)


def _check_labels(numbers: list[Any], column: StoredColumn, row: int) -> None:
    odd = [part for part in numbers if part not in (0, 1, None)]
    if odd:
        raise UserError(
            f"{column.where(row)} holds {shown(odd[0])}, and each of several labels is 1, 0, or null where "
            "it is not known; make it so, or take it for values to predict by "
            f"`{column.name}:values`"
        )


def _check_values(numbers: list[Any], column: StoredColumn, row: int) -> None:
    for part in numbers:
        if part is None or abs(part) <= LARGEST:
            continue
        if isinstance(part, float) and not math.isfinite(part):
            raise UserError(f"{column.where(row)} is not finite; mend it, or make it null")
        raise UserError(
            f"{column.where(row)} is {shown(part, 60)}, beyond what 32 bits hold; take its logarithm, or "
            "another unit"
        )


def _check_box(numbers: list[Any], column: StoredColumn, row: int) -> None:
    order = "a box is (x0, y0, x1, y1), fractions of its image"
    if None in numbers or not all(map(math.isfinite, numbers)):
        raise UserError(f"{column.where(row)} is a part of a box; give four numbers, or null for none")
    x0, y0, x1, y1 = numbers
    if min(numbers) < 0 or max(numbers) > 1:
        raise UserError(
            f"{column.where(row)} is {shown(numbers)}, which reaches beyond 0 ... 1: {order}; divide pixels "
            "by width and height, and cut the box at the border"
        )
    if x1 < x0 or y1 < y0:
        raise UserError(
            f"{column.where(row)} is {shown(numbers)}, which is turned inside out: {order}; x1 is x0 plus "
            "the width, and y1 is y0 plus the height"
        )
