"""Rows of a stored split that belong to a set, and how some of them are chosen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from offramp.data._order import Draw, generator, stratified
from offramp.data.target_tensors import TargetTensors
from offramp.errors import UserError

__all__ = ["Selection", "cut", "hold_out"]


@dataclass(frozen=True)
class Selection:
    """Rows of a stored split and their targets.

    Attributes:
        rows: int64 ``[N]``.
        targets: Of each of the rows.
    """

    rows: Tensor
    targets: TargetTensors

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, index: Tensor) -> Selection:
        """Some of the rows, by number (int64) or as a mask (bool ``[N]``)."""
        return Selection(self.rows[index], self.targets.rows(index))

    def chosen(self, count: int, *, seed: int) -> Tensor:
        """Sorted numbers of `count` rows, a pure function of the seed.

        They are stratified by the first class that all rows have; without one, all rows are alike.
        """
        classes = [
            target
            for key, target in self.targets.items()
            if self.targets.kinds[key].kind == "class" and self.targets.kinds[key].present(target).all()
        ]
        if classes:
            return stratified(classes[0], count, seed=seed)
        order = torch.randperm(len(self), generator=generator(Draw.CHOICE, seed))
        return order[:count].sort().values


def hold_out(selection: Selection, fraction: float, seed: int) -> tuple[Selection, Selection]:
    """Hold validation rows out of the training rows."""
    count = 0 if fraction == 0 else max(1, round(fraction * len(selection)))
    if count >= len(selection):
        raise UserError(
            f"val_fraction={fraction} leaves none of {len(selection)} samples to train on; lower it"
        )
    in_val = torch.zeros(len(selection), dtype=torch.bool)
    in_val[selection.chosen(count, seed=seed)] = True
    return selection.part(~in_val), selection.part(in_val)


def cut(name: str, selection: Selection, limit: int | None, seed: int) -> Selection:
    """Limit the rows of a split to a number of them, as the setting of this name says."""
    if limit is None:
        return selection
    if not 1 <= limit <= len(selection):
        raise UserError(
            f"{name}={limit} must be 1 to {len(selection)}, the samples there are; leave it out to use all"
        )
    return selection.part(selection.chosen(limit, seed=seed))
