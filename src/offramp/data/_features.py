"""What a table says of its columns: the features that Hugging Face ``datasets`` keeps in its metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from offramp.errors import UserError, shown

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["features_of"]

KEY = b"huggingface"


def features_of(schema: pa.Schema, name: str) -> Mapping[str, Mapping[str, Any]]:
    """The features of a table by column, such as ``{"label": {"_type": "ClassLabel", "names": [...]}}``.

    Args:
        schema: The table's.
        name: The table's name in errors.

    Returns:
        Empty where the table says nothing; without columns whose feature is no mapping, as a list has none.

    Raises:
        UserError: The metadata are no JSON, or of another shape.
    """
    stored = (schema.metadata or {}).get(KEY)
    if stored is None:
        return {}
    try:
        found: Any = json.loads(stored)
    except (ValueError, RecursionError):  # no JSON, no text, numbers without end, or nested without end
        raise _damage(name, "are no JSON") from None
    for key in ("info", "features"):
        if not isinstance(found, dict):
            raise _damage(name, f"are no mapping that tells {shown(key)}")
        found = found.get(key)
        if found is None:
            return {}
    if not isinstance(found, dict):
        raise _damage(name, "tell 'features' that are no mapping")
    return {column: feature for column, feature in found.items() if isinstance(feature, dict)}


def _damage(name: str, what: str) -> UserError:
    return UserError(
        f"{name}: its metadata {shown(KEY.decode())} {what}; write the file anew, with those of datasets or "
        "without"
    )
