"""How texts are read: their column, their tokenizer, and how many tokens each may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from offramp.data._rows import Rows
from offramp.data._selection import Selection
from offramp.data._tokenizers import digest_of, limit_of, load_tokenizer
from offramp.data._tokens import Tokenizer, tokenize
from offramp.data.opened import OpenedData
from offramp.data.text_data import TextData
from offramp.data.text_split import TextSplit
from offramp.errors import UserError, an_object

__all__ = ["TextReader", "text_reader"]


@dataclass(frozen=True)
class TextReader:
    """Reads texts as token ids.

    Attributes:
        tokenizer: Makes token ids of texts.
        folder: Where it lies; None: it is an object in Python.
        column: Column of the texts; None: the usual one.
        limit: The most tokens of a text, where it is cut; None: texts are not cut.
    """

    tokenizer: Tokenizer
    folder: str | None
    column: str | None
    limit: int | None

    def split(self, rows: Rows, selection: Selection) -> TextSplit:
        """Some rows of a stored split, with their targets.

        Raises:
            UserError: One of them holds no text, or the tokenizer fails.
        """
        numbers = selection.rows.tolist()
        texts = [_text(rows, row) for row in numbers]
        tokens, cut = tokenize(self.tokenizer, texts, self.limit, lambda i: rows.location(numbers[i]))
        return TextSplit(tokens, selection.targets, cut)

    def content(self, rows: Rows, row: int) -> bytes:
        """A text as bytes."""
        return _text(rows, row).encode()

    def opened(self, **parts: Any) -> OpenedData[Any]:
        """The opened set; a note says how many texts were cut.

        Args:
            parts: What :class:`~offramp.data.opened.OpenedData` takes.
        """
        test = parts["load_test"]()  # now, so that the note is whole
        splits = {"training": parts["train"], "validation": parts["val"], "test": test}
        cut = [f"{split.cut} of {len(split)} {name}" for name, split in splits.items() if split.cut]
        notes = (
            [f"{', '.join(cut)} texts have more than {self.limit} tokens, and are cut there"] if cut else []
        )
        read = {
            "column": self.column,
            "max_tokens": self.limit,
            "tokenizer": self.folder,
            "digest": digest_of(self.tokenizer),
        }
        parts |= {"load_test": lambda: test, "notes": [*parts["notes"], *notes]}
        return TextData(read=read, **parts)


def text_reader(
    tokenizer: Any, text: str | None, max_tokens: int | None, **of_images: object
) -> TextReader | None:
    """How texts are read; None if no tokenizer says that there are any.

    Args:
        tokenizer: A folder or an object, see :func:`~offramp.data._tokenizers.load_tokenizer`.
        text: Column of the texts.
        max_tokens: The most tokens of a text; None: as many as the tokenizer says that its net takes.
        of_images: Settings of images, which texts have none of.

    Raises:
        UserError: No tokenizer, and settings of texts; or one, and settings of images.
    """
    if tokenizer is None:
        given = [name for name, value in (("text", text), ("max_tokens", max_tokens)) if value is not None]
        if given:
            raise UserError(f"{given[0]} is for texts, which need a tokenizer; give it as `tokenizer=...`")
        return None
    given = [name for name, value in of_images.items() if value is not None]
    if given:
        raise UserError(f"{given[0]} is for images, and a tokenizer is for texts; leave one of them out")
    if max_tokens is not None and max_tokens < 1:
        raise UserError(f"max_tokens={max_tokens} must be at least 1")
    found, folder = load_tokenizer(tokenizer)
    return TextReader(found, folder, text, limit_of(found, max_tokens))


def _text(rows: Rows, row: int) -> str:
    found = rows.content(row)
    if not isinstance(found, str):
        raise UserError(
            f"{rows.location(row)}: {an_object(found)} where a text is expected; give texts, or leave "
            "`tokenizer=` out for images"
        )
    return str(found)
