"""A data set for text classification: three splits of token ids."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from offramp.data.opened import OpenedData
from offramp.data.text_split import TextSplit

__all__ = ["TextData"]


class TextData(OpenedData[TextSplit]):
    """Three splits of labelled texts; see :class:`~offramp.data.opened.OpenedData`.

    Args:
        read: How the texts were read, as a run notes it: ``column``, ``max_tokens``, and the ``tokenizer``'s
            folder (None: an object in Python) and ``digest``.
        parts: What :class:`~offramp.data.opened.OpenedData` takes.
    """

    SPLITS = (TextSplit,)

    def __init__(self, *, read: Mapping[str, Any], **parts: Any) -> None:
        super().__init__(**parts)
        self.read = read

    @property
    def input_size(self) -> tuple[int]:
        """The tokens of the longest training text."""
        return (int(self.train.tokens.lengths.max()),)

    @property
    def names(self) -> list[str]:
        """The inputs that a batch has, such as ``input_ids`` and ``attention_mask``."""
        return self.train.tokens.names

    def only(self, names: Sequence[str]) -> TextData:
        """The same data with the inputs that a net reads; a note names those that are left out."""
        left = [name for name in self.names if name not in names]
        if not left:
            return self
        data = copy.copy(self)
        vars(data).pop("test", None)
        data.train, data.val = self.train.only(names), self.val.only(names)
        data._load_test = lambda: self.test.only(names)
        note = f"the net does not read {', '.join(left)}, which the tokenizer gives as well"
        data.notes = (*self.notes, note)
        return data
