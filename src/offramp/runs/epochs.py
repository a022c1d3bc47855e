"""The course of a training: the rows of ``metrics.csv``, one for each epoch."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from offramp.errors import UserError, shown
from offramp.runs.files import read_bytes
from offramp.runs.shape import AMOUNT, METRIC, PERCENT, TEXT, Rule, remedy

__all__ = ["read_epochs", "rule_of"]

RULES = {"part": TEXT, **dict.fromkeys(("lr", "passes", "seconds", "images_per_second"), AMOUNT)}


def read_epochs(folder: Path) -> tuple[dict[str, float], ...]:
    """The rows of a run's ``metrics.csv``, one for each epoch; none without the file.

    Raises:
        UserError: The file cannot be read, or is damaged.
    """
    path = folder / "metrics.csv"
    if not path.exists():
        return ()
    data = read_bytes(path)
    try:
        header, *lines = [*csv.reader(io.StringIO(data.decode(), newline=""), strict=True)] or [[]]
        if not header or len(set(header)) < len(header):
            raise ValueError("two columns have one name" if header else "it has no columns")
        rows = [_row(header, line, epoch) for epoch, line in enumerate(lines, 1)]
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path} is damaged ({error}); {remedy(path)}") from None
    return tuple(rows)


def rule_of(column: str) -> Rule:
    """What a field in a column of metrics.csv or parts.csv must be; a loss or a metric may be NaN."""
    return PERCENT if column.startswith(("val_top1_", "val_top5_")) else RULES.get(column, METRIC)


def _row(header: list[str], line: list[str], epoch: int) -> dict[str, float]:
    """The row of an epoch, from 1.

    Raises:
        ValueError: It is none.
    """
    if len(line) != len(header):
        raise ValueError(f"the line of epoch {epoch} has {len(line)} fields, not {len(header)}")
    fields = zip(header, line, strict=True)
    row = {name: _number(text, name, epoch) for name, text in fields if text}  # empty: from before the column
    if row.get("epoch") != epoch:
        raise ValueError(f"the line of epoch {epoch} is of epoch {shown(row.get('epoch'))}")
    return row


def _number(text: str, name: str, epoch: int) -> float:
    """The number in a field.

    Raises:
        ValueError: It is out of bounds, or there is none.
    """
    rule = rule_of(name)
    try:
        value: Any = float(text)
    except ValueError:
        value = None
    if not rule.allows(value):
        raise ValueError(f"{name} of epoch {epoch} is {shown(text)}, must be {rule.words}")
    return float(value)
