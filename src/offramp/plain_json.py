"""JSON for programs: numbers that are none, such as the mean over no pixels, are null."""

from __future__ import annotations

import json
import math
from typing import Any

__all__ = ["plain_json"]


def plain_json(document: Any, *, indent: int) -> str:
    """A document of plain values as JSON; NaN and infinity, which the standard lacks, are null."""
    return json.dumps(_without_nan(document), indent=indent, allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    return [_without_nan(each) for each in value] if isinstance(value, (list, tuple)) else value
