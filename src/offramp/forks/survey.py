"""A look at the features that cross the forks of a network, which leaves the network as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from offramp.errors import UserError
from offramp.forks.scales import scales_of, with_scales
from offramp.unchanged import unchanged

if TYPE_CHECKING:
    from offramp.nets.multi_exit import MultiExitNet

__all__ = ["features"]


def features(net: MultiExitNet) -> list[tuple[Tensor, ...]]:
    """The feature of each exit but the last, for a batch of two in evaluation mode.

    Args:
        net: A net with plain forks.

    Raises:
        UserError: A stage or head fails, a stage returns anything but Tensors, or a head or stage overwrites
            the feature that it reads.
    """
    found = []
    like = next(net.parameters(), torch.zeros(()))
    with unchanged(net), torch.no_grad(), torch.autocast(like.device.type, enabled=False):
        net.eval()
        feature = net.sample(2)
        for exit, stage in enumerate(net.stages, start=1):
            feature = _read(stage, f"stage {exit}", feature, net)
            tensors = scales_of(feature)
            if not all(isinstance(t, Tensor) for t in tensors):
                raise UserError(
                    f"stage {exit} returns neither a Tensor nor a tuple, list or dict of Tensors; "
                    "a feature must be one of them"
                )
            _read(net.heads[exit - 1], f"head {exit}", feature, net)
            found.append(tensors)
    return found[:-1]


def _read(reader: nn.Module, name: str, feature: Any, net: MultiExitNet) -> Any:
    """What a reader makes of a copy of the feature; the first stage may do with its input what it likes."""
    is_input = name == "stage 1"
    copies = [] if is_input else [t.clone() for t in scales_of(feature)]
    versions = [t._version for t in copies]
    try:
        result = reader(feature if is_input else with_scales(feature, copies))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{name} fails on a sample of the input ({reason}); set net.input_size, or net.example"
        ) from None
    if [t._version for t in copies] != versions:
        raise UserError(
            f"{name} overwrites the feature that it reads, and another reader needs it too; "
            "make its first operation work out of place (inplace=False, or x = x + y in place of x += y)"
        )
    return result
