"""JSON as the library writes it for programs, and as it reads files that may have come to harm."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

from offramp.errors import shown

__all__ = ["parse_json", "plain_json"]

DEEPEST = 50  # levels of lists and mappings; the library's files have about ten


def plain_json(document: Any, *, indent: int) -> str:
    """A document of plain values as JSON; NaN and infinity, which the standard lacks, are null."""
    return json.dumps(_without_nan(document), indent=indent, allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    return [_without_nan(each) for each in value] if isinstance(value, (list, tuple)) else value


def parse_json(data: bytes) -> Any:
    """Read the content of a JSON file; NaN and infinity are read as Python writes them.

    Raises:
        ValueError: No JSON, a key twice in a mapping, text that is no Unicode (half of a surrogate pair), or
            more than 50 lists and mappings in one another, on which code that recurs would fail.
    """
    try:
        content = json.loads(data, object_pairs_hook=_each_key_once)
    except RecursionError:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep") from None
    level: list[Any] = [content]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _inside(outer)]
        for text in level:
            if isinstance(text, str):
                text.encode()  # raises a kind of ValueError
    if level:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep")
    return content


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else ()


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        (key, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"it has the key {shown(key)} twice")
    return content
