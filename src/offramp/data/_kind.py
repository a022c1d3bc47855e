"""The kind of target that a column holds, where it shows; what it does not show is asked for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from offramp.data._stored import StoredColumn
from offramp.errors import UserError, shown

__all__ = ["kind_of"]

BOXES = ("box", "bbox")
MAPS = ("segmentation", "depth", "normals")
FEW = 20  # so many different whole numbers are taken for classes in any case


def kind_of(key: str, column: StoredColumn) -> str:
    """The kind of a target whose values are those of a column.

    Whole numbers, words and truth values are classes. Other numbers, and lists of such, are values to be
    predicted. Lists of 0 and 1 are several labels at once; four numbers are a box if their name says so.

    Raises:
        UserError: The column holds nothing, or what may be of two kinds, or of none.
    """
    values = [value for value in column.values if value is not None]
    if not values:
        raise UserError(
            f"{column.where(0)} and on: no sample has a value; fill the column, or leave {shown(key)} out of "
            "`tasks`"
        )
    if column.class_names is not None:
        return "class"
    example = values[0]
    if isinstance(example, np.ndarray):
        named = [kind for kind in MAPS if kind in (key, column.name)]
        if not named:
            raise _ask(key, column, f"arrays of {example.ndim} axes", *MAPS)
        return named[0]
    if isinstance(example, list):
        return _of_lists(key, column, values)
    if isinstance(example, (bool, int, str)) and not any(isinstance(v, float) for v in values):
        different = len({*values})
        if different > max(FEW, len(values) // 2):
            words = isinstance(example, str)
            what = f"{different} different {'words' if words else 'whole numbers'} in {len(values)} rows"
            raise _ask(key, column, what, *(("class",) if words else ("class", "values")))
        return "class"
    if all(isinstance(value, (int, float)) for value in values):
        if all(math.isfinite(value) and value == int(value) for value in values):
            raise _ask(key, column, "whole numbers, written as others", "class", "values")
        return "values"
    odd = next(
        row for row, v in enumerate(column.values) if v is not None and not isinstance(v, (int, float))
    )
    raise UserError(
        f"{column.where(odd)} is {shown(column.values[odd])} where others are like {shown(example)}; make "
        "all of them numbers, or all words"
    )


def _of_lists(key: str, column: StoredColumn, values: list[Any]) -> str:
    numbers = [part for value in values if isinstance(value, list) for part in value if part is not None]
    if {key, column.name} & {*BOXES} and all(isinstance(v, list) and len(v) == 4 for v in values):
        return "box"
    if all(isinstance(part, int) and part in (0, 1) for part in numbers):
        return "labels"
    if all(isinstance(part, (int, float)) for part in numbers):
        if all(part in (0, 1) for part in numbers):
            raise _ask(key, column, "lists of 0 and 1, written as other numbers", "labels", "values")
        if all(isinstance(part, int) for part in numbers):
            raise _ask(key, column, "lists of whole numbers", "values", "labels")
        if all(isinstance(v, list) and _like_a_box(v) for v in values):
            raise _ask(
                key, column, "four numbers from 0 to 1 that grow as those of a box do", "box", "values"
            )
    return "values"


def _like_a_box(value: list[Any]) -> bool:
    if len(value) != 4 or None in value:
        return False
    x0, y0, x1, y1 = value
    return bool(0 <= x0 <= x1 <= 1 and 0 <= y0 <= y1 <= 1)


def _ask(key: str, column: StoredColumn, what: str, *kinds: str) -> UserError:
    remedies = " or ".join(f"`tasks={{{key}: {column.name}:{kind}}}`" for kind in kinds)
    return UserError(f"{column.where(0)} and on: {what}; say what they are, by {remedies}")
