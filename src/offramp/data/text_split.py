"""A split of texts: token ids in memory, padded to the longest text of each batch."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from offramp.data._split_checks import check_lengths
from offramp.data._tokens import TokenRows
from offramp.data.batches import Batches
from offramp.data.target_tensors import TargetTensors
from offramp.errors import UserError, an_object

__all__ = ["TextSplit"]


class TextSplit(Batches):
    """Labelled texts, which a batch has as named Tensors ``input_ids``, ``attention_mask`` and the like.

    Args:
        tokens: The texts.
        targets: Their targets.
        cut: How many of the texts were longer and have been cut.

    Raises:
        UserError: There are not as many targets as texts.
    """

    targets: TargetTensors

    def __init__(self, tokens: TokenRows, targets: TargetTensors, cut: int = 0) -> None:
        if not isinstance(tokens, TokenRows):
            raise UserError(f"tokens are {an_object(tokens)}; open texts by open_data(..., tokenizer=...)")
        self.tokens, self.targets, self.cut = tokens, targets, cut
        check_lengths(self, "a split")

    def __len__(self) -> int:
        return len(self.tokens.lengths)

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
    ) -> Iterator[tuple[dict[str, Tensor], Mapping[str, Tensor]]]:
        for index in plan:
            inputs = self.tokens.padded(index)
            yield {name: x.to(device) for name, x in inputs.items()}, self.targets.batch(index, device)
