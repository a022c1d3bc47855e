"""The targets of a split in memory, and which of its samples have them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from offramp.data._tensor_checks import check_shape
from offramp.data.targets import ONE_CLASS, Target
from offramp.errors import UserError, shown

__all__ = ["TargetTensors"]


class TargetTensors(Mapping[str, Tensor]):
    """Targets of N samples by key.

    Args:
        tensors: Key -> ``[N, ...]``, as :class:`~offramp.data.targets.Target` says.
        kinds: What each of them is; by default, ``label`` is a class.

    Raises:
        UserError: One is of no known kind, or no Tensor of its kind.
    """

    def __init__(self, tensors: Mapping[str, Tensor], kinds: Mapping[str, Target] = ONE_CLASS) -> None:
        if not isinstance(tensors, Mapping):
            raise UserError(f"targets are {shown(tensors)}, must be a mapping {{key: Tensor}}")
        for key, tensor in tensors.items():
            if key not in kinds:
                raise UserError(
                    f"target {shown(key)} is of no known kind; give it, by TargetTensors(tensors, "
                    "{name: Target(kind, ...)})"
                )
            check_shape(key, tensor, kinds[key].kind)
        self._tensors, self.kinds = dict(tensors), dict(kinds)
        present = {key: kinds[key].present(tensor).cpu() for key, tensor in tensors.items()}
        self._present = {key: here for key, here in present.items() if not here.all()}

    def __getitem__(self, key: str) -> Tensor:
        return self._tensors[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    @property
    def complete(self) -> bool:
        """Whether every sample has all of them."""
        return not self._present

    def to(self, device: torch.device | str) -> None:
        """Move them to a device, where they stay."""
        self._tensors = {key: tensor.to(device) for key, tensor in self._tensors.items()}

    def rows(self, index: Tensor) -> TargetTensors:
        """The targets of some samples."""
        return TargetTensors({key: tensor[index] for key, tensor in self.items()}, self.kinds)

    def of(self, index: Tensor) -> list[str]:
        """The keys of the targets that any of these samples has, found without waiting for a device.

        Args:
            index: The samples, int64 ``[B]``, on the CPU.
        """
        return [key for key in self if key not in self._present or self._present[key][index].any()]

    def batch(self, index: Tensor, device: torch.device | str) -> dict[str, Tensor]:
        """The targets of samples in main memory, on a device, without those that none of them has."""
        return {key: self[key][index].to(device) for key in self.of(index)}
