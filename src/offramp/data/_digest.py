"""What tells data that exist in Python only from others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

from offramp.data._rows import Rows
from offramp.data._samples import evenly_spaced
from offramp.data._selection import Selection

__all__ = ["digest"]


def digest(
    train: Rows, selections: Mapping[str, Selection], names: object, content: Callable[[Rows, int], bytes]
) -> str:
    """A digest of the targets of all samples, and of the content of some training samples.

    Args:
        train: The training split.
        selections: The rows of each split.
        names: What tells the meaning of the targets: the names of the classes.
        content: Gives the bytes of a row.
    """
    found = hashlib.sha256(repr(names).encode())
    for split in sorted(selections):
        found.update(split.encode())
        for numbers in (selections[split].rows, *selections[split].targets.values()):
            found.update(numbers.numpy().tobytes())
    if getattr(train, "reproducible", True):
        for row in evenly_spaced(len(train), 8):
            found.update(content(train, row))
    return found.hexdigest()[:16]
