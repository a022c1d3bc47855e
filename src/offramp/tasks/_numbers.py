"""Targets of several numbers per sample, of which some may be unknown."""

from __future__ import annotations

import torch
from torch import Tensor

from offramp.errors import UserError, shown
from offramp.tasks.task import wide

__all__ = ["known_numbers", "mean_of_known"]


def known_numbers(key: str, output: Tensor, target: Tensor, remedy: str) -> tuple[Tensor, Tensor, Tensor]:
    """Output, target with 0 where it is unknown, and whether it is known: ``[N, V]`` each.

    Raises:
        UserError: One has another shape, or the target is not of floats.
    """
    if output.dim() != 2 or target.shape != output.shape or not target.is_floating_point():
        count = f"{len(output)}, {output.shape[1] if output.dim() == 2 else 'V'}"
        raise UserError(
            f"{shown(key)} is {target.dtype} {[*target.shape]} for outputs {[*output.shape]}; give {remedy}, "
            f"and outputs and targets of float32 [{count}]"
        )
    known = target.isfinite()
    return wide(output), torch.where(known, target, 0), known


def mean_of_known(terms: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of each sample's known terms, and how many there are, ``[N]`` each."""
    count = known.sum(1)
    return torch.where(known, terms, 0).sum(1) / count.clamp(min=1), count
