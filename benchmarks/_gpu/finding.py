"""What a check finds: numbers, and the bound of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Cases", "Finding", "Where", "distance", "flat"]


@dataclass(frozen=True)
class Where:
    """What is checked.

    Attributes:
        device: ``"cuda"`` or ``"cpu"``.
        small: As little as shows that the check runs.
    """

    device: str
    small: bool


class Finding(NamedTuple):
    """One number and the largest that passes; NaN does not."""

    value: float
    bound: float

    @property
    def passed(self) -> bool:
        """Whether the number is within its bound."""
        return self.value <= self.bound


Cases = Mapping[str, Callable[[], Mapping[str, Finding]]]


def distance(found: Tensor, wanted: Tensor) -> float:
    """``|found - wanted| / |wanted|``, in float64."""
    found, wanted = (x.detach().to("cpu", torch.float64) for x in (found, wanted))
    return float((found - wanted).norm() / wanted.norm())


def flat(tensors: Mapping[str, Tensor]) -> Tensor:
    """All values in the order of the names, float64 on the CPU."""
    return torch.cat([tensors[name].detach().to("cpu", torch.float64).flatten() for name in sorted(tensors)])
