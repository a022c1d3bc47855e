"""Texts as token ids: what a tokenizer makes of them, kept flat and padded when a batch is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain, compress
from typing import Any

import torch
from torch import Tensor

from offramp.errors import UserError, an_object, shown

__all__ = ["TokenRows", "Tokenizer", "token_lists", "tokenize"]

IDS, MASK = "input_ids", "attention_mask"
AT_ONCE = 1000  # texts
Tokenizer = Callable[..., Mapping[str, Any]]


class TokenRows:
    """The tokens of N texts, of any lengths, by the names that a tokenizer gives.

    Args:
        values: Name -> what belongs to each token of all texts one after the other, ``[all tokens]``.
        lengths: How many tokens each text has, int64 ``[N]``.
        pad: Name -> what stands at padding.
        left: Whether padding comes before the text.
    """

    def __init__(
        self, values: Mapping[str, Tensor], lengths: Tensor, pad: Mapping[str, int], *, left: bool
    ) -> None:
        self.values, self.lengths, self.pad, self.left = dict(values), lengths, dict(pad), left
        self._starts = lengths.cumsum(0) - lengths

    @property
    def names(self) -> list[str]:
        """Names of the Tensors that a batch has."""
        return [*self.values, MASK]

    def only(self, names: Sequence[str]) -> TokenRows:
        """The texts with some of their Tensors, by name."""
        values = {name: self.values[name] for name in names if name in self.values}
        return TokenRows(values, self.lengths, self.pad, left=self.left)

    def padded(self, index: Tensor) -> dict[str, Tensor]:
        """The texts of some rows, padded to the longest of them: int64 ``[n, T]`` by name."""
        lengths, starts = self.lengths[index, None], self._starts[index, None]
        place = torch.arange(int(lengths.max()) if len(index) else 1)  # a net takes no rows of no tokens
        if self.left:
            place = place - (len(place) - lengths)
        real = (place >= 0) & (place < lengths)
        flat = (starts + place)[real]
        batch = {}
        for name, values in self.values.items():
            batch[name] = torch.full(real.shape, self.pad.get(name, 0))
            batch[name][real] = values[flat].long()
        batch[MASK] = real.long()
        return batch


def tokenize(
    tokenizer: Tokenizer, texts: Sequence[str], limit: int | None, location: Callable[[int], str]
) -> tuple[TokenRows, int]:
    """The tokens of texts, and how many of the texts are longer than the limit and so were cut.

    Args:
        tokenizer: Called as those of transformers are, with texts, ``truncation``, ``max_length`` and
            ``padding``.
        texts: The texts.
        limit: The most tokens of a text; None: as many as it has.
        location: How an error names a text.

    Raises:
        UserError: The tokenizer fails, gives no ids, finds no token in a text, or cannot pad.
    """
    parts: list[dict[str, Tensor]] = []
    counts: list[int] = []
    cut = 0
    for start in range(0, len(texts), AT_ONCE):
        some = texts[start : start + AT_ONCE]
        rows = token_lists(tokenizer, some, None if limit is None else limit + 1)
        longer = [] if limit is None else [i for i, row in enumerate(rows) if len(row[IDS]) > limit]
        for i, row in zip(longer, token_lists(tokenizer, [some[i] for i in longer], limit), strict=True):
            rows[i] = row
        cut += len(longer)
        counts += [len(row[IDS]) for row in rows]
        parts.append({name: torch.tensor([*chain(*(row[name] for row in rows))]).int() for name in rows[0]})
    lengths = torch.tensor(counts, dtype=torch.long)
    if len(empty := (lengths == 0).nonzero()):
        raise UserError(
            f"{location(int(empty[0]))}: the tokenizer finds no token in the text "
            f"({len(empty)} such texts); remove such rows, or take a tokenizer that marks where texts begin"
        )
    values = {name: torch.cat([part[name] for part in parts]) for name in (parts[0] if parts else ())}
    pad, left = _padding(tokenizer, texts, lengths, limit)
    return TokenRows(values, lengths, pad, left=left), cut


def token_lists(tokenizer: Tokenizer, texts: Sequence[str], limit: int | None) -> list[dict[str, list[int]]]:
    """Tokenize texts: for each the lists of its ids and of what else a tokenizer gives, by name, not padded.

    Raises:
        UserError: The tokenizer fails, or returns something else.
    """
    if not texts:
        return []
    given = _call(tokenizer, texts, limit, padding=False)
    try:
        columns = {name: [_plain(row) for row in given[name]] for name in given}
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        masks = [row.pop(MASK, None) for row in rows]
        whole = len(rows) == len(texts) and all(len({*map(len, row.values())}) == 1 for row in rows)
    except (TypeError, ValueError):
        whole = False
    if not whole:
        raise UserError(
            f"the tokenizer gives something else than a list of {', '.join(given)} for each text; give one "
            "that is called as those of transformers are"
        )
    return [
        row if mask is None or all(mask) else {name: [*compress(row[name], mask)] for name in row}
        for row, mask in zip(rows, masks, strict=True)
    ]


def _call(
    tokenizer: Tokenizer, texts: Sequence[str], limit: int | None, *, padding: bool
) -> Mapping[str, Any]:
    cut = {"truncation": False} if limit is None else {"truncation": True, "max_length": limit}
    try:
        given = tokenizer([*texts], padding=padding, **cut)
    except Exception as error:  # it is somebody else's code
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"the tokenizer fails on texts such as {shown(texts[0][:40])} ({reason}); give one that is "
            "called as those of transformers are, tokenizer(texts, truncation=..., max_length=..., "
            "padding=...)"
        ) from error
    if not isinstance(given, Mapping) or IDS not in given:
        raise UserError(f"the tokenizer returns {an_object(given)} without {IDS}; give one that has it")
    return given


def _padding(
    tokenizer: Tokenizer, texts: Sequence[str], lengths: Tensor, limit: int | None
) -> tuple[dict[str, int], bool]:
    """What the tokenizer puts at padding, by name, and whether before the text."""
    short, long = (int(lengths.argmin()), int(lengths.argmax())) if len(lengths) else (0, 0)
    if not len(lengths) or lengths[short] == lengths[long]:
        return {}, False  # nothing is ever padded
    if getattr(tokenizer, "pad_token_id", 0) is None:
        raise UserError(
            "the tokenizer has no token for padding; set its pad_token, e.g. to its eos_token, and the "
            "net's config.pad_token_id to the id of that"
        )
    given = _call(tokenizer, [texts[short], texts[long]], limit, padding=True)
    padded = {name: _plain(given[name][0]) for name in given}
    count, whole = int(lengths[long] - lengths[short]), len(padded[IDS])
    if whole != int(lengths[long]):
        raise UserError(
            f"the tokenizer pads a text of {int(lengths[short])} tokens to {whole} beside one of "
            f"{int(lengths[long])}; give one that pads to the longest by padding=True"
        )
    if MASK not in padded:
        raise UserError(f"the tokenizer returns no {MASK}, so that padding is not known; have it return that")
    left = not padded[MASK][0]
    places = range(count) if left else range(whole - count, whole)
    return {name: values[places[0]] for name, values in padded.items()}, left


def _plain(row: Any) -> list[int]:
    return row.tolist() if hasattr(row, "tolist") else [*row]
