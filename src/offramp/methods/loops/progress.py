"""Progress of a training, which loops get with every step."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Progress"]


class Progress(NamedTuple):
    """How far the training is.

    Attributes:
        epoch: Whole epochs done.
        fraction: Fraction of the training that is done, from 0 to 1.
        lr: The recipe's learning rate now.
    """

    epoch: int
    fraction: float
    lr: float
