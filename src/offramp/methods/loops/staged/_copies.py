"""States of the net that the output phases leave; of each tensor, those of the outputs that own it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from offramp.distributed.collectives import broadcast, world_size

__all__ = ["Copies", "shared_parameters"]


def shared_parameters(net: nn.Module, owners: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Parameters that two outputs or more own, with their owners; buffers are not among them."""
    return {name: owners[name] for name, _ in net.named_parameters() if len(owners[name]) > 1}


class Copies:
    """States of the net that the output phases leave, by tensor and owner.

    Args:
        owners: Outputs that own each tensor, by its name.

    Attributes:
        kept: Name of a tensor -> owner -> the tensor as the owner's phase left it.
    """

    def __init__(self, owners: Mapping[str, tuple[int, ...]]) -> None:
        self.owners = owners
        self.kept: dict[str, dict[int, Tensor]] = {}

    def keep(self, output: int, tensors: Mapping[str, Tensor]) -> None:
        """Keep what the phase of an output left of the tensors that the output owns."""
        for name, tensor in tensors.items():
            if output in self.owners.get(name, ()):  # of tied parameters the first name stands for all
                self.kept.setdefault(name, {})[output] = tensor.detach().clone()

    def states(self, name: str) -> list[Tensor]:
        """States of one tensor, in the order of its owners."""
        return [self.kept[name][output] for output in self.owners[name]]

    def exchange(self, like: Mapping[str, Tensor], holders: Mapping[int, int]) -> None:
        """Give every process the states that other processes hold.

        Args:
            like: Tensors of the same names and shapes, in the same order on all processes.
            holders: Output -> rank of the process that holds its state; all processes hold that of an
                output that is missing here.
        """
        if world_size() == 1:
            return
        for name, tensor in like.items():
            for output in sorted(holders.keys() & self.owners[name]):  # in the same order everywhere
                held = self.kept.setdefault(name, {}).setdefault(output, torch.empty_like(tensor))
                broadcast([held], holders[output])

    def unfused(self, net: nn.Module, names: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """Tensors of the net that need no fusion.

        A tensor with one owner is as that owner left it; of buffers that several own, the first owner's, but
        for running statistics. A tensor without owner is missing.

        Args:
            net: The net.
            names: The shared parameters, which are left out.
        """
        return {n: self.states(n)[0] for n in self.kept if n not in names} | self.statistics(net)

    def statistics(self, net: nn.Module) -> dict[str, Tensor]:
        """Running mean and variance of each norm layer, of the equal mixture of its owners' distributions."""
        mixture = {}
        for path, module in net.named_modules():
            mean, variance = (f"{path}.{name}" if path else name for name in ("running_mean", "running_var"))
            # where statistics stand still all copies are equal, and a mean would round
            if module.training and getattr(module, "running_mean", None) is not None and mean in self.kept:
                means, variances = torch.stack(self.states(mean)), torch.stack(self.states(variance))
                mixture[mean] = means.mean(0)
                mixture[variance] = (variances + (means - mixture[mean]).square()).mean(0)
        return mixture
