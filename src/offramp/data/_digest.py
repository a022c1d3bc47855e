"""What tells data that exist in Python only from others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from offramp.data._rows import Rows
from offramp.data._samples import evenly_spaced
from offramp.data._splits import LabelledSplits
from offramp.data.targets import only_class

__all__ = ["digest"]


def digest(splits: LabelledSplits, content: Callable[[Rows, int], bytes]) -> str:
    """A digest of the targets of all samples, and of the content of some training samples.

    Args:
        splits: The splits.
        content: Gives the bytes of a row.
    """
    only = only_class(splits.targets)
    meaning = splits.targets if only is None else only.classes
    found = hashlib.sha256(repr(meaning).encode())
    for name, selection in sorted(splits.selections.items()):
        found.update(name.encode())
        for numbers in (selection.rows, *selection.targets.values()):
            found.update(numbers.numpy().tobytes())
    train = splits.rows["train"]
    if getattr(train, "reproducible", True):
        for row in evenly_spaced(len(train), 8):
            found.update(content(train, row))
    return found.hexdigest()[:16]
