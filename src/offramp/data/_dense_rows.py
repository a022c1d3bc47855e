"""Splits whose samples have a target for every pixel, as they are stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor

from offramp.data.rooms import CLASSES
from offramp.data.targets import Target

__all__ = ["MAPS", "DenseRows", "DenseSample"]

# The targets of rooms and of NYUv2 by their key.
MAPS: Mapping[str, Target] = MappingProxyType(
    {
        "segmentation": Target("segmentation", CLASSES),
        "depth": Target("depth"),
        "normals": Target("normals"),
    }
)


class DenseSample(NamedTuple):
    """An image ``[C, H, W]``, uint8 or float32, and its maps by the keys of ``MAPS``, of the same size."""

    image: Tensor
    maps: Mapping[str, Tensor]


class DenseRows(ABC):
    """A split whose samples are read one by one."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def sample(self, row: int) -> DenseSample:
        """The sample of a row.

        Raises:
            UserError: It is damaged.
        """

    @abstractmethod
    def location(self, row: int) -> str:
        """The name of a row in an error."""
