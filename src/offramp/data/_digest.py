"""What tells data from others of the same size: their labels, and of data in Python some of their content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from offramp.data._rows import Rows
from offramp.data._samples import evenly_spaced
from offramp.data._splits import LabelledSplits
from offramp.data.targets import only_class

__all__ = ["digest", "labels_digest"]


def digest(splits: LabelledSplits, content: Callable[[Rows, int], bytes]) -> str:
    """A digest of the targets of all samples, and of the content of some training samples.

    Args:
        splits: The splits.
        content: Gives the bytes of a row.
    """
    found = _of_targets(splits)
    train = splits.rows["train"]
    if getattr(train, "reproducible", True):
        for row in evenly_spaced(len(train), 8):
            found.update(content(train, row))
    return found.hexdigest()[:16]


def labels_digest(splits: LabelledSplits) -> str:
    """A digest of which sample has which targets; no image is read for it.

    Samples go by what is known of them without that (:meth:`~offramp.data._rows.Rows.names`), or else by
    their order.
    """
    found = _of_targets(splits)
    for name, selection in sorted(splits.selections.items()):
        names = splits.rows[name].names()
        if names is not None:
            for row in selection.rows.tolist():
                found.update(names[row].encode(errors="surrogatepass") + b"\0")
    return found.hexdigest()[:16]


def _of_targets(splits: LabelledSplits) -> hashlib._Hash:
    only = only_class(splits.targets)
    meaning = splits.targets if only is None else only.classes
    found = hashlib.sha256(repr(meaning).encode())
    for name, selection in sorted(splits.selections.items()):
        found.update(name.encode())
        for numbers in (selection.rows, *selection.targets.values()):
            found.update(numbers.numpy().tobytes())
    return found
