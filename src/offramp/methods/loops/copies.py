"""K states of one net, of which every tensor is kept for the outputs that own it only."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from offramp.distributed.collectives import broadcast, world_size
from offramp.nets import Net

__all__ = ["Copies", "owners_of_state"]


def owners_of_state(net: Net) -> dict[str, tuple[int, ...]]:
    """The outputs (from 0, ascending) that own each parameter and each buffer.

    A buffer belongs to the owners of its module's parameters; of a module without any, to all outputs.
    """
    own = net.owners()
    found = {name: tuple(sorted(owners)) for name, owners in own.items()}
    for path, module in net.named_modules():
        names = [f"{path}.{name}" if path else name for name, _ in module.named_parameters(recurse=False)]
        owners = {k for name in names for k in own.get(name, ())} or range(len(net.outputs))
        for name, _ in module.named_buffers(path, recurse=False):
            found[name] = tuple(sorted(owners))
    return found


class Copies:
    """The states that K stages leave behind.

    Args:
        owners: Of each tensor.

    Attributes:
        kept: Tensor by name and owner.
    """

    def __init__(self, owners: Mapping[str, tuple[int, ...]]) -> None:
        self.owners = owners
        self.kept: dict[str, dict[int, Tensor]] = {}

    def keep(self, task: int, tensors: Mapping[str, Tensor]) -> None:
        """Keep what a stage left of the tensors that its task owns."""
        for name, tensor in tensors.items():
            if task in self.owners.get(name, ()):  # of tied parameters the first name stands for all
                self.kept.setdefault(name, {})[task] = tensor.detach().clone()

    def of(self, name: str) -> list[Tensor]:
        """A tensor's states, in the order of its owners."""
        return [self.kept[name][task] for task in self.owners[name]]

    def exchange(self, like: Mapping[str, Tensor], holder: Mapping[int, int]) -> None:
        """Give every process all states.

        Args:
            like: Tensors of the same names and shapes, in the same order on all processes.
            holder: Task -> rank of the process that holds its state; a missing one's all processes hold.
        """
        if world_size() == 1:
            return
        for name, tensor in like.items():
            for task in sorted(holder.keys() & self.owners[name]):  # in the same order everywhere
                held = self.kept.setdefault(name, {}).setdefault(task, torch.empty_like(tensor))
                broadcast([held], holder[task])

    def common(self, net: nn.Module, names: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """What the net is before its shared parameters are fused.

        A tensor with one owner is as that owner left it; of buffers that several own, the first owner's, but
        for running statistics. A tensor without owner is missing.

        Args:
            net: The net.
            names: The shared parameters, which are left out.
        """
        return {n: self.of(n)[0] for n in self.kept if n not in names} | self.statistics(net)

    def statistics(self, net: nn.Module) -> dict[str, Tensor]:
        """Running mean and variance of the equal mixture of the owners' distributions, layer by layer."""
        found = {}
        for path, module in net.named_modules():
            mean, variance = (f"{path}.{what}" if path else what for what in ("running_mean", "running_var"))
            # where statistics stand still all copies are equal, and a mean would round
            if module.training and getattr(module, "running_mean", None) is not None and mean in self.kept:
                means, variances = torch.stack(self.of(mean)), torch.stack(self.of(variance))
                found[mean] = means.mean(0)
                found[variance] = (variances + (means - found[mean]).square()).mean(0)
        return found
