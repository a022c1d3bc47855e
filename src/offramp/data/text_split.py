"""A split of texts: token ids in memory, padded to the longest text of each batch."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from offramp.data._tokens import TokenRows
from offramp.data.batches import Batches

__all__ = ["TextSplit"]


class TextSplit(Batches):
    """Labelled texts, which a batch has as named Tensors ``input_ids``, ``attention_mask`` and the like.

    Args:
        tokens: The texts.
        labels: int64 ``[N]``.
        cut: How many of the texts were longer and have been cut.
    """

    def __init__(self, tokens: TokenRows, labels: Tensor, cut: int = 0) -> None:
        self.tokens, self.labels, self.cut = tokens, labels, cut

    def only(self, names: Sequence[str]) -> TextSplit:
        """The same texts, with inputs of the given names alone."""
        split = copy.copy(self)
        split.tokens = self.tokens.only(names)
        return split

    def _read(
        self,
        plan: Sequence[Tensor],
        *,
        device: torch.device | str,
        key: tuple[int, int],
        resized_crop: bool,
        world: int,
    ) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        for index in plan:
            inputs = self.tokens.padded(index)
            yield {name: x.to(device) for name, x in inputs.items()}, self.labels[index].to(device)
